"""Checks of an installation: each says what it found, and what to do if that is a problem."""

from localmem_node.doctor.check import Check as Check
from localmem_node.doctor.installation import checks as checks
