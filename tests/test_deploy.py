"""The demo elsewhere: the container's steps in a plain shell, the demo as a Space starts it, and the wheel.

One fresh environment, with what requirements.txt asks for and no other package, serves all three. pip checks that
nothing is missing; the packages are linked from the environment of the tests, which pip has resolved and fetched. So is
the embedded model.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from judgeq.models.embedded import embedded_model_path
from judgeq.models.wheels import is_intact
from tests.browser import BRIEF, PATIENCE, SAMPLE, free_port, running
from tests.container import NEEDS_ROOT, Container, instructions, link, required

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "Dockerfile"
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "someone/judge-q",
    "SPACE_HOST": "someone-judge-q.hf.space",
    "SPACE_AUTHOR_NAME": "someone",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "OMP_NUM_THREADS": "2",
}
"""What a Space sets."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    """Built as the Dockerfile says, in a virtual environment that has nothing but pip."""
    place = tmp_path_factory.mktemp("container")
    subprocess.run([sys.executable, "-m", "venv", place / "python"], check=True)
    made = Container(root=place / "image", source=ROOT, python=place / "python/bin")
    made.provide(ROOT / "requirements.txt")
    model = embedded_model_path()
    shutil.copytree(model, made.root / "home/user/.cache/judgeq/models" / model.name, copy_function=link)
    made.build(DOCKERFILE)
    return made


def test_an_environment_has_what_is_required_with_its_extras_and_nothing_else() -> None:
    names = {each.name.lower() for each in required(["httpx[socks]>=0.28,<1  # a comment", "", "# none"])}
    assert {"httpx", "socksio", "anyio", "idna"} <= names
    assert not {"torch", "pytest", "numpy", "h2"} & names


def test_only_what_an_image_alone_can_do_is_left_out() -> None:
    steps = [words for name, words in instructions(DOCKERFILE) if name == "RUN"]
    assert [words for words in steps if words.startswith(NEEDS_ROOT)] == ["useradd --create-home --uid 1000 user"]


def test_what_is_copied_gets_past_the_ignore_file() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    steps = [words.split() for name, words in instructions(DOCKERFILE) if name == "COPY"]
    copied = {word for words in steps for word in words[:-1] if not word.startswith("--")}
    assert allowed == copied
    assert all((ROOT / each).exists() for each in copied)


def test_an_instruction_that_is_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nHEALTHCHECK CMD true\n")
    with pytest.raises(ValueError, match="teach the test"):
        instructions(tmp_path / "Dockerfile")


@pytest.mark.embedded
def test_the_steps_of_the_container_are_done(container: Container) -> None:
    assert [words.split()[0] for words in container.done] == ["pip", "python"]
    assert (container.command, container.port) == (["python", "app.py"], 7860)
    assert is_intact(Path(container.environment["JUDGEQ_CACHE"], "models", "smollm2-135m"))


@pytest.fixture(scope="module")
def space(container: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the demo, started by CMD with the variables of a Space; the model is there already."""
    log, port = tmp_path_factory.mktemp("space") / "log.txt", free_port()
    variables = {**SPACE, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    command = [str(container.python / container.command[0]), *container.command[1:]]
    with running(command, port, log, cwd=container.folder, env=container.surroundings(**variables)) as url:
        yield url
    # Gradio itself misses the package `spaces` there, which every Space brings
    assert not re.search(r'File ".*/(app|judgeq)/', log.read_text()), log.read_text()


@pytest.mark.browser
@pytest.mark.embedded
def test_the_space_is_reached_by_a_browser_and_answers(space: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(space)
    page.locator("#document textarea").fill(SAMPLE.document[:BRIEF])
    page.get_by_role("button", name="Ask", exact=True).click(timeout=PATIENCE)
    expect(page.locator(".status.ready", has_text="Read once in")).to_be_visible()
    expect(page.locator("article.card.done").first.locator(".answer")).to_contain_text(SAMPLE.answer)
    page.close()


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git holds."""
    place = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, files.stdout.split("\0")):
        target = place / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, place / "tree"],
        check=True,
        capture_output=True,
    )
    (built,) = place.glob("*.whl")
    return built


def test_the_wheel_holds_what_runs_and_not_every_single_answer(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"judgeq/assets/results/ruler.json", "app/ui.py", "judgeq/assets/samples/lighthouse.txt"} <= {*names}
    assert any(name.startswith("judgeq/assets/soft_tokens/") for name in names)
    assert not [name for name in names if name.endswith(".items.jsonl") or name.startswith("tests")]


@pytest.mark.embedded
def test_the_installed_wheel_imports_answers_and_has_its_soft_tokens(
    wheel: Path, container: Container, tmp_path: Path
) -> None:
    def run(*words: str) -> str:
        ran = subprocess.run(
            [str(container.python / words[0]), *words[1:]],
            cwd=tmp_path,
            env=container.surroundings(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    run("pip", "install", "--quiet", str(wheel))
    assert "site-packages" in run("python", "-c", "import judgeq; print(judgeq.__file__)")
    (tmp_path / "text.txt").write_text(SAMPLE.document[:BRIEF], encoding="utf-8")
    told = run(
        *("judgeq", "ask", "--document", "text.txt", "--question", SAMPLE.question),
        *("--budget", "64", "--max-new-tokens", "24", "--json", "-"),
    )
    answer = json.loads(told)
    assert SAMPLE.answer in answer["answer"]
    assert (answer["method"], answer["budget"]) == ("judgeq", 64)
