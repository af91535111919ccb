"""The lines of Python that repeat a comparison. Text of others only ever stands in them as a quoted string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeq.export.record import Settings


def to_python(question: str, settings: Settings) -> str:
    """See `Keepsake.to_python`; what is as it is by default is left out."""
    loaded = _call([quoted(settings.model)], {"quantization": settings.quantization})
    options: dict[str, Any] = {
        "methods": tuple(settings.methods),
        "budget": settings.budget,
        "tokens": settings.tokens,
        "question_first": settings.question_first or None,
        "truncate": settings.truncate or None,
    }
    asked = "".join(
        f"    {name}={_literal(value)},\n" for name, value in options.items() if value is not None
    )
    return (
        "import judgeq\n"
        "from judgeq.prompts.text_files import read_document\n\n"
        f"lm = judgeq.load({loaded})\n"
        f"document = read_document({quoted(settings.file)})\n"
        "reading = judgeq.read(\n"
        "    lm,\n"
        "    document,\n"
        f"    {quoted(question)},\n"
        f"{asked}"
        f"    decoding=judgeq.Decoding(max_new_tokens={settings.max_new_tokens}),\n"
        ")\n"
        "answers = [writer.finish() for writer in reading.writers]\n"
        "for answer in answers:\n"
        '    print(f"{answer.method}: {answer.text}")\n'
        "    answer.retention.show()\n"
    )


def _call(given: list[str], options: dict[str, Any]) -> str:
    return ", ".join(
        [*given, *(f"{name}={_literal(value)}" for name, value in options.items() if value is not None)]
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
