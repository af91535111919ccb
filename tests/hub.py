"""A stand-in for the Hugging Face Hub, for the real `huggingface_hub` client.

An HTTP server on loopback that keeps repositories of models and Spaces in memory. What it does of the Hub:
`owner/name` repositories, public or private, with branches and commits; files inside commits ("regular", never LFS);
downloads with ETag and commit; tags read from the model card, by which models are listed; a Space's SDK and hardware;
and the answers of the real one where something is missing or not allowed. Tokens are `<owner>-token`: they read what is
theirs or public and write what is theirs. What it does not: users, pull requests, LFS and Xet, resumed downloads,
anything but models and Spaces, which run nothing here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from huggingface_hub import ModelCard

START = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


@dataclass
class Repository:
    """Files by branch; every commit is kept.

    Attributes:
        commits: files by commit.
        branches: commit by branch.
        gated: only its owner gets the files.
        sdk, hardware: of a Space.
    """

    private: bool = False
    gated: bool = False
    sdk: str | None = None
    hardware: str | None = None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", START, "initial commit")

    def commit(self, branch: str, files: dict[str, bytes], message: str, gone: Collection[str] = ()) -> str:
        """Put a new commit on a branch, with these files and without those that are gone; returns its id."""
        whole = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        whole = {name: data for name, data in whole.items() if name not in gone}
        content = [message, len(self.commits), sorted((name, blob_id(data)) for name, data in whole.items())]
        commit = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        self.commits[commit], self.branches[branch] = whole, commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch or commit means."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    @property
    def tags(self) -> set[str]:
        """Those of the model card, and what the Hub makes of its fields."""
        card = self.commits[self.branches["main"]].get("README.md", b"").decode()
        data = ModelCard(card).data.to_dict() if card.startswith("---") else {}
        relation, base = data.get("base_model_relation"), data.get("base_model")
        return {*data.get("tags", []), str(data.get("library_name")), f"base_model:{relation}:{base}"}


@dataclass
class Hub:
    """The server's state, and what a test wants to go wrong.

    Attributes:
        endpoint: its address.
        repositories: by `owner/name`, Spaces by `spaces/owner/name`.
        requests: `METHOD path` of all requests.
        broken: status that every request gets; None = works.
        stalled: weights stop in the middle until it is set; None = they come.
    """

    endpoint: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    broken: int | None = None
    stalled: threading.Event | None = None

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What lies in a repository."""
        repository = self.repositories[repo_id]
        commit = repository.resolve(revision)
        assert commit, f"{repo_id} has no revision {revision}"
        return repository.commits[commit]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of this machine, empty at first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def blob_id(data: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests are quiet."""

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def _answer(self, handle: Any) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {url.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.query = parse_qs(url.query)
        try:
            if self.hub.broken:
                raise _Refusal(self.hub.broken)
            data, headers = handle([unquote(part) for part in url.path.strip("/").split("/")])
            status = 200
        except _Refusal as refusal:
            status, data = refusal.status, json.dumps({"error": refusal.message}).encode()
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            if self.hub.stalled and url.path.endswith(".safetensors"):
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.hub.stalled.wait()
                self.close_connection = True
                return
            self.wfile.write(data)

    def _get(self, parts: list[str]) -> tuple[bytes, dict[str, str]]:
        match parts:
            case ["api", "models"]:
                wanted = set(self.query.get("filter", []))
                found = [
                    {"id": name, "tags": []}
                    for name, repository in self.hub.repositories.items()
                    if not name.startswith("spaces/") and wanted <= repository.tags and not repository.private
                ]
                return _json(found)
            case ["api", "models" | "spaces" as kind, owner, name, *rest]:
                repository = self._repository(owner, name, kind)
                match rest:
                    case [] | ["revision", _]:
                        commit, _ = self._files(repository, rest[1] if rest else "main")
                        siblings = [{"rfilename": file} for file in repository.commits[commit]]
                        about = {"id": f"{owner}/{name}", "sha": commit, "private": repository.private}
                        return _json({**about, "siblings": siblings, "tags": sorted(repository.tags)})
                    case ["tree", revision]:
                        _, files = self._files(repository, revision)
                        listed = [
                            {"type": "file", "path": file, "size": len(data), "oid": blob_id(data)}
                            for file, data in files.items()
                        ]
                        return _json(listed)
            case [owner, name, "resolve", revision, *path]:
                repository = self._repository(owner, name)
                if repository.gated and self._owner() != owner:
                    raise _Refusal(403, "GatedRepo")
                commit, files = self._files(repository, revision)
                if (file := "/".join(path)) not in files:
                    raise _Refusal(404, "EntryNotFound")
                return files[file], {"ETag": f'"{blob_id(files[file])}"', "X-Repo-Commit": commit}
        raise _Refusal(404)

    def _post(self, parts: list[str]) -> tuple[bytes, dict[str, str]]:
        match parts:
            case ["api", "validate-yaml"]:
                ModelCard(json.loads(self.body)["content"])
                return _json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                asked = json.loads(self.body)
                owner, name = asked["organization"], asked["name"]
                self._check_owner(owner)
                prefix = "spaces/" if asked.get("type") == "space" else ""
                if (key := f"{prefix}{owner}/{name}") in self.hub.repositories:
                    raise _Refusal(409)
                private, hardware = asked.get("visibility") == "private", asked.get("hardware")
                self.hub.repositories[key] = Repository(private, sdk=asked.get("sdk"), hardware=hardware)
                return _json({"url": f"{self.hub.endpoint}/{key}"})
            case ["api", "spaces", owner, name, "hardware"]:
                repository = self._repository(owner, name, "spaces")
                self._check_owner(owner)
                repository.hardware = json.loads(self.body)["flavor"]
                return _json({"stage": "BUILDING", "hardware": {"requested": repository.hardware}})
            case ["api", "models" | "spaces" as kind, owner, name, action, branch]:
                repository = self._repository(owner, name, kind)
                self._check_owner(owner)
                if action == "branch":
                    if branch in repository.branches:
                        raise _Refusal(409)
                    repository.branches[branch] = repository.branches["main"]
                    return _json({})
                _, there = self._files(repository, branch)
                if action == "preupload":
                    paths = [file["path"] for file in json.loads(self.body)["files"]]
                    known = {path: {"oid": blob_id(there[path])} for path in paths if path in there}
                    mode = {"uploadMode": "regular", "shouldIgnore": False}
                    return _json({"files": [{"path": path, **mode, **known.get(path, {})} for path in paths]})
                if action == "commit":
                    head, *lines = (json.loads(line) for line in self.body.splitlines())
                    added = {
                        line["value"]["path"]: base64.b64decode(line["value"]["content"])
                        for line in lines
                        if line["key"] == "file"
                    }
                    gone = [line["value"]["path"] for line in lines if line["key"] == "deletedFile"]
                    commit = repository.commit(branch, added, head["value"]["summary"], gone)
                    prefix = "spaces/" if kind == "spaces" else ""
                    url = f"{self.hub.endpoint}/{prefix}{owner}/{name}/commit/{commit}"
                    return _json({"success": True, "commitOid": commit, "commitUrl": url})
        raise _Refusal(404)

    def _owner(self) -> str | None:
        """Whose token came along."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if not token.endswith("-token"):
            raise _Refusal(401, message="Invalid credentials in Authorization header")
        return token.removesuffix("-token")

    def _check_owner(self, owner: str) -> None:
        if self._owner() != owner:
            raise _Refusal(401 if self._owner() is None else 403)

    def _repository(self, owner: str, name: str, kind: str = "models") -> Repository:
        asking = self._owner()
        repository = self.hub.repositories.get(f"{'spaces/' if kind == 'spaces' else ''}{owner}/{name}")
        if repository is None or (repository.private and asking != owner):
            raise _Refusal(401 if asking is None else 404, "RepoNotFound")
        return repository

    def _files(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        commit = repository.resolve(revision)
        if commit is None:
            raise _Refusal(404, "RevisionNotFound")
        return commit, repository.commits[commit]


def _json(value: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps(value).encode(), {"Content-Type": "application/json"}
