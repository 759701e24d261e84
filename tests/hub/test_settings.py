"""Where a setting comes from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmem_hub.errors import ConfigError
from localmem_hub.settings import load_settings

HOME = Path("/home/someone")


def test_the_defaults_stay_on_this_machine() -> None:
    settings = load_settings({}, HOME)
    assert settings.database == "sqlite:////home/someone/.local/share/localmem-hub/hub.db"
    assert (settings.host, settings.port, settings.log_level) == ("127.0.0.1", 8765, "info")


def test_data_goes_where_the_environment_says() -> None:
    found = load_settings({"XDG_DATA_HOME": "/data"}, HOME).database
    assert found == "sqlite:////data/localmem-hub/hub.db"
    relative = load_settings({"XDG_DATA_HOME": "data"}, HOME).database
    assert relative == load_settings({}, HOME).database


def test_the_nearer_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('host = "10.0.0.1"\nport = 1\nlog_level = "debug"\n')
    environment = {
        "LOCALMEM_HUB_CONFIG": str(file),
        "LOCALMEM_HUB_PORT": "2",
        "LOCALMEM_HUB_LOG_LEVEL": "warning",
    }
    settings = load_settings(environment, HOME, None, {"log_level": "error", "port": None})
    assert (settings.host, settings.port, settings.log_level) == ("10.0.0.1", 2, "error")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"LOCALMEM_HUB_PORT": "70000"}, "port"),
        ({"LOCALMEM_HUB_PORT": "http"}, "port"),
        ({"LOCALMEM_HUB_LOG_LEVEL": "loud"}, "log_level"),
        ({"LOCALMEM_HUB_OPEN": "perhaps"}, "open"),
        ({"LOCALMEM_HUB_FANOUT": "http://nats"}, "fanout"),
    ],
)
def test_a_wrong_value_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings(environment, HOME)


def test_a_hub_is_closed_and_known_by_its_address_unless_told_otherwise() -> None:
    settings = load_settings({}, HOME)
    assert not settings.open
    assert settings.origins == {"http://127.0.0.1:8765"}
    told = {"LOCALMEM_HUB_OPEN": "true", "LOCALMEM_HUB_HOST": "::1"}
    told["LOCALMEM_HUB_ORIGIN"] = "wss://Hub.example.com/sync, http://old:80"
    settings = load_settings(told, HOME)
    assert settings.open
    assert settings.origins == {"https://hub.example.com", "http://old", "http://[::1]:8765"}


@pytest.mark.parametrize("origin", ["hub.example.com", "https://hub?x", "https://a,ftp://b"])
def test_an_origin_that_is_none_is_named(origin: str) -> None:
    with pytest.raises(ConfigError, match="origin"):
        _ = load_settings({"LOCALMEM_HUB_ORIGIN": origin}, HOME).origins


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"prot = 1", "unknown field `prot`"),
        (b"port = [", "not TOML"),
        (b"\xff", "not TOML"),
        (b'host = ""', "host"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=problem):
        load_settings({}, HOME, file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.toml"):
        load_settings({}, HOME, tmp_path / "gone.toml")


def test_tables_of_settings_come_from_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text("[limits]\npool_bytes = 5\ndevice_bytes = 6\n[plain]\nworkers = 3\n")
    told = {"LOCALMEM_HUB_LIMITS_POOL_BYTES": "7", "LOCALMEM_HUB_PLAIN_ENABLED": "true"}
    settings = load_settings(told, HOME, file)
    assert (settings.limits.pool_bytes, settings.limits.device_bytes) == (7, 6)
    assert (settings.plain.workers, settings.plain.enabled) == (3, True)
    for name, value in (("POOL_BYTES", "-1"), ("UPDATE_BYTES", "10"), ("DEVICE_BYTES", "many")):
        with pytest.raises(ConfigError, match=name.lower()):
            load_settings({f"LOCALMEM_HUB_LIMITS_{name}": value}, HOME)
