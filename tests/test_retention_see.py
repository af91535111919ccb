"""Two methods compared, why a word stayed, what survived of a span, and what a page's script gets to tell it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from judgeq.errors import InputError
from judgeq.look.pages import css
from judgeq.retention import RetentionMap
from judgeq.retention.explanation import ranks_of, token_ranges
from judgeq.retention.figures import MOST_MARKERS, attention_panels, attention_share, layer_lines, lines
from judgeq.retention.text import BLOCK, blocks, shown_positions
from tests.test_retention import DOCUMENT, TITLES, Reader, everything, make, pieces

WORDS = "abc def ghi jkl"


def by_hand(scores: list[list[float]] | None, kept: list[list[int]], method: str = "judgeq") -> RetentionMap:
    """One layer over four words of one token each, one list a head."""
    return RetentionMap(
        method=method,
        model="tiny",
        budget=2,
        text=WORDS,
        offsets=tuple(pieces(WORDS)),
        document=(0, len(WORDS)),
        kept=(tuple(np.array(rows, dtype=int) for rows in kept),),
        scores=None if scores is None else np.array([scores], dtype=np.float32),
        title=TITLES[method],
    )


def figures(fragment: str) -> dict:
    """What a page's script reads."""
    found = re.search(r'data-reading="([^"]*)"', fragment)
    assert found
    return json.loads(html.unescape(found[1]))


def marks_of(fragment: str) -> list[tuple[str, str]]:
    """Text and class of each mark and of what stands between them, without spaces around it."""
    return [(piece.strip(), mark) for piece, mark in Reader(fragment).marks if piece.strip()]


# Survival


def test_survival_counts_tokens_and_heads_of_each_layer():
    found = make(seed=4)
    rome = DOCUMENT.index("Rome")
    tokens = found.tokens_at(rome, rome + 4)
    assert len(tokens) == 2
    expected = [np.mean([[token in rows for token in tokens] for rows in found.kept[layer]]) for layer in range(3)]
    survived = found.survival(rome, rome + 4)
    assert survived.dtype == np.float64
    assert survived.tolist() == pytest.approx(expected)
    assert 0 < survived.mean() < 1, "the fixture should tell kept from gone"
    assert everything().survival(0, len(DOCUMENT)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 2), (0, 10_000), (0.0, 3), ("0", 3), (True, 3), (None, 1)])
def test_a_span_that_is_none_is_refused_with_what_to_give(span):
    with pytest.raises(InputError, match=f"whole numbers from 0 to {len(DOCUMENT)}"):
        make().survival(*span)
    with pytest.raises(InputError, match="span"):
        make().explain(*span)


def test_a_span_without_a_token_is_refused():
    found = RetentionMap("mine", "tiny", 1, "ab  cd", ((0, 2), (4, 6)), (0, 6), ((np.array([0]),),))
    with pytest.raises(InputError, match="No token"):
        found.survival(2, 4)


# Explanations


def test_an_explanation_gives_rank_and_margin_of_one_head():
    found = by_hand([[0.4, 0.1, 0.8, 0.2], [0.1, 0.2, 0.3, 0.4]], [[0, 2], [2, 3]])
    told = found.explain(0, 3, layer=0, head=0)
    assert (told.text, told.tokens, told.heads, told.kept, told.rows) == ("abc", 1, 1, 1, 4)
    assert (told.best_rank, told.median_rank) == (2, 2)
    assert told.margin == pytest.approx(1), "the last score that is good enough"
    below = found.explain(12, 15, layer=0, head=0)
    assert (below.kept, below.best_rank) == (0, 3)
    assert below.margin == pytest.approx(0.2 / 0.4)
    said = " ".join(below.sentences())
    assert "Judge Q has thrown it away in this head. Its" not in said
    assert "Judge Q has thrown it away in this head." in said
    assert "Rank of its score: 3 of 4." in said
    assert "0.50 times what was needed" in said


def test_over_heads_the_best_and_the_middle_count():
    found = by_hand([[0.4, 0.1, 0.8, 0.2], [0.1, 0.2, 0.3, 0.4]], [[0, 2], [2, 3]])
    told = found.explain(0, 3)
    assert (told.heads, told.kept, told.best_rank, told.median_rank) == (2, 1, 2, 3)
    assert told.margin == pytest.approx((0.4 / 0.4 + 0.1 / 0.3) / 2)
    assert told.sentences()[0] == "Judge Q keeps it in 1 of 2 heads."
    several = found.explain(0, 7)
    assert several.tokens == 2
    assert several.median_rank == 2.5, "each head counts its best token: ranks 2 and 3"


def test_equal_scores_share_the_better_rank_and_zero_or_negative_cuts_have_no_margin():
    equal = by_hand([[0.5, 0.5, 0.5, 0.1]], [[0, 1]])
    assert [equal.explain(at, at + 3).best_rank for at in (0, 4, 8, 12)] == [1, 1, 1, 4]
    norms = by_hand([[-1, -2, -3, -4]], [[0, 1]], "keynorm")
    assert norms.explain(0, 3).best_rank == 1
    assert norms.explain(0, 3).margin is None
    whole = by_hand([[0.4, 0.3, 0.2, 0.1]], [[0, 1, 2, 3]])
    assert whole.explain(0, 3).margin is None, "nothing was thrown away: nothing was needed"
    nothing = by_hand([[0.4, 0.3, 0.2, 0.1]], [[]])
    assert nothing.explain(0, 3).margin is None


def test_what_was_not_scored_has_no_rank():
    told = by_hand(None, [[0, 2]]).explain(0, 3)
    assert (told.best_rank, told.median_rank, told.margin) == (None, None, None)
    assert told.sentences()[-1] == "Nothing is scored there."
    nan = float("nan")
    partly = by_hand([[nan, 0.3, 0.2, 0.1], [nan] * 4], [[0, 1], [0, 1]])
    assert partly.explain(0, 3).best_rank is None
    assert partly.explain(4, 7).best_rank == 1
    assert partly.explain(4, 7).median_rank == 1, "a head without scores does not count"


def test_a_row_that_is_kept_for_its_place_is_seen_as_such():
    pooled = by_hand([[0.9, 0.1, 0.8, 0.7]], [[0, 1]])
    told = pooled.explain(4, 7)
    assert told.kept == 1
    assert told.best_rank == 4
    assert told.margin == pytest.approx(0.1 / 0.8)
    assert "That alone would not have kept it" in told.sentences()[-1]
    passed = pooled.explain(8, 11)
    assert (passed.kept, passed.best_rank) == (0, 2)
    assert passed.margin == 1
    assert "enough" not in passed.sentences()[-1], "the last that is good enough"
    beaten = by_hand([[0.9, 0.1, 0.8, 0.7]], [[1, 3]]).explain(0, 3)
    assert beaten.margin > 1
    assert "That would have been enough" in beaten.sentences()[-1]
    assert len(pooled.explain(0, 3).sentences()) == 3, "kept by its score: nothing to add"


def test_ranks_of_all_words_is_that_of_each():
    found = make(DOCUMENT * 2, seed=8)
    spans, _ = found.units("word")
    ranges = token_ranges(found, spans)
    for layer, head in ((None, None), (1, None), (2, 1)):
        ranks = ranks_of(found, ranges, layer, head)
        for index, (start, end) in enumerate(spans.tolist()):
            tokens = found.tokens_at(start, end)
            assert ranges[index].tolist() == [tokens.start, tokens.stop]
            told = found.explain(start, end, layer, head)
            assert ranks.best_rank[index] == told.best_rank
            assert ranks.median_rank[index] == told.median_rank
            assert ranks.margin[index] == pytest.approx(told.margin)
    with pytest.raises(InputError, match="layer"):
        found.explain(0, 3, layer=9)


# Differences


def test_the_difference_marks_each_word_by_who_keeps_it():
    one = by_hand(None, [[0, 1]])
    two = by_hand(None, [[1, 2]], "snapkv")
    fragment = one.difference_html(two)
    assert marks_of(fragment) == [("abc", "jq-a"), ("def", "jq-both"), ("ghi", "jq-b"), ("jkl", "jq-l0")]
    assert re.findall(r"<b>([^<]+)</b>", fragment) == ["25\N{NO-BREAK SPACE}%"] * 4
    text = html.unescape(re.sub("<[^>]+>", " ", fragment)).replace("\N{NO-BREAK SPACE}", " ")
    assert "both keep 25 %, only Judge Q keeps 25 %, only SnapKV keeps 25 %, and neither keeps 25 %" in text
    assert [mark for _, mark in marks_of(two.difference_html(one))] == ["jq-b", "jq-both", "jq-a", "jq-l0"]


def test_over_heads_a_word_counts_as_kept_from_the_average_on():
    one = by_hand(None, [[0], [0], [0, 1, 2, 3]])  # half of all rows: 3, 1, 1 and 1 of 3 heads
    none = by_hand(None, [[], [], []], "snapkv")
    assert [mark for _, mark in marks_of(one.difference_html(none))] == ["jq-a", "jq-l0"]
    alone = one.difference_html(none, layer=0, head=2)
    assert [mark for _, mark in marks_of(alone)] == ["jq-a"]
    full = by_hand(None, [[0, 1, 2, 3]] * 3, "full")
    assert [mark for _, mark in marks_of(full.difference_html(one))] == ["jq-both", "jq-a"]
    assert "only the full cache" in full.difference_html(one)


def test_maps_of_different_prompts_or_models_are_refused():
    for other in (make("Something else entirely."), make(layers=2), make(heads=1)):
        with pytest.raises(InputError, match="compare methods of one run"):
            make().difference_html(other)


@pytest.mark.parametrize("granularity", ["token", "word", "sentence", "paragraph"])
def test_a_difference_never_lets_markup_out(granularity):
    document = "</mark><script>alert(1)</script> \" onmouseover='x' {{x}} ${y}"
    one, two = make(document, method="<b>one</b>"), make(document, seed=2, method='"two"')
    fragment = one.difference_html(two, granularity=granularity, reading=True)
    read = Reader(fragment)
    assert read.text == document
    assert read.tags <= {"div", "style", "p", "ul", "li", "mark", "s", "span", "i", "b"}
    assert {method["title"] for method in figures(fragment)["methods"]} == {"<b>one</b>", '"two"'}


def test_a_difference_is_seen_without_colours():
    drawn = {name: re.search(rf"mark\.jq-{name} {{[^}}]*underline (\w+)", css("map"))[1] for name in ("a", "b", "both")}
    assert len(set(drawn.values())) == 3


# What a script reads


def test_without_a_script_nothing_is_added():
    static = make().to_html()
    assert "data-reading" not in static
    assert '<div class="jq-reading' not in static
    assert '<div class="jq-reading' in make().to_html(reading=True)


@pytest.mark.parametrize("document", [DOCUMENT * 2, "a 😀b\r\nc\rd\n\n\x00e\u2028 f 𝕏𝕐 g"])
def test_positions_for_scripts_are_those_of_the_shown_text(document):
    found = make(document, seed=3)
    fragment = found.to_html(reading=True)
    shown = Reader(fragment).text.encode("utf-16-le")
    told = figures(fragment)
    position, words = 0, []
    for gap, length in zip(told["units"][::2], told["units"][1::2], strict=True):
        position += gap
        words.append(shown[2 * position : 2 * (position + length)].decode("utf-16-le"))
        position += length
    spans, shares = found.units()
    assert [word.replace("␀", "\x00") for word in words] == [document[first:last] for first, last in spans]
    assert told["methods"][0]["kept"] == np.rint(shares * 6).tolist()
    assert shown_positions(document)[-1] == len(shown) // 2


def test_bins_for_scripts_are_those_of_the_heatmap():
    found = make(seed=3)
    told = figures(found.to_html(reading=True))
    assert told["edges"] == list(found.to_figure().data[0].x)
    inside = found.document_tokens
    for token, (start, end) in enumerate(zip(told["bins"][::2], told["bins"][1::2], strict=True)):
        if token in inside:
            first, last = (place - found.document[0] for place in found.offsets[token])
            assert (start, end) == (max(first, 0), min(last, len(DOCUMENT)))
        else:
            assert start == end, "outside of the document there is nothing to show"


def test_sentences_are_told_by_share_and_missing_figures_by_marks_of_their_own():
    told = figures(make(seed=3, scores=False).to_html(granularity="sentence", reading=True))
    method = told["methods"][0]
    assert not told["whole"]
    assert all(0 <= share <= 1000 for share in method["kept"])
    assert set(method["best"]) == {0}
    assert set(method["margin"]) == {-1}


# Blocks


def test_blocks_hold_the_text_and_break_at_line_ends_only():
    document = "\n\n".join(f"Paragraph {number}: " + "words and words " * 12 for number in range(12))
    found = blocks(document, np.array([[5, len(document) - 5]]), np.array([3]))
    texts = ["".join(piece for piece, _ in block) for block in found]
    assert "".join(texts) == document
    assert len(texts) > 2
    assert all(text.endswith("\n") and len(text) >= BLOCK for text in texts[:-1])
    assert blocks("", np.zeros((0, 2), dtype=int), np.zeros(0, dtype=int)) == []


def test_eight_thousand_tokens_are_few_nodes_and_little_data():
    rng = np.random.default_rng(0)
    lines = [" ".join("".join(rng.choice(list("abcdefg"), 4)) for _ in range(80)) for _ in range(100)]
    text = "\n\n".join(lines)
    offsets = tuple((m.start(), m.end()) for m in re.finditer(r"\s*\w+", text))
    assert len(offsets) == 8000
    shared = rng.random(8000)
    kept = tuple(tuple(np.flatnonzero(rng.random(8000) < shared**6) for _ in range(3)) for _ in range(30))
    scores = rng.random((30, 3, 8000), dtype=np.float32)
    found = RetentionMap("judgeq", "tiny", 1100, text, offsets, (0, len(text)), kept, scores)
    fragment = found.to_html(reading=True)
    assert fragment.count('<p class="jq-block"') >= 50
    assert fragment.count("<mark") + fragment.count("<p") <= 600 * 8, "nodes in every 1,000 tokens"
    assert fragment.count("tabindex") == 1
    assert len(fragment.encode()) < 600_000
    assert len(found.to_html(granularity="token").encode()) < 1_000_000
    for metric in ("kept", "score"):
        figure = found.to_figure(metric)
        assert np.array(figure.data[0].z).shape == (30, 200)
        assert len(figure.to_json()) < 1_500_000


# Figures


def test_the_head_figure_shows_the_rows_of_each_head():
    found = make()
    trace = found.to_head_figure().data[0]
    assert np.array(trace.z).tolist() == found.kept_rows.tolist()
    assert f"of {found.tokens} rows" in trace.hovertemplate


def test_lines_have_a_dash_and_a_marker_each_and_long_ones_no_markers():
    figure = layer_lines({"<b>one</b>": np.array([0, 0.5, 1]), "two": np.array([1, 1, 1])})
    assert [list(trace.y) for trace in figure.data] == [[0, 0.5, 1], [1, 1, 1]]
    assert len({trace.line.dash for trace in figure.data}) == 2
    assert len({trace.marker.symbol for trace in figure.data}) == 2
    assert figure.data[0].name == "&lt;b&gt;one&lt;/b&gt;"
    long = list(range(MOST_MARKERS + 1))
    figure = lines({"one": ([10, 20], [1.5, 3]), "two": (long, long)}, "tokens written", "rows held")
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("tokens written", "rows held")
    assert [list(trace.x) for trace in figure.data] == [[10, 20], long]
    assert [trace.mode for trace in figure.data] == ["lines+markers", "lines"]


def test_attention_to_the_document_counts_every_head_alike():
    found = by_hand([[8.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.25, 0.25]], [[0], [2]])
    assert attention_share(found).tolist() == [0.5, 0.0, 0.25, 0.25]
    told = replace(found, document=(4, len(WORDS)))  # without "abc"
    assert attention_share(told).sum() == pytest.approx(1)
    assert attention_share(told)[0] == 0
    unscored = replace(found, scores=np.stack([found.scores[0], np.full((2, 4), np.nan)]), kept=found.kept * 2)
    assert attention_share(unscored).tolist() == attention_share(found).tolist()


@pytest.mark.parametrize("scores", [None, [[-1.0, -2.0, -3.0, -4.0]]], ids=["none", "negative"])
def test_what_is_no_attention_is_not_drawn_as_attention(scores):
    with pytest.raises(InputError, match="choose a method"):
        attention_share(by_hand(scores, [[0]]))


def test_attention_can_be_that_of_some_layers():
    found = by_hand([[1.0, 0.0, 0.0, 0.0]], [[0]])
    other = by_hand([[0.0, 0.0, 0.0, 1.0]], [[0]])
    both = replace(found, scores=np.stack([found.scores[0], other.scores[0]]), kept=found.kept * 2)
    assert attention_share(both).tolist() == [0.5, 0, 0, 0.5]
    assert attention_share(both, range(1, 2)).tolist() == [0, 0, 0, 1]
    assert list(attention_panels({"one": both}, layers=range(1)).data[0].y) == [1, 0, 0, 0]
    for layers in (range(1, 3), range(-1, 1), range(0)):
        with pytest.raises(InputError, match="give a range from 0 to 2"):
            attention_share(both, layers)


def test_panels_share_one_scale_and_shade_the_span():
    ours, theirs = by_hand([[3.0, 1.0, 0.0, 0.0]], [[0]]), by_hand([[0.0, 0.0, 0.0, 1.0]], [[3]])
    start = WORDS.index("ghi")
    figure = attention_panels({"<i>ours</i>": ours, "theirs": theirs}, {"<b>here</b>": (start, start + 3)})
    assert [list(bars.y) for bars in figure.data] == [[0.75, 0.25, 0, 0], [0, 0, 0, 1]]
    assert list(figure.data[0].text) == ["abc", "def", "ghi", "jkl"]
    assert figure.layout.yaxis.matches or figure.layout.yaxis2.matches
    assert list(figure.layout.yaxis.range) == pytest.approx([0, 1.1])  # reaches over the highest bar, and not far
    assert len(figure.layout.shapes) == 2
    assert {(shape.x0, shape.x1) for shape in figure.layout.shapes} == {(0, 5)}
    assert all("<" not in text for text in (figure.data[0].name, *(note.text for note in figure.layout.annotations)))


def test_panels_of_different_prompts_are_refused():
    other = replace(by_hand([[1.0, 1.0, 1.0, 1.0]], [[0]]), text="abc def ghi xyz")
    with pytest.raises(InputError, match="different prompts"):
        attention_panels({"one": by_hand([[1.0, 1.0, 1.0, 1.0]], [[0]]), "other": other})
