# %% [markdown]
# # 4. Measure
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/04_measure.ipynb)
#
# One good answer says little. Afterwards you can run a benchmark, read its table, say how far its numbers can
# be trusted, draw it, and compare a method of your own with the others. This takes about a minute on
# two cores, without a GPU.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %%
import shlex
import tempfile
from pathlib import Path

from judgeq.cli import main

place = tempfile.TemporaryDirectory()
folder = Path(place.name)  # name a folder of yours to keep the results


def judgeq_command(words):
    if main(shlex.split(words)):
        raise SystemExit("it did not work: see above")


# %% [markdown]
# `judgeq_command("evaluate ruler …")` here is `python -m judgeq evaluate ruler …` in a terminal.
#
# ## RULER
#
# [RULER](https://arxiv.org/abs/2404.06654) hides things in long texts and asks for them. `niah_single_1` hides
# one number in sentences that say nothing; `niah_multikey_2` hides many, each with a name, and asks for one. Its
# prompts and its way of rating come from lm-eval.
#
# Three methods answer the same questions: the full cache, which forgets nothing, Judge Q and SnapKV, with 64
# rows kept in each head. Every question is read once for all of them.

# %% tags=["timed"]
judgeq_command(
    "evaluate ruler --tasks niah_single_1,niah_multikey_2 --lengths 512 --examples 2 "
    f"--methods full,judgeq,snapkv --budgets 64 --json {folder}/ruler.json"
)

# %% [markdown]
# How to read a line: method, budget, then the *score*, from 0 to 1. In brackets is its 95 % interval,
# explained below. Behind it the bytes of the rows that were kept, how often the answer was word for word that
# of the full cache, and how much of the way from SnapKV to the full cache is closed.
#
# Look at the full cache first. Where it fails, the model cannot do the task, and no eviction is to blame.
#
# ## How far can it be trusted?
#
# Other questions would have given other scores. The interval says where the score would lie with other
# questions of the same kind, 95 times in 100. It is made from the answers alone: draw as many questions again
# and again from those that there are, and look how far the averages scatter (a *bootstrap*).
#
# The figure shows the interval around a score of 75 %, for more and more questions. With four it reaches nearly
# from one end to the other; to tell 75 from 85 % takes hundreds.

# %%
from judgeq.evaluation.statistics import bootstrap_interval
from judgeq.retention.figures import lines

counts = [4, 8, 16, 32, 64, 128, 256, 512]
ends = [bootstrap_interval([[1.0] * (3 * count // 4) + [0.0] * (count // 4)], seed=0) for count in counts]
for count, (low, high) in zip(counts, ends, strict=True):
    print(f"{count:4} questions: {100 * low:5.1f} to {100 * high:5.1f} %")
curves = {
    "upper end": (range(len(counts)), [high for _, high in ends]),
    "lower end": (range(len(counts)), [low for low, _ in ends]),
}
figure = lines(curves, "questions", "score")
figure.update_xaxes(tickvals=list(range(len(counts))), ticktext=[str(count) for count in counts])
figure.update_yaxes(tickformat=".0%", range=[0, 1.04])

# %% [markdown]
# So the table above can say "the full cache finds what SnapKV loses" where intervals lie far apart,
# and nothing about small differences. Two methods that answered the *same* questions are better compared
# question by question: what one gains over the other has an interval of its own, and it is narrower. The
# results file has these under `differences`.
#
# ## Published results
#
# The library brings results of real runs, with every question answered by every method. This one is RULER with
# 25 questions for each of 11 tasks and 3 lengths: the line of each method shows its average score over the
# budget, with the interval as a bar. The full cache, which has no budget, goes across.

# %%
from judgeq._assets import assets_path
from judgeq.evaluation.report import blocks_of, draw_needles, draw_scores, read_results

ruler = read_results(assets_path("results", "ruler.json"))
block = blocks_of(ruler)[0]
draw_scores(block)

# %%
for method in ("judgeq", "laq"):
    for budget in block.budgets:
        lead = block.lead(method, budget)
        low, high = lead.interval
        print(
            f"{method:8} over SnapKV at {budget:3} rows: {100 * lead.difference:+5.1f} points, "
            f"interval {100 * low:+.1f} to {100 * high:+.1f}"
        )

# %% [markdown]
# Where zero lies inside such an interval, the difference may be chance. Here none does. Between Judge Q and LAQ
# it is closer: exercise 2.
#
# ## Needles in a haystack
#
# One sentence, the needle, hidden at a given depth of a text of a given length. Each square of a heatmap is one
# length and one depth: bright is found. Here is a small one of our own.

# %% tags=["timed"]
judgeq_command(
    "evaluate niah --lengths 512,768 --depths 0,100 --examples 1 "
    f"--methods full,judgeq,snapkv --budgets 64 --json {folder}/niah.json"
)

# %%
draw_needles(blocks_of(read_results(folder / "niah.json"))[0], 64)

# %% [markdown]
# Across: tokens of the prompt. Down: how much of the text stands before the needle. One question a square is
# the coarsest measurement there is. The published one has four lengths and five depths, and more methods:

# %%
draw_needles(blocks_of(read_results(assets_path("results", "niah.json")))[0], 64)

# %% [markdown]
# ## A report
#
# `report` makes one page of any number of results files: curves, heatmaps, tables of every task, and what was
# run. It opens without a network. Without `--html` it prints the tables.

# %%
page = folder / "report.html"
judgeq_command(f"report {folder}/ruler.json {folder}/niah.json --html {page}")
print(f"{page.name}: {page.stat().st_size / 1e6:.0f} MB, Plotly included")

# %% [markdown]
# The same in sentences, of the published file:

# %%
from judgeq.evaluation.report.summary import summary_of

summary = summary_of(block)
print(summary.lead, *summary.budgets, sep="\n")

# %% [markdown]
# ## A method of your own
#
# A method gives every row of the prompt a score; the library does the rest. This one keeps the rows whose
# values are longest, and the last 16. Twenty lines are enough for a method with options.

# %%
from dataclasses import dataclass

from judgeq import METHODS, Method, Selection


@dataclass(frozen=True)
class ValueNorm(Method):
    name = "valuenorm"
    selection: Selection = Selection(recent=16, pool=7)
    power: float = 2.0

    def score(self, view):  # one score a row, higher = keep
        values = view.values[:, :, : view.prompt_tokens].float()
        return values.norm(p=self.power, dim=-1)


METHODS[ValueNorm.name] = ValueNorm

# %% [markdown]
# From here on it has a name like all others. The *hit rate* needs no answers to be rated: it is the share of
# the oracle's rows that a method keeps, where the oracle knows what the answer looked at. Each prompt counts
# with all layers and heads, so few prompts say more here than in a benchmark.

# %% tags=["timed"]
judgeq_command(
    "evaluate hit-rate --data wiki --examples 2 --min-tokens 256 --max-tokens 384 "
    f"--methods valuenorm,valuenorm:power=1,random,snapkv,judgeq --budgets 16,64 --json {folder}/own.json"
)

# %%
draw_scores(blocks_of(read_results(folder / "own.json"))[0])

# %% [markdown]
# The figure shows hit rate over budget, a line a method. At 16 rows the new method keeps the last 16 and nothing
# else. With 64 it finds little more than random choice: long values alone do not tell what an answer will need.
#
# More: [benchmarks](../docs/benchmarks.md), [a method of your own](../docs/own-method.md), [all
# results](../docs/results.md).
#
# ## Exercises
#
# **1.** Your table says 75 % for method A and 50 % for method B, with four questions. Is A better?
#
# <details>
# <summary>Answer</summary>
#
# It is one question. The intervals cover each other nearly whole, so nobody knows. Ask the same questions of
# both and look at the difference question by question, and ask more of them: the figure above says how many.
#
# </details>
#
# **2.** Is Judge Q better than LAQ in the published RULER results? Look into `ruler.differences`.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for found in ruler.differences:
#     if (found.method, found.against, found.task) == ("judgeq", "laq", "ruler"):
#         print(found.budget, found.difference, found.interval)
# ```
#
# With the fewest rows its interval lies above zero; with more rows zero lies inside: they are level there.
#
# </details>
#
# **3.** Change `score` so that the rows with the *shortest* values are kept. What happens to the hit rate?
#
# <details>
# <summary>Answer</summary>
#
# `return -values.norm(p=self.power, dim=-1)`. Run the last two cells again and see. The first token of a prompt
# is a special case: models look at it all the time, and its value is very short.
#
# </details>
