"""Programs: a pinned schema, and every endpoint called by the real `gradio_client` and by a real MCP client.

`python -m tests.test_endpoints` writes the schema anew, after a change that is meant.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from app.server.host import ModelHost
from app.server.limits import Limits
from app.ui import build
from judgeq.methods import question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.retention import RetentionMap
from tests.server import DOCUMENT, QUESTION, served, tiny_host

SCHEMA = Path(__file__).with_name("data") / "endpoints.json"
ENDPOINTS = ("ask", "compare", "retained", "calibrate", "count_tokens", "models_and_methods")


@pytest.fixture(scope="module")
def url(lm: LanguageModel) -> Iterator[str]:
    with served(tiny_host(lm)) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    made = Client(url, verbose=False)
    yield made
    made.close()


def in_session(url: str, act: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    """What `act` returns inside an MCP session of its own."""

    async def go() -> Any:
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await act(session)

    with ThreadPoolExecutor(1) as apart:  # a browser's tests leave an event loop running in this thread
        return apart.submit(asyncio.run, go()).result()


def tool(url: str, name: str, **arguments: Any) -> Any:
    """The value that a tool returns; an `AppError` where it refuses."""
    answer = in_session(url, lambda session: session.call_tool(name, arguments))
    if answer.isError:
        raise AppError(answer.content[0].text)
    return ast.literal_eval(answer.content[0].text)  # Gradio writes the value as Python does


def schema() -> dict[str, Any]:
    """Names, parameters with types and defaults, returns and descriptions of all endpoints."""
    found = build(ModelHost("none")).get_api_info()["named_endpoints"]
    return {
        name: {
            "description": endpoint["description"],
            "parameters": {
                each["parameter_name"]: {
                    "type": each["type"],
                    **({"default": each["parameter_default"]} if each["parameter_has_default"] else {}),
                }
                for each in endpoint["parameters"]
            },
            "returns": [each["type"] for each in endpoint["returns"]],
        }
        for name, endpoint in found.items()
    }


def test_the_schema_is_the_one_that_programs_rely_on() -> None:
    pinned = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema() == pinned, "if the change is meant: python -m tests.test_endpoints"
    assert {f"/{name}" for name in ENDPOINTS} <= set(pinned)


def test_tools_are_the_endpoints_with_every_parameter_explained(url: str) -> None:
    tools = {each.name: each for each in in_session(url, lambda session: session.list_tools()).tools}
    endpoints = schema()
    assert {f"/{name}" for name in tools} == set(endpoints)
    for name, each in tools.items():
        assert endpoints[f"/{name}"]["description"] in each.description
        assert "Returns:" in each.description
        properties = each.inputSchema["properties"]
        assert set(properties) == set(endpoints[f"/{name}"]["parameters"])
        for parameter in properties.values():
            assert parameter["description"]
        if "method" in properties:
            assert all(method in properties["method"]["description"] for method in question_methods())


Call = Callable[..., Any]


@pytest.fixture(params=["gradio_client", "mcp"])
def call(request: pytest.FixtureRequest, url: str, client: Client) -> Call:
    """Call an endpoint with either client."""
    if request.param == "mcp":
        return lambda name, **arguments: tool(url, name, **arguments)
    return lambda name, **arguments: client.predict(**arguments, api_name=f"/{name}")


def test_one_question_is_answered_under_a_budget(call: Call) -> None:
    answer = call("ask", document=DOCUMENT, question=QUESTION, method="snapkv", budget="10%", max_new_tokens=3)
    assert answer["method"] == "snapkv"
    assert answer["budget"] == round(answer["prompt_tokens"] / 10)
    assert answer["finish"] == "length"
    assert answer == answer | json.loads(json.dumps(answer))


@pytest.mark.parametrize(
    ("budget", "rows"),
    [(24, 24), ("24", 24), (24.0, 24), (" 24 ", 24), (0.1, None), ("0.1", None), ("10%", None)],
)
def test_a_budget_is_a_number_or_a_text(call: Call, budget: Any, rows: int | None) -> None:
    answer = call("ask", document=DOCUMENT, question=QUESTION, method="snapkv", budget=budget, max_new_tokens=1)
    assert answer["budget"] == (rows or round(answer["prompt_tokens"] / 10))


def test_other_values_may_be_written_as_texts_too(call: Call) -> None:
    given = {"document": DOCUMENT, "question": QUESTION, "budget": 24}
    plain = call("compare", **given, methods="snapkv,full", question_first=True, max_new_tokens=3)
    written = call("compare", **given, methods=["snapkv", "full"], question_first="True", max_new_tokens="3")
    assert [one["answer"] for one in plain] == [one["answer"] for one in written]
    assert [one["prompt_tokens"] for one in plain] == [one["prompt_tokens"] for one in written]


def test_the_schema_says_what_is_taken(url: str) -> None:
    tools = {each.name: each for each in in_session(url, lambda session: session.list_tools()).tools}
    taken = {
        name: {kind["type"] for kind in value.get("anyOf", [value])}
        for name, value in tools["compare"].inputSchema["properties"].items()
    }
    assert taken["budget"] == {"integer", "number", "string"}
    assert taken["max_new_tokens"] == {"integer", "string"}
    assert taken["question_first"] == {"boolean", "string"}
    assert taken["methods"] == {"string", "array"}


def test_several_methods_answer_in_the_order_asked_for(call: Call) -> None:
    answers = call(
        "compare",
        document=DOCUMENT,
        question=QUESTION,
        methods="snapkv, full,judgeq",
        budget="24",
        max_new_tokens=3,
    )
    assert [one["method"] for one in answers] == ["snapkv", "full", "judgeq"]
    assert answers[0]["kept_rows"] == [[24, 24]] * 4


@pytest.mark.parametrize("questions", ["How tall is it?\nIts keeper is called …", ["How tall is it?", "Who …"]])
def test_a_calibration_says_how_small_is_safe(call: Call, questions: Any) -> None:
    found = call("calibrate", document=DOCUMENT, questions=questions, budgets="50%,0.1", risk="0.5", max_new_tokens=3)
    assert [point["budget"] for point in found["points"]] == [0.5, 0.1]
    assert found["questions"] == 2
    assert found["risk"] == 0.5
    assert found["sentence"]
    assert found == found | json.loads(json.dumps(found))


def test_the_map_says_which_tokens_stay_and_the_library_reads_it(call: Call) -> None:
    found = RetentionMap.from_json(call("retained", document=DOCUMENT, question=QUESTION, budget="20"))
    assert found.method == "judgeq"
    assert found.document_text == DOCUMENT.strip()
    assert (found.kept_rows == 20).all()


def test_tokens_are_counted_as_a_run_counts_them(call: Call) -> None:
    counted = call("count_tokens", document=DOCUMENT, question=QUESTION)
    answer = call("ask", document=DOCUMENT, question=QUESTION, method="full", max_new_tokens=1)
    assert counted == {"tokens": answer["prompt_tokens"], "limit": 4096, "fits": True}
    long = call("count_tokens", document=DOCUMENT * 40, question=QUESTION)
    assert long["tokens"] > 4096
    assert not long["fits"]


def test_a_program_learns_what_it_may_ask_for(call: Call) -> None:
    told = call("models_and_methods")
    assert told["model"] == "tiny-llama"
    assert (told["positions"], told["layers"], told["kv_heads"]) == (4096, 4, 2)
    assert set(told["methods"]) == set(question_methods())
    assert told["limits"]["max_new_tokens"] == Limits().answer
    for name in ("full", "keynorm"):
        assert call("ask", document=DOCUMENT, question=QUESTION, method=name, max_new_tokens=1)["method"] == name


def test_while_it_waits_a_program_hears_its_place_and_the_last_value_counts(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.endpoints.TICK", 0.01)
    host = tiny_host(lm)
    with served(host) as url:
        client = Client(url, verbose=False)
        for name in ("ask", "compare", "retained"):
            with host.turn():
                job = client.submit(DOCUMENT, QUESTION, api_name=f"/{name}")
                while len(job.outputs()) < 3:
                    assert not job.done()
            result = job.result(60)
            first = job.outputs()[0][0] if name == "compare" else job.outputs()[0]
            assert first["status"] in ("loading", "waiting")
            assert first["place"] == 1
            assert "status" not in str(result)
        client.close()
        answer = tool(url, "ask", document=DOCUMENT, question=QUESTION, max_new_tokens=100)
        assert "answer" in answer


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ask", {"document": " "}, "document is empty"),
    ("ask", {"question": ""}, "question is empty"),
    ("ask", {"document": ["a", "list"]}, "document is not a text"),
    (
        "ask",
        {"document": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
        "document is not a text",
    ),
    ("ask", {"document": None}, "document is not a text"),
    ("ask", {"document": "x" * 10_000_000}, "10,000,000 characters"),
    ("ask", {"question": "x" * 10_001}, "10,001 characters"),
    ("ask", {"method": "magic"}, "There is no method 'magic'"),
    ("ask", {"method": "m" * 100_000}, "named by a short text"),
    ("ask", {"method": ["full"]}, "named by a short text"),
    ("ask", {"budget": "0"}, "at least 1 row"),
    ("ask", {"budget": "-3"}, "at least 1 row"),
    ("ask", {"budget": "nan"}, "budget is a share of nan"),
    ("ask", {"budget": "inf"}, "budget is a share of inf"),
    ("ask", {"budget": "much"}, "not a number"),
    ("ask", {"budget": "9" * 30}, "more than 1,000,000 rows"),
    ("ask", {"budget": "9" * 100_000}, "neither a number nor a short text"),
    ("ask", {"budget": [128]}, "neither a number nor a short text"),
    ("ask", {"budget": True}, "neither a number nor a short text"),
    ("ask", {"max_new_tokens": 10**9}, "from 1 to 256"),
    ("ask", {"max_new_tokens": 0}, "from 1 to 256"),
    ("ask", {"max_new_tokens": 2.5}, "not a whole number"),
    ("ask", {"max_new_tokens": "2.5"}, "not a whole number"),
    ("ask", {"max_new_tokens": "many"}, "not a whole number"),
    ("ask", {"question_first": "yes"}, "neither true nor false"),
    ("compare", {"methods": ""}, "No method is named"),
    ("compare", {"methods": "full,full"}, "named twice"),
    ("compare", {"methods": "full," * 1000}, "neither a list nor a short text"),
    ("compare", {"methods": ["full"] * 1000}, "neither a list nor a short text"),
    ("compare", {"methods": {"full": 1}}, "neither a list nor a short text"),
    ("compare", {"methods": []}, "No method is named"),
    ("compare", {"methods": ["full", 7]}, "named by a short text"),
    ("retained", {"method": "../etc"}, "There is no method"),
    ("calibrate", {"document": " "}, "document is empty"),
    ("calibrate", {"document": None}, "document is not a text"),
    ("calibrate", {"questions": ""}, "There are no questions"),
    ("calibrate", {"questions": [1]}, "neither a text nor a list of texts"),
    ("calibrate", {"questions": "Who?\n" * 201}, "201 questions are too many"),
    ("calibrate", {"questions": "x" * 10_001}, "10,001 characters"),
    ("calibrate", {"method": "full"}, "The full cache loses nothing"),
    ("calibrate", {"method": "magic"}, "There is no method 'magic'"),
    ("calibrate", {"risk": "much"}, "risk is not a number"),
    ("calibrate", {"risk": "nan"}, "risk is nan"),
    ("calibrate", {"confidence": 1}, "confidence is 1"),
    ("calibrate", {"budgets": "0.1,64"}, "give one kind"),
    ("calibrate", {"budgets": ",".join(["1"] * 21)}, "neither a list nor a short text"),
    ("calibrate", {"budgets": []}, "neither a list nor a short text"),
    ("calibrate", {"budgets": ["9" * 100_000]}, "neither a number nor a short text"),
    ("calibrate", {"max_new_tokens": 10**9}, "from 1 to 256"),
    ("count_tokens", {"document": ["a"]}, "not a text"),
    ("count_tokens", {"document": "x" * 2_000_000}, "2,000,000 characters"),
]


def asked(name: str) -> str:
    """How an endpoint calls what is asked."""
    return "questions" if name == "calibrate" else "question"


@pytest.mark.parametrize(("name", "changes", "said"), REFUSED)
def test_values_that_mean_nothing_are_refused_with_a_sentence(
    client: Client, name: str, changes: dict[str, Any], said: str
) -> None:
    given = {"document": DOCUMENT, asked(name): QUESTION, **changes}
    with pytest.raises(AppError) as caught:
        client.predict(**given, api_name=f"/{name}")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400, "what came in is not sent back"


@pytest.mark.parametrize(("name", "changes", "said"), [each for each in REFUSED if len(str(each[1])) < 100][::3])
def test_tools_refuse_the_same(url: str, name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AppError, match=f"{re.escape(said)}|is not of type|is not valid under any"):
        tool(url, name, **{"document": DOCUMENT, asked(name): QUESTION, **changes})


def test_a_path_is_a_text_like_any_other(call: Call) -> None:
    found = RetentionMap.from_json(call("retained", document="/etc/passwd", question=QUESTION))
    assert found.document_text == "/etc/passwd"


@pytest.mark.parametrize("name", ["ask", "compare", "retained"])
def test_what_is_too_long_is_told_nothing_that_a_program_cannot_do(client: Client, name: str) -> None:
    with pytest.raises(AppError, match="shorten the document") as caught:
        client.predict(DOCUMENT * 100, QUESTION, api_name=f"/{name}")
    assert "truncate" not in str(caught.value)


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
