"""Compressed documents from a folder, asked by programs: a request in, an answer out, nothing kept between two.

So any worker after a load balancer can answer any request. The folder is shared: documents are compressed into it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.server.host import ModelHost
from judgeq.cache.files import HEADER_FILE
from judgeq.config import Decoding
from judgeq.documents.compressed import CompressedDocument
from judgeq.errors import InputError, JudgeqError
from judgeq.models.language_model import LanguageModel

OPEN_DOCUMENTS = 8
"""Documents whose rows a worker keeps in memory."""


class Question(BaseModel):
    """The body of a request."""

    question: str
    max_new_tokens: int = 64


class StoredDocuments:
    """Folders that `judgeq ask --query-agnostic --save-document` wrote, in one folder."""

    def __init__(self, host: ModelHost, folder: Path) -> None:
        self.host, self.folder = host, folder

    @property
    def routes(self) -> list[APIRoute]:
        return [
            APIRoute("/documents", self.listed, methods=["GET"]),
            APIRoute("/documents/{name}", self.ask, methods=["POST"], response_model=None),
        ]

    @property
    def names(self) -> list[str]:
        """Read anew each time, since others write there."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{HEADER_FILE}"))

    def listed(self) -> JSONResponse:
        """What can be asked here; status 503 until the model is loaded, so that a balancer waits."""
        ready = self.host.ready is not None
        return JSONResponse({"model": self.host.name, "documents": self.names}, 200 if ready else 503)

    def answer(self, name: object, question: object, max_new_tokens: int) -> dict[str, Any]:
        """Answer one question, in this worker's queue; as `judgeq ask --json` prints it.

        Raises:
            InputError: no such document, or beyond a limit.
            JudgeqError: the queue is full, or the model cannot be loaded.
        """
        self.host.limits.check_texts("", question)
        if name not in self.names:
            raise InputError(
                f"There is no document {str(name)[:100]!r} here: GET /documents and list_documents list them"
            )
        if not 1 <= max_new_tokens <= self.host.limits.answer:
            raise InputError(f"max_new_tokens is not from 1 to {self.host.limits.answer}: give such a number")
        with self.host.turn():
            path = self.folder / str(name)
            document = _opened(self.host.model(), path, (path / HEADER_FILE).stat().st_mtime_ns)
            return document.ask(str(question), decoding=Decoding(max_new_tokens=max_new_tokens)).to_dict()

    def ask(self, name: str, asked: Question) -> JSONResponse:
        """The same over HTTP; an error is a sentence with its code."""
        try:
            return JSONResponse(self.answer(name, asked.question, asked.max_new_tokens))
        except JudgeqError as error:
            status = 400 if isinstance(error, InputError) else 503  # such as a full queue: another worker may be free
            return JSONResponse({"error": str(error), "code": error.code}, status)


@lru_cache(maxsize=OPEN_DOCUMENTS)
def _opened(lm: LanguageModel, path: Path, written: int) -> CompressedDocument:
    """The document as it was written at that time."""
    return CompressedDocument.load(lm, path)
