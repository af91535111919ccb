"""What the paper trains on: conversations of people with ChatGPT and a share about code, streamed from the Hub.

Only the people's turns are asked again; ChatGPT's answers before them stay as context.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeq.data.example import Example, is_held_out
from judgeq.data.jsonl import conversation
from judgeq.errors import InputError
from judgeq.models.hub_download import HubError, check_answers
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message
from judgeq.values import seed64

# The conversations' own files are JSON arrays, which `datasets` reads whole before it gives the first one, streaming or
# not. The Hub keeps a copy of every public data set in Parquet that comes piece by piece.
GENERAL = "Aeala/ShareGPT_Vicuna_unfiltered"
CODE = "ajibawa-2023/Code-290k-ShareGPT"
HUB_REVISION = "refs/convert/parquet"
BUFFER = 2000
"""Conversations among which the next one is drawn."""
BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
TURNS = "conversations"


@dataclass(frozen=True)
class ShareGptSource:
    """Conversations up to a user's turn, most of them general and some about code.

    Attributes:
        code_share: how many of the examples are about code; the paper has 45,000 general ones and 5,000 about code.
        general, code: a data set on the Hub, or a local file or folder of the same form: `.json`, `.jsonl` or
            `.parquet` with `{"conversations": [{"from", "value"}, …]}`.
        held_out: only the tenth that is kept back from training, or only the rest; a conversation's first words decide.
    """

    code_share: float = 0.1
    general: str = GENERAL
    code: str = CODE
    held_out: bool = False
    name: str = "sharegpt"

    def __post_init__(self) -> None:
        if not 0 <= self.code_share <= 1:
            raise InputError(f"code_share is {self.code_share}: give a number from 0 to 1")

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`; a conversation counts where its prompt, template included, has a length in `tokens`."""
        streams = {
            kind: _examples(lm, origin, f"sharegpt/{kind}", tokens, seed, self.held_out)
            for kind, origin in (("general", self.general), ("code", self.code))
        }
        found: list[Example] = []
        for at in range(count):
            kind = "code" if random.Random(f"{seed}:{at}").random() < self.code_share else "general"
            example = next(streams[kind], None)
            if example is None:
                raise InputError(
                    f"{self.code if kind == 'code' else self.general} has too few conversations of {tokens[0]:,} to "
                    f"{tokens[1]:,} tokens for {count:,} examples: ask for fewer, or for other lengths"
                )
            found.append(example)
        return found


def _examples(
    lm: LanguageModel, origin: str, kind: str, tokens: tuple[int, int], seed: int, held_out: bool
) -> Iterator[Example]:
    for number, turns in enumerate(_stream(origin, seed)):
        rng = random.Random(f"{seed}:{kind}:{number}")
        messages = _messages(turns)
        if not messages or is_held_out(messages[0].content) != held_out:
            continue
        asked = [at for at, message in enumerate(messages) if message.role == "user"]
        for last in rng.sample(asked, len(asked)):
            example = Example(messages[: last + 1], kind)
            if _is_within(lm, example, tokens):
                yield example
                break


def _is_within(lm: LanguageModel, example: Example, tokens: tuple[int, int]) -> bool:
    try:
        return tokens[0] <= example.input_ids(lm).shape[1] <= tokens[1]
    except InputError:  # longer than the model's positions
        return False


def _messages(turns: Any) -> tuple[Message, ...]:
    """The conversation from the user's first turn, or none where the two do not take turns."""
    try:
        messages = conversation(turns)
    except InputError:
        return ()
    while messages[0].role != "user":  # the end of a conversation that was split, or a system message
        messages = messages[1:]
    roles = [message.role for message in messages]
    return messages if roles == [("user", "assistant")[at % 2] for at in range(len(roles))] else ()


def _stream(origin: str, seed: int) -> Iterator[Any]:
    """The turns of every conversation, shuffled by the seed; nothing is fetched before it is asked for."""
    import datasets

    path = Path(origin)
    try:
        if path.exists():
            files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
            files = [each for each in files if each.suffix in BUILDERS]
            if not files or len({BUILDERS[each.suffix] for each in files}) > 1:
                raise InputError(f"{origin} is not data of one kind: give .json and .jsonl files, or .parquet")
            rows = datasets.load_dataset(
                BUILDERS[files[0].suffix],
                data_files=[str(each) for each in files],
                split="train",
                streaming=True,
            )
        else:
            check_answers(origin)
            rows = datasets.load_dataset(origin, revision=HUB_REVISION, split="train", streaming=True)
        for row in rows.shuffle(seed=seed64(seed), buffer_size=BUFFER):
            yield row.get(TURNS)
    except (HubError, OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, InputError):
            raise
        if path.exists():
            raise InputError(f"{origin} is not data that can be read: {_line(error)}") from error
        raise InputError(
            f"{origin} cannot be read from the Hugging Face Hub ({_line(error)}): check the connection, or use "
            "--data FILE.jsonl or --data wiki"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
