"""The lines of Python that repeat a comparison. Text from outside only ever becomes a quoted string in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeq.export.comparison import Settings

PROGRAM = """\
import judgeq
from judgeq.prompts.read_file import read_document

lm = judgeq.load({loaded})
document = read_document({file})
reading = judgeq.read(
    lm,
    document,
    {question},
{options}
    decoding=judgeq.Decoding(max_new_tokens={max_new_tokens}),
)
answers = [writer.finish() for writer in reading.writers]
for answer in answers:
    print(f"{{answer.method}}: {{answer.text}}")
    answer.retention.show()
"""


def to_python(question: str, settings: Settings) -> str:
    """See `Comparison.to_python`; options with their default values are left out."""
    loaded = [quoted(settings.model)]
    for name, value in (("quantization", settings.quantization), ("dtype", settings.dtype)):
        if value:
            loaded.append(f"{name}={quoted(value)}")
    options: dict[str, Any] = {
        "methods": tuple(settings.methods),
        "budget": settings.budget,
        "tokens": settings.tokens,
        "question_first": settings.question_first or None,
        "answer_prefix": settings.answer_prefix or None,
        "truncate": settings.truncate or None,
    }
    return PROGRAM.format(
        loaded=", ".join(loaded),
        file=quoted(settings.file),
        question=quoted(question),
        options="\n".join(f"    {name}={_literal(value)}," for name, value in options.items() if value is not None),
        max_new_tokens=settings.max_new_tokens,
    )


def quoted(text: str) -> str:
    """A string literal, in double quotes where that needs no escapes; nothing in it is invisible."""
    found = repr(text)
    return found if '"' in found else f'"{found[1:-1]}"'


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return quoted(value) if isinstance(value, str) else repr(value)
