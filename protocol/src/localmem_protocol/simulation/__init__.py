"""A deterministic simulation of devices and a hub, for tests of this and of your own changes."""

from localmem_protocol.simulation.explore import SeededRandom, explore
from localmem_protocol.simulation.memory import MemoryJournal, MemoryLog
from localmem_protocol.simulation.world import InvariantError, World

__all__ = ["InvariantError", "MemoryJournal", "MemoryLog", "SeededRandom", "World", "explore"]
