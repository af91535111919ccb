"""`judgeq tokens`: show soft tokens, publish them, exchange them with PEFT."""

from __future__ import annotations

import argparse

from judgeq.commands.common import add_common, add_flag, add_json, add_option, finish, load_model


def add(parser: argparse.ArgumentParser) -> None:
    from judgeq.soft_tokens.config import LICENCE

    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    show = kinds.add_parser("show", help="what soft tokens were made for and with")
    push = kinds.add_parser("push", help="publish soft tokens on the Hugging Face Hub")
    export = kinds.add_parser("export-peft", help="write their embeddings as PEFT's prompt tuning")
    make = kinds.add_parser("import-peft", help="make soft tokens of a prompt that PEFT has tuned")
    for kind, run in ((show, _show), (push, _push), (export, _export), (make, _import)):
        kind.set_defaults(run=run)
    for kind in (show, push, export):
        kind.add_argument("tokens", metavar="NAME|DIR", help="a folder or Hub repository of soft tokens")
        add_json(kind)

    push.add_argument("repository", metavar="OWNER/NAME", help="created on the Hub where there is none")
    add_flag(push, "--private", "only you may see a new repository")
    meaning = "with the folder that transformers' `model.generate(custom_generate=OWNER/NAME)` runs"
    add_flag(push, "--custom-generate", meaning)
    add_option(push, "--branch", "NAME", "commit to this branch (default: the main one)")
    push.add_argument("--message", default="Judge Q soft tokens", metavar="TEXT", help="of the commit")
    add_option(push, "--licence", "ID", "of the soft tokens", LICENCE)
    meaning = "Hub id of the base model, where a folder or file of it was trained on"
    add_option(push, "--base-model", "OWNER/NAME", meaning)

    add_option(export, "--out", "DIR", "folder for PEFT's files", required=True)
    meaning = "leave out offsets, adapters, memory tokens and profile, without which the soft tokens score worse"
    add_flag(export, "--embeddings-only", meaning)

    meaning = "a folder or Hub repository of PEFT's prompt tuning"
    make.add_argument("prompt", metavar="NAME|DIR", help=meaning)
    add_common(make)
    add_option(make, "--out", "DIR", "folder for the soft tokens", required=True)


def _show(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    tokens = SoftTokens.from_pretrained(arguments.tokens)
    tensors = {name: list(tensor.shape) for name, tensor in tokens.tensors().items()}
    config = tokens.config.to_dict()
    facts = {name: config[name] for name in ("base_revision", "hidden_size", "tokenizer_hash", "judgeq_version")}
    memory = f" and {tokens.config.memory} memory tokens" if tokens.config.memory else ""
    lines = [f"{tokens.n} soft tokens{memory} of {config['base_model']}: {', '.join(tokens.parts)}"]
    lines += ["  for documents before any question"] if tokens.config.question == "unknown" else []
    lines += [f"  {name.replace('_', ' ')}: {value}" for name, value in (facts | config["metrics"]).items()]
    finish(arguments, {**config, "tensors": tensors}, *lines)


def _push(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    done = SoftTokens.from_pretrained(arguments.tokens).push_to_hub(
        arguments.repository,
        base_model=arguments.base_model,
        licence=arguments.licence,
        private=arguments.private,
        branch=arguments.branch,
        commit_message=arguments.message,
        custom_generate=arguments.custom_generate,
    )
    said = f"{arguments.tokens} is on the Hub: use it with --tokens {arguments.repository}"
    result = {"repository": arguments.repository, "commit": done.oid, "url": done.commit_url}
    finish(arguments, result, said)


def _export(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    tokens = SoftTokens.from_pretrained(arguments.tokens)
    out = tokens.export_peft(arguments.out, embeddings_only=arguments.embeddings_only)
    said = f"{out} is a tuned prompt for PEFT, which puts it before a text: PeftModel.from_pretrained(model, '{out}')"
    result = {"out": str(out), "base_model": tokens.config.base_model, "n": tokens.n}
    finish(arguments, result, said)


def _import(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens, check_tokens_folder

    check_tokens_folder(arguments.out)
    tokens = SoftTokens.from_peft(arguments.prompt, load_model(arguments))
    out = tokens.save_pretrained(arguments.out)
    said = f"Soft tokens to start from are in {out}: train them with --start {out}"
    finish(arguments, tokens.config.to_dict(), said)
