"""Invitations `lmi_<code>`, each of which lets some pools be made: 16 random bytes in hex.

Only SHA-256 of a code is kept; that it is looked up by its hash gives nothing of it away.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from localmem_hub.errors import AdmissionError, ConfigError
from localmem_hub.tokens import DAYS_MAX
from localmem_protocol.seams import Random

CODE_BYTES: Final = 16
USES_MAX: Final = 10_000
NAME_DIGITS: Final = 12
_NAME: Final = re.compile(rf"[0-9a-f]{{{NAME_DIGITS}}}", re.ASCII)
_CODE: Final = re.compile(r"lmi_[0-9a-f]{32}", re.ASCII)


def new_code(uses: int, days: int, random: Random) -> str:
    """The code of a new invitation for so many pools. Raises ConfigError."""
    if not 1 <= uses <= USES_MAX:
        raise ConfigError(f"uses: must be from 1 to {USES_MAX}")
    if not 1 <= days <= DAYS_MAX:
        raise ConfigError(f"days: must be from 1 to {DAYS_MAX}")
    return f"lmi_{random.token_bytes(CODE_BYTES).hex()}"


def is_code(text: str) -> bool:
    """Whether this can be a code."""
    return _CODE.fullmatch(text) is not None


def hash_of(code: str) -> str:
    """What is kept of a code."""
    return hashlib.sha256(code.encode()).hexdigest()


def name_of(code: str) -> str:
    """By what an invitation is named in a log: it lets nobody in. A name stays as it is."""
    return hash_of(code)[:NAME_DIGITS] if is_code(code) else code


def is_name(text: str) -> bool:
    """Whether this can be a name."""
    return _NAME.fullmatch(text) is not None


def unknown() -> AdmissionError:
    """What is said of a code that makes no pool."""
    return AdmissionError("this invitation (lmi_…) is not known here, used up, or expired")
