# %% [markdown]
# # 2. How Judge Q works
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/02_how_judge_q_works.ipynb)
#
# Which rows of its memory will a model need for an answer that it has not written yet? Here you look at where
# the answer really looks, and at two ways of guessing it beforehand: with the last words of the prompt, and with
# trained soft tokens. Then you count how good the guesses are. This takes about a minute on two cores,
# without a GPU.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %%
import judgeq
from judgeq._assets import assets_path

lm = judgeq.load("smollm2-135m")
document = assets_path("samples", "notebook.txt").read_text(encoding="utf-8")
question = "What is the serial number of the balance?"
short = judgeq.Decoding(max_new_tokens=16)

# %% [markdown]
# ## Where the answer looks
#
# While a model writes, every head of every layer pays *attention* to earlier tokens: a share to each, and the
# shares sum to one. What the answer pays attention to is what it needs. The *oracle* is a method that knows this:
# it lets the full cache write the answer first, and keeps the rows that this answer attended to most. It cannot
# be used in practice, since it needs the answer before it starts. It is the measure for all others.
#
# **SnapKV** guesses with the last 32 tokens of the prompt, its *last window*: the end of the text, the question,
# and a few words of form. **Judge Q** puts 32 trained vectors, the *soft tokens*, after the prompt and guesses
# with those. The text is a laboratory notebook, and each method keeps 64 of its rows in each head:

# %%
methods = {
    "oracle": "the answer (oracle)",
    "judgeq": "the soft tokens (Judge Q)",
    "snapkv": "the last window (SnapKV)",
}
reading = judgeq.read(lm, document, question, methods=list(methods), budget=64, decoding=short)
answers = {writer.name: writer.finish() for writer in reading.writers}
for name, answer in answers.items():
    print(f"{name:7} {answer.text}")

# %% [markdown]
# Which layers attend to the sentence that holds the number? The figure shows, for every layer, the share of the
# attention to the text that falls on this one sentence. Most layers do other things. The answer looks the number up
# in layers 14 to 23; from layer 20 on the soft tokens look there too, and the last window hardly does.

# %%
import numpy as np

from judgeq.retention.figures import attention_panels, attention_share, layer_lines

fact = "The serial number of the balance is 60318"
start = document.index(fact)
span = (start, start + len(fact))
maps = {title: answers[name].retention for name, title in methods.items()}


def share_of_fact(found, layers=None):
    """The share of the attention to the text that falls on the sentence."""
    held, first = found.tokens_at(*span), found.document_tokens.start
    return attention_share(found, layers)[held.start - first : held.stop - first].sum()


by_layer = {
    title: np.array([share_of_fact(found, range(layer, layer + 1)) for layer in range(found.layers)])
    for title, found in maps.items()
}
layer_lines(by_layer, "for the sentence").update_yaxes(range=[-0.02, 0.52], nticks=6)

# %% [markdown]
# Now the whole text, in eight of these layers. The figure shows where each of the three looks, from the text's
# beginning on the left to its end; the stripe is the sentence. The answer looks at one place. The soft tokens,
# which never saw the answer, look at the same place and a little everywhere. The last window looks above all at
# itself; what it has left for the sentence falls on the first words, not on the number.

# %%
LOOK_UP = range(18, 26)
attention_panels(maps, {"the number": span}, LOOK_UP)

# %%
for title, found in maps.items():
    print(f"{title:26} {share_of_fact(found, LOOK_UP):5.1%} of its attention to the text is for the sentence")

# %% [markdown]
# ## Why the last window misses what is global
#
# The last tokens were never meant to judge. Each of them predicts its own next word, and for that its neighbours
# matter most: the window sees what is near. It found a little of our sentence only because the question happened
# to stand in it. The soft tokens have no next word. They were trained for one thing, to look where the answer
# will look, wherever in the text that is.
#
# So put the question *before* the text, as many people write it. The last window is then the end of the notebook,
# which asks nothing:

# %%
moved = judgeq.read(lm, document, question, methods=list(methods), budget=64, question_first=True, decoding=short)
moved_answers = {writer.name: writer.finish() for writer in moved.writers}
for name, answer in moved_answers.items():
    print(f"{name:7} {answer.text}")

# %% [markdown]
# The figure is the same as before, with the question moved: the answer still looks at the sentence, and the last
# window has lost it altogether. The soft tokens are less sure than before, and with 64 rows the number is lost here;
# with `budget=128` it is there again.

# %%
moved_maps = {title: moved_answers[name].retention for name, title in methods.items()}
attention_panels(moved_maps, {"the number": span}, LOOK_UP)

# %% [markdown]
# What that means for the memory: the share of the sentence's rows that each method kept, in the same layers.

# %%
print(f"{'':26} question behind   question before")
for title in maps:
    behind, before = (found[title].survival(*span)[LOOK_UP].mean() for found in (maps, moved_maps))
    print(f"{title:26} {behind:15.0%} {before:17.0%}")

# %% [markdown]
# ## The hit rate
#
# One sentence is an anecdote. The *hit rate* counts every row: both the oracle and a method keep 64 rows in each
# head, and the hit rate is the share of the oracle's rows that the method keeps too. 100 % would be the oracle
# itself. Here it is over two encyclopaedia articles that training never saw, each with a question:

# %%
from judgeq.data.mixture import parse_sources
from judgeq.evaluation.hit_rate import hit_rates
from judgeq.methods.parsing import methods_from_text

unseen = parse_sources("wiki", part="held_out").examples(lm, 2, tokens=(256, 384), seed=1)
chosen = methods_from_text("judgeq,snapkv,streamingllm,random", pool=1, unit="row")  # single rows
rates = hit_rates(
    lm,
    unseen,
    list(chosen.values()),
    [64],
    tokens=judgeq.SoftTokens.for_model(lm),
    names=list(chosen),
    response_tokens=16,
)
for rate in rates:
    print(f"{rate.method:13} {rate.mean:5.1%}")

# %% [markdown]
# The figure shows it layer by layer. The last window falls furthest behind in the layers that look things up.
# `streamingllm` keeps the beginning and the end without looking, `random` is what chance would do.

# %%
layer_lines({rate.method: np.array(rate.per_layer) for rate in rates}, "hit rate")

# %% [markdown]
# ## What happens inside
#
# 1. The soft tokens are appended after the prompt, and the model reads everything in one pass. What comes later
#    never changes what came before, so the prompt's own rows are those of an ordinary reading.
# 2. In each layer, right after its attention, every row of the prompt gets a score: how much the soft tokens look
#    at it. The best ones of each head are copied, the layer's other rows go. Then the next layer runs.
# 3. The soft tokens' own rows are dropped too. The model writes on as if nothing had happened: each row carries
#    its position, so gaps do not matter.
# 4. Eight more trained tokens, the *memory tokens*, follow the soft tokens and read the prompt as well. Their rows
#    stay: 8 of the budget's 64, with what no single row of the prompt says. `judgeq:memory=0` does without them.
#
# So memory never holds more than one layer in full, even while the prompt is read. `peak_rows` says how many rows
# were held at once, here for the notebook's first pages:

# %%
answer = judgeq.ask(lm, document[:2000], question, budget=64, decoding=judgeq.Decoding(max_new_tokens=1))
layers = len(answer.kept_rows)
print(f"the full cache          {layers * answer.prompt_tokens:6,} rows in {layers} layers")
print(f"Judge Q, at most        {answer.peak_rows:6,}")
print(f"when the answer begins  {sum(max(heads) for heads in answer.kept_rows):6,}")

# %% [markdown]
# How soft tokens learn is notebook 3. The words are explained in [concepts](../docs/concepts.md), the method in
# the paper, [Judge Q](https://arxiv.org/abs/2509.10798).
#
# ## Exercises
#
# **1.** Draw the attention in the first eight layers instead: `attention_panels(maps, {"the number": span},
# range(8))`. What do the answer and the soft tokens look at there?
#
# <details>
# <summary>Answer</summary>
#
# At less than ten words, most of them "the", and all three look at the same ones. Attention has to go somewhere, and
# where these layers find nothing to look at they always go there. Everybody keeps those rows, so they decide nothing.
#
# </details>
#
# **2.** SnapKV looks with 32 tokens. Does a shorter window help?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# windows = methods_from_text("snapkv,snapkv:window=16,snapkv:window=8", pool=1)
# options = {"tokens": None, "names": list(windows), "response_tokens": 16}
# for rate in hit_rates(lm, unseen, list(windows.values()), [64], **options):
#     print(f"{rate.method:20} {rate.mean:5.1%}")
# ```
#
# Hardly: a shorter window holds less of the text's end, and so more of the question in proportion, but fewer tokens
# look. It stays far after the soft tokens.
#
# </details>
#
# **3.** Why does the table of hit rates not list the oracle?
#
# <details>
# <summary>Answer</summary>
#
# It would be 100 % by definition: it is what everybody is compared with.
#
# </details>
#
# **4.** A method keeps 77 % of the oracle's rows. Does it answer 77 % of the questions?
#
# <details>
# <summary>Answer</summary>
#
# No. A missed row may hardly have mattered, or it may have held the one number that was asked for. Hit rates tell
# how well a method guesses; answers have to be counted too. Notebook 4 does.
#
# </details>
