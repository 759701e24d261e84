"""Updates of one sender that came together, as one.

A device that has much to say sends many small updates one after the other, each of which appends to
what the one before it appended. To check, merge, store and acknowledge each of them costs as much as
for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from localmem_protocol.errors import ProtocolError
from localmem_protocol.frames import Update as UpdateFrame
from localmem_protocol.frames import decode_frame, encode_frame, is_update
from localmem_protocol.limits import STEP_BYTES
from localmem_protocol.updates import Item, Update, decode_update, encode_update, join


def coalesced(frames: Sequence[bytes]) -> Iterator[bytes]:
    """The same frames, in order, but updates that do nothing but continue each other as one.

    What they are refused for, if anything, is in the first of them: the others follow from it. Whatever
    cannot be read stays as it is.
    """
    if len(frames) == 1:  # mostly
        yield frames[0]
        return
    gathered = _Gathered()
    for frame in frames:
        appends = _appends(frame) if is_update(frame) else None
        if appends is None or not gathered.continues(appends, len(frame)):
            yield from gathered.let_go()
        if appends is None:
            yield frame
        else:
            gathered.add(frame, appends)
    yield from gathered.let_go()


class _Gathered:
    """Frames of one run of appends."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._updates: list[Update] = []
        self._client, self._last = 0, Item(0, 0, ())
        self._size = 0

    def continues(self, update: Update, size: int) -> bool:
        """Whether it does nothing but continue what is gathered."""
        ((client, run),) = update.items.items()
        item, origin = run[0], (self._client, self._last.end - 1)
        return (
            bool(self._frames)
            and len(run) == 1  # a second item may build on anything, and be refused for that
            and (client, item.clock, item.origin) == (self._client, self._last.end, origin)
            and item.right == self._last.right
            and self._size + size <= STEP_BYTES
        )

    def add(self, frame: bytes, update: Update) -> None:
        """One more."""
        ((self._client, run),) = update.items.items()
        self._last = run[-1]
        self._frames.append(frame)
        self._updates.append(update)
        self._size += len(frame)

    def let_go(self) -> Iterator[bytes]:
        """All of it."""
        if len(self._frames) == 1:
            yield self._frames[0]
        elif self._frames:
            for joined in join(self._updates):
                yield encode_frame(UpdateFrame(encode_update(joined)))
        self._frames, self._updates, self._size = [], [], 0


def _appends(frame: bytes) -> Update | None:
    """The update in a frame, if one client appends live items by it, and that is all."""
    try:
        decoded = decode_frame(frame)
        if not isinstance(decoded, UpdateFrame):
            return None
        update = decode_update(decoded.update)
    except ProtocolError:
        return None
    if update.deletes or len(update.items) != 1:
        return None
    (run,) = update.items.values()
    return update if all(item.contents is not None for item in run) else None
