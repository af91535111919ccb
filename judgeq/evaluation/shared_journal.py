"""A journal for the processes of one run: all know what the file knows, and each writes to a file of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from judgeq.errors import InputError
from judgeq.evaluation.journal import Journal, part_of
from judgeq.training.workers import Workers

APPEARS_S = 90
"""After which a new file is seen by all machines; network drives keep listings for up to a minute."""


def check_file_for(workers: Workers, path: Path | None) -> None:
    """Refuse several processes without a file, before the model is loaded; raises `InputError`."""
    if path is None and workers.count > 1:
        raise InputError(
            "Several processes share their answers through a file: give --json FILE, in a folder that all of them see"
        )


def open_journal(path: Path | None, setup: Mapping[str, Any], granted: Mapping[str, Any], workers: Workers) -> Journal:
    """Open or start a journal, which every process of a run calls; arguments as of `Journal`.

    One process alone needs no path. The first process takes over what an earlier run left in the files of its
    processes, whatever their number was.

    Raises:
        InputError: what `Journal` raises; or another process does not see the file that the first one began.
    """
    if workers.rank == 0:
        journal = Journal(path, setup, granted)
        journal.merge()
        workers.wait()
    else:
        assert path is not None
        workers.wait()
        _await(path)
        journal = Journal(path, setup, granted)
        journal.go_on_in(part_of(path, workers.rank, workers.count))
    workers.wait()  # the first process writes to the file that the others have read
    return journal


def _await(path: Path) -> None:
    started = time.monotonic()
    while not path.exists():
        if time.monotonic() - started > APPEARS_S:
            raise InputError(
                f"{path}, which the first process has begun, is not here: give --json a folder that all machines share"
            )
        time.sleep(1)
