"""Settings: what is allowed, and errors that name what is not."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from localmem_node.config import (
    EVICTION_DEFAULT,
    EVICTIONS,
    EncoderSettings,
    Settings,
    load_settings,
    parse_size,
)
from localmem_node.errors import ConfigError
from localmem_node.retention import POLICIES

KEY = bytes(range(32))


def load(home: Path, text: str = "", **environment: str) -> Settings:
    home.mkdir(exist_ok=True)
    file = home / "config.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load_settings({"LOCALMEM_HOME": str(home), **environment})


def test_without_any_setting_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings({"LOCALMEM_HOME": str(tmp_path / "home")})
    assert settings.store_bytes == 96 * 1024 * 1024
    assert (settings.port, settings.passphrase, settings.key_file, settings.hub) == (
        0,
        None,
        None,
        None,
    )
    assert settings.store_path == tmp_path / "home" / "data" / "memory.localmem"
    assert not (tmp_path / "home").exists()


def test_without_a_home_folders_are_where_the_system_wants_them(tmp_path: Path) -> None:
    settings = load_settings({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert settings.runtime_dir == tmp_path / "localmem"
    assert settings.data_dir.name == "localmem"
    fallback = load_settings({"XDG_RUNTIME_DIR": str(tmp_path / "missing")})
    assert tmp_path not in fallback.runtime_dir.parents


def test_the_file_sets_and_the_environment_overrides(tmp_path: Path) -> None:
    text = '[store]\nsize = "1 GiB"\n[daemon]\nport = 4000\nidle_exit_s = 5\n[capture]\ndeny_paths = ["*.log"]'
    settings = load(tmp_path / "home", text, LOCALMEM_PORT="4001", LOCALMEM_SIZE="10KiB")
    assert (settings.store_bytes, settings.port, settings.idle_exit_s) == (10 * 1024, 4001, 5)
    assert settings.deny_paths == ("*.log",)


def test_what_is_captured_can_be_set(tmp_path: Path) -> None:
    assert load(tmp_path / "home").skip_ignored is True
    text = '[capture]\ndeny_tools = ["cursor", "mcp__*"]\nskip_ignored = false'
    settings = load(tmp_path / "home", text)
    assert settings.deny_tools == ("cursor", "mcp__*")
    assert settings.skip_ignored is False


def test_who_leaves_a_full_store_can_be_chosen(tmp_path: Path) -> None:
    assert set(EVICTIONS) == set(POLICIES)
    assert load(tmp_path / "home").eviction == EVICTION_DEFAULT
    assert load(tmp_path / "home", '[store]\neviction = "fifo"').eviction == "fifo"
    assert load(tmp_path / "home", LOCALMEM_EVICTION="fifo").eviction == "fifo"


def test_an_encoder_can_be_chosen(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert load(home).encoder == EncoderSettings("minilm")
    assert load(home, '[encoder]\nprovider = "cuda"').encoder.provider == "cuda"
    chosen = load(home, '[encoder]\nkind = "onnx"\nmodel = "fp32"').encoder
    assert chosen == EncoderSettings("onnx", str(home / "fp32"))
    text = '[encoder]\nkind = "sentence-transformers"\nmodel = "org/name"\nrevision = "v2"\n'
    chosen = load(home, text + "download = true").encoder
    assert (chosen.model, chosen.revision, chosen.download) == ("org/name", "v2", True)
    text = '[encoder]\nkind = "sentence-transformers"\nmodel = "./mine"\ndownload = true'
    variables = {"LOCALMEM_ENCODER_DEVICE": "cuda", "LOCALMEM_ENCODER_DOWNLOAD": "false"}
    assert load(home, text, **variables).encoder == EncoderSettings(
        "sentence-transformers", str(home / "mine"), device="cuda"
    )
    variables = {"LOCALMEM_ENCODER": "onnx", "LOCALMEM_ENCODER_MODEL": "/models/x.onnx"}
    assert load(home, **variables).encoder == EncoderSettings("onnx", "/models/x.onnx")


def test_relative_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    settings = load(tmp_path / "home", '[store]\nkey_file = "my.key"')
    assert settings.key_file == tmp_path / "home" / "my.key"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour"),
        ("[colours]\na = 1", "colours"),
        ("[store]\ncolour = 1", "store.colour"),
        ('[store]\npassphrase = "x"', "store.passphrase"),
        ('[store]\nsize = "64 miles"', "store.size"),
        ("[store]\nsize = -1", "store.size"),
        ("[store]\nsize = true", "store.size"),
        ('[store]\nkey_file = ""', "store.key_file"),
        ('[store]\neviction = "lru"', "store.eviction"),
        ("[store]\neviction = []", "store.eviction"),
        ('[encoder]\nkind = "openai"', "encoder.kind"),
        ('[encoder]\nkind = "onnx"', "encoder.model"),
        ('[encoder]\nmodel = "x"', "encoder.model"),
        ('[encoder]\nprovider = "rocm"', "encoder.provider"),
        ('[encoder]\ndevice = "cpu"', "encoder.device"),
        ("[encoder]\ndownload = false", "encoder.download"),
        ('[encoder]\nkind = "onnx"\nmodel = "x"\nrevision = "1"', "encoder.revision"),
        ('[encoder]\nkind = "sentence-transformers"\nmodel = "/x"\nrevision = "1"', "revision"),
        ('[encoder]\nkind = "sentence-transformers"\nmodel = "x"\nprovider = "cpu"', "provider"),
        ('[encoder]\nkind = "sentence-transformers"\nmodel = "x"\ndownload = 1', "download"),
        ("[daemon]\nport = 65536", "daemon.port"),
        ('[daemon]\nport = "80"', "daemon.port"),
        ("[daemon]\nport = true", "daemon.port"),
        ("[daemon]\nidle_exit_s = -1", "daemon.idle_exit_s"),
        ('[capture]\ndeny_paths = "*.log"', "capture.deny_paths"),
        ("[capture]\ndeny_paths = [1]", "capture.deny_paths"),
        ('[capture]\ndeny_tools = "cursor"', "capture.deny_tools"),
        ('[capture]\nskip_ignored = "no"', "capture.skip_ignored"),
        ('[hub]\nurl = "wss://hub"', "hub.token"),
        ('[hub]\ntoken = "t"\npool = "p"', "hub.url"),
        ('[hub]\nurl = "wss://hub"\ntoken = "t"', "hub.pool"),
        ('[hub]\nurl = "wss://hub"\ntoken = "t"\npool = "p"', "hub.key_file"),
        ('[hub]\nurl = "wss://hub"\ntransport = "carrier pigeon"', "hub.transport"),
        ('[hub]\nurl = 7\ntoken = "t"\npool = "p"', "hub.url"),
        ("[store", "config.toml"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_file_and_key(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "home", text)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"LOCALMEM_PORT": "http"}, "daemon.port"),
        ({"LOCALMEM_SIZE": "lots"}, "store.size"),
        ({"LOCALMEM_IDLE_EXIT_S": "1.5"}, "daemon.idle_exit_s"),
        ({"LOCALMEM_ENCODER": "best"}, "encoder.kind"),
        ({"LOCALMEM_ENCODER_MODEL": "x"}, "encoder.model"),
        ({"LOCALMEM_ENCODER": "sentence-transformers", "LOCALMEM_ENCODER_MODEL": "x",
          "LOCALMEM_ENCODER_DOWNLOAD": "yes"}, "encoder.download"),
        ({"LOCALMEM_PASSPHRASE": ""}, "LOCALMEM_PASSPHRASE"),
        ({"LOCALMEM_PASSPHRASE": "a", "LOCALMEM_PASSPHRASE_FILE": "b"}, "LOCALMEM_PASSPHRASE_FILE"),
        ({"LOCALMEM_PASSPHRASE": "a", "LOCALMEM_KEY_FILE": "b"}, "key file"),
        ({"LOCALMEM_PASSPHRASE_FILE": "/nonexistent/x"}, "LOCALMEM_PASSPHRASE_FILE"),
        ({"LOCALMEM_HUB_URL": "wss://h", "LOCALMEM_HUB_TOKEN": "t", "LOCALMEM_POOL": "p",
          "LOCALMEM_POOL_KEY": "abc"}, "LOCALMEM_POOL_KEY"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_an_error_that_names_it(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        load(tmp_path / "home", "", **variables)


def test_an_empty_home_is_refused() -> None:
    with pytest.raises(ConfigError, match="LOCALMEM_HOME"):
        load_settings({"LOCALMEM_HOME": ""})


def test_a_passphrase_comes_from_the_first_line_of_a_private_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\nsecond line\n")
    secret.chmod(0o600)
    settings = load(tmp_path / "home", "", LOCALMEM_PASSPHRASE_FILE=str(secret))
    assert settings.passphrase == "open sesame"
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(tmp_path / "home", "", LOCALMEM_PASSPHRASE_FILE=str(secret))


@pytest.mark.parametrize(
    "text",
    [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode(),
     base64.urlsafe_b64encode(KEY).decode().rstrip("=")],
)  # fmt: skip
def test_a_pool_key_is_hex_or_base64_in_a_variable_or_a_private_file(
    tmp_path: Path, text: str
) -> None:
    variables = {
        "LOCALMEM_HUB_URL": "wss://hub.example",
        "LOCALMEM_HUB_TOKEN": "t",
        "LOCALMEM_POOL": "p",
    }
    hub = load(tmp_path / "home", "", LOCALMEM_POOL_KEY=text, **variables).hub
    assert hub is not None
    assert hub.pool_key == KEY
    file = tmp_path / "pool.key"
    file.write_text(text + "\n")
    file.chmod(0o600)
    variables["LOCALMEM_HUB_TRANSPORT"] = "http"
    hub = load(tmp_path / "home", "", LOCALMEM_POOL_KEY_FILE=str(file), **variables).hub
    assert hub is not None
    assert (hub.pool_key, hub.transport) == (KEY, "http")


def test_a_token_in_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = home / "config.toml"
    file.write_text('[hub]\nurl = "wss://hub"\ntoken = "t"\npool = "p"\nkey_file = "k"')
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_settings({"LOCALMEM_HOME": str(home)})


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    settings = load(
        tmp_path / "home",
        "",
        LOCALMEM_PASSPHRASE="open sesame",
        LOCALMEM_HUB_URL="wss://hub",
        LOCALMEM_HUB_TOKEN="my token",
        LOCALMEM_POOL="p",
        LOCALMEM_POOL_KEY=KEY.hex(),
    )
    for secret in ("open sesame", "my token", KEY.hex(), repr(KEY)):
        assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("text", "size"), [(1, 1), ("1", 1), ("64 MiB", 2**26), ("10kib", 10240), (" 4 GiB ", 2**32)]
)
def test_sizes_are_bytes_or_binary_units(text: object, size: int) -> None:
    assert parse_size(text) == size
