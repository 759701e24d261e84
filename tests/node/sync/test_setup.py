from pathlib import Path

import pytest

from localmem_node.config import load_settings
from localmem_node.errors import ConfigError
from localmem_node.sync.setup import join, replace_token
from localmem_node.sync.transport import sync_url
from localmem_node.system import SystemRandom

KEY = "ab" * 32


def environment(home: Path) -> dict[str, str]:
    return {"LOCALMEM_HOME": str(home), "LOCALMEM_PASSPHRASE": "open"}


def join_at(home: Path, **changes: str | None) -> str | None:
    values = {"url": "wss://hub.example.org", "pool": "team", "token": "lmt_a_b", "key": None}
    settings = load_settings(environment(home))
    return join(settings, **(values | changes), random=SystemRandom()).key  # type: ignore[arg-type]


def test_joining_makes_a_key_that_the_next_device_can_join_with(tmp_path: Path) -> None:
    key = join_at(tmp_path / "one")
    assert key is not None
    assert join_at(tmp_path / "two", key=key) is None
    hubs = [load_settings(environment(tmp_path / name)).hub for name in ("one", "two")]
    assert hubs[0] == hubs[1]
    assert hubs[0] is not None
    assert (hubs[0].url, hubs[0].pool, hubs[0].token) == (
        "wss://hub.example.org",
        "team",
        "lmt_a_b",
    )


def test_secrets_are_private_and_not_in_the_settings_file(tmp_path: Path) -> None:
    join_at(tmp_path, key=KEY)
    assert "lmt_a_b" not in (tmp_path / "config.toml").read_text()
    for name in ("hub.token", "pool.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_what_the_user_wrote_stays_byte_for_byte(tmp_path: Path) -> None:
    before = b'# mine\n[store]\nsize = "1 MiB"  # small'
    tmp_path.chmod(0o700)
    (tmp_path / "config.toml").write_bytes(before)
    (tmp_path / "config.toml").chmod(0o640)
    join_at(tmp_path, key=KEY)
    assert (tmp_path / "config.toml").read_bytes().startswith(before + b"\n\n[hub]\n")
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o640
    assert load_settings(environment(tmp_path)).store_bytes == 2**20


def test_a_hub_that_is_set_up_is_not_replaced(tmp_path: Path) -> None:
    join_at(tmp_path, key=KEY)
    before = (tmp_path / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match="set up already"):
        join_at(tmp_path, url="wss://other.example.org")
    assert (tmp_path / "config.toml").read_bytes() == before


def test_a_token_is_replaced_where_it_is_and_nothing_else_changes(tmp_path: Path) -> None:
    join_at(tmp_path, key=KEY)
    before = (tmp_path / "config.toml").read_bytes()
    replaced = replace_token(load_settings(environment(tmp_path)), "lmt_c_d")
    assert replaced == tmp_path / "hub.token"
    assert replaced.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "config.toml").read_bytes() == before
    hub = load_settings(environment(tmp_path)).hub
    assert hub is not None
    assert (hub.token, hub.pool_key) == ("lmt_c_d", bytes.fromhex(KEY))


def test_a_token_that_is_in_no_file_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no hub is set up"):
        replace_token(load_settings(environment(tmp_path)), "lmt_c_d")
    join_at(tmp_path, key=KEY)
    elsewhere = environment(tmp_path) | {"LOCALMEM_HUB_TOKEN": "lmt_e_f"}
    with pytest.raises(ConfigError, match=r"hub\.token: is in no file"):
        replace_token(load_settings(elsewhere), "lmt_c_d")
    with pytest.raises(ConfigError, match="token: must be one word"):
        replace_token(load_settings(environment(tmp_path)), "two words")
    assert (tmp_path / "hub.token").read_text() == "lmt_a_b\n"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "hub.example.org"}, "hub.url"),
        ({"url": "ftp://hub.example.org"}, "hub.url"),
        ({"url": "wss://me:secret@hub.example.org"}, "hub.url"),
        ({"pool": "a/b"}, "hub.pool"),
        ({"pool": ""}, "hub.pool"),
        ({"token": "two words"}, "token"),
        ({"key": "abc"}, "key"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, str], field: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{field}"):
        join_at(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_the_address_of_a_pool() -> None:
    assert sync_url("https://h.org/x/", "team") == "wss://h.org/x/v1/sync/team"
    assert sync_url("ws://127.0.0.1:8000", "a-b") == "ws://127.0.0.1:8000/v1/sync/a-b"
