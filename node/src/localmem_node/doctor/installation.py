"""The checks of a node, in order: settings, daemon, store, encoder, editors, hub."""

from __future__ import annotations

import platform
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localmem_node import __version__
from localmem_node.client import DaemonClient
from localmem_node.config import EncoderSettings, HubSettings, Settings, load_settings
from localmem_node.daemon.state import DaemonState
from localmem_node.doctor.check import Check
from localmem_node.doctor.editors import editor_checks
from localmem_node.doctor.pools import ASK, pool_checks
from localmem_node.errors import NodeError
from localmem_node.sync.pool_files import has_pools
from localmem_node.sync.troubles import problems_of
from localmem_node.system import SystemClock
from localmem_protocol.errors import ProtocolError

if TYPE_CHECKING:
    from localmem_node.seams import KeyStore

_CLOCK: Final = SystemClock()

DAMAGE_SHOWN_MAX: Final = 5
"""Places of damage that are told one by one."""


def checks(environment: Mapping[str, str]) -> Iterator[Check]:
    """Every check, as it is made. Changes nothing; starts no daemon, makes no store."""
    try:
        settings = load_settings(environment)
    except NodeError as error:
        yield Check("settings", False, str(error), "correct the setting that is named")
        return
    found = "found" if settings.config_path.exists() else "none, defaults hold"
    yield Check("settings", True, f"{settings.config_path}: {found}")
    with DaemonClient(environment, start=False) as client:
        yield from _daemon(client, settings)
        state, status = _running(client)
    shipped = settings.encoder.model is None
    advice = (
        "reinstall: pip install --force-reinstall localmem-minilm" if shipped else "see the message"
    )
    yield _guarded("encoder", lambda: _encoder(settings.encoder), advice)
    yield from editor_checks(settings, environment, state, status)
    yield from pool_checks(settings, status)
    if settings.hub is not None or not has_pools(settings):
        yield from _hub(settings.hub, status)


def _daemon(client: DaemonClient, settings: Settings) -> Iterator[Check]:
    python = f"localmem {__version__}, Python {platform.python_version()}, {sys.platform}"
    try:
        state = client.running()
        status = client.status() if state else None
    except NodeError as error:
        yield Check("versions", True, python)
        yield Check("daemon", False, str(error), f"run: localmem down; see {settings.log_path}")
        return
    if state is None or status is None:
        yield Check("versions", True, python)
        yield Check("daemon", True, "not running; the first record or query starts it")
        yield _closed_store(settings)
        return
    same = state.version == __version__
    advice = "" if same else "run: localmem down; the next call starts the installed version"
    yield Check("versions", same, f"{python}; the daemon is {state.version}", advice)
    yield Check("daemon", True, f"answers: pid {state.pid}, port {state.port}")
    yield _permissions(Path(state.socket), settings)
    store, encoder = status["store"], status["encoder"]
    damaged = client.call("POST", "/v1/verify", {})["damaged"]
    yield _store(f"{store['path']}: {status['events']} events", damaged)
    yield Check("key", True, store["key"])
    if encoder["problem"]:
        yield Check("daemon encoder", False, encoder["problem"], "run: localmem down, then up")


def _permissions(socket: Path, settings: Settings) -> Check:
    loose = [
        f"{path} is {stat.S_IMODE(path.stat().st_mode):04o}, not {mode:04o}"
        for path, mode in ((socket, 0o600), (socket.parent, 0o700), (settings.runtime_dir, 0o700))
        if stat.S_IMODE(path.stat().st_mode) != mode
    ]
    if loose:
        return Check("socket", False, "; ".join(loose), "run: localmem down, then up")
    return Check("socket", True, f"{socket}: only this user")


def _closed_store(settings: Settings) -> Check:
    from localmem_node.store.keys import choose_keystore
    from localmem_node.store.opening import open_event_store
    from localmem_node.system import SystemRandom

    try:
        keystore = choose_keystore(passphrase=settings.passphrase, key_file=settings.key_file)
        if not settings.store_path.exists():
            _check_key_place(settings, keystore)
            path = settings.store_path
            none = f"none yet; the first event makes {path}; key: {keystore.location}"
            return Check("store", True, none)
        store = open_event_store(settings.store_path, keystore, SystemRandom(), create=False)
        try:
            store.verify()
            stats, lost = store.stats(), [one._asdict() for one in store.damage()]
        finally:
            store.close()
    except NodeError as error:
        return Check("store", False, str(error), "see the message")
    damaged = [
        {"records": one["records"], "after": one["after_ms"], "before": one["before_ms"]}
        for one in lost
    ]
    return _store(f"{stats.path}: {stats.events} events; key: {stats.key_location}", damaged)


def _store(found: str, damaged: Sequence[Mapping[str, Any]]) -> Check:
    """`damaged` are counts of records between two moments in ms, as `Maintenance.verify` says."""
    if not damaged:
        return Check("store", True, f"{found}; all of it was read, nothing is damaged")
    where = "; ".join(
        f"{one['records']} records between {_moment(one['after'], 'the beginning')} "
        f"and {_moment(one['before'], 'now')}"
        for one in damaged[:DAMAGE_SHOWN_MAX]
    )
    more = len(damaged) - DAMAGE_SHOWN_MAX
    if more > 0:
        where += f"; {more} more places"
    lost = sum(one["records"] for one in damaged)
    return Check(
        "store",
        False,
        f"{found}; {lost} damaged records: {where}",
        "check the disk; these records cannot be read, all others can",
    )


def _moment(ms: int | None, otherwise: str) -> str:
    if ms is None:
        return otherwise
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def _check_key_place(settings: Settings, keystore: KeyStore) -> None:
    """Whether the first event will find a place for its key; keeps none. Raises KeyUnavailable."""
    from localmem_node.store import keys

    if settings.key_file is not None and settings.key_file.exists():
        keystore.get(b"")
    if settings.key_file is None and settings.passphrase is None:
        keys.keychain()


def _encoder(settings: EncoderSettings) -> str:
    from localmem_node.encoders import choose_encoder

    encoder = choose_encoder(settings)
    began = _CLOCK.monotonic_s()
    vectors = encoder.encode(["where is the retry limit set"])
    if vectors.shape != (1, encoder.dimensions):
        raise NodeError(f"the model gives vectors of shape {vectors.shape}")
    return f"{encoder.fingerprint}: loaded in {1000 * (_CLOCK.monotonic_s() - began):.0f} ms"


def _running(client: DaemonClient) -> tuple[DaemonState | None, dict[str, Any] | None]:
    """The daemon that runs, if one does, and what it says of itself."""
    try:
        state = client.running()
        return state, client.status() if state else None
    except NodeError:
        return None, None


def _hub(hub: HubSettings | None, status: Mapping[str, Any] | None) -> Iterator[Check]:
    """What the hub says of the token, and what the daemon says of its last attempt to sync."""
    if hub is None:
        yield Check("hub", True, "not set up; this device keeps its memory to itself")
        return
    from localmem_node.sync.probe import probe
    from localmem_node.sync.remedy import remedy

    try:
        yield Check("hub", True, probe(hub, status["device"] if status else None))
    except (NodeError, ProtocolError) as error:
        yield Check("hub", False, str(error), remedy(error, hub) or "see the message")
    if status is not None:
        yield _sync(status["services"].get("sync"))


def _sync(status: Mapping[str, Any] | None) -> Check:
    if status is None:
        return Check("sync", False, "the daemon runs without the hub", "run: localmem down")
    if status["error"]:
        return Check("sync", False, status["error"], "do so, then run: localmem sync")
    if status["unreadable"]:
        found = f"{status['unreadable']} batches do not open: another pool key, or altered"
        return Check("sync", False, found, "compare the pool's key with that of another device")
    if told := "; ".join(problems_of(status)):
        return Check("sync", False, told, ASK)
    only = "; it may only read: what is recorded here stays here" if status["read_only"] else ""
    return Check("sync", True, f"{'in sync' if status['settled'] else status['state']}{only}")


def _guarded(name: str, check: Callable[[], str], advice: str) -> Check:
    try:
        return Check(name, True, check())
    except NodeError as error:
        return Check(name, False, str(error), advice)
    except Exception as error:  # a broken install fails in ways of its own
        return Check(name, False, f"{type(error).__name__}: {error}", advice)
