"""Pairing: how a device that knows nobody becomes known, by a short code that somebody types.

The host, a device of the pool, shows a code like 27-4821-9036: the number of a mailbox at the hub,
and eight random digits. The joiner is given the code by hand. SPAKE2 makes a strong key of it that
nobody else has, the hub included: who wants to stand between the two has one guess in 10^8 for each
code, and both sides notice.

    joiner                                          host
      Offer(element)                          ──▶
                                              ◀──   Answer(element, confirmation, box: who I am)
      [sees the host's fingerprint]
      Introduction(confirmation, box: who I am) ─▶
                                                    [sees the joiner's fingerprint, agrees, and
                                                     admits it to the roster at the hub]
                                              ◀──   Invite(box: the invitation)
      Failure, from either side, ends it.

Each side checks the other's confirmation, an HMAC under a key that follows from the code, before it
opens anything. A box alone would not do: ChaCha20-Poly1305 does not commit to its key, and one box
made to open under many keys would be many guesses at once. With the box each proves, by a signature
over the elements, that it holds the keys it names. The invitation is sealed by HPKE to the joiner's
key in addition, so that it stays closed to who learns the code later.

A side fails once and for all. Until the other's confirmation has been checked nothing that it sent
is to be had from these objects, so nothing of it can be written anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from localmem_protocol.errors import KeysError, PairingError, SealError, SignatureError
from localmem_protocol.keys import (
    SEAL_INVITATION,
    SIGN_PAIRING,
    SIGNATURE_BYTES,
    DeviceKeys,
    PublicKeys,
)
from localmem_protocol.limits import LABEL_BYTES_MAX
from localmem_protocol.pairing_messages import (
    Answer,
    Code,
    Failure,
    Identity,
    Introduction,
    Invitation,
    Invite,
    Message,
    Offer,
    decode,
    decode_message,
    encode_message,
)
from localmem_protocol.seams import Random

__all__ = ["Code", "Host", "Invitation", "Joiner", "Peer"]

_CONTEXT: Final = b"localmem pairing 1"
_Role = Literal["host", "joiner"]


@dataclass(frozen=True)
class Peer:
    """Who is at the other end: its device id, its keys, which it proved to hold, and its name."""

    device: str
    keys: PublicKeys
    label: str


class _Secrets:
    """What follows from the code and both elements: a key for each use."""

    def __init__(self, shared: bytes, mailbox: int, joiner: bytes, host: bytes) -> None:
        transcript = _CONTEXT + mailbox.to_bytes(4, "little") + joiner + host
        self.transcript = hashlib.sha256(transcript).digest()
        self._shared = shared

    def confirmation(self, role: _Role) -> bytes:
        return hmac.digest(self._key(b"confirm"), role.encode(), hashlib.sha256)

    def close(self, purpose: str, plain: bytes) -> bytes:
        """Each purpose has a key of its own and is used once: the nonce is zero."""
        cipher = ChaCha20Poly1305(self._key(purpose.encode()))
        return cipher.encrypt(bytes(12), plain, self.transcript)

    def open(self, purpose: str, box: bytes) -> bytes:
        try:
            cipher = ChaCha20Poly1305(self._key(purpose.encode()))
            return cipher.decrypt(bytes(12), box, self.transcript)
        except InvalidTag:
            raise PairingError("a message was altered on its way") from None

    def _key(self, purpose: bytes) -> bytes:
        info = _CONTEXT + b" " + purpose
        derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=self.transcript, info=info)
        return derive.derive(self._shared)


class _Side:
    """What host and joiner have in common."""

    _role: ClassVar[_Role]
    _other: ClassVar[_Role]

    def __init__(
        self, code: Code, keys: DeviceKeys, device: str, label: str, random: Random
    ) -> None:
        if len(label.encode()) > LABEL_BYTES_MAX or not label.isprintable():
            raise PairingError(f"a label of more than {LABEL_BYTES_MAX} bytes, or not printable")
        self._code = code
        self._keys = keys
        self._device = device
        self._label = label
        self._random = random
        self._outbox: list[Message] = []
        self._secrets: _Secrets | None = None
        self._peer: Peer | None = None
        self._failed = self._done = False
        # Imported here: it costs time, and only who pairs needs it.
        from spake2 import SPAKE2_A, SPAKE2_B

        kind = SPAKE2_A if self._role == "joiner" else SPAKE2_B
        context = _CONTEXT + str(code.mailbox).encode()
        self._spake = kind(
            code.secret.encode(),
            idA=context + b" joiner",
            idB=context + b" host",
            entropy_f=random.token_bytes,
        )
        self._element: bytes = self._spake.start()[1:]

    @property
    def fingerprint(self) -> str:
        """This device's fingerprint, to be shown on its screen."""
        return self._keys.public.fingerprint()

    @property
    def failed(self) -> bool:
        """Whether it is over, without a result."""
        return self._failed

    def send(self) -> bytes | None:
        """The next message for the other side, once; None if there is none now."""
        return encode_message(self._outbox.pop(0)) if self._outbox else None

    def receive(self, data: bytes) -> None:
        """Take a message of the other side.

        Raises PairingError if it was altered, out of turn, or made with another code; it is over
        then, and `send` has a last message that tells the other side.
        """
        if self._failed:
            raise PairingError("this pairing has failed before; begin again with a new code")
        if self._done:
            raise PairingError("a message after the end of the pairing")
        try:
            message = decode_message(data)
            if isinstance(message, Failure):
                raise PairingError("the other side gave up; was the code mistyped?")
            self._take(message)
        except PairingError:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up, for instance because a person says that the fingerprints differ."""
        if not self._failed and not self._done:
            self._failed = True
            self._secrets = self._peer = None
            self._outbox = [Failure()]

    def _take(self, message: Message) -> None:
        raise NotImplementedError

    def _agree(self, element: bytes) -> _Secrets:
        """The secrets that follow from the other's element. Whether they agree is not known yet."""
        side = b"A" if self._other == "joiner" else b"B"
        try:
            shared = self._spake.finish(side + element)
        except Exception:  # it has no base class for "not on the curve", and asserts
            raise PairingError("an element that is none") from None
        pair = (element, self._element) if self._role == "host" else (self._element, element)
        self._secrets = _Secrets(shared, self._code.mailbox, *pair)
        return self._secrets

    def _confirm(self, secrets: _Secrets, confirmation: bytes) -> None:
        if not hmac.compare_digest(secrets.confirmation(self._other), confirmation):
            raise PairingError("the codes differ; nothing was changed on either side")

    def _identity(self, secrets: _Secrets) -> bytes:
        """Who this is, in a box; with the proof that it holds its keys."""
        keys = self._keys.public.to_bytes()
        unsigned = Identity(self._device, keys, self._label, bytes(SIGNATURE_BYTES))
        signature = self._keys.sign(SIGN_PAIRING, _proof(self._role, secrets, unsigned))
        plain = msgspec.msgpack.encode(msgspec.structs.replace(unsigned, signature=signature))
        return secrets.close(self._role, plain)

    def _identify(self, secrets: _Secrets, box: bytes) -> Peer:
        """Who the other is. Raises PairingError."""
        identity = decode(secrets.open(self._other, box), Identity, "device")
        try:
            keys = PublicKeys.from_bytes(identity.keys)
            keys.verify(SIGN_PAIRING, _proof(self._other, secrets, identity), identity.signature)
        except (KeysError, SignatureError):
            raise PairingError("a device that does not hold the keys it names") from None
        if not identity.label.isprintable():
            raise PairingError("a label that cannot be shown")
        if keys == self._keys.public or identity.device == self._device:
            raise PairingError("both sides are the same device, or one is a copy of the other")
        return Peer(identity.device, keys, identity.label)


class Host(_Side):
    """The side that is a member. Give it the joiner's messages, then an invitation."""

    _role = "host"
    _other = "joiner"

    @property
    def joiner(self) -> Peer | None:
        """Who wants to join; None until it has proved that it knows the code."""
        return self._peer

    def invite(self, invitation: Invitation) -> None:
        """Let the joiner in. Admit it to the roster first: the invitation names that entry."""
        if self._peer is None or self._secrets is None or self._done:
            raise PairingError("nobody to invite, or invited already")
        plain = msgspec.msgpack.encode(invitation)
        decode(plain, Invitation, "invitation")
        sealed = self._peer.keys.seal(
            SEAL_INVITATION, plain, self._secrets.transcript, self._random
        )
        self._outbox.append(Invite(self._secrets.close("invitation", sealed)))
        self._done = True

    def _take(self, message: Message) -> None:
        match message:
            case Offer(element) if self._secrets is None and self._peer is None:
                secrets = self._agree(element)
                box = self._identity(secrets)
                self._outbox.append(Answer(self._element, secrets.confirmation("host"), box))
            case Introduction(confirmation, box) if self._secrets and self._peer is None:
                self._confirm(self._secrets, confirmation)
                self._peer = self._identify(self._secrets, box)
            case _:
                raise PairingError(f"a message out of turn ({type(message).__name__})")


class Joiner(_Side):
    """The side that wants to become a member. `send` begins."""

    _role = "joiner"
    _other = "host"

    def __init__(
        self, code: Code, keys: DeviceKeys, device: str, label: str, random: Random
    ) -> None:
        super().__init__(code, keys, device, label, random)
        self._invitation: Invitation | None = None
        self._outbox.append(Offer(self._element))

    @property
    def host(self) -> Peer | None:
        """Who invites; None until it has proved that it knows the code."""
        return self._peer

    @property
    def invitation(self) -> Invitation | None:
        """What came of it; None until it is there."""
        return self._invitation

    def _take(self, message: Message) -> None:
        match message:
            case Answer(element, confirmation, box) if self._secrets is None:
                secrets = self._agree(element)
                self._confirm(secrets, confirmation)
                self._peer = self._identify(secrets, box)
                introduction = Introduction(secrets.confirmation("joiner"), self._identity(secrets))
                self._outbox.append(introduction)
            case Invite(box) if self._secrets and self._peer:
                self._invitation = self._open(self._secrets, box)
                self._done = True
            case _:
                raise PairingError(f"a message out of turn ({type(message).__name__})")

    def _open(self, secrets: _Secrets, box: bytes) -> Invitation:
        sealed = secrets.open("invitation", box)
        try:
            plain = self._keys.unseal(SEAL_INVITATION, sealed, secrets.transcript)
        except SealError:
            raise PairingError("an invitation for somebody else") from None
        return decode(plain, Invitation, "invitation")


def _proof(role: _Role, secrets: _Secrets, identity: Identity) -> bytes:
    """What a side signs: which side it is, in which pairing, and who it says it is."""
    fields = (role, secrets.transcript, identity.device, identity.keys, identity.label)
    return msgspec.msgpack.encode(fields)
