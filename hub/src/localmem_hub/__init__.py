"""The hub: keeps the devices of a pool in sync, and cannot read what they say."""

__version__ = "0.1.0"
