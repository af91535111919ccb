"""judgeq inside lm-evaluation-harness: the same answers as outside of it, and its own command with our model."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from transformers import PreTrainedTokenizerFast

import judgeq
from judgeq.cli import main
from judgeq.config import Decoding
from judgeq.errors import InputError
from judgeq.inference.decode import decode
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.integrations import lm_eval as lm_eval_model
from judgeq.integrations.lm_eval import JudgeQLM, decoding_of
from judgeq.methods import Full
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT, MakeLM
from tests.reduced import indexed

DOCUMENT = TEXT.strip()
QUESTIONS = {"How tall is the lighthouse?": "31", "What must a ship name?": "captain"}
SNAPKV = "snapkv:window=4:recent=4"
SHORT = Decoding(max_new_tokens=8)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with two tasks of one's own: `harbour` is answered in words, `choices` by the likeliest one."""
    rows = [
        {"document": DOCUMENT, "question": question, "answer": answer, "choices": [answer, "the moon"]}
        for question, answer in QUESTIONS.items()
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shared = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "rows.jsonl"}}}}}
test_split: test
doc_to_text: "{{{{document}}}}\\n\\n{{{{question}}}}"
"""
    generation = "{do_sample: false, max_gen_toks: 8, until: []}"
    (tmp_path / "harbour.yaml").write_text(
        f"task: harbour\noutput_type: generate_until\ndoc_to_target: answer\ngeneration_kwargs: {generation}\n"
        f"metric_list: [{{metric: exact_match}}]\n{shared}",
        encoding="utf-8",
    )
    (tmp_path / "choices.yaml").write_text(
        f"task: choices\noutput_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: 0\n{shared}",
        encoding="utf-8",
    )
    return tmp_path


@pytest.fixture(autouse=True)
def own_data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the user's cache of data sets."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def evaluate(model: JudgeQLM, tasks: Path, task: str, **options: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = simple_evaluate(model, tasks=[task], task_manager=manager, bootstrap_iters=0, **options)
    assert results is not None
    return results


def responses(results: dict[str, Any], task: str) -> list[Any]:
    """What the model gave for each document, in their order."""
    samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
    return [[answer for (answer,) in sample["resps"]] for sample in samples]


def answers_of_ask(lm: LanguageModel, **options: Any) -> list[str]:
    return [judgeq.ask(lm, DOCUMENT, question, decoding=SHORT, **options).text for question in QUESTIONS]


def asking(*contexts: str, **options: Any) -> list[Instance]:
    given = {"max_gen_toks": 8, "until": [], **options}
    return [Instance("generate_until", {}, (context, given), 0) for context in contexts]


def choosing(*pairs: tuple[str, str]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, 0) for pair in pairs]


def continued(lm: LanguageModel, context: str, decoding: Decoding = SHORT, ids: Any = None) -> str:
    """What the full cache writes behind a text."""
    ids = lm.tokenizer(context, return_tensors="pt")["input_ids"] if ids is None else ids
    outcome = prefill(lm, ids, [Plan(Full(), ids.shape[1])])
    steps = decode(lm, outcome.retained[0].cache, outcome.logits, decoding)
    return "".join(step.text for step in steps)


def plainly(lm: LanguageModel, context: str, continuation: str) -> tuple[float, bool]:
    """Log-probability from one pass over everything, without any cache."""
    first = len(lm.tokenizer(context)["input_ids"])
    ids = lm.tokenizer(context + continuation, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        chances = lm.model(input_ids=ids).logits[0].log_softmax(-1)[first - 1 : -1]  # (tokens, V)
    wanted = ids[0, first:]
    found = chances.gather(1, wanted[:, None]).sum()
    return float(found), bool((chances.argmax(-1) == wanted).all())


# Same answers


def test_lm_eval_finds_the_model_by_its_name_and_still_its_own() -> None:
    assert get_model("judgeq") is JudgeQLM
    assert get_model("hf").__name__ == "HFLM"


def test_a_task_gets_the_answers_of_ask_and_results_say_what_was_measured(
    lm: LanguageModel, tmp_path: Path, tasks: Path
) -> None:
    soft = SoftTokens.initialise(lm, torch.arange(40, 44))
    folder = soft.save_pretrained(tmp_path / "judge")
    found = []
    for given, options in (
        ({"method": "full"}, {"method": "full"}),
        ({"method": SNAPKV, "budget": "25%"}, {"method": method_from_text(SNAPKV), "budget": 0.25}),
        ({"tokens": str(folder), "budget": 16}, {"tokens": soft, "budget": 16}),
    ):
        found.append(evaluate(JudgeQLM(lm, **given), tasks, "harbour", apply_chat_template=True))
        expected = answers_of_ask(lm, **options)
        assert responses(found[-1], "harbour") == [[text] for text in expected]
    full, few, _ = found
    assert responses(full, "harbour") != responses(few, "harbour")
    config = few["config"]
    assert (config["method"], config["budget"], config["model_name"]) == (SNAPKV, 0.25, "tiny-llama")
    assert (config["contexts"], config["contexts_cut"]) == (2, 0)
    assert (config["model_device"], config["model_precision"]) == ("cpu", "float32")


def test_the_full_cache_continues_plain_text(lm: LanguageModel) -> None:
    found = JudgeQLM(lm, method="full").generate_until(asking(TEXT, TEXT * 2))
    assert found == [continued(lm, TEXT), continued(lm, TEXT * 2)]


# How an answer is written


def test_an_answer_ends_before_the_first_stop_text(lm: LanguageModel) -> None:
    model = JudgeQLM(lm, method="full")
    (whole,) = model.generate_until(asking(TEXT))
    stop = whole[3:5]
    assert model.generate_until(asking(TEXT, until=["never there", stop])) == [whole.split(stop)[0]]
    assert model.generate_until(asking(TEXT, until=stop)) == [whole.split(stop)[0]]


def test_a_stop_text_that_is_a_special_token_ends_the_answer(make_lm: MakeLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = make_lm()
    ids = lm.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    outcome = prefill(lm, ids, [Plan(Full(), ids.shape[1])])
    steps = list(decode(lm, outcome.retained[0].cache, outcome.logits, SHORT))
    assert steps[4].token not in [step.token for step in steps[:4]]
    model = JudgeQLM(lm, method="full")
    monkeypatch.setitem(model._special, "<|over|>", steps[4].token)
    text = lm.tokenizer.decode([step.token for step in steps[:4]])
    assert model.generate_until(asking(TEXT, until=["<|over|>"])) == [text]


def test_samples_differ_from_request_to_request_and_depend_on_their_seed_alone(lm: LanguageModel) -> None:
    sampled = asking(TEXT, TEXT, do_sample=True, temperature=2.0, top_p=0.95)
    first, second = JudgeQLM(lm, method="full", seed=5).generate_until(sampled)
    assert first != second
    assert JudgeQLM(lm, method="full", seed=5).generate_until(sampled) == [first, second]
    options = {"do_sample": True, "temperature": 2.0}
    both = JudgeQLM(lm, method="full").generate_until(asking(TEXT, TEXT[:80], **options))
    left = JudgeQLM(lm, method="full").generate_until(asking(TEXT[:80], **options))
    assert both[1:] == left


def test_generation_options_mean_what_they_mean_in_lm_eval_or_are_refused() -> None:
    assert decoding_of({}) == Decoding(max_new_tokens=256)
    assert decoding_of({"max_new_tokens": 9, "until": "\n", "num_beams": 1}) == Decoding(9, stop=("\n",))
    assert decoding_of({"do_sample": False, "temperature": 0.7}).temperature == 0
    assert decoding_of({"do_sample": True}).temperature == 1
    assert decoding_of({"temperature": 0.7, "top_p": 0.9}) == Decoding(256, temperature=0.7, top_p=0.9)
    with pytest.raises(InputError, match=r"without num_beams, top_k: .* max_gen_toks"):
        decoding_of({"num_beams": 4, "top_k": 3, "until": []})


def test_plain_text_gets_the_tokenizers_special_tokens(make_lm: MakeLM) -> None:
    from tokenizers.processors import TemplateProcessing

    lm = make_lm()
    lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", 1)]
    )
    model = JudgeQLM(lm, method="full")
    templated = model.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert model.tok_encode("Hello")[0] == 1
    assert model.tok_encode("Hello", add_special_tokens=False)[0] != 1
    assert model.tok_encode(templated)[:2] == [1, *model.tok_encode("user", add_special_tokens=False)][:2]


def test_a_begun_answer_is_continued(lm: LanguageModel) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Answer:"}]
    model = JudgeQLM(lm, method="full")
    assert model.apply_chat_template(turns, add_generation_prompt=False).endswith("assistant\nAnswer:")


# What does not fit


def test_too_long_a_context_loses_its_beginning(lm: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    model = JudgeQLM(lm, method="full", max_length=40)
    ids = lm.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with caplog.at_level(logging.WARNING):
        (answer, _) = model.generate_until(asking(TEXT, "The harbour"))
    assert answer == continued(lm, "", ids=ids[:, -32:])
    assert "1 of 2 contexts" in caplog.text
    assert model.get_model_info()["contexts_cut"] == 1


def test_soft_tokens_need_room_too(lm: LanguageModel, tmp_path: Path) -> None:
    soft = SoftTokens.initialise(lm, torch.arange(40, 60)).save_pretrained(tmp_path / "judge")
    asked = asking(TEXT[:90])  # 49 tokens
    models = [JudgeQLM(lm, method="full", max_length=60), JudgeQLM(lm, tokens=str(soft), max_length=60)]
    for model in models:
        model.generate_until(asked)
    assert [model.cut for model in models] == [0, 1]


def test_an_answer_longer_than_all_positions_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="lower max_gen_toks"):
        JudgeQLM(lm, method="full", max_length=8).generate_until(asking("The harbour"))


# Likelihoods


def test_the_full_cache_scores_continuations_as_the_plain_model_does(each_lm: LanguageModel) -> None:
    greedy = continued(each_lm, TEXT.strip(), Decoding(max_new_tokens=3))
    pairs = [(TEXT.strip(), " It is tall."), (TEXT.strip(), greedy), ("The harbour", " lies")]
    found = JudgeQLM(each_lm, method="full").loglikelihood(choosing(*pairs), disable_tqdm=True)
    for (total, is_greedy), pair in zip(found, pairs, strict=True):
        expected, was_greedy = plainly(each_lm, *pair)
        assert total == pytest.approx(expected, abs=1e-3)
        assert is_greedy == was_greedy


def test_continuations_are_scored_from_what_was_kept(lm: LanguageModel) -> None:
    """Heads with budgets of their own too; the first token is chosen before anything is evicted."""
    pair = (DOCUMENT, " It is tall.")
    methods = ("full", SNAPKV, f"{SNAPKV}:allocation=adakv")
    totals = [JudgeQLM(lm, method=name, budget=12).loglikelihood(choosing(pair))[0][0] for name in methods]
    assert len({round(total, 3) for total in totals}) == 3
    first = (DOCUMENT, " ")
    full, few = (JudgeQLM(lm, method=name, budget=12).loglikelihood(choosing(first)) for name in methods[:2])
    assert full[0][0] == pytest.approx(few[0][0], abs=1e-4)


def test_neighbours_share_a_prefill(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = JudgeQLM(lm, method=SNAPKV, budget=12)
    pairs = [(DOCUMENT, " It is tall."), (DOCUMENT, " the moon"), ("The harbour", " lies")]
    alone = [model.loglikelihood(choosing(pair))[0] for pair in pairs]
    model.contexts = 0
    assert model.loglikelihood(choosing(*pairs)) == alone
    assert model.contexts == 2


def test_a_choice_is_the_likeliest_continuation(lm: LanguageModel, tasks: Path) -> None:
    results = evaluate(JudgeQLM(lm, method="full"), tasks, "choices")
    pairs = zip(responses(results, "choices"), QUESTIONS.items(), strict=True)
    for (right, wrong), (question, answer) in pairs:
        context = f"{DOCUMENT}\n\n{question}"
        assert right[0] == pytest.approx(plainly(lm, context, f" {answer}")[0], abs=1e-3)
        assert wrong[0] == pytest.approx(plainly(lm, context, " the moon")[0], abs=1e-3)


def test_an_empty_context_is_read_as_the_beginning_of_a_text(lm: LanguageModel) -> None:
    model = JudgeQLM(lm, method="full")
    (found,) = model.loglikelihood(choosing(("", "The harbour")))
    assert found[0] == pytest.approx(plainly(lm, "<|start|>", "The harbour")[0], abs=1e-3)
    assert model.generate_until(asking("")) == [continued(lm, "<|start|>")]


def test_perplexity_is_refused_in_a_sentence(lm: LanguageModel) -> None:
    with pytest.raises(NotImplementedError, match="no prompt to evict from"):
        JudgeQLM(lm, method="full").loglikelihood_rolling(choosing((TEXT, "")))


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": "snapkv"}, "no argument methods; it has pretrained, method"),
        ({"method": "snap"}, "There is no method 'snap'"),
        ({"method": "snapkv:rows=3"}, "no option 'rows'"),
        ({"method": 3}, "There is no method '3'"),
        ({"budget": "many"}, "budget 'many' is not a number"),
        ({"budget": 0}, "keep at least 1 row"),
        ({"budget": 1.5}, "a share above 0"),
        ({"max_length": 5000}, "a whole number from 2 to 4096"),
        ({"max_length": "long"}, "a whole number from 2 to 4096"),
    ],
)
def test_bad_arguments_are_refused(lm: LanguageModel, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        JudgeQLM(lm, **{"method": "full", **arguments})


def test_lm_evals_own_device_and_batch_size_do_no_harm(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make_lm: MakeLM
) -> None:
    make_lm().model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    given = {"pretrained": str(tmp_path / "model"), "method": SNAPKV, "budget": 0.25, "device": "cpu"}
    more = {"batch_size": 1, "max_batch_size": None, "device": "nowhere"}
    model = JudgeQLM.create_from_arg_obj(given, more)
    assert str(model.device) == "cpu"
    assert model.budget == 0.25
    text = f"pretrained={given['pretrained']},method=full,budget=64"
    assert JudgeQLM.create_from_arg_string(text, {"device": "cpu"}).budget == 1.0
    if not torch.cuda.is_available():  # lm-eval's default, whatever the machine has
        assert str(JudgeQLM.create_from_arg_string(text, {"device": "cuda:0"}).device) == "cpu"


def test_tasks_find_an_embedded_models_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Any] = []
    monkeypatch.setattr("sys.argv", ["judgeq"])
    monkeypatch.setattr("lm_eval._cli.HarnessCLI.execute", lambda self, parsed: ran.append(parsed.metadata))
    monkeypatch.setattr(lm_eval_model, "embedded_model_path", lambda name: tmp_path / name)
    lm_eval_model.main(["--model", "judgeq", "--tasks", "x", "--metadata", "max_seq_lengths=[512]"])
    lm_eval_model.main(["--model", "judgeq", "--model_args", "pretrained=org/name", "--tasks", "x"])
    assert ran == [{"tokenizer": str(tmp_path / "smollm2-135m"), "max_seq_lengths": [512]}, None]


def test_without_lm_eval_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, lm_eval_model.__name__)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(InputError, match="needs lm-eval: pip install"):
        importlib.import_module(lm_eval_model.__name__)


# The command


def test_the_command_evaluates_a_model_and_writes_results(
    folder: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        *("--model", "judgeq", "--model_args", f"pretrained={folder},method={SNAPKV},budget=24"),
        *("--tasks", "harbour", "--include_path", str(tasks), "--apply_chat_template", "--log_samples"),
        *("--device", "cpu", "--output_path", str(tasks / "results")),
    ]
    monkeypatch.setattr(sys, "argv", ["judgeq"])
    monkeypatch.setattr(TaskIndex, "build", staticmethod(indexed))
    assert main(["lm-eval", *arguments]) == 0
    (file,) = (tasks / "results").rglob("results_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert "exact_match,none" in results["results"]["harbour"]
    assert (results["config"]["method"], results["config"]["budget"]) == (SNAPKV, 24)
    (samples,) = (tasks / "results").rglob("samples_harbour_*.jsonl")
    written = [json.loads(line)["resps"][0][0] for line in samples.read_text("utf-8").splitlines()]
    assert written == answers_of_ask(judgeq.load(str(folder)), method=SNAPKV, budget=24)
