# %% [markdown]
# # 5. Eight billion parameters on one GPU
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/05_one_gpu.ipynb)
#
# Afterwards you know what a model of eight billion parameters takes in memory and what eviction saves of it,
# and you have loaded, trained and asked a model whose weights are stored in 4 bits. Without a GPU the cells run
# the small embedded model, in 4 bits too; with one, a single variable makes them run the large one. On two
# cores this takes about a minute.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %%
import tempfile
from pathlib import Path

import torch

import judgeq

BIG = "meta-llama/Llama-3.1-8B-Instruct"  # gated: accept its terms on the Hub, then `hf auth login`
MODEL = "smollm2-135m"  # on a GPU: MODEL = BIG

place = tempfile.TemporaryDirectory()
folder = Path(place.name)
if torch.cuda.is_available():
    memory = torch.cuda.get_device_properties(0).total_memory
    print(f"A GPU with {memory / 2**30:.0f} GiB. The cells below run {MODEL}.")
else:
    print(f"No GPU here. The cells below run {MODEL} in 4 bits on the CPU; figures about 8B parameters are calculated.")

# %% [markdown]
# ## What it takes, calculated
#
# Memory goes to three things: the weights; the *rows* that the model keeps of the prompt, one for every token
# in every layer and KV head; and what reading takes on top for a moment. `estimate` calculates all three from a
# model's sizes. Nothing is downloaded for that.
#
# The weights first. A number takes 16 bits in bfloat16; bitsandbytes stores it in 8 or 4, with scales beside:

# %%
from judgeq.estimate import estimate, memory_figure
from judgeq.models.shapes import config_of_shape

GIB = 2**30
sizes = config_of_shape("llama-3.1-8b")
for bits in (None, "8bit", "4bit"):
    found = estimate(sizes, prompt_tokens=8192, budget=512, quantization=bits)
    print(f"weights in {bits or 'bfloat16':8} {found.weights / GIB:5.1f} GiB")

# %% [markdown]
# Now with prompts. Each pair of bars is one length, first with every row kept, then with 512 rows kept in each
# head: the blue part is the weights, the orange part the rows, the grey part what reading takes on top. The
# dashed line is a GPU of 24 GiB.

# %%
found = {
    f"{tokens:,} tokens": estimate(sizes, prompt_tokens=tokens, budget=512, quantization="4bit")
    for tokens in (8192, 32768, 98304)
}
memory_figure(found, capacity=24 * GIB)

# %% [markdown]
# Eviction takes the orange part away: layer by layer, while the prompt is read. It leaves the grey part, which
# is freed when the answer begins. What remains for the answer is the blue part and a thin stripe. So the gain is
# largest where many prompts are held at once:

# %%
for label, memory in found.items():
    full, kept = (memory.prompts_within(24 * GIB, kept=kept) for kept in (False, True))
    print(f"{label:>13}: {full:3} prompts with all rows fit into 24 GiB, or {kept:3} with 512 rows each")

# %% [markdown]
# ## Load it in 4 bits
#
# One argument. The calculation can be held against what was really loaded:

# %%
from judgeq.models.memory import weight_bytes

lm = judgeq.load(MODEL, quantization="4bit")
dtype = str(lm.dtype).removeprefix("torch.")
same = {"prompt_tokens": 512, "budget": 64}
quarter = estimate(lm.model.config, **same, dtype=dtype, quantization="4bit")
whole = estimate(lm.model.config, **same, dtype=dtype)
held = weight_bytes(lm.model)
print(f"{lm.name} in 4 bits: {held / 1e6:,.0f} MB of weights, calculated {quarter.weights / 1e6:,.0f} MB")
print(f"in {dtype} it would be {whole.weights / 1e6:,.0f} MB")

# %% [markdown]
# The small model shrinks by less than the large one would: much of it is the table of word embeddings, which
# stays as it is.
#
# ## Train in 4 bits
#
# The weights never change, so they may stay in 4 bits; gradients pass through them to the soft tokens. On a CPU
# train before you ask: answering repacks the weights in a way that gradients cannot pass.
#
# This run is far too short to teach anything. It shows that the way is open; notebook 3 explains each part.

# %%
from judgeq.training.config import TrainConfig
from judgeq.training.progress import Bars
from judgeq.training.train import train

recipe = TrainConfig(
    data="wiki",
    examples=4,
    min_tokens=64,
    max_tokens=128,
    response_tokens=8,
    n=8,
    capacity="offsets",
    epochs=1,
    held_out=0,
)
with Bars() as bars:
    tokens = train(lm, recipe, folder / "judge", store_gb=1, progress=bars)
print(f"{tokens.n} soft tokens of {tokens.config.base_model}: {', '.join(tokens.parts)}")

# %% [markdown]
# For a model of eight billion parameters the full run is one command. Its prompts' rows go to the disk: 128 KiB
# a token, which `train` says before it starts.
#
# ```sh
# python -m judgeq train --model meta-llama/Llama-3.1-8B-Instruct --quantization 4bit \
#     --examples 480 --store-gb 60 --out judge-llama
# ```
#
# ## Ask in 4 bits
#
# Soft tokens fit a base model, regardless of its number of bits. The embedded model has soft tokens that
# come with the library; for another one we take those just trained.

# %%
from judgeq._assets import assets_path

document = assets_path("samples", "notebook.txt").read_text(encoding="utf-8")
soft = None if MODEL == "smollm2-135m" else tokens  # None: those shipped
reading = judgeq.read(
    lm,
    document,
    "What is the serial number of the balance?",
    methods=("full", "judgeq", "snapkv"),
    budget=64,
    tokens=soft,
    decoding=judgeq.Decoding(max_new_tokens=16),
)
for writer in reading.writers:
    answer = writer.finish()
    print(f"{answer.method:8} {answer.kv_bytes / 1e6:6.2f} MB of rows: {answer.text}")

# %% [markdown]
# ## What fewer bits cost
#
# The shipped soft tokens were trained on the model in float32. The figure shows what they still find when the
# same model is stored in fewer bits: the share of the oracle's top 64 rows, from published runs with 16 prompts
# each. In 4 bits about two points are lost.

# %%
from judgeq.evaluation.report import blocks_of, read_results
from judgeq.retention.figures import lines

STORED = ("float32", "bfloat16", "8bit", "4bit")
files = [read_results(assets_path("results", "quantized", f"hit_rate_{bits}.json")) for bits in STORED]
blocks = [blocks_of(file)[0] for file in files]
curves = {
    name: (range(len(STORED)), [block.average(method, 64).score for block in blocks])
    for name, method in {"Judge Q": "judgeq", "SnapKV": "snapkv"}.items()
}
figure = lines(curves, "weights stored in", "hit rate at 64 rows")
figure.update_xaxes(tickvals=list(range(len(STORED))), ticktext=list(STORED))
figure.update_yaxes(tickformat=".0%", range=[0, 1.04])

# %% [markdown]
# What was run and what was not: every cell above runs in 4 bits on the embedded model. The project had no GPU
# that an 8B model's weights could be loaded on, so its figures are calculated. [Recipes](../docs/recipes.md)
# has the commands for Llama-3.1-8B and Mistral-7B, [base models](../docs/models.md) what other families need.
#
# ## Exercises
#
# **1.** Does Llama-3.1-8B with a prompt of 32,768 tokens fit into 8 GiB? Try `estimate` with and without
# `chunk=2048`.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# for chunk in (None, 2048):
#     found = estimate(sizes, prompt_tokens=32768, budget=512, quantization="4bit", chunk=chunk)
#     print((found.weights + found.reading) / GIB)
# ```
#
# In one pass no: reading takes about 4 GiB beside 5.3 GiB of weights. In chunks a pass is narrow, but every
# layer then holds its rows until the last chunk has been read: for one prompt that is no gain at this length.
# What fits is a shorter prompt.
#
# </details>
#
# **2.** `judgeq.ask(..., row_bits=4)` stores the kept rows in 4 bits as well. What does `estimate(...,
# row_bits=4)` say of 512 rows?
#
# <details>
# <summary>Answer</summary>
#
# Roughly a third of the bytes: 4 bits instead of 16, and the ranges that belong to them. Beside the weights it
# hardly shows for one prompt; with many prompts at once it does: compare `prompts_within`.
#
# </details>
