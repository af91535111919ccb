"""Judge Q: trainable soft tokens decide which KV-cache rows a language model keeps (arXiv 2509.10798)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from judgeq._version import __version__

if TYPE_CHECKING:
    from judgeq.config import Decoding, Selection
    from judgeq.documents.compressed import CompressedDocument
    from judgeq.documents.document import Document
    from judgeq.errors import JudgeqError
    from judgeq.evaluation.calibration import Calibration, CalibrationQuestion, calibrate, propose_questions
    from judgeq.inference.answers import Answer, Reading
    from judgeq.inference.api import ask, ask_many, compare, read, stream
    from judgeq.methods import METHODS, Method
    from judgeq.models.language_model import LanguageModel
    from judgeq.models.loading import load
    from judgeq.prompts.answer_start import propose_answer_prefix
    from judgeq.retention import RetentionMap
    from judgeq.soft_tokens.soft_tokens import SoftTokens
    from judgeq.sweeping import SweepPoint, sweep

_HOMES = {
    "Calibration": "evaluation.calibration",
    "CalibrationQuestion": "evaluation.calibration",
    "calibrate": "evaluation.calibration",
    "propose_questions": "evaluation.calibration",
    "propose_answer_prefix": "prompts.answer_start",
    "Answer": "inference.answers",
    "Reading": "inference.answers",
    "ask": "inference.api",
    "ask_many": "inference.api",
    "compare": "inference.api",
    "read": "inference.api",
    "stream": "inference.api",
    "CompressedDocument": "documents.compressed",
    "Decoding": "config",
    "Document": "documents.document",
    "Selection": "config",
    "JudgeqError": "errors",
    "METHODS": "methods",
    "Method": "methods",
    "LanguageModel": "models.language_model",
    "load": "models.loading",
    "RetentionMap": "retention",
    "SoftTokens": "soft_tokens.soft_tokens",
    "SweepPoint": "sweeping",
    "sweep": "sweeping",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import judgeq` alone does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'judgeq' has no attribute {name!r}")
    return getattr(import_module(f"judgeq.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "METHODS",
    "Answer",
    "Calibration",
    "CalibrationQuestion",
    "CompressedDocument",
    "Decoding",
    "Document",
    "JudgeqError",
    "LanguageModel",
    "Method",
    "Reading",
    "RetentionMap",
    "Selection",
    "SoftTokens",
    "SweepPoint",
    "__version__",
    "ask",
    "ask_many",
    "calibrate",
    "compare",
    "load",
    "propose_answer_prefix",
    "propose_questions",
    "read",
    "stream",
    "sweep",
]
