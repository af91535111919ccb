"""Every command and all Python in every document run here as they stand there, in small, or say what they need.

A command belongs to the first of `RULES` that knows it. What needs something that is not at hand is marked in the
document, `<!-- needs: hub -->` before the block or paragraph; all else runs. Commands of one block run one after the
other in one folder.
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

from app import ui
from judgeq.cli import _parser, main
from judgeq.methods import METHODS
from tests.documented import ROOT, Command, code, documents, groups, options, text_of
from tests.hub import running_hub, sign_in
from tests.reduced import Place, every_option, make_shared, provided_names, reduced, settle
from tests.test_project import extras

VERBS = frozenset(next(action for action in _parser()._actions if action.dest == "verb").choices or ())


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shared(tmp_path_factory.mktemp("documented"))


@pytest.fixture
def place(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder for one block: see `tests.reduced`. A stand-in for the Hub knows everybody who pushes."""
    place = Place(tmp_path, shared)
    methods = dict(METHODS)
    with running_hub() as hub:
        sign_in(hub, monkeypatch, tmp_path / "hub")
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
        patch.setenv("HF_TOKEN", f"{words[3].split('/')[0]}-token")
    assert main(words) == 0


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
    patch.setattr(ui, "ModelHost", lambda *_, **__: SimpleNamespace(start=lambda: None))
    patch.setattr(ui, "build", lambda *_: None)
    patch.setattr(ui, "serve", lambda _, **where: opened.append(where))
    words = [word for word in command.words[2:] if word != "…"]
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            ui.launch(words)
    else:
        ui.launch(words)
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


def run_soak(command: Command, place: Place, patch: pytest.MonkeyPatch) -> None:
    """`tests/test_soak.py` runs it with fewer runs."""
    assert '"tests.soak"' in (ROOT / "tests" / "test_soak.py").read_text(encoding="utf-8")


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


@dataclass(frozen=True)
class Rule:
    """What becomes of the commands that begin like this.

    Attributes:
        begins: a regular expression.
        run: runs it in a place.
        needs: what it needs instead, that is not here; the document says so.
        check: what can be checked all the same.
        document: the only one that has such commands; without it, the rule waits.
    """

    begins: str
    run: Callable[[Command, Place, pytest.MonkeyPatch], None] | None = None
    needs: str = ""
    check: Callable[[Command], None] = check_nothing
    document: str = ""


RULES = [
    Rule(r"python -m judgeq\b", run_judgeq),
    Rule(r"python app\.py\b", run_app),
    Rule(r"python valuenorm\.py\b", run_own_file),
    Rule(r"\./run\b", run_launcher),
    Rule(r"accelerate launch\b", run_accelerate),
    Rule(r"python -m tests\.soak\b", run_soak),
    Rule(r"hf auth login\b", needs="hub"),
    Rule(r"(\S+/)?pip install\b", needs="package index", check=check_install),
    Rule(r"python -m venv kvpress-env\b", needs="package index"),
    Rule(r"python -m pytest tests/test_press\.py\b", needs="kvpress", check=check_files),
]
CODE_NEEDS = {"kvpress": r"^from judgeq\.press import"}
"""Python that needs something, by what stands in it."""
PAGES = {
    "docs/documents.md": "test_documents_page.py",
    "docs/generate.md": "test_generate.py",
    "docs/memory.md": "test_memory_page.py",
    "docs/own-method.md": "test_own_method.py",
    "docs/programs.md": "test_programs_page.py",
    "docs/sweep.md": "test_sweep.py",
    "docs/take-away.md": "test_takeaway.py",
}
"""Documents whose Python has a test of its own, which looks at what comes out."""
OTHERS_OPTIONS = {
    "--num_processes": "accelerate",
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
COMMANDS = [command for group in GROUPS for command in group]
CODE = [(document, code(document)) for document in documents() if code(document)]


# Statements


def test_every_command_has_a_rule() -> None:
    unknown = [f"{command.block}: {command}" for command in COMMANDS if rules_of(command) is None]
    assert not unknown, "give them a rule in RULES"


def test_every_rule_has_a_command() -> None:
    used = {rules_of(command) for command in COMMANDS}
    waiting = [rule for rule in RULES if rule.document and not (ROOT / rule.document).exists()]
    assert [rule.begins for rule in RULES if rule not in used and rule not in waiting] == []


def test_documents_say_what_is_needed_and_nothing_else() -> None:
    wrong = []
    for group in GROUPS:
        needed = {rule.needs for command in group if (rule := rules_of(command)) and rule.needs}
        if needed != set(group[0].block.needs):
            wrong.append(f"{group[0].block} needs {needed or 'nothing'}, it says {group[0].block.needs}")
    for _, found in CODE:
        for block in found:
            needed = {name for name, sign in CODE_NEEDS.items() if re.search(sign, block.text, re.MULTILINE)}
            if needed != set(block.needs):
                wrong.append(f"{block} needs {needed or 'nothing'}, it says {block.needs}")
    assert not wrong, "mark the block: <!-- needs: … -->"


def test_no_mark_stands_before_anything_else() -> None:
    marked = {group[0].block for group in GROUPS if group[0].block.needs}
    marked |= {block for _, found in CODE for block in found if block.needs}
    lines = {(block.document, block.needs) for block in marked}
    for document in documents():
        for said in re.findall(r"<!-- needs: (.+?) -->", text_of(document)):
            assert (document, tuple(part.strip() for part in said.split(","))) in lines


def test_every_option_in_a_sentence_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ui.launch(["--help"])
    of_the_demo = set(re.findall(r"--[a-z]+", capsys.readouterr().out))
    known = every_option() | of_the_demo | set(OTHERS_OPTIONS)
    named = {(option, document) for document in documents() for option in options(document)}
    assert not {(option, document) for option, document in named if option not in known}
    assert set(OTHERS_OPTIONS) <= {option for option, _ in named}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group[0].block}-{group[0].words[-1][:20]}")
def test_commands_run(group: list[Command], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for command in group for word in command.words]
    if "--model" in words[:-1]:
        place.model = words[words.index("--model") + 1]
    for command in group:
        rule = rules_of(command)
        assert rule, f"no rule knows {command}"
        if rule.run:
            rule.run(command, place, monkeypatch)
        else:
            rule.check(command)


@pytest.mark.parametrize("document", [document for document, _ in CODE])
def test_python_runs(document: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if document in PAGES:
        test = (ROOT / "tests" / PAGES[document]).read_text(encoding="utf-8")
        assert Path(document).name in test
        assert "python" in test
        return

    def with_own_task(model: Any, tasks: list[str], **how: Any) -> Any:
        known = Path(lm_eval.__file__).parent / "tasks"
        assert all((known / name).is_dir() for name in tasks)
        return None

    monkeypatch.setattr(lm_eval, "simple_evaluate", with_own_task)
    names = provided_names(place)
    for block in code(document):
        if not block.needs:
            exec(compile(block.text, str(block), "exec"), names)
