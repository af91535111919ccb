"""What is taken from lm-eval: task definitions as they are in its files, and its code run quietly and repeatably.

The only module that knows how lm-eval is put together; it is imported only when a benchmark is requested.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from judgeq.errors import DownloadError, InputError
from judgeq.evaluation.harness.word_pairs import import_needles
from judgeq.models.hub_download import HubError, check_answers
from judgeq.values import texts

CONNECT_SECONDS = 5.0
"""How long a server may take before it counts as out of reach."""
LONGEST_REASON = 120
"""Characters; some libraries put their whole call stack into one line."""

_ALONE = threading.RLock()
"""Held while something of the whole process is changed: lm-eval's modules, generators, output, warnings."""
_failed: dict[str, str] = {}
"""What could not be fetched -> why; tried only once a process."""


@dataclass(frozen=True)
class Definition:
    """A task as lm-eval defines it: the content of its file, functions resolved."""

    name: str
    config: Mapping[str, Any]

    @property
    def max_new_tokens(self) -> int:
        """Longest answer."""
        return int(self.config["generation_kwargs"]["max_gen_toks"])

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return tuple(self.config["generation_kwargs"]["until"])

    def text(self, doc: Mapping[str, Any]) -> str:
        """The prompt of one document, before any chat template."""
        return self._render("doc_to_text", doc)

    def prefix(self, doc: Mapping[str, Any]) -> str:
        """What the answer must continue; empty where the task has no such text."""
        return self._render("gen_prefix", doc) if "gen_prefix" in self.config else ""

    def scores(self, doc: Mapping[str, Any], answer: str) -> Mapping[str, float]:
        """Metric -> score from 0 to 1."""
        return self.config["process_results"](dict(doc), [answer])

    def _render(self, key: str, doc: Mapping[str, Any]) -> str:
        from lm_eval.utils import apply_template

        return apply_template(self.config[key], dict(doc))


def definition(benchmark: str, name: str, folder: str) -> Definition:
    """Read a task's file.

    Args:
        benchmark: how a person calls it, for the error.
        folder: where lm-eval keeps it, below its tasks.

    Raises:
        InputError: lm-eval or a package that the task needs is not installed.
    """
    try:
        import nltk

        # lm-eval would download data, without a time limit, when its module is imported
        with quiet(), mock.patch.object(nltk, "download", return_value=False):
            import lm_eval.tasks

            # Not `TaskManager`: loading a task with it builds 500 questions, or downloads all of them, at once
            from lm_eval.tasks._yaml_loader import load_yaml

            if folder == "ruler":
                import_needles()
            root = Path(lm_eval.tasks.__file__).parent
            return Definition(name, load_yaml(root / folder / f"{name}.yaml"))
    except ImportError as error:
        raise InputError(f'{benchmark} needs lm-eval: pip install "judgeq[benchmarks]"') from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, nothing is printed, logged or warned of."""
    with (
        _ALONE,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def seeded(seed: str, *generators: random.Random) -> Iterator[None]:
    """Inside, `generators` and the global ones of `random` and numpy start from the seed; then they are restored."""
    with _ALONE:
        states = [generator.getstate() for generator in generators]
        state = random.getstate()
        numpy_state = np.random.get_state()  # noqa: NPY002 - the one that lm-eval draws from
        random.seed(seed)
        np.random.seed(random.Random(seed).getrandbits(32))  # noqa: NPY002
        for generator in generators:
            generator.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002
            for generator, before in zip(generators, states, strict=True):
                generator.setstate(before)


def fetched(what: str, load: Callable[[], Any]) -> Any:
    """What `load` gives, from the network or a cache; once `what` has failed it is not tried again in this process.

    Raises:
        DownloadError: it failed, now or before.
    """
    if what in _failed:
        raise DownloadError(_failed[what])
    try:
        with quiet():
            return load()
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".") if lines and len(lines[0]) < LONGEST_REASON else type(error).__name__
        _failed[what] = f"{what} could not be fetched ({reason})."
        raise DownloadError(_failed[what]) from error


def hub_dataset(what: str, repository: str, load: Callable[[], Any]) -> Any:
    """What `load` gives by means of `datasets`, as `fetched`; where the Hub does not answer only its cache counts.

    Left alone, `datasets` tries a Hub that is out of reach for half a minute.
    """

    def load_in_time() -> Any:
        import datasets
        from huggingface_hub import constants

        try:
            check_answers(repository)
            offline = False
        except HubError:
            offline = True
        with (
            mock.patch.object(datasets.config, "HF_HUB_OFFLINE", offline),
            mock.patch.object(constants, "HF_HUB_OFFLINE", offline),
        ):
            return load()

    return fetched(what, load_in_time)


def benchmark_names(text: str, all_names: Sequence[str]) -> tuple[str, ...]:
    """The names in a comma separated text, each once, in its order; `"all"` is every name.

    Raises:
        InputError: no name, or one that is not in `all_names`.
    """
    if text.strip() == "all":
        return tuple(all_names)
    return check_names(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()), all_names)


def check_names(named: str | Iterable[str], all_names: Sequence[str]) -> tuple[str, ...]:
    """One name or several, as a tuple; an `InputError` for none, or one that there is not."""
    names = texts("names", named)
    unknown = [name for name in names if name not in all_names]
    if unknown or not names:
        what = f"There is no task {unknown[0]!r}" if unknown else "No task is named"
        raise InputError(f"{what}: choose all, or one or more of {', '.join(all_names)}")
    return names
