"""Joining a pool: the hub's address into `config.toml`, token and key into private files beside it.

The settings file is the user's: a section is added at its end, and one that is there is never
rewritten.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from localmem_node.config import Settings
from localmem_node.errors import ConfigError
from localmem_node.files import private_directory, write_private
from localmem_node.secret_text import KEY_BYTES, decode_key
from localmem_node.sync.transport import sync_url
from localmem_protocol.seams import Random

TOKEN_FILE: Final = "hub.token"  # noqa: S105  a file's name
KEY_FILE: Final = "pool.key"


@dataclass(frozen=True)
class Joined:
    """What was set up. `key` is the text that other devices need, if it was made here."""

    config: Path
    key: str | None


def join(
    settings: Settings, *, url: str, pool: str, token: str, key: str | None, random: Random
) -> Joined:
    """Write the `[hub]` section; without a `key`, make one.

    Raises ConfigError for a wrong value, and when a hub is set up already.
    """
    sync_url(url, pool)
    if settings.hub is not None:
        raise ConfigError(
            f"a hub is set up already ({settings.hub.url}); for a new token add --replace, "
            f"for another hub edit [hub] in {settings.config_path}"
        )
    _check_token(token)
    secret = decode_key(key, "key") if key is not None else random.token_bytes(KEY_BYTES)
    text = base64.urlsafe_b64encode(secret).decode()
    folder = private_directory(settings.config_dir)
    write_private(folder / TOKEN_FILE, token.encode() + b"\n")
    write_private(folder / KEY_FILE, text.encode() + b"\n")
    _append(settings.config_path, _section(url, pool))
    return Joined(settings.config_path, text if key is None else None)


def replace_token(settings: Settings, token: str) -> Path:
    """Put a token in the place of the one that is used; the file that it is in.

    Raises ConfigError for a wrong one, when no hub is set up, and when it is in no file of its own.
    """
    if settings.hub is None:
        raise ConfigError("no hub is set up, so there is no token to replace; leave --replace out")
    if settings.hub.token_file is None:
        raise ConfigError(
            f"hub.token: is in no file of its own; change it in {settings.config_path}, or in "
            "LOCALMEM_HUB_TOKEN, wherever it is set"
        )
    _check_token(token)
    write_private(settings.hub.token_file, token.encode() + b"\n")
    return settings.hub.token_file


def _check_token(token: str) -> None:
    if not token or not token.isprintable() or " " in token:
        raise ConfigError("token: must be one word; make one with: localmem-hub token create")


def _section(url: str, pool: str) -> str:
    values = {"url": url, "pool": pool, "token_file": TOKEN_FILE, "key_file": KEY_FILE}
    # A JSON string of printable text is a TOML basic string.
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in values.items()]
    return "\n".join(["[hub]", *lines, ""])


def _append(path: Path, section: str) -> None:
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = b""
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    mode = path.stat().st_mode & 0o777 if before else 0o600
    write_private(path, before + gap + section.encode())
    os.chmod(path, mode)
