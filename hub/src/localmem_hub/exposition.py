"""The hub's numbers for Prometheus, at `/metrics` on a port of their own. Needs the extra `metrics`.

    scrape ──▶ one look at the database (`health.py`) ──▶ the counts and gauges of this moment

Nothing is kept here: each scrape reads what the hub counts anyway (`counts.py`). No label names a pool,
a device or a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from localmem_hub import __version__
from localmem_hub.counts import Histogram, Traffic
from localmem_hub.health import CHECKS

if TYPE_CHECKING:
    from localmem_hub.app import Hub

PREFIX: Final = "localmem_hub_"


def metrics_app(hub: Hub) -> Starlette:
    """What is served on the port of the metrics."""
    numbers = _Numbers(hub)
    registry = CollectorRegistry()
    registry.register(numbers)
    ProcessCollector(registry=registry)
    GCCollector(registry)

    async def metrics(request: Request) -> Response:
        numbers.failing = await hub.health.failing()
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": kind})

    return Starlette(routes=[Route("/metrics", metrics)])


class _Numbers(Collector):
    """Everything about a hub, read when it is asked for. `failing` are the checks that fail."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.failing: list[str] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not look at the hub to know that names are free."""
        return []

    def collect(self) -> Iterator[Metric]:
        """As `prometheus_client` wants it."""
        info = InfoMetricFamily(PREFIX + "build", "The release that runs.")
        info.add_metric([], {"version": __version__})
        yield info
        yield from self._traffic()
        yield from self._work()
        yield from self._state()

    def _traffic(self) -> Iterator[Metric]:
        counts = self._hub.counts
        kinds = {"sealed": counts.sealed.traffic(), "plain": counts.plain.traffic()}
        now = {kind: traffic.connections for kind, traffic in kinds.items()}
        yield _gauge("connections", "WebSocket connections in rooms.", now, "kind")
        opened = {"sealed": counts.sealed.opened, "plain": counts.plain.opened}
        yield _counter(
            "connections_opened", "WebSocket connections that came into rooms.", opened, "kind"
        )
        yield _counter("exchanges", "Single requests that were answered.", counts.exchanges)
        one = counts.exchanged
        all_of_it = {
            **kinds,
            "http": Traffic(0, one.frames, one.bytes, one.frames_sent, one.bytes_sent),
        }
        for name, attribute, text in (
            ("frames_received", "frames_in", "Frames from devices."),
            ("bytes_received", "bytes_in", "Bytes of frames from devices."),
            ("frames_sent", "frames_out", "Frames to devices."),
            ("bytes_sent", "bytes_out", "Bytes of frames to devices."),
        ):
            values = {kind: getattr(traffic, attribute) for kind, traffic in all_of_it.items()}
            yield _counter(name, text, values, "transport")
        yield _counter("refused", "Who was sent away, by close code.", counts.refused, "reason")
        yield _counter(
            "request_errors", "Errors in answers to requests.", counts.request_errors, "code"
        )

    def _work(self) -> Iterator[Metric]:
        counts = self._hub.counts
        yield _counter("updates_stored", "Updates that were stored.", counts.updates_stored)
        yield _counter("bytes_stored", "Bytes of updates that were stored.", counts.bytes_stored)
        yield _counter("quarantined", "Updates that were refused and kept.", counts.quarantined)
        yield _histogram("commit_seconds", "How long commits took.", counts.commit_seconds)
        yield _counter(
            "commits_failed", "Commits that were given up.", counts.commits_failed, "code"
        )
        yield _counter("compactions", "Pools whose rows became a snapshot.", counts.compactions)
        yield _counter(
            "compactions_failed", "Compactions that were put off.", counts.compactions_failed
        )
        yield _counter(
            "rooms_discarded",
            "Rooms that were dropped with their connections, to load again.",
            counts.rooms_discarded,
        )

    def _state(self) -> Iterator[Metric]:
        hub = self._hub
        rooms = {"sealed": len(hub.rooms), "plain": len(hub.plain) if hub.plain else 0}
        yield _gauge("rooms", "Rooms in memory.", rooms, "kind")
        failing = {check: int(check in self.failing) for check in CHECKS}
        yield _gauge("check_failing", "The checks of /readyz: 1 fails.", failing, "check")
        yield _gauge(
            "database_round_trip_seconds",
            "A question to the database, by /readyz or this scrape.",
            hub.health.round_trip_s,
        )
        if (free := hub.store.free_bytes()) is not None:
            yield _gauge("disk_free_bytes", "Free on the disk of the database.", free)
        if hub.replication is not None:
            yield _gauge(
                "replica_silence_seconds",
                "Since the database was last heard; over 1 nobody is served.",
                hub.replication.silence_s,
            )
            yield _gauge(
                "replica_rooms_behind",
                "Rooms that lack what another replica stored.",
                hub.rooms.behind,
            )


def _gauge(
    name: str, text: str, values: float | Mapping[str, float], label: str | None = None
) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label] if label else [])
    for key, value in _pairs(values):
        family.add_metric(key, value)
    return family


def _counter(
    name: str, text: str, values: float | Mapping[str, float], label: str | None = None
) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label] if label else [])
    for key, value in _pairs(values):
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, values: Histogram) -> Metric:
    bounds = [*map(str, values.bounds), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(values.counts)), strict=True))
    family = HistogramMetricFamily(PREFIX + name, text)
    family.add_metric([], buckets, values.sum)
    return family


def _pairs(values: float | Mapping[str, float]) -> Iterator[tuple[list[str], float]]:
    if isinstance(values, Mapping):
        yield from (([key], value) for key, value in values.items())
    else:
        yield [], values
