"""The picture of the architecture is drawn from the list beside it, and both are true of the tree."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree

from tests.test_project import ROOT, for_types, imports, sources

PICTURE = ROOT / "docs" / "_static" / "architecture.svg"
SCRIPT = runpy.run_path(str(ROOT / "docs" / "architecture.py"))


REGISTERS = ("models", "attention")
"""A model is loaded with the attention function that the pass looks through."""


def drawn() -> list[list[str]]:
    """The names in the picture, band by band from top to bottom, from left to right; a frame's is in its band."""
    bands: dict[float, list[tuple[float, str]]] = {}
    frames: list[tuple[float, str]] = []
    for text in ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        kinds, y = text.attrib["class"].split(), float(text.attrib["y"])
        if "blue" in kinds:
            frames.append((y, text.text or ""))
        elif "name" in kinds:
            bands.setdefault(y, []).append((float(text.attrib["x"]), text.text or ""))
    for y, name in frames:
        bands[min(other for other in bands if other > y)].append((0, name))
    return [[name for _, name in sorted(bands[y])] for y in sorted(bands)]


BANDS = drawn()
NAMES = [name for band in BANDS for name in band]
LEVEL = {Path(name).stem: at for at, band in enumerate(BANDS) for name in band}


def test_the_picture_is_what_its_script_draws() -> None:
    assert PICTURE.read_text(encoding="utf-8") == SCRIPT["svg"](), "run: ./run python docs/architecture.py"


def test_every_box_is_there() -> None:
    for name in NAMES:
        path = ROOT / ("" if name == "app/" else "judgeq") / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name
    assert len(NAMES) == len(set(NAMES))


def test_every_package_of_the_library_has_a_box() -> None:
    packages = {path.parent.name for path in (ROOT / "judgeq").glob("*/__init__.py")}
    assert {name.rstrip("/") for name in NAMES if name.endswith("/")} - {"app"} == packages


def test_no_box_uses_one_that_stands_below() -> None:
    uses = {
        (path.relative_to(ROOT / "judgeq").parts[0].removesuffix(".py"), module.split(".")[1])
        for path in sources("judgeq")
        for module, _, node in imports(path)
        if module.startswith("judgeq.") and node not in for_types(path)
    }
    assert ("evaluation", "inference") in uses
    below = {pair for pair in uses if set(pair) <= set(LEVEL) and LEVEL[pair[1]] > LEVEL[pair[0]]}
    assert below == {REGISTERS}
