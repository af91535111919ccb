# %% [markdown]
# # 1. Quickstart
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/01_quickstart.ipynb)
#
# A language model that has read a long text remembers it as a *KV cache*: one row for every token, in every
# layer and head. Most of these rows never matter for the answer. Here you ask a real model about a real text
# while it keeps one row in seventeen, look at what it kept, and compare ways of choosing. This takes about a
# minute on two cores, without a GPU.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %% [markdown]
# ## A model and a text
#
# The model is SmolLM2-135M-Instruct, small enough for any laptop; it is fetched once. The text is a week in the
# log of a lighthouse keeper. Put a text of yours in its place if you like.

# %%
import judgeq
from judgeq._assets import assets_path

lm = judgeq.load("smollm2-135m")
document = assets_path("samples", "lighthouse.txt").read_text(encoding="utf-8")
question = "What is the code of the oil store?"
short = judgeq.Decoding(max_new_tokens=16)
print(document[:230], "…")

# %% [markdown]
# ## Ask with a fraction of the memory
#
# `budget` is the number of rows that are kept in each head of each layer; a number below 1 is a share of the
# prompt. Judge Q chooses them with 32 trained vectors, *soft tokens*, which come with the library for this
# model. Everything else is evicted before the answer begins.

# %%
answer = judgeq.ask(lm, document, question, budget=64, decoding=short)
print(answer.text)
print(f"{answer.budget} of {answer.prompt_tokens} rows in each head,", end=" ")
print(f"{answer.kv_bytes / 1e6:.1f} of {answer.full_kv_bytes / 1e6:.1f} MB")

# %% [markdown]
# ## See what was kept
#
# The text, coloured: the stronger a word is marked, the more of the 90 heads kept it. A few words are marked that
# seem to have nothing to do with the question; the sentence with the code stands further down, under Wednesday.

# %%
answer.retention

# %% [markdown]
# The figure shows the same layer by layer: from left to right the prompt, from top to bottom the layers, bright is
# kept. The bright columns in layers 3 to 10 are the words just mentioned, which this model always attends to,
# whatever it is asked. The spot in layers 20 to 24 is the sentence with the code.

# %%
answer.retention.to_figure()

# %% [markdown]
# In layer 22 nearly the whole sentence is still there. This is what that layer kept; scroll down to Wednesday.

# %%
from IPython.display import HTML

HTML(answer.retention.to_html(layer=22))

# %% [markdown]
# ## See where the answer comes from
#
# With `attended=True` the library records what each token of the answer attends to while it is written. Hold a word
# of the answer: lit is what the model reads for it. Below the answer are the sentences that it leans on.
#
# A text that is asked more than once is best a `Document`: it is read with the first question, and the next ones find
# it read.

# %%
log = judgeq.Document(lm, document)
log.ask(question, budget=64, attended=True, decoding=short).attended

# %% [markdown]
# ## Compare
#
# One reading of the text serves any number of methods, each with the same 64 rows. `full` forgets nothing. `snapkv`
# keeps what the last 32 tokens attend to. `streamingllm` keeps the beginning and the end. `random` is what chance
# would do.

# %%
methods = ("full", "judgeq", "snapkv", "streamingllm", "random")
reading = log.read_for(question, methods=methods, budget=64, decoding=short)
answers = {writer.name: writer.finish() for writer in reading.writers}
for name, given in answers.items():
    print(f"{name:13} {given.kv_bytes / 1e6:5.1f} MB   {given.text!r}")

# %% [markdown]
# What became of the fact? The figure shows, for each layer, the share of the sentence's rows that were kept, averaged
# over the layer's heads. Where it is looked up, in layers 20 to 22, Judge Q keeps most of it, SnapKV less than half.

# %%
from judgeq.retention.figures import layer_lines, lines

fact = "The code of the oil store is 4719"
start = document.index(fact)
layer_lines(
    {name: answers[name].retention.survival(start, start + len(fact)) for name in ("judgeq", "snapkv", "streamingllm")},
    "of the sentence stays",
)

# %% [markdown]
# Who kept what, word by word: one colour for what only Judge Q keeps, another for what only SnapKV keeps.

# %%
HTML(answers["judgeq"].retention.difference_html(answers["snapkv"].retention))

# %% [markdown]
# ## How small can it get?
#
# `sweep` tries one budget after the other. *Agreement* is the share of the full cache's answer that the model
# would still write, token by token. The figure shows it over the budget: a method is the better the further to
# the left its line is high. 100 % is more than a right answer needs, since the full cache keeps writing after it.

# %%
budgets = [8, 16, 32, 64, 128]
points = list(judgeq.sweep(lm, document, question, methods=("judgeq", "snapkv"), budgets=budgets, max_new_tokens=16))
curves = {
    name: (range(len(budgets)), [point.agreement for point in points if point.method == name])
    for name in ("judgeq", "snapkv")
}
figure = lines(curves, "rows in each head", "agreement")
figure.update_xaxes(tickvals=list(range(len(budgets))), ticktext=[str(budget) for budget in budgets])
figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.04])

# %% [markdown]
# One question about one text is an example, not a measurement: notebook 4 measures. Notebook 2 says how the soft
# tokens know what matters. In the browser all of this is one page: `python app.py`.
#
# ## Exercises
#
# **1.** Ask something else about the log, such as the name of the trawler. Which sentences are kept now?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# log.ask("What was the name of the trawler?", budget=64, decoding=short).retention
# ```
#
# Other ones, next to the words that the model always attends to. The question is in front of the soft tokens, so
# what they look for depends on it. If the answer is wrong, ask with `method="full"` too: a small model is wrong at
# times with its whole memory.
#
# </details>
#
# **2.** The inspector's visit is told under Wednesday too. How much of the words "Mr. Harrow" is left?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# start = document.index("Mr. Harrow")
# print(answer.retention.survival(start, start + len("Mr. Harrow")))
# ```
#
# Nothing, in any layer: the question is about the oil store. His name was evicted, and if the next question were about
# him, it would need rows of its own. Notebook 6 shows how the text is read only once all the same.
#
# </details>
#
# **3.** What does `budget=0.05` mean, and how many rows is it here?
#
# <details>
# <summary>Answer</summary>
#
# Five rows in a hundred of the prompt. `judgeq.ask(lm, document, question, budget=0.05).budget` says how many.
#
# </details>
