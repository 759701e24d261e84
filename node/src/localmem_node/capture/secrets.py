"""Formats of secrets, and what only looks like one.

Every pattern is linear: it starts with a literal prefix that cannot begin inside its own match (or
is bounded), and what is unbounded is possessive, so nothing is tried twice. Formats are those that
the issuers document, and those that detect-secrets and the GitHub secret scanner look for.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

_START: Final = r"(?<![A-Za-z0-9_-])"


@dataclass(frozen=True, slots=True)
class Format:
    """A secret that its own shape gives away. Group 1, if there is one, is all that is secret.

    Text without any of the `hints` (lower case) cannot match, and finding that out is cheap.
    `random`: the match must also look random, since the shape alone is not proof.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    random: bool = False


def _token(kind: str, hints: str, pattern: str, *, random: bool = False) -> Format:
    return Format(kind, tuple(hints.split()), re.compile(_START + pattern), random)


def _field(kind: str, hints: str, pattern: str, *, random: bool = False) -> Format:
    return Format(kind, tuple(hints.split()), re.compile(pattern, re.IGNORECASE), random)


FORMATS: Final = (
    _field("url-password", "://", r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,31}://[^\s/:@\"'<>\[]{0,256}:([^\s/\"'<>]{1,256})@(?=[\w\[])"),
    _field("url-token", "://", r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,31}://([a-z0-9_-]{20,256})@(?=\w)", random=True),
    _field("slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows)/([a-z0-9_/]{20,}+)"),
    _field("authorization", "authorization", r"\bauthorization[\"']?\]?[ \t]{0,8}[:=,][ \t]{0,8}[\"'`]?(?:bearer|basic|token|digest)[ \t]{1,8}([a-z0-9._~+/=-]{8,}+)"),
    _token("jwt", "eyj", r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_.-]*+"),
    _field("bearer", "bearer", r"\bbearer[ \t]{1,8}([a-z0-9._~+/=-]{20,}+)", random=True),
    _token("aws-key", "akia asia abia acca aroa aida", r"(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}+"),
    _token("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}+"),
    _token("gitlab-token", "gl", r"gl(?:pat|ptt|oas|rt|cbt|dt|ft|soat|agent|imt|ffct)-[A-Za-z0-9_.-]{20,}+"),
    _token("slack-token", "xox", r"xox[abceoprs]-[A-Za-z0-9-]{10,}+"),
    _token("slack-token", "xapp-", r"xapp-[0-9]-[A-Za-z0-9-]{10,}+"),
    _token("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,}+"),
    _token("api-key", "sk-", r"sk-(?:proj|svcacct|admin|or-v1|lf)-[A-Za-z0-9_-]{20,}+", random=True),
    _token("api-key", "sk-", r"sk-[A-Za-z0-9]{20,}+(?![_-])", random=True),
    _token("stripe-key", "k_live_ k_test_", r"[spr]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _token("stripe-key", "whsec_", r"whsec_[A-Za-z0-9+/=]{32,}+"),
    _token("google-key", "aiza", r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _token("google-token", "ya29.", r"ya29\.[A-Za-z0-9_-]{20,}+"),
    _token("google-secret", "gocspx-", r"GOCSPX-[A-Za-z0-9_-]{24,}+"),
    _token("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _token("pypi-token", "pypi-age", r"pypi-AgE[A-Za-z0-9_-]{50,}+"),
    _token("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{30,}+", random=True),
    _token("sendgrid-key", "sg.", r"SG\.[A-Za-z0-9_-]{16,}+\.[A-Za-z0-9_-]{16,}+"),
    _token("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[a-f0-9]{64}(?![a-f0-9])"),
    _token("docker-token", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{20,}+"),
    _token("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{24,}+"),
    _token("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}(?![A-Za-z0-9])"),
    _token("atlassian-token", "atatt3", r"ATATT3[A-Za-z0-9_=-]{60,}+"),
    _token("linear-key", "lin_", r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}+"),
    _token("telegram-token", ":aa", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9_-])"),
    _token("age-key", "age-secret-key-", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _field("azure-key", "accountkey= sharedaccesskey=", r"\b(?:AccountKey|SharedAccessKey)=([a-z0-9+/]{40,}+={0,2})"),
    _field("azure-key", "sig=", r"[?&]sig=([a-z0-9%+/]{40,}+(?:=|%3d){0,2})"),
)  # fmt: skip

PEM_BEGIN: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
PEM_END: Final = re.compile(r"-----END (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
PEM_CUT_OFF: Final = re.compile(
    r"(?:[\s\"'`,]|\\[rn])*+(?:[A-Za-z0-9+/=]{16,}+(?:[ \t\"'`,+]|\\[rn]|\r?\n(?=[A-Za-z0-9+/=]{16}))*+)*+"
)
PEM_DATA: Final = re.compile(r"[A-Za-z0-9+/]{32}")

ASSIGNMENT_HINTS: Final = ("pass", "pwd", "secret", "token", "key", "credential")
ASSIGNMENT: Final = re.compile(
    r"""(pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key
        |auth[_-]?key|account[_-]?key|encryption[_-]?key|signing[_-]?key|credential)
        ([A-Za-z0-9_-]{0,48})["'`]?\]?[ \t]{0,8}(?::=|=>|==|=|:)[ \t]{0,8}
        (?:["'`]([^"'`\s]{6,512})["'`]|([^\s"'`,;(){}\[\]<>]{6,512})(?![\w(\[{]))""",
    re.IGNORECASE | re.VERBOSE,
)
"""Groups: the word that names a secret, the rest of the name, a quoted value, a bare value."""

_ABOUT: Final = re.compile(
    r"(?:^|[_-]|(?<=[a-z]))(?:izer|ized?|ization|count|counts|limit|length|len|size|type|types|name"
    r"|field|label|hint|policy|url|uri|path|file|dir|endpoint|ttl|expir\w*|index|idx|id|ids|prompt"
    r"|regex|pattern|kind|class|manager|provider|store|ring|header|column|usage|budget|min|max"
    r"|version|format|prefix|suffix|strategy|method|list|map|set|input|page|reset|hash(?:er|ing))\b",
    re.IGNORECASE,
)
_PLACEHOLDER: Final = re.compile(
    r"\$|%[({sd]|\{|<|\*{3}|\.{3}|x{4}|redacted|example|placeholder|changeme|change[_-]me|dummy|todo"
    r"|your[_-]|my[_-]|none\b|null\b|true\b|false\b|undefined|process\.env|os\.environ|env\.|secrets\.",
    re.IGNORECASE,
)
_CHANGE: Final = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_REFERENCE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:(?:\.|->|::)[A-Za-z_][A-Za-z0-9_]*)+")


def is_placeholder(value: str) -> bool:
    """Whether a value stands for one that is filled in later."""
    return _PLACEHOLDER.search(value) is not None or len(set(value)) <= 2


def looks_random(value: str) -> bool:
    """Whether text is likelier drawn than written: digits among letters, and few words."""
    body = re.sub(r"[^A-Za-z0-9]", "", value)
    if len(body) < 12 or not _has_digit(body) or not _has_letter(body):
        return False
    return _entropy(body) >= 2.8 and not _is_wordy(value)


def is_secret_assignment(match: re.Match[str]) -> bool:
    """Whether what `ASSIGNMENT` found is a secret being set, and not code that handles one."""
    word, rest, quoted, bare = match[1].lower(), match[2], match[3], match[4]
    value = quoted or bare
    if _ABOUT.search(rest) or is_placeholder(value) or not _has_letter(value):
        return False
    if bare and (_REFERENCE.fullmatch(bare) or not _has_digit(bare)):
        return False
    if word.startswith(("pass", "pwd")):
        # An upper-case name with a bare value is a line of an environment file.
        if quoted or match[1].isupper():
            return _has_digit(value) or _has_symbol(value)
        return not _is_wordy(value) or (len(value) >= 8 and _has_symbol(value))
    return looks_random(value)


def _is_wordy(value: str) -> bool:
    """Whether it is words and numbers strung together, as identifiers and file names are.

    Drawn text changes between capitals, small letters and digits at every second or third
    character (hex 0.47, base36 0.40, base62 0.45 per character); written text at every sixth.
    """
    return len(_CHANGE.findall(value)) < 0.2 * len(value)


def _has_digit(value: str) -> bool:
    return any(character.isdigit() for character in value)


def _has_letter(value: str) -> bool:
    return any(character.isalpha() for character in value)


def _has_symbol(value: str) -> bool:
    return any(character in "!@#$%^&*?~+|" for character in value)


def _entropy(value: str) -> float:
    """Shannon entropy in bits per character."""
    counts = Counter(value[:512]).values()
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts)
