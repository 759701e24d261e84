"""How what a device shares travels to a pool: with which padding, and whether by reference.

Kept with the pool (`pool_files.PoolRecord`). It says what this device sends; every device reads all forms.
"""

from __future__ import annotations

from typing import Any

import msgspec

from localmem_protocol.padding import Padding


class Sending(msgspec.Struct, frozen=True, omit_defaults=True):
    """`references`: text that is in a commit stays at home, and only its place and hash travel."""

    references: bool = False
    padding: Padding = Padding.NONE


PLAIN = Sending()


def sending_json(sending: Sending) -> dict[str, Any]:
    """As it is shown: {"references": bool, "padding": "none", "padme" or "powers"}."""
    return {"references": sending.references, "padding": sending.padding.value}
