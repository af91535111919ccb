"""The answers that the page opens with are those that the embedded model gives today, as far as machines agree."""

from __future__ import annotations

import numpy as np
import pytest

from app.server.host import ModelHost
from app.server.run import Run
from app.server.stored_answers import MODEL, stored_run, stored_task
from judgeq.models.language_model import LanguageModel
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.embedded


def test_the_stored_answers_are_what_is_computed_now(smol: LanguageModel) -> None:
    host = ModelHost(MODEL, load=lambda name, progress: smol)
    stored = stored_run(host)
    assert stored is not None, (
        "the sample, the soft tokens or the question changed: run `python -m app.server.stored_answers`"
    )
    run = Run(stored_task(), host).start()
    assert run.finished.wait(PATIENCE_S)
    for before, now in zip(stored.lanes, run.lanes, strict=True):
        assert (before.method, before.rows, before.kv_bytes) == (now.method, now.rows, now.kv_bytes)
        # what is not sure of its answer says it in other words where sums are rounded in another way
        assert now.text
        assert stored.task.expected not in before.text or stored.task.expected in now.text
        heads = [
            (np.isin(old, new).sum(), len(old))
            for old, new in zip(sum(before.retention.kept, ()), sum(now.retention.kept, ()), strict=True)
        ]
        same, all_rows = np.sum(heads, axis=0)
        assert same / all_rows > 0.99, "machines round differently, which moves a row at the cut now and then"
