"""Synchronisation by single requests, where no connection lasts: both halves, without any I/O.

What a connection would remember travels with each request, so that any process of a hub may answer
any of them. `Resume` carries the client id and what the hub held of it; a *position* says how much of
the pool's log this device has been sent. The session and the room are those of a connection:

    device                                        hub
      Post: Hello                             ──▶
                                              ◀── Welcome, Step1, Resume
      Post: Resume, Update …, Step1           ──▶
                                              ◀── Ack, Step2, Resume; position
      Poll: position                          ──▶
                                              ◀── unchanged, or what came after: Update; position
      Post: Resume, Update …; position        ──▶
                                              ◀── Ack, Resume, what came after: Update; position

A request may be repeated, or carried out though its answer is lost: what the hub has already is
acknowledged again, and a Resume that does not fit any more is refused with `Close.GAP`; the device
then greets anew. So does one whose position the hub's log does not reach back to.

A body is: a byte of flags (1: more is waiting after the position), a length-prefixed position (may
be empty), and length-prefixed frames until it ends. It is read strictly: `decode_body` takes only
what `encode_body` makes.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from localmem_protocol.errors import FrameError, GapError, RefusedError
from localmem_protocol.frames import (
    NOTICES,
    ROSTER_NOTICE,
    Close,
    Hello,
    Notice,
    Resume,
    Update,
    decode_frame,
    encode_frame,
    is_kind,
    is_permanent,
)
from localmem_protocol.limits import (
    EXCHANGE_BYTES_MAX,
    EXCHANGE_FRAMES_MAX,
    FRAME_BYTES_MAX,
    MARK_MAX,
    POSITION_BYTES_MAX,
    STEP_BYTES,
)
from localmem_protocol.room import Peer
from localmem_protocol.updates import decode_update, encode_update, join
from localmem_protocol.wire import Reader, varbytes, varuint

CONTENT_TYPE: Final = "application/octet-stream"

_MORE: Final = 1
_POSITION: Final = re.compile(r"[0-9A-Za-z._-]*", re.ASCII)
_MARK: Final = re.compile(
    r"(0|[1-9][0-9]{0,18})\.([rw])\.([0-9A-Za-z_-]{0,6}(?:-[0-9a-f-]{1,27})?)(?:\.([1-9][0-9]{0,4}))?",
    re.ASCII,
)
_STEP1, _STEP2, _UPDATE = b"\x00\x00", b"\x00\x01", b"\x00\x02"


@dataclass(frozen=True)
class Body:
    """What a request or an answer says. `more` is whether news are left after `position`."""

    frames: tuple[bytes, ...] = ()
    position: str = ""
    more: bool = False


def encode_body(body: Body) -> bytes:
    """The bytes of a body."""
    return b"".join(
        (
            varuint(_MORE if body.more else 0),
            varbytes(body.position.encode("ascii")),
            *map(varbytes, body.frames),
        )
    )


def decode_body(data: bytes) -> Body:
    """Parse a body. Raises FrameError; the frames are not looked into."""
    if len(data) > EXCHANGE_BYTES_MAX:
        raise FrameError(f"{len(data)} bytes, over the limit of {EXCHANGE_BYTES_MAX}")
    reader = Reader(data, FrameError)
    flags = reader.varuint(_MORE)
    position = reader.text(POSITION_BYTES_MAX)
    if not is_position(position):
        raise FrameError("a position of other characters than letters, digits, '.', '_', '-'")
    frames: list[bytes] = []
    while reader.at < len(data):
        if len(frames) == EXCHANGE_FRAMES_MAX:
            raise FrameError(f"more than {EXCHANGE_FRAMES_MAX} frames")
        frames.append(reader.varbytes(FRAME_BYTES_MAX))
    return Body(tuple(frames), position, flags == _MORE)


def is_position(text: str) -> bool:
    """Whether this can be a position: it travels as an entity tag, too."""
    return len(text) <= POSITION_BYTES_MAX and _POSITION.fullmatch(text) is not None


@dataclass(frozen=True)
class Post:
    """Send this body, and give what comes back to `Exchange.answered`."""

    body: bytes


@dataclass(frozen=True)
class Poll:
    """Ask for what comes after this position; give the answer to `Exchange.polled`."""

    position: str


class Exchange:
    """A device's half: what to ask next, and what an answer brings the session.

    One at a time is posted; a poll may wait at the hub meanwhile. Lives as long as a connection
    would, from the session's `hello` until something fails.
    """

    def __init__(self) -> None:
        self.position = ""
        self.more = False
        self._outgoing: deque[bytes] = deque()
        self._resume: bytes | None = None
        self._posting = False

    @property
    def waiting(self) -> bool:
        """Whether the session said something that the hub has not answered."""
        return self._posting or bool(self._outgoing)

    def send(self, frame: bytes) -> None:
        """Take a frame of the session."""
        self._outgoing.append(frame)

    def post(self) -> Post | None:
        """The next request to make, if there is something to say and nothing is under way."""
        if self._posting or not self._outgoing:
            return None
        frames: list[bytes] = []
        if is_kind(self._outgoing[0], Hello):
            self.position, self._resume, self.more = "", None, False
        elif self._resume is None:
            raise FrameError("the hub gave nothing to go on with")
        else:
            frames.append(self._resume)
        size = 0
        while self._outgoing and len(frames) < EXCHANGE_FRAMES_MAX:
            frame = self._outgoing[0]
            size += len(frame) + len(varuint(len(frame)))
            # Above a step's size another request is no loss; a single frame may be larger.
            if (frames[1:] and size > STEP_BYTES) or (frames and is_kind(frame, Hello)):
                break
            frames.append(self._outgoing.popleft())
        self._posting = True
        return Post(encode_body(Body(tuple(frames), self.position)))

    def poll(self) -> Poll | None:
        """What to ask when there is nothing to say; None until the hub has sent everything once."""
        return Poll(self.position) if self.position else None

    def answered(self, data: bytes) -> list[bytes]:
        """The frames that a posted request brings the session. Raises FrameError."""
        self._posting = False
        body = decode_body(data)
        frames = [frame for frame in body.frames if not is_kind(frame, Resume)]
        resumes = [frame for frame in body.frames if is_kind(frame, Resume)]
        self._resume = resumes[-1] if resumes else None
        self.position, self.more = body.position, body.more
        return frames

    def polled(self, poll: Poll, data: bytes) -> list[bytes]:
        """The frames that a poll brings the session; none if a posted request overtook it.

        Raises FrameError.
        """
        body = decode_body(data)
        if poll.position != self.position:
            return []
        if not body.position or body.position == poll.position:
            raise FrameError("news that lead nowhere")
        self.position, self.more = body.position, body.more
        return list(body.frames)


def follow(tag: str, update: bytes) -> str:
    """The tag of a row, from that of the row before ("" for the first): 32 bits of all rows up to it.

    A hub that was restored from a backup, and has written on, has others at the same numbers.
    """
    digest = blake2b(tag.encode("ascii") + b" " + update, digest_size=4).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


@dataclass(frozen=True)
class Mark:
    """What a position means to a hub that numbers its rows: how far the device has been told, what the
    tag of that row is (`follow`, and beside it where the hub finds it), as what it was welcomed, and how long it was told that the roster is
    (0: there is none, or it does not want to know). Another role needs another welcome."""

    head: int
    writer: bool
    tag: str = ""
    roster: int = 0

    @property
    def text(self) -> str:
        """As a position."""
        roster = f".{self.roster}" if self.roster else ""
        return f"{self.head}.{'w' if self.writer else 'r'}.{self.tag}{roster}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """The mark in a position. Raises GapError for one of another kind of hub."""
        match = _MARK.fullmatch(text)
        if match is None or int(match[1]) > MARK_MAX:
            raise GapError("a position that is not this hub's; greet again")
        return cls(int(match[1]), match[2] == "w", match[3], int(match[4] or 0))


@dataclass(frozen=True)
class NumberedRow:
    """A stored update, its number in the pool's log, and the device that it is from."""

    number: int
    device: str
    update: bytes


@dataclass(frozen=True)
class News:
    """The rows after a position, as far as one answer has room; `more` if some are left."""

    rows: Sequence[NumberedRow] = ()
    more: bool = False


class Visit:
    """The hub's half: a request's stay in its room. Collects what the room says to its connection.

    The owner joins `Peer(connection, device, writer, transient=True)`, gives the room each frame of
    the body and calls `heard` right after it, then `Room.finish`; when `closed` is set the visit is
    over. `wanted` are then the rows to be looked up for `answer`.
    """

    def __init__(self, peer: Peer, body: Body) -> None:
        """Raises FrameError for a body that begins with nothing, GapError for a stale position."""
        if not body.frames:
            raise FrameError("a request without frames")
        self.closed: tuple[int, str] | None = None
        self._peer = peer
        self._frames: list[bytes] = []
        self._client = _client_of(body.frames[0])
        self.noticing = _wants_notices(body.frames[0])
        self.asked = parse_position(body.position, writer=peer.writer) if body.position else None
        self._heard = 0
        self._stepped: int | None = None

    def send(self, data: bytes) -> None:
        """Take a frame of the room."""
        if self.closed is None:
            self._frames.append(data)

    def drop(self, code: int, reason: str) -> None:
        """The visit is over; the first call decides."""
        if self.closed is None:
            self.closed = (code, reason)

    def heard(self, frame: bytes, newest: int) -> None:
        """The room took a frame; `newest` is the number of its newest row, stored or not yet."""
        self._heard = newest
        if frame.startswith(_STEP1):
            self._stepped = newest

    @property
    def refusal(self) -> RefusedError | None:
        """Why there is no answer, if there is none."""
        if self.closed is None or self.closed[0] == Close.ANSWERED:
            return None
        code, reason = self.closed
        return RefusedError(code, is_permanent(code), reason)

    @property
    def wanted(self) -> tuple[int, int] | None:
        """Which rows belong in the answer: those after the first number, up to the second."""
        if self.asked is None or self._stepped is not None or self._heard <= self.asked.head:
            return None
        return self.asked.head, self._heard

    def reached(self, news: News) -> int | None:
        """The number of the row up to which the device has everything then; None if it has to ask."""
        if self._stepped is not None:
            # Everything if the last part was; else the device asks again, with its state vector.
            synced = [f for f in self._frames if f.startswith((_STEP2, _UPDATE))]
            complete = bool(synced) and synced[-1].startswith(_STEP2)
            return self._stepped if complete else None
        if news.rows:
            return news.rows[-1].number
        return self._heard if self.asked is not None else None

    def answer(self, news: News, tag: str = "", roster: int = 0) -> Body:
        """What to say, with the rows that were wanted, the tag of the row that was reached, and how long
        the roster is. Own rows are left out: they were just sent.

        Raises GapError if the log is shorter than the device was told.
        """
        if self.asked is not None and self._heard < self.asked.head:
            raise GapError("a position that the log does not reach; greet again")
        frames = [*self._frames, *pack(news.rows, self._peer.device, self._client)]
        roster = roster if self.noticing else 0
        if self.asked is not None and self.asked.roster != roster:
            frames.append(encode_frame(Notice(ROSTER_NOTICE, roster)))
        reached = self.reached(news)
        if reached is None:
            return Body(tuple(frames), "", news.more)
        position = Mark(reached, self._peer.writer, tag, roster).text
        return Body(tuple(frames), position, news.more)


def parse_position(text: str, *, writer: bool) -> Mark:
    """A device's position in the log of rows. Raises GapError when it has to greet again."""
    mark = Mark.parse(text)
    if mark.writer != writer:
        raise GapError("another role than before; greet again")
    return mark


def news_body(mark: Mark, news: News, tag: str = "", roster: int = 0) -> Body:
    """The answer to a poll from a mark that found rows, of which the last has this tag, or a longer
    roster; a Notice is only for who was told of the roster before."""
    frames = pack(news.rows)
    if mark.roster and mark.roster != roster:
        frames.append(encode_frame(Notice(ROSTER_NOTICE, roster)))
    end = (news.rows[-1].number, tag) if news.rows else (mark.head, mark.tag)
    position = Mark(end[0], mark.writer, end[1], roster if mark.roster else 0).text
    return Body(tuple(frames), position, news.more)


def pack(rows: Iterable[NumberedRow], device: str = "", client: int = 0) -> list[bytes]:
    """Rows as few Update frames, without those that `client` of `device` wrote."""
    updates = []
    for row in rows:
        update = decode_update(row.update, stored=True)
        if row.device == device and {*update.items, *update.deletes} <= {client}:
            continue
        updates.append(update)
    return [encode_frame(Update(encode_update(joined))) for joined in join(updates)]


def _wants_notices(frame: bytes) -> bool:
    opening = decode_frame(frame)
    if isinstance(opening, Hello):
        return NOTICES in opening.capabilities
    return isinstance(opening, Resume) and opening.notices


def _client_of(frame: bytes) -> int:
    """The client id that a request speaks as; 0 for none. Raises FrameError for an opening that is none."""
    opening = decode_frame(frame)
    if not isinstance(opening, Hello | Resume):
        raise FrameError(f"a {type(opening).__name__} before Hello or Resume")
    return opening.client
