"""Where the editors' HTTP hooks reach the daemon: a port and a token that outlive it.

An editor's settings name both for months, so they are kept beside config.toml (`hooks.json`, 0600)
and not in `daemon.json`, which is new with every start. The token opens `/v1/hook/…` and nothing else.

The command client of the hooks, which reads no JSON, finds socket and token in the file `hook` of the
runtime folder: two lines, there for as long as the daemon is.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, read_private, write_private
from localmem_protocol.seams import Random

TOKEN_BYTES: Final = 32

PORTS: Final = range(17_000, 32_000)
"""Below what systems give to outgoing connections, so that none sits there when the daemon starts."""

ATTEMPTS: Final = 64


class HookEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A loopback port, and the token for it: 64 hex digits, a secret and in no repr."""

    port: int
    token: str

    def __repr__(self) -> str:
        return f"HookEndpoint(port={self.port})"


def endpoint_path(settings: Settings) -> Path:
    """Where the endpoint is kept."""
    return settings.config_dir / "hooks.json"


def hook_path(settings: Settings) -> Path:
    """What the command client reads."""
    return settings.runtime_dir / "hook"


def hung_path(settings: Settings) -> Path:
    """What the command client leaves when the daemon did not answer it, and does not ask again for."""
    return settings.runtime_dir / "hook.hung"


def read_endpoint(settings: Settings) -> HookEndpoint | None:
    """The endpoint that the editors were told; None if there is none.

    Raises ConfigError if the file is open to others, or holds something else.
    """
    path = endpoint_path(settings)
    if not path.exists():
        return None
    data = read_private(path, "hooks.json")
    try:
        endpoint = msgspec.json.decode(data, type=HookEndpoint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not understood ({error}); remove it") from None
    if not 1 <= endpoint.port <= 65535 or not _is_token(endpoint.token):
        raise ConfigError(f"{path}: has no port and token; remove it")
    return endpoint


def make_endpoint(settings: Settings, random: Random) -> HookEndpoint:
    """The endpoint that there is, or a new one on a port that is free now.

    A port that is set (`daemon.port`) is the endpoint's, too. Raises ConfigError, OSError.
    """
    found = read_endpoint(settings)
    if found is not None and settings.port in (0, found.port):
        return found
    token = found.token if found is not None else random.token_bytes(TOKEN_BYTES).hex()
    endpoint = HookEndpoint(settings.port or _free_port(random), token)
    private_directory(settings.config_dir)
    write_private(endpoint_path(settings), msgspec.json.encode(endpoint))
    return endpoint


def is_held(port: int) -> bool:
    """Whether some program listens on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def write_hook(settings: Settings, socket_path: Path, token: str) -> None:
    """Tell the command client where the daemon is."""
    text = f"{socket_path}\n{token}\n"
    write_private(hook_path(settings), text.encode(errors="surrogateescape"), durable=False)


def remove_hook(settings: Settings) -> None:
    """The daemon is no longer there."""
    with contextlib.suppress(OSError):
        hook_path(settings).unlink()


def _free_port(random: Random) -> int:
    for _ in range(ATTEMPTS):
        drawn = int.from_bytes(random.token_bytes(4), "big")
        port = PORTS[drawn % len(PORTS)]
        if not is_held(port):
            return port
    raise ConfigError("no free port was found for the editors' hooks; set daemon.port")


def _is_token(token: str) -> bool:
    return len(token) == 2 * TOKEN_BYTES and set(token) <= set("0123456789abcdef")
