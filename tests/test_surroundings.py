"""A person's settings, the machine's size and the order of the files decide no test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

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
    program = "import torch; print(torch.get_num_threads())"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"


@pytest.mark.parametrize(("gigabytes", "expected"), [(1, 1), (9, 2), (500, 8)])
def test_there_are_as_many_workers_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 64)
    memory = type("Memory", (), {"available": gigabytes * 10**9})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert workers() == expected
