"""The demo as a Space: what is sent is what it needs and nothing that should stay at home."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from judgeq.models.embedded import EMBEDDED, IGNORED_FILES, SMALL_FILES, WEIGHT_FILES
from scripts import space
from tests.hub import Hub, Repository
from tests.test_project import pyproject, required

ROOT = Path(__file__).parents[1]
CARD = SpaceCard.load(ROOT / "README.md")
HELD = ["README.md", "app.py", "app/ui.py", "assets/samples/a.txt", "judgeq/__init__.py", "judgeq/cli.py"]
TOKEN = "hf_" + 34 * "a"
KEY = "-----BEGIN " + "RSA PRIVATE KEY-----"

Checkout = Callable[..., Path]


def git(root: Path, *words: str) -> None:
    own = ["-c", "user.name=Me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *own, *words], check=True, capture_output=True)


def commit(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--message", "what there is")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small clean checkout that the command publishes."""
    made = tmp_path / "checkout"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main")
    files = dict.fromkeys(
        [
            *(*HELD, "requirements.txt", "tests/test_a.py", "docs/a.md", "tutorials/a.md"),
            *("scripts/a.py", "assets/experiments/a/soft_tokens.safetensors"),
        ],
        "text\n",
    )
    commit(made, {**files, "LICENSE": "Apache", "assets/results/a.items.jsonl": "{}\n", ".gitignore": "*.log\n"})
    monkeypatch.setattr(space, "ROOT", made)
    return made


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = space.main(words)
    return code, *capsys.readouterr()


# What is sent


def test_a_space_gets_what_it_needs(root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--repo", "me/demo", "--hardware", "cpu-upgrade", "--json", "-")
    assert code == 0
    there = hub.files("spaces/me/demo")
    assert sorted(set(there) - {".gitattributes"}) == sorted([*HELD, "LICENSE", "requirements.txt"])
    assert there["LICENSE"] == b"Apache"
    made = hub.repositories["spaces/me/demo"]
    assert (made.sdk, made.hardware, made.private) == ("gradio", "cpu-upgrade", False)
    assert json.loads(out)["commit"] == made.branches["main"]


def test_a_dry_run_lists_the_same(root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--repo", "me/demo", "--dry-run")
    assert code == 0
    sizes = {line.split()[1]: line.split()[0] for line in out.splitlines()[:-1]}
    assert sizes == {**dict.fromkeys([*HELD, "requirements.txt"], "5"), "LICENSE": "6"}
    assert out.splitlines()[-1] == "8 files, 41 bytes, would be sent to me/demo"
    assert not hub.requests
    run(capsys, "--repo", "me/demo")
    assert set(hub.files("spaces/me/demo")) == {*sizes, ".gitattributes"}


def test_only_differences_are_sent(root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "--repo", "me/demo")
    (root / "app" / "ui.py").rename(root / "app" / "page.py")
    commit(root, {"app.py": "new\n", "app/ui.py": "text\n"})
    git(root, "rm", "--quiet", "assets/samples/a.txt")
    git(root, "commit", "--quiet", "--message", "less")
    assert run(capsys, "--repo", "me/demo", "--hardware", "zero-a10g")[0] == 0
    there = hub.files("spaces/me/demo")
    assert there["app.py"] == b"new\n"
    assert "app/page.py" in there
    assert "assets/samples/a.txt" not in there
    assert ".gitattributes" in there
    made = hub.repositories["spaces/me/demo"]
    assert (made.hardware, len(made.commits)) == ("zero-a10g", 3)
    assert run(capsys, "--repo", "me/demo")[0] == 0
    assert len(made.commits) == 3


def test_the_real_checkout_sends_the_demo_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    monkeypatch.setattr(space, "_changed", lambda root: [])
    files = {file.path: file.size for file in space.space_files(ROOT)}
    needed = "app.py README.md requirements.txt app/ui.py judgeq/inference/api.py app/sections/kept/kept.js"
    assert {*needed.split(), "assets/samples/stored.json.gz", "assets/samples/index.json"} <= set(files)
    assert not [path for path in files if path.startswith(("tests/", "docs/", "tutorials/")) or ".jsonl" in path]
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert set(pictures) <= set(files)
    assert sum(files.values()) < 20_000_000


# What is refused


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("app/__pycache__/ui.cpython-312.pyc", "x", "is a cache"),
        ("app/.env", "x", "app/.env looks like a secret"),
        ("tests/id_rsa", "x", "tests/id_rsa looks like a secret"),
        (
            "app/settings.py",
            f"token = '{TOKEN}'\n",
            "app/settings.py holds what looks like a token of the Hub",
        ),
        ("judgeq/key.py", f"{KEY}\n", "holds what looks like a private key"),
        ("judgeq/model.safetensors", "x", "looks like a model's weights"),
        ("assets/samples/model.gguf", "x", "looks like a model's weights"),
        ("assets/soft_tokens/own/soft_tokens.safetensors", "x" * 20_000_001, "20,000,001 bytes"),
    ],
)
def test_what_should_stay_at_home_is_refused(
    root: Path, hub: Hub, path: str, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(root, {path: content})
    code, out, err = run(capsys, "--repo", "me/demo")
    assert (code, out, said in err, err.count("\n")) == (2, "", True, 1)
    assert TOKEN not in err
    assert not hub.requests


def test_a_link_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere.txt").write_text("private", encoding="utf-8")
    (root / "assets" / "samples" / "b.txt").symlink_to(tmp_path / "elsewhere.txt")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "a link")
    code, _, err = run(capsys, "--repo", "me/demo", "--dry-run")
    assert code == 2
    assert "assets/samples/b.txt is a link" in err


def test_an_unclean_tree_is_refused_by_name(root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "app.py").write_text("changed\n", encoding="utf-8")
    (root / "app" / "new ü.py").write_text("new\n", encoding="utf-8")
    (root / "noise.log").write_text("ignored\n", encoding="utf-8")
    code, _, err = run(capsys, "--repo", "me/demo")
    assert code == 2
    assert "(app.py, app/new ü.py)" in err
    assert not hub.requests


def test_without_git_or_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        said = "judgeq: git is not installed, and says what belongs into a Space: install it\n"
        assert run(capsys, "--repo", "me/demo", "--dry-run")[::2] == (2, said)
    monkeypatch.setattr(space, "ROOT", tmp_path)
    code, _, err = run(capsys, "--repo", "me/demo", "--dry-run")
    assert (code, "made from a git checkout" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--repo", "demo"], "'demo' is not a valid id"),
        (["--repo", "you/demo"], "no right to do that"),
        (["--repo", "me/demo", "--hardware", "abacus"], "no hardware 'abacus'"),
        (["--repo", "me/other"], "holds something else (index.html)"),
        (["--repo", "me/seen", "--private"], "is public"),
    ],
)
def test_what_cannot_be_done_gets_one_sentence(
    root: Path, hub: Hub, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["spaces/me/other"] = Repository(sdk="static")
    hub.repositories["spaces/me/other"].commit("main", {"index.html": b"hello"}, "a page")
    hub.repositories["spaces/me/seen"] = Repository(sdk="gradio")
    code, out, err = run(capsys, *words)
    assert (code, out, said in err, err.count("\n")) == (2, "", True, 1)
    assert set(hub.files("spaces/me/seen")) == {".gitattributes"}
    assert set(hub.files("spaces/me/other")) == {".gitattributes", "index.html"}


def test_a_private_space_is_private(root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--repo", "me/demo", "--private")[0] == 0
    assert hub.repositories["spaces/me/demo"].private


@pytest.mark.parametrize(("status", "said"), [(402, "wants to be paid"), (500, "error 500: try again later")])
def test_a_hub_that_refuses_is_quoted(
    root: Path,
    hub: Hub,
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken = status
    code, _, err = run(capsys, "--repo", "me/demo")
    assert (code, said in err) == (2, True)


def test_no_token_or_network(
    root: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, _, err = run(capsys, "--repo", "me/demo")
    assert (code, "check the name and the connection" in err) == (2, True)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    code, _, err = run(capsys, "--repo", "me/demo")
    assert (code, "there is no token: sign in" in err) == (2, True)
    assert not hub.requests


# The front matter of README.md


def test_the_sdk_is_one_that_is_tested_here() -> None:
    assert CARD.data.sdk == "gradio"
    version = Version(CARD.data.sdk_version)
    assert version in required("requirements.txt")["gradio"].specifier
    assert str(version) == metadata.version("gradio")


def test_the_python_is_one_that_zerogpu_and_the_package_take() -> None:
    assert isinstance(CARD.data.python_version, str)  # unquoted, 3.10 would be 3.1
    assert CARD.data.python_version in {"3.12.12", "3.10.13"}
    assert Version(CARD.data.python_version) in SpecifierSet(pyproject()["project"]["requires-python"])


def test_torch_may_be_one_that_zerogpu_has() -> None:
    torch = required("requirements.txt")["torch"].specifier
    assert any(Version(f"2.{minor}.0") in torch for minor in range(8, 12))


def test_the_front_matter_is_what_the_hub_takes() -> None:
    data = CARD.data.to_dict()
    assert (ROOT / data["app_file"]).is_file()
    assert len(data["short_description"]) <= 60
    assert data["license"] == pyproject()["project"]["license"].lower()
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data["colorFrom"], data["colorTo"]} <= colours
    assert data["suggested_hardware"] in {each.value for each in SpaceHardware}
    assert len(data["emoji"]) == 1
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in data["tags"])
    assert "https://arxiv.org/abs/2509.10798" in CARD.text


def test_the_embedded_model_is_preloaded_where_its_package_cannot_be_had() -> None:
    hub_ids = [model.hub_id for model in EMBEDDED.values()]
    assert CARD.data.models == hub_ids
    preloaded = dict(line.split() for line in CARD.data.to_dict()["preload_from_hub"])
    assert list(preloaded) == hub_ids
    for files in map(str.split, (names.replace(",", " ") for names in preloaded.values())):
        assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(files)
        assert all(any(Path(name).match(kind) for kind in (*SMALL_FILES, *WEIGHT_FILES)) for name in files)
        assert not any(Path(name).match(kind) for name in files for kind in IGNORED_FILES)
