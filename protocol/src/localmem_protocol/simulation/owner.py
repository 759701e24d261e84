"""What owners of a simulated pool do to its roster, on their devices.

A change is one signed entry, made for the roster as the device knows it, and taken by the hub at the end
of its list or not at all (`roster_view.Change`). Somebody who hears nothing asks again later, and looks
first whether it was done: an answer may have been lost, or the device have died after it had asked.

Nobody changes the roster of a hub that was restored before it has again what others know of it. In
production nothing keeps people from it; then there are two histories, and devices refuse the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from localmem_protocol.chain import Roster
from localmem_protocol.entries import Entry, Role, encode_entry
from localmem_protocol.errors import RosterError
from localmem_protocol.roster import Author, remove, rotate, set_role
from localmem_protocol.roster_view import Change
from localmem_protocol.simulation.clock import SECOND, START_MS
from localmem_protocol.simulation.device import SimulatedDevice
from localmem_protocol.simulation.inquiries import pack, unpack
from localmem_protocol.simulation.people import People
from localmem_protocol.simulation.streams import SeededRandom

AGAIN_US: Final = 20 * SECOND
"""When somebody tries again who heard nothing."""


@dataclass(frozen=True)
class Wish:
    """A change of the roster that somebody wants. `granted` says whether it is so."""

    what: str
    make: Callable[[Roster, Author], Entry]
    granted: Callable[[Roster], bool]
    fatal: bool = False  # the device dies when it has asked


class Owner:
    """The owner behind one device: one change after the other."""

    def __init__(
        self,
        device: SimulatedDevice,
        people: People,
        stream: SeededRandom,
        whole: Callable[[], bool],
    ) -> None:
        """`whole` is whether the hub has all that somebody can bring back: before that nothing is changed."""
        self.device = device
        self._whole = whole
        self._people, self._stream = people, stream
        self._wishes: list[Wish] = []
        self._change: Change | None = None
        self._busy = False

    @property
    def content(self) -> bool:
        """Whether all is as it was wanted."""
        return not self._wishes

    def wants(self, what: str) -> bool:
        """Whether a wish of this name waits."""
        return any(wish.what == what for wish in self._wishes)

    def rotate(self, *, fatal: bool = False) -> None:
        """Begin a new epoch, unless another owner does so meanwhile."""
        before = self.device.view.epoch
        stream = self._stream
        self._want(
            Wish(
                "rotate",
                lambda roster, author: rotate(roster, author, stream, START_MS),
                lambda roster: bool(before) and roster.epoch > before,
                fatal,
            )
        )

    def remove(self, device: str) -> None:
        """Send a device away."""
        stream = self._stream
        self._want(
            Wish(
                f"remove {device}",
                lambda roster, author: remove(roster, author, stream, START_MS, device),
                lambda roster: device not in roster.members,
            )
        )

    def admit(self, device: str) -> None:
        """Let a device in."""
        stream = self._stream
        self._want(
            Wish(
                f"admit {device}",
                lambda roster, author: self._people.admit(roster, author, stream, device),
                lambda roster: device in roster.members,
            )
        )

    def set_role(self, device: str, role: Role) -> None:
        """Give a member another role."""
        stream = self._stream

        def granted(roster: Roster) -> bool:
            member = roster.members.get(device)
            return member is None or member.role == role

        self._want(
            Wish(
                f"make {device} a {role}",
                lambda roster, author: set_role(roster, author, stream, START_MS, device, role),
                granted,
            )
        )

    def _want(self, wish: Wish) -> None:
        self._wishes.append(wish)
        self.device.note(f"wants to {wish.what}")
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = bool(self._wishes)
        self._change = None
        if self._busy:
            self._look()

    def _look(self) -> None:
        self.device.look(self._looked)

    def _looked(self, known: bool) -> None:
        if not known or not self._whole():  # else there were two histories
            return self._later()
        wish, view = self._wishes[0], self.device.view
        if wish.granted(view.roster) or view.place != "owner":
            del self._wishes[0]
            return self._begin()
        if self._change is None:
            author = self._people.author(view.device)
            self._change = Change(view, lambda roster: wish.make(roster, author))
        try:
            entry = self._change.propose()
        except RosterError as error:
            self.device.note(f"cannot {wish.what}: {error}")
            del self._wishes[0]
            return self._begin()
        if entry is None:
            return self._later()
        self.device.ask(pack(("append", entry.index, encode_entry(entry))), self._asked)
        if wish.fatal:
            self._wishes[0] = Wish(wish.what, wish.make, wish.granted)
            self.device.note("dies after asking for it")
            self.device.fall()
        return None

    def _asked(self, answer: bytes | None) -> None:
        if answer is None or self._change is None:
            return self._later()
        taken = unpack(answer) == ["appended", True]
        if self.device.attempt(lambda: self._told(taken=taken)) is None:
            self._later()
        return None

    def _told(self, *, taken: bool) -> bool:
        assert self._change is not None
        done = self._change.answered(taken=taken)
        if done:
            self.device.note(f"did {self._wishes[0].what}")
            del self._wishes[0]
            self._begin()
        else:
            self.device.note("another owner was faster")
            self._look()
        return done

    def _later(self) -> None:
        """Look again, from the beginning: the process may be another one."""
        self._change = None
        self.device.later(AGAIN_US, self._look)
