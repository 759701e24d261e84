"""The recovery phrase: 24 words that stand for a pair of keys, to be written on paper.

256 random bits and 8 of a checksum in the words of BIP-39's English list, eleven bits each. The
private keys follow from the bits by HKDF (RFC 5869); they are kept nowhere else. The same phrase may
serve any number of pools, and a hub that keeps several sees then that they have it in common.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_protocol.errors import PhraseError
from localmem_protocol.keys import KEYS_BYTES, DeviceKeys
from localmem_protocol.seams import Random

if TYPE_CHECKING:
    from mnemonic import Mnemonic

WORDS: Final = 24
ENTROPY_BYTES: Final = 32
PREFIX_LETTERS: Final = 4
"""Letters that tell any word of the list from the others."""


def new_phrase(random: Random) -> str:
    """A fresh phrase: 24 words with one space between. Draws 32 bytes. Show it once."""
    return str(_list().to_mnemonic(random.token_bytes(ENTROPY_BYTES)))


def recovery_keys(phrase: str) -> DeviceKeys:
    """The keys that a phrase stands for, in any case and spacing; four letters of a word suffice.

    Raises PhraseError, which names the word that is not in the list, or says that the words do not
    belong together.
    """
    words = [_word(text, place) for place, text in enumerate(phrase.lower().split(), start=1)]
    if len(words) != WORDS:
        raise PhraseError(f"a recovery phrase has {WORDS} words, not {len(words)}")
    try:
        entropy = bytes(_list().to_entropy(words))
    except ValueError:
        raise PhraseError(
            "every word is in the list, but they do not belong together:"
            " one is another word, or two changed places"
        ) from None
    info = b"localmem recovery keys 1"
    derive = HKDF(algorithm=hashes.SHA256(), length=KEYS_BYTES, salt=None, info=info)
    return DeviceKeys.from_bytes(derive.derive(entropy))


def _word(text: str, place: int) -> str:
    words = _places()
    if text in words:
        return text
    if len(text) >= PREFIX_LETTERS:
        meant = [word for word in words if word.startswith(text)]
        if len(meant) == 1:
            return meant[0]
    shown = text[:20] if text.isprintable() else "…"
    raise PhraseError(f"word {place}, {shown!r}, is not in the list", place)


@cache
def _places() -> frozenset[str]:
    return frozenset(_list().wordlist)


@cache
def _list() -> Mnemonic:
    from mnemonic import Mnemonic  # its list is a file: read when somebody asks

    return Mnemonic("english")
