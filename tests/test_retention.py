"""What a retention map says of kept rows, and that untrusted text stays text wherever the map is shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from judgeq.errors import InputError
from judgeq.inference.maps import retention_map
from judgeq.methods import METHODS
from judgeq.retention import RetentionMap
from judgeq.retention.text import level_of, marked_text, sentences
from judgeq.retention.units import paragraphs_of, sentences_of, words_of

BEFORE, AFTER = "<|user|>\n", "\n\nWho?<|end|>"
DOCUMENT = "Ada wrote it. Bob, in Rome, read it.\n\nNobody else did."


TITLES = {name: method.phrase or method.title for name, method in METHODS.items()}
"""Names of methods inside sentences, as a run puts them into a map."""


def pieces(text: str, start: int = 0) -> list[tuple[int, int]]:
    """Spans as a byte-level tokenizer gives them: short, with the space in front."""
    return [(start + m.start(), start + m.end()) for m in re.finditer(r" ?\w{1,3}|\w{1,3}| ?[^\w\s]|\s", text)]


def make(
    document: str = DOCUMENT,
    *,
    keep: float = 0.3,
    layers: int = 3,
    heads: int = 2,
    seed: int = 0,
    method: str = "judgeq",
    scores: bool = True,
) -> RetentionMap:
    """A map with random kept rows; ragged, since every head draws its own number."""
    offsets = [(0, len(BEFORE)), *pieces(document, len(BEFORE)), *pieces(AFTER, len(BEFORE + document))]
    rng = np.random.default_rng(seed)
    tokens = len(offsets)
    kept = [[np.flatnonzero(rng.random(tokens) < keep) for _ in range(heads)] for _ in range(layers)]
    return RetentionMap(
        method=method,
        model="tiny",
        budget=5,
        text=BEFORE + document + AFTER,
        offsets=tuple(offsets),
        document=(len(BEFORE), len(BEFORE) + len(document)),
        kept=tuple(map(tuple, kept)),
        scores=rng.random((layers, heads, tokens), dtype=np.float32) if scores else None,
        title=TITLES.get(method, ""),
    )


def everything(document: str = DOCUMENT) -> RetentionMap:
    """What the full cache looks like."""
    return make(document, keep=2, method="full", scores=False)


class Reader(HTMLParser):
    """Reads a fragment as a browser does: its tags, its attributes, and the text of the document's box."""

    def __init__(self, fragment: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.marks: list[tuple[str, str]] = []
        self.text = ""
        self.depth = 0
        self.mark: str | None = None
        self.feed(fragment)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.attributes |= set(values)
        if values.get("role") == "region":
            self.depth = 1
        elif self.depth and tag == "mark":
            self.mark = values["class"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "mark":
            self.mark = None
        elif tag == "div":
            self.depth = 0

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.text += data
            self.marks.append((data, self.mark or "jq-l0"))


def test_counts_agree_with_counting_by_hand():
    found = make()
    for token in range(found.tokens):
        keepers = sum(token in rows for layer in found.kept for rows in layer)
        assert found.share_kept()[token] == pytest.approx(keepers / 6)
    assert found.kept_rows.shape == (3, 2)
    assert found.kept_rows.tolist() == [[len(rows) for rows in layer] for layer in found.kept]
    assert len(np.unique(found.kept_rows)) > 1, "the fixture should be ragged"
    with pytest.raises(ValueError, match="read-only"):
        found.kept[0][0][0] = 1


def test_share_kept_can_look_at_one_layer_or_one_head():
    found = make()
    expected = np.zeros(found.tokens)
    expected[found.kept[1][0]] += 0.5
    expected[found.kept[1][1]] += 0.5
    assert np.array_equal(found.share_kept(layer=1), expected)
    assert set(np.flatnonzero(found.share_kept(layer=2, head=1))) == set(found.kept[2][1].tolist())
    over_layers = sum(found.share_kept(layer=layer, head=0) for layer in range(3)) / 3
    assert np.allclose(found.share_kept(head=0), over_layers)


@pytest.mark.parametrize("bad", [3, -1, 1.0, "1", True])
def test_a_layer_or_head_that_does_not_exist_is_refused_by_name(bad):
    with pytest.raises(InputError, match=r"layer is .*from 0 to 2"):
        make().share_kept(layer=bad)
    with pytest.raises(InputError, match=r"head is .*from 0 to 1"):
        make().to_html(head=bad)


def test_bins_neither_lose_nor_invent_rows():
    found = make()
    for bins in (1, 2, 7, found.tokens):
        widths = np.diff(found.bin_edges(bins))
        assert widths.sum() == found.tokens
        assert widths.min() >= 1
        rows = found.layer_profile(bins) * widths * found.kv_heads
        assert np.allclose(rows.sum(axis=1), found.kept_rows.sum(axis=1))
    for bins in (0, found.tokens + 1, 2.5):
        with pytest.raises(InputError, match="bins"):
            found.layer_profile(bins)


def test_document_tokens_hold_the_document_and_nothing_else():
    found = make()
    start, end = found.document
    for token, (first, last) in enumerate(found.offsets):
        assert (token in found.document_tokens) == (first < end and last > start)
    rome = DOCUMENT.index("Rome")
    assert found.text[slice(*found.offsets[found.tokens_at(rome, rome + 1)[0]])] == " Rom"
    assert len(found.tokens_at(rome, rome + 4)) == 2
    assert len(found.tokens_at(rome, rome)) == 0


def test_json_brings_back_the_same_indices_and_text():
    found = make("naïve 😀 text\x00 with <b>")
    values = json.loads(json.dumps(found.to_json(scores=True), allow_nan=False))
    again = RetentionMap.from_json(values)
    assert (again.text, again.document, again.offsets) == (found.text, found.document, found.offsets)
    assert (again.method, again.model, again.budget, again.title) == ("judgeq", "tiny", 5, "Judge Q")
    for before, after in zip(sum(found.kept, ()), sum(again.kept, ()), strict=True):
        assert after.dtype == np.int32
        assert np.array_equal(before, after)
    assert np.allclose(again.scores, found.scores, rtol=1e-3)
    assert "scores" not in found.to_json()
    first, last = values["spans"][found.document_tokens[0]]
    assert values["document"][first:last] == "naï"


def test_json_keeps_a_layer_without_scores_and_a_head_without_rows():
    found = make()
    scores = found.scores.copy()
    scores[1] = np.nan
    kept = (found.kept[0], (np.array([]), found.kept[1][1]), found.kept[2])
    odd = RetentionMap("judgeq", "tiny", 5, found.text, found.offsets, found.document, kept, scores)
    again = RetentionMap.from_json(json.loads(json.dumps(odd.to_json(scores=True), allow_nan=False)))
    assert np.isnan(again.scores[1]).all()
    assert again.kept_rows[1, 0] == 0
    assert "nan" not in odd.to_html()
    assert odd.to_figure("score").data[0].z[1][0] is None or np.isnan(odd.to_figure("score").data[0].z[1][0])


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"kept": [[[0, 0]]]},
        {"kept": [[[3, 1]]]},
        {"kept": [[[10_000]]]},
        {"kept": [[[-1]]]},
        {"kept": [[[0.5]]]},
        {"kept": [[[0], [1]], [[0]]]},
        {"kept": []},
        {"kept": 3},
        {"spans": [[0, 10_000]]},
        {"spans": []},
        {"spans": [[0]]},
        {"document": 3},
        {"scores": [[[1.0]]]},
        {"budget": None},
    ],
)
def test_json_that_does_not_fit_together_is_refused(change):
    with pytest.raises(InputError):
        RetentionMap.from_json(make().to_json() | change)


@pytest.mark.parametrize("key", ["method", "document", "kept", "spans"])
def test_missing_json_keys_are_refused(key):
    with pytest.raises(InputError):
        RetentionMap.from_json({name: value for name, value in make().to_json().items() if name != key})


@pytest.mark.parametrize("granularity", ["token", "word", "sentence", "paragraph"])
@pytest.mark.parametrize(
    "document",
    [
        "a <script>alert(1)</script> b",
        "</mark></div><style>*{display:none}</style><img src=x onerror=alert(1)>",
        "\" onmouseover='alert(1)' autofocus onfocus=alert(1) x=\"",
        "&lt;script&gt; &amp; &#60;b&#62;",
        "<!-- open comment <![CDATA[ {{ template }} ${js}",
    ],
)
def test_markup_in_the_document_stays_text(document, granularity):
    read = Reader(make(document, seed=3).to_html(granularity=granularity))
    assert read.text == document
    assert read.tags <= {"div", "style", "p", "ul", "li", "mark", "s", "span", "i", "b"}
    assert read.attributes <= {"class", "dir", "role", "tabindex", "aria-label"}


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ("one\r\ntwo\rthree\n\n  four\tfive", "one\ntwo\nthree\n\n  four\tfive"),
        ("שלום עולם hello مرحبا", "שלום עולם hello مرحبا"),
    ],
    ids=["line ends of every convention", "right to left"],
)
def test_text_is_shown_as_it_is_written_apart_from_the_page(document, shown):
    html = make(document, method="<img src=x onerror=alert(1)>").to_html()
    assert Reader(html).text == shown
    assert 'dir="auto"' in html
    assert "unicode-bidi: plaintext" in html
    assert "<img" not in html
    assert "&lt;img" in html


def test_control_characters_are_shown_and_never_sent():
    document = "a\x00b \x1b[31mred\x1b[0m \x07 \x7f \x9b31m \u202egnp.exe\u202c \u2066x\u2069 \ud800 end"
    shown = Reader(everything(document).to_html()).text
    assert len(shown) == len(document)
    assert "␀" in shown
    assert "␛[31m" in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert "\x1b" not in marked_text(document, np.zeros((0, 2)), np.zeros(0), ansi=False)
    everything(document).to_html().encode()


@pytest.mark.parametrize("granularity", ["token", "word", "sentence", "paragraph"])
def test_every_mark_has_the_level_of_its_unit(granularity):
    found = make(DOCUMENT * 3, seed=5)
    spans, shares = found.units(granularity)
    expected = {}
    for (first, last), level in zip(spans.tolist(), level_of(shares), strict=True):
        expected |= dict.fromkeys(range(first, last), f"jq-l{level}")
    position = 0
    for piece, mark in Reader(found.to_html(granularity=granularity)).marks:
        for char in piece:
            if not char.isspace():
                assert mark == expected[position]
            position += 1
    assert position == len(found.document_text)


def test_a_word_counts_with_its_best_token_and_a_sentence_with_the_mean():
    document = "abcdef gh. ijk"
    offsets = tuple(pieces(document))
    kept = ((np.array([1, 2]),), (np.array([1]),))
    found = RetentionMap("judgeq", "tiny", 2, document, offsets, (0, len(document)), kept)
    assert [document[a:b] for a, b in offsets] == ["abc", "def", " gh", ".", " ijk"]
    spans, shares = found.units("word")
    assert [document[a:b] for a, b in spans] == ["abcdef", "gh", ".", "ijk"]
    assert shares.tolist() == [1, 0.5, 0, 0]
    assert found.units("sentence")[1].tolist() == [1.5 / 4, 0]
    assert found.units("paragraph")[1].tolist() == [1.5 / 5]
    assert found.units("word", layer=1)[1].tolist() == [1, 0, 0, 0]
    with pytest.raises(InputError, match="granularity"):
        found.units("letter")


def test_tokens_that_share_a_character_become_one_unit():
    document = "x 🦙y"
    # the emoji's bytes are split over three tokens
    offsets = ((0, 1), (1, 3), (2, 3), (2, 3), (3, 3), (3, 4))
    found = RetentionMap("judgeq", "tiny", 1, document, offsets, (0, 4), ((np.array([2]),),))
    spans, shares = found.units("token")
    assert spans.tolist() == [[0, 1], [2, 3], [3, 4]]
    assert shares.tolist() == [0, 1, 0]
    assert Reader(found.to_html(granularity="token")).marks == [
        ("x ", "jq-l0"),
        ("🦙", "jq-l5"),
        ("y", "jq-l0"),
    ]


def test_a_token_that_reaches_over_the_documents_end_is_cut_there():
    found = RetentionMap("judgeq", "tiny", 1, "<a>bc<d>", ((0, 4), (4, 8)), (3, 5), ((np.array([1]),),))
    assert found.document_tokens == range(2)
    assert found.units("token")[0].tolist() == [[0, 1], [1, 2]]
    assert Reader(found.to_html(granularity="token")).text == "bc"


def test_words_sentences_and_paragraphs_of_several_scripts():
    def split(spans, text):
        return [text[first:last] for first, last in spans]

    text = "It's 3.14, e.g. naïve—Москва हिन्दी 東京。"
    assert split(words_of(text), text) == [
        "It's", "3.14", ",", "e.g", ".", "naïve", "—", "Москва", "हिन्दी", "東", "京", "。",
    ]  # fmt: skip
    text = "One. “Two?” Three 3.5 four!\n\nTitle\n \nそう。はい。"
    expected = ["One.", "“Two?”", "Three 3.5 four!", "Title", "そう。", "はい。"]
    assert split(sentences_of(text), text) == expected
    assert split(paragraphs_of("a\nb\n\n c "), "a\nb\n\n c ") == ["a\nb", "c"]
    assert split(paragraphs_of("a\nb"), "a\nb") == ["a", "b"]
    assert not len(words_of("")) + len(sentences_of(" \n")) + len(paragraphs_of(""))


def test_the_full_cache_is_drawn_as_kept_everywhere():
    found = everything()
    html = found.to_html()
    assert Reader(html).marks == [(DOCUMENT, "jq-l5")]
    assert f"The full cache keeps all {found.tokens} rows in each of 6 heads." in html
    assert np.array(found.to_figure().data[0].z).min() == 1
    with pytest.raises(InputError, match="scores nothing"):
        found.to_figure("score")


def test_the_sentences_give_the_right_numbers():
    document = "one two red six"
    offsets = ((0, 3), *pieces(document, 3), (18, 20))
    kept = ((np.array([0, 1]), np.array([1, 2])), (np.array([0, 1]), np.array([1, 5])))
    found = RetentionMap("judgeq", "tiny", 2, f"<a>{document}<b>", offsets, (3, 18), kept, title="Judge Q")
    words = " ".join(sentences(found)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Judge Q keeps 2 of 6 rows in each of 4 heads: 33 %. 50 % of the document’s words" in words
    assert "Of a head’s 2 rows, 1 hold the document" in words
    one = " ".join(sentences(found, layer=1, head=0)).replace("\N{NO-BREAK SPACE}", " ")
    assert "2 of 6 rows in one head of layer 1 (KV head 0): 33 %. 25 % of the document’s words" in one
    ragged = RetentionMap("mine", "tiny", 2, found.text, offsets, (3, 18), ((np.array([1]), np.arange(3)),))
    assert "mine keeps 1 to 3 of 6 rows in each of 2 heads" in sentences(ragged)[2]


def test_the_legend_adds_up_and_names_only_levels_that_can_occur():
    found = make(layers=1, heads=1)
    html = found.to_html()
    assert "this head" in html
    assert "few heads" not in html
    shares = [float(share) for share in re.findall(r"<b>([\d.]+)\N{NO-BREAK SPACE}%</b>", make().to_html())]
    assert sum(shares) == pytest.approx(100, abs=3)


def test_levels_have_the_bounds_that_the_legend_names():
    shares = np.array([0, 0.001, 0.1, 0.101, 0.25, 0.251, 0.5, 0.501, 0.999, 1.0])
    assert level_of(shares).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_the_figure_shows_each_layers_profile_and_the_documents_borders():
    found = make(DOCUMENT * 20)
    figure = found.to_figure()
    (trace,) = figure.data
    assert np.allclose(np.array(trace.z), found.layer_profile(200), atol=1e-4)
    assert len(trace.x) == 201
    assert {shape.x0 for shape in figure.layout.shapes} == {
        found.document_tokens.start,
        found.document_tokens.stop,
    }
    assert figure.layout.width is None, "a fixed width does not fit a phone"
    with pytest.raises(InputError, match="metric"):
        found.to_figure("rank")


def test_hover_text_is_escaped_and_one_line():
    figure = make("a <b>bold</b> <a href='x'>\n\x00link</a> %{z} &lt;").to_figure()
    texts = "".join(figure.data[0].text[0])
    assert set(re.findall(r"<[^>]*>", texts)) == {"<br>"}
    assert "\x00" not in texts
    assert "\n" not in texts


def test_the_map_of_a_prefill_takes_ragged_layers_windows_and_full_layers():
    prompt = SimpleNamespace(text="abcdef", offsets=[(i, i + 1) for i in range(6)], document=(1, 5), tokens=6)

    def layer(batch=1, **attributes):
        return SimpleNamespace(keys=torch.zeros(batch, 2, 9, 4), is_sliding=False, **attributes)

    sliding = SimpleNamespace(keys=torch.zeros(1, 2, 3, 4), is_sliding=True, sliding_window=4)
    retained = SimpleNamespace(
        plan=SimpleNamespace(method=METHODS["full"](), budget=2),
        cache=SimpleNamespace(layers=[layer(), layer(), sliding]),
        kept=[torch.tensor([[[0, 5], [2, 3]]]), None, None],
        scores=[torch.arange(12.0).view(1, 2, 6), None, None],
        memory=0,
    )
    found = retention_map(SimpleNamespace(name="tiny"), prompt, retained)
    assert [rows.tolist() for rows in found.kept[0]] == [[0, 5], [2, 3]]
    assert found.kept_rows.tolist() == [[2, 2], [6, 6], [3, 3]]
    assert found.kept[2][1].tolist() == [3, 4, 5]
    assert (found.method, found.title) == ("full", "the full cache")
    assert found.scores.shape == (3, 2, 6)
    assert found.scores[0, 1, 0] == 6
    assert np.isnan(found.scores[1:]).all()
    retained.scores = [None] * 3
    assert retention_map(SimpleNamespace(name="tiny"), prompt, retained).scores is None
    retained.cache.layers[0] = layer(batch=2)
    with pytest.raises(InputError, match="batch has 2"):
        retention_map(SimpleNamespace(name="tiny"), prompt, retained)


def test_show_marks_text_outside_a_notebook(capsys):
    document = "one \x1b[2J two"
    offsets = ((0, 3), (3, 8), (8, 12))
    found = RetentionMap("judgeq", "tiny", 1, document, offsets, (0, 12), ((np.array([0]),) * 2,), title="Judge Q")
    found.show()
    shown = capsys.readouterr().out
    assert "[one] ␛[2J two" in shown
    assert "Judge Q keeps 1 of 3 rows in each of 2 heads" in shown
    assert "\x1b" not in shown


def test_show_styles_a_terminal_and_nothing_else(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    make("word \x1b[2J").show(layer=0)
    shown = capsys.readouterr().out
    assert set(re.findall(r"\x1b\[([^m]*)m", shown)) <= {"0", "2", "4", "1", "1;4", "7"}
    assert re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()[-1] == "word ␛[2J"


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed in a notebook."""
    found = []
    display = SimpleNamespace(HTML=lambda text: ("html", text), display=found.append)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return found


def test_show_displays_text_and_figure_in_a_notebook(displayed):
    found = make()
    found.show(layer=1)
    assert displayed[0] == ("html", found.to_html(layer=1))
    assert displayed[1].data[0].type == "heatmap"
    assert found._repr_html_() == found.to_html()


def test_the_heatmap_in_a_notebook_needs_no_script_where_plotly_does_not_run(displayed):
    """nbconvert and other pages made of notebooks take the HTML; what they cannot show is not chosen for them."""
    make("</figure><script>alert(1)</script>").show()
    data = displayed[1]._repr_mimebundle_()
    assert set(data) == {"application/vnd.plotly.v1+json", "text/html"}
    assert data["application/vnd.plotly.v1+json"]["data"][0]["type"] == "heatmap"
    page = data["text/html"]
    assert page.count("data:image/png;base64,") == 2
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert not callable(getattr(displayed[1], "_ipython_display_", None))


def test_a_stored_map_is_shown_without_torch_or_plotly(tmp_path):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(make().to_json()), encoding="utf-8")
    script = (
        "import sys, json; from judgeq.retention import RetentionMap; "
        f"RetentionMap.from_json(json.load(open({str(path)!r}))).to_html(); "
        "assert not {'torch', 'transformers', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
