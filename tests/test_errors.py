"""Every message of the library can be looked up by a code that the source decides."""

from __future__ import annotations

from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from app.error_page import page
from app.sections.ask.callbacks import budget_of
from app.server.limits import check_method
from app.style.toasts import shown
from judgeq.cli import main
from judgeq.commands.errors import explained
from judgeq.config import Decoding, check_budget, parse_budget
from judgeq.errors import InputError
from judgeq.models.loading import load


@pytest.fixture(scope="module")
def places() -> dict[str, set[str]]:
    """The functions of each code."""
    found: dict[str, set[str]] = {}
    for each in explained():
        found.setdefault(each.code, set()).add(each.place)
    return found


def test_a_code_belongs_to_one_function(places: dict[str, set[str]]) -> None:
    assert len(places) > 200
    assert not {code: where for code, where in places.items() if len(where) > 1}


def test_every_message_says_something() -> None:
    for each in explained():
        assert each.purpose, each
        assert each.happened.strip(" ‹›…"), each


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: check_budget(0), "JQ-config-check-budget"),
        (lambda: parse_budget("much"), "JQ-config-parse-budget"),
        (lambda: Decoding(max_new_tokens=0), "JQ-config-check-at-least"),
        (lambda: load("no-such-model"), "JQ-models-loading-locate"),
        (lambda: check_method(3), "JQ-app-server-limits-check-method"),  # the demo's
        (lambda: budget_of(None), "JQ-app-sections-ask-callbacks-budget-of"),
    ],
)
def test_what_is_raised_is_in_the_list(call: Any, code: str, places: dict[str, set[str]]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the code says which
        call()
    assert caught.value.code == code
    assert code in places


def test_others_have_none() -> None:
    assert InputError("x").code == ""
    assert InputError("x").with_code == "x"


def test_the_command_line_shows_codes_and_explains_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--model", "no-such-model", "--document", "/nowhere", "--question", "?"]) == 2
    code = capsys.readouterr().err.rpartition(" ")[2].strip()
    assert main(["errors", code]) == 0
    assert "What to do: check the path" in capsys.readouterr().out
    assert main(["errors", "JQ-nothing"]) == 2
    assert "lists all of the library" in capsys.readouterr().err


def test_the_demo_links_a_message_to_its_place_on_a_page_of_its_own() -> None:
    with pytest.raises(InputError) as caught:
        check_budget(0)
    toast = shown(caught.value).message
    assert '<a href="errors#jq-config-check-budget" target="_blank">' in toast
    with start_blocking_portal() as portal:  # another thread: this one may have a loop that runs
        body = bytes(portal.call(page).body).decode()
    assert 'id="jq-config-check-budget"' in body
    assert "keep at least 1 row per KV head" in body
