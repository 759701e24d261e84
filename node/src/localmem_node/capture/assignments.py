"""Values that a name gives away: `password = "…"`, `"apiKey": "…"`, `DB_PASSWORD=…`, `--token …`.

What the name says decides how sure the value has to look: a password may be anything that is not
plainly a word or code, a token or key must look drawn. Linear: a match is of bounded length, and the
search goes on behind the name, so that a name inside a value is seen as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from localmem_node.capture.randomness import (
    has_digit,
    has_letter,
    has_symbol,
    has_words,
    is_gibberish,
    is_placeholder,
    is_text_in_base64,
    is_wordy,
    looks_chosen,
    looks_random,
)

_WORD: Final = re.compile(
    r"pass(?:word|wd|phrase|code|wort)?|pwd|contrase[nñ]a|secret|token|key|credential"
    r"|sess(?:ion)?[_-]?id|_auth|bearer"
)
"""What names of secrets contain, in lower case."""

_QUALIFIER: Final = re.compile(
    r"(?:api|access|private|priv|auth|account|encryption|signing|service|client|db|database|master|shared"
    r"|webhook|session|hmac|jwt|consumer|license)[_-]?$"
)
"""What makes a key one that opens something, in lower case."""

_QUALIFIER_CHARACTERS: Final = 16
_PUBLIC_NAMES: Final = ("public", "public_", "public-", "publickey", "public_key_", "public-key-")

_ASSIGNED: Final = re.compile(
    r"""([A-Za-z0-9_-]{0,48})\\{0,3}["'`]?\]?
        (?:\[[0-9]{0,6}\]|[ \t]{0,4}:[ \t]{0,4}[A-Za-z_][\w.\[\]<>|,]{0,40}(?=[ \t]{0,4}=))?
        [ \t]{0,8}(:=|=>|[=!]={0,2}|:|(?<=["'`]),|\()[ \t]{0,8}
        (?:[@bruf]{0,2}\\{0,3}["'`]([^"'`\s\\]{4,512})(["'`\\])?
        |((?:[^\s"'`,;(){}\[\]<>&|\\=]{0,128}=){0,2}[^\s"'`,;(){}\[\]<>&|\\=]{1,512}={0,2})([(\[{]?))""",
    re.VERBOSE,
)
"""Groups: the rest of the name, the sign between, a quoted value, what closes it, a bare value, a
bracket that makes it code."""

_FLAG: Final = re.compile(
    r"""(?<![\w-])--?(?:[a-z0-9]{1,24}-){0,4}(pass(?:word|wd|phrase)?|pwd|secret|token|(?:api|access|auth|secret)-?key)
        [ ]["']?([^\s"'`<>(){}\[\],;|&]{4,512})""",
    re.IGNORECASE | re.VERBOSE,
)
"""Groups: the word, and the value behind the option."""

_PAIRED: Final = re.compile(
    r"""["']?\b(?:name|key)["']?[ \t]{0,8}[:=][ \t]{0,8}["']?([A-Za-z0-9_.-]{0,48}?(?:password|passwd|secret|token|api_?key
        |access_?key|credential)[A-Za-z0-9_.-]{0,48})["']?[\s,]{1,48}["']?value["']?[ \t]{0,8}[:=][ \t]{0,8}
        (?:"([^"\s]{4,512})"|'([^'\s]{4,512})'|([^\s"',}{\[\]]{4,512}))""",
    re.IGNORECASE | re.VERBOSE,
)
"""Groups: the name, and the value: `name: DB_PASSWORD, value: …` as Kubernetes and XML write it."""

_ELEMENT: Final = re.compile(
    r"<((?:[a-z0-9_.-]{1,32}:)?[a-z0-9_.-]{0,32}?(?:password|passwd|secret|token|api-?_?key)[a-z0-9_.-]{0,32})"
    r">([^<>\s]{4,512})</",
    re.IGNORECASE,
)
"""Groups: the name of an XML element, and what is in it."""

_COOKIE: Final = re.compile(
    r"\b(?:set-)?cookie[\"']?\]?[ \t]{0,8}[:=,][ \t]{0,8}[\"'`]?(?=[^\s=;\"'`]{1,64}=)",
    re.IGNORECASE,
)
_COOKIE_PAIR: Final = re.compile(r"[ \t]{0,8}([^\s=;,\"'`]{1,64})=([^\s;,\"'`]{0,4096}+)(;?)")
_COOKIE_ATTRIBUTES: Final = frozenset(
    {"path", "domain", "expires", "max-age", "samesite", "priority"}
)

_REST_OF_VALUE: Final = re.compile(r"[^\s\"'`,;(){}\[\]<>&|\\]*+")
_ABOUT: Final = re.compile(
    r"(?:^|[_-]|(?<=[a-z]))(?:izer|ized?|ization|count|counts|limit|length|len|size|type|types|name"
    r"|field|label|hint|policy|url|uri|path|file|dir|endpoint|ttl|expir\w*+|index|idx|id|ids|prompt"
    r"|regex|pattern|kind|class|manager|provider|store|ring|header|column|usage|budget|min|max"
    r"|version|format|prefix|suffix|strategy|method|list|map|set|input|page|reset|hash(?:er|ing)"
    r"|arn|ref|alias)\b",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_]*+(?:(?:\.|->|::)[A-Za-z_][A-Za-z0-9_]*+)++")
_BASE64: Final = re.compile(r"(?=.{8})(?:[A-Za-z0-9+/]{4}){1,128}[A-Za-z0-9+/]{2,3}={1,2}")
_LABEL: Final = re.compile(
    r"pass|pwd|secret|token|user|admin|test|field|input|text|string|required|invalid|current|new|old"
    r"|confirm|forgot|enter|key|auth|login|value|type|mask|hidden|plain|basic|foo|bar|baz",
    re.IGNORECASE,
)

KEY_MIN: Final = 20
"""Characters of a value called key and no more: shorter ones are keys of tables."""

Found = tuple[int, int, str]
"""Start and stop of a value, and its kind."""


def assigned_secrets(text: str) -> Iterator[Found]:
    """Values assigned to names, in order, none overlapping another."""
    lowered = _lowered(text)
    at = 0
    while word := _WORD.search(lowered, at):
        at = word.end()
        match = _ASSIGNED.match(text, at)
        kind = _kind_of_name(text, lowered, word) if match else None
        if match and kind and _is_secret(text[word.start() : at], kind, match):
            group = 3 if match[3] is not None else 5
            start, at = match.span(group)
            if match[4] is None:
                at = _REST_OF_VALUE.match(text, at).end()  # type: ignore[union-attr]
            yield start, at, "password" if kind == "password" else "secret"


def option_secrets(text: str) -> Iterator[Found]:
    """Values behind options of a command line."""
    for match in _FLAG.finditer(text):
        value = match[2]
        if is_placeholder(value):
            continue
        if looks_random(value) if _kind(match[1]) == "secret" else _is_password_in_words(value):
            yield match.start(2), match.end(2), _kind(match[1])


def paired_secrets(text: str) -> Iterator[Found]:
    """Values whose name stands beside them in a field of its own, and in XML elements."""
    matches = [*_PAIRED.finditer(text), *_ELEMENT.finditer(text)]
    for match in sorted(matches, key=re.Match.start):
        group = match.lastindex or 2
        name, value = match[1], match[group]
        if is_placeholder(value) or _ABOUT.search(name[-12:]):
            continue
        if looks_chosen(value) if "pass" in name.lower() else looks_random(value):
            yield match.start(group), match.end(group), _kind(name)


def cookie_secrets(text: str) -> Iterator[Found]:
    """Values of cookies, in headers as they are sent and as they are set."""
    at = 0
    while header := _COOKIE.search(text, at):
        at = header.end()
        more = True
        while more and (pair := _COOKIE_PAIR.match(text, at)):
            at, more = pair.end(), bool(pair[3])
            if pair[1].lower() in _COOKIE_ATTRIBUTES or is_placeholder(pair[2]):
                continue
            if looks_random(pair[2]):
                yield pair.start(2), pair.end(2), "cookie"


def _lowered(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text):  # one character of Unicode has a lower case of two
        lowered = "".join(one.lower() if one.isascii() else one for one in text)
    return lowered


def _kind(name: str) -> str:
    return "password" if re.search("pass|pwd|contrase", name, re.IGNORECASE) else "secret"


def _kind_of_name(text: str, lowered: str, word: re.Match[str]) -> str | None:
    """`password`, `secret`, `key` (of whatever kind), or None where the word means something else."""
    start, stop = word.span()
    if lowered.endswith(_PUBLIC_NAMES, 0, start):
        return None
    if word[0] not in ("pass", "key", "_auth"):
        return _kind(word[0])
    if text[stop : stop + 1].isalpha():
        return None
    if word[0] == "key" and _QUALIFIER.search(
        lowered, max(0, start - _QUALIFIER_CHARACTERS), start
    ):
        return "secret"
    before, first = text[start - 1 : start], text[start]
    if before.isalpha() and not (first.isupper() and before.islower()) and word[0] != "_auth":
        return None  # bypass, compass, monkey
    return {"pass": "password", "key": "key", "_auth": "secret"}[word[0]]


def _is_secret(word: str, kind: str, match: re.Match[str]) -> bool:
    """Whether what `_ASSIGNED` found is a secret being set, and not code that handles one."""
    rest, sign = match[1], match[2]
    quoted, value = match[3] is not None, match[3] or match[5]
    if len(value) < 4 or match[6] or _ABOUT.search(rest) or is_placeholder(value):
        return False
    if sign in ("(", ","):
        return quoted and word.lower() != "pass" and looks_random(value)
    if not quoted and _REFERENCE.fullmatch(value):
        return False
    around = match.string[match.start(2) - 1] + match.string[match.end(2)]
    is_line = not quoted and sign == "=" and " " not in around and (word + rest).isupper()
    if kind == "password":
        return _is_password(value, quoted=quoted, is_line=is_line)
    if not quoted and not is_line and _is_identifier(value):
        return False
    if kind == "key":
        return len(value) >= KEY_MIN and looks_random(value) and not is_text_in_base64(value)
    return looks_random(value) or (is_line and len(value) >= 8 and looks_chosen(value))


def _is_identifier(value: str) -> bool:
    """Whether it is a name in a program: words, and few digits."""
    digits = sum(map(str.isdigit, value))
    return value.isidentifier() and 8 * digits < len(value) and has_words(value)


def _is_password(value: str, *, quoted: bool, is_line: bool) -> bool:
    if not has_letter(value):
        return is_line and len(value) >= 6
    if quoted or is_line:
        # An upper-case name with a bare value is a line of an environment file.
        return looks_chosen(value) or (len(value) >= 6 and not _LABEL.search(value))
    return _is_password_in_words(value)


def _is_password_in_words(value: str) -> bool:
    """Whether a bare word could not be one of a sentence or of a program."""
    if not has_letter(value) or _REFERENCE.fullmatch(value):
        return False
    if _BASE64.fullmatch(value):
        return True
    if not (has_digit(value) or has_symbol(value)):
        return is_gibberish(value)
    return not is_wordy(value) or (len(value) >= 8 and has_symbol(value))
