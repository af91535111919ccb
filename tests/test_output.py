"""What is named to be written: links and devices stay, foreign files stay, and a save is there whole or not at all."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch

from judgeq import output
from judgeq.cli import main
from judgeq.config import Decoding, Selection
from judgeq.documents.document import Document
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.output import check_file, check_folder, saved, saving, write_file
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.config import TrainConfig
from judgeq.training.train import check_folders

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices of POSIX")
NOTES = "# My project, months of notes\n"


@pytest.fixture
def tokens(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.tensor([5, 9, 20]))


# Files


@posix
def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "result.json"
    target.write_text("old")
    (tmp_path / "near").symlink_to(target)
    (tmp_path / "to link").symlink_to(tmp_path / "near")
    for name in ("near", "to link"):
        write_file(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
        assert target.read_text() == name


@posix
def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later.json")
    check_file(tmp_path / "link")
    assert not (tmp_path / "later.json").exists()
    write_file(tmp_path / "link", "new")
    assert (tmp_path / "later.json").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


@posix
def test_other_names_of_a_file_show_what_is_written_and_its_mode_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    write_file(tmp_path / "a", "new")
    assert (tmp_path / "b").read_text() == "new"
    (tmp_path / "c").write_text("old")
    (tmp_path / "c").chmod(0o640)
    write_file(tmp_path / "c", "new")
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o640


@posix
def test_a_pipe_gets_what_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_file(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_file(pipe, "through")
    reader.join()
    assert read == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
@pytest.mark.parametrize("device", ["/dev/null", "linked"])
def test_a_device_stays_a_device(tmp_path: Path, device: str) -> None:
    (tmp_path / "linked").symlink_to("/dev/null")
    path = tmp_path / device  # an absolute name stays as it is
    check_file(path)
    write_file(path, "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert not list(Path("/dev").glob("null.*"))


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("into", ["pipe", "file"])
def test_an_open_file_is_written_on_behind_what_stands_there(tmp_path: Path, name: str, into: str) -> None:
    if name.startswith("/proc") and not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "import sys; from judgeq.output import check_file, write_file; print('before');"
        f"check_file({str(tmp_path / name)!r}); write_file({str(tmp_path / name)!r}, 'it\\n'); print('behind')"
    )
    place = tmp_path / "out"
    with place.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=file if into == "file" else subprocess.PIPE, check=True
        )
    found = place.read_bytes() if into == "file" else done.stdout
    assert found.split() == [b"before", b"it", b"behind"]


@pytest.mark.parametrize("check", [check_file, lambda path: write_file(path, "x")])
@pytest.mark.parametrize("name", ["folder", "folder/", "missing/", "missing/out.json", "file/out.json", "n" * 300])
def test_no_place_for_a_file(tmp_path: Path, name: str, check: Callable[[str], None]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="cannot be written"):
        check(f"{tmp_path}/{name}")
    assert sorted(tmp_path.rglob("*")) == before


@posix
def test_circular_links_sockets_and_read_only_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with socket.socket(socket.AF_UNIX) as made:
        monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
        made.bind("socket")
    (tmp_path / "locked").mkdir(mode=0o555)
    names = ["a", "socket"] + ([] if os.geteuid() == 0 else ["locked/out.json"])
    for name in names:
        with pytest.raises(InputError, match="cannot be written"):
            check_file(tmp_path / name)


def test_no_name_is_no_file_and_no_folder(lm: LanguageModel, tokens: SoftTokens) -> None:
    for write in (
        lambda: check_file(""),
        lambda: tokens.save_pretrained(""),
        lambda: tokens.export_peft(""),
        lambda: Document(lm, "One. Two.").save(""),
    ):
        with pytest.raises(InputError, match="is empty"):
            write()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "settings.json"
    Selection().save(target)
    before = target.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        Selection(sinks=7).save(target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_happen_to_stand_beside_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out.json.part").write_text(NOTES)
    write_file(tmp_path / "out.json", "{}")
    assert (tmp_path / "out.json.part").read_text() == NOTES


def test_half_a_character_does_not_lose_the_rest(tmp_path: Path) -> None:
    write_file(tmp_path / "out.json", json.dumps({"name": "a\udcff.txt"}, ensure_ascii=False))
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == {"name": "a\udcff.txt"}


# Folders: (what writes, names of its files)


def save_tokens(lm: LanguageModel, folder: Path, more: str = "") -> None:
    SoftTokens.initialise(lm, torch.tensor([5, 9, 20 + len(more)])).save_pretrained(folder)


def save_peft(lm: LanguageModel, folder: Path, more: str = "") -> None:
    SoftTokens.initialise(lm, torch.tensor([5, 9, 20 + len(more)])).export_peft(folder)


def save_document(lm: LanguageModel, folder: Path, more: str = "") -> None:
    Document(lm, f"Mara signs. {more}" * 3, today=date(2026, 5, 4)).save(folder)


def save_compressed(lm: LanguageModel, folder: Path, more: str = "") -> None:
    Document(lm, f"Mara signs. {more}" * 3, today=date(2026, 5, 4)).compress(method="snapkv", budget=4).save(folder)


def begin_training(lm: LanguageModel, folder: Path, more: str = "") -> None:
    check_folders(folder, folder / "store")


SAVES = [save_tokens, save_peft, save_document, save_compressed]
FOREIGN = [
    (save_tokens, "README.md"),
    (save_tokens, "judgeq_config.json"),
    (save_tokens, "soft_tokens.safetensors"),
    (save_peft, "adapter_config.json"),
    (save_peft, "adapter_model.safetensors"),
    (save_document, "document.json"),
    (save_document, "rows.safetensors"),
    (save_compressed, "document.json"),
    (begin_training, "README.md"),
    (begin_training, "history.json"),
    (begin_training, "curve.png"),
    (begin_training, "checkpoint.safetensors"),
    (begin_training, "store/mine.txt"),
    *((save, "notes.txt") for save in (*SAVES, begin_training)),
]


@pytest.mark.parametrize(("save", "name"), FOREIGN)
def test_a_folder_of_others_is_left_alone(
    lm: LanguageModel, tmp_path: Path, save: Callable[..., None], name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(InputError, match="judgeq has not written"):
        save(lm, tmp_path)
    assert (tmp_path / name).read_text() == '{"mine": 1}'
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


@pytest.mark.parametrize("save", SAVES)
def test_an_earlier_save_is_replaced(lm: LanguageModel, tmp_path: Path, save: Callable[..., None]) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitattributes").write_text("*.safetensors filter=lfs")
    save(lm, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    (tmp_path / "notes.txt").write_text(NOTES)
    save(lm, tmp_path, "Otto pays.")
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert second.keys() == {*first, "notes.txt"}
    assert second != first | {"notes.txt": NOTES.encode()}
    assert second[".gitattributes"] == first[".gitattributes"]
    assert second["notes.txt"] == NOTES.encode()


@pytest.mark.parametrize("text", [NOTES, "library_name: judgeq\n" + NOTES])
def test_a_changed_card_stays(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path, text: str) -> None:
    tokens.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(InputError, match=r"README\.md that judgeq has not written, or that was changed"):
        tokens.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_an_adapter_that_peft_has_trained_is_not_replaced(tokens: SoftTokens, tmp_path: Path) -> None:
    tokens.export_peft(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"peft_version": "0.19.0"}))
    with pytest.raises(InputError, match="judgeq has not written"):
        tokens.export_peft(tmp_path)


def test_soft_tokens_their_export_and_a_document_share_a_folder(lm: LanguageModel, tmp_path: Path) -> None:
    save_tokens(lm, tmp_path)
    save_peft(lm, tmp_path)
    save_document(lm, tmp_path)
    assert SoftTokens.from_pretrained(tmp_path).n == 3
    assert Document.load(lm, tmp_path).text.startswith("Mara")


def test_a_folder_that_is_a_file_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(NOTES)
    for save in (*SAVES, begin_training):
        for name in ("file", "file/below"):
            with pytest.raises(InputError, match="cannot be written"):
                save(lm, tmp_path / name)
    assert (tmp_path / "file").read_text() == NOTES


# Interrupted saves


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("step", range(1, 6))
def test_whenever_a_save_is_interrupted_one_whole_save_can_be_read(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[..., None], step: int
) -> None:
    """Every renaming in turn is the one that a killed process does not come to any more."""
    save(lm, tmp_path)
    first = _state(tmp_path)
    done = 0

    def counted(real: Callable[..., Path]) -> Callable[..., Path]:
        def rename(self: Path, target: Path) -> Path:
            nonlocal done
            done += 1
            if done >= step:
                raise KeyboardInterrupt
            return real(self, target)

        return rename

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "replace", counted(Path.replace))
        try:
            save(lm, tmp_path, "Otto pays.")
        except KeyboardInterrupt:
            interrupted = True
        else:
            interrupted = False
    between = _state(tmp_path)
    save(lm, tmp_path, "Otto pays.")
    second = _state(tmp_path)
    assert between in ((first, second) if interrupted else (second,))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def _state(folder: Path) -> dict[str, bytes]:
    """What a reader finds."""
    names = {path.name for path in folder.rglob("*") if path.is_file() and output.PART not in str(path)}
    return {name: saved(folder, name).read_bytes() for name in names}


def test_no_room_keeps_the_earlier_one(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_document(lm, tmp_path)

    def full(tensors: dict, path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("judgeq.cache.files.save_file", full)
    with pytest.raises(InputError, match="No space left"):
        save_document(lm, tmp_path, "Otto pays.")
    assert "Otto" not in Document.load(lm, tmp_path).text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["document.json", "rows.safetensors"]


def test_a_folder_is_looked_at_without_a_trace(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b", ["x"], [])
    with saving(tmp_path / "c", ["x"], []) as part:
        (part / "x").write_text("here")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c", "x"]


def test_settings_that_are_saved_are_read_again(tmp_path: Path) -> None:
    for settings in (Decoding(max_new_tokens=7), TrainConfig(n=5)):
        settings.save(tmp_path / "settings.json")
        assert type(settings).load(tmp_path / "settings.json") == settings


# The command line


def test_results_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("judgeq.models.loading.load", load)
    monkeypatch.chdir(tmp_path)
    Path("doc.txt").write_text("Mara signs.")
    Path("folder").mkdir()
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text(NOTES)
    Path("mine/000001.safetensors").write_text(NOTES)
    Path("a.items.jsonl").mkdir()
    ask = ["ask", "--document", "doc.txt", "--question", "Who?"]
    for command, said in (
        ([*ask, "--json", ""], "--json is empty"),
        ([*ask, "--html", ""], "--html is empty"),
        ([*ask, "--json", "folder"], "it is a folder"),
        ([*ask, "--html", "none/page.html"], "cannot be written"),
        ([*ask, "--json", "same", "--html", "./same"], "both write"),
        ([*ask, "--json", "-", "--html", "-"], "both write"),
        ([*ask, "--json", "doc.txt"], "is read"),
        ([*ask, "--save-document", "mine"], "notes.txt"),
        ([*ask, "--save-document", ""], "--save-document is empty"),
        (["evaluate", "answers", "--json", "folder"], "it is a folder"),
        (["evaluate", "answers", "--json", "a.json"], "a.items.jsonl cannot be written"),
        (["evaluate", "hit-rate", "--json", "folder/"], "cannot be written"),
        (["train", "--out", "mine"], "notes.txt"),
        (["train", "--out", ""], "--out is empty"),
        (
            ["train", "--out", "new", "--store", "mine"],
            "holds a 000001.safetensors that judgeq has not written",
        ),
        (["tokens", "import-peft", "somewhere", "--out", "mine"], "notes.txt"),
        (["ablation", "folder", "--figure", "folder"], "it is a folder"),
        (["report", "doc.txt", "--markdown", ""], "--markdown is empty"),
        (["report", "doc.txt", "--html", "doc.txt"], "is read"),
        (["estimate", "--json", "folder"], "it is a folder"),
    ):
        assert main(command) == 2, command
        assert said in capsys.readouterr().err, command
    assert Path("doc.txt").read_text() == "Mara signs."
    assert not Path("new").exists()


def test_a_journal_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    from judgeq.evaluation.journal import Journal

    (tmp_path / "mine.items.jsonl").write_text('{"mine": 1}\nhalf a line')
    with pytest.raises(InputError, match="not a file of answers"):
        Journal(tmp_path / "mine.items.jsonl", {"model": "tiny"})
    assert (tmp_path / "mine.items.jsonl").read_text() == '{"mine": 1}\nhalf a line'
