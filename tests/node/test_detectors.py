"""What detect-secrets finds, redaction takes out: every detector of the release that is installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin
from detect_secrets.plugins.keyword import DENYLIST

from bench.planted_secrets import Drawn, Planted, planted
from localmem_node.capture.redaction import redact

CLASSES: list[Any] = list(get_mapping_from_secret_type_to_class().values())
PLUGINS: dict[str, Callable[[], BasePlugin]] = {one.__name__: one for one in CLASSES}
SEEDS = ("one", "two", "three")


def theirs(name: str) -> list[Planted]:
    return [one for seed in SEEDS for one in planted(seed) if name in one.detectors]


def found_by(name: str, text: str) -> set[str]:
    """What a detector of theirs finds in the lines of a text."""
    plugin = PLUGINS[name]()
    found = [plugin.analyze_line("adhoc", line, 1) for line in text.splitlines()]
    return {str(one.secret_value) for each in found for one in each}


@pytest.mark.parametrize("name", PLUGINS)
def test_every_detector_has_secrets_here_that_it_finds_itself(name: str) -> None:
    """Fails for a detector that a newer release adds, until secrets of its kind are planted."""
    secrets = theirs(name)
    assert secrets, f"plant secrets of the kind that {name} finds"
    for one in secrets:
        found = found_by(name, one.text)
        assert any(part in one.text for part in found), one


@pytest.mark.parametrize("name", PLUGINS)
def test_nothing_of_what_a_detector_finds_is_left(name: str) -> None:
    for one in theirs(name):
        cleaned = redact(one.text)
        assert not [piece for piece in one.pieces if piece in cleaned], one
        if name != "PrivateKeyDetector":  # it finds the first line, which is no secret
            assert not {part for part in found_by(name, one.text) if part in cleaned}, one


@pytest.mark.parametrize("word", DENYLIST)
@pytest.mark.parametrize("form", ['{} = "@@"', "{}: '@@',", '"my_{}": "@@"', "{} := `@@`"])
def test_every_word_of_the_keyword_detector_gives_its_value_away(word: str, form: str) -> None:
    name = word.replace("_?", "_")
    assert re.fullmatch(r"\w+", name)
    secret = Drawn(f"{word} {form}").text(20)
    assert secret not in redact(form.format(name).replace("@@", secret))
