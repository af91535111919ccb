"""The Hugging Face Hub: a repository's files as a folder here, a folder here as a repository, and what is published.

Every failure becomes one sentence that names the repository. Knows nothing of what the files are for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judgeq.errors import InputError, JudgeqError
from judgeq.models.download_process import ANSWER_SECONDS
from judgeq.models.hub_download import HubError, snapshot

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi
    from huggingface_hub.hf_api import ModelInfo, SpaceInfo

ALWAYS_THERE = {".gitattributes", "README.md"}
"""What a repository may hold before anybody has put anything into it."""


def is_hub_id(name: str) -> bool:
    """Whether a repository of the Hub can have this name: `owner/name`."""
    part = r"[A-Za-z0-9_](?:[.-]?[A-Za-z0-9_])*"
    return len(name) <= 96 and re.fullmatch(f"{part}/{part}", name) is not None


def check_hub_id(name: str) -> None:
    """Nothing if a repository of the Hub can have this name, else an `InputError`."""
    if not is_hub_id(name):
        raise InputError(f"{name!r} is not a valid id on the Hub: give one such as owner/name")


def local_folder(name: str | Path, revision: str | None, files: Sequence[str]) -> Path:
    """The folder `name`, or the named files of a repository as a folder in the Hub's cache.

    Raises:
        InputError: there is neither, it cannot be read, or a folder is asked for a revision.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"A revision ({revision!r}) belongs to the Hub, and {name} is a folder: leave it out")
        return folder
    if folder.is_file():
        raise InputError(f"{name} is a file: name the folder that it lies in")
    with clear_errors(str(name)):
        return snapshot(str(name), revision=revision, patterns=files)


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    mark: str,
    private: bool = False,
    branch: str | None = None,
    token: str | None = None,
    message: str,
) -> CommitInfo:
    """Make the files in `folder` a commit of the repository `repo_id`, which is created where there is none.

    Args:
        mark: file by which a repository is known to hold things of this kind; any other one that is not empty is left
            alone.
        private: only the owner may see a new repository; a public one is left alone.
        branch: created where there is none; None is the main one.
        token: of an account that may write there; by default that of `hf auth login` or `HF_TOKEN`.
        message: of the commit.

    Raises:
        InputError: no such name, no token, no permission, another kind of repository, or no answer.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    api = signed_in(repo_id, token)
    with clear_errors(repo_id):
        try:
            check_kind(api.model_info(repo_id, timeout=ANSWER_SECONDS), mark, private)
        except RepositoryNotFoundError:
            api.create_repo(repo_id, private=private or None)  # None: as its owner's settings say
        if branch is not None:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        return api.upload_folder(repo_id=repo_id, folder_path=folder, revision=branch, commit_message=message)


def signed_in(repo_id: str, token: str | None) -> HfApi:
    """A client that may write; an `InputError` without a token, or for a name that nothing can have."""
    from huggingface_hub import HfApi, get_token

    check_hub_id(repo_id)
    if not (token or get_token()):
        raise InputError(
            f"Nothing was pushed to {repo_id}, for there is no token: sign in with `hf auth login`, or set HF_TOKEN"
        )
    return HfApi(token=token)


def published(library: str, base_model: str) -> list[str]:
    """The three most downloaded repositories of `library` that say they belong to a base model; none without a Hub.

    One request: the client's own search tries for half a minute where there is no connection.
    """
    from huggingface_hub import constants, get_session

    tags = [library, f"base_model:adapter:{base_model}"]
    asked = {"filter": tags, "sort": "downloads", "limit": "3"}
    try:
        with clear_errors(base_model):
            answer = get_session().get(f"{constants.ENDPOINT}/api/models", params=asked, timeout=ANSWER_SECONDS)
            return [str(found["id"]) for found in answer.raise_for_status().json()]
    except InputError:
        return []


def check_kind(repository: ModelInfo | SpaceInfo, mark: str, private: bool) -> None:
    """Refuse, with an `InputError`, a repository with files but no `mark`, or a public one that should be private."""
    files = {file.rfilename for file in repository.siblings or []}
    if mark not in files and files - ALWAYS_THERE:
        raise InputError(
            f"{repository.id} exists on the Hub and holds something else ({min(files - ALWAYS_THERE)}): choose another "
            "name, so that nothing is mixed"
        )
    if private and not repository.private:
        raise InputError(
            f"{repository.id} exists on the Hub and is public: make it private in its settings first, or "
            "choose another name"
        )


@contextlib.contextmanager
def clear_errors(name: str) -> Iterator[None]:
    """Within, what the Hub's client raises about a repository becomes one sentence."""
    try:
        yield
    except JudgeqError:
        raise
    except Exception as error:  # offline, timed out, cut off: the client's errors have no common base
        why = error if isinstance(error, HubError) else HubError.of(error)
        reason = why.text if why.kind == "Silence" else why.kind
        unreachable = (
            f"{name} is neither a folder here nor reachable on the Hugging Face Hub ({reason}): check the name and the "
            "connection"
        )
        refused = unreachable if why.status is None else _refusal(name, why.status)
        raise InputError(why.sentence(name, refused)) from error


def _refusal(name: str, status: int) -> str:
    known = {
        401: "does not accept the token: sign in again with `hf auth login`",
        402: "wants to be paid for that: add a way to pay to the account, or ask for hardware that is free",
        403: "gives this token no right to do that: use one that may write there, or choose a name of your own",
        409: "has got a repository or branch of that name just now: try again",
        429: "has had too many requests from here: wait some minutes, then try again",
    }
    return f"The Hub, asked about {name}, {known.get(status, f'answers with error {status}: try again later')}"
