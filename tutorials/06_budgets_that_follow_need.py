# %% [markdown]
# # 6. Budgets that follow need
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/06_budgets_that_follow_need.ipynb)
#
# So far every head of every layer kept the same number of rows, for one question, until the end of the answer. None
# of that has to be so. Here a text is read once and asked often, budgets are split by need, the memory of a long
# answer is bounded, and rows are quantized. Bytes are measured at each step. This takes about a minute on two cores,
# without a GPU.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %%
import tempfile
from pathlib import Path

import judgeq
from judgeq import Selection
from judgeq._assets import assets_path
from judgeq.methods import JudgeQ
from judgeq.retention.figures import lines

lm = judgeq.load("smollm2-135m")
document = assets_path("samples", "lighthouse.txt").read_text(encoding="utf-8")
question = "What is the code of the oil store?"
short = judgeq.Decoding(max_new_tokens=12)

# %% [markdown]
# ## Read once, ask often
#
# The text is a week in the log of a lighthouse keeper. A `Document` keeps its rows. Each question reads its own few
# tokens, and rows are chosen anew from the complete ones: the second question loses nothing to the first.

# %% tags=["timed"]
log = judgeq.Document(lm, document)
for asked in (question, "What was the name of the trawler?", "How many gallons of paraffin are there?"):
    answer = log.ask(asked, budget=64, decoding=short)
    print(f"first token after {answer.timing.ttft_s:4.2f} s: {answer.text}")

# %% [markdown]
# The first question read the text, the others did not. A document can be saved, and asked again tomorrow without
# reading it. The folder is bound to the model that read it. In memory it takes more than on the disk, since room is
# set aside for a question and its answer.

# %%
with tempfile.TemporaryDirectory() as place:
    folder = log.save(Path(place) / "log")
    size = sum(path.stat().st_size for path in folder.iterdir())
    loaded = judgeq.Document.load(lm, folder)
print(f"{size / 1e6:.0f} MB on the disk, {loaded.kv_bytes / 1e6:.0f} MB in memory")
print(loaded.ask(question, budget=64, decoding=short).text)

# %% [markdown]
# The price is that the text's rows are held in full. If that is too much, evict once, *before* any question is known.
# Soft tokens that were trained for this keep what usually stands out, and what is evicted is lost for all questions.
# In a log nothing stands out. `kvzip+` has the model repeat the text, and keeps what that attends to: it takes one
# more reading, and here it keeps both answers.

# %%
print(f"complete {log.kv_bytes / 1e6:.1f} MB")
for method in ("judgeq", "kvzip+"):
    small = log.compress(method=method, budget=256)
    for asked in (question, "How many gallons of paraffin are there?"):
        print(f"{method:7} {small.kv_bytes / 1e6:.1f} MB  {asked:40} {small.ask(asked, decoding=short).text!r}")

# %% [markdown]
# ## Not every head needs the same
#
# Some heads look at a few words of the log, others at hundreds. `adakv` lets the heads of a layer compete for the
# layer's rows: the best scores win, in whichever head they are. `profile` knows from training how many rows each layer
# and head deserves; the soft tokens bring it along. The total stays what it was.

# %%
even, adakv, learned = (JudgeQ(selection=Selection(allocation=name)) for name in ("uniform", "adakv", "profile"))
methods = ("full", even, adakv, learned)
reading = log.read_for(question, methods=methods, budget=64, decoding=short)
full, *split = (writer.finish() for writer in reading.writers)
print(f"full cache {full.kv_bytes / 1e6:6.2f} MB")
for name, answer in zip(("even", "adakv", "profile"), split, strict=True):
    rows = answer.retention.kept_rows
    freed = full.kv_bytes - answer.kv_bytes
    print(f"{name:10} {answer.kv_bytes / 1e6:6.2f} MB, {freed / 1e6:.2f} MB freed,", end=" ")
    print(f"{rows.min():2} to {rows.max():3} rows a head: {answer.text}")

# %% [markdown]
# The bytes are measured from the tensors. Rows are stored one after the other, without padding, so uneven budgets
# take no more memory than even ones.
#
# The figure shows the rows that each of the model's three KV heads keeps in each layer with `adakv`, for this text
# and question: what is bright in one head of a layer is dark in another.

# %%
split[1].retention.to_head_figure()

# %% [markdown]
# The next figure shows the learned profile, the same for every text. It moves rows between layers as well; the first
# layer, whose attention is spread over much of the text, gets the most by far. Mind the scale below, which reaches
# further.

# %%
split[2].retention.to_head_figure()

# %% [markdown]
# Does it answer better? On this one question `adakv` loses the code. Over many prompts we measured no difference that
# their number could show, so an even budget is the default. It may be another matter with your model: notebook 4 says
# how to measure it.

# %% [markdown]
# ## Long answers
#
# Every token of an answer adds rows too. With `evict_every=16` all rows, those of the answer included, are scored
# again after every 16 tokens, and each head keeps its budget of them. The figure shows the rows that a head holds
# while 40 tokens are written: without a bound they grow as long as the answer does, with one they never exceed the
# budget and 16.

# %%
request = "Tell what happened on each day of the week."
curves = {}
for name, every in {"without a bound": None, "judged again every 16 tokens": 16}.items():
    decoding = judgeq.Decoding(max_new_tokens=40, evict_every=every)
    (writer,) = log.read_for(request, methods=["judgeq"], budget=64, decoding=decoding).writers
    held = [writer.retained.cache.rows / lm.geometry.layers for _ in writer]
    curves[name] = (range(1, len(held) + 1), held)
lines(curves, "tokens written", "rows in each head")

# %%
bounded = writer.answer()
left = bounded.retention_at_end.kept_rows.mean()
everything = sum(len(rows) for layer in bounded.rows_at_end for rows in layer) / bounded.retention.kept_rows.size
print(f"At the end a head holds {everything:.0f} rows: {left:.0f} of the prompt, the others of the answer itself.")

# %% [markdown]
# ## Fewer bits
#
# What is kept can be rounded: to 8 or 4 bits per number, instead of 32 here. So the same bytes hold more rows. Each
# line below takes about the bytes of the first one:

# %%
row_bytes = {}
for rows, bits in ((25, 32), (89, 8), (160, 4)):
    answer = log.ask(question, budget=rows, row_bits=None if bits == 32 else bits, decoding=short)
    row_bytes[bits] = answer.kv_bytes / rows
    print(f"{rows:3} rows in {bits:2} bits: {answer.kv_bytes / 1e6:.2f} MB   {answer.text}")

# %% [markdown]
# Are many rounded rows worth more than few exact ones? *Agreement* is the share of the full cache's answer that the
# model would still write, token by token. The figure shows it over the bytes: the further to the left a line is high,
# the better. Rounding hardly costs anything, and evicting does, so the rounded rows win at every size.

# %%
budgets = (8, 16, 32, 64, 128)
rounded = [JudgeQ(selection=Selection(bits=bits)) for bits in (None, 8, 4)]
points = list(judgeq.sweep(lm, document, question, methods=rounded, budgets=budgets, max_new_tokens=12))
curves = {}
for index, (bits, size) in enumerate(row_bytes.items()):
    line = points[index :: len(rounded)]  # every method at the first budget, then at the next
    curves[f"{bits} bits"] = (
        [point.rows * size / 1e6 for point in line],
        [point.agreement for point in line],
    )
figure = lines(curves, "MB of rows, each step twice as much", "agreement")
figure.update_xaxes(type="log", tickvals=[0.0625, 0.125, 0.25, 0.5, 1, 2, 4])
figure.update_yaxes(tickformat=".0%", range=[0, 1.04])

# %% [markdown]
# One answer is an example. [Memory](../docs/memory.md) has the same comparison over many questions, with the
# command that measures it.
#
# ## Exercises
#
# **1.** Ask for the code at 8 rows a head, evenly and with `adakv`. What are the least and the most rows of a head
# now?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for method in (even, adakv):
#     answer = log.ask(question, method=method, budget=8, decoding=short)
#     rows = answer.retention.kept_rows
#     print(rows.min(), rows.max(), rows.sum(), answer.text)
# ```
#
# The sum is the same. With `adakv` heads that look at one place give rows to those that look around.
#
# </details>
#
# **2.** How many rows does `compress` need until the code survives?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for budget in (512, 1024):
#     print(budget, log.compress(budget=budget).ask(question, decoding=short).text)
# ```
#
# Nearly all of them, where 64 suffice when the question is known: nothing tells the soft tokens that just this code
# will be asked for. Answers say which of the two it was, `answer.query_aware`.
#
# </details>
#
# **3.** Why does rounding save memory and no time?
#
# <details>
# <summary>Answer</summary>
#
# For every token the rows are computed back into full precision, a layer at a time. Fewer bytes are held, but not
# fewer numbers multiplied.
#
# </details>
