"""judgeq as a model of lm-evaluation-harness: every task of its zoo under an eviction method and a budget.

Importing this module makes `--model judgeq` known to lm-eval, which has no other way to find models of other packages;
`main` does so and hands over to lm-eval's own command line. Knows nothing of tasks or metrics.
"""

from __future__ import annotations

import logging
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from tqdm import tqdm

from judgeq._version import __version__
from judgeq.cache.retained import RetainedCache
from judgeq.config import DEFAULT_BUDGET, Decoding, budget_rows, parse_budget
from judgeq.errors import InputError
from judgeq.inference.appended import most_appended
from judgeq.inference.decode import Step, decode, next_logits
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill
from judgeq.inference.request import Request, reserved_positions
from judgeq.methods import Full
from judgeq.methods.parsing import method_from_text
from judgeq.models import DEFAULT_MODEL
from judgeq.models.embedded import EMBEDDED, embedded_model_path
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import checked_seed, seed64, whole

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs  # its package registers lm-eval's own models
except ImportError as error:
    raise InputError('This needs lm-eval: pip install "judgeq[benchmarks]"') from error

DEFAULT_DEVICE = "cuda:0"
"""What lm-eval passes on where no device is named."""
ARGUMENTS = ("pretrained", "method", "budget", "tokens", "quantization", "device", "max_length", "seed")
BATCHES = {"batch_size", "max_batch_size"}
"""Arguments that lm-eval passes to every model; prompts are read one by one here."""
LONGEST = 256
"""Tokens of an answer where a task says nothing, as everywhere in lm-eval."""
HONOURED = {"until", "max_gen_toks", "do_sample", "temperature", "top_p"}
WITHOUT_EFFECT = {"num_beams": 1, "repetition_penalty": 1.0}
"""Generation options that are not supported, and the values at which they change nothing."""

logger = logging.getLogger(__name__)


@register_model("judgeq")
class JudgeQLM(TemplateLM):
    """A language model that evicts after every prompt, in lm-eval's terms.

    Attributes:
        lm: the model.
        method: scores the rows.
        budget: rows per KV head, or the share of the prompt that is kept; 1.0 for the full cache.
        tokens: soft tokens, where the method asks with them or needs their profile.
        contexts, cut: contexts read so far, and how many of them lost their beginning because they were too long.
    """

    def __init__(
        self,
        pretrained: str | LanguageModel = DEFAULT_MODEL,
        *,
        method: str = "judgeq",
        budget: str | int | float = DEFAULT_BUDGET,
        tokens: str | None = None,
        quantization: str | None = None,
        device: Any = "auto",
        max_length: int | None = None,
        seed: int = 0,
        **others: Any,
    ) -> None:
        """What `--model_args` takes; lm-eval has made numbers of what looks like some.

        Args:
            pretrained: embedded name, Hub id, folder or GGUF file, or a model that is already loaded.
            method: a name with options, `judgeq:allocation=adakv`.
            budget: as `judgeq.config.parse_budget` reads it.
            tokens: folder or Hub id of soft tokens; None takes those shipped for this model.
            quantization, device: see `judgeq.models.loading.load`.
            max_length: positions to use; None = all that the model has.
            seed: of sampled answers.
            others: `BATCHES`, without effect.

        Raises:
            InputError: an unknown argument, or a value that one does not take.
            ModelError: the model cannot be had.
        """
        super().__init__()
        if unknown := sorted(set(others) - BATCHES):
            raise InputError(f"judgeq has no argument {', '.join(unknown)}; it has {', '.join(ARGUMENTS)}")
        self.label, self.method = str(method), method_from_text(str(method))
        asked = parse_budget(str(budget))
        self.budget = 1.0 if isinstance(self.method, Full) else asked
        if device == DEFAULT_DEVICE and not torch.cuda.is_available():
            device = "auto"
        if not isinstance(pretrained, LanguageModel):
            pretrained = load(str(pretrained), quantization=quantization, device=device)
        self.lm, self.tokenizer, self._device = pretrained, pretrained.tokenizer, pretrained.device
        self.precision = quantization or str(self.lm.dtype).removeprefix("torch.")
        self.tokens = SoftTokens.for_model(self.lm, tokens) if self.method.uses_soft_tokens else None
        most = self.lm.geometry.max_positions
        self._max_length = most if max_length is None else max_length
        if whole(self._max_length) is None or not 2 <= self._max_length <= most:
            raise InputError(f"max_length is {max_length!r}: give a whole number from 2 to {most}")
        self.seed, self.contexts, self.cut = seed64(checked_seed("seed", seed)), 0, 0

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: Any = None) -> JudgeQLM:
        """What lm-eval calls; `--model_args` wins over its own defaults, such as that of `--device`."""
        given = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**given, **arg_dict})

    @property
    def max_length(self) -> int:
        """Positions for a context and its answer."""
        return self._max_length

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The prefix of a text without a context."""
        return self.eot_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id

    @property
    def tokenizer_name(self) -> str:
        """Changes with the tokenizer and its chat template, for lm-eval's cache of requests."""
        return self.lm.tokenizer_hash

    def get_model_info(self) -> dict[str, Any]:
        """What a results file has in addition to the arguments."""
        return {
            "model_name": self.lm.name,
            "model_revision": self.lm.revision,
            "model_precision": self.precision,
            "model_device": str(self.device),
            "method": self.label,
            "budget": self.budget,
            "soft_tokens": self.tokens.config.recipe if self.tokens else None,
            "contexts": self.contexts,
            "contexts_cut": self.cut,
            "judgeq_version": __version__,
        }

    def apply_chat_template(self, chat_history: list[Any], add_generation_prompt: bool = True) -> str:
        """A conversation as the model's own template writes it.

        Args:
            chat_history: dicts with `role` and `content`.
            add_generation_prompt: False where the last message is the beginning of the answer.

        Raises:
            InputError: the template refuses it.
        """
        begun = not add_generation_prompt
        try:
            return self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
            )
        except TemplateError as error:
            raise InputError(
                f"The chat template of {self.lm.name} refuses the conversation ({error}): leave it out"
            ) from None

    @cached_property
    def _special(self) -> dict[str, int]:
        """Special tokens, by how they are written."""
        added = self.tokenizer.added_tokens_decoder.items()
        return {token.content: number for number, token in added if token.special}

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; special tokens in the text are read as such.

        Args:
            add_special_tokens: None adds the tokenizer's own, unless the text begins with one, as templates do.
        """
        if add_special_tokens is None:
            plain = self.tok_encode(string, add_special_tokens=False)
            add_special_tokens = not plain or plain[0] not in self._special.values()
        return self.tokenizer(string, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answers to `(context, generation options)`, each from its own evicted cache."""
        answers, before = [], self.cut
        asked: Counter[str] = Counter()
        for request in tqdm(requests, desc="judgeq: answers", disable=disable_tqdm):
            context, options = request.args
            # Another seed for each, since lm-eval repeats a request for more than one sample; not by its place, since
            # a run that resumes with lm-eval's own cache brings only what is missing.
            asked[context] += 1
            drawn = random.Random(f"{self.seed}:{asked[context]}:{context}").getrandbits(63)
            decoding = replace(decoding_of(options), seed=drawn)
            outcome = self._read(self.tok_encode(context), decoding)
            answers.append(self._write(outcome, decoding))
            self.cache_hook.add_partial("generate_until", (context, options), answers[-1])
        self._say_cut(before)
        return answers

    def _write(self, outcome: Prefill, decoding: Decoding) -> str:
        """One answer; a stop text that is a special token, and so never in the text, ends it too."""
        ends = {self._special[stop] for stop in decoding.stop if stop in self._special}
        steps: list[Step] = []
        for step in decode(self.lm, outcome.retained[0].cache, outcome.logits, decoding):
            if step.token in ends:
                return self.tokenizer.decode([each.token for each in steps], skip_special_tokens=True)
            steps.append(step)
        return "".join(step.text for step in steps)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        """Log-probability of each continuation after its evicted context, and whether it is the greedy one.

        Args:
            requests: `(texts, context ids, continuation ids)`; neighbours with one context share its prefill.
        """
        found, before = [], self.cut
        shown = tqdm(requests, desc="judgeq: continuations", disable=kwargs.get("disable_tqdm", False))
        for context, group in groupby(shown, key=lambda request: request[1]):
            asked = list(group)
            longest = max(1, *(len(continuation) for _, _, continuation in asked))
            outcome = self._read(context, Decoding(max_new_tokens=longest))
            for texts, _, continuation in asked:
                found.append(self._score(outcome.retained[0].cache.fork(), outcome.logits, continuation))
                self.cache_hook.add_partial("loglikelihood", texts, found[-1])
        self._say_cut(before)
        return found

    @torch.inference_mode()
    def _score(self, cache: RetainedCache, logits: Tensor, continuation: list[int]) -> tuple[float, bool]:
        """Token by token, as answers are written: one mask for several does not fit layers of different sizes."""
        total, greedy = 0.0, True
        for at, token in enumerate(continuation):
            if at:
                logits = next_logits(self.lm, cache, continuation[at - 1])
            chances = logits[0].float().log_softmax(-1)  # (V,)
            total += float(chances[token])
            greedy = greedy and int(chances.argmax()) == token
        return total, greedy

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Not supported."""
        raise NotImplementedError(
            "Perplexity tasks have no prompt to evict from: leave tasks of the kind loglikelihood_rolling out"
        )

    def _read(self, ids: list[int], decoding: Decoding) -> Prefill:
        """Read one context, the end of it where it is too long, and let the method keep its rows."""
        soft = most_appended(self.lm, [self.method], self.tokens.positions if self.tokens else 0)
        reserve = reserved_positions([self.method], soft, decoding.max_new_tokens)
        limit = self.max_length - reserve
        if limit < 1:
            raise InputError(
                f"Answers of {reserve:,} tokens leave no room for a prompt in {self.max_length:,}: lower max_gen_toks"
            )
        self.contexts += 1
        self.cut += len(ids) > limit
        ids = ids[-limit:] or [self.prefix_token_id]
        weights = self.tokens.weights if self.tokens else None
        plan = Plan.with_tokens(self.method, budget_rows(self.budget, len(ids)), self.tokens)
        return prefill_with_lookahead(Request(self.lm, torch.tensor([ids]), [plan], decoding, weights))

    def _say_cut(self, before: int) -> None:
        if self.cut > before:
            lost = "%d of %d contexts left no room for an answer in %d positions and lost their beginning"
            logger.warning(lost, self.cut, self.contexts, self.max_length)


def decoding_of(options: Mapping[str, Any]) -> Decoding:
    """How an answer is written, from a task's `generation_kwargs` or `--gen_kwargs`.

    Raises:
        InputError: an option that is not supported, or a bad value.
    """
    found = normalize_gen_kwargs(dict(options), LONGEST)
    asked = {name: value for name, value in found.items() if name not in HONOURED and value is not None}
    if refused := sorted(name for name in asked if asked[name] != WITHOUT_EFFECT.get(name)):
        raise InputError(
            f"Answers are written without {', '.join(refused)}: leave it out of generation_kwargs and --gen_kwargs, "
            f"which take {', '.join(sorted(HONOURED))}"
        )
    return Decoding(
        max_new_tokens=found["max_gen_toks"],
        temperature=float(found.get("temperature", 1.0)) if found["do_sample"] else 0.0,
        top_p=float(found.get("top_p", 1.0)),
        stop=tuple(stop for stop in found["until"] if stop),
    )


def main(arguments: Sequence[str]) -> None:
    """lm-eval's own command line, in which `--model judgeq` is known."""
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    sys.argv = ["lm-eval", *arguments]  # the only place where it looks for them
    cli = HarnessCLI()
    parsed = cli.parse_args()
    if getattr(parsed, "model", None) == "judgeq":
        name = (parsed.model_args or {}).get("pretrained", DEFAULT_MODEL)
        # tasks that make their own texts, such as RULER's, load a tokenizer by that name
        if name in EMBEDDED:
            parsed.metadata = {"tokenizer": str(embedded_model_path(name)), **(parsed.metadata or {})}
    cli.execute(parsed)
