"""How files arrive: each in a folder of its own, so that two visitors never share one, and within a bound of bytes.

Gradio would give the same content the same path, for every visitor; the first one to read it deletes it. Unread files
are deleted after an hour, when the demo ends, or when later uploads need the space.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from gradio.route_utils import MultiPartException, upload_fn
from gradio.routes import file_upload_statuses
from gradio.utils import get_upload_folder

from app import text
from app.server.own_tokens import LARGEST_FILE  # documents have a limit of their own

MOST_BYTES = 1_000_000_000
"""Of all uploads that have not been read yet."""


async def take(request: Request) -> Response:
    """Store the files of a request; the answer lists their paths, as Gradio's does."""
    here, known = Path(get_upload_folder()), request.app.get_blocks().upload_file_set
    arriving = here / secrets.token_hex(16)
    watched = request.query_params.get("upload_id")
    try:
        arrived, *_ = await upload_fn(
            request,
            arriving,
            LARGEST_FILE,
            watched,
            upload_progress=file_upload_statuses if watched else None,
        )
        paths = [_alone(here, Path(path)) for path in arrived]
    except MultiPartException as error:
        large = "maximum allowed size" in error.message
        return PlainTextResponse(error.message, status_code=413 if large else 400)
    except OSError:
        return PlainTextResponse(text.NOT_STORED, status_code=400)
    finally:  # a visitor who leaves in the middle leaves a part of a file
        shutil.rmtree(arriving, ignore_errors=True)
    known.update(paths)
    make_room(known, MOST_BYTES)
    return JSONResponse(paths)


async def refuse(_: Request) -> Response:
    """Gradio would write what a page shows to the disk, so that a link can bring it back."""
    return JSONResponse({"error": text.STRANGE_REQUEST}, status_code=404)


ROUTES = [
    APIRoute("/gradio_api/upload", take, methods=["POST"], response_model=None),
    APIRoute("/gradio_api/deep_link", refuse, response_model=None),
]
"""Take the place of Gradio's."""


def make_room(known: set[str], most_bytes: int) -> None:
    """Delete the oldest uploads until the others total at most `most_bytes`, and forget deleted ones."""
    found = []
    for path in list(known):
        try:
            seen = Path(path).stat()
        except OSError:
            known.discard(path)
        else:
            found.append((seen.st_mtime_ns, seen.st_size, path))
    held = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if held <= most_bytes:
            break
        held -= size
        known.discard(path)
        with suppress(OSError):
            Path(path).unlink()
            Path(path).parent.rmdir()


def _alone(here: Path, path: Path) -> str:
    folder = here / secrets.token_hex(16)
    folder.mkdir()
    return str(path.rename(folder / path.name))
