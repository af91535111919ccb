"""The tutorials: every script has its notebook, stored as a reader needs it, and a clean kernel gives the same outputs.

When a result has changed and is meant to, or a script has: `python -m tests.notebooks NAME` renews the outputs.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re

import psutil
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests import notebooks
from tests.code_blocks import code
from tests.notebook_outputs import code_cells, differences, is_blank, is_close

NAMES = notebooks.names()
README = (notebooks.FOLDER / "README.md").read_text(encoding="utf-8")
MOST_BYTES = 700_000
ANSWER = re.compile(r"<details>\s*<summary>Answer</summary>\s*\n\n.+?</details>", re.DOTALL)
MACHINE = re.compile(r"/(home|root|tmp|usr|opt|work|Users|var)/|site-packages|[A-Z]:\\\\|\b0x[0-9a-f]{6,}")
"""Paths, and addresses of objects."""

each_tutorial = pytest.mark.parametrize("name", NAMES)


def markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


# As they are stored


def test_every_notebook_has_its_script() -> None:
    assert [path.stem for path in sorted(notebooks.FOLDER.glob("*.ipynb"))] == NAMES


def test_the_folder_s_readme_lists_them_in_order_by_their_titles() -> None:
    listed = dict(re.findall(r"^\| \[(.+?)\]\((\w+)\.ipynb\) \|", README, re.MULTILINE))
    titles = {notebooks.stored(name).cells[0].source.splitlines()[0].removeprefix("# "): name for name in NAMES}
    assert {title: name for title, name in listed.items() if name in NAMES} == titles
    assert list(listed.values()) == sorted(listed.values())
    assert set(NAMES) <= set(listed.values())
    assert set(re.findall(r"research\.google\.com/github/(\S+)\)", README)) == {
        f"{notebooks.repository()}/blob/main/tutorials/{name}.ipynb" for name in listed.values()
    }


@each_tutorial
def test_script_and_notebook_agree_cell_by_cell(name: str) -> None:
    def sources(notebook: NotebookNode) -> list[tuple[str, str, str, list[str]]]:
        return [(cell.id, cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]

    stored = notebooks.stored(name)
    assert sources(stored) == sources(notebooks.from_script(name))
    assert stored.metadata == notebooks.METADATA


@each_tutorial
def test_it_was_run_once_in_order_nothing_failed_and_pictures_show_something(name: str) -> None:
    """Where a page shows notebooks, no script runs."""
    cells = code_cells(notebooks.stored(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output.get("data", {}) for output in outputs]
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    assert pictures
    assert not [picture for picture in pictures if is_blank(picture)]
    assert not [data for data in shown if any("plotly" in kind for kind in data)]
    assert (notebooks.FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES, "too large to be shown"
    for output, data in zip(outputs, shown, strict=True):
        told = {kind: content for kind, content in data.items() if kind != "image/png"}
        told["text"] = output.get("text", "")
        assert not MACHINE.search(json.dumps(told, ensure_ascii=False)), "it names the machine that made it"


@each_tutorial
def test_it_opens_with_a_title_and_a_way_to_run_it_and_ends_with_exercises(name: str) -> None:
    notebook, repository = notebooks.stored(name), notebooks.repository()
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert re.search(r"\b(minutes?|seconds?)\b", first.source), "say how long it takes on two cores"
    on_colab = f"https://colab.research.google.com/github/{repository}/blob/main/tutorials/{name}.ipynb"
    assert on_colab in first.source
    installs = code_cells(notebook)[0].source
    assert 'if "google.colab" in sys.modules' in installs
    assert f"github.com/{repository}" in installs
    _, heading, exercises = markdown(notebook).partition("\n## Exercises\n")
    assert heading
    assert len(ANSWER.findall(exercises)) >= 2
    assert exercises.count("<details>") == exercises.count("</details>") == len(ANSWER.findall(exercises))


# Run anew


@pytest.mark.embedded
@pytest.mark.slow
@pytest.mark.timeout(3600)
@each_tutorial
def test_a_clean_kernel_gives_the_stored_outputs(name: str) -> None:
    """And the answers to the exercises run after them."""
    notebook = notebooks.from_script(name)
    answers = [block.text for block in code(f"tutorials/{name}.py") if not block.needs]
    shown = len(notebook.cells)
    notebook.cells += map(new_code_cell, answers)
    fresh = notebooks.executed(notebook)
    fresh.cells = fresh.cells[:shown]
    assert differences(notebooks.stored(name), fresh) == []


# What the comparison notices


def picture(*colors: str) -> NotebookNode:
    image = Image.new("RGB", (4, 4), colors[0])
    image.paste(colors[-1], (0, 0, 2, 2))
    target = io.BytesIO()
    image.save(target, "PNG")
    return new_output("display_data", {"image/png": base64.b64encode(target.getvalue()).decode()})


def printed(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


def notebook(*outputs: NotebookNode, **metadata: list[str]) -> NotebookNode:
    return new_notebook(
        cells=[new_markdown_cell("# Text"), new_code_cell("f()", outputs=list(outputs), metadata=metadata)]
    )


GOOD = printed("kept 1,204 rows, 83.6 % of 64\n"), picture("white", "black")


@pytest.mark.parametrize(
    "fresh",
    [
        printed("kept 1,204 rows,  83.6 % of 64"),
        printed("kept 1,210 rows, 83.6 % of 64"),
        printed("kept 1,204 rows, 83.5 % of 64"),
    ],
    ids=["the same", "a whole number that moved by half a hundredth", "a last digit that moved by one"],
)
def test_what_another_processor_may_change_is_no_difference(fresh: NotebookNode) -> None:
    assert differences(notebook(*GOOD), notebook(fresh, picture("red", "blue"))) == []


@pytest.mark.parametrize(
    ("fresh", "told"),
    [
        ([printed("kept 1,204 rows, 81.9 % of 64"), GOOD[1]], "83.6 has become 81.9"),
        ([printed("kept 1,204 rows, 83.6 % of 65"), GOOD[1]], "64 has become 65"),
        ([printed("lost 1,204 rows, 83.6 % of 64"), GOOD[1]], "has become 'lost"),
        ([GOOD[0]], "an output is missing: display_data image/png"),
        ([*GOOD, printed("more")], "an output is not stored"),
        ([GOOD[0], new_output("display_data", {"text/plain": "Figure()"})], "image/png has become"),
        ([GOOD[0], picture("white", "white")], "a picture is blank"),
        ([GOOD[0], new_output("error", ename="InputError", evalue="no")], "it fails: InputError: no"),
    ],
    ids=["figure", "count", "word", "missing", "new", "another kind", "blank", "error"],
)
def test_a_changed_output_is_noticed(fresh: list[NotebookNode], told: str) -> None:
    (found,) = differences(notebook(*GOOD), notebook(*fresh))
    assert found.startswith("cell 1: ")
    assert told in found


def test_an_error_is_a_difference_even_where_it_was_stored() -> None:
    failed = notebook(new_output("error", ename="InputError", evalue="no"))
    assert differences(failed, failed)


def test_numbers_of_a_timed_cell_are_free_and_its_words_are_not() -> None:
    stored = notebook(printed("4.1 s a question"), tags=["timed"])
    assert differences(stored, notebook(printed("9.7 s a question"), tags=["timed"])) == []
    assert differences(stored, notebook(printed("9.7 s an answer"), tags=["timed"]))
    assert differences(stored, notebook(printed("9.7 s a question")))


def test_the_words_of_html_are_compared_and_not_its_marks() -> None:
    def page(text: str) -> NotebookNode:
        return notebook(new_output("display_data", {"text/html": f"<style>b{{top:1px}}</style><p>{text}</p>"}))

    stored = page("the <mark class='jq-l2'>harbour</mark>, 12.4 %")
    assert differences(stored, page("the <mark class='jq-l1'>harbour</mark>, 12.5 %")) == []
    assert differences(stored, page("the <mark class='jq-l2'>lighthouse</mark>, 12.4 %"))
    assert differences(stored, page("the <mark class='jq-l2'>harbour</mark>, 14.4 %"))


@pytest.mark.parametrize(
    ("one", "other", "close"),
    [
        ("64", "64", True),
        ("64", "65", False),
        ("10,000", "10,090", True),
        ("10,000", "10,200", False),
        ("0.4", "0.5", True),
        ("0.4", "0.6", False),
        ("1.0e-05", "1.1e-05", True),
        ("1.0e-05", "1.0e-04", False),
        ("-3.0", "3.0", False),
    ],
)
def test_numbers_are_close_within_a_hundredth_and_a_last_digit(one: str, other: str, close: bool) -> None:
    assert is_close(one, other) is close


def test_a_percentage_is_rounded_even_where_it_is_a_whole_number() -> None:
    stored = notebook(printed("45% of 64 rows, 20 % of them"))
    assert differences(stored, notebook(printed("46% of 64 rows, 21 % of them"))) == []
    assert differences(stored, notebook(printed("47% of 64 rows, 20 % of them")))
    assert differences(stored, notebook(printed("45% of 65 rows, 20 % of them")))


def says(text: str, **metadata: list[str]) -> NotebookNode:
    """A notebook whose only cell prints what the model says."""
    made = notebook(printed(text), **metadata)
    made.cells[1].source = "for name, answer in answers:\n    print(name, answer.text)"
    return made


@pytest.mark.parametrize(
    "fresh",
    [
        "full 51.6 MB The code is 4719. It is\nsnapkv 2.9 MB: 471.111",
        "full 51.6 MB 4719, I think.\nsnapkv 2.9 MB: The code\n\n- is\n",
        "full 51.4 MB The code is 4719.\nsnapkv 2.9 MB: 4719",
    ],
    ids=["the same", "other words, on more lines", "better"],
)
def test_words_of_the_model_are_free_where_a_strong_answer_stays_right(fresh: str) -> None:
    stored = says("full 51.6 MB The code is 4719. It is\nsnapkv 2.9 MB: 471.111")
    assert differences(stored, says(fresh)) == []


@pytest.mark.parametrize(
    ("fresh", "told"),
    [
        ("full 51.6 MB The code is 4711.\nsnapkv 2.9 MB: 4719", "4719 is no longer said in 'full 51.6 MB"),
        ("full 51.6 MB The code is 4719.\nsnapkv 4.4 MB: 471.111", "['51.6', '2.9'] have become"),
        ("full 51.6 MB The code is 4719.", "['51.6', '2.9'] have become ['51.6']"),
    ],
    ids=["a strong answer is wrong", "rows", "a method is missing"],
)
def test_a_strong_answer_that_fails_and_other_rows_are_noticed(fresh: str, told: str) -> None:
    (found,) = differences(says("full 51.6 MB The code is 4719. It is\nsnapkv 2.9 MB: 471.111"), says(fresh))
    assert told in found


def test_words_that_follow_from_a_single_answer_are_free_where_few_are_measured() -> None:
    stored, fresh = "judgeq 64 0.0 as full 100% gap closed 33%", "judgeq 64 0.0 as full 100%"
    assert differences(notebook(printed(stored), tags=["timed"]), notebook(printed(fresh), tags=["timed"])) == []
    assert differences(notebook(printed(stored)), notebook(printed(fresh)))


def test_noise_and_what_differs_from_run_to_run_is_taken_out() -> None:
    stderr = new_output("stream", name="stderr", text="Loading: 40 %")
    bar = new_output("display_data", {notebooks.WIDGET: {}, "text/plain": "HBox()"})
    made = notebook(stderr, bar, GOOD[0], tags=["timed"])
    made.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    made.metadata["language_info"] = {"name": "python", "version": "3.11.9"}
    one, other = notebooks.tidied(made), notebooks.tidied(notebook(GOOD[0], tags=["timed"]))
    assert one == other
    assert one.cells[1].outputs == [GOOD[0]]


def test_a_kernel_is_clean_counts_from_one_draws_pictures_and_goes(chromium: str) -> None:
    draw = "from plotly.graph_objects import Figure, Scatter\nFigure(Scatter(y=[1, 3, 2]))"
    look = "import os, judgeq\nprint(sorted(name for name in dir() if name[0] != '_'), os.listdir())"
    made = new_notebook(cells=[new_code_cell(look), new_code_cell(draw)])
    before = psutil.Process().children(recursive=True)
    first, second = code_cells(notebooks.executed(made, chromium))
    assert [first.execution_count, second.execution_count] == [1, 2]
    assert first.outputs[0].text == "['In', 'Out', 'exit', 'get_ipython', 'judgeq', 'open', 'os', 'quit'] []\n"
    assert not is_blank(second.outputs[0].data["image/png"])
    now = set(psutil.Process().children(recursive=True)) - set(before)
    assert not [child for child in now if child.ppid() != os.getpid()], "kernels are forks of a process of ours"
