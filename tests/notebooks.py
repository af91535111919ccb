"""Runs the tutorials in clean kernels and writes their notebooks.

    python -m tests.notebooks          all of them
    python -m tests.notebooks 01 06    those whose names begin so

`tutorials/NAME.py` is what people edit and review. This writes `tutorials/NAME.ipynb` with the same cells and their
outputs, without what differs from run to run. Figures become pictures, since pages that show notebooks run no scripts;
a reader who runs the notebook gets the interactive figures. Pictures need a Chromium: JUDGEQ_CHROMIUM, or one on PATH.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.forks import ForkedKernel

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tutorials"
PLACEHOLDER = "OWNER/judgeq"
"""Stands in the scripts for the address of the published repository, which pyproject.toml knows."""
LONGEST_S = 1800
"""Seconds for one cell."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PICTURES = """
import kaleido
import plotly.io

picture = plotly.io.renderers["png"]
picture.width, picture.scale = 860, 1.25
plotly.io.renderers.default = "png"
kaleido.start_sync_server(silence_warnings=True)  # one browser for all figures
del kaleido, picture, plotly
"""
"""Runs in the kernel before the first cell."""
SKETCHES = """
import plotly.io

class Sketch(plotly.io.base_renderers.MimetypeRenderer):
    def to_mimebundle(self, figure):
        import base64, io
        from PIL import Image

        points = [len(each) for trace in figure["data"] for each in trace.values() if isinstance(each, (list, dict))]
        picture, target = Image.new("1", (8, 8)), io.BytesIO()
        picture.putpixel((0, 0), any(points))
        picture.save(target, "PNG")
        return {"image/png": base64.b64encode(target.getvalue()).decode()}

plotly.io.renderers["sketch"] = Sketch()
plotly.io.renderers.default = "sketch"
del Sketch, plotly
"""
"""The same where no picture is looked at: a figure becomes a dot, and nothing where it has no data."""
WIDGET = "application/vnd.jupyter.widget-view+json"


def names() -> list[str]:
    """The tutorials, in their order."""
    return sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))


def repository() -> str:
    """Where the repository is published, `OWNER/NAME`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["judgeq"]["repository"]


def from_script(name: str) -> NotebookNode:
    """A tutorial without outputs, as its script has it, the repository's address filled in."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8").replace(PLACEHOLDER, repository())
    return tidied(jupytext.reads(text, fmt="py:percent"))


def stored(name: str) -> NotebookNode:
    """A tutorial with its outputs, as it lies in the repository."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(notebook: NotebookNode, chromium: str = "") -> NotebookNode:
    """Run all cells in a kernel of its own, in an empty folder, without a person's settings.

    Args:
        chromium: draws the figures; without it they are sketched.

    Raises:
        CellExecutionError: a cell fails.
    """
    with TemporaryDirectory() as place:
        folder, startup = Path(place, "work"), Path(place, "ipython", "profile_default", "startup")
        folder.mkdir()
        startup.mkdir(parents=True)
        (startup / "pictures.py").write_text(PICTURES if chromium else SKETCHES, encoding="utf-8")
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        surroundings = {
            "BROWSER_PATH": chromium,
            "IPYTHONDIR": str(startup.parents[1]),
            "PYTHONPATH": os.pathsep.join(path),
            "TMPDIR": place,
        }
        # without folders to look into the kernel is this Python's own
        specs = KernelSpecManager(kernel_dirs=[])
        manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        manager.provisioner = ForkedKernel(kernel_spec=manager.kernel_spec, parent=manager)
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=LONGEST_S,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(cleanup_kc=True, env={**os.environ, **surroundings})  # a kernel holds a whole model
    return tidied(notebook)


def tidied(notebook: NotebookNode) -> NotebookNode:
    """Without what differs from run to run: progress and warnings, times, versions, random names of cells."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        named = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[named] += 1
        cell.id = f"{named}-{seen[named]}"
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in ("tags",) if key in cell.metadata})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_noise(output)]
    return notebook


def _is_noise(output: NotebookNode) -> bool:
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def written(name: str, chromium: str) -> Path:
    """Run one tutorial and write its notebook."""
    path = FOLDER / f"{name}.ipynb"
    notebook = executed(from_script(name), chromium)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description="Renew the tutorials' outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how a tutorial's name begins; all by default")
    wanted = parser.parse_args(arguments).names
    chosen = [name for name in names() if not wanted or name.startswith(tuple(wanted))]
    if not chosen:
        parser.error(f"no tutorial begins so: there are {', '.join(names())}")
    chromium = os.environ.get("JUDGEQ_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        parser.error("there is no Chromium to draw figures with: install one, or name it in JUDGEQ_CHROMIUM")
    for name in chosen:
        started = time.perf_counter()
        path = written(name, chromium)
        size = path.stat().st_size / 1000
        sys.stdout.write(f"{path.relative_to(ROOT)}: {time.perf_counter() - started:.0f} s, {size:.0f} kB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
