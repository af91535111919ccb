"""Train soft tokens and memory tokens, by attention and by distillation from the model's own answers.

    python -m scripts.distill prompts --model smollm2-135m --part train --count 8192 --seed 7 --out train.safetensors
    python -m scripts.distill prompts --model smollm2-135m --part held_out --count 256 --seed 7
        --out held_out.safetensors
    python -m scripts.distill respond --model smollm2-135m --prompts train.safetensors --out responses.safetensors
    python -m scripts.distill respond --model smollm2-135m --prompts held_out.safetensors
        --out held_out_responses.safetensors
    python -m scripts.distill train --model smollm2-135m --prompts train.safetensors --responses responses.safetensors
        --held-out held_out.safetensors --held-out-responses held_out_responses.safetensors
        --start assets/soft_tokens/smollm2-135m --seconds 300 --out DIR
    python -m scripts.distill all --model smollm2-135m --prompts train.safetensors --held-out held_out.safetensors
        --start assets/soft_tokens/smollm2-135m --seconds 330 --out DIR

    python -m scripts.distill train --only memory --memory 8 --longest 1600 --limit 500 --most 1 --dtype float32 ...
    python -m scripts.distill merge --soft assets/soft_tokens/smollm2-135m --start DIR --rank 2 --out DIR

`all` is both `respond` and `train` with one loading of the model; its seconds are those of everything. `--only
memory` trains memory tokens beside soft tokens that stay as they are: rows and scores of each prompt are computed once
for several budgets, which makes it a matter of an hour on a CPU. `merge` puts such memory tokens beside the soft tokens
of another folder. A model is a folder with safetensors or one GGUF file of a
Llama without sliding windows, or judgeq's name of an embedded one; `--start` is a folder of soft tokens with offsets
and adapters. judgeq is imported for `prompts` and for such a name alone: elsewhere `python distill.py` does. Without
a GPU everything runs on the CPU.

A prompt is read once a step, without gradients. `S` soft tokens and `M` memory tokens, each group with low-rank
adapters of its own, then read its rows in one pass. The soft tokens' largest attention selects rows; the memory tokens'
own rows stay, inside the budget. Loss: KL divergence from the model's answer over all rows to its answer over the
selected and the memory rows, plus the divergence between the soft tokens' attention and that of the answer.

Letters: B prompts, H query heads, H_kv KV heads, G = H / H_kv, T prompt tokens, R response tokens, D head dimension.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM

S, RANK, RESPONSE = 32, 8, 64
BUDGETS, BUDGET_WEIGHTS = (32, 64, 128, 256, 512), (3, 6, 5, 4, 2)
MEMORIES, MEMORY_WEIGHTS = (0, 4, 8, 16), (4, 3, 8, 5)
DRAWS = 2  # of a budget for each visit of a prompt, where memory tokens alone are trained
POOL, TEMPER, TINY = 7, 0.35, 1e-9
ATTENTION_WEIGHT = 3.0
SOFT_SHARE = 0.6  # of the steps with memory rows: selection is differentiable in these
RATES = {"embeddings": 0.008, "memory": 0.01, "offsets": 0.02, "adapters": 0.002, "memory_adapters": 0.003}
WARM_UP = 30  # steps
LAST_PREFIX = 16  # response tokens that may already belong to the prompt
CONFIG_FILE = "judgeq_config.json"
END_OF_GGUF = 2  # the end token of SmolLM2, which a GGUF file's configuration does not name
RESPONSE_SECONDS, REPORT_SECONDS = 80, 40  # of `all`
PREFIXES = {
    "soft_down": "adapter_down.",
    "soft_up": "adapter_up.",
    "memory_down": "memory_adapter_down.",
    "memory_up": "memory_adapter_up.",
}
"""What the tensors of the adapters are called in a file."""

# Attention


def attend(module, query, key, value, attention_mask, scaling=None, step=None, **_):
    """transformers' signature; what attends to what is decided by the object that travels through the call."""
    return step.attend(module.layer_idx, query, key, value, scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register("distill", attend)


def grouped_attention(queries, keys, values, scaling, bias):
    """Softmax attention in float32: (B, H, N, D) x (B, H_kv, K, D) with bias broadcast to (B, H_kv, G, N, K)."""
    batch, heads, count, dim = queries.shape
    grouped = queries.float().view(batch, keys.shape[1], -1, count, dim)
    logits = torch.einsum("bkgnd,bktd->bkgnt", grouped, keys.float()) * scaling + bias
    weights = logits.softmax(-1)
    output = torch.einsum("bkgnt,bktd->bkgnd", weights, values.float())
    return output.reshape(batch, heads, count, dim).to(queries.dtype), weights


def causal_bias(count, device):
    """(count, count): 0 for a token and those before it, -inf for those behind."""
    return torch.full((count, count), -torch.inf, device=device).triu(1)


def rotate_half(states):
    first, second = states.chunk(2, -1)
    return torch.cat([-second, first], -1)


class Read:
    """Prompts padded on the right: no mask is needed, and every layer's rows are collected."""

    def __init__(self):
        self.rows = []

    def attend(self, layer, queries, keys, values, scaling):
        self.rows.append((keys, values))
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scaling, enable_gqa=True)


class Prompts:
    """Rows of some prompts, (B, H_kv, longest, D) a layer, and what hides the padding: `hidden`, (B, longest)."""

    @torch.no_grad()
    def __init__(self, model, prompts):
        device = model.device
        self.lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        longest = int(self.lengths.max())
        ids = torch.stack([F.pad(ids, (0, longest - len(ids))) for ids in prompts]).to(device)
        read, places = Read(), torch.arange(longest, device=device)
        passed = model.model(input_ids=ids, position_ids=places[None].expand(len(ids), -1), use_cache=False, step=read)
        self.states, self.rows = passed.last_hidden_state, read.rows
        padding = places >= self.lengths[:, None]
        self.hidden = torch.zeros(padding.shape, device=device).masked_fill(padding, -torch.inf)

    def positions(self, count):
        """Of so many tokens behind each prompt, (B, count)."""
        return self.lengths[:, None] + torch.arange(count, device=self.lengths.device)


class Rows(NamedTuple):
    """Rows that an answer may look at, as `Prompts` has them: of each layer keys and values, and what hides padding."""

    rows: list[tuple[Tensor, Tensor]]
    hidden: Tensor

    def selected(self, scores, count) -> Rows:
        """The `count` rows of each head with the highest pooled scores; there are so many in the shortest prompt."""
        found = []
        for each, pair in zip(scores, self.rows, strict=True):
            kept = best_rows(each + self.hidden[:, None], count)[..., None]
            found.append(tuple(rows.gather(2, kept.expand(-1, -1, -1, rows.shape[-1])) for rows in pair))
        return Rows(found, self.hidden.new_zeros(len(self.hidden), count))


class Ask:
    """Soft and memory tokens after the prompts.

    Attributes:
        largest, mean: of each layer (B, H_kv, T), over soft tokens and the query heads of a group.
        soft, memory: of each layer these tokens' keys and values, (B, H_kv, S, D) and (B, H_kv, M, D).
    """

    def __init__(self, prompts, offsets, cos, sin):
        self.prompts, self.offsets, self.cos, self.sin = prompts, offsets, cos, sin
        self.largest, self.mean, self.soft, self.memory = [], [], [], []

    def attend(self, layer, queries, keys, values, scaling):
        old_keys, old_values = self.prompts.rows[layer]
        tokens, count = old_keys.shape[2], queries.shape[2]
        hidden = self.prompts.hidden[:, None].expand(-1, count, -1)
        own = causal_bias(count, keys.device).expand(len(keys), -1, -1)
        bias = torch.cat([hidden, own], -1)[:, None, None]  # (B, 1, 1, S + M, T + S + M)
        every = torch.cat([old_keys, keys], 2)
        output, _ = grouped_attention(queries, every, torch.cat([old_values, values], 2), scaling, bias)
        added = self.offsets[layer][None]  # (1, H, S, D)
        turned = added * self.cos[:, None, :S] + rotate_half(added) * self.sin[:, None, :S]
        soft = queries[:, :, :S].float() + turned
        grouped = soft.view(len(keys), keys.shape[1], -1, S, soft.shape[-1])
        logits = torch.einsum("bkgsd,bktd->bkgst", grouped, every[:, :, : tokens + S].float()) * scaling
        weights = (logits + bias[..., :S, : tokens + S]).softmax(-1)[..., :tokens]
        self.largest.append(weights.amax((2, 3)))
        self.mean.append(weights.mean((2, 3)))
        self.soft.append((keys[:, :, :S], values[:, :, :S]))
        self.memory.append((keys[:, :, S:], values[:, :, S:]))
        return output


class Answer:
    """A response after the prompts: over all rows, or over selected ones and `used` memory rows.

    Attributes:
        attention: of each layer (B, H_kv, T), the mean over the response's own tokens and the query heads of a group;
            only with `response_mask`.
        own: of each layer keys and values of the response's tokens.
    """

    def __init__(self, prompts, biases=None, memory=None, used=0, response_mask=None):
        self.prompts, self.biases, self.memory, self.used = prompts, biases, memory, used
        self.mask, self.attention, self.own = response_mask, [], []

    def attend(self, layer, queries, keys, values, scaling):
        self.own.append((keys, values))
        old_keys, old_values = (rows.to(keys.dtype) for rows in self.prompts.rows[layer])
        batch, kv_heads, count = len(keys), keys.shape[1], queries.shape[2]
        bias = self.prompts.hidden[:, None, None, None]
        if self.biases is not None:
            bias = self.biases[layer][:, :, None, None] + bias
        biases = [bias.expand(batch, kv_heads, -1, count, -1)]
        every_key, every_value = [old_keys], [old_values]
        if self.used:
            memory_keys, memory_values = self.memory[layer]
            every_key.append(memory_keys[:, :, : self.used])
            every_value.append(memory_values[:, :, : self.used])
            biases.append(biases[0].new_zeros(batch, kv_heads, 1, count, self.used))
        biases.append(causal_bias(count, keys.device).expand(batch, kv_heads, 1, -1, -1))
        every = torch.cat([*every_key, keys], 2), torch.cat([*every_value, values], 2)
        output, weights = grouped_attention(queries, *every, scaling, torch.cat(biases, -1))
        if self.mask is not None:
            share = self.mask / self.mask.sum(-1, keepdim=True)
            seen = torch.einsum("bkgnt,bn->bkt", weights[..., : old_keys.shape[2]], share)
            self.attention.append(seen / weights.shape[2])
        return output


class Write:
    """One token of each response after the prompts, over all rows; `cache` takes its rows."""

    def __init__(self, cache, lengths, width):
        self.cache, self.lengths, self.width = cache, lengths, width
        self.places = torch.arange(cache[0][0].shape[2], device=lengths.device)

    def step_to(self, at):
        """Make ready for the token number `at` behind the prompts."""
        self.at = self.width + at
        padding = (self.places >= self.lengths[:, None]) & (self.places < self.width)
        hidden = padding | (self.places > self.at)
        bias = torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -torch.inf)
        self.bias = bias[:, None, None]

    def attend(self, layer, queries, keys, values, scaling):
        ours, theirs = self.cache[layer]
        ours[:, :, self.at], theirs[:, :, self.at] = keys[:, :, 0], values[:, :, 0]
        grouped = queries.view(len(keys), keys.shape[1], -1, queries.shape[-1])
        logits = (grouped @ ours.transpose(-1, -2)).float() * scaling + self.bias
        output = logits.softmax(-1).to(theirs.dtype) @ theirs
        return output.view(len(keys), -1, 1, queries.shape[-1])


# What is trained


class Judge(nn.Module):
    """Soft tokens with offsets and adapters, and memory tokens with adapters of their own."""

    def __init__(self, start, memory=16, only_memory=False):
        super().__init__()
        self.origin = Path(start) / CONFIG_FILE
        stored = {name: tensor.float() for name, tensor in load_file(Path(start) / "soft_tokens.safetensors").items()}
        if len(stored.get("memory_tokens", ())) < memory:  # they would not do: begin with new ones
            stored = {name: tensor for name, tensor in stored.items() if not name.startswith("memory_")}
        self.embeddings = nn.Parameter(stored["soft_tokens"])
        memory = stored.get("memory_tokens", self.embeddings.data)[:memory].clone()
        self.memory = nn.Parameter(memory)
        self.offsets = nn.Parameter(stored["query_offsets"])
        first = PREFIXES["soft_down"]
        self.names = [name.removeprefix(first) for name in stored if name.startswith(first)]
        generator = torch.Generator().manual_seed(0)
        maps = {}
        for name in self.names:
            found = {kind: stored.get(prefix + name) for kind, prefix in PREFIXES.items()}
            down, up = _of_rank(found["soft_down"], found["soft_up"])
            found |= {"soft_down": down, "soft_up": up}
            if found["memory_down"] is None:
                noise = torch.randn(down.shape, generator=generator)
                found |= {"memory_down": noise / math.sqrt(len(down)), "memory_up": torch.zeros(up.shape)}
            maps |= {_key(kind, name): nn.Parameter(tensor) for kind, tensor in found.items()}
        self.maps = nn.ParameterDict(maps)
        if only_memory:
            self.requires_grad_(False)
            for group in self.groups(True):
                for tensor in group["params"]:
                    tensor.requires_grad_(True)

    def groups(self, only_memory=False):
        """For an optimizer, each with its peak learning rate."""
        soft = [tensor for name, tensor in self.maps.items() if name.startswith("soft")]
        memory = [tensor for name, tensor in self.maps.items() if name.startswith("memory")]
        tensors = {
            "embeddings": [self.embeddings],
            "memory": [self.memory],
            "offsets": [self.offsets],
            "adapters": soft,
            "memory_adapters": memory,
        }
        chosen = [name for name in tensors if "memory" in name or not only_memory]
        return [{"params": tensors[name], "peak": RATES[name]} for name in chosen]

    @contextmanager
    def attached(self, model, soft=S) -> Iterator[None]:
        """Within this block, passes of so many soft tokens, and of memory tokens, run through their adapters."""
        hooks = []
        for name in self.names:
            term = _term(soft, *(self.maps[_key(kind, name)] for kind in PREFIXES))
            hooks.append(model.model.layers.get_submodule(name).register_forward_hook(term))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def ask(self, model, prompts) -> Ask:
        """One pass behind the prompts. A memory token stands where the soft token of its number does."""
        positions = torch.cat([prompts.positions(S), prompts.positions(len(self.memory))], 1)
        embeds = torch.cat([self.embeddings, self.memory]).to(model.dtype).expand(len(positions), -1, -1)
        cos, sin = model.model.rotary_emb(embeds.float(), positions)
        ask = Ask(prompts, self.offsets, cos.float(), sin.float())
        with self.attached(model):
            model.model(inputs_embeds=embeds, position_ids=positions, use_cache=False, step=ask)
        return ask

    def remember(self, model, rows, positions):
        """The memory rows, of each layer (B, H_kv, M, D), from `Rows` of prompts and of soft tokens after them."""
        embeds = self.memory.to(model.dtype).expand(len(positions), -1, -1)
        answer = Answer(rows)
        with self.attached(model, 0):
            model.model(inputs_embeds=embeds, position_ids=positions, use_cache=False, step=answer)
        return answer.own

    def save(self, out, config):
        """Write the tensors, and beside them what is known of the run."""
        out.mkdir(parents=True, exist_ok=True)
        stored = {
            "soft_tokens": self.embeddings.detach().float(),
            "memory_tokens": self.memory.detach().float(),
            "query_offsets": self.offsets.detach().half(),
        }
        for key, tensor in self.maps.items():
            kind, name = key.split("|")
            stored[PREFIXES[kind] + name.replace("/", ".")] = tensor.detach().half()
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in stored.items()},
            out / "soft_tokens.safetensors",
        )
        (out / "run.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        if self.origin.exists():
            told = json.loads(self.origin.read_text(encoding="utf-8"))
            told = config_with_memory(told, len(self.memory))
            (out / CONFIG_FILE).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def config_with_memory(config, memory):
    """What judgeq reads beside the tensors, from that of the soft tokens that a run began with."""
    recipe = [config["recipe"]] if config.get("recipe") else []
    return config | {
        "memory": memory,
        "earlier": config.get("earlier", []) + recipe,
        "recipe": {},
        "metrics": {},
    }


def _key(kind, name):
    return f"{kind}|{name.replace('.', '/')}"  # names of parameters have no dots


def _of_rank(down, up, rank=RANK):
    """The best approximation of such a rank, where they have a higher one."""
    if down.shape[1] <= rank:
        return down, up
    (before, first), (after, last) = torch.linalg.qr(down), torch.linalg.qr(up.T)
    left, scale, right = torch.linalg.svd(first @ last.T)  # of the product, without the product
    root = scale[:rank].sqrt()
    return before @ left[:, :rank] * root, root[:, None] * (right[:rank] @ after.T)


def merge(args):
    """The soft tokens of one folder as they are, with the memory tokens of another, whose adapters are cut."""
    soft, out = Path(args.soft), Path(args.out)
    stored = load_file(soft / "soft_tokens.safetensors")
    trained = load_file(Path(args.start) / "soft_tokens.safetensors")
    memory = {name: tensor for name, tensor in trained.items() if name.startswith("memory_")}
    for name in [name for name in memory if name.startswith(PREFIXES["memory_down"])]:
        other = PREFIXES["memory_up"] + name.removeprefix(PREFIXES["memory_down"])
        pair = _of_rank(memory[name].float(), memory[other].float(), args.rank)
        memory |= {key: each.half().contiguous() for key, each in zip((name, other), pair, strict=True)}
    out.mkdir(parents=True, exist_ok=True)
    save_file(stored | memory, out / "soft_tokens.safetensors")
    config = json.loads((soft / CONFIG_FILE).read_text(encoding="utf-8"))
    config["memory"] = len(memory["memory_tokens"])
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _term(count, soft_down, soft_up, memory_down, memory_up):
    """A forward hook of one linear map; `count` soft tokens come first."""

    def add(linear, inputs, output):
        soft, memory = inputs[0][:, :count], inputs[0][:, count:]
        terms = [
            (soft @ soft_down.to(soft.dtype)) @ soft_up.to(soft.dtype),
            (memory @ memory_down.to(soft.dtype)) @ memory_up.to(soft.dtype),
        ]
        return output + torch.cat(terms, 1)

    return add


# Selection and losses


def pooled(scores, width=POOL):
    return F.max_pool1d(scores, width, 1, width // 2)


def hard_bias(scores, rows, width=POOL):
    """0 for the kept rows of every head, -inf for the others; padding has a score of -inf."""
    return torch.full_like(scores, -torch.inf).scatter(-1, best_rows(scores, rows, width), 0.0)


def best_rows(scores, rows, width=POOL):
    """Places of the rows that are kept."""
    ranked = pooled(scores, width) + 1e-6 * scores
    return ranked.topk(min(rows, ranked.shape[-1]), -1).indices


def soft_bias(scores, rows, width):
    """Log of the keep probability: a sigmoid of log attention around a border, differentiable.

    The border is where the probabilities of a head sum to `rows`, and moves with the scores so that they go on doing
    so: what lifts one row lowers the others.
    """
    logs = (pooled(scores).clamp_min(0) + TINY).log().masked_fill(scores.isinf(), -torch.inf)
    fixed = logs.detach()
    low, high = (fixed.clamp_min(math.log(TINY)).amin(-1, keepdim=True) - 9, fixed.amax(-1, keepdim=True) + 9)
    for _ in range(24):
        border = (low + high) / 2
        too_many = ((fixed - border) / width).sigmoid().sum(-1, keepdim=True) > rows
        low, high = torch.where(too_many, border, low), torch.where(too_many, high, border)
    keep = ((fixed - border) / width).sigmoid()
    slopes = keep * (1 - keep) + TINY * fixed.isfinite()
    moves = (logs - fixed).masked_fill(fixed.isinf(), 0.0)  # 0, with the gradient of the scores
    border = border + (slopes * moves).sum(-1, keepdim=True) / slopes.sum(-1, keepdim=True)
    return F.logsigmoid((logs - border) / width).clamp_min(-15.0)


def tempered(ours, theirs, hidden):
    """KL divergence from teacher to student, both raised to a power below 1: (B, H_kv, T) each."""
    inside = hidden.isfinite()[:, None]
    ours, theirs = (((each + TINY) ** TEMPER) * inside for each in (ours, theirs))
    student = (ours + TINY).log() - ours.sum(-1, keepdim=True).log()
    target = theirs / theirs.sum(-1, keepdim=True)
    return (F.kl_div(student, target, reduction="none") * inside).sum(-1).mean()


# Prompts and responses


def write_prompts(args):
    """Token ids of judgeq's examples, one after the other, with lengths and kinds."""
    import judgeq
    from judgeq.data.mixture import parse_sources

    lm = judgeq.load(args.model)
    if len(lm.tokenizer) > 1 << 16:
        raise SystemExit("Ids are stored in 16 bits: choose a model with at most 65,536 tokens")
    source = parse_sources(args.data, part=args.part)
    found = source.examples(lm, args.count, tokens=(args.min_tokens, args.max_tokens), seed=args.seed)
    kinds = sorted({example.kind for example in found})
    ids = [example.input_ids(lm, reserve=args.reserve)[0] for example in found]
    stored = packed(ids) | {"kinds": torch.tensor([kinds.index(each.kind) for each in found], dtype=torch.uint8)}
    save_file(stored, args.out, metadata={"kinds": ",".join(kinds)})
    print(f"{len(ids)} prompts, {sum(map(len, ids))} tokens")


def packed(ids: Sequence[Tensor]) -> dict[str, Tensor]:
    lengths = torch.tensor([len(each) for each in ids], dtype=torch.int32)
    return {"ids": torch.cat(list(ids)).to(torch.uint16), "lengths": lengths}


def unpacked(stored: dict[str, Tensor]) -> list[Tensor]:
    return [ids.long() for ids in stored["ids"].to(torch.int32).split(stored["lengths"].tolist())]


class Corpus:
    """Prompts with their kinds, and where they have been written, responses: an empty one where there is none."""

    def __init__(self, prompts, responses=None):
        stored = load_file(prompts)
        with safe_open(prompts, "pt") as file:
            kinds = file.metadata()["kinds"].split(",")
        self.kinds = [kinds[at] for at in stored["kinds"].tolist()]
        self.prompts = unpacked(stored)
        self.responses = unpacked(load_file(responses)) if responses else []

    def answered(self, shortest, longest=math.inf, limit=None):
        """Indices of prompts of at most `longest` tokens whose response has `shortest`: all, or `limit` random ones."""
        found = [
            at
            for at, (prompt, ids) in enumerate(zip(self.prompts, self.responses, strict=True))
            if len(ids) >= shortest and len(prompt) <= longest
        ]
        return found if limit is None or limit >= len(found) else random.Random(0).sample(found, limit)

    def batches(self, indices, tokens, most, rng=None):
        """Indices of prompts of similar length, so many tokens together, the shortest first or in random order."""

        def length(at):
            return len(self.prompts[at]) + (rng.random() * 64 if rng else 0)

        groups, group = [], []
        for at in sorted(indices, key=length):
            longest = max(len(self.prompts[i]) for i in [at, *group])
            if group and (longest * (len(group) + 1) > tokens or len(group) >= most):
                groups.append(group)
                group = []
            group.append(at)
        groups.append(group)
        if rng:
            rng.shuffle(groups)
        return groups


@torch.inference_mode()
def respond(model, prompts, end):
    """Greedy answers, the end token included, at most `RESPONSE` tokens."""
    read = Prompts(model, prompts)
    width = read.rows[0][0].shape[2]
    cache = [tuple(F.pad(rows, (0, 0, 0, RESPONSE)) for rows in pair) for pair in read.rows]
    last = read.states[torch.arange(len(prompts), device=model.device), read.lengths - 1]
    read.rows = read.states = None
    write = Write(cache, read.lengths, width)
    token = model.lm_head(last).argmax(-1)
    written, done = [token], token == end
    for at in range(RESPONSE - 1):
        write.step_to(at)
        passed = model.model(
            input_ids=token[:, None], position_ids=(read.lengths + at)[:, None], use_cache=False, step=write
        )
        token = model.lm_head(passed.last_hidden_state[:, -1]).argmax(-1)
        written.append(token)
        done |= token == end
        if at % 8 == 7 and bool(done.all()):
            break
    found = []
    for ids in torch.stack(written, 1).cpu():
        ends = (ids == end).nonzero()
        found.append(ids[: int(ends[0]) + 1] if len(ends) else ids)
    return found


def respond_all(model, corpus, out, end, tokens, most, seconds=math.inf):
    """Write responses to the prompts, in batches of all lengths, until the time is over."""
    started, found, order = time.perf_counter(), {}, random.Random(0)
    for number, batch in enumerate(corpus.batches(range(len(corpus.prompts)), tokens, most, order)):
        found |= zip(batch, respond(model, [corpus.prompts[at] for at in batch], end), strict=True)
        elapsed = time.perf_counter() - started
        if number % 8 == 0:
            print(f"responses {len(found)} of {len(corpus.prompts)}, {elapsed:.0f} s", flush=True)
        if elapsed > seconds:
            break
    nothing = torch.zeros(0, dtype=torch.long)
    save_file(packed([found.get(at, nothing) for at in range(len(corpus.prompts))]), out)
    print(f"responses {len(found)}, {time.perf_counter() - started:.1f} s", flush=True)


# A step


class TrainingExample:
    """A batch ready for training: prompt rows, the response's inputs and mask, the full cache's log probabilities.

    With `rng`, in half of the prompts the first tokens of the response already belong to the prompt.
    """

    def __init__(self, model, corpus, batch, rng=None):
        prompts, responses = [], []
        for at in batch:
            ids, response = corpus.prompts[at], corpus.responses[at]
            longest = min(LAST_PREFIX, len(response) - 2)
            prefix = rng.randint(1, longest) if rng and longest >= 1 and rng.random() < 0.5 else 0
            prompts.append(torch.cat([ids, response[:prefix]]))
            responses.append(response[prefix:])
        self.prompts = Prompts(model, prompts)
        self.prompts.states = None
        device = model.device
        lengths = torch.tensor([max(len(ids) - 1, 1) for ids in responses], device=device)
        longest = int(lengths.max())  # the last token of a response predicts nothing
        inputs = [ids[:longest] for ids in responses]
        self.inputs = torch.stack([F.pad(ids, (0, longest - len(ids))) for ids in inputs]).to(device)
        self.mask = (torch.arange(longest, device=device) < lengths[:, None]).float()
        with torch.no_grad():
            full = Answer(self.prompts, response_mask=self.mask)
            self.teacher = self.log_probs(model, full)
        self.attention = full.attention

    def log_probs(self, model, answer):
        """(valid response tokens, vocabulary) float32."""
        passed = model.model(
            input_ids=self.inputs,
            position_ids=self.prompts.positions(self.inputs.shape[1]),
            use_cache=False,
            step=answer,
        )
        return model.lm_head(passed.last_hidden_state[self.mask.bool()]).float().log_softmax(-1)

    def divergence(self, student):
        return F.kl_div(student, self.teacher.float(), reduction="none", log_target=True).sum(-1)


def draw_budget(lesson, rng, most, least=0):
    """Rows to keep, how many of them are memory rows, and whether selection is differentiable."""
    shortest = int(lesson.prompts.lengths.min())
    weighted = zip(BUDGETS, BUDGET_WEIGHTS, strict=True)
    fitting = [each for each in weighted if each[0] <= 0.6 * shortest] or [(BUDGETS[0], 1)]
    budget = rng.choices(*zip(*fitting, strict=True))[0]
    weighted = zip(MEMORIES, MEMORY_WEIGHTS, strict=True)
    allowed = [each for each in weighted if least <= each[0] <= most]
    used = min(rng.choices(*zip(*allowed, strict=True))[0], budget // 4)
    return budget, used, used == 0 or rng.random() < SOFT_SHARE


def losses(model, judge, lesson, budget, used, width):
    """The KL divergence of the answer, 0 where nothing of it is learned, and that of the attention.

    Args:
        width: of the sigmoid that keeps rows; None = rows are kept or not, without gradients to the scores.
    """
    asked, hidden = judge.ask(model, lesson.prompts), lesson.prompts.hidden
    pairs = zip(asked.largest, lesson.attention, strict=True)
    aligned = ATTENTION_WEIGHT * torch.stack([tempered(ours, theirs, hidden) for ours, theirs in pairs]).mean()
    if width is None and not used:
        return torch.zeros((), device=hidden.device), aligned
    rows = budget - used
    every_layer = [scores + hidden[:, None] for scores in asked.largest]
    if width is None:
        biases = [hard_bias(scores.detach(), rows) for scores in every_layer]
    else:
        biases = [soft_bias(scores, rows, width) for scores in every_layer]
    student = lesson.log_probs(model, Answer(lesson.prompts, biases, asked.memory, used))
    return lesson.divergence(student).mean(), aligned


class MemoryExample:
    """A batch for memory tokens beside soft tokens that do not change: the scores and rows of these.

    Rows are stored in bfloat16.
    """

    def __init__(self, model, judge, lesson):
        with torch.no_grad():
            asked = judge.ask(model, lesson.prompts)
        self.lesson, self.scores = lesson, asked.mean
        lesson.prompts.rows = _narrow(lesson.prompts.rows)
        lesson.teacher = lesson.teacher.half()
        self.prompt = Rows(lesson.prompts.rows, lesson.prompts.hidden)
        self.soft = _narrow(asked.soft)

    def loss(self, model, judge, budgets):
        """The mean KL divergence of the answer over budgets, given as rows and how many of them are memory rows."""
        hidden = self.prompt.hidden
        seen = Rows(
            [
                tuple(torch.cat(both, 2) for both in zip(*pairs, strict=True))
                for pairs in zip(self.prompt.rows, self.soft, strict=True)
            ],
            torch.cat([hidden, hidden.new_zeros(len(hidden), S)], 1),
        )
        memory = judge.remember(model, seen, self.lesson.prompts.positions(len(judge.memory)))
        found = []
        for budget, used in budgets:
            kept = self.prompt.selected(self.scores, budget - used)
            student = self.lesson.log_probs(model, Answer(kept, memory=memory, used=used))
            found.append(self.lesson.divergence(student).mean())
        return torch.stack(found).mean()


def _narrow(rows):
    return [tuple(each.bfloat16() for each in pair) for pair in rows]


def paced(adam, args, batches):
    """The batches of each epoch, with the seconds so far and the share of the run that is over, until all of it is.

    Sets the learning rates: a warm-up, then a cosine to 0 at the end of the time, or of `args.steps`.
    """
    started, steps = time.perf_counter(), 0
    while True:
        for batch in batches():
            elapsed = time.perf_counter() - started
            share = max(elapsed / args.seconds, steps / args.steps)
            if share >= 1:
                return
            rate = min(1.0, (steps + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))
            for group in adam.param_groups:
                group["lr"] = group["peak"] * rate
            yield elapsed, share, batch
            steps += 1


def descend(adam, loss):
    """One step, of gradients of norm 1 at most; none where the loss is no number."""
    adam.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([each for group in adam.param_groups for each in group["params"]], 1.0)
    if math.isfinite(float(loss.detach())):
        adam.step()


class Log:
    """What each step gave: printed now and then as means of the last `every` steps, saved with the judge each minute.

    Attributes:
        history: one tuple a step, its last figures the losses.
    """

    def __init__(self, judge, out, names, every):
        self.judge, self.out, self.names, self.every = judge, out, names, every
        self.history, self.saved, self.elapsed = [], 0.0, 0.0

    def note(self, elapsed, entry):
        """`entry` ends with one loss for each name."""
        self.history.append(entry)
        self.elapsed, steps = elapsed, len(self.history)
        if steps in (1, 2, 3, 5, 10) or steps % self.every == 0:
            recent = self.history[-self.every :]
            means = [sum(each[at] for each in recent) / len(recent) for at in range(-len(self.names), 0)]
            told = ", ".join(f"{name} {mean:.4f}" for name, mean in zip(self.names, means, strict=True))
            print(f"run {steps} {elapsed:.0f} s, {told}", flush=True)
        if elapsed - self.saved > 60:
            self.saved = elapsed
            self.judge.save(self.out, {"steps": steps, "unfinished": True})

    def record(self, **more):
        """Of the whole run; saved, since what is measured after it takes its time."""
        found = {
            "steps": len(self.history),
            "seconds": round(self.elapsed, 1),
            "history": self.history,
        } | more
        print(f"run: {found['steps']} steps, {found['seconds']:.0f} s", flush=True)
        self.judge.save(self.out, found | {"unfinished": True})
        return found


def train_memory(model, judge, corpus, held_out, args):
    """Memory tokens alone, by the divergence of answers, over the same prompts again and again."""
    rng, adam = random.Random(args.seed), torch.optim.Adam(judge.groups(only_memory=True))
    usable = corpus.answered(3, args.longest, args.limit)
    batches = corpus.batches(usable, args.tokens, args.most, rng)
    log = Log(judge, Path(args.out), ["kl"], 50)
    for elapsed, _, batch in paced(adam, args, lambda: rng.sample(batches, len(batches))):
        own = MemoryExample(model, judge, TrainingExample(model, corpus, batch, rng))
        budgets = [draw_budget(own.lesson, rng, len(judge.memory), 1)[:2] for _ in range(DRAWS)]
        loss = own.loss(model, judge, budgets)
        descend(adam, loss)
        log.note(elapsed, (*budgets, round(float(loss.detach()), 4)))
    record = log.record(prompts=len(usable))
    return record | {"held_out": report(model, judge, held_out, args, MEMORY_ONLY)}


def train(model, judge, corpus, held_out, args):
    """Everything, by both losses; gives the run's record."""
    rng, adam = random.Random(args.seed), torch.optim.Adam(judge.groups())
    usable, seen = corpus.answered(3, args.longest, args.limit), 0
    log = Log(judge, Path(args.out), ["kl", "attention"], 25)
    for elapsed, share, batch in paced(adam, args, lambda: corpus.batches(usable, args.tokens, args.most, rng)):
        lesson = TrainingExample(model, corpus, batch, rng)
        budget, used, soft = draw_budget(lesson, rng, len(judge.memory))
        divergence, aligned = losses(model, judge, lesson, budget, used, 0.5 * 0.25**share if soft else None)
        descend(adam, aligned + divergence)
        seen += len(batch)
        figures = (round(float(each.detach()), 4) for each in (divergence, aligned))
        log.note(elapsed, (budget, used, int(soft), *figures))
    record = log.record(prompts_seen=seen)
    return record | {"held_out": report(model, judge, held_out, args, WHOLE)}


# Measuring


class Form(NamedTuple):
    """What is measured: scores, `largest` or `mean`, the width of their pooling, and memory rows."""

    name: str
    scores: str
    pool: int = POOL
    memory: int = 0


START = (Form("mean", "mean"), Form("largest", "largest"))
WHOLE = (
    Form("largest", "largest"),
    Form("largest+8", "largest", memory=8),
    Form("mean", "mean"),
    Form("largest+4", "largest", memory=4),
    Form("largest+16", "largest", memory=16),
    Form("mean+8", "mean", memory=8),
    Form("largest, pool 1", "largest", pool=1),
    Form("largest, pool 13", "largest", pool=13),
    Form("largest+8, pool 3", "largest", pool=3, memory=8),
)
MEMORY_ONLY = (Form("mean", "mean"), Form("mean+4", "mean", memory=4), Form("mean+8", "mean", memory=8))


class Means:
    """Running means by form, budget and figure."""

    def __init__(self):
        self.sums, self.counts = {}, {}

    def note(self, key, values):
        self.sums[key] = self.sums.get(key, 0.0) + float(values.sum())
        self.counts[key] = self.counts.get(key, 0) + values.numel()

    def table(self):
        found = {}
        for (name, budget, figure), total in self.sums.items():
            mean = round(total / self.counts[name, budget, figure], 4)
            found.setdefault(name, {}).setdefault(str(budget), {})[figure] = mean
        return found


@torch.no_grad()
def report(model, judge, corpus, args, forms):
    """Of held-out prompts: KL, equal first choices, whole answers that are equal, and hit rates, by form and budget.

    Only prompts that are longer than the budget count. A budget covers the memory rows.
    """
    means = Means()
    for batch in corpus.batches(corpus.answered(2, args.longest, args.held_out_limit), args.tokens, args.most):
        lesson = TrainingExample(model, corpus, batch)
        asked = judge.ask(model, lesson.prompts)
        kinds = [corpus.kinds[at] for at in batch]
        for budget in BUDGETS:
            own = [at for at in range(len(batch)) if lesson.prompts.lengths[at] > budget]
            for form in forms:
                if own and form.memory < budget:
                    _measure(means, model, lesson, asked, budget, form, own, kinds)
    found = means.table()
    for name, by_budget in found.items():
        cells = [
            f"{budget}: " + "/".join(f"{each[key]:.3f}" for key in ("kl", "first", "whole", "hits") if key in each)
            for budget, each in by_budget.items()
        ]
        print(f"  {name:16} {'  '.join(cells)}", flush=True)
    return found


def _measure(means, model, lesson, asked, budget, form, own, kinds):
    """One form at one budget, for the prompts `own` of a batch."""
    device, valid = model.device, lesson.mask.bool()
    padding = lesson.prompts.hidden[:, None]
    scores = [each + padding for each in getattr(asked, form.scores)]
    biases = [hard_bias(each, budget - form.memory, form.pool) for each in scores]
    student = lesson.log_probs(model, Answer(lesson.prompts, biases, asked.memory, form.memory))
    owner = torch.arange(len(kinds), device=device)[:, None].expand_as(valid)[valid]
    chosen = torch.isin(owner, torch.tensor(own, device=device))
    equal = (student.argmax(-1) == lesson.teacher.argmax(-1)).float()
    whole = torch.ones(len(kinds), device=device).scatter_reduce(0, owner, equal, "amin")
    means.note((form.name, budget, "kl"), lesson.divergence(student)[chosen])
    means.note((form.name, budget, "first"), equal[chosen])
    means.note((form.name, budget, "whole"), whole[own])
    for at in own:
        means.note((form.name, budget, f"whole {kinds[at]}"), whole[at : at + 1])
    if not form.memory:
        for ours, theirs in zip(scores, lesson.attention, strict=True):
            best = (theirs + padding).topk(budget, -1).indices
            kept = torch.zeros_like(ours).scatter(-1, ours.topk(budget, -1).indices, 1.0)
            means.note((form.name, budget, "hits"), kept.gather(-1, best)[own])


# Commands


def folder_of(model) -> Path:
    """A model's folder, given itself or the name of an embedded model."""
    if Path(model).is_dir():
        return Path(model)
    from judgeq.models.embedded import embedded_model_path

    return embedded_model_path(model)


def load_model(folder, device, dtype):
    """A frozen model whose attention is decided by the `step` of each call."""
    files = list(Path(folder).glob("*.gguf"))
    how = {"gguf_file": files[0].name} if files else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **how)
    model.set_attn_implementation("distill")
    return model.to(device).eval().requires_grad_(False)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("prompts", "respond", "train", "all", "merge"))
    for name in ("model", "prompts", "responses", "held-out", "held-out-responses", "start", "soft", "out"):
        parser.add_argument("--" + name)
    parser.add_argument("--data", default="wiki:3,code:1,records:3,chains:3", help="what `prompts` draws from")
    parser.add_argument("--part", default="train", choices=("train", "held_out"))
    parser.add_argument("--count", type=int, default=256, help="of prompts")
    parser.add_argument("--min-tokens", type=int, default=256, help="of documents")
    parser.add_argument("--max-tokens", type=int, default=4096, help="of documents")
    parser.add_argument("--reserve", type=int, default=160, help="tokens that must be free behind a prompt")
    parser.add_argument("--seconds", type=float, default=300, help="of `respond`, of `train`, or of `all`")
    parser.add_argument("--steps", type=float, default=math.inf, help="end after so many, before the time is over")
    parser.add_argument("--only", choices=("memory",), help="train the memory tokens alone")
    parser.add_argument("--memory", type=int, default=16, help="number of memory tokens")
    parser.add_argument("--rank", type=int, default=2, help="of the memory tokens' adapters after `merge`")
    parser.add_argument("--longest", type=float, default=math.inf, help="leave out prompts of more tokens")
    parser.add_argument("--limit", type=int, help="of prompts to train on; the others are left out")
    parser.add_argument("--held-out-limit", type=int, help="of prompts to measure with")
    parser.add_argument("--tokens", type=int, default=65536, help="largest batch")
    parser.add_argument("--most", type=int, default=96, help="prompts in a batch")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, or of the order of training")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    return parser.parse_args(arguments)


def main(arguments=None):
    args = parse(arguments)
    if args.what == "prompts":
        write_prompts(args)
        return
    if args.what == "merge":
        merge(args)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.enable_cudnn_sdp(False)  # it makes a plan for every new shape
    torch.manual_seed(args.seed)
    started = time.perf_counter()
    folder = folder_of(args.model)
    model = load_model(folder, device, getattr(torch, args.dtype))
    print(f"{device}, model loaded in {time.perf_counter() - started:.1f} s", flush=True)
    end = model.config.eos_token_id if (folder / "config.json").exists() else END_OF_GGUF
    if args.what == "respond":
        respond_all(model, Corpus(args.prompts), args.out, end, args.tokens, args.most, args.seconds)
        return
    out = Path(args.out)
    if args.what == "all":
        out.mkdir(parents=True, exist_ok=True)
        args.responses, args.held_out_responses = (
            str(out / f"{name}.safetensors") for name in ("responses", "held_out_responses")
        )
        respond_all(model, Corpus(args.held_out), args.held_out_responses, end, 8 * args.tokens, 512)
        respond_all(model, Corpus(args.prompts), args.responses, end, 4 * args.tokens, 384, RESPONSE_SECONDS)
        torch.cuda.empty_cache()
        args.seconds -= time.perf_counter() - started + REPORT_SECONDS
    corpus, held_out = Corpus(args.prompts, args.responses), Corpus(args.held_out, args.held_out_responses)
    judge = Judge(args.start, args.memory, args.only == "memory").to(device)
    print("start:", flush=True)
    before = report(model, judge, held_out, args, MEMORY_ONLY[:1] if args.only else START)
    record = (train_memory if args.only else train)(model, judge, corpus, held_out, args)
    judge.save(out, record | {"before": before})
    if device == "cuda":
        most, elapsed = torch.cuda.max_memory_allocated() / 1e9, time.perf_counter() - started
        print(f"most memory {most:.1f} GB, all {elapsed:.0f} s", flush=True)


if __name__ == "__main__":
    main()
