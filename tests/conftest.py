"""How tests are handed out, and what is loaded for them: fixtures are in `tests/fixtures.py`."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tests.surroundings import workers


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, and with them all libraries, but not where tests are only handed out to workers."""
    if config.getoption("dist", "no") == "no" or hasattr(config, "workerinput"):
        gc.disable()  # what is imported stays: looking through it for garbage takes a quarter of the time
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_finish() -> None:
    """From now on garbage is that of tests."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means."""
    return workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of `-n`, whatever `--dist` says: a mode of xdist's own would build a file's fixtures in every worker."""
    from tests.spread import Spread

    return Spread(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests begin first, so that none is left over at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
