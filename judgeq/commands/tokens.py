"""`judgeq tokens`: look at soft tokens, publish them, exchange them with PEFT."""

from __future__ import annotations

import argparse
from typing import Any

from judgeq.commands.common import add_common, load_model, write_json


def add(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_show(kinds.add_parser("show", help="what soft tokens were made for and with"))
    _add_push(kinds.add_parser("push", help="publish soft tokens on the Hugging Face Hub"))
    _add_export(kinds.add_parser("export-peft", help="write their embeddings as PEFT's prompt tuning"))
    _add_import(kinds.add_parser("import-peft", help="make soft tokens of a prompt that PEFT has tuned"))


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_show)
    _add_tokens(parser)
    _add_json(parser)


def _add_push(parser: argparse.ArgumentParser) -> None:
    from judgeq.soft_tokens.config import LICENCE

    parser.set_defaults(run=_push)
    _add_tokens(parser)
    parser.add_argument("repository", metavar="OWNER/NAME", help="created on the Hub where there is none")
    parser.add_argument("--private", action="store_true", help="only you may see a new repository")
    parser.add_argument("--branch", metavar="NAME", help="commit to this branch (default: the main one)")
    parser.add_argument("--message", default="Judge Q soft tokens", metavar="TEXT", help="of the commit")
    parser.add_argument(
        "--licence", default=LICENCE, metavar="ID", help="of the soft tokens (default: %(default)s)"
    )
    parser.add_argument(
        "--base-model",
        metavar="OWNER/NAME",
        help="Hub id of the base model, where a folder or file of it was trained on",
    )
    _add_json(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_export)
    _add_tokens(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for PEFT's files")
    parser.add_argument(
        "--embeddings-only",
        action="store_true",
        help="leave out offsets, adapters and profile, without which the soft tokens ask worse",
    )
    _add_json(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_import)
    parser.add_argument(
        "prompt", metavar="NAME|DIR", help="a folder or Hub repository of PEFT's prompt tuning"
    )
    add_common(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the soft tokens")


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tokens", metavar="NAME|DIR", help="a folder or Hub repository of soft tokens")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - for standard output")


def _show(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    tokens = SoftTokens.from_pretrained(arguments.tokens)
    tensors = {name: list(tensor.shape) for name, tensor in tokens.tensors().items()}
    config = tokens.config.to_dict()
    facts = {
        name: config[name] for name in ("base_revision", "hidden_size", "tokenizer_hash", "judgeq_version")
    }
    lines = [f"{tokens.n} soft tokens of {config['base_model']}: {', '.join(tokens.parts)}"]
    lines += [f"  {name.replace('_', ' ')}: {value}" for name, value in (facts | config["metrics"]).items()]
    _tell(arguments, "\n".join(lines), {**config, "tensors": tensors})


def _push(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    done = SoftTokens.from_pretrained(arguments.tokens).push_to_hub(
        arguments.repository,
        base_model=arguments.base_model,
        licence=arguments.licence,
        private=arguments.private,
        branch=arguments.branch,
        commit_message=arguments.message,
    )
    said = f"{arguments.tokens} is on the Hub: use it with --tokens {arguments.repository}"
    _tell(arguments, said, {"repository": arguments.repository, "commit": done.oid, "url": done.commit_url})


def _export(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    tokens = SoftTokens.from_pretrained(arguments.tokens)
    out = tokens.export_peft(arguments.out, embeddings_only=arguments.embeddings_only)
    said = f"{out} is a tuned prompt for PEFT, which puts it before a text: PeftModel.from_pretrained(model, '{out}')"
    _tell(arguments, said, {"out": str(out), "base_model": tokens.config.base_model, "n": tokens.n})


def _import(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.soft_tokens import SoftTokens, check_tokens_folder

    check_tokens_folder(arguments.out)
    tokens = SoftTokens.from_peft(arguments.prompt, load_model(arguments))
    out = tokens.save_pretrained(arguments.out)
    said = f"Soft tokens to start from are in {out}: train them with --start {out}"
    _tell(arguments, said, tokens.config.to_dict())


def _tell(arguments: argparse.Namespace, text: str, result: dict[str, Any]) -> None:
    """One result, for a person unless JSON goes to standard output."""
    write_json(arguments.json, result)
    if arguments.json != "-":
        print(text)
