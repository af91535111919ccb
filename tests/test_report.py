"""Reports: what is read, what is said about it, tables to the letter, figures' numbers, and a page that is safe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from judgeq.cli import main
from judgeq.errors import InputError
from judgeq.evaluation.report import (
    ResultFile,
    draw_layers,
    draw_needles,
    draw_scores,
    read_results,
    to_html,
    to_markdown,
)
from judgeq.evaluation.report.blocks import blocks_of, moves_of, parts_of
from judgeq.evaluation.report.figures import budget_curves, layer_curves, moved_points, needle_heatmap
from judgeq.evaluation.report.paper import PUBLISHED
from judgeq.evaluation.report.read import results_from
from judgeq.evaluation.report.render import escaped, table_text
from judgeq.evaluation.report.styles import styles_of
from judgeq.evaluation.report.summary import summary_of, warnings_of
from judgeq.evaluation.report.tables import (
    gap_table,
    lead_table,
    moved_table,
    score_table,
    task_table,
    task_tables,
)
from judgeq.evaluation.report.words import budget_title, method_title, points

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "data" / "results"


def result(name: str) -> ResultFile:
    return read_results(RESULTS / f"{name}.json")


RULER, NIAH, RATES = (blocks_of(result(name))[0] for name in ("ruler", "niah", "hit_rate"))


def raw(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


# Reading


def test_older_files_lack_fields_that_the_names_of_tasks_give() -> None:
    file = read_results(ROOT / "assets" / "results" / "answers.json")
    block = blocks_of(file)[0]
    assert (block.benchmark, block.lengths, block.per) == ("facts-led", [1000, 2000], 1000)
    assert {row.part for row in file.rows} == {"", "first", "last"}
    average = block.average("snapkv", 0.064)
    assert average.score == pytest.approx((0.5 + 0.625) / 2)
    assert (average.tasks, average.n, average.interval) == (2, 32, None)


def test_question_first_is_a_block_of_its_own_and_an_average_is_the_files() -> None:
    last, first = blocks_of(result("ruler"))
    assert (last.question_first, first.question_first) == (False, True)
    assert [row.task for row in last.tasks()] == ["ruler/niah_single_1@1024", "ruler/cwe@1024"]
    average = last.average("judgeq", 64)
    assert (average.score, average.interval) == (0.5, (0.45, 0.55))


def test_a_method_that_lacks_a_task_has_no_average() -> None:
    assert NIAH.average("snapkv", 64, 1024) is None
    assert NIAH.average("snapkv", 64) is None
    assert NIAH.average("judgeq", 64) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.pop("rows"), "rows: field required"),
        (lambda value: value.update(rows=[]), "rows: tuple should have at least 1 item"),
        (lambda value: value.pop("model"), "model: field required"),
        (lambda value: value.update(model=" "), "model: this should be text that is not empty"),
        (lambda value: value["rows"].__setitem__(1, 5), "row 2: input should be a valid dictionary"),
        (lambda value: value["rows"][0].pop("method"), "row 1, method: field required"),
        (lambda value: value["rows"][0].update(score=None), "row 1, score: field required"),
        (lambda value: value["rows"][0].update(score=True), "row 1, score: input should be a valid number"),
        (lambda value: value["rows"][0].update(score=float("nan")), "score: input should be a finite number"),
        (lambda value: value["rows"][0].update(score=92.0), "score: input should be less than or equal to 1"),
        (lambda value: value["rows"][0].update(budget="64"), "row 1, budget: budget is '64'"),
        (lambda value: value["rows"][0].update(interval=[0.1]), "row 1, interval 2: field required"),
        (lambda value: value["rows"][0].update(length="long"), "length: input should be a valid integer"),
        (lambda value: value["differences"][0].pop("against"), "difference 1, against: field required"),
        (lambda value: value.update(skipped=[1]), "skipped: input should be a valid dictionary"),
        (lambda value: value.update(notes="one"), "notes: input should be a valid tuple"),
    ],
)
def test_other_files_are_refused(change: Callable[[dict], Any], message: str, tmp_path: Path) -> None:
    value = raw("ruler")
    change(value)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(value), "utf-8")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_results(path)
    assert "bad.json" in str(error.value)


def test_files_that_cannot_be_read_at_all_are_refused(tmp_path: Path) -> None:
    for content in (b"# not JSON", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.json is not JSON"):
            read_results(tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path / "none.json")
    with pytest.raises(InputError, match="row 1, method: field required"):
        read_results(ROOT / "assets" / "results" / "ablation.json")


# Sentences


def test_the_summary_names_the_best_deployable_method_its_lead_and_the_gap_it_closes() -> None:
    summary = summary_of(RULER)
    assert summary.lead == (
        "RULER: Judge Q is the best deployable method at every budget, on average over 2 tasks, at 1,024 tokens."
    )
    assert summary.budgets == (
        "64 rows: Judge Q reaches 50.0 %, 30.0 points above SnapKV (95 % interval +20.0 to +40.0), and closes 75 % of "
        "the gap to the full cache’s 60.0 %.",
        "128 rows: Judge Q reaches 55.0 %, 20.0 points above SnapKV (95 % interval −5.0 to +40.0; zero is inside, so "
        "this may be chance), and closes 80 % of the gap to the full cache’s 60.0 %.",
    )


def test_the_summary_says_where_another_method_wins_and_where_two_tie() -> None:
    value = raw("ruler")
    for row in value["rows"]:
        if row["metric"] == "average" and row["method"] == "judgeq":
            row["score"] = 0.1 if row["budget"] == 64 else 0.35
    summary = summary_of(blocks_of(results_from(value, "r", "r"))[0])
    assert summary.lead == (
        "RULER: SnapKV is the best deployable method at 64 rows; Judge Q and SnapKV are equally good and the best at "
        "128 rows, on average over 2 tasks, at 1,024 tokens."
    )
    assert summary.budgets[0] == "64 rows: SnapKV reaches 20.0 %; the full cache reaches 60.0 %."


def test_hit_rates_are_spoken_of_as_rows_that_stay() -> None:
    (line,) = summary_of(RATES).budgets
    assert line == "64 rows: Judge Q keeps 80.0 % of the oracle’s top rows, 20.0 points above SnapKV."


def test_what_weakens_the_figures_is_said() -> None:
    (part,) = parts_of([result("ruler")])
    assert warnings_of(part) == [
        "The run is not finished: 40 of 50 questions are answered, from all tasks alike.",
        "Left out because they are too long for the model: 3 prompts (3 of ruler/cwe@1024).",
        "Made-up figures, for tests",
    ]


def test_methods_and_budgets_have_names_for_people() -> None:
    assert method_title("judgeq:allocation=adakv:pool=5") == "Judge Q (adakv, pool 5)"
    assert method_title("mine:x=1") == "mine (x 1)"
    assert [budget_title(64), budget_title(1), budget_title(0.125)] == ["64 rows", "1 row", "12.5 %"]
    assert budget_title(0.064, 1000) == "64 per 1,000"
    assert [points(0.31), points(-0.02), points(-0.0001)] == ["+31.0", "−2.0", "0.0"]


# Tables


def test_averages_as_markdown_are_exact() -> None:
    assert table_text(score_table(RULER, 1024)).splitlines() == [
        "**RULER, 1,024 tokens: average score**",
        "",
        "| method | 64 rows | 128 rows |",
        "|---|---|---|",
        "| Full cache | 60.0 % | 60.0 % |",
        "| Judge Q | **50.0 %** | **55.0 %** |",
        "| SnapKV | 20.0 % | 35.0 % |",
        "| Oracle | 60.0 % | 60.0 % |",
    ]


def test_a_task_that_the_full_cache_fails_is_marked_and_nobody_is_best_at_it() -> None:
    assert table_text(task_table(RULER, 1024, 64)).splitlines() == [
        "**RULER, 1,024 tokens: 64 rows**",
        "",
        "| task | Full cache | Judge Q | SnapKV | Oracle |",
        "|---|---|---|---|---|",
        "| niah_single_1 | 100.0 % | **90.0 %** | 40.0 % | 100.0 % |",
        "| † cwe | 20.0 % | 10.0 % | 0.0 % | 20.0 % |",
        "| average | 60.0 % | **50.0 %** | 20.0 % | 60.0 % |",
        "",
        "† The full cache itself scores below 25 %: what eviction costs does not show here.",
    ]


def test_leads_have_their_intervals_and_gaps_their_share() -> None:
    lead, gap = lead_table(RULER, 1024), gap_table(RULER, 1024)
    assert "| Judge Q | +30.0 [+20.0 to +40.0] | +20.0 [−5.0 to +40.0] |" in table_text(lead)
    assert [name for name, _ in lead.lines] == ["Judge Q"], "the oracle leads nobody"
    assert "| Judge Q | 75 % | 80 % |" in table_text(gap)


def test_moved_questions_are_compared_in_points_with_the_files_interval() -> None:
    moves = moves_of(result("ruler"), "ruler")
    text = table_text(moved_table("RULER", moves, None))
    assert "| Judge Q | −5.0 (50.0 → 45.0) [−9.0 to −1.0] | −5.0 (55.0 → 50.0) [−9.0 to −1.0] |" in text
    assert "| SnapKV | −15.0 (20.0 → 5.0) [−19.0 to −11.0] | −25.0 (35.0 → 10.0) [−29.0 to −21.0] |" in text
    assert "| Full cache | −5.0 (60.0 → 55.0) [−9.0 to −1.0] | −5.0 (60.0 → 55.0) [−9.0 to −1.0] |" in text


def test_halves_of_older_files_are_moved_questions_too() -> None:
    moves = moves_of(read_results(ROOT / "assets" / "results" / "answers.json"), "facts-led")
    move = moves["snapkv", 0.064]
    assert (move.tasks, move.interval) == (2, None)
    assert move.change < 0


def test_the_papers_tables_close_the_gap_by_what_the_paper_says() -> None:
    shares = {name: PUBLISHED[name].gap_closed("judgeq") for name in ("longbench", "ruler")}
    rounded = {name: [round(100 * share) for share in found if share] for name, found in shares.items()}
    assert rounded == {"longbench": [23, 24, 29], "ruler": [18, 27, 31]}
    text = to_markdown([result("ruler"), result("hit_rate")])
    assert "**Published by others: RULER, 8,192 tokens, Llama-3.1-8B-Instruct (arXiv 2509.10798)**" in text
    assert "| Judge Q | **63.1 %** | **69.2 %** | **74.1 %** |" in text
    assert "| Judge Q | 18 % | 27 % | 31 % |" in text


def test_models_have_parts_and_files_of_one_benchmark_are_told_apart() -> None:
    twice = results_from(raw("ruler"), "again.json", "again.json")
    one, other = parts_of([result("ruler"), result("hit_rate"), twice])
    assert (one.model, other.model) == ("made-up-1b", "made-up-7b")
    assert [block.title for block in one.blocks[::2]] == ["RULER (ruler.json)", "RULER (again.json)"]
    assert set(task_tables(one.blocks[0])) == {(1024, 64), (1024, 128)}


def test_a_file_of_the_full_cache_alone_still_shows_it() -> None:
    value = raw("ruler")
    value["rows"] = [row for row in value["rows"] if row["method"] == "full"]
    file = results_from(value, "full.json", "full.json")
    assert summary_of(blocks_of(file)[0]) is None
    assert "| Full cache | 60.0 % |" in to_markdown([file])
    assert "<h3>RULER</h3>" in to_html([file])


# Figures


def test_heatmaps_hold_depth_by_length_on_one_scale() -> None:
    (trace,) = needle_heatmap(NIAH, "snapkv", 64).data
    assert [list(line) for line in trace.z] == [[0.25, 0.0], [0.0, None], [1.0, 0.5]]
    assert (trace.zmin, trace.zmax) == (0, 1)
    (full,) = needle_heatmap(NIAH, "full", 1.0).data
    assert [list(line) for line in full.z] == [[1.0, 1.0], [1.0, 0.75], [1.0, 0.5]]
    assert full.colorscale == trace.colorscale


def test_curves_hold_scores_with_intervals_and_the_full_cache_goes_across() -> None:
    full, judge, *_ = budget_curves(RULER, 1024, styles_of(["full", *RULER.methods])).data
    assert list(full.y) == [60.0, 60.0]
    assert list(judge.y) == [50.0, 55.0]
    assert list(judge.error_y.array) == list(judge.error_y.arrayminus) == [5.0, 5.0]


def test_moved_questions_and_layers_are_drawn_from_the_same_numbers() -> None:
    file = result("ruler")
    styles = styles_of({row.method for row in file.rows})
    full, judge, *_ = moved_points(moves_of(file, "ruler"), None, styles).data
    assert list(full.y) == [-5.0, -5.0]
    assert list(judge.y) == [-5.0, -5.0]
    curves = layer_curves(RATES, 64, styles_of(RATES.methods)).data
    assert [list(curve.y) for curve in curves] == [[90.0, 80.0, 70.0], [70.0, 60.0, 50.0]]


def test_a_figure_alone_names_its_lines_and_itself() -> None:
    scores, layers = draw_scores(RULER, 1024), draw_layers(RATES, 64)
    assert [trace.name for trace in scores.data] == ["Full cache", *map(method_title, RULER.methods)]
    assert scores.layout.title.text == "RULER, 1,024 tokens"
    assert layers.data[0].name == "Judge Q"
    assert "64 rows" in layers.layout.title.text
    assert (scores.layout.showlegend, layers.layout.showlegend) == (True, True)


def test_needles_alone_are_one_heatmap_a_method_under_its_name() -> None:
    figure = draw_needles(NIAH, 64)
    names = [each.text for each in figure.layout.annotations]
    assert names == ["Full cache", *map(method_title, NIAH.methods)]
    assert [list(line) for line in figure.data[0].z] == [[1.0, 1.0], [1.0, 0.75], [1.0, 0.5]]
    assert [trace.showscale for trace in figure.data] == [True, *[False] * len(NIAH.methods)]
    assert all(axis.range[0] > axis.range[1] for axis in figure.select_yaxes()), "depth 0 stands on top"


def test_a_name_in_a_figure_is_no_markup() -> None:
    value = raw("ruler")
    for row in value["rows"]:
        row["method"] = row["method"].replace("judgeq", "<b>x</b>")
    figure = draw_scores(blocks_of(results_from(value, "ruler.json", "ruler.json"))[0])
    assert "<b>" not in "".join(trace.name for trace in figure.data)


def test_a_method_looks_the_same_wherever_it_stands_and_like_no_other() -> None:
    names = "judgeq snapkv full oracle mine yours judgeq:pool=5 judgeq:allocation=adakv mine:a=1".split()
    styles = styles_of(names)
    assert styles == styles_of(reversed(names))
    looks = {(style.dash, style.symbol, style.color) for style in styles.values()}
    assert len(looks) == len(names)
    assert styles["judgeq"].color == styles["judgeq:pool=5"].color
    assert styles["mine"].color != styles["yours"].color
    own = [styles[name] for name in ("judgeq", "judgeq:pool=5", "judgeq:allocation=adakv")]
    assert len({style.symbol for style in own}) == len({style.dash for style in own}) == 3
    assert len(styles_of([f"judgeq:pool={size}" for size in range(80)])) == 80, "many still get something"


# The page and the published results


class Elements(HTMLParser):
    """Every element with its attributes, and the texts between them, as a browser would see a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_asks_no_other_host_for_anything() -> None:
    page = to_html([result("ruler"), result("niah"), result("hit_rate"), result("hostile")])
    elements = Elements(page).tags
    for tag, attributes in elements:
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name) or ""
            assert not target or target.startswith(("#", "data:")), (tag, target)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert page.count("plotly.js v") == 1


def test_hostile_names_are_shown_and_do_nothing() -> None:
    page = to_html([result("hostile")], title="<b>bold</b>")
    before = page[: page.index('<script type="application/json"')]
    elements = Elements(page).tags
    tags = [tag for tag, _ in elements]
    assert not [tag for tag, attributes in elements if attributes.get("onerror") or tag == "img"]
    assert tags.count("title") == tags.count("h1") == 1
    plain = [attributes for tag, attributes in elements if tag == "script" and "type" not in attributes]
    assert len(plain) == 2, "Plotly and the page's own"
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    assert "&lt;img src=&#34;http://example.invalid/x.png&#34; onerror=" in before
    assert "&lt;b&gt;bold&lt;/b&gt;" in before
    assert "<script>alert" not in page
    page.encode("utf-8")
    data = re.findall(r'<script type="application/json" id="figure-\d+">(.*?)</script>', page)
    assert len(data) == tags.count("figure")
    for text in data:
        assert "<" not in text
        assert "<img" not in json.dumps(json.loads(text)), "Plotly's own markup is escaped too"


def test_hostile_names_cannot_break_out_of_markdown() -> None:
    assert escaped("a|b\n# c <i> [x](y) *z* `q` niah_single_1 _w_") == (
        r"a\|b \# c &lt;i&gt; \[x\](y) \*z\* \`q\` niah_single_1 \_w\_"
    )
    text = to_markdown([result("hostile")])
    code = "    </code></pre><script>alert(4)</script>"
    assert code in text.splitlines(), "a block of code, as it is"
    assert "<" not in text.replace(code, "")
    lines = [line for line in text.splitlines() if "onerror" in line and line[0] == "|"]
    assert {line.count("|") - line.count("\\|") for line in lines} <= {3, 6}
    text.encode("utf-8")


def test_every_figure_is_named_and_every_table_has_a_caption_and_scopes() -> None:
    elements = Elements(to_html([result("ruler"), result("niah"), result("hit_rate")])).tags
    plots = [attributes for _, attributes in elements if attributes.get("class") == "plot"]
    assert plots
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    tags = [tag for tag, _ in elements]
    assert tags.count("table") == tags.count("caption") > 10
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in elements if tag == "th")
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in elements if tag == "a"]
    assert {str(link).removeprefix("#") for link in links} <= set(ids)


# The command


def report(*arguments: str) -> int:
    return main(["report", *arguments])


def test_the_command_writes_or_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(RESULTS / f"{name}.json") for name in ("ruler", "hit_rate")]
    html, markdown = tmp_path / "r.html", tmp_path / "r.md"
    assert report(*names, "--html", str(html), "--markdown", str(markdown), "--title", "Night run") == 0
    assert "<h1>Night run</h1>" in html.read_text("utf-8")
    assert markdown.read_text("utf-8").startswith("# Night run\n")
    assert capsys.readouterr().out == ""
    assert report(*names) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Judge Q: results\n")
    assert printed.split("\n", 1)[1] == markdown.read_text("utf-8").split("\n", 1)[1]


def test_the_command_refuses_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(str(tmp_path / "none.json")) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.browser
def test_a_browser_draws_the_page_without_complaints(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(to_html([result(name) for name in ("ruler", "niah", "hit_rate", "hostile")]), "utf-8")
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    ours = ("file:", "data:", "blob:")
    tab.on("request", lambda sent: None if sent.url.startswith(ours) else complaints.append(sent.url))
    tab.goto(page.as_uri())
    expect(tab.locator("html[data-drawn=all]")).to_be_attached()
    expect(tab.locator(".needles .plot .heatmaplayer image")).to_have_count(3)
    assert tab.locator("[data-figure]").count() == tab.locator("[data-figure].js-plotly-plot").count()
    first, second = (tab.locator(f"#block-0-0 [data-panel='0 {at}']") for at in (0, 1))
    expect(first).to_be_visible()
    expect(second).to_be_hidden()
    tab.locator("#block-0-0 .chosen").last.get_by_role("radio", name="128 rows").check(force=True)
    expect(second).to_be_visible()
    expect(first).to_be_hidden()
    for width in (1280, 390):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
    tab.close()
    assert complaints == []
