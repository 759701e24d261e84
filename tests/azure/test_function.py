"""The function through Azure's library: what it shows its host, and what it answers whom."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import httpx2

from localmem_node.config import HubSettings
from localmem_node.sync.choosing import AutomaticTransport, open_transport
from localmem_node.sync.http_transport import HttpConnection
from localmem_node.system import SystemClock, SystemRandom
from localmem_protocol.exchange import Body, encode_body
from localmem_protocol.frames import CAPABILITIES, PROTOCOL, Close, Hello, Resume, encode_frame
from localmem_protocol.limits import EXCHANGE_BYTES_MAX
from support.azure_hub import AzureHub
from support.described import check_described
from support.http_client import HttpClient
from support.sync_node import ONE, TWO, HubNode, settled
from support.waiting import until


def device(hub: AzureHub, pool: str, name: str = ONE) -> HttpClient:
    return HttpClient(hub.http_url, pool, name, hub.token(pool, name))


def test_the_host_is_shown_one_route_for_everything_and_one_timer(hub: AzureHub) -> None:
    found = hub.app.functions()
    assert set(found) == {"requests", "care"}
    trigger, answer = found["requests"]
    assert (trigger["type"], trigger["route"], trigger["authLevel"].lower()) == (
        "httpTrigger",
        "{*path}",
        "anonymous",
    )
    assert set(trigger["methods"]) == {"GET", "POST", "PUT", "DELETE"}
    assert answer["type"] == "http"
    (timer,) = found["care"]
    assert (timer["type"], timer["schedule"]) == ("timerTrigger", "0 */30 * * * *")


async def test_it_is_the_hub_without_websocket(hub: AzureHub) -> None:
    async with httpx2.AsyncClient(trust_env=False, base_url=hub.http_url) as client:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            answer = await client.get(path)
            assert answer.status_code == 200
            check_described("GET", path, answer)
        token = hub.token("shown", ONE)
        headers = {"Authorization": f"Bearer {token}", "X-Localmem-Device": ONE}
        answer = await client.get("/v1/sync/shown", headers=headers)
        check_described("GET", "/v1/sync/shown", answer)
        assert answer.json()["transports"] == ["http"]
        assert (await client.get("/v1/nothing")).status_code == 404
        assert (await client.get("/v1/yjs/room")).status_code == 404


async def test_devices_that_are_given_its_address_find_the_way_and_converge(hub: AzureHub) -> None:
    nodes = [HubNode(hub, name) for name in (ONE, TWO)]
    async with nodes[0].running() as one, nodes[1].running() as two:
        await settled(one, two)
        for number in range(10):
            for node in nodes:
                node.log.happen(f"{node.log.device} {number}")
        await settled(one, two)
        await settled(one, two)
        await until(lambda: all(len(node.log.events) == 20 for node in nodes))
    assert set(nodes[0].log.events) == set(nodes[1].log.events)


async def test_a_device_takes_single_requests_without_being_told(hub: AzureHub) -> None:
    settings = HubSettings(hub.http_url, hub.token("way", ONE), "way", bytes(32))
    transport = open_transport(settings, SystemClock(), SystemRandom())
    assert isinstance(transport, AutomaticTransport)
    async with transport.connect(ONE) as connection:
        assert isinstance(connection, HttpConnection)


async def test_an_idle_poll_is_one_small_304(hub: AzureHub) -> None:
    async with device(hub, "idle") as one:
        await one.greet()
        await one.write(b"something")
        answer = await one.poll()
        assert (answer.status, answer.content) == (304, b"")
        assert answer.headers["ETag"] == f'"{one.position}"'
        assert sum(len(name) + len(text) + 4 for name, text in answer.headers.raw) < 250
        waiting = await one.poll(wait=25)  # it is not let wait: the host is paid by the second
        assert waiting.status == 304


async def test_the_timer_sees_to_what_is_due(hub: AzureHub) -> None:
    async with httpx2.AsyncClient(trust_env=False, base_url=hub.http_url) as client:
        made = (await client.post("/v1/mailboxes")).json()
        assert hub.app.run_timer() == 202
        bearer = {"Authorization": f"Bearer {made['secret']}"}
        box = f"/v1/mailboxes/{made['number']}/0"
        assert (await client.get(box, headers=bearer)).status_code == 204  # not yet over


async def test_what_is_not_right_is_told_so_and_changes_nothing(hub: AzureHub) -> None:
    async with device(hub, "wrong") as one:
        await one.greet()
        assert isinstance(one.resume, Resume)
        hello = encode_body(Body((encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 0)),)))

        async def refused(content: bytes, **headers: str) -> tuple[int, int]:
            answer = await one.send(content, **headers)
            return answer.status, answer.code

        assert await refused(hello, Content_Type="text/plain") == (415, Close.BAD_FRAME)
        assert await refused(hello, Content_Encoding="gzip") == (415, Close.BAD_FRAME)
        assert await refused(hello[:-3]) == (400, Close.BAD_FRAME)
        assert await refused(b"") == (400, Close.BAD_FRAME)
        assert await refused(bytes(EXCHANGE_BYTES_MAX + 1)) == (413, Close.TOO_LARGE)
        assert await refused(hello, Authorization="Bearer lmt_a_b") == (401, Close.BAD_TOKEN)
        for path in (one.path, f"{one.path}/updates"):
            answer = await one.http.get(f"{path}?token={one.token}", headers=one.headers)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (401, Close.BAD_TOKEN)
            assert "URL" in error["message"]
        assert (await one.write(b"undisturbed")).status == 200
    assert hub.rows("wrong") == 1
    assert one.token not in hub.app.log.read_text()


async def test_half_a_request_reaches_no_function(hub: AzureHub) -> None:
    async with device(hub, "half") as one:
        await one.greet()
        assert isinstance(one.resume, Resume)
        body = encode_body(Body((encode_frame(one.resume), encode_frame(one.update(b"never")))))
        lines = ["POST /v1/sync/half HTTP/1.1", "Host: hub", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {text}" for name, text in one.headers.items()]
        lines += ["Content-Type: application/octet-stream", "", ""]
        where = urlsplit(hub.http_url)
        for cut in (0, 1, len(body) - 1):
            with socket.create_connection((where.hostname, where.port), 20) as raw:
                raw.sendall("\r\n".join(lines).encode() + body[:cut])
                raw.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(raw.recv, 65536) == b""
        one.clock -= 1
        assert (await one.write(b"whole")).status == 200
    assert hub.rows("half") == 1


async def test_addresses_are_those_that_the_front_of_the_host_saw(hub: AzureHub) -> None:
    # Each address may try so many mailboxes: what a client writes into the header itself is not one.
    async with httpx2.AsyncClient(trust_env=False, base_url=hub.http_url) as client:
        for number in range(100):
            headers = {"X-Forwarded-For": f"192.0.2.{number}"}
            answer = await client.post("/v1/mailboxes/1/join", headers=headers)
            if answer.status_code == 429:
                return
            assert answer.status_code == 404
    raise AssertionError("nobody was ever told to wait")
