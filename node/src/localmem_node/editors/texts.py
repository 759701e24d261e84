"""Text that editors hand over, in the form that events hold: bounded, printable, valid UTF-8.

Long text is cut before anything else is done with it, so that 50 MB of output cost no more than the
few thousand characters that are kept. A cut falls on a line break or a space where there is one near:
half of a secret is no longer found by the redaction that follows. For the same reason what is marked
as private goes before a cut, which could take its tag away.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final

from localmem_node.private_spans import without_private
from localmem_protocol.events import HASH_HEX_DIGITS
from localmem_protocol.limits import LABEL_BYTES_MAX, PATH_BYTES_MAX

OUTPUT_HEAD: Final = 600
OUTPUT_TAIL: Final = 1_400
"""Characters kept of a command's output: how it began, and, worth more, how it ended."""

COMMAND_MAX: Final = 4_000
"""Characters kept of a command line; longer ones carry a file in them."""

TEXT_MAX: Final = 16_000
"""Characters kept of a prompt, an answer or an edit; in UTF-8 they fit a snippet in any script."""

BLOCKS_MAX: Final = 4_096
"""Blocks of one message that are looked at."""

_NEAR: Final = 200
_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,1024}(?:\x07|\x1b\\)|[@-Z\\^_])"
)
_BREAKS: Final = re.compile(r"\r\n?")
_CONTROL: Final = dict.fromkeys((*range(32), *range(127, 160)))
_DROPPED: Final = {code: None for code in _CONTROL if chr(code) not in "\n\t"}
_DRIVE: Final = re.compile(r"^/?([A-Za-z]):(?=/|$)")


def shorten(text: str, head: int, tail: int) -> str:
    """`text` clean, with its first `head` and last `tail` characters if it is longer than both."""
    if len(text) > head + tail:
        text = without_private(text)
    if len(text) <= head + tail:
        return clean(text)
    first, last = _cut_after(text[:head]), _cut_before(text[len(text) - tail :])
    left_out = len(text) - len(first) - len(last)
    return f"{clean(first).rstrip()}\n[… {left_out} characters left out …]\n{clean(last).lstrip()}"


def bounded(text: str, size: int = TEXT_MAX) -> str:
    """`text` clean, at most about `size` characters: two thirds from its beginning."""
    head = size * 2 // 3
    return shorten(text, head, size - head)


def output_of(text: str) -> str:
    """What is kept of the output of a command, or of the text of an error."""
    return shorten(text, OUTPUT_HEAD, OUTPUT_TAIL).strip("\n")


def clean(text: str) -> str:
    """Without terminal escapes and control characters, line ends as line feeds, half surrogates
    replaced.
    """
    text = _BREAKS.sub("\n", _ESCAPES.sub("", text)).translate(_DROPPED)
    return _utf8(text)


def digest_of(*parts: str) -> str:
    """16 hex digits that texts share only if they are the same, but for space around each."""
    hasher = hashlib.blake2b(digest_size=HASH_HEX_DIGITS // 2)
    for number, part in enumerate(parts):
        hasher.update(b"\0" if number else b"")
        hasher.update(part.strip().encode(errors="replace"))
    return hasher.hexdigest()


def label_of(value: object) -> str | None:
    """A value as a label (session, agent): None unless it is text with something in it."""
    if not isinstance(value, str):
        return None
    text = _utf8(value[: 4 * LABEL_BYTES_MAX].translate(_CONTROL)).strip()
    return text.encode()[:LABEL_BYTES_MAX].decode(errors="ignore") or None


def path_of(value: object, folder: str | None = None) -> str | None:
    """A path with `/` between its parts, made absolute by `folder`; None for what is no path.

    `C:\\a`, `/c:/a` and `file:///a` are understood; parts such as `..` are resolved by their text.
    """
    if not isinstance(value, str) or len(value) > PATH_BYTES_MAX:
        return None
    text = value.removeprefix("file://").replace("\\", "/").strip()
    if not text or text != _utf8(text) or any(ord(one) in _CONTROL for one in text):
        return None
    if not is_absolute(text) and folder:
        text = f"{folder.rstrip('/')}/{text}"
    text = posixpath.normpath(_DRIVE.sub(lambda drive: f"{drive[1].upper()}:", text, count=1))
    return text if len(text.encode()) <= PATH_BYTES_MAX and text != "." else None


def is_absolute(path: str) -> bool:
    """Whether a path begins at a root, of POSIX or of a Windows drive."""
    return path.startswith("/") or bool(_DRIVE.match(path))


def text_in(fields: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is text and not blank, or ""."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def fields_in(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field that is an object, or an empty one."""
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def whole_in(fields: Mapping[str, Any], name: str) -> int | None:
    """A field that is a whole number, or None."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def message_text(value: object) -> str:
    """The text of a message: a string, or what its blocks of text say, a line break between."""
    while isinstance(value, Mapping):  # as deep as JSON may be
        value = text_in(value, "text") or value.get("content")
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    texts = [
        text_in(block, "text")
        for block in value[:BLOCKS_MAX]
        if isinstance(block, Mapping) and "text" in str(block.get("type", "text")).lower()
    ]
    return "\n".join(text for text in texts if text)


def _cut_after(text: str) -> str:
    near = len(text) - _NEAR
    cut = text.rfind("\n", max(near, 0))
    if cut < 0:
        cut = text.rfind(" ", max(near, 0))
    return text[:cut] if cut > 0 else text


def _cut_before(text: str) -> str:
    cut = text.find("\n", 0, _NEAR)
    if cut < 0:
        cut = text.find(" ", 0, _NEAR)
    return text[cut + 1 :]


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
