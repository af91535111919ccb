"""A person's settings, the machine's size and the order of the files decide no test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from tests.spread import ALONE, ONE_DEMO, group
from tests.surroundings import THREADS, settle, workers

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "secret"),
        ("HF_ENDPOINT", "https://mirror.example"),
        ("GRADIO_SERVER_PORT", "80"),
        ("SPACE_ID", "someone/space"),
        ("COLUMNS", "20"),
        ("FORCE_COLOR", "1"),
        ("PYTHONWARNINGS", "error"),
        ("WORLD_SIZE", "8"),
        ("GIT_DIR", "elsewhere"),
        ("JUDGEQ_MODEL", "another"),
    ],
)
def test_what_changes_results_is_left_out(name: str, value: str) -> None:
    environment = {name: value}
    settle(environment)
    assert name not in environment


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "JUDGEQ_CACHE", "JUDGEQ_CHROMIUM", "PIP_INDEX_URL", "HF_HOME", "HTTPS_PROXY"]
)
def test_where_things_lie_stays(name: str) -> None:
    environment = {name: "somewhere"}
    settle(environment)
    assert environment[name] == "somewhere"


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    environment = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "example.org"}
    settle(environment)
    assert environment["NO_PROXY"].split(",")[:2] == ["example.org", "127.0.0.1"]
    assert environment["no_proxy"].startswith("127.0.0.1")


def test_one_thread_computes_in_tests_and_in_what_they_start() -> None:
    assert {os.environ[name] for name in THREADS} == {"1"}
    assert torch.get_num_threads() == 1, "what PyTorch read from them when it was imported, here as in any process"


@pytest.mark.parametrize(("gigabytes", "expected"), [(1, 1), (9, 2), (500, 8)])
def test_there_are_as_many_workers_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 64)
    memory = type("Memory", (), {"available": gigabytes * 10**9})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert workers() == expected


def test_what_a_test_sets_for_a_process_stays() -> None:
    program = "import os, tests.surroundings; print(os.environ['SPACE_ID'])"
    surroundings = {**os.environ, "SPACE_ID": "someone/space"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "someone/space"


# Several tests at once


def test_files_with_one_server_of_the_demo_share_a_worker_and_so_does_every_other_file() -> None:
    meets = re.compile(r"^def test_\w+\([^)]*\b(page: Page|demo: str)", re.MULTILINE)
    files = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in ROOT.glob("tests/test_*.py")}
    own = re.compile(r"^def (page|demo)\(", re.MULTILINE)  # a server with a tiny model
    assert {name for name, text in files.items() if meets.search(text) and not own.search(text)} == ONE_DEMO
    assert {group(f"{name}::test_x") for name in ONE_DEMO} == {"demo"}
    assert group("tests/test_api.py::test_x[a::b]") == group("tests/test_api.py::test_y") == "tests/test_api.py"


def test_every_notebook_is_on_its_own() -> None:
    assert f"def {ALONE[2:-1]}(" in (ROOT / "tests/test_tutorials.py").read_text("utf-8")
    first, second = (f"tests/test_tutorials.py{ALONE}{name}]" for name in ("01", "02"))
    assert group(first) != group(second) != group("tests/test_tutorials.py::test_x")


def test_workers_get_whole_files(tmp_path: Path) -> None:
    scheduler = "def pytest_xdist_make_scheduler(config, log):\n    return Spread(config, log)\n"
    (tmp_path / "conftest.py").write_text(f"from tests.spread import Spread\n\n\n{scheduler}", encoding="utf-8")
    chosen = [f"test_{name}.py" for name in "abc"]
    for name in chosen:
        (tmp_path / name).write_text("def test_x(): pass\ndef test_y(): pass\ndef test_z(): pass\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = set(re.findall(r"\[(gw\d)\].*PASSED (\S+?)::", ran.stdout))
    assert sorted(file for _, file in found) == sorted(chosen), "each on one worker"
