"""High entropy: runs of letters and digits that nobody wrote, with no name or format to say so.

Most such runs are no secrets: hashes, ids, encoded data. So what they are called, what stands before
them and how they are written decides. Linear: a run is looked at once, and no longer than it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from localmem_node.capture.randomness import (
    common_pairs,
    entropy,
    has_digit,
    is_placeholder,
    is_text_in_base64,
    looks_random,
)

QUOTED_MIN: Final = 20
"""Characters of a quoted run: 100 bits or so, the shortest key that is in use."""

BARE_MIN: Final = 24
"""Characters of a run without quotes: shorter ones are ids as a rule."""

HEX_MIN: Final = 32
"""Hex digits of a run: 128 bits."""

RUN_MAX: Final = 256
"""Characters of a run; what is longer is data (an image, a font, an archive) and no key."""

_RUN: Final = re.compile(r"(?<![A-Za-z0-9+/_.%-])[A-Za-z0-9+/_-]{20,}+={0,2}(?![A-Za-z0-9_.%(-])")
_HEX: Final = re.compile(r"(?:0[xX])?(?:[0-9a-f]++|[0-9A-F]++)")
_ID: Final = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9A-HJKMNP-TV-Z]{26}"
    r"|(?:toolu|msg|req|call|chatcmpl|resp|rs|run|thread|asst|file|cus|evt|ch|pi|sub|in|price|prod|acct"
    r"|txn|cs|seti|item|ses|session|conv|id|uuid|arn|projects?|org|user|srvtoolu)[_-].*+",
)
"""UUIDs, ULIDs, and ids whose prefix says what of: they name something and open nothing."""

_PUBLIC: Final = re.compile(
    r"AAAA[BCE][23]N|MI[IGM][A-Za-z0-9+/]{2}(?:jAN|TAN)|iVBOR|/9j/|R0lGOD|UEsDB|H4sI|d09G"
    r"|1f8b08|789c|feff|504b0304|89504e47|ffd8ff|25504446|cafebabe|7f454c46"
)
"""How public keys, certificates, images and archives begin, in base64 and in hex."""

_SHOWN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{1,48}-----[^-]*+")
"""Certificates, public keys, signatures; private keys are gone before runs are looked at."""

_CHECKSUMS: Final = re.compile(
    r"\bsha|sha[0-9]|md[245]\b|hash(?!\])|digest|checksum|\bcrc|blake|commit|integrity",
    re.IGNORECASE,
)
"""Words before a run that say that it is a checksum; of hex, on the line above as well. Our own
`[redacted:password-hash]` is no such word."""

_NAMED: Final = re.compile(
    r"etag|fingerprint|revision|\brev\b|uuid|guid|signature|\boid\b|salt|nonce|public|\bpub|\bcert|ssh-"
    r"|base64,|h1:|\bid\b|_id\b|(?-i:[a-z]Id\b)",
    re.IGNORECASE,
)
"""Words on the line of a run that say what it is, and that it is no secret."""

BEFORE_MAX: Final = 96
"""Characters before a run that are searched for such words."""


def random_runs(text: str) -> Iterator[tuple[int, int]]:
    """Where runs of high entropy are: (start, stop), in order, none overlapping another."""
    shown = [match.span() for match in _SHOWN.finditer(text)] if "-----BEGIN" in text else []
    for match in _RUN.finditer(text):
        run = match[0]
        while shown and shown[0][1] <= match.start():
            shown.pop(0)
        if len(run) > RUN_MAX or (shown and shown[0][0] < match.start()):
            continue
        before = text[max(0, match.start() - BEFORE_MAX) : match.start()]
        if _is_secret(run, before, text[match.end() : match.end() + 1]):
            yield match.span()


def _is_secret(run: str, before: str, after: str) -> bool:
    quoted = before[-1:] in ("'", '"', "`") and after == before[-1:]
    if len(run) < QUOTED_MIN if quoted else len(run) < BARE_MIN:
        return False
    body = run.rstrip("=")
    is_hex = _HEX.fullmatch(body) is not None
    if not (is_hex or _is_mixed(body)) or _ID.fullmatch(run) or _PUBLIC.match(run):
        return False
    above, _, line = before.rpartition("\n")
    if not looks_random(run) or is_placeholder(run):
        return False
    if _NAMED.search(line) or _CHECKSUMS.search(line):
        return False
    if is_hex:
        assigned = quoted or before[-1:] == "="
        return len(run) >= HEX_MIN and assigned and not _CHECKSUMS.search(_last_line(above))
    written = sum(len(part) for part in re.split("[/_+-]", body) if _is_written(part))
    return written <= 0.4 * len(body) and entropy(body) >= 3.5 and not is_text_in_base64(body)


def _last_line(text: str) -> str:
    return text[text.rfind("\n") + 1 :]


def _is_mixed(body: str) -> bool:
    """Whether capitals, small letters and digits are all there, as in base64 of any length."""
    return has_digit(body) and body.lower() != body and body.upper() != body


def _is_written(part: str) -> bool:
    """Whether a piece between separators is a word or a number, as in paths and identifiers."""
    if len(part) < 5:
        return False
    if part.isdigit():
        return True
    letters = sum(map(str.isalpha, part))
    return letters >= 5 and common_pairs(part) > (0.55 if letters >= 10 else 0.65)
