"""The recovery phrase: its words, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from mnemonic import Mnemonic

from localmem_protocol.errors import PhraseError
from localmem_protocol.keys import DeviceKeys
from localmem_protocol.recovery import WORDS, new_phrase, recovery_keys
from support.seeded import SeededRandom

PHRASE = new_phrase(SeededRandom(5))


def test_a_phrase_has_24_words_and_always_gives_the_same_keys() -> None:
    assert len(PHRASE.split()) == WORDS
    assert Mnemonic("english").check(PHRASE)
    assert recovery_keys(PHRASE) == recovery_keys(PHRASE)
    assert recovery_keys(new_phrase(SeededRandom(6))) != recovery_keys(PHRASE)


def test_the_keys_of_a_known_phrase_never_change() -> None:
    keys = recovery_keys("abandon " * 23 + "art")
    assert keys.public.fingerprint() == "65aa 7ae9 8c97 d594 ac6b a88e 369a fc37"


def test_case_spacing_and_the_tails_of_words_do_not_matter() -> None:
    typed = "\n  ".join(word[:4].upper() for word in PHRASE.split())
    assert recovery_keys(typed) == recovery_keys(PHRASE)


def test_a_word_that_is_none_is_named_with_its_place() -> None:
    words = PHRASE.split()
    words[6] = "qwerty"
    with pytest.raises(PhraseError, match=r"word 7, 'qwerty'") as caught:
        recovery_keys(" ".join(words))
    assert caught.value.word == 7


def test_words_that_do_not_belong_together_are_told_from_unknown_ones() -> None:
    words = PHRASE.split()
    words[0], words[1] = words[1], words[0]
    with pytest.raises(PhraseError, match="do not belong together") as caught:
        recovery_keys(" ".join(words))
    assert caught.value.word == 0


@pytest.mark.parametrize("phrase", ["", "abandon", "abandon " * 12, PHRASE + " art"])
def test_another_number_of_words_is_refused(phrase: str) -> None:
    with pytest.raises(PhraseError, match="has 24 words"):
        recovery_keys(phrase)


@pytest.mark.parametrize("text", ["\x1b[31mred", "a", "", "ab\u202ecd", "é" * 10_000, "aban\x00"])
def test_whatever_is_typed_gives_keys_or_a_phrase_error_of_one_short_line(text: str) -> None:
    with pytest.raises(PhraseError) as caught:
        recovery_keys(" ".join([*PHRASE.split()[:23], text]))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120


def test_a_phrase_gives_keys_of_its_own_that_work() -> None:
    keys = recovery_keys(PHRASE)
    assert isinstance(keys, DeviceKeys)
    keys.public.verify("x", b"data", keys.sign("x", b"data"))
