"""Every eviction method behind one protocol, one small file per method."""

from __future__ import annotations

from judgeq.errors import InputError
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.chunk_kv import ChunkKV
from judgeq.methods.defensive_kv import DefensiveKV
from judgeq.methods.expected_attention import ExpectedAttention
from judgeq.methods.full import Full
from judgeq.methods.h2o import H2O
from judgeq.methods.judge_q import JudgeQ
from judgeq.methods.judge_q_draft import JudgeQDraft
from judgeq.methods.key_norm import KeyNorm
from judgeq.methods.kvzip import KVzip, KVzipPlus
from judgeq.methods.laq import LAQ
from judgeq.methods.oracle import Oracle
from judgeq.methods.pyramid_kv import PyramidKV
from judgeq.methods.random_rows import RandomRows
from judgeq.methods.snapkv import SnapKV
from judgeq.methods.stock_answer import StockAnswer
from judgeq.methods.streaming_llm import StreamingLLM
from judgeq.methods.tova import TOVA

METHODS: dict[str, type[Method]] = {
    cls.name: cls
    for cls in (
        Full,
        JudgeQ,
        JudgeQDraft,
        StockAnswer,
        SnapKV,
        DefensiveKV,
        PyramidKV,
        ChunkKV,
        H2O,
        TOVA,
        LAQ,
        ExpectedAttention,
        KeyNorm,
        StreamingLLM,
        RandomRows,
        KVzip,
        KVzipPlus,
        Oracle,
    )
}
"""Registered methods by name; add your own class to use it by name everywhere."""


def method_named(method: str | Method) -> Method:
    """An instance from a registered name; an instance is returned unchanged.

    Raises:
        InputError: an unknown name, or something that is not a method.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(f"There is no method {method!r}: choose one of {', '.join(METHODS)}")
    return METHODS[method]()


def question_methods() -> list[str]:
    """Names of the methods that can choose rows with a question in view."""
    return [name for name, method in METHODS.items() if not method.replays]


def title_of(name: str) -> str:
    """The title of a registered method in pages and figures; another name is returned unchanged."""
    return (METHODS[name].title if name in METHODS else "") or name


__all__ = [
    "H2O",
    "LAQ",
    "METHODS",
    "TOVA",
    "ChunkKV",
    "DefensiveKV",
    "ExpectedAttention",
    "Full",
    "JudgeQ",
    "JudgeQDraft",
    "KVzip",
    "KVzipPlus",
    "KeyNorm",
    "LayerView",
    "Look",
    "Method",
    "Oracle",
    "PyramidKV",
    "RandomRows",
    "SnapKV",
    "StockAnswer",
    "StreamingLLM",
    "method_named",
    "question_methods",
    "title_of",
]
