"""The demo's story: two devices, a hub, a cut cable, and what everybody holds at the end."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from localmem_node.demo.device import Device
from localmem_node.demo.hub import Hub
from localmem_node.demo.wire import Wire
from localmem_node.errors import DemoError
from localmem_node.git_history import Hunk, cleaned_subject, recent_hunks
from localmem_node.project import project_id

POOL: Final = "demo"
HUNKS: Final = 240
HUNKS_MIN: Final = 4
TAKEN_PER_COMMIT: Final = 40
QUERIES: Final = 5
WAIT_S: Final = 60.0
PLAIN_CHARACTERS_MIN: Final = 16
"""Shorter lines ("return x") could stand in a file of random bytes or in anybody's text."""

_ZEROS: Final = re.compile(rb"\0{64,}")

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What the demo's last line says."""

    events: int
    same_order: bool
    found_on_b: bool
    wire_bytes: int
    plaintext_found: bool

    @property
    def good(self) -> bool:
        """Whether localmem kept its promises."""
        return (
            self.events > 0
            and self.same_order
            and self.found_on_b
            and self.wire_bytes > 0
            and not self.plaintext_found
        )


@dataclass
class Stage:
    """Everything that runs during the demo."""

    hub: Hub
    a: Device
    b: Device

    @property
    def wire_bytes(self) -> int:
        """Bytes that crossed either cable."""
        return self.a.wire.bytes + self.b.wire.bytes


def run_demo(repository: Path, say: Say) -> Outcome:
    """Play it. Raises NodeError when something that it needs is missing or does not work."""
    # A young repository may have nothing but a large commit; it should not be all of the demo.
    hunks = recent_hunks(
        repository, HUNKS, project=project_id(repository), taken_per_commit=TAKEN_PER_COMMIT
    )
    if len(hunks) < HUNKS_MIN:
        raise DemoError(f"{repository.resolve()} has too little history for a demo; name another")
    say(f"{len(hunks)} edits from the history of {repository.resolve().name}")
    with stage(say) as acted:
        return _play(acted, hunks, say)


@contextmanager
def stage(say: Say) -> Iterator[Stage]:
    """A hub and two devices in a temporary folder; everything is stopped and removed at the end."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="localmem-demo-")))
        home = root / "hub"
        home.mkdir(mode=0o700)
        hub = Hub(home)
        stack.callback(hub.stop)
        say(f"hub: its own process, port {hub.port}, no key")
        key = secrets.token_bytes(32)
        devices: list[Device] = []
        for name in ("A", "B"):
            wire = Wire("127.0.0.1", hub.port)
            stack.callback(wire.close)
            device = Device(name, root / name.lower(), wire, POOL, key, hub.token(POOL))
            stack.callback(device.stop)
            say(f"device {name}: daemon started, id {device.id}")
            devices.append(device)
        yield Stage(hub, *devices)


def _play(acted: Stage, hunks: Sequence[Hunk], say: Say) -> Outcome:
    a, b = acted.a, acted.b
    online = hunks[: len(hunks) * 2 // 3]
    rest = hunks[len(online) :]
    ids = _record(a, online, say)
    _settle(a, b, len(online), say)
    _ask(a, online, ids, say)

    b.wire.pull()
    b.until(lambda status: status["services"]["sync"]["state"] == "offline", "a cut", WAIT_S)
    say("cable of B pulled; both go on")
    on_a, on_b = rest[::2], rest[1::2]
    ids_on_a = _record(a, on_a, say)
    _record(b, on_b, say)
    if set(ids_on_a) & set(b.order(len(hunks))):
        raise DemoError("B has what A recorded while B was cut off: the cable was not cut")
    b.wire.plug()
    say("cable of B plugged in again")
    _settle(b, a, len(hunks), say)

    order = a.order(len(hunks))
    same = order == b.order(len(hunks)) and len(order) == len(hunks)
    say(f"order: {len(order)} events on A, the same on B: {'yes' if same else 'NO'}")
    found = _found(b, on_a or online, ids_on_a or ids, say)
    plain = _plain_lines(acted, hunks)
    say(f"in the clear, in the hub's files or the ring files: {plain or 'nothing'}")
    share = acted.wire_bytes / max(1, sum(len(one.draft.snippet.encode()) for one in hunks))
    say(f"over the wire: {acted.wire_bytes} bytes both ways ({share:.2f} × the text recorded)")
    return Outcome(len(order), same, found, acted.wire_bytes, bool(plain))


def _record(device: Device, hunks: Sequence[Hunk], say: Say) -> list[str]:
    def progress(done: int) -> None:
        say(f"device {device.name}: {done} of {len(hunks)} recorded, sealed and synced to disk")

    return device.record([one.draft for one in hunks], progress)


def _settle(first: Device, other: Device, events: int, say: Say) -> None:
    """Synchronise both, until both hold everything and have encoded it."""
    for device in (first, other, first):
        status = device.sync(WAIT_S)
        if not status["settled"]:
            raise DemoError(f"device {device.name} does not synchronise: {status['error']}")
    for device in (first, other):
        device.until(lambda s: s["events"] == events, f"holding {events} events", WAIT_S)
        device.until(lambda s: s["encoder"]["waiting"] == 0, "encoding", WAIT_S)
    say(f"both devices hold {events} events")


def _ask(device: Device, hunks: Sequence[Hunk], ids: Sequence[str], say: Say) -> None:
    """Show what real commit subjects find. `ids` are those of the hunks, as they were recorded."""
    hits = asked = 0
    for subject in _subjects(hunks):
        of_it = {name for one, name in zip(hunks, ids, strict=True) if one.subject == subject}
        answer = device.query(cleaned_subject(subject), 3)
        best = answer["events"][0] if answer["events"] else None
        hit = any(event["id"] in of_it for event in answer["events"])
        hits, asked = hits + hit, asked + 1
        where = _place(best) if best else "nothing"
        say(f'  "{subject[:56]}" → {where} ({answer["took_ms"]:.1f} ms)')
    say(f"device {device.name}: {hits} of {asked} commit subjects found their own edit in 3")


def _subjects(hunks: Sequence[Hunk]) -> list[str]:
    """Some subjects, spread over the history."""
    subjects = list(dict.fromkeys(one.subject for one in hunks if cleaned_subject(one.subject)))
    step = max(1, len(subjects) // QUERIES)
    return subjects[::step][:QUERIES]


def _found(device: Device, hunks: Sequence[Hunk], ids: Sequence[str], say: Say) -> bool:
    """Whether a search on one device finds what another wrote, asked in the edit's own words.

    By its id: what looks like a secret is not in the text that was recorded.
    """
    written = list(zip(hunks, ids, strict=True))
    chosen = written[:: max(1, len(written) // QUERIES)][:QUERIES]
    hits = 0
    for hunk, name in chosen:
        answer = device.query(hunk.draft.snippet[:400], 10)
        hits += any(event["id"] == name for event in answer["events"])
    say(f"device {device.name}: finds {hits} of {len(chosen)} edits that only A recorded")
    return hits == len(chosen)


def _plain_lines(acted: Stage, hunks: Sequence[Hunk]) -> int:
    """Lines of the snippets that stand in the files of the hub or in either ring file."""
    files = [path for path in acted.hub.home.rglob("*") if path.is_file()]
    files += [acted.a.store_path, acted.b.store_path]
    # A ring is laid out in full when it is made: leave out what was never written.
    data = b"\0".join(_ZEROS.sub(b"\0", path.read_bytes()) for path in files)
    return sum(line in data for line in set(_lines(hunks)))


def _lines(hunks: Sequence[Hunk]) -> Iterable[bytes]:
    for hunk in hunks:
        for line in hunk.draft.snippet.splitlines():
            if len(text := line.strip()) >= PLAIN_CHARACTERS_MIN:
                yield text.encode()


def _place(event: dict[str, Any]) -> str:
    lines = event["selectionRange"]
    return f"{event['filePath']}:{lines[0]}" if lines else str(event["filePath"])
