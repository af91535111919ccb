"""A Space on ZeroGPU as far as one exists without a GPU: `python -m tests.zero_space` prints what a run there answers.

Real: the `spaces` package with all that it changes, its worker in a process of its own, the queues between the two, and
what is asked of the scheduler, for which a server on loopback stands in. Not real: CUDA; the model stays on the CPU.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ASKED: list[str] = []
NONE_FREE = threading.Event()


class Scheduler(BaseHTTPRequestHandler):
    """Lends one GPU to everybody, until none is free."""

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ASKED.append(url.path + " " + parse_qs(url.query).get("durationSeconds", [""])[0])
        lent = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "yes"}
        status, body = 200, json.dumps(lent).encode()
        if url.path == "/schedule" and NONE_FREE.is_set():
            status, body = 503, b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = Path(tempfile.mkdtemp())
    (folder / "cgroup").write_text("0::/space\n", encoding="utf-8")
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(folder / "cgroup"),
    }
    import torch

    torch.version.cuda = torch.version.cuda or "12.8"  # a CPU build has none, and `spaces` reads it
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = lambda: None
        torch.cuda._is_in_bad_fork = bool  # False, and another process can be asked for it
    from tests.fixtures import build_model, build_tokenizer

    model, tokenizer = build_model(), build_tokenizer()  # their random numbers would ask CUDA for its state
    import spaces  # noqa: F401 - as in app.py
    import spaces.zero.torch as lent

    lent.init = lambda uuid: None
    lent.move = lambda callback=None: None

    import gradio as gr

    from app.server import zero
    from app.server.run import Run, result
    from app.server.sweep_run import SweepRun, SweepTask
    from app.server.task import Task
    from judgeq.models.language_model import LanguageModel
    from tests.server import DOCUMENT, QUESTION, tiny_host

    host = tiny_host(LanguageModel.wrap(model, tokenizer, name="tiny-llama"))
    host._lm = host.model()
    zero.lend(host, gr.Error)
    task = Task(DOCUMENT, QUESTION, ("full", "judgeq", "snapkv"), 24, max_new_tokens=6)
    runs = [Run(each, host, keep=True).start() for each in (task, task)]
    broken = Run(Task("word " * 9000, QUESTION, ("full",), 24), host).start()
    sweep = SweepRun(SweepTask(DOCUMENT, QUESTION, budgets=(8, 16), max_new_tokens=4), host).start()
    for run in (*runs, broken, sweep):
        run.finished.wait(100)
    NONE_FREE.set()
    refused = Run(task, host).start()
    refused.finished.wait(100)
    values = {
        "asked": ASKED,
        "errors": [str(run.error) for run in (*runs, broken, sweep) if run.error],
        "none_free": str(refused.error),
        "answers": [result(run) for run in runs],
        "maps": [run.retention["judgeq"].to_json(scores=False) for run in runs if run.retention],
        "same": [lane.answer.retention is lane.retention for run in runs for lane in run.lanes if lane.answer],
        "points": [point.agreement for point in sweep.points],
        "document": runs[0].document is None,
    }
    sys.stdout.write("\nVALUES " + json.dumps(values) + "\n")
    sys.stdout.flush()
    for worker in multiprocessing.active_children():  # they wait for more, and hold what this one writes to
        worker.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
