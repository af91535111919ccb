"""Documents that are read once for many questions, whole or evicted before any question; and reading files as text."""

from judgeq.documents.compressed import CompressedDocument
from judgeq.documents.document import Document
from judgeq.prompts.read_file import read_document, read_document_bytes

__all__ = ["CompressedDocument", "Document", "read_document", "read_document_bytes"]
