# %% [markdown]
# # 7. Share it
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/judgeq/blob/main/tutorials/07_share_it.ipynb)
#
# Afterwards you can give trained soft tokens to others with a card that says what they are, put them on the
# Hugging Face Hub, exchange them with PEFT, export what you have seen as a page or a picture, and know how
# the demo becomes a Space. This takes about half a minute on two cores. Nothing leaves your machine unless you
# switch it on.

# %%
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/OWNER/judgeq"], check=True)

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import judgeq

place = tempfile.TemporaryDirectory()
folder = Path(place.name)  # name a folder of yours to keep the files
lm = judgeq.load("smollm2-135m")
tokens = judgeq.SoftTokens.for_model(lm)  # those shipped; your own: SoftTokens.from_pretrained("judge")

# %% [markdown]
# ## Three files
#
# Soft tokens are a folder of three files: the tensors, what they fit and how they were made, and a card for
# people. No pickle, so that opening a stranger's folder never runs a stranger's code.

# %%
REPO = "your-name/judge-smollm2"  # the name on the Hub that the card tells others

share = tokens.save_pretrained(folder / "share", name=REPO)
for path in sorted(share.iterdir()):
    print(f"{path.name:26} {path.stat().st_size / 1000:8,.0f} kB")
print(f"{tokens.n} soft tokens of {tokens.config.base_model}: {', '.join(tokens.parts)}")

# %% [markdown]
# The card begins with lines that the Hub reads: what these are an adapter of, their licence, the paper, and the
# hit rates measured while training.

# %%
front = (share / "README.md").read_text(encoding="utf-8").split("---")[1]
print(front.strip())

# %% [markdown]
# ## They fit one model
#
# Whoever loads them is told when they do not fit: name, width and tokenizer must agree. Wrong soft tokens would
# not fail, they would quietly choose the wrong rows; so this is refused.

# %%
received = judgeq.SoftTokens.from_pretrained(share)
received.check(lm)  # says nothing: they fit
strangers = replace(received, config=replace(received.config, base_model="somebody/another-model"))
try:
    strangers.check(lm)
except judgeq.JudgeqError as error:
    print(error)

# %% [markdown]
# ## To the Hub
#
# <!-- needs: hub -->
# Pushing needs an account and `hf auth login`. Here it is switched off, and the cell says what it would do. A
# repository that holds something else is left alone, and so is a public one if you ask for a private one.

# %%
PUSH = False

if PUSH:
    print(tokens.push_to_hub(REPO, private=True).commit_url)
else:
    names = ", ".join(sorted(path.name for path in share.iterdir()))
    print(f"Not pushed. PUSH = True would make a private repository {REPO} of {names}.")

# %% [markdown]
# The same on the command line, and what others type then:
#
# ```sh
# python -m judgeq tokens push judge your-name/judge-smollm2 --private
# python -m judgeq ask --tokens your-name/judge-smollm2 --document FILE --question TEXT
# ```
#
# ## There and back with PEFT
#
# PEFT's prompt tuning stores vectors of the same kind. It puts them *before* a prompt to change what a model
# says; Judge Q puts them *after* it to score what matters. The files travel, the purpose does not: a tuned
# prompt is a place to start training from.
#
# PEFT has no place for what was trained beside the embeddings, so it has to be left out on purpose:

# %%
try:
    tokens.export_peft(folder / "prompt")
except judgeq.JudgeqError as error:
    print(error)

# %%
import torch

tokens.export_peft(folder / "prompt", embeddings_only=True)
back = judgeq.SoftTokens.from_peft(folder / "prompt", lm)
print(sorted(path.name for path in (folder / "prompt").iterdir()))
print("the same numbers:", torch.equal(back.weights.embeddings, tokens.weights.embeddings))

# %% [markdown]
# ## Take an answer along
#
# A *comparison* holds a question, its answers and what was kept. It becomes a page that opens offline and has no
# scripts, a picture for a message, a table, JSON, or the lines of Python that repeat it.

# %%
from judgeq._assets import assets_path
from judgeq.export import Comparison, Settings

methods = ("full", "judgeq", "snapkv")
question = "What is the code of the oil store?"
document = assets_path("samples", "lighthouse.txt").read_text(encoding="utf-8")
decoding = judgeq.Decoding(max_new_tokens=16)
reading = judgeq.read(lm, document, question, methods=methods, budget=64, decoding=decoding)
answers = [writer.finish() for writer in reading.writers]
comparison = Comparison(question, Settings("smollm2-135m", methods, budget=64, max_new_tokens=16), answers)
(folder / "answer.html").write_text(comparison.to_html(), encoding="utf-8")
(folder / "answer.csv").write_text(comparison.to_csv(), encoding="utf-8")
(folder / "answer.png").write_bytes(comparison.to_png())
for answer in answers:
    print(f"{answer.method:8} {answer.text}")

# %% [markdown]
# The picture: the question, the answers with what each of them kept, and the stretch of the document that Judge
# Q kept best. In the strip under an answer bright is kept.

# %%
from IPython.display import Image

Image(data=(folder / "answer.png").read_bytes())

# %% [markdown]
# And the lines that repeat it:

# %%
print(comparison.to_python())

# %% [markdown]
# All of these but the picture and the lines hold the whole document: think of that before you send them.
#
# ## The demo as a Space
#
# The demo is a Gradio program, so it runs as a Space of Hugging Face: a page of your own that others open in
# the browser. One command, run in a clone of the repository, gathers the files and sends them; with `--dry-run`
# it only says what it would send.
#
# <!-- needs: hub -->
# ```sh
# hf auth login
# python -m scripts.space --repo your-name/judge-q --dry-run
# python -m scripts.space --repo your-name/judge-q
# ```
#
# A free Space has two cores and runs the embedded model. More: [soft tokens as files](../docs/soft-tokens.md),
# [exports](../docs/take-away.md).
#
# ## Exercises
#
# **1.** You trained on a folder `./my-llama` instead of a name of the Hub. What does `push_to_hub` say, and
# what helps?
#
# <details>
# <summary>Answer</summary>
#
# It refuses, since nobody else could tell which model these soft tokens belong to. Give the model's id on the
# Hub: `tokens.push_to_hub(REPO, base_model="meta-llama/Llama-3.1-8B-Instruct")`.
#
# </details>
#
# **2.** Read the retention map of Judge Q back from the JSON, and draw it.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# values = comparison.to_json()
# found = judgeq.RetentionMap.from_json(values["answers"][1]["retention"])
# found.to_figure()
# ```
#
# It needs neither the model nor torch, so anyone with the file can draw it.
#
# </details>
#
# **3.** Which soft tokens can travel to PEFT without losing anything?
#
# <details>
# <summary>Answer</summary>
#
# Those that are embeddings alone: trained with `--capacity embeddings`, and saved without a profile. Training
# always learns a profile, so `embeddings_only=True` is needed even then, and costs nothing but the profile.
#
# </details>
