# %% [markdown]
# # 3. Train your own judge
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/03_train_your_own_judge.ipynb)
#
# Soft tokens are a few trained vectors that are appended to a prompt. What they attend to is kept in the model's
# memory, the rest is evicted. Afterwards you know what they learn from, you have trained some, seen how far
# they got beside SnapKV, and taught them texts of your own. This takes about a minute and a half on two cores,
# without a GPU.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %%
import json
import random
import tempfile
from pathlib import Path

import judgeq

place = tempfile.TemporaryDirectory()
folder = Path(place.name)  # what is made here goes when the notebook ends; name a folder of yours to keep it
lm = judgeq.load("smollm2-135m")

# %% [markdown]
# ## An example
#
# Training needs prompts, and nothing else: no right answers, no labels. A prompt is a text and a question about
# it. Here they come from short encyclopaedia articles; one article in ten is held out, so that we can measure
# on texts that training never saw.
#
# The recipe below is a small one. Texts are short and few, so that you need not wait.

# %%
from judgeq.data.mixture import parse_sources
from judgeq.training.config import TrainConfig

recipe = TrainConfig(
    data="wiki",
    examples=12,
    min_tokens=96,
    max_tokens=192,
    response_tokens=16,
    prefix_tokens=8,
    n=16,
    capacity="offsets",
    epochs=3,
    held_out=2,
)
source = parse_sources(recipe.data)
unseen = parse_sources(recipe.data, part="held_out")

size = (recipe.min_tokens, recipe.max_tokens)
example = source.examples(lm, 1, tokens=size, seed=recipe.seed)[0]
text = example.messages[-1].content
print(f"{text[:240]} […]\n\n[…] {text[-160:]}")

# %% [markdown]
# ## The model's own answer teaches
#
# For each prompt the model writes an answer, with its full memory. While it writes, every attention head looks
# back at the prompt. *What the answer looked at* is what should have been kept: this is the teacher.
#
# The prompt's rows and the teacher's attention are stored on disk once. A training step then costs a few tokens
# instead of the whole prompt. The next cell reads the prompts and writes the answers: most of the time of this
# notebook goes here.

# %%
from judgeq.training.progress import Bars
from judgeq.training.store import Store
from judgeq.training.workers import Workers

train_set = Store(folder / "store", lm, recipe, source, recipe.examples)
with Bars() as bars:
    train_set.fill(bars, Workers(), limit_gb=1)

example = train_set[0]
layers, kv_heads, group, tokens = example.teacher.shape
print(f"The answer that teaches: {lm.tokenizer.decode(example.response)!r}")
print(f"The prompt has {tokens} tokens; {layers} layers x {kv_heads} KV heads looked at them.")

# %% [markdown]
# Each KV head (a set of stored rows) serves three of the model's query heads, so their attention is averaged.
# How much of it falls on few rows? The figure shows, for every layer, which share of the answer's attention the
# most attended rows get: a few dozen rows have nearly all of it. That is why eviction can work at all.

# %%
from judgeq.methods.scoring import merge_group
from judgeq.retention.figures import layer_lines

attention = merge_group(example.teacher.float())  # layers x KV heads x tokens
sorted_shares = attention.sort(-1, descending=True).values / attention.sum(-1, keepdim=True)
shares = {f"{rows} rows": sorted_shares[..., :rows].sum(-1).mean(1).numpy() for rows in (4, 16, 64)}
layer_lines(shares, "share of the attention")

# %% [markdown]
# ## What is learned
#
# Soft tokens pay attention too. Training changes them until theirs looks like the teacher's. The *objective* is
# a number that says how far the two are apart: 0 where they agree. A head that looks at four rows shows how it
# works.

# %%
import torch

from judgeq.training.objectives import OBJECTIVES

teacher = torch.tensor([[[0.70, 0.15, 0.10, 0.05]]])
nothing = torch.zeros(1, 4, 1)  # other objectives weigh rows by their values
for what, looks in {
    "exactly there": [0.70, 0.15, 0.10, 0.05],
    "nearly there": [0.60, 0.20, 0.10, 0.10],
    "everywhere alike": [0.25, 0.25, 0.25, 0.25],
    "elsewhere": [0.05, 0.10, 0.15, 0.70],
}.items():
    loss = OBJECTIVES[recipe.objective](torch.tensor([[looks]]), teacher, nothing, recipe.temper)
    print(f"{what:16} {float(loss):.3f}")

# %% [markdown]
# The name of this objective is `tempered`: attention is raised to a power below 1 first, so that the many rows
# of middling weight count as well. They fill most of a budget.
#
# *Capacity* says what may change. `embeddings` is the paper's form: the soft tokens' vectors. `offsets`, used
# here, adds a correction of their queries in each layer. `adapters` adds small terms to the model's own maps,
# at the soft tokens' places alone. The model itself never changes.
#
# ## Train
#
# The first soft tokens are copies of words from the answers. Every step looks at two prompts and moves them a
# little.

# %%
from judgeq.training.train import train

with Bars() as bars:
    tokens = train(lm, recipe, folder / "judge", store=folder / "store", held_out=unseen, progress=bars)

print(f"{tokens.n} soft tokens: {', '.join(tokens.parts)}")

# %% [markdown]
# The grey line is the loss, step by step and smoothed; the coloured one is the *hit rate* on held-out prompts:
# the share of the 64 rows that the teacher looks at most which the soft tokens find. The first should fall, the
# second should rise.

# %%
from judgeq.training.curve import curve_figure

history = json.loads((folder / "judge" / "history.json").read_text())
curve_figure([{name: entry[name] for name in ("loss", "hit_rate_64") if name in entry} for entry in history])

# %% [markdown]
# ## Before, after, and SnapKV
#
# Now on held-out prompts, with budgets from 16 rows. SnapKV needs no training: it keeps what the prompt's last
# tokens look at. `untrained` are the soft tokens where training began. `shipped` are those that come with the
# library.

# %%
from judgeq.evaluation.hit_rate import hit_rates
from judgeq.evaluation.report import blocks_of, draw_scores, results_from
from judgeq.methods.parsing import methods_from_text
from judgeq.training.trainable import initial_tokens

METHODS = methods_from_text("judgeq,snapkv", pool=1, unit="row")


def compared(prompts, judges):
    """Hit rates of several soft tokens, by name, and of SnapKV, as a figure's data."""
    rows = []
    for name, soft in judges.items():
        methods = {f"judgeq:{name}": METHODS["judgeq"]}
        if not rows:
            methods["snapkv"] = METHODS["snapkv"]
        found = hit_rates(
            lm,
            prompts,
            list(methods.values()),
            [16, 32, 64],
            tokens=soft,
            names=list(methods),
            response_tokens=16,
        )
        rows += [rate.to_row("held-out prompts") for rate in found]
    return blocks_of(results_from({"model": lm.name, "rows": rows}, "here", "here"))[0]


prompts = unseen.examples(lm, 2, tokens=(128, 256), seed=1)
shipped = judgeq.SoftTokens.for_model(lm)
before = initial_tokens(lm, recipe, train_set)
rates = compared(prompts, {"untrained": before, "trained": tokens, "shipped": shipped})
draw_scores(rates)

# %% tags=["timed"]
for method in rates.methods:
    found = [rates.average(method, budget).score for budget in rates.budgets]
    print(f"{method:18} " + "  ".join(f"{100 * rate:5.1f} %" for rate in found))

# %% [markdown]
# What the lines show: the hit rate over the budget. Words from answers, untrained, already know more than the
# prompt's last tokens: they stand where an answer would begin. Training on a dozen prompts takes them a third to a
# half of the way to the shipped ones. Two prompts are few, so do not trust the last points of such figures;
# notebook 4 says how far to trust what.
#
# ## What they keep
#
# One picture of what has been learned: where in the prompt each layer keeps its rows, first for the *oracle*,
# which knows the answer already, then for your soft tokens. Bright is kept. The closer the two pictures are,
# the better.

# %%
from judgeq._assets import assets_path

hut = assets_path("samples", "hut.txt").read_text(encoding="utf-8").split("\n\n")
document, question = "\n\n".join(hut[2:6]), "What is the telephone number of the mountain rescue?"
decoding = judgeq.Decoding(max_new_tokens=16)
reading = judgeq.read(lm, document, question, methods=("oracle", "judgeq"), budget=48, tokens=tokens, decoding=decoding)
oracle, judge = (writer.finish() for writer in reading.writers)
oracle.retention.to_figure().update_layout(title="The oracle")

# %%
judge.retention.to_figure().update_layout(title="Your soft tokens")

# %% [markdown]
# ## Your own texts
#
# Training on your own texts needs a file of JSON lines: a text and a question a line, or a conversation
# (`{"messages": [...]}`). Answers are not needed, since the model writes its own. Here is a small file about
# orders in a harbour shop.

# %%
GOODS = "rope lamps oil nails canvas paint brushes anchors pulleys tar".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday".split()
draw = random.Random(0)


def line():
    ordered = draw.sample(GOODS, 8)
    orders = [
        f"Order {draw.randint(100, 999)}: {each}, {draw.randint(2, 90)} pieces, {draw.choice(DAYS)}."
        for each in ordered
    ]
    question = f"When will the {draw.choice(ordered)} be fetched, and how many pieces are it?"
    return {"context": "\n".join(["Orders of the harbour shop.", *orders]), "question": question}


path = folder / "orders.jsonl"
path.write_text("".join(json.dumps(line()) + "\n" for _ in range(60)), encoding="utf-8")
print(path.read_text(encoding="utf-8").splitlines()[0])

# %% [markdown]
# One line in ten is held back for measuring. `start` continues from the soft tokens that we have.

# %%
from dataclasses import replace

from judgeq.data.jsonl import JsonLinesSource

own, own_unseen = JsonLinesSource(path, held_out=False), JsonLinesSource(path, held_out=True)
own_recipe = replace(recipe, data="orders.jsonl", examples=4, epochs=2, held_out=0, start=str(folder / "judge"))
with Bars() as bars:
    own_tokens = train(lm, own_recipe, folder / "orders", source=own, held_out=own_unseen, store_gb=1, progress=bars)

prompts = own_unseen.examples(lm, 2, tokens=size, seed=0)
draw_scores(compared(prompts, {"before": tokens, "orders": own_tokens, "shipped": shipped}))

# %% [markdown]
# The lines `before` and `orders` are your soft tokens before and after they saw orders, on lines that they did
# not train on.
#
# ## What the real thing takes
#
# The same functions, larger numbers. This is what the shipped soft tokens were made with, in four runs, the first
# two on two cores and the others on one, the last for their memory tokens alone:

# %%
runs = [*shipped.config.earlier, shipped.config.recipe]
for at, run in enumerate(runs, 1):
    took = shipped.config.metrics[f"seconds_of_stage{at}"]
    trained = f"{run['n']} soft tokens, {run['epochs']} epochs"
    if not run["epochs"]:
        trained = f"{run['memory']} memory tokens, {run['memory_epochs']} epoch"
    print(
        f"{run['examples']} prompts of {run['min_tokens']} to {run['max_tokens']} tokens from {run['data']}, "
        f"{trained}, {run['capacity']}: {took / 60:.0f} minutes"
    )
rate = shipped.config.metrics["held_out_hit_rate_64"]
print(f"Their held-out hit rate at 64 rows: {100 * rate:.1f} %")
print(f"This notebook: {recipe.examples} prompts, {recipe.epochs} epochs")

# %% [markdown]
# On the command line a run is one line. The first makes a judge in at most twenty minutes on two cores; the
# second is for your file:
#
# ```sh
# python -m judgeq train --quick --out judge
# python -m judgeq train --data orders.jsonl --start judge --examples 200 --out judge-orders
# python -m judgeq train --data orders.jsonl --start judge-orders --epochs 0 --memory 8 --out judge-memory
# python -m judgeq ask --tokens judge-memory --document FILE --question TEXT --budget 128
# ```
#
# The third leaves the soft tokens as they are and trains eight *memory tokens* beside them, whose own rows stay in
# the cache (notebook 2 has the idea).
#
# [Soft tokens as files](../docs/soft-tokens.md) says what is in the folder; notebook 7 shares it.
#
# ## Exercises
#
# **1.** The paper trains the embeddings alone. Which field of the recipe does that, and what do you expect of
# the hit rate?
#
# <details>
# <summary>Answer</summary>
#
# `capacity="embeddings"`. Fewer numbers can change, so the hit rate ends lower. `assets/results/ablation.json`
# has it measured on larger runs: there the embeddings alone lie a few points below embeddings with offsets and
# adapters.
#
# </details>
#
# **2.** Train with `start="random"` instead of words from the answers, and compare the first values of the
# loss.
#
# <details>
# <summary>Answer</summary>
#
# `train(lm, replace(recipe, start="random"), folder / "random", store=folder / "store", held_out=unseen)`. The
# loss begins higher: vectors without training attend to nothing in particular. The store is used again, so it
# takes only the steps.
#
# </details>
#
# **3.** Why is the teacher the model's own answer and not the right answer?
#
# <details>
# <summary>Answer</summary>
#
# What must be kept is what *this* model will look at when it answers. Attention to a text that it would never
# write says little about that. It also means that any prompt will do: nobody has to know the answer.
#
# </details>
