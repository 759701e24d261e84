"""How often an address may ask for something that needs no account: token buckets in memory.

Each process counts for itself; what must hold for all of them together is bounded in the database.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass

from starlette.requests import Request

from localmem_hub.http_requests import Problem, peer_of
from localmem_hub.limits import ADDRESSES_MAX
from localmem_protocol.seams import Clock


@dataclass(frozen=True)
class Rate:
    """So many at once, and after that one each `seconds`."""

    burst: int
    seconds: float


class RateLimit:
    """One bucket per address: `Rate.burst` requests, refilled over time."""

    def __init__(self, rate: Rate, clock: Clock, addresses_max: int = ADDRESSES_MAX) -> None:
        self._rate = rate
        self._clock = clock
        self._addresses_max = addresses_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, at

    def wait_s(self, address: str) -> float:
        """Take one; 0 if there was one, else the seconds until there is."""
        now = self._clock.monotonic_s()
        left, at = self._buckets.pop(address, (float(self._rate.burst), now))
        left = min(self._rate.burst, left + (now - at) / self._rate.seconds)
        wait = 0.0 if left >= 1 else (1 - left) * self._rate.seconds
        self._buckets[address] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > self._addresses_max:
            self._buckets.popitem(last=False)
        return wait

    def check(self, request: Request) -> None:
        """Let a request pass. Raises Problem."""
        wait = self.wait_s(address_of(peer_of(request)))
        if wait:
            headers = {"Retry-After": str(math.ceil(wait))}
            raise Problem(429, "too_many", "too many requests from this address", headers=headers)


def address_of(host: str) -> str:
    """What counts as one address: of IPv6 the /64, which is what a customer gets."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)
