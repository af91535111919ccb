"""The first sample's answers, computed before with the embedded model: what the page shows before the first question.

`python -m app.server.stored_answers` recomputes them. Knows nothing of Gradio.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from dataclasses import fields, replace
from datetime import datetime
from functools import cache
from typing import Any

import judgeq
from app.server.host import ModelHost
from app.server.live import lit_by_layer
from app.server.run import Run
from app.server.samples import expected_answer, samples
from app.server.task import Lane, Task, note_lost
from judgeq._assets import assets_path
from judgeq.inference.answers import Answer, Timing
from judgeq.retention import RetentionMap

FORMAT = "judgeq.stored/1"
MODEL = "smollm2-135m"
PATH = assets_path("samples", "stored.json.gz")
METHODS = ("full", "judgeq", "snapkv")


def stored_task() -> Task:
    """What was asked: the first sample as the page offers it."""
    first = samples()[0]
    return Task(
        first.document,
        first.question,
        methods=METHODS,
        budget=first.budget,
        question_first=first.question_first,
        max_new_tokens=24,
        expected=expected_answer(first.document, first.question),
    )


def stored_run(host: ModelHost) -> Run | None:
    """The stored answers as a run that has ended; None where this page has another model, soft tokens or sample."""
    if host.name != MODEL or host.tokens_name is not None:
        return None
    values = _stored_values()
    if values["of"] != _fingerprint():
        return None
    run = Run(stored_task(), host)
    run.lanes = [replace(lane) for lane in _stored_lanes()]
    run.prompt_tokens = values["lanes"][0]["answer"]["prompt_tokens"]
    run.full_kv_bytes = values["lanes"][0]["answer"]["full_kv_bytes"]
    run.prefill_s, run.phase = values["prefill_s"], "stored"
    run.began = datetime.fromisoformat(values["began"])
    precision = next(lane.answer.precision for lane in run.lanes if lane.answer)
    run.computed = f"{run.began.date()}, on {values['cores']} CPU cores in {precision}"
    run.finished.set()
    return run


@cache
def _stored_values() -> dict[str, Any]:
    return json.loads(gzip.decompress(PATH.read_bytes()))


@cache
def _stored_lanes() -> tuple[Lane, ...]:
    lanes = tuple(_lane(lane) for lane in _stored_values()["lanes"])
    note_lost(lanes)
    return lanes


def store(run: Run) -> bytes:
    """What `stored_run` reads, from a finished run of `stored_task`; the same run gives the same bytes."""
    values = {
        "format": FORMAT,
        "of": _fingerprint(),
        "judgeq": judgeq.__version__,
        "began": run.began.isoformat() if run.began else "",
        "cores": os.cpu_count(),
        "prefill_s": run.prefill_s,
        "lanes": [_values(lane) for lane in run.lanes],
    }
    return gzip.compress(json.dumps(values, separators=(",", ":")).encode(), mtime=0)


@cache
def _fingerprint() -> str:
    """Of everything that the answers depend on, apart from the code."""
    task = stored_task()
    asked = (MODEL, task.document, task.question, task.methods, task.budget, task.max_new_tokens)
    found = hashlib.sha256(repr(asked).encode())
    for path in sorted(assets_path("soft_tokens", MODEL).glob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _values(lane: Lane) -> dict[str, Any]:
    assert lane.answer is not None
    full = lane.method == "full"
    said = lane.answer.to_dict()
    del said["sources"]  # `leaning` shows them, and what they are computed from is not stored
    return {
        "rows": lane.rows,
        "seconds": lane.seconds,
        "answer": said,
        "steps": lane.steps,
        "leaning": lane.leaning,
        "by_layer": lit_by_layer([lane], range(lane.answer.retention.layers))[lane.method],
        "map": lane.answer.retention.to_json(scores=not full),
    }


def _lane(values: dict[str, Any]) -> Lane:
    kept, said = RetentionMap.from_json(values["map"]), values["answer"]
    timing = Timing(said["prefill_s"], said["ttft_s"], said["decode_tokens_per_s"])
    same = {field.name for field in fields(Answer)} & said.keys() - {"notices"}
    answer = Answer(
        text=said["answer"],
        retention=kept,
        timing=timing,
        notices=tuple(said["notices"]),
        **{name: said[name] for name in same},
    )
    return Lane(
        method=answer.method,
        text=answer.text,
        rows=values["rows"],
        kv_bytes=answer.kv_bytes,
        ttft_s=timing.ttft_s,
        tokens_per_s=timing.decode_tokens_per_s or None,
        seconds=values["seconds"],
        finish=answer.finish,
        retention=kept,
        answer=answer,
        steps=values["steps"],
        leaning=values["leaning"],
        by_layer=values.get("by_layer", ()),
    )


if __name__ == "__main__":
    computed = Run(stored_task(), ModelHost(MODEL)).start()
    computed.finished.wait()
    if computed.error is not None:
        raise SystemExit(str(computed.error))
    PATH.write_bytes(store(computed))
    sys.stdout.write(f"{PATH.name}: {PATH.stat().st_size:,} bytes\n")
