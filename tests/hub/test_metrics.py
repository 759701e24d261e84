"""Numbers for Prometheus, and what they do not say."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bench.postgres_server import PostgresServer
from localmem_hub.app import Policy
from localmem_hub.counts import Histogram, Passed, Tally
from localmem_hub.system import SystemRandom
from localmem_protocol.frames import Close, Update
from support.http_client import HttpClient
from support.hub_process import running_hub
from support.plain_client import PlainClient
from support.served_hub import ServedHub, scrape, serving
from support.sync_client import RawClient, close_code, dial

POOL, ROOM = "team", "notes"
ONE, TWO = f"{1:016x}", f"{2:016x}"
SECRET = b"what nobody is to read"

Numbers = dict[str, float]


def parse(text: str) -> Numbers:
    """`name{label="value"}` -> number."""
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def numbers(served: ServedHub) -> Numbers:
    text = (await scrape(served)).text
    assert POOL not in text
    assert ONE not in text
    return {name.removeprefix("localmem_hub_"): value for name, value in parse(text).items()}


async def test_everything_that_happens_is_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, policy=Policy(plain_workers=1)) as hub, asyncio.timeout(60):
        make = hub.store.tokens.create
        before = await numbers(hub)
        assert before["connections{kind=sealed}"] == before["updates_stored_total"] == 0
        text = make(POOL, ONE, "writer", SystemRandom(), 1).text
        raw = await RawClient.join(hub.url, POOL, ONE, text)
        for number in range(3):
            await raw.write(bytes(100))
            await raw.acknowledged(number + 1)  # or they might be stored as one
        plain = make(ROOM, None, "writer", SystemRandom(), 1, kind="plain").text
        client = await PlainClient.join(hub.url, ROOM, plain, client=1)
        await client.write()
        await client.synchronise()
        now = await numbers(hub)
        assert now["connections{kind=sealed}"] == now["connections{kind=plain}"] == 1
        assert now["rooms{kind=sealed}"] == now["rooms{kind=plain}"] == 1
        assert now["updates_stored_total"] == 4
        assert now["bytes_stored_total"] > 300
        assert now["frames_received_total{transport=sealed}"] == 4  # Hello, and three updates
        assert now["bytes_received_total{transport=sealed}"] > 300
        assert now["frames_sent_total{transport=sealed}"] >= 3  # Welcome, Step1, Ack
        assert now["commit_seconds_count"] == now["commit_seconds_bucket{le=+Inf}"] >= 2
        assert now["check_failing{check=database}"] == 0
        assert now["disk_free_bytes"] > 0
        assert "replica_silence_seconds" not in now

        await raw.send(Update(b"no update"))
        assert await close_code(raw.socket) == Close.REFUSED_UPDATE
        socket = await dial(hub.url, POOL, ONE, "lmt_wrong")
        assert await close_code(socket) == Close.BAD_TOKEN
        assert (await hub.ask("POST", "/v1/auth", json={})).status_code == 400
        async with HttpClient(hub.origin, POOL, ONE, text) as device:
            await device.greet()
            await device.write(b"x")
        await client.leave()
        now = await numbers(hub)
        assert now["refused_total{reason=refused_update}"] == 1
        assert now["refused_total{reason=bad_token}"] == 1
        assert now["quarantined_total"] == 1
        assert sum(value for name, value in now.items() if "request_errors_total" in name) == 1
        assert now["exchanges_total"] == 3
        assert now["frames_received_total{transport=http}"] == 5
        assert now["connections_opened_total{kind=sealed}"] == 1
        assert now["frames_received_total{transport=sealed}"] == 5  # of those that are gone as well
        hub.store.failing.add(POOL)
        now = await numbers(hub)
        assert now["check_failing{check=database}"] == 1


async def test_a_commit_that_fails_is_counted_by_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as hub, asyncio.timeout(60):
        text = hub.store.tokens.create(POOL, ONE, "writer", SystemRandom(), 1).text
        raw = await RawClient.join(hub.url, POOL, ONE, text)
        hub.store.failing.add(POOL)
        await raw.write(b"lost")
        assert await close_code(raw.socket) == Close.STORE_FAILED
        now = await numbers(hub)
        assert now["commits_failed_total{code=commit}"] == 1
        assert now["rooms_discarded_total"] == 1
        assert now["refused_total{reason=store_failed}"] == 1


async def test_a_replica_says_how_long_it_has_not_heard_the_database(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    async with serving(tmp_path, postgres.prepared()) as hub:
        hub.clock.ms += 400
        now = await numbers(hub)
        assert 0 <= now["replica_silence_seconds"] < 0.5
        assert now["replica_rooms_behind"] == 0
        assert "disk_free_bytes" not in now


async def test_prometheus_gets_the_form_that_it_asks_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as hub:
        answer = await scrape(hub, "application/openmetrics-text; version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
        answer = await scrape(hub)
        assert answer.headers["content-type"].startswith("text/plain")


async def test_metrics_have_a_port_of_their_own_and_logs_have_no_content(tmp_path: Path) -> None:
    with running_hub(tmp_path, "--metrics", "0", "--log-format", "json", "--plain") as hub:
        lines = [json.loads(line) for line in hub.log.read_text().splitlines()]
        (told,) = [line for line in lines if line["event"] == "metrics"]
        assert told["host"] == "127.0.0.1"
        async with asyncio.timeout(60), httpx2.AsyncClient(trust_env=False) as client:
            text = hub.token(POOL, ONE)
            raw = await RawClient.join(hub.url, POOL, ONE, text)
            await raw.write(SECRET)
            await raw.acknowledged(1)
            await raw.send(Update(SECRET))
            await close_code(raw.socket)
            plain = hub.token(ROOM, kind="plain")
            writer = await PlainClient.join(hub.url, ROOM, plain, client=1)
            await writer.write(SECRET.decode())
            await writer.synchronise()
            await writer.send(SECRET)
            await writer.closed()
            own = f"http://127.0.0.1:{told['port']}"
            found = parse((await client.get(f"{own}/metrics")).text)
            assert found["localmem_hub_updates_stored_total"] == 2
            assert found["process_resident_memory_bytes"] > 1_000_000
            assert (await client.get(f"{hub.http_url}/metrics")).status_code == 404
            assert (await client.get(f"{own}/v1/sync/{POOL}")).status_code == 404
        assert hub.stop() == 0
        log = hub.log.read_text()
        events = [json.loads(line)["event"] for line in log.splitlines()]
        assert events.count("closed") == 2
        for secret in (SECRET.decode(), repr(SECRET), SECRET.hex(), text, plain):
            assert secret not in log
        assert re.search(r'"token": "[0-9a-f]{16}"', log)  # its id is no secret


@given(st.lists(st.floats(0, 20)), st.lists(st.floats(0.001, 10), min_size=1, unique=True))
def test_a_histogram_counts_each_value_once_under_the_first_bound_that_holds_it(
    values: list[float], bounds: list[float]
) -> None:
    histogram = Histogram(sorted(bounds))
    for value in values:
        histogram.observe(value)
    for place, bound in enumerate(histogram.bounds):
        assert sum(histogram.counts[: place + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_a_tally_keeps_what_passed_through_those_that_are_gone() -> None:
    tally, one, two = Tally(), Passed(1, 10, 2, 20), Passed()
    tally.begin(one)
    tally.begin(two)
    two.frames, two.bytes = 5, 50
    assert tally.traffic().connections == 2
    tally.end(one)
    tally.end(two)
    two.frames = 99  # nobody's any more
    traffic = tally.traffic()
    assert (traffic.connections, traffic.frames_in, traffic.bytes_in) == (0, 6, 60)
    assert (traffic.frames_out, traffic.bytes_out, tally.opened) == (2, 20, 2)
