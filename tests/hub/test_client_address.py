"""Whose address counts: that of the connection, or what named proxies say in a named header."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localmem_hub.app import Policy
from localmem_hub.client_address import Proxies
from localmem_hub.errors import ConfigError
from localmem_hub.mailboxes import OPENING
from localmem_hub.settings import load_settings
from support.served_hub import ServedHub, serving

HEADER = "X-Forwarded-For"
PROXIES = Proxies.parse(HEADER, "10.0.0.0/8, 2001:db8::/32, 127.0.0.1")
assert PROXIES is not None


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),  # no proxy: it may say what it likes
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),  # the client's own invention
        ("10.1.1.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1, 10.2.2.2"], "198.51.100.1"),  # two proxies
        ("10.1.1.1", ["203.0.113.9, 10.9.9.9, 198.51.100.1, 10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1,  10.2.2.2 ,10.3.3.3"], "198.51.100.1"),
        ("10.1.1.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),  # a client among the proxies
        ("10.1.1.1", ["198.51.100.1, unknown"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1, unknown, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["198.51.100.1,"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.1.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("10.1.1.1", ["[2001:db9::1]"], "2001:db9::1"),
        ("10.1.1.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8::5", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db9::5", ["198.51.100.1"], "2001:db9::5"),
        ("", ["198.51.100.1"], ""),
        ("10.1.1.1", ["198.51.100.1, " + ", ".join(["10.2.2.2"] * 500)], "10.2.2.2"),
        ("10.1.1.1", ["127.0.0.1\r\n, 0x7f.1"], "10.1.1.1"),
    ],
)
def test_only_what_named_proxies_say_counts(peer: str, said: list[str], client: str) -> None:
    assert PROXIES is not None
    assert PROXIES.client_of(peer, said) == client


@pytest.mark.parametrize(
    ("header", "networks", "named"),
    [
        (HEADER, "", "trusted_proxies"),
        ("", "10.0.0.0/8", "client_header"),
        ("X Forwarded", "10.0.0.0/8", "client_header"),
        (HEADER, "10.0.0.1/8", "trusted_proxies"),
        (HEADER, "proxy", "trusted_proxies"),
        (HEADER, "0.0.0.0/0", "trusted_proxies"),
        (HEADER, "10.0.0.0/8, ::/0", "trusted_proxies"),
    ],
)
def test_a_setting_that_trusts_nobody_or_everybody_is_named(
    header: str, networks: str, named: str
) -> None:
    told = {"LOCALMEM_HUB_CLIENT_HEADER": header, "LOCALMEM_HUB_TRUSTED_PROXIES": networks}
    with pytest.raises(ConfigError, match=named):
        _ = load_settings(told, Path("/home/someone")).proxies


async def opened(hub: ServedHub, times: int, header: str = HEADER) -> list[int]:
    """How requests are answered that all say that they are from elsewhere."""
    found = []
    for number in range(times):
        headers = {header: f"198.51.100.{number}", "Forwarded": f"for=198.51.100.{number}"}
        found.append((await hub.ask("POST", "/v1/mailboxes", headers=headers)).status_code)
    return found


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with serving(tmp_path) as served:
        yield served


async def test_no_header_is_believed_unless_told_so(hub: ServedHub) -> None:
    times = OPENING.burst
    assert await opened(hub, times + 1) == [201] * times + [429]


async def test_a_named_proxy_is_believed_in_its_header_alone(tmp_path: Path) -> None:
    times = OPENING.burst
    policy = Policy(proxies=Proxies.parse(HEADER, "127.0.0.0/8"))
    async with serving(tmp_path, policy=policy) as hub:
        assert await opened(hub, times + 5) == [201] * (times + 5)
        assert await opened(hub, times + 1, "X-Real-IP") == [201] * times + [429]


async def test_a_header_from_elsewhere_than_the_proxies_is_not_believed(tmp_path: Path) -> None:
    times = OPENING.burst
    policy = Policy(proxies=Proxies.parse(HEADER, "192.0.2.0/24"))
    async with serving(tmp_path, policy=policy) as hub:
        assert await opened(hub, times + 1) == [201] * times + [429]
