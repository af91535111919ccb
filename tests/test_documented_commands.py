"""Every command and all Python in every document run here as they stand there, in small, or say what they need.

A command belongs to the first of `RULES` that knows it. What needs something that is not at hand, one of `MARKS`, says
so in the document, `<!-- needs: hub -->` before the block or paragraph; all else runs, whatever is marked. Commands of
one block run one after the other in one folder.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
from accelerate.commands.launch import launch_command_parser
from packaging.requirements import Requirement

from app import start, ui
from app.server import environment
from judgeq.cli import _parser, main
from judgeq.methods import METHODS
from judgeq.soft_tokens.model_card import model_card
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.code_blocks import ROOT, Block, Command, code, documents, groups, options, text_of
from tests.hub import Hub
from tests.reduced import WRITTEN, Place, every_option, make_shared, provided_names, reduced, settle
from tests.test_project import extras

pytestmark = pytest.mark.slow

VERBS = frozenset(next(action for action in _parser()._actions if action.dest == "verb").choices or ())


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shared(tmp_path_factory.mktemp("documented"))


@pytest.fixture
def place(shared: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder for one block: see `tests.reduced`. A stand-in for the Hub knows everybody who pushes."""
    place = Place(tmp_path / "here", shared)
    place.folder.mkdir()
    methods = dict(METHODS)
    settle(place, monkeypatch)
    yield place
    METHODS.clear()
    METHODS.update(methods)


# How commands run


def run_judgeq(command: Command, place: Place, patch: pytest.MonkeyPatch) -> None:
    words = list(command.words[3:])
    if not any(word.startswith("-") for word in words) and command.inline:
        for alternative in words[1].split("|") if len(words) > 1 else [""]:
            shown = [word for word in (words[0], alternative) if word not in ("", "…")]
            with pytest.raises(SystemExit, match="0"):
                main([*shown, "--help"])
        return
    words = reduced(words, not command.inline, place)
    if words[:2] == ["tokens", "push"]:
        sign_in_as(words[3], patch)
    assert main(words) == 0


def sign_in_as(repository: str, patch: pytest.MonkeyPatch) -> None:
    """As the owner, as the stand-in for the Hub knows them."""
    patch.setenv("HF_TOKEN", f"{repository.split('/')[0]}-token")


def run_own_file(command: Command, place: Place, patch: pytest.MonkeyPatch) -> None:
    """A file that the page shows, with the command line of judgeq."""
    (block,) = code(command.block.document)
    Path(command.words[1]).write_text(block.text, encoding="utf-8")
    runpy.run_path(command.words[1])  # its methods are known to the parser from now on
    patch.setattr(sys, "argv", [command.words[1], *reduced(list(command.words[2:]), True, place)])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(command.words[1], run_name="__main__")


def run_app(command: Command, place: Place, patch: pytest.MonkeyPatch) -> None:
    """The demo's command line, up to the server."""
    opened: list[Any] = []
    loaded = SimpleNamespace(start=lambda: None, wait=lambda _: False, check=lambda: None)
    patch.setattr("app.server.host.ModelHost", lambda *_, **__: loaded)
    patch.setattr(ui, "build", lambda *_: SimpleNamespace(block_thread=lambda: None))
    for name in ("listening_at", "past_proxies", "settle_folder"):
        patch.setattr(environment, name, lambda *where: where)
    patch.setattr(ui, "serve", lambda _, **where: opened.append(where))
    words = [word for word in command.words[2:] if word != "…"]
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            start.launch(words)
    else:
        start.launch(words)
        assert opened


def run_launcher(command: Command, place: Place, patch: pytest.MonkeyPatch) -> None:
    """CI runs `./run check`, and the browser's tests the demo; here, whether the launcher has the verb."""
    verbs = re.findall(r"^(\w+)\)$", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert command.words[1] in verbs


def run_accelerate(command: Command, place: Place, patch: pytest.MonkeyPatch) -> None:
    """One process here, with what it is given; `tests/test_training_processes.py` has two."""
    words = list(command.words[2:])
    if "-m" not in words:
        assert command.inline
        return
    at = words.index("-m")
    launch_command_parser().parse_args([word.replace("N", "2") for word in [*words[: at + 1], "judgeq"]])
    run_judgeq(Command(command.block, ("python", "-m", *words[at + 1 :]), inline=True), place, patch)


# What cannot run here


def check_install(command: Command) -> None:
    """Extras that there are, and files that there are."""
    words = list(command.words[command.words.index("install") + 1 :])
    for before, word in zip(["", *words], words, strict=False):
        if before == "-r":
            assert (ROOT / word).exists()
        elif not word.startswith("-"):
            asked = Requirement(re.sub(r"^\.", "judgeq", word))  # this checkout
            assert asked.name != "judgeq" or asked.extras <= set(extras())


def check_nothing(command: Command) -> None:
    pass


def check_files(command: Command) -> None:
    named = [word for word in command.words if "/" in word]
    assert named
    assert all((ROOT / word).exists() for word in named)


MARKS = {
    "gpu": r"\bcuda\b|\b\d+b\b",
    "hub": r"^hf\b",
    "package index": r"\bpip (install|download)\b|^jupyter\b|scripts\.gemma|kvpress\b|-env\b|JudgeQPress|test_press",
    "container engine": r"^(docker|podman)\b",
    "haproxy": r"^haproxy\b|scripts\.serving",
    "browser": r"\bbrowser\b|\bscreenshot\b",
}
"""What a document may say that a command needs, and the sign of it in each command and piece of Python that does."""


@dataclass(frozen=True)
class Rule:
    """What becomes of the commands that begin like this: exactly one of `run`, `test` and `needs`.

    Attributes:
        begins: a regular expression.
        run: runs it in a place.
        test: a file of tests that runs it, and may come later than the rule; with a word that stands there.
        needs: what it needs that is not here, one of `MARKS`; the document says so.
        check: what can be checked all the same.
    """

    begins: str
    run: Callable[[Command, Place, pytest.MonkeyPatch], None] | None = None
    test: tuple[str, str] | None = None
    needs: str = ""
    check: Callable[[Command], None] = check_nothing


RULES = [
    Rule(r"python -m judgeq\b", run_judgeq),
    Rule(r"python app\.py\b", run_app),
    Rule(r"python valuenorm\.py\b", run_own_file),
    Rule(r"\./run\b", run_launcher),
    Rule(r"accelerate launch\b", run_accelerate),
    Rule(r"python -m tests\.soak\b", test=("test_soak.py", '"tests.soak"')),
    Rule(r"python -m tests\.notebooks\b", test=("test_tutorials.py", "notebooks")),
    Rule(r"python -m sphinx\b", test=("test_site.py", '"sphinx"')),
    Rule(r"python -m scripts\.distill\b", test=("test_distill.py", "distill.main")),
    Rule(r"python -m benchmarks\.parity\b", test=("test_parity.py", "parity.main")),
    Rule(r"python -m benchmarks\.speed\b", test=("test_speed.py", "beside.main")),
    Rule(r"python -m benchmarks\.start\b", test=("test_starting.py", "main([")),
    Rule(r"python -m benchmarks\.pipeline\b", test=("test_pipeline_bench.py", "pipeline.main")),
    Rule(r"python -m benchmarks\.bounded\b", test=("test_bounded_bench.py", "main([")),
    Rule(r"python -m benchmarks\.lights\b", test=("test_attended.py", "lights.main")),
    Rule(r"python -m benchmarks\.predictions\b", test=("test_predictions_bench.py", "main([")),
    Rule(r"python -m benchmarks\.cpu\b", test=("test_cpu_bench.py", "main([")),
    Rule(r"python -m scripts\.space\b", test=("test_space.py", "space.main")),
    Rule(r"python docs/figures\.py\b", test=("test_figures.py", '"figures.py"')),
    Rule(r"python -m docs\.schema\b", test=("test_report_compare.py", "docs.schema")),
    Rule(r"python docs/architecture\.py\b", test=("test_architecture.py", '"architecture.py"')),
    Rule(r"docker (build|run)\b", needs="container engine"),
    Rule(r"(haproxy|python -m scripts\.serving)\b", needs="haproxy"),
    Rule(r"hf auth login\b", needs="hub"),
    Rule(r"jupyter lab\b", needs="package index", check=check_files),
    Rule(r"(pip download|python -m scripts\.gemma)\b", needs="package index"),
    Rule(r"(\S+/)?pip install\b", needs="package index", check=check_install),
    Rule(r"python -m venv (kvpress|llama)-env\b", needs="package index"),
    Rule(r"python -m pytest tests/test_press\.py\b", needs="package index", check=check_files),
]
CODE_NEEDS = {"package index": r"^from judgeq\.integrations\.kvpress import"}
"""Python that needs something, by what stands in it."""
PAGES = {
    "docs/calibrate.md": "test_calibrate.py",
    "docs/documents.md": "test_pages.py",
    "docs/generate.md": "test_generate.py",
    "docs/memory.md": "test_pages.py",
    "docs/own-method.md": "test_own_method.py",
    "docs/programs.md": "test_pages.py",
    "docs/sweep.md": "test_sweep.py",
    "docs/take-away.md": "test_takeaway.py",
}
"""Documents whose Python has a test of its own, which looks at what comes out."""
OTHERS_OPTIONS = {
    "--num_processes": "accelerate",
    "--multi_gpu": "accelerate",
    "--cpu": "accelerate",
    "--model_args": "lm-eval",
    "--batch_size": "lm-eval",
    "--device": "lm-eval",
    "--trust_remote_code": "lm-eval",
}
"""Options in sentences that are not judgeq's, the demo's or the tests'."""


def rules_of(command: Command) -> Rule | None:
    text = " ".join(command.words)
    return next((rule for rule in RULES if re.match(rule.begins, text)), None)


GROUPS = [group for document in documents() for group in groups(document, VERBS)]
DIFFERENT = {
    re.sub(
        rf" ({'|'.join(sorted(WRITTEN))}) \S+",
        "",
        " ; ".join(f"{command} {command.inline}" for command in group),
    ): group
    for group in reversed(GROUPS)
}
"""Those that stand in several places once, wherever they write to."""
COMMANDS = [command for group in GROUPS for command in group]
CODE = [(document, code(document)) for document in documents() if code(document)]


# What is wrong with a document


def unknown(found: list[list[Command]]) -> list[str]:
    return [
        f"{command.block}: `{command}` is neither run nor marked: give it a rule in RULES of "
        "tests/test_documented_commands.py, which runs it in small or names what it needs"
        for group in found
        for command in group
        if rules_of(command) is None
    ]


def wrongly_marked(found: list[list[Command]], python: list[Block]) -> list[str]:
    needed: dict[tuple[str, int], tuple[Block, set[str]]] = {}
    for command in (command for group in found for command in group):
        block = command.block
        _, needs = needed.setdefault((block.document, block.begins or block.line), (block, set()))
        needs |= {rule.needs for rule in [rules_of(command)] if rule and rule.needs}
    for block in python:
        signs = {name for name, sign in CODE_NEEDS.items() if re.search(sign, block.text, re.MULTILINE)}
        needed[block.document, block.line] = (block, signs)
    wrong = []
    for block, needs in needed.values():
        said = set(block.needs)
        if missing := ", ".join(sorted(needs - said)):
            wrong.append(f"{block} needs what is not everywhere: write <!-- needs: {missing} --> before it")
        if extra := ", ".join(sorted(said - needs)):
            wrong.append(f"{block} is marked with `needs: {extra}` and works without: take the mark away")
    return wrong


# Statements


def test_every_command_has_a_rule() -> None:
    assert not unknown(GROUPS), "\n".join(unknown(GROUPS))


def test_every_rule_has_a_command() -> None:
    used = {rules_of(command) for command in COMMANDS}
    assert [rule.begins for rule in RULES if rule not in used and not rule.test] == []


def test_a_rule_does_one_thing() -> None:
    for rule in RULES:
        assert [bool(rule.run), bool(rule.test), bool(rule.needs)].count(True) == 1, rule.begins


def test_documents_say_what_is_needed_and_nothing_else() -> None:
    wrong = wrongly_marked(GROUPS, [block for _, found in CODE for block in found])
    assert not wrong, "\n".join(wrong)


def test_no_mark_stands_before_anything_else() -> None:
    marked = {group[0].block for group in GROUPS if group[0].block.needs}
    marked |= {block for _, found in CODE for block in found if block.needs}
    lines = {(block.document, block.needs) for block in marked}
    for document in documents():
        for said in re.findall(r"<!-- needs: (.+?) -->", text_of(document)):
            assert (document, tuple(part.strip() for part in said.split(","))) in lines


def test_what_is_said_to_be_needed_shows_in_the_command() -> None:
    for command in COMMANDS:
        if (rule := rules_of(command)) and rule.needs:
            assert re.search(MARKS[rule.needs], str(command)), f"{command.block}: {command}"
    for _, found in CODE:
        for block in found:
            assert all(re.search(MARKS[needed], block.text) for needed in block.needs), str(block)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```sh\nmake demo\n```\n", ": `make demo` is neither run nor marked: give it a rule"),
        ("<!-- needs: gpu -->\n```sh\n./run demo\n```\n", "marked with `needs: gpu` and works without"),
        ("```sh\npip install judgeq\n```\n", "write <!-- needs: package index --> before it"),
        ("Then `hf auth login`.\n", "write <!-- needs: hub --> before it"),
        ("<!-- needs: gpu -->\n```python\nprint()\n```\n", "marked with `needs: gpu` and works without"),
        ("<!-- needs: hub -->\nType `./run demo`.\n", "marked with `needs: hub` and works without"),
    ],
)
def test_a_command_that_is_not_looked_after_would_be_found(text: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    found = groups(str(page), VERBS)
    (wrong,) = [*unknown(found), *wrongly_marked(found, code(str(page)))]
    assert said in wrong


def test_every_option_in_a_sentence_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        start.launch(["--help"])
    of_the_demo = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    known = every_option() | of_the_demo | set(OTHERS_OPTIONS)
    named = {(option, document) for document in documents() for option in options(document)}
    assert not {(option, document) for option, document in named if option not in known}
    assert set(OTHERS_OPTIONS) <= {option for option, _ in named}


def run_group(group: list[Command], place: Place, patch: pytest.MonkeyPatch) -> None:
    words = [word for command in group for word in command.words]
    if "--model" in words[:-1]:
        place.model = words[words.index("--model") + 1]
    for command in group:
        rule = rules_of(command)
        assert rule, f"no rule knows {command}"
        if rule.run:
            rule.run(command, place, patch)
        elif rule.test:
            file, word = rule.test
            assert word in (ROOT / "tests" / file).read_text(encoding="utf-8")
        else:
            rule.check(command)


def run_python(document: str, place: Place, patch: pytest.MonkeyPatch) -> None:
    """A page's code takes some names as given. tests/test_tutorials.py runs that of the notebooks."""
    names = provided_names(place)
    for block in code(document):
        if not block.needs:
            exec(compile(block.text, str(block), "exec", dont_inherit=True), names)


@pytest.mark.parametrize(
    "group", [*DIFFERENT.values()][::-1], ids=lambda group: f"{group[0].block}-{group[0].words[-1][:20]}"
)
def test_commands_run(group: list[Command], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run_group(group, place, monkeypatch)


@pytest.mark.parametrize("document", [name for name, _ in CODE if name not in PAGES and name.endswith(".md")])
def test_python_runs(document: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_own_task(model: Any, tasks: list[str], **how: Any) -> None:
        known = Path(lm_eval.__file__).parent / "tasks"
        assert all((known / name).is_dir() for name in tasks)

    monkeypatch.setattr(lm_eval, "simple_evaluate", with_own_task)
    run_python(document, place, monkeypatch)


def test_pages_whose_python_is_not_run_here_have_a_test_that_runs_it() -> None:
    assert set(PAGES) <= {document for document, _ in CODE}
    for document, file in PAGES.items():
        test = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert Path(document).name in test
        assert re.search(r"\^```python|run\(\"docs/", test), f"{file} runs no Python of {document}"


def test_what_the_card_of_new_soft_tokens_shows_runs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    card = model_card(SoftTokens.from_pretrained(place.judge(place.folder / "made")).config, "DIR")
    page = place.folder / "card.md"
    page.write_text(card, encoding="utf-8")
    found = groups(str(page), VERBS)
    assert [group[0].words[3] for group in found] == ["ask", "train"]
    for group in found:
        run_group(group, place, monkeypatch)
    assert len(code(str(page))) == 1
    run_python(str(page), place, monkeypatch)
