"""The port and the token that editors' settings name: they outlive the daemon, and say little."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem_node.client import DaemonClient
from localmem_node.config import Settings, load_settings
from localmem_node.daemon.endpoint import (
    HookEndpoint,
    endpoint_path,
    hook_path,
    is_held,
    make_endpoint,
    read_endpoint,
)
from localmem_node.errors import ConfigError
from support.daemon import daemons_of, environment, is_alive
from support.seeded import SeededRandom


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemons do not outlive the test."""
    home = tmp_path / "home"
    yield home
    for pid in daemons_of(home):
        os.kill(pid, signal.SIGKILL)


def settings_of(home: Path, **more: str) -> Settings:
    return load_settings(environment(home, **more))


def status_of(port: int, token: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        method = "POST" if path.startswith("/v1/hook") else "GET"
        connection.request(method, path, b"{}", {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_an_endpoint_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    assert read_endpoint(settings) is None
    made = make_endpoint(settings, SeededRandom(os.getpid()))
    assert not is_held(made.port)
    assert len(made.token) == 64
    assert made.token not in repr(made)
    assert stat.S_IMODE(endpoint_path(settings).stat().st_mode) == 0o600
    assert read_endpoint(settings) == made
    assert make_endpoint(settings, SeededRandom(2)) == made


def test_a_port_that_is_set_is_the_endpoints_and_the_token_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = make_endpoint(settings_of(home), SeededRandom(os.getpid()))
    moved = make_endpoint(settings_of(home, LOCALMEM_PORT="18765"), SeededRandom(2))
    assert (moved.port, moved.token) == (18765, made.token)
    assert read_endpoint(settings_of(home)) == moved


def test_a_port_that_is_held_is_not_chosen(tmp_path: Path) -> None:
    drawn = make_endpoint(settings_of(tmp_path / "first"), SeededRandom(os.getpid())).port
    with socket.create_server(("127.0.0.1", drawn)):
        assert is_held(drawn)
        assert (
            make_endpoint(settings_of(tmp_path / "second"), SeededRandom(os.getpid())).port != drawn
        )


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"\xff", b'{"port": 0, "token": "00"}', b'{"port": 18765, "token": "short"}'],
)
def test_a_damaged_file_is_named_and_a_daemon_starts_all_the_same(home: Path, data: bytes) -> None:
    settings = settings_of(home)
    make_endpoint(settings, SeededRandom(os.getpid()))
    endpoint_path(settings).write_bytes(data)
    with pytest.raises(ConfigError, match=r"hooks\.json"):
        read_endpoint(settings)
    with DaemonClient(environment(home)) as client:
        assert client.ensure_running().port
        assert client.stop()


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    make_endpoint(settings, SeededRandom(os.getpid()))
    endpoint_path(settings).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        make_endpoint(settings, SeededRandom(os.getpid()))


def test_a_daemon_is_found_at_the_endpoint_again_and_again(home: Path) -> None:
    endpoint = make_endpoint(settings_of(home), SeededRandom(os.getpid()))
    for _ in range(2):
        with DaemonClient(environment(home)) as client:
            assert client.ensure_running().port == endpoint.port
            assert status_of(endpoint.port, endpoint.token, "/v1/status") == 401
            assert status_of(endpoint.port, endpoint.token, "/v1/hook/claude-code") != 401
            assert client.stop()


def test_a_port_that_a_stranger_holds_is_left_to_him(home: Path) -> None:
    endpoint = make_endpoint(settings_of(home), SeededRandom(os.getpid()))
    with (
        socket.create_server(("127.0.0.1", endpoint.port)),
        DaemonClient(environment(home)) as client,
    ):
        assert client.ensure_running().port not in (0, endpoint.port)
        assert client.stop()


def test_the_command_clients_file_is_there_as_long_as_the_daemon(home: Path) -> None:
    settings = settings_of(home)
    endpoint = make_endpoint(settings, SeededRandom(os.getpid()))
    with DaemonClient(environment(home)) as client:
        state = client.ensure_running()
        assert hook_path(settings).read_text().splitlines() == [state.socket, endpoint.token]
        assert stat.S_IMODE(hook_path(settings).stat().st_mode) == 0o600
        assert client.stop()
    assert not hook_path(settings).exists()


def test_without_an_endpoint_the_command_client_gets_a_token_for_this_run(home: Path) -> None:
    with DaemonClient(environment(home)) as client:
        state = client.ensure_running()
        token = hook_path(client.settings).read_text().splitlines()[1]
        assert token != state.token
        assert status_of(state.port, token, "/v1/hook/codex") != 401
        assert status_of(state.port, token, "/v1/status") == 401
        assert client.stop()


def test_the_repr_of_an_endpoint_has_no_secret() -> None:
    assert "ab" * 32 not in repr(HookEndpoint(18765, "ab" * 32))


def test_a_daemon_that_is_called_by_http_does_not_end_when_idle(tmp_path: Path) -> None:
    home = tmp_path / "home"
    variables = environment(home, LOCALMEM_IDLE_EXIT_S="1")
    with DaemonClient(variables) as client:
        make_endpoint(client.settings, SeededRandom(os.getpid()))
        state = client.ensure_running()
        time.sleep(2.5)  # one that ends when idle is gone by then
        assert is_alive(state.pid)
        assert client.stop()
