"""Every word on the page that does not come from the library."""

from __future__ import annotations

TITLE = "Judge Q"
LEAD = (
    "While a language model reads, it takes notes on every word, and for long texts these notes fill its memory. "
    "Judge Q throws most of them away and keeps those that the answer will need."
)
INVITATION = "Ask something about a document and see what the answer loses."

METHODS = {
    "full": ("Full cache", "Keeps everything: the reference."),
    "judgeq": ("Judge Q", "Keeps what its trained tokens ask for."),
    "judgeq+draft": ("Judge Q + draft", "Writes eight tokens, then asks a second time."),
    "snapkv": ("SnapKV", "Keeps what the last tokens look at."),
    "pyramidkv": ("PyramidKV", "SnapKV with more notes in early layers."),
    "h2o": ("H2O", "Keeps what all tokens together looked at."),
    "laq": ("LAQ", "Drafts eight tokens, keeps what they look at."),
    "keynorm": ("Key norm", "Keeps notes with short keys."),
    "streamingllm": ("StreamingLLM", "Keeps the beginning and the end."),
    "random": ("Random", "Keeps notes at random: the floor."),
    "oracle": ("Oracle", "Keeps what the full answer looked at."),
}
"""Title and one line for each registered method."""

DEFAULT_METHODS = ("full", "judgeq", "snapkv")

SAMPLE = "Sample"
DOCUMENT = "Document"
DOCUMENT_PLACEHOLDER = "Paste a text here, or upload one below"
UPLOAD = "Upload .txt or .md"
QUESTION = "Question"
QUESTION_PLACEHOLDER = "What do you want to know?"
QUESTION_FIRST = "Put the question before the document"
QUESTION_FIRST_INFO = "Harder: methods that look only at the end of the prompt then do not see the question."
ROWS = "Notes kept"
SHARE = "Share of the prompt"
OPTIONS = "Options"
COMPARE = "Compare"
LENGTH = "Longest answer, in tokens"
TRUNCATE = "Cut the middle of a document that is too long"
ASK = "Ask"
STOP = "Stop"

MAP_TITLE = "What stayed in memory"
MAP_EMPTY = "After a question, your document appears here, marked by what each method kept of it."
MAP_METHOD = "Method"
MAP_LAYER = "Layer"
ALL_LAYERS = "All layers"
LAYER = "Layer {layer}"
HEATMAP_TITLE = "Where it stayed, layer by layer"
HEATMAP = (
    "Each line is a layer of the model, each column a stretch of the prompt: the brighter, the more stayed."
)

NO_METHOD = "No method is chosen: open Options and tick at least one"
NO_BUDGET = "The budget is empty: give the number of notes to keep, such as 128"
EMPTY = {
    "document": "The document is empty: paste a text, upload one or choose a sample",
    "question": "The question is empty: ask something about the document",
}

READY = "{model} is ready."
LOADING = "{line} …"
WAITING = "Someone else is asking. Your turn comes next."
READING = "Reading the prompt: layer {done} of {layers}"
WRITING = "Writing {count}, one token of each in turn"
WRITING_ONE = "Writing the answer"
DONE = "Read once in {prefill}, answered in {total}."
STOPPED = "Stopped."
FAILED = "Nothing was lost: change what is needed and ask again."

FOUND = "finds {expected}"
MISSED = "misses {expected}"
ROWS_KEPT = "Notes kept"
KV_CACHE = "KV cache"
FIRST_TOKEN = "First token"
SPEED = "Speed"
OF_ROWS = "of {tokens:,}"
OF_FULL = "{share} of full"
PENDING = "–"
CUT = "Cut after {tokens} tokens, as set under Options."
CANCELLED = "Stopped here."
SILENT = "No answer: the model ended at once."
COST_NOTE = (
    "All figures are measured in this run. One reading serves all answers, so the first token has the same wait "
    "everywhere; only drafts and the oracle look twice. A note is one row of keys and values, for one token, in each "
    "layer and KV head."
)

COUNTING = "The length is counted as soon as the model is loaded."
SHARE_OF = "{share} of {tokens:,} tokens"
WHOLE = "The whole prompt of {tokens:,} tokens: nothing is thrown away."


PINS = "Must stay, must go"
PINS_LEAD = (
    "Overrule every method: copy pieces of the document here, one a line. They count wherever they occur, and only the "
    "full cache is left as it is."
)
PIN_STAY = "Must stay"
PIN_GO = "Must go"
PIN_PLACEHOLDER = "A piece of the document"
NO_SUCH_PIECE = "“{piece}” does not occur in the document: copy it from there, one piece a line"
EVERYWHERE = "“{piece}” occurs more than {most} times in the document: give a longer piece"
TOO_MANY_PIECES = "{count} pieces are too many: give at most {most}, one a line"

SWEEP_TITLE = "How small can it get?"
SWEEP_LEAD = (
    "The same question with 1 % of the notes, with 2 %, and so on up to all of them: how much of the full cache’s "
    "answer would each still write, word by word? One reading of the document serves all sizes. Pins do not count here."
)
SWEEP_METHODS = "Methods"
SWEEP_WATCHED = "Words to watch"
SWEEP_WATCHED_INFO = (
    "Optional: a piece of the document. A second curve shows how much of it is still remembered."
)
SWEEP = "Measure all sizes"
SWEEP_CANCEL = "Cancel"
SWEEP_REFERENCE = "Writing the answer of the full cache"
SWEEP_MEASURING = "Measured {done} of {count} points"
SWEEP_STOPPED = "Cancelled after {done} of {count} points."
SWEEP_FAILED = "Nothing was lost: change what is needed and measure again."
SWEEP_VERDICT = "The full cache’s answer, word for word:"
SWEEP_ENOUGH = "{method} needs {share} of the notes"
SWEEP_NEVER = "{method} never writes it"
SWEEP_AGREEMENT = "Agreement with the full cache"
SWEEP_SURVIVAL = "Watched words kept"
SWEEP_X = "Notes kept"
SWEEP_AXIS = "Notes kept, in % of all"
SWEEP_HOVER = (
    "%{fullData.name}: %{y:.0f} %<br>with %{x:.3g} % of the notes (%{customdata[0]:,})<extra></extra>"
)
SWEEP_ANSWER = "Measured along the full cache’s answer:"
SWEEP_TABLE = "The same in numbers"
SWEEP_AGREES = "{method} agrees"
SWEEP_SPAN_OF = "{method} keeps the words"
SWEEP_NO_METHOD = "No method is chosen: tick at least one to measure"


def join(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


def title(method: str) -> str:
    """How a method is called on the page."""
    return METHODS.get(method, (method, ""))[0]
