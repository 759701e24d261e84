"""Keys of devices: what is signed and sealed, for whom, for what and in which place."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from localmem_protocol import hpke, keys
from localmem_protocol.errors import KeysError, SealError, SignatureError
from localmem_protocol.keys import DeviceKeys, PublicKeys
from support.pools import low_order_keys, person, small_order_signers
from support.seeded import SeededRandom

MINE, YOURS = person(1).keys, person(2).keys
PURPOSE, OTHER = keys.SEAL_EPOCH_KEY, keys.SEAL_INVITATION


def test_keys_come_back_from_their_bytes() -> None:
    assert DeviceKeys.from_bytes(MINE.to_bytes()) == MINE
    assert PublicKeys.from_bytes(MINE.public.to_bytes()) == MINE.public
    assert MINE.public != YOURS.public


@pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 128])
def test_bytes_of_another_length_are_no_keys(size: int) -> None:
    with pytest.raises(KeysError):
        DeviceKeys.from_bytes(bytes(size))
    with pytest.raises(KeysError):
        PublicKeys.from_bytes(b"\x09" * size)


def test_no_private_key_is_shown() -> None:
    shown = repr(MINE) + str(MINE)
    assert MINE.signing.hex() not in shown
    assert repr(MINE.signing) not in shown
    assert repr(MINE.sealing) not in shown


def test_a_signature_holds_for_its_signer_purpose_and_bytes_alone() -> None:
    signature = MINE.sign(keys.SIGN_HEAD, b"data")
    MINE.public.verify(keys.SIGN_HEAD, b"data", signature)
    for public, purpose, data, candidate in (
        (YOURS.public, keys.SIGN_HEAD, b"data", signature),
        (MINE.public, keys.SIGN_ENTRY, b"data", signature),
        (MINE.public, keys.SIGN_HEAD, b"date", signature),
        (MINE.public, keys.SIGN_HEAD, b"data", bytes(64)),
        (MINE.public, keys.SIGN_HEAD, b"data", signature[:-1]),
        (MINE.public, keys.SIGN_HEAD, b"data", b""),
        (PublicKeys(b"\xff" * 32, MINE.public.sealing), keys.SIGN_HEAD, b"data", signature),
    ):
        with pytest.raises(SignatureError):
            public.verify(purpose, data, candidate)


def test_purposes_differ_and_none_is_the_beginning_of_another() -> None:
    names = [name for name in vars(keys) if name.startswith(("SIGN_", "SEAL_"))]
    purposes = [getattr(keys, name) for name in names]
    assert len(set(purposes)) == len(purposes) == 6
    assert not any("\x00" in purpose for purpose in purposes)


def test_a_sealed_box_opens_for_its_receiver_purpose_and_place_alone() -> None:
    sealed = MINE.public.seal(PURPOSE, b"secret", b"place", SeededRandom(1))
    assert MINE.unseal(PURPOSE, sealed, b"place") == b"secret"
    assert b"secret" not in sealed
    for who, purpose, box, place in (
        (YOURS, PURPOSE, sealed, b"place"),
        (MINE, OTHER, sealed, b"place"),
        (MINE, PURPOSE, sealed, b"elsewhere"),
        (MINE, PURPOSE, b"", b"place"),
        (MINE, PURPOSE, bytes(len(sealed)), b"place"),
        (MINE, PURPOSE, sealed + b"\x00", b"place"),
    ):
        with pytest.raises(SealError):
            who.unseal(purpose, box, place)
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 0x41
        with pytest.raises(SealError):
            MINE.unseal(PURPOSE, bytes(altered), b"place")


def test_sealing_twice_gives_other_bytes_and_the_same_chance_the_same() -> None:
    random = SeededRandom(1)
    first, second = (MINE.public.seal(PURPOSE, b"secret", b"", random) for _ in range(2))
    assert first != second
    assert first == MINE.public.seal(PURPOSE, b"secret", b"", SeededRandom(1))


def test_the_library_opens_what_we_seal_and_we_what_it_seals() -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    random = SeededRandom(3)
    for size in (0, 1, 32, 500):
        key = X25519PrivateKey.from_private_bytes(random.token_bytes(32))
        public = key.public_key().public_bytes_raw()
        plain, info = random.token_bytes(size), random.token_bytes(size)
        sealed = hpke.seal(plain, public, info, random.token_bytes(32))
        assert len(sealed) == size + hpke.OVERHEAD_BYTES
        assert suite.decrypt(sealed, key, info) == plain
        theirs = suite.encrypt(plain, X25519PublicKey.from_public_bytes(public), info)
        assert hpke.unseal(theirs, key, info) == plain


@pytest.mark.parametrize("public", list(low_order_keys()))
def test_a_key_of_low_order_is_refused(public: PublicKeys) -> None:
    with pytest.raises(KeysError):
        PublicKeys.from_bytes(public.to_bytes())
    with pytest.raises(KeysError):
        public.seal(PURPOSE, b"secret", b"", SeededRandom(1))


@pytest.mark.parametrize("public", list(small_order_signers()))
def test_a_key_that_anybody_can_sign_for_is_refused(public: PublicKeys) -> None:
    with pytest.raises(KeysError, match="everybody could sign"):
        PublicKeys.from_bytes(public.to_bytes())


def test_for_a_key_of_small_order_anybody_can_sign_which_is_why_it_is_refused() -> None:
    identity = next(keys for keys in small_order_signers() if keys.signing == b"\x01" + bytes(31))
    identity.verify(keys.SIGN_HEAD, b"whatever you like", identity.signing + bytes(32))


@pytest.mark.parametrize("public", list(low_order_keys()))
def test_a_box_that_begins_with_a_key_of_low_order_does_not_open(public: PublicKeys) -> None:
    sealed = MINE.public.seal(PURPOSE, b"secret", b"", SeededRandom(1))
    with pytest.raises(SealError):
        MINE.unseal(PURPOSE, public.sealing + sealed[32:], b"")


def test_a_fingerprint_is_eight_groups_of_four_and_depends_on_both_keys() -> None:
    groups = MINE.public.fingerprint().split(" ")
    assert [len(group) for group in groups] == [4] * 8
    mixed = PublicKeys(MINE.public.signing, YOURS.public.sealing)
    prints = {MINE.public.fingerprint(), YOURS.public.fingerprint(), mixed.fingerprint()}
    assert len(prints) == 3


def test_importing_the_protocol_loads_neither_spake2_nor_the_words() -> None:
    code = (
        "import sys, localmem_protocol.roster, localmem_protocol.pairing,"
        " localmem_protocol.recovery, localmem_protocol.heads;"
        "sys.exit(bool({'spake2', 'mnemonic'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    bare = "import sys, localmem_protocol; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", bare], check=True)
