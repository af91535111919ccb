"""The files of a repository on the Hugging Face Hub as a folder in its cache, downloaded by a monitored subprocess.

`python -m judgeq.models.hub_download` is that process. Knows nothing of what the files are for;
ids are checked by `judgeq.models.loading` and `judgeq.soft_tokens.hub`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from judgeq.models.download_process import ANSWER_SECONDS, Silence, run_watched
from judgeq.models.wheels import Progress, means_full_disk, print_progress

CHUNK = 1 << 16
"""Bytes between two signs of life; with the client's own 10 MB a slow connection looks dead."""
TICK_SECONDS = 0.1


@dataclass(eq=False)
class HubError(Exception):
    """Why there is no snapshot.

    Attributes:
        kind: name of the client's error, such as "GatedRepoError"; "Silence" where nothing arrived; "Full" where the
            disk is.
        text: its first line.
        status: of the Hub's answer, if there was one.
    """

    kind: str
    text: str
    status: int | None = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, error: Exception) -> HubError:
        """Made of what the client raises; kinds that derive from a distinguished one count as that one."""
        from huggingface_hub import errors

        known = (
            errors.HFValidationError,
            errors.GatedRepoError,
            errors.RevisionNotFoundError,
            errors.RepositoryNotFoundError,
            errors.HfHubHTTPError,
        )
        kind = next((each for each in known if isinstance(error, each)), type(error)).__name__
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if means_full_disk(str(error)):
            kind = "Full"
        return cls(kind, text, getattr(getattr(error, "response", None), "status_code", None))

    def sentence(self, name: str, otherwise: str) -> str:
        """What to do about it, without a full stop.

        Args:
            name: of the repository.
            otherwise: the sentence for every other kind.
        """
        sentences = {
            "HFValidationError": f"{name!r} is neither a folder here nor a valid id on the Hub, such as owner/name",
            "GatedRepoError": f"{name} is gated: accept its terms on its page on the Hub, then sign in with "
            "`hf auth login`",
            "RevisionNotFoundError": f"{name} on the Hub has no such revision: name a branch, tag or commit of it",
            "RepositoryNotFoundError": f"There is no folder {name} and no public repository of that name on the Hub: "
            "check the spelling, or sign in with `hf auth login` if it is private",
            "Full": f"There is no space left for {name}: free some, or set HF_HOME to a folder on another disk",
        }
        return sentences.get(self.kind, otherwise)


def snapshot(
    repository: str,
    *,
    revision: str | None = None,
    patterns: Sequence[str],
    ignored: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """The folder of a commit with all files that match; falls back to the local cache if the Hub is unreachable.

    Args:
        revision: branch, tag or commit; None is the main branch.
        progress: called when the download takes long; standard error by default.

    Raises:
        HubError: there is no such folder.
    """
    import huggingface_hub
    from huggingface_hub import constants

    request: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "allow_patterns": list(patterns),
        "ignore_patterns": list(ignored),
    }
    if not constants.HF_HUB_OFFLINE:
        try:
            return _fetch(request, print_progress if progress is None else progress)
        except Silence as error:
            silence = HubError("Silence", str(error))
    else:
        silence = None
    try:
        return Path(huggingface_hub.snapshot_download(**request, local_files_only=True))
    except Exception as error:  # its errors have no common base
        raise silence or HubError.of(error) from error


def check_answers(dataset: str) -> None:
    """Raises `HubError` unless the Hub answers about a data set in time: its own client tries for minutes."""
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(dataset, timeout=ANSWER_SECONDS)
    except Exception as error:  # its errors have no common base
        raise HubError.of(error) from error


def _fetch(request: dict[str, Any], say: Progress) -> Path:
    from huggingface_hub import constants, get_token

    name = request["repo_id"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "PYTHONIOENCODING": "utf-8",
        "HF_ENDPOINT": constants.ENDPOINT,
        "HF_HUB_CACHE": str(constants.HF_HUB_CACHE),
        "HF_HUB_OFFLINE": "0",  # checked above, where a program may have changed it
    }
    if token := get_token():
        environment["HF_TOKEN"] = token

    def notice(alive: bool, line: str) -> None:
        done, _, total = line.strip().partition(" ")
        share = int(done) / int(total) if total.isdigit() and int(total) else None
        say(
            f"{'Fetching' if alive else 'Waiting for'} {name} from the Hub ({constants.ENDPOINT}) …",
            share if alive else None,
        )

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    command = [sys.executable, "-P", "-m", "judgeq.models.hub_download"]
    try:
        ended = run_watched(command, folder, notice, text=json.dumps(request), environment=environment)
        answer = json.loads(ended.output.splitlines()[-1])
    except OSError as error:
        raise HubError.of(error) from error
    except (IndexError, ValueError) as error:  # killed, or not even started
        raise HubError("Broken", (ended.errors.strip().splitlines() or ["it broke off"])[-1]) from error
    if "folder" in answer:
        return Path(answer["folder"])
    raise HubError(**answer)


def main() -> None:
    """Fetch what standard input requests; the last line of standard output says where it is, or what went wrong."""
    import huggingface_hub
    from huggingface_hub import constants
    from tqdm import tqdm

    request = json.load(sys.stdin)
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    last = 0.0

    class Signs(tqdm):
        """Instead of a bar, a line "bytes total" for the process that watches."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": False, "file": nowhere})

        def update(self, n: float | None = 1) -> None:
            nonlocal last
            super().update(n)
            if self.unit == "B" and (now := time.monotonic()) - last > TICK_SECONDS:
                last = now
                _say(f"{int(self.n)} {int(self.total or 0)}")

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        try:
            answer = {"folder": str(huggingface_hub.snapshot_download(**request, tqdm_class=cast("Any", Signs)))}
        except Exception as error:  # noqa: BLE001 - its errors have no common base
            answer = asdict(HubError.of(error))
    _say(json.dumps(answer))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
