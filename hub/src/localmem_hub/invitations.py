"""Invitations as they are kept and named: `lmi_<code>`, of which only SHA-256 is stored."""

from __future__ import annotations

import hashlib


def code_hash(code: str) -> str:
    """What is kept of a code; that it is looked up by its hash gives nothing of it away."""
    return hashlib.sha256(code.encode()).hexdigest()


def name_of(code: str) -> str:
    """By what an invitation is named in a log: it lets nobody in."""
    return code_hash(code)[:12]
