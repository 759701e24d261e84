"""Taking segments out of a document so that everything that stays can be opened by a joiner.

A batch is bound to those before it in its segment. So a segment goes as a whole, whoever deletes it,
and nothing may continue one that is gone. The hub, where all updates come one after the other, holds
everybody to that (`keep_whole`): whoever did not know yet of what came first is asked to look again
(GapError), and says it anew. So at no time a document at the hub has a batch that nobody new can open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from localmem_protocol.document import Document
from localmem_protocol.envelope import opens_segment
from localmem_protocol.errors import GapError
from localmem_protocol.events import Event
from localmem_protocol.ledger import Account
from localmem_protocol.limits import BATCH_EVENTS_MAX, BATCH_TOMBSTONES_MAX, BATCH_WANTS_MAX
from localmem_protocol.parcels import Parcel
from localmem_protocol.references import Reference
from localmem_protocol.updates import Item, Update, covers, normal
from localmem_protocol.wants import Want

BATCH_SNIPPET_BYTES_MAX: Final = 256 * 1024
"""Text in one batch; more is split, so that no frame keeps a slow line busy for long."""


def keep_whole(document: Document, update: Update) -> None:
    """Raises GapError if a checked update would leave a batch whose predecessor is deleted."""
    if (appended := update.appended) is not None:
        account = document.ledger.account(appended[0])
        if account is not None and not account.ended:
            return
    deletes = {client: normal(ranges) for client, ranges in update.deletes.items()}
    gone = document.deletes() if deletes else {}
    for client, ranges in deletes.items():
        account = document.ledger.account(client)
        for end in map(sum, ranges):
            if account is None or end >= account.clock or end in account.firsts:
                continue
            if not covers(gone.get(client, []), end, 1):
                raise GapError(f"deletes a part of a segment of client {client}, up to {end}")
    for client, run in update.items.items():
        account = document.ledger.account(client) or Account("")
        _continue(client, run, account, deletes.get(client, []))


def _continue(client: int, run: list[Item], account: Account, gone: list[tuple[int, int]]) -> None:
    """Raises GapError if what a client appends continues a segment that is deleted."""
    ended = account.ended
    for item in run:
        if item.contents is None:  # as long as it likes
            ended = ended or item.end > account.clock
            continue
        for clock, sealed in enumerate(item.contents, start=item.clock):
            if clock < account.clock:
                continue
            live = not covers(gone, clock, 1)
            ended = ended or covers(gone, clock - 1, 1)
            if live and ended and not opens_segment(sealed):
                raise GapError(f"client {client} continues a segment that is deleted, at {clock}")
            ended = not live


def parcels(
    events: Iterable[Event],
    tombstones: Iterable[bytes] = (),
    references: Iterable[Reference] = (),
    wants: Iterable[Want] = (),
) -> Iterator[Parcel]:
    """All of it in as few parcels as the bounds allow; none for nothing."""
    marks, pointers = list(tombstones), list(references)
    waiting, asked = list(events), sorted(set(wants))
    while waiting or marks or pointers or asked:
        chosen = leading(waiting)
        some, asking = marks[:BATCH_TOMBSTONES_MAX], asked[:BATCH_WANTS_MAX]
        few = pointers[: BATCH_EVENTS_MAX - len(chosen)]
        yield Parcel(tuple(chosen), tuple(some), references=tuple(few), wants=tuple(asking))
        waiting, marks = waiting[len(chosen) :], marks[len(some) :]
        pointers, asked = pointers[len(few) :], asked[len(asking) :]


def leading(events: Iterable[Event]) -> list[Event]:
    """The leading events that fit in one batch; at least one, if there is any."""
    chosen: list[Event] = []
    size = 0
    for event in events:
        size += len(event.snippet.encode())
        if chosen and (size > BATCH_SNIPPET_BYTES_MAX or len(chosen) == BATCH_EVENTS_MAX):
            break
        chosen.append(event)
    return chosen


def whole_sequences(events: Sequence[Event]) -> list[Event]:
    """The leading events that fit in one batch, those of one sequence together; at least one's.

    The watermark counts sequences, and two copies of a machine give one to events of each. `events`
    has one more than fits, if there are so many.
    """
    chosen = leading(events)
    if len(chosen) == len(events):
        return chosen
    following = events[len(chosen)].sequence
    whole = [event for event in chosen if event.sequence != following]
    return whole or [event for event in events[:BATCH_EVENTS_MAX] if event.sequence == following]
