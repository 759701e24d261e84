"""A deterministic simulation of devices and a hub, for tests of this and of your own changes.

`simulate` plays days in virtual time, with faults and an oracle, from a seed to a report; `World` is
a small world in which the caller chooses every step, and `explore` chooses them by a seed.
"""

from localmem_protocol.simulation.explore import explore
from localmem_protocol.simulation.faults import FAULTS
from localmem_protocol.simulation.memory import MemoryJournal, MemoryLog
from localmem_protocol.simulation.participants import (
    DeviceSide,
    HubSide,
    Implementation,
    Witness,
)
from localmem_protocol.simulation.production import PRODUCTION
from localmem_protocol.simulation.report import Report
from localmem_protocol.simulation.simulator import Settings, Simulation, drawn, simulate
from localmem_protocol.simulation.streams import SeededRandom
from localmem_protocol.simulation.world import InvariantError, World

__all__ = [
    "FAULTS",
    "PRODUCTION",
    "DeviceSide",
    "HubSide",
    "Implementation",
    "InvariantError",
    "MemoryJournal",
    "MemoryLog",
    "Report",
    "SeededRandom",
    "Settings",
    "Simulation",
    "Witness",
    "World",
    "drawn",
    "explore",
    "simulate",
]
