"""Documents that stay read between two questions, within a bound of memory. Knows nothing of Gradio or of visitors."""

from __future__ import annotations

import threading
import weakref

from judgeq.document import Document

MOST_BYTES = 1_500_000_000
"""Of rows, over all visitors: four documents as long as the embedded model can read."""


class ReadDocuments:
    """Remembers which documents hold rows; the one that was asked least recently is forgotten first.

    Holds no document itself: one that nobody needs any more is gone.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._documents: list[weakref.ref[Document]] = []
        self._lock = threading.Lock()

    @property
    def held(self) -> list[Document]:
        """Those that somebody still needs, the most recently asked one last."""
        return [document for found in self._documents if (document := found()) is not None]

    def put(self, document: Document) -> None:
        """This one has just been asked; make room for it. Called by whoever uses the model, so that no other works."""
        with self._lock:
            others = [each for each in self.held if each is not document]
            self._documents = [weakref.ref(each) for each in (*others, document)]
            held = sum(each.kv_bytes for each in (*others, document))
            for each in (*others, document):
                if held <= self.most_bytes:
                    break
                held -= each.kv_bytes
                each.forget()
