"""Secrets as people hand them over: in a variable, in a private file, as hex or base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from localmem_node.errors import ConfigError
from localmem_node.files import read_private

KEY_BYTES: Final = 32


def secret_text(environment: Mapping[str, str], variable: str, file_variable: str) -> str | None:
    """A secret from `variable`, or the first line of the file that `file_variable` names.

    Raises ConfigError when both are set, when it is empty, or when others may read the file.
    """
    text, name = environment.get(variable), environment.get(file_variable)
    if text is not None and name is not None:
        raise ConfigError(f"{variable} and {file_variable} are both set; unset one")
    if name is not None:
        data = read_private(Path(name).expanduser().absolute(), file_variable)
        try:
            text = data.decode().splitlines()[0] if data.strip() else ""
        except UnicodeDecodeError:
            raise ConfigError(f"{file_variable}: {name} is not UTF-8 text") from None
    if text is None:
        return None
    if not text:
        raise ConfigError(f"{variable if name is None else file_variable}: is empty")
    return text


def decode_key(text: str, where: str) -> bytes:
    """A 32-byte key from 64 hex digits or from base64. Raises ConfigError naming `where`."""
    compact = "".join(text.split())
    for decode in (bytes.fromhex, _base64):
        try:
            key = decode(compact)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise ConfigError(f"{where}: must be 32 bytes, as 64 hex digits or as base64")


def _base64(text: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    return base64.b64decode(padded.translate(str.maketrans("-_", "+/")), validate=True)
