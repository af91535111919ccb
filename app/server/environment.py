"""The demo's environment: streams, variables, the temporary folder, the address, proxies.

All of it is corrected, or rejected with an error message, before Gradio is imported, which reads some of it then.
Knows nothing of Gradio or of models.
"""

from __future__ import annotations

import atexit
import errno
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from judgeq.console import say
from judgeq.errors import InputError

HOST, PORT = "127.0.0.1", "7860"
NUMBERS = (
    "GRADIO_ANALYTICS_CACHE_FREQUENCY",
    "GRADIO_ANALYTICS_MAX_EVENTS",
    "GRADIO_DEBUG",
    "GRADIO_NODE_NUM_PORTS",
    "GRADIO_NUM_PORTS",
)
"""Variables that Gradio takes for whole numbers without asking."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""The addresses that mean all interfaces of this machine, and a single one."""
LOCAL = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
TRIES = 50
"""A port that is free at one address may be taken at another one."""


@dataclass(frozen=True)
class Place:
    """Where the page is served.

    Attributes:
        host: address to listen on, as in a URL.
        port: a free one.
        root_path: where a proxy shows the page; empty = there is none.
    """

    host: str
    port: int
    root_path: str = ""

    @property
    def opened_at(self) -> str:
        """What to open in a browser: of this machine, or wherever a proxy shows the page."""
        own = f"http://{EVERYWHERE.get(self.host, self.host)}:{self.port}"
        return self.root_path if "://" in self.root_path else own


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in {"1", "t", "true"}


def check_own_machine(place: Place, train_in: Path | None) -> None:
    """Refuse `--train` wherever other people can reach the demo.

    Raises:
        InputError: training is allowed, and the demo is a Space, accepts connections from other machines or is served
            behind a proxy.
    """
    space = on_zero_gpu() or os.environ.get("SPACE_ID")
    if train_in and (space or place.host.strip("[]") not in LOCAL or place.root_path):
        raise InputError(
            "--train is for one's own machine: leave out --host and GRADIO_ROOT_PATH, or train with "
            "`python -m judgeq train`"
        )


def comes_from_here(client: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a browser on this machine, and not through a proxy or a tunnel."""
    try:
        named = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return False
    passed_on = any(name in headers for name in ("forwarded", "via", "x-forwarded-for", "x-real-ip"))
    return client in LOCAL and named in LOCAL and not passed_on


def settle_place(host: str | None = None, port: str | None = None) -> Place:
    """Where to serve the page; variables that Gradio would read, too, are checked or taken out.

    Args:
        host, port: as the operator gave them; None = what the variables say.

    Raises:
        InputError: something cannot be as it is.
    """
    variables = {name: variable(f"GRADIO_{name}") for name in ("SERVER_NAME", "SERVER_PORT", "ROOT_PATH")}
    path = root_path(variables["ROOT_PATH"])
    given = (variables["SERVER_PORT"] or PORT, "GRADIO_SERVER_PORT") if port is None else (port, "--port")
    number = whole(*given, limit=65535, advice="a port from 1 to 65535, or 0 for any free one")
    check_numbers()
    return Place(*listening_at(variables["SERVER_NAME"] or HOST if host is None else host, number), path)


def variable(name: str) -> str | None:
    """The value of an environment variable, which is taken out, so that Gradio does not read it, too; None for none."""
    return os.environ.pop(name, "").strip() or None


def check_numbers() -> None:
    """Nothing if Gradio can read its variables; empty ones are taken out.

    Raises:
        InputError: one is not a whole number.
    """
    for name in NUMBERS:
        if (value := variable(name)) is not None:
            os.environ[name] = str(whole(value, name))


def whole(written: str, what: str, limit: int = 999_999_999, advice: str = "a whole number, such as 10") -> int:
    """A whole number from 0 to `limit` as it was written.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,9}", written) or int(written) > limit:
        raise InputError(f"{what} is {written[:60]!r}: give {advice}")
    return int(written)


def root_path(written: str | None) -> str:
    """Where a proxy shows the page: a path or a whole address, without a slash at its end.

    Raises:
        InputError: neither of them.
    """
    path = (written or "").rstrip("/")
    try:
        parts = urlsplit(path)
    except ValueError:
        parts = urlsplit("?")
    address = parts.scheme in ("http", "https") and bool(parts.hostname)
    if (path and not (address or path.startswith("/"))) or re.search(r"[\s?#]|^//", path):
        raise InputError(
            f"GRADIO_ROOT_PATH is {path[:60]!r}: give a path such as /judgeq, or an address such as "
            "https://example.org/judgeq"
        )
    return path


def settle_folder() -> None:
    """Give Gradio a temporary folder that only this process uses and that is deleted when it ends.

    It lies in `GRADIO_TEMP_DIR` or in the system's temporary folder. Gradio's own choice is one folder for all users of
    a machine, which belongs to the first user.

    Raises:
        InputError: no folder can be written.
    """
    given = variable("GRADIO_TEMP_DIR")
    folder = None
    if given is not None:
        try:
            Path(given).mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(prefix="judgeq-", dir=given)
        except (OSError, ValueError):
            say(f"GRADIO_TEMP_DIR is {given[:200]!r}, which cannot be written: the system's temporary folder is used\n")
    try:
        folder = folder or tempfile.mkdtemp(prefix="judgeq-")
    except OSError:
        raise InputError(
            "There is no temporary folder that can be written: name one with the variable TMPDIR"
        ) from None
    os.environ["GRADIO_TEMP_DIR"] = os.path.realpath(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda number, _: leave(128 + number))


def leave(code: int) -> NoReturn:
    """End this process at once, with nothing left on the disk: servers and libraries take long to be torn down."""
    sys.stdout.flush()
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    os._exit(code)


def listening_at(host: str, port: int) -> tuple[str, int]:
    """An address and a port to listen on.

    Args:
        host: a name or a number of this machine, IPv6 with or without brackets.
        port: 0 = any free one.

    Returns:
        The address as in a URL, and the port.

    Raises:
        InputError: no address of this machine, or a port that cannot be had.
    """
    bare = host.strip().removeprefix("[").removesuffix("]")
    try:
        found = [
            (family, place)
            for family, *_, place in socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)
            if not any(place[3:])  # a browser cannot open an address with a scope
        ]
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise InputError(
            f"{host[:60]!r} is not an address that a server can use: give 127.0.0.1 for this machine only, or 0.0.0.0 "
            "for all of its addresses"
        )
    failure: OSError | None = None
    for _ in range(1 if port else TRIES):
        try:
            port = _bound(found, port)
            break
        except OSError as error:
            failure = error
    else:
        raise InputError(_refusal(failure, host, port))
    (family, (number, *_)), *others = found
    if others:
        return bare, port
    return (f"[{number}]" if family == socket.AF_INET6 else str(number)), port


def _bound(found: Sequence[tuple[int, Any]], port: int) -> int:
    """The port that all places can be bound to, at least for now.

    Raises:
        OSError: one of them cannot.
    """
    with ExitStack() as stack:
        # Gradio looks whether the port is free there, wherever it is going to listen
        for family, (number, _, *more) in [*found, (socket.AF_INET, ("127.0.0.1", 0))]:
            place = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if os.name == "posix":  # as servers do, so that a port that has just been left can be had
                place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            place.bind((number, port, *more))
            port = place.getsockname()[1]
    return port


def _refusal(error: OSError | None, host: str, port: int) -> str:
    if error is not None and error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{host[:60]} is not an address of this machine: give 127.0.0.1 for this machine only, or 0.0.0.0 for all "
            "of its addresses"
        )
    if isinstance(error, PermissionError):
        return f"Port {port} may not be used by this user: choose one above 1023 with --port"
    if error is not None and error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken: choose another one with --port, or 0 for any free one"
    return f"Nothing can listen at {host[:60]}, port {port} ({error}): choose another address with --host"


def past_proxies(host: str) -> None:
    """Let requests of this process to its own page go there directly, regardless of the proxies in the variables.

    Raises:
        InputError: a proxy of a kind that cannot be used.
    """
    for name, value in os.environ.items():
        if name.lower() in PROXIES and value.strip():
            try:
                httpx.Client(proxy=value if "://" in value else f"http://{value}", trust_env=False).close()
            except (ValueError, httpx.InvalidURL):
                shown = re.sub(r"//[^/]*@", "//…@", value)[:100]  # without a password
                raise InputError(
                    f"{name} is {shown!r}, which is not a usable proxy: give one such as "
                    "http://proxy.example.org:3128, or unset it"
                ) from None
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    past = [each.strip().strip("[]") for each in (*given.split(","), *LOCAL, host) if each.strip()]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(past))
    try:
        httpx.Client().close()
    except (ValueError, httpx.InvalidURL):
        raise InputError(
            f"NO_PROXY is {given[:100]!r}, which cannot be read: give names separated by commas, such as "
            "localhost,example.org"
        ) from None
