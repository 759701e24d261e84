"""Where a request comes from: the address of the connection, unless that is a proxy which was named.

Rates are counted, and refusals noted, by address. Behind a proxy all connections come from it, and it
says in a header whose they are. Anybody can send such a header, so it is read only if the operator named
both the header and the networks of the proxies, and the connection comes from one of these. Each proxy
appends whom it saw to the right: what is right of the first address that is no proxy's was said by
proxies, what is left of it by the client, which may say anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from localmem_hub.errors import ConfigError

_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_WITH_PORT: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII
)
HOPS_MAX: Final = 32
"""Addresses of one header that are looked at, from the right; no chain of proxies is longer."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Proxies:
    """The header in which proxies say whom they speak for, and where these proxies are."""

    header: str
    networks: tuple[Network, ...]

    @classmethod
    def parse(cls, header: str, networks: str) -> Proxies | None:
        """Of two settings; None if both are empty. Raises ConfigError."""
        if not header and not networks.strip():
            return None
        if not _HEADER.fullmatch(header):
            raise ConfigError("client_header: name one header, such as X-Forwarded-For")
        try:
            found = tuple(ipaddress.ip_network(part.strip()) for part in networks.split(","))
        except ValueError as error:
            raise ConfigError(
                f"trusted_proxies: networks such as 10.0.0.0/8, with commas; {error}"
            ) from None
        if any(network.prefixlen == 0 for network in found):
            raise ConfigError("trusted_proxies: everybody would be a proxy; name their networks")
        return cls(header.lower(), found)

    def client_of(self, peer: str, said: Iterable[str]) -> str:
        """Whom a connection from `peer` is for, if its headers of that name say so."""
        client = peer
        address = _parse(peer)
        hops = [hop for value in said for hop in value.split(",")]
        for hop in reversed(hops[-HOPS_MAX:]):
            if address is None or not self._is_proxy(address):
                break
            address = _parse(hop.strip())
            if address is None:
                break  # "unknown", or nonsense: the proxy itself is the last that is known
            client = str(address)
        return client

    def _is_proxy(self, address: Address) -> bool:
        return any(address.version == one.version and address in one for one in self.networks)


class ClientAddress:
    """The application behind it sees the address of the client as that of the connection."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies
        self._header = proxies.header.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] in ("http", "websocket") and scope.get("client"):
            peer, _ = scope["client"]
            said = [
                text.decode("latin-1") for name, text in scope["headers"] if name == self._header
            ]
            client = self._proxies.client_of(peer, said)
            if client != peer:
                scope = dict(scope) | {"client": (client, 0)}
        await self._app(scope, receive, send)


def _parse(text: str) -> Address | None:
    """An address, with or without a port; of an IPv4 one in IPv6's clothes the former."""
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return mapped or address
