"""All text of the page that does not come from the library."""

from __future__ import annotations

TITLE = "Judge Q"
LEAD = (
    "While a language model reads, it stores one row of keys and values per token, in every layer and KV head. "
    "For long texts these rows fill its memory. Judge Q evicts most of them and keeps those that the answer will need."
)
INVITATION = "Ask something about a document and see what the answer loses."

OPEN = "Judge Q is open at {address}. Press Ctrl+C to stop it."

DEFAULT_METHODS = ("full", "judgeq", "snapkv")

SAMPLE = "Sample"
DOCUMENT = "Document"
DOCUMENT_PLACEHOLDER = "Paste a text here, drop a file on it, or upload one below"
UPLOAD = "Upload or drop .txt, .md, .html or .pdf"
QUESTION = "Question"
QUESTION_PLACEHOLDER = "What do you want to know?"
PREFIX = "The answer begins with"
PREFIX_PLACEHOLDER = "Nothing: the model begins by itself"
PROPOSE = "Propose it from the question"
BEGUN = "All methods continue the same beginning: “{prefix}”"
QUESTION_FIRST = "Put the question before the document"
QUESTION_FIRST_INFO = "Harder: methods that score with the end of the prompt then do not see the question."
ROWS = "Rows kept"
SHARE = "Share of the prompt"
OPTIONS = "Options"
COMPARE = "Compare"
STANDS_IN = "No soft tokens are known for {model}: the stock answer, which needs none, stands in for Judge Q."
LENGTH = "Longest answer, in tokens"
TRUNCATE = "Cut the middle of a document that is too long"
ASK = "Ask"
STOP = "Stop"

MAP_TITLE = "What was kept in memory"
MAP_EMPTY = "After a question, your document appears here, marked by what each method kept."
NO_METHOD = "No method is chosen: open Options and tick at least one"
NO_BUDGET = "The budget is empty: give the number of rows to keep, such as 128"
EMPTY = {
    "document": "The document is empty: paste a text, upload one or choose a sample",
    "question": "The question is empty: ask something about the document",
}

READY = "{model} is ready."
LOADING = "{line} …"
WAITING = "Others are being answered. You are number {place} in the queue."
READING = "Reading the {what}: layer {done} of {layers}"
WRITING = "Writing {count}, one token of each in turn"
WRITING_ONE = "Writing the answer"
DONE = "Read once in {prefill}, answered in {total}, in {precision}."
DONE_AGAIN = "The document’s rows were reused: the question took {prefill}, the answers {total}, in {precision}."
STORED = "Stored answers of this model, computed {computed}. Press Ask to compute them now."
STOPPED = "Stopped."
FAILED = "Nothing was lost: change what is needed and ask again."

FOUND = "finds {expected}"
MISSED = "misses {expected}"
ROWS_KEPT = "Rows kept"
KV_CACHE = "KV cache"
LOST = "In no head"
OF_TOKENS = "of {tokens:,} {noun}"
LOST_WORDS = "No head of any layer keeps all of these words of the full cache’s answer:"
LOST_MORE = "and {count:,} more"
LEANS = "Leans on"
LEANS_LABEL = "What the answer of {title} leans on"
REPLAY = "Replay"
REPLAY_LABEL = "Token of the answers"
REPLAY_HINT = (
    "Hold a word of an answer, or go through it with the arrow keys, to see where it came from: lit is what the model "
    "attends to among the stored rows for this word and not for all others. The first token attends to all rows. "
    "“Leans on” ranks the document’s sentences by that. “Layer”, above the document, chooses one layer of it, and "
    "then one query head."
)
LIT_BY = "Lit by layer {layer} alone, all its heads together."
LIT_BY_HEAD = "Lit by query head {head} of layer {layer} alone."
STORED_HEADS = "Ask anything to choose one of its heads, too."
NO_HEADS = "Document and answers are too long to record each head."
LIT_BY_ALL = "Lit by all layers: document and answers are too long to record each one."
FIRST_TOKEN = "First token"
SPEED = "Speed"
OF_ROWS = "of {tokens:,}"
OF_FULL = "{share} of full"
PENDING = "–"
CUT = "Cut after {tokens} tokens, as set under Options."
CANCELLED = "Stopped here."
SILENT = "No answer: the model ended at once."
COST_NOTE = (
    "All figures are measured in this run. One reading serves all answers, so the time to the first token is the same "
    "for all; only drafts and the oracle read twice. A row is one key and one value, for one token, in one layer and "
    "KV head."
)

NEXT = "Try next:"
NEXT_BEGIN = "even the full cache misses it, so begin the answer, under the question."
NEXT_SHORTER = "even the full cache misses it, so ask for one fact, or load a larger model."
NEXT_LOST = "select {expected} in the document below to see where {names} lost it, or give {rows} rows."
NEXT_DIFFERS = "select the words below that the answer needs, and see which method still keeps them."
NEXT_FEWER = "no method lost the answer: give {rows} rows, and see which one fails first."
NEXT_SIZES = "Or measure all sizes at once."

AGAIN = "Ask something else about this document"
AGAIN_PLACEHOLDER = "It is not read again: the next answer starts much sooner"
AGAIN_BUTTON = "Ask again"
EARLIER = "Asked before"
EARLIER_COST = "read in {prefill}"
SAME = "The same words as the full cache’s answer."
OTHER = "Another answer than the full cache’s."
CHANGED = "Underlined: not in the full cache’s answer. Struck out: only there."

COUNTING = "The length is counted as soon as the model is loaded."
SHARE_OF = "{share} of {tokens:,} tokens, {memory}"
WHOLE = "The whole prompt of {tokens:,} tokens, {memory}: nothing is evicted."


TAKE_TITLE = "Export"
TAKE = (
    "The page opens offline, with every method’s answer and map. Files are made when you click and are not stored "
    "here. The picture shows a part of your document, the other files contain all of it."
)
TAKE_KINDS = {
    "page": "Page (.html)",
    "picture": "Picture (.png)",
    "table": "Table (.csv)",
    "values": "Data (.json)",
}
TAKE_LINK = "Link"
TAKE_LINK_INFO = "Restores the question, the settings and the sample, never a text of your own."
TAKE_PYTHON = "The same in Python"
NOTHING_TO_TAKE = "There is no answer to export yet: ask something first"
LINK_IGNORED = "Unknown parts of this link were ignored: {names}."
LINK_NO_DOCUMENT = "This link has a question and settings, but no document: paste the text that it is about."

CALCULATOR_TITLE = "What would it cost elsewhere?"
CALCULATOR = (
    "Calculated from the sizes of these models, not measured: the memory of one document’s rows, and how many "
    "documents fit into a GPU at once. Kernels and other programs take some memory on top."
)
CALCULATOR_MODEL = "Model"
CALCULATOR_TOKENS = "Length in tokens"
CALCULATOR_ROWS = "Rows kept"
CALCULATOR_ROW_BITS = "Kept rows in"
CALCULATOR_WEIGHTS = "Weights in"
CALCULATOR_MEMORY = "GPU memory, in GB"
CALCULATOR_EMPTY = {
    "length": "The length is empty: give the document's length in tokens, such as 32768",
    "rows": "The rows are empty: give the number of rows to keep, such as 1024",
    "memory": "The memory is empty: give the GPU's memory in GB, such as 24",
}
CALCULATED = "A calculation, not a measurement"
CALCULATED_WEIGHTS = "The model itself"
CALCULATED_DOCUMENT = "Rows of one document"
CALCULATED_FIT = "Documents in {memory} GB"
CALCULATED_WHAT = "Memory for"
CALCULATED_FULL = "All rows"
CALCULATED_KEPT = "Those kept"
CALCULATED_SENTENCE = (
    "{model} on a GPU of {memory} GB can hold {full} of {tokens} tokens with all rows, "
    "and {kept} with those that are kept."
)
CALCULATED_SAME = (
    "{model} on a GPU of {memory} GB can hold {full} of {tokens} tokens, with all rows or with those kept."
)
CALCULATED_TOO_LARGE = "{model} alone needs more than {memory} GB: choose fewer bits, or more memory."

MODELS_TITLE = "Model and soft tokens"
MACHINE_GPU = "This machine has a GPU, {gpu}, with {memory} free."
MACHINE_CPU = "This machine has no GPU, {cores} cores and {memory} of free memory."
MODELS_INFO = "Another model replaces this one for everyone who has this page open."
MODELS_NAME = "Model"
MODELS_NAME_INFO = "Choose one, or type the id of one on the Hugging Face Hub, such as org/name."
MODELS_LOAD = "Load this model"
MODELS_JUDGED = "A judge for it comes with this page."
MODELS_AT_ONCE = "Works as soon as it is loaded: {methods}."
MODELS_TRAIN = "Judge Q needs soft tokens for it, which this trains:"
MODELS_TRAIN_HERE = "Judge Q needs soft tokens for it: load it and train them below the answers, or in a terminal:"
MODELS_LOADING = "Loading {name} as soon as no answer is being written"
MODELS_KEPT = "{reason}. {name} is still in use."
SWITCH_STOPPED = "The model was not changed, since the page was closed: load it again"
PRECISIONS = {None: "not quantized", "8bit": "8 bits", "4bit": "4 bits"}
PRECISIONS_SAID = {None: "not quantized", "8bit": "in 8 bits", "4bit": "in 4 bits"}
PRECISION = "Weights"
PRECISION_GPU = "Fewer bits need less memory; in 4 bits a small model answers worse."
PRECISION_CPU = "Fewer bits need less memory; without a GPU they are slower, and in 4 bits a small model answers worse."
NO_HUB_ID = "{name!r} is neither a model that comes with this page nor an id on the Hub: type one such as org/name"
TOKENS_INFO = (
    "Judge Q scores rows with trained soft tokens. You can upload your own, made for this model: choose "
    "judgeq_config.json and soft_tokens.safetensors together. Only you use them, and they are deleted when you leave."
)
TOKENS_UPLOAD = "Upload soft tokens"
TOKENS_SHIPPED = "Back to the default ones"
TOKENS_HUB = "Soft tokens from the Hub"
TOKENS_TAKE = "Use these"
TOKENS_NONE = "In use: the default soft tokens of this model."
TOKENS_OWN = "In use: your own {n} soft tokens for {model}."
TOKENS_NO_ID = "{name!r} is not an id on the Hub: type one such as owner/name"
TOKENS_FILES = "Soft tokens are two files and {missing} is not among yours: choose {files} together"
TOKENS_FILE_GONE = "{name} was not uploaded completely: upload both files again"
TOKENS_LARGE = "A file of these soft tokens is larger than {size} MB: run the demo yourself with --tokens to use them"
TOKENS_MANY = "These are {n:,} soft tokens and at most {most} are allowed here: use fewer"
TOKENS_GONE = "Your soft tokens were deleted to make room for others: upload them again, or go back to the default ones"

PINS = "Always keep, always evict"
PINS_LEAD = (
    "Override every method: copy pieces of the document here, one per line. They apply wherever they occur; only the "
    "full cache ignores them."
)
PIN_STAY = "Always keep"
PIN_GO = "Always evict"
PIN_PLACEHOLDER = "A piece of the document"
NO_SUCH_PIECE = "“{piece}” does not occur in the document: copy it from there, one piece per line"
EVERYWHERE = "“{piece}” occurs more than {most} times in the document: give a longer piece"
TOO_MANY_PIECES = "{count} pieces are too many: give at most {most}, one per line"

SWEEP_TITLE = "How small can it get?"
SWEEP_LEAD = (
    "The same question with 1 % of the rows, with 2 %, and so on up to all of them: how much of the full cache’s "
    "answer does each still write, word by word? One reading of the document serves all sizes. Pins are ignored here."
)
SWEEP_FOLD = "Measure it here"
SWEEP_METHODS = "Methods"
SWEEP_WATCHED = "Words to watch"
SWEEP_WATCHED_INFO = "Optional: a piece of the document. A second curve shows how much of it is still remembered."
SWEEP = "Measure all sizes"
SWEEP_CANCEL = "Cancel"
SWEEP_REFERENCE = "Writing the answer of the full cache"
SWEEP_MEASURING = "Measured {done} of {count} points"
SWEEP_STOPPED = "Cancelled after {done} of {count} points."
SWEEP_FAILED = "Nothing was lost: change what is needed and measure again."
SWEEP_VERDICT = "The full cache’s answer, word for word:"
SWEEP_ENOUGH = "{method} needs {share} of the rows"
SWEEP_NEVER = "{method} never writes it"
SWEEP_AGREEMENT = "Agreement with the full cache"
SWEEP_SURVIVAL = "Watched words kept"
SWEEP_X = "Rows kept"
SWEEP_AXIS = "Rows kept, in % of all"
SWEEP_HOVER = "%{fullData.name}: %{y:.0f} %<br>with %{x:.3g} % of the rows (%{customdata[0]:,})<extra></extra>"
SWEEP_ANSWER = "Measured along the full cache’s answer:"
SWEEP_TABLE = "The same in numbers"
SWEEP_AGREES = "{method} agrees"
SWEEP_SPAN_OF = "{method} keeps the words"
SWEEP_NO_METHOD = "No method is chosen: tick at least one to measure"

CALIBRATE_TITLE = "How small is safe?"
CALIBRATE_LEAD = (
    "One answer that survives may be luck. Ask several questions about the document: each is answered with all rows "
    "and with ever fewer, and exact statistics say at which budget such answers survive, and how sure that is."
)
CALIBRATE_FOLD = "Find it here"
CALIBRATE_QUESTIONS = "Questions, one per line"
CALIBRATE_QUESTIONS_INFO = (
    "22 are the fewest for 90 % with 90 % confidence. A line that ends with … is a sentence that the answer "
    "continues; what follows => is what a right answer contains."
)
CALIBRATE_PLACEHOLDER = "How tall is the tower?\nThe tower was built in … => 1874"
CALIBRATE_PROPOSE = "Propose questions"
CALIBRATE_UPLOAD = "Upload questions (.txt)"
CALIBRATE_PROPOSED = (
    "{count} sentences of the document, begun before a number or a name: change them to what you would ask."
)
CALIBRATE_NONE_PROPOSED = "No sentence of the document leads up to a number or a name: type questions of your own"
CALIBRATE_METHOD = "Method"
CALIBRATE_SURVIVE = "Answers that must survive"
CALIBRATE_CONFIDENCE = "Confidence"
CALIBRATE = "Find the smallest safe budget"
CALIBRATE_CANCEL = "Cancel"
CALIBRATE_NO_QUESTION = "There are no questions: type some, one per line, or let some be proposed"
CALIBRATE_NO_METHOD = "No method is chosen: choose the one to calibrate"
CALIBRATE_ANSWERING = "Answered {done} of {count} questions, each at {budgets} budgets"
CALIBRATE_STOPPED = "Cancelled after {done} of {count} questions: fewer questions than planned promise nothing."
CALIBRATE_FAILED = "Nothing was lost: change what is needed and start again."
CALIBRATE_ASIDE = "Set aside, since the full cache itself does not find what is expected: {count} of {all}. {lines}"
CALIBRATE_PROMISE = (
    "This holds for questions like these about a document like this one, asked independently of each other, with this "
    "model and method. It promises nothing for other documents or other kinds of questions, and not that the full "
    "cache’s answers are right. Where nothing is expected, an answer survives only in the same words."
)
CALIBRATE_TABLE = "Every budget in numbers"
CALIBRATE_COLUMNS = ("Rows kept", "Memory", "Survive", "At least", "At most", "Shown safe")
CALIBRATE_SAFE, CALIBRATE_NOT_SAFE = "yes", "no"
CALIBRATE_BROKE = "Broke first"
CALIBRATE_BROKE_AT = "with {budget}"
CALIBRATE_BECAME = "became"
CALIBRATE_BROKE_MORE = "and {count:,} more"
CALIBRATE_NOTHING_BROKE = "No answer broke at any budget."


def join(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


TRAIN_TITLE = "Train a judge for this model"
TRAIN_LEAD = (
    "Soft tokens belong to one model. These are trained on this machine for the model that is loaded: it answers "
    "prompts, and they learn what its answers attend to. Questions wait meanwhile, and what is stopped can be resumed."
)
TRAIN_FOLD = "Train here"
TRAIN_RECIPE = "Recipe"
TRAIN_RECIPES = {"quick": "Quick: 160 short prompts", "full": "Full: 480 prompts of up to 2,048 tokens"}
TRAIN_NO_RECIPE = "There is no such recipe: choose one of those offered"
TRAIN_FOLDER = "Name of its folder"
TRAIN_FOLDER_PLACEHOLDER = "The model’s name"
TRAIN_ESTIMATE = "What will it take?"
TRAIN = "Train or resume"
TRAIN_BUSY = "A training or its estimate is running already: wait for it, or press Stop"
TRAIN_ELSEWHERE = "Training is only started on the machine itself: open the page there"
TRAIN_MEASURING = "Drawing the prompts and measuring one example"
TRAIN_PREPARING = "Drawing the prompts"
TRAIN_AT = "{phase}: {done:,} of {total:,}"
TRAIN_STOPPING = "Stopping after this step"
TRAIN_STOPPED = "Stopped at {phase}, {done:,} of {total:,}: train again with the same name to resume."
TRAIN_FAILED = "Nothing finished was lost: change what is needed and train again."
TRAIN_ESTIMATED = "Estimated from one example that was measured on this machine; nothing is trained yet."
TRAIN_DONE = "Trained and in use: Judge Q scores with it from now on. It lies in {folder}."
TRAIN_NEEDS = "What it will take"
TRAIN_TIME = "Time, at most about"
TRAIN_MEMORY = "Memory"
TRAIN_DISK = "Disk, while it trains"
TRAIN_FREE = "of {free} free"
TRAIN_TOO_MUCH = "not enough"
TRAIN_COMMAND = "The same in a terminal:"


MAP_METHOD = "Method"
MAP_OTHER = "Compare with"
NO_OTHER = "Nothing"
MAP_GRANULARITY = "Marked by"
GRANULARITIES = {"token": "Token", "word": "Word", "sentence": "Sentence", "paragraph": "Paragraph"}
MAP_LAYER = "Layer"
ALL_LAYERS = "All layers"
LAYER = "Layer {number}"
MAP_HEAD = "KV head"
MAP_QUERY_HEAD = "Lit by query head"
ALL_HEADS = "All heads"
HEAD = "Head {number}"
SURVIVAL_TITLE = "Did my fact survive?"
SURVIVAL = (
    "Select words in the document above, or type them here: this shows how much of them each method still keeps, over "
    "all layers and heads."
)
SPAN = "Words of the document"
SPAN_PLACEHOLDER = "Select words above, or type them exactly"
FIND = "Find"
SPAN_STAY = "Always keep"
SPAN_GO = "Always evict"
SPAN_PINNED = "Noted: ask again to see what changes."
SURVIVAL_OF = "Still kept of “{words}” ({tokens})"
TOKENS = "{tokens:,} tokens"
TOKEN = "1 token"
NO_SPAN = "There are no words to find: select some in the document, or type them"
NOT_THERE = "The document does not contain “{words}”: select words in it, or type them exactly"
NO_MAP = "There is nothing to show yet: ask something about a document first"
HEATMAP_TITLE = "Where it was kept, layer by layer"
HEATMAP = (
    "Each line is a layer of the model, each column a stretch of the prompt: the brighter, the more was kept. A click, "
    "or the arrow keys and Enter, show the words of that stretch in the document."
)
HEATMAP_FOLD = "Show the layers"
HEATMAP_KEYS = "Heatmap: the arrow keys go from region to region, Enter shows its words in the document"
MAP_METRIC = "What is drawn"
METRICS = {"kept": "Rows kept", "score": "Best scores"}
HEADS_TITLE = "How many rows each head keeps"
HEADS = "This method gives its heads different numbers of rows: each line is a layer, each column a head."

LENGTH_OF = "{tokens:,} of {limit:,} tokens"
LENGTH_OVER = "{over:,} too many with the answer. Shorten the document, or let its middle be cut (Options)."
LENGTH_CUT = "about {over:,} will be cut out of its middle, to leave space for the answer."
LENGTH_EMPTY = "No text yet."
LENGTH_UNKNOWN = "Tokens are counted as soon as the model is loaded."
NO_SHARE = "None yet: the prompt cannot be read as it is."
READING_FILE = "Reading the file …"
STRANGE_REQUEST = "This request does not come from the page: reload the page and try again."
NOT_STORED = "This file could not be stored: give it a shorter name, or try again later."
TOO_MUCH = "Too many long texts are waiting here: try again in a few minutes."
FOREIGN_FILE = "Files are not downloaded from other addresses: upload the file."
NO_RUN = "This run was deleted, since the page was idle for too long: ask again."
RUN_GONE = "What this page showed was deleted to make room for other visitors: ask again to see it."
BUSY = "Your last question is still being answered: wait for it, or press Stop."
