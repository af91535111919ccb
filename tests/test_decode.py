"""Writing answers: steps, sampling, stop texts, incomplete characters."""

from __future__ import annotations

import torch

from judgeq.config import Decoding
from judgeq.inference.decode import choose, decode
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import Full
from judgeq.models.language_model import LanguageModel


def write(lm: LanguageModel, decoding: Decoding) -> list:
    ids = torch.randint(3, 300, (1, 30), generator=torch.Generator().manual_seed(3))
    outcome = prefill(lm, ids, [Plan(Full(), 30)])
    return list(decode(lm, outcome.retained[0].cache, outcome.logits, decoding))


def test_a_seed_repeats_a_sampled_answer(lm: LanguageModel) -> None:
    def tokens(seed: int) -> list[int]:
        return [step.token for step in write(lm, Decoding(12, temperature=2.0, seed=seed))]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_sampling_follows_the_distribution_and_its_nucleus() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = [choose(logits, Decoding(temperature=1.0, top_p=0.7), generator) for _ in range(600)]
    assert set(drawn) == {
        0,
        1,
    }  # 0.6 is not yet 0.7, so the second belongs to the nucleus, the third does not
    assert abs(drawn.count(0) / 600 - 2 / 3) < 0.08
    assert {choose(logits, Decoding(temperature=1.0, top_p=0.5), generator) for _ in range(50)} == {0}


def test_the_last_step_says_why_it_is_the_last(lm: LanguageModel) -> None:
    steps = write(lm, Decoding(max_new_tokens=5))
    assert [step.finish for step in steps[:-1]] == [None] * (len(steps) - 1)
    assert steps[-1].finish == ("end" if steps[-1].token in lm.eos_ids else "length")
    assert [step.index for step in steps] == list(range(len(steps)))


def test_the_pieces_are_the_text(lm: LanguageModel) -> None:
    length = 0
    for seed in range(8):
        steps = write(lm, Decoding(max_new_tokens=30, temperature=1.5, seed=seed))
        text = "".join(step.text for step in steps)
        whole = lm.tokenizer.decode([step.token for step in steps], skip_special_tokens=True)
        assert whole.rstrip("\ufffd") == text.rstrip("\ufffd")  # a character that never became whole is left out
        length += len(text)
    assert length > 60


def test_a_stop_text_ends_the_answer_and_is_cut_off(lm: LanguageModel) -> None:
    free = "".join(step.text for step in write(lm, Decoding(30, temperature=1.5, seed=5)))
    stop = free[6:9]
    steps = write(lm, Decoding(30, temperature=1.5, seed=5, stop=(stop,)))
    assert "".join(step.text for step in steps) == free[: free.index(stop)]
    assert steps[-1].finish == "stop"


def test_a_stop_text_that_never_comes_changes_nothing(lm: LanguageModel) -> None:
    free = "".join(step.text for step in write(lm, Decoding(30, temperature=1.5, seed=5)))
    last = free[-1]
    steps = write(lm, Decoding(30, temperature=1.5, seed=5, stop=(last + "never",)))
    assert "".join(step.text for step in steps) == free
