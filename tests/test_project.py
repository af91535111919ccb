"""What holds for the project as a whole: dependencies, direction of imports, what is never used, the two commands."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from judgeq._assets import assets_path

ROOT = Path(__file__).resolve().parents[1]

MOST_AT_THE_TOP = 14
MAX_LINES = 600
# On Hugging Face's ZeroGPU, in a notebook, in kvpress' own environment: imported only there.
GIVEN_BY_PLACE = {"spaces", "ipython", "kvpress"}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


# What there is to check


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def everything() -> list[Path]:
    return [*ROOT.glob("*.py"), *sources("judgeq", "app", "tests", "tutorials", "benchmarks", "scripts")]


def where(path: Path, line: int | None = None) -> str:
    return path.relative_to(ROOT).as_posix() + ("" if line is None else f":{line}")


def imports(path: Path) -> Iterator[tuple[str, list[str], ast.stmt]]:
    """Every import as (module, imported names, statement), relative ones made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *filter(None, [node.module])]), [alias.name for alias in node.names], node


def at_import(path: Path) -> set[ast.stmt]:
    """The statements that run when the module is imported, guarded ones left out."""
    return set(tree(path).body)


def for_types(path: Path) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING:`."""
    tests = [node for node in ast.walk(tree(path)) if isinstance(node, ast.If)]
    blocks = [node.body for node in tests if ast.unparse(node.test).endswith("TYPE_CHECKING")]
    return {inner for block in blocks for statement in block for inner in ast.walk(statement)}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    plain = [line.split(" #")[0].strip() for line in lines]
    found = [Requirement(line) for line in plain if line and not line.startswith(("#", "-"))]
    assert len({requirement.name for requirement in found}) == len(found), "a package is named twice"
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def required(file: str) -> dict[str, Requirement]:
    return requirements((ROOT / file).read_text(encoding="utf-8").splitlines())


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def extras() -> dict[str, list[str]]:
    return pyproject()["project"]["optional-dependencies"]


# Dependencies


def test_requirements_hold_what_the_demo_is_built_on():
    assert {"gradio", "torch", "transformers", "bitsandbytes", "plotly", "datasets"} <= set(
        required("requirements.txt")
    )


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_version_range_is_closed_at_both_ends(file):
    for name, requirement in required(file).items():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert {">=", "<"} <= operators or name.startswith("types-"), f"{requirement} lacks a lower or an upper end"


def test_dev_requirements_are_the_extras_and_nothing_else():
    listed = {str(requirement) for requirement in required("requirements-dev.txt").values()}
    declared = {str(Requirement(line)) for lines in extras().values() for line in lines}
    assert listed == declared
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()


def test_every_import_is_declared():
    """At the top of a module only what every installation has; extras in functions or behind a guard."""
    core = set(required("requirements.txt"))
    optional = GIVEN_BY_PLACE | set(requirements(extras()["benchmarks"]))
    distributions = metadata.packages_distributions()
    ours = {"judgeq", "app"}
    missing = []
    for path in [*ROOT.glob("app.py"), *sources("judgeq", "app")]:
        for module, _, node in imports(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names | ours:
                continue
            guarded = node not in at_import(path)
            declared = core | (optional if guarded else set())
            if not declared & {canonicalize_name(name) for name in distributions.get(top, [top])}:
                missing.append(f"{where(path, node.lineno)} imports {module}")
    assert not missing


def test_plotly_and_the_plotly_js_inside_gradio_are_of_one_generation():
    gradio = Path(str(metadata.distribution("gradio").locate_file("gradio")))
    bundles = list(gradio.glob("templates/frontend/assets/PlotlyPlot-*.js"))
    in_gradio = [
        match for file in bundles for match in re.findall(r"\.version=[`\"'](\d+)\.\d", file.read_text("utf-8"))
    ]
    plotly = Path(str(metadata.distribution("plotly").locate_file("plotly")))
    in_plotly = re.search(r"plotly\.js v(\d+)", (plotly / "package_data/plotly.min.js").read_text("utf-8")[:1000])
    if not in_gradio or not in_plotly:
        pytest.skip("this Gradio packs plotly.js in another way")
    assert in_plotly[1] in in_gradio


# Structure


def test_the_library_knows_nothing_of_the_demo():
    known = [
        f"{where(path, node.lineno)} imports {module}"
        for path in sources("judgeq")
        for module, _, node in imports(path)
        if module.split(".")[0] in {"app", "gradio", "gradio_client", "spaces"}
    ]
    assert not known


def test_imports_keep_the_contracts_of_pyproject():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_folders_carry_the_library():
    assert len(sources("judgeq")) > 150
    assert len(list((ROOT / "judgeq").glob("*.py"))) <= MOST_AT_THE_TOP


def test_no_file_outgrows_its_reader():
    lines = {where(path): len(path.read_text("utf-8").splitlines()) for path in sources("judgeq", "app")}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_a_wheel_holds_every_package_and_the_assets():
    settings = pyproject()["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in sources("judgeq", "app")}
    folders -= {Path("judgeq/integrations/custom_generate/custom_generate")}  # data, which transformers copies
    assert {".".join(folder.parts) for folder in folders} <= set(settings["packages"])
    assert settings["package-dir"] == {"judgeq.assets": "assets"}
    data = settings["package-data"]
    assert data["judgeq.assets"] == ["**/*"]
    assert "experiments/**/*" in settings["exclude-package-data"]["judgeq.assets"]
    carried = {
        path
        for name, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / name.replace(".", "/")).glob(pattern)
    }
    needed = {
        path
        for folder in ("app", "judgeq")
        for kind in ("js", "css", "j2")
        for path in (ROOT / folder).rglob(f"*.{kind}")
    }
    assert needed - carried == set()


# What is never used


def unsafe(code: ast.Module) -> Iterator[tuple[int, str]]:
    """Places where a file could run code of its author: pickles, and modeling code from the Hub."""
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            taken = [f"{module}.{alias.name}" for alias in node.names]
            found = [
                name for name in taken if module.split(".")[0] in UNPICKLERS or name in {"torch.load", "torch.save"}
            ]
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            found = [name] if name in {"torch.load", "torch.save"} or node.attr == "read_pickle" else []
        elif isinstance(node, ast.keyword) and node.arg in {"trust_remote_code", "allow_pickle"}:
            found = [] if isinstance(node.value, ast.Constant) and node.value.value is False else [node.arg]
        else:
            continue
        yield from ((getattr(node, "lineno", 0), name) for name in found)


def notebook_code(path: Path) -> ast.Module:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    return ast.parse("\n".join("" if line.startswith(("%", "!")) else line for line in lines))


def test_no_pickle_is_read_and_no_remote_code_is_run():
    code = {path: tree(path) for path in everything()}
    code |= {path: notebook_code(path) for path in (ROOT / "tutorials").rglob("*.ipynb")}
    assert not [f"{where(path, line)} {name}" for path, module in code.items() for line, name in unsafe(module)]


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from torch import load",
        "state = torch.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=remote)",
    ],
)
def test_unsafe_code_would_be_found(line):
    assert list(unsafe(ast.parse(line)))


# The two commands


def commands(text: str) -> set[str]:
    return {match[1] for match in re.finditer(r"^(?:exec |bash |sh |CI=\S+ )*\./run (\w+)", text, re.MULTILINE)}


def script(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_gives_the_two_commands_and_ci_runs_one_of_them():
    if not (ROOT / "README.md").exists():
        pytest.skip("no README.md yet")
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", script("README.md"), re.MULTILINE | re.DOTALL))
    verbs = set(re.findall(r"^(\w+)\)$", script("run"), re.MULTILINE))
    assert {"demo", "check"} <= commands(blocks) <= verbs
    assert re.search(r"\./run check$", script(".ci/run"), re.MULTILINE)


@pytest.mark.skipif(os.name != "posix", reason="the launcher is a POSIX script")
def test_the_launcher_says_what_it_can_do():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", str(ROOT / "run"), *arguments], capture_output=True, text=True, check=False)

    plain, unknown = run(), run("fly")
    assert plain.returncode == 0
    assert unknown.returncode == 2
    for text in (plain.stdout, unknown.stdout):
        assert "./run demo" in text
        assert "./run check" in text


# Shipped files


def test_assets_are_found_in_this_checkout():
    assert assets_path() == ROOT / "assets"
    assert assets_path("samples", "a.txt") == ROOT / "assets" / "samples" / "a.txt"


@pytest.mark.parametrize("parts", [("..",), ("samples", "..", "..", "pyproject.toml"), ("/etc/hosts",)])
def test_assets_never_lead_elsewhere(parts):
    with pytest.raises(ValueError, match="leads out of the assets folder"):
        assets_path(*parts)
