"""A place in which documented commands run in a second each: a tiny model under every name, small files, no network.

A command keeps all of its options. What `SIZES` names is cut to a size that the tiny model does at once; what a
document only names (`FILE`, `judge/`) is put there first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.tasks._index import TaskIndex
from peft import PeftModel

import judgeq
from benchmarks import parity, predictions, start
from judgeq import cli
from judgeq.data import planted, records, sharegpt, wiki
from judgeq.data.articles import Article
from judgeq.evaluation.harness import RULER_TASKS, benchmark_names, lm_eval_tasks
from judgeq.evaluation.random_weights import random_model
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.soft_tokens import CONFIG_FILE, SoftTokens
from judgeq.training.config import TrainConfig
from judgeq.training.train import train
from scripts import space
from tests.code_blocks import ROOT, blocks, text_of
from tests.fixtures import TEXT, build_model, build_tokenizer

TRAINING = {
    "--examples": "2",
    "--min-tokens": "60",
    "--max-tokens": "160",
    "--response-tokens": "4",
    "--epochs": "1",
    "--held-out": "1",
}
FIRST = "the first"
ASKED = {"--examples": "1", "--budgets": FIRST}
SIZES: dict[str, dict[str, str]] = {
    "ask": {"--max-new-tokens": "8"},
    "train": TRAINING,
    "evaluate hit-rate": {**ASKED, "--min-tokens": "60", "--max-tokens": "160"},
    "evaluate answers": {**ASKED, "--lengths": "500", "--max-new-tokens": "4"},
    "evaluate ruler": {**ASKED, "--lengths": "600", "--tasks": "niah_single_1"},
    "evaluate niah": {**ASKED, "--lengths": "2400", "--depths": "50"},
    "evaluate longbench": {
        **ASKED,
        "--tasks": "qasper",
        "--longbench-files": str(ROOT / "tests/data/longbench"),
    },
    "evaluate jsonl": {"--budgets": FIRST},
    "calibrate": {"--data": "questions.jsonl", "--max-new-tokens": "4"},
    "bench": {"--prompt-tokens": "400", "--decode-tokens": "2", "--rounds": "1"},
    "bench step": {"--lengths": "100", "--rounds": "1"},
    "bench attended": {"--prompt-tokens": "100", "--decode-tokens": "6", "--rounds": "1"},
    "bench users": {"--prompt-tokens": "60", "--decode-tokens": "2", "--full-users": "1", "--rounds": "1"},
    "lm-eval": {"--limit": "1", "--metadata": '{"max_seq_lengths": [600]}'},
}
"""Options by verb, with what they are here, whether the document names them or not; `FIRST` of what it lists."""
MEASURED = {"--prompt-tokens": "200"}
"""Of `estimate --measure`; without it, nothing is run and nothing need be small."""
WRITTEN = {
    "--out",
    "--json",
    "--html",
    "--markdown",
    "--figure",
    "--save-document",
    "--store",
    "--output_path",
}
"""Options that name what a command writes."""
LEFT_OUT = {
    "--document": "FILE",
    "--question": "TEXT",
    "--out": "OUT",
    "--data": "FILE.jsonl",
    "--model": "judgeq",
    "--tasks": "harbour",
    "--include_path": "tasks",
    "--model_args": "pretrained=smollm2-135m",
    "--output_path": "results",
}
"""What stands for `…`, and for what a sentence leaves out."""
QUESTION = {"context": TEXT.strip(), "question": "How tall is the lighthouse?", "answers": ["31 metres"]}
VOCABULARY = 1000
_parser = cache(cli._parser)


class Everything(dict[str, str]):
    """Says of all things that they could not be fetched."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> str:
        return f"{key} could not be fetched (no network in tests)."


class Place:
    """A folder with what documented commands name; use it as the current one.

    Attributes:
        folder: everything is read and written here.
        shared: a tiny model and soft tokens that were trained for it, made once for all.
        model: the name that commands without `--model` are about.
    """

    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder, self.shared = folder, shared
        self.model = "smollm2-135m"

    def load(self, name: str = "smollm2-135m", **options: Any) -> LanguageModel:
        """The tiny model under any name, in the precision that is asked for."""
        return dataclasses.replace(load(str(self.shared / "model"), **options), name=name)

    def judge(self, folder: Path, model: str = "smollm2-135m") -> Path:
        """Trained soft tokens for the tiny model under a name."""
        shutil.copytree(self.shared / "judge", folder)
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        (folder / CONFIG_FILE).write_text(json.dumps({**config, "base_model": model}), encoding="utf-8")
        return folder

    def shipped(self, lm: LanguageModel, question: str) -> Path:
        """What `judgeq` takes for the soft tokens that come with it."""
        folder = self.folder / "shipped" / lm.name
        return folder if folder.exists() else self.judge(folder, lm.name)

    def provide(self, role: str, word: str, model: str) -> None:
        """Put there what a command reads, unless an earlier command has written it."""
        path = self.folder / word
        if role not in READ or path.exists():  # other words may be too long for a name
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        READ[role](self, path, word, model)


def _document(place: Place, path: Path, word: str, model: str) -> None:
    path.write_text(TEXT * 8, encoding="utf-8")


def _begun(place: Place, path: Path, word: str, model: str) -> None:
    """Soft tokens without memory tokens, which would have to be trained on too."""
    tokens = SoftTokens.from_pretrained(place.shared / "judge")
    config = dataclasses.replace(tokens.config, base_model=model, memory=0)
    weights = dataclasses.replace(tokens.weights, memory=None)
    dataclasses.replace(tokens, weights=weights, config=config).save_pretrained(path)


def _soft_tokens(place: Place, path: Path, word: str, model: str) -> None:
    place.judge(path, model)


def _data(place: Place, path: Path, word: str, model: str) -> None:
    if word.endswith(".jsonl") or word == "FILE":
        texts = [f"Note {at}. {TEXT}" for at in range(60)]
        lines = [{**QUESTION, "context": text, "document": text} for text in texts]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def _results(place: Place, path: Path, word: str, model: str) -> None:
    shipped, own = ROOT / word, ROOT / "tests" / "data" / "results" / path.name
    sources = [shipped, own, ROOT / "tests" / "data" / "results" / "ruler.json"]
    shutil.copy(next(source for source in sources if source.is_file()), path)


def _prompt(place: Place, path: Path, word: str, model: str) -> None:
    SoftTokens.from_pretrained(place.judge(path.with_name("judge-for-prompt"), model)).export_peft(
        path, embeddings_only=True
    )


def _tasks(place: Place, path: Path, word: str, model: str) -> None:
    """The task that the page on lm-eval shows."""
    for block in blocks("docs/lm-eval.md"):
        if Path(block.file).parent.name == word:
            path.mkdir(exist_ok=True)
            (place.folder / block.file).write_text(block.text, encoding="utf-8")


READ: dict[str, Callable[[Place, Path, str, str], None]] = {
    "--document": _document,
    "--data": _data,
    "report": _results,
    "import-peft": _prompt,
    "--include_path": _tasks,
    "--start": _begun,
    **dict.fromkeys(("--tokens", "ablation", "show", "push", "export-peft"), _soft_tokens),
}
"""What makes the files that a command names, by option or, for names without one, by verb."""


def make_shared(folder: Path) -> Path:
    """A tiny model in `folder/model`, and soft tokens that were trained for it in `folder/judge`, in two runs."""
    # widths of whole blocks of 64, as quantization packs them; answers are short
    shape = {"num_hidden_layers": 2, "intermediate_size": 128, "eos_token_id": [*range(2, VOCABULARY, 4)]}
    build_model(vocab_size=VOCABULARY, **shape).save_pretrained(folder / "model")
    build_tokenizer(text_of("README.md"), VOCABULARY).save_pretrained(folder / "model")
    sizes = {name.removeprefix("--").replace("-", "_"): int(value) for name, value in TRAINING.items()}
    config = TrainConfig(data="code", memory=8, memory_epochs=1, **sizes)
    train(load(str(folder / "model")), config, folder / "judge", remove_store=True)
    path = folder / "judge" / CONFIG_FILE
    made = json.loads(path.read_text(encoding="utf-8"))
    made["earlier"] = [made["recipe"]]
    made["metrics"] |= {"seconds_of_stage1": 1.0, "seconds_of_stage2": 1.0}
    path.write_text(json.dumps(made), encoding="utf-8")
    return folder


def settle(place: Place, patch: pytest.MonkeyPatch) -> None:
    """Until the patch is undone: models, articles and conversations are small, and nothing is fetched."""
    towns = tuple(Article(f"Town {at}", f"Town {at} has {at} towers. Its mayor sings. {TEXT}", "") for at in range(400))
    turns = [[{"from": "human", "value": f"{at} {TEXT}"}, {"from": "gpt", "value": "Yes."}] for at in range(100)]
    for module in (wiki, planted, records):
        patch.setattr(module, "wiki_articles", lambda held_out: towns)
    patch.setattr(sharegpt, "_stream", lambda origin, seed: iter(turns))
    patch.setattr(lm_eval_tasks, "_failed", Everything())
    for module in ("judgeq", "judgeq.models.loading", "judgeq.integrations.lm_eval"):
        patch.setattr(f"{module}.load", place.load)
    weights = "judgeq.evaluation.random_weights.random_model"
    patch.setattr(weights, lambda shape, **options: random_model("tiny", **options))
    model = place.shared / "model"
    patch.setattr("judgeq.integrations.lm_eval.embedded_model_path", lambda name: model)
    patch.setattr(TaskIndex, "build", staticmethod(indexed))
    patch.setattr("judgeq.soft_tokens.soft_tokens.shipped_for", place.shipped)
    patch.setattr("datasets.config.HF_DATASETS_CACHE", place.folder / "datasets")
    patch.setattr(sys, "argv", ["judgeq"])
    patch.chdir(place.folder)


@cache
def _index_of(folder: Path) -> dict[str, Any]:
    ruler = folder / "ruler"
    return _build([ruler if ruler.is_dir() else folder])


_build = TaskIndex.build


def indexed(paths: Iterable[Path], **_: Any) -> dict[str, Any]:
    """lm-eval's index of the tasks in these folders: of the 13,000 files of its own those of RULER, read once."""
    return {name: entry for path in paths for name, entry in _index_of(path).items()}


# Commands


def reduced(words: list[str], complete: bool, place: Place) -> list[str]:
    """A command for judgeq as it runs here.

    Args:
        words: those behind `python -m judgeq`.
        complete: it may leave nothing out; False for one in a sentence.
        place: gets the files that the command names.
    """
    words, open_end = _spelled_out(words)
    if open_end or not complete:
        words = _completed(words)
    if words[0] != "lm-eval":
        arguments = _parser().parse_args(words)  # as it stands: SystemExit where it is no command
        if words[:2] == ["evaluate", "ruler"] and arguments.tasks != "generated":
            benchmark_names(arguments.tasks, RULER_TASKS)
    sizes = MEASURED if "--measure" in words else _sizes(words)
    for option, value in sizes.items():
        if option in words:
            at = words.index(option) + 1
            words[at] = words[at].split(",")[0] if value is FIRST else value
        elif value is not FIRST:
            words += [option, value]
    model = words[words.index("--model") + 1] if "--model" in words else place.model
    for role, word in _named(words):
        if role in WRITTEN:
            (place.folder / word).parent.mkdir(parents=True, exist_ok=True)
        else:
            place.provide(role, word, model)
    return words


def _sizes(words: list[str]) -> dict[str, str]:
    """Those of the verb and kind."""
    found = SIZES.get(" ".join(words[:2]), SIZES.get(words[0], {}))
    return dict(found)


def _spelled_out(words: list[str]) -> tuple[list[str], bool]:
    """Without `…`; `DIR…` are two. And whether something is left to the reader."""
    spelled: list[str] = []
    for word in words:
        if word.endswith("…") and len(word) > 1:
            spelled += [word[:-1], f"{word[:-1]}-2"]
        elif word != "…":
            spelled.append(word)
    return spelled, "…" in words


def _completed(words: list[str]) -> list[str]:
    """With all that the verb asks for."""
    if words[-1] in WRITTEN:
        words = [*words, LEFT_OUT.get(words[-1], "-")]
    if words[0] == "lm-eval":
        needed = ["--model_args", "--tasks", "--include_path", "--output_path"]
    else:
        needed = [action.option_strings[0] for action in _actions(words) if action.required and action.option_strings]
    return words + [part for option in needed if option not in words for part in (option, LEFT_OUT[option])]


def _actions(words: list[str]) -> list[argparse.Action]:
    """The options of the verb, and of the kind, that these words name."""
    parser, found = _parser(), []
    for word in [*words[:2], ""]:
        found = parser._actions
        choices = next((each.choices for each in found if isinstance(each, argparse._SubParsersAction)), {})
        if word not in choices:
            break
        parser = choices[word]
    return found


def _named(words: list[str]) -> Iterator[tuple[str, str]]:
    """Every word that may name a file, with the option, or the verb or kind, that it belongs to."""
    verb = words[1] if words[0] == "tokens" else words[0]
    start = 2 if words[0] == "tokens" else 1
    valued = {name for action in _actions(words) if action.nargs != 0 for name in action.option_strings}
    valued |= WRITTEN | {"--include_path"}
    before = ""
    for at, word in enumerate(words[start:]):
        if before in valued:
            yield before, word
        elif not word.startswith("-") and not (verb == "push" and at == 1):
            yield verb, word
        before = word


def every_option() -> set[str]:
    """All options of all verbs, and of what runs in a checkout alone."""
    found, parsers = set(), [_parser(), parity.parser(), predictions.parser(), start.parser(), space.parser()]
    while parsers:
        for action in parsers.pop()._actions:
            found |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    return found


# Python


def provided_names(place: Place) -> dict[str, Any]:
    """What the Python of a document takes as given; the soft tokens are embeddings alone, and lie on the Hub too."""
    lm = judgeq.load("smollm2-135m")
    tokens = SoftTokens.initialise(lm, torch.arange(40, 60))
    tokens.push_to_hub("me/judge", branch="v2")
    place.provide("--tokens", "DIR", place.model)
    return {
        "judgeq": judgeq,
        "lm": lm,
        "tokens": tokens,
        "model": build_model(vocab_size=VOCABULARY, num_hidden_layers=2),
        "PeftModel": PeftModel,
        "document": TEXT * 6,
        "another": TEXT * 4,
        "question": "How tall is the lighthouse?",
        "text": TEXT * 6,
    }
