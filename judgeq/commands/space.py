"""`judgeq space`: publish the demo as a Hugging Face Space."""

from __future__ import annotations

import argparse
from typing import Any

from judgeq.commands.common import write_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_space)
    parser.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help="created on the Hub where there is none"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only list what would be sent; asks no network"
    )
    parser.add_argument(
        "--hardware",
        metavar="NAME",
        help="such as cpu-basic or zero-a10g (default: as it is, new: cpu-basic)",
    )
    parser.add_argument("--private", action="store_true", help="only you may see a new Space")
    parser.add_argument("--message", default="The demo as it is", metavar="TEXT", help="of the commit")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - for standard output")


def _space(arguments: argparse.Namespace) -> None:
    from judgeq.soft_tokens.hub import check_hardware, check_hub_id, push_space
    from judgeq.space import checkout, space_files

    check_hub_id(arguments.repo)
    check_hardware(arguments.hardware)
    root = checkout()
    files = space_files(root)
    total = sum(file.size for file in files)
    result: dict[str, Any] = {
        "repository": arguments.repo,
        "files": [{"path": file.path, "bytes": file.size} for file in files],
        "bytes": total,
    }
    if arguments.dry_run:
        lines = [f"{file.size:>12,}  {file.path}" for file in files]
        said = f"{len(files)} files, {total:,} bytes, would be sent to {arguments.repo}"
    else:
        done = push_space(
            {file.path: root / file.path for file in files},
            arguments.repo,
            private=arguments.private,
            hardware=arguments.hardware,
            message=arguments.message,
        )
        lines = []
        said = f"{len(files)} files, {total:,} bytes, are on the Hub: {done.repo_url}"
        result |= {"commit": done.oid, "url": str(done.repo_url)}
    write_json(arguments.json, result)
    if arguments.json != "-":
        print("\n".join([*lines, said]))
