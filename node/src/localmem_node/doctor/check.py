"""What a check says."""

from __future__ import annotations

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One finding. `advice` is empty when all is well."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
