"""Redaction as a property: secrets go whatever stands around them, twice is as once, work is linear.

Linearity is shown twice without a clock: by the structure of the patterns, and by counting the
characters that are judged while hostile text grows.
"""

from __future__ import annotations

import re
import re._compiler as sre_compiler  # type: ignore[import-not-found]
import re._parser as sre  # type: ignore[import-not-found]
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.planted_secrets import planted
from localmem_node.capture import (
    assignments,
    entropy,
    formats,
    key_blocks,
    randomness,
    redaction,
)
from localmem_node.capture.redaction import redact

MODULES = (assignments, entropy, formats, key_blocks, randomness, redaction)
TEXTS = [one.text for one in planted("properties")]
PIECES = [
    "password", "=", ": ", '"', "'", "\\", "\n", " ", "://", "@", "?token=", "Bearer ", "-----BEGIN RSA PRIVATE KEY-----",
    "-----END RSA PRIVATE KEY-----", "<private>", "</private>", "[redacted:", "]", "Cookie: a=", ";", "--token ", "{", "$",
    "key", "Authorization: ", "eyJ", "sk-", "AKIA", "x" * 40, "Private-Lines: 1\n", "name: token\nvalue: ", "İ", "curl -u a:",
]  # fmt: skip
HOSTILE = [
    "eyJ", "eyJa.", "eyJaaaaaaaa.", "sk-", "a:", "http://a:", "password", "password=", "password: str = ", "x='token':",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----\n", "<private>", "</private>", "AKIA", "bearer ", "a@", "token_",
    "x" * 50 + "://", "Authorization:", "Cookie: a=", "a=b;", "--token ", "name: token, ", "<token>", "1.2.", "'key', ",
    "MIIB", "curl -u ", "mysql ", "?key=", "host=a password", "aB3/", "$2b$10$", "login a ", "A\n", "A" * 64 + "\n",
    "Private-Lines: 1\n", "pass=a;", "secret:\\\\\\", "key[1", '"kty" "d":"', "AP1", "pwd=a;b=", "sk-T3BlbkFJ", "İtoken=",
]  # fmt: skip

fragments = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(PIECES),
    st.text(max_size=30),
    st.tuples(st.sampled_from(TEXTS), st.integers(0, 60), st.integers(1, 60)).map(
        lambda drawn: drawn[0][drawn[1] : drawn[1] + drawn[2]]
    ),
)


@given(st.lists(fragments, max_size=12).map("".join))
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(
    st.sampled_from(planted("surrounded")),
    st.lists(st.sampled_from(TEXTS), max_size=3),
    st.sampled_from(["", "def main() -> int:\n    return 0", "# İt is late", "{", "a: [1, 2]"]),
)
def test_a_secret_goes_whatever_else_is_in_the_text(one: Any, others: list[str], code: str) -> None:
    around = [code, *others, "-" * 30]
    result = redact("\n\n".join([*around, one.text, code]))
    assert not [piece for piece in one.pieces if piece in result]


def patterns(module: ModuleType) -> Iterator[tuple[str, re.Pattern[str]]]:
    for name, value in vars(module).items():
        if isinstance(value, re.Pattern):
            yield name, value
    if module is formats:
        for one in formats.FORMATS:
            yield one.kind, one.pattern


ALL = [
    pytest.param(pattern, id=f"{module.__name__.rpartition('.')[2]} {name} {number}")
    for module in MODULES
    for number, (name, pattern) in enumerate(patterns(module))
]


@pytest.mark.parametrize("pattern", ALL)
def test_a_pattern_tries_nothing_without_bound_twice(pattern: re.Pattern[str]) -> None:
    for kind, (_, most, _) in repeats(sre.parse(pattern.pattern, pattern.flags)):
        if most is sre.MAXREPEAT:
            assert kind is sre.POSSESSIVE_REPEAT, "unbounded: make it possessive"


@pytest.mark.parametrize("one", formats.FORMATS, ids=lambda one: one.kind)
def test_what_is_unbounded_cannot_begin_again_within_itself(one: formats.Format) -> None:
    """Else each place in a long run would be a start that reads the rest of the run."""
    tree = list(sre.parse(one.pattern.pattern, one.pattern.flags))
    if tree[0][0] is sre.ASSERT_NOT and tree[0][1][0] == -1:
        assert one.pattern.pattern.startswith(formats.START) or tree[0][1][1][0][0] is sre.IN
        return
    before: list[str] = []
    for kind, argument in flat(tree):
        if kind is sre.POSSESSIVE_REPEAT and argument[1] is sre.MAXREPEAT:
            inside = set(matched_by(argument[2][0], one.pattern.flags))
            assert any(inside.isdisjoint(characters) for characters in before)
        elif kind is sre.LITERAL or (kind is sre.MAX_REPEAT and argument[0] >= 1):
            node = (kind, argument) if kind is sre.LITERAL else argument[2][0]
            before.append(matched_by(node, one.pattern.flags))


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_characters_judged_grow_with_the_text_and_no_faster(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = 0
    original = randomness.is_placeholder

    def counted(value: str) -> bool:
        nonlocal judged
        judged += len(value)
        return original(value)

    for module in (assignments, entropy, redaction):
        monkeypatch.setattr(module, "is_placeholder", counted)

    def work(size: int) -> int:
        nonlocal judged
        judged = 0
        redact(piece * (size // len(piece)))
        return judged

    small, large = work(4_000), work(16_000)
    assert large <= 4.5 * small + 4_000


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.timeout(30)
def test_four_snippets_worth_of_hostile_repetition_are_redacted(piece: str) -> None:
    # A second or less; anything quadratic would take hours and run into the timeout.
    redact(piece * (256 * 1024 // len(piece)))


def repeats(tree: Any) -> Iterator[tuple[Any, Any]]:
    for kind, argument in flat(tree):
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            yield kind, argument


def flat(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every node of a parsed pattern, in the order of the text."""
    for node in tree:
        kind, argument = node
        yield kind, argument
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            yield from flat(argument[2])
        elif kind is sre.SUBPATTERN:
            yield from flat(argument[3])
        elif kind is sre.ATOMIC_GROUP:
            yield from flat(argument)
        elif kind is sre.BRANCH:
            for branch in argument[1]:
                yield from flat(branch)
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            yield from flat(argument[1])


def matched_by(node: Any, flags: int) -> str:
    """The characters of ASCII that a node for one character matches."""
    if node[0] not in (sre.LITERAL, sre.NOT_LITERAL, sre.IN):
        return "".join(map(chr, range(128)))
    tree = sre.SubPattern(sre.State(), [node])
    tree.state.flags = flags
    pattern = sre_compiler.compile(tree, flags & re.IGNORECASE)
    return "".join(chr(code) for code in range(128) if pattern.fullmatch(chr(code)))
