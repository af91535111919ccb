"""Starting the demo: check the operator's options, then open the page while the model loads in the background.

Some imports come late: `spaces` before torch, and both after `environment`, since Gradio reads variables when it is
imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from app import text
from app.server import environment
from judgeq.console import never_fail_for_a_character, say
from judgeq.errors import InputError, JudgeqError
from judgeq.models import DEFAULT_MODEL
from judgeq.models.supported import DTYPES, QUANTIZATIONS

MINUTES = 10.0


def launch(argv: list[str] | None = None) -> None:
    """Read the command line, open the page and load the model; returns when the demo ends.

    An error that keeps the demo from answering is printed as one sentence, and the exit code is 2.
    """
    never_fail_for_a_character()
    try:
        _launch(_parser().parse_args(argv))
    except JudgeqError as error:
        say(f"app.py: {error.with_code}\n")
        raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="app.py", description=text.LEAD)
    parser.add_argument("--model", default=os.environ.get("JUDGEQ_MODEL") or DEFAULT_MODEL, help="as in judgeq.load")
    parser.add_argument(
        "--tokens", default=os.environ.get("JUDGEQ_TOKENS") or None, help="soft tokens: a folder or a Hub id"
    )
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        default=os.environ.get("JUDGEQ_QUANTIZATION") or None,
        help="quantize the model's weights (default: its own type)",
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", *DTYPES),
        default=os.environ.get("JUDGEQ_DTYPE") or "auto",
        help="of weights and rows (default: auto, which is float32 on a CPU that is not faster in bfloat16, and the "
        "model's own 16 bits on a GPU)",
    )
    parser.add_argument(
        "--host",
        help=f"address to listen at; 0.0.0.0 for all of this machine's (default: {environment.HOST})",
    )
    parser.add_argument("--port", help=f"0 for any free one (default: {environment.PORT})")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time limit of one run (%(default)g)")
    parser.add_argument(
        "--models", action="store_true", help="let every visitor change the model, which all visitors share"
    )
    parser.add_argument(
        "--train",
        type=Path,
        metavar="DIR",
        help="let the page train soft tokens for the loaded model, each in a folder in DIR; on your own machine alone",
    )
    parser.add_argument(
        "--documents",
        type=Path,
        metavar="DIR",
        help="answer questions about the compressed documents in this folder, too: POST /documents/NAME",
    )
    return parser


def _launch(options: argparse.Namespace) -> None:
    on_zero = environment.on_zero_gpu()
    if not options.minutes > 0:
        raise InputError("--minutes has to be above 0")
    if options.models and on_zero:
        raise InputError("--models is not available on ZeroGPU, where the model is loaded before visitors arrive")
    if options.documents and (options.models or on_zero):
        raise InputError("--documents needs one model in this process: leave it out with --models and on ZeroGPU")
    if options.documents and not options.documents.is_dir():
        raise InputError(f"{options.documents} is not a folder: name one with compressed documents")
    if options.quantization not in (None, *QUANTIZATIONS):
        raise InputError(
            f"JUDGEQ_QUANTIZATION is {options.quantization[:60]!r}: choose one of {', '.join(QUANTIZATIONS)}"
        )
    if options.dtype not in ("auto", *DTYPES):
        raise InputError(f"JUDGEQ_DTYPE is {options.dtype[:60]!r}: choose one of {', '.join(('auto', *DTYPES))}")
    found = environment.settle_place(options.host, options.port)
    environment.check_own_machine(found, options.train)
    environment.past_proxies(found.host)
    environment.settle_folder()
    if on_zero:
        import spaces  # noqa: F401 - before torch, whose CUDA it stands in for
    import gradio as gr

    from app import documents, ui
    from app.server import zero
    from app.server.host import ModelHost
    from app.server.limits import Limits

    limits = Limits(seconds=60 * options.minutes)
    host = ModelHost(
        options.model,
        options.tokens,
        limits=limits,
        quantization=options.quantization,
        dtype=options.dtype,
    )
    if on_zero:
        zero.lend(host, gr.Error)
    else:
        host.start()
    stored = documents.StoredDocuments(host, options.documents) if options.documents else None
    demo = ui.build(host, options.models, options.train, stored)
    if host.wait(0):  # it is settled already where no such model is known
        host.check()
    try:
        ui.serve(
            demo,
            routes=stored.routes if stored else (),
            server_name=found.host,
            server_port=found.port,
            root_path=found.root_path,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError:  # another process was faster
        raise InputError(
            f"Port {found.port} has just been taken: choose another one with --port, or 0 for any free one"
        ) from None
    say(f"{text.OPEN.format(address=found.opened_at)}\n", sys.stdout)
    try:
        host.check()
    except JudgeqError as error:
        say(f"app.py: {error.with_code}\n")
        environment.leave(2)
    demo.block_thread()
