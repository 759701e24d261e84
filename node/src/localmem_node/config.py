"""Settings: `config.toml`, then the environment over it.

LOCALMEM_HOME puts everything under one folder (config.toml, data/, run/, state/); otherwise the
folders are where the operating system wants them (platformdirs). A wrong value or an unknown key
is an error that names it. Secrets are left out of every repr, and never read from config.toml.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from localmem_node.errors import ConfigError
from localmem_node.files import read_private
from localmem_node.secret_text import decode_key, secret_text

APP: Final = "localmem"
STORE_BYTES_DEFAULT: Final = 96 * 1024 * 1024
EVICTIONS: Final = ("fifo", "relevance")
EVICTION_DEFAULT: Final = "relevance"
ENCODERS: Final = ("minilm", "onnx", "sentence-transformers")
PROVIDERS: Final = ("cpu", "cuda")
DEVICES: Final = ("auto", "cpu", "cuda")
TRANSPORTS: Final = ("auto", "websocket", "http")
IDLE_EXIT_S_DEFAULT: Final = 8 * 3600
IDLE_EXIT_S_MAX: Final = 30 * 24 * 3600
GLOBS_MAX: Final = 256
GLOB_CHARACTERS_MAX: Final = 512

_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "store": frozenset({"size", "key_file", "eviction"}),
    "encoder": frozenset({"kind", "model", "revision", "device", "provider", "download"}),
    "daemon": frozenset({"port", "idle_exit_s"}),
    "capture": frozenset({"deny_paths", "deny_projects", "deny_tools", "skip_ignored", "answers"}),
    "hub": frozenset({"url", "token", "token_file", "pool", "key_file", "transport"}),
}
_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*([0-9]{1,12})\s*([A-Za-z]{0,3})\s*")


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where to synchronise, as what, and with which key (32 bytes, never sent anywhere).

    `token_file` is the file that the token was read from, if it was one; `transport` one of
    TRANSPORTS.
    """

    url: str
    token: str = field(repr=False)
    pool: str
    pool_key: bytes = field(repr=False)
    token_file: Path | None = field(default=None, compare=False)
    transport: str = "auto"


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What makes vectors of texts. `kind` is one of ENCODERS.

    `model` is an absolute path (a folder, or with `onnx` also a file), or for sentence-transformers
    the name of a model on the hub; None with `minilm`. `provider` is for onnxruntime, `device` for
    torch. `download` lets a named model be fetched that is not on this machine.
    """

    kind: str = "minilm"
    model: str | None = None
    revision: str | None = None
    device: str = "auto"
    provider: str = "cpu"
    download: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in seconds."""

    config_dir: Path
    data_dir: Path
    runtime_dir: Path
    state_dir: Path
    store_bytes: int = STORE_BYTES_DEFAULT
    eviction: str = EVICTION_DEFAULT
    """Who leaves a full store: a name in `retention.POLICIES`."""
    passphrase: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    port: int = 0
    idle_exit_s: int = IDLE_EXIT_S_DEFAULT
    deny_paths: tuple[str, ...] = ()
    deny_projects: tuple[str, ...] = ()
    deny_tools: tuple[str, ...] = ()
    skip_ignored: bool = True
    answers: bool = True
    """Whether what a model said is kept as text, and not as its hash alone."""
    encoder: EncoderSettings = EncoderSettings()
    hub: HubSettings | None = None
    store_path: Path = Path()
    """The ring file; `memory.localmem` in the data folder unless given."""

    def __post_init__(self) -> None:
        if self.store_path == Path():
            object.__setattr__(self, "store_path", self.data_dir / "memory.localmem")

    @property
    def config_path(self) -> Path:
        """The settings file, which need not exist."""
        return self.config_dir / "config.toml"

    @property
    def log_path(self) -> Path:
        """What the daemon says while nobody listens."""
        return self.state_dir / "daemon.log"


def load_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in force. Raises ConfigError naming file or variable, key and what is allowed."""
    folders = _folders(environment)
    file = _File(folders["config_dir"] / "config.toml")
    passphrase = secret_text(environment, "LOCALMEM_PASSPHRASE", "LOCALMEM_PASSPHRASE_FILE")
    key_file = file.path("store", "key_file", environment.get("LOCALMEM_KEY_FILE"))
    if passphrase is not None and key_file is not None:
        raise ConfigError(
            "passphrase and key file are both set; unset LOCALMEM_PASSPHRASE or store.key_file"
        )
    return Settings(
        **folders,
        store_bytes=file.size("store", "size", environment.get("LOCALMEM_SIZE")),
        eviction=file.choice(
            "store", "eviction", environment.get("LOCALMEM_EVICTION"), EVICTIONS, EVICTION_DEFAULT
        ),
        passphrase=passphrase,
        key_file=key_file,
        port=file.integer("daemon", "port", environment.get("LOCALMEM_PORT"), 0, 65535, 0),
        idle_exit_s=file.integer(
            "daemon",
            "idle_exit_s",
            environment.get("LOCALMEM_IDLE_EXIT_S"),
            0,
            IDLE_EXIT_S_MAX,
            IDLE_EXIT_S_DEFAULT,
        ),
        deny_paths=file.globs("capture", "deny_paths"),
        deny_projects=file.globs("capture", "deny_projects"),
        deny_tools=file.globs("capture", "deny_tools"),
        skip_ignored=file.boolean("capture", "skip_ignored", None, default=True),
        answers=file.boolean("capture", "answers", None, default=True),
        encoder=_encoder(file, environment),
        hub=_hub(file, environment),
    )


def parse_size(value: object) -> int:
    """Bytes from an integer or from text such as "64 MiB". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError('must be bytes, or text such as "64 MiB" (KiB, MiB, GiB)')
        size = int(match[1]) * _UNITS[match[2].lower()]
    if not 1 <= size <= 2**40:
        raise ValueError("must be from 1 byte to 1024 GiB")
    return size


def _folders(environment: Mapping[str, str]) -> dict[str, Path]:
    home = environment.get("LOCALMEM_HOME")
    if home is not None:
        if not home or "\0" in home:
            raise ConfigError("LOCALMEM_HOME: is empty; name a folder, or unset it")
        root = Path(home).expanduser().absolute()
        return {
            "config_dir": root,
            "data_dir": root / "data",
            "runtime_dir": root / "run",
            "state_dir": root / "state",
        }
    import platformdirs  # 6 ms that a daemon or hook with LOCALMEM_HOME need not pay

    return {
        "config_dir": platformdirs.user_config_path(APP),
        "data_dir": platformdirs.user_data_path(APP),
        "runtime_dir": _runtime_dir(environment, platformdirs.user_state_path(APP)),
        "state_dir": platformdirs.user_state_path(APP),
    }


def _runtime_dir(environment: Mapping[str, str], state_dir: Path) -> Path:
    """Where sockets belong, if the system has such a place; never a shared folder."""
    for parent in (environment.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}"):
        if parent and Path(parent).is_dir():
            return Path(parent) / APP
    return state_dir / "run"


def _encoder(file: _File, environment: Mapping[str, str]) -> EncoderSettings:
    def variable(key: str) -> str | None:
        return environment.get(f"LOCALMEM_ENCODER_{key.upper()}")

    kind = file.choice("encoder", "kind", environment.get("LOCALMEM_ENCODER"), ENCODERS, "minilm")
    model = file.text("encoder", "model", variable("model"))
    revision = file.text("encoder", "revision", variable("revision"))
    given = {"model": model, "revision": revision} | {
        key: variable(key) or file.has("encoder", key) or None
        for key in ("device", "provider", "download")
    }
    torch = kind == "sentence-transformers"
    foreign = {"provider"} if torch else {"revision", "device", "download"}
    if kind == "minilm":
        foreign.add("model")
    for key in sorted(foreign):
        if given[key] is not None:
            raise ConfigError(f"encoder.{key}: has no meaning with encoder.kind {kind!r}")
    if model is None and kind != "minilm":
        raise ConfigError(
            f"encoder.model: missing; set it in {file.name} or LOCALMEM_ENCODER_MODEL"
        )
    if model is not None and (not torch or model.startswith((".", "/", "~"))):
        model = str(file.path("encoder", "model", variable("model")))
        if revision is not None:
            raise ConfigError("encoder.revision: is of a model on the hub; encoder.model is a path")
    return EncoderSettings(
        kind,
        model,
        revision,
        device=file.choice("encoder", "device", variable("device"), DEVICES, "auto"),
        provider=file.choice("encoder", "provider", variable("provider"), PROVIDERS, "cpu"),
        download=file.boolean("encoder", "download", variable("download"), default=False),
    )


def _hub(file: _File, environment: Mapping[str, str]) -> HubSettings | None:
    url = file.text("hub", "url", environment.get("LOCALMEM_HUB_URL"))
    token = secret_text(environment, "LOCALMEM_HUB_TOKEN", "LOCALMEM_HUB_TOKEN_FILE")
    token_file = file.path("hub", "token_file", environment.get("LOCALMEM_HUB_TOKEN_FILE"))
    if token is None and token_file is not None:
        token = read_private(token_file, "hub.token_file").decode(errors="replace").strip()
    elif "LOCALMEM_HUB_TOKEN" in environment:
        token_file = None
    token = file.text("hub", "token", token)
    pool = file.text("hub", "pool", environment.get("LOCALMEM_POOL"))
    key_file = file.path("hub", "key_file", environment.get("LOCALMEM_POOL_KEY_FILE"))
    key = environment.get("LOCALMEM_POOL_KEY")
    transport = environment.get("LOCALMEM_HUB_TRANSPORT")
    transport = file.choice("hub", "transport", transport, TRANSPORTS, "auto")
    if url is None:
        if file.has("hub"):
            raise ConfigError(f"{file.name}: hub.url: missing; without a hub remove [hub]")
        return None
    needed = {"token": token, "pool": pool, "key_file": key or key_file}
    for name, value in needed.items():
        if not value:
            variable = {"token": "LOCALMEM_HUB_TOKEN", "pool": "LOCALMEM_POOL"}.get(
                name, "LOCALMEM_POOL_KEY"
            )
            raise ConfigError(f"hub.{name}: missing; set it in {file.name} or {variable}")
    assert token is not None
    assert pool is not None
    if key is not None:
        pool_key = decode_key(key, "LOCALMEM_POOL_KEY")
        return HubSettings(url, token, pool, pool_key, token_file, transport)
    assert key_file is not None
    text = read_private(key_file, "hub.key_file").decode(errors="replace")
    pool_key = decode_key(text, f"hub.key_file: {key_file}")
    return HubSettings(url, token, pool, pool_key, token_file, transport)


class _File:
    """`config.toml` with every access checked; a value from the environment goes first."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._sections: dict[str, dict[str, Any]] = {}
        try:
            parsed = tomllib.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        for section, values in parsed.items():
            if section not in _KNOWN or not isinstance(values, dict):
                raise ConfigError(
                    f"{path}: unknown section or key {section!r}; sections: {', '.join(_KNOWN)}"
                )
            for key in values:
                if key not in _KNOWN[section]:
                    known = ", ".join(sorted(_KNOWN[section]))
                    raise ConfigError(f"{path}: {section}.{key}: unknown; keys: {known}")
            self._sections[section] = values
        if "token" in self._sections.get("hub", {}) and path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path}: hub.token: the file is open to others; run: chmod 600 {path}"
            )

    def has(self, section: str, key: str | None = None) -> bool:
        """Whether a section is there, or a key in it."""
        return section in self._sections and (key is None or key in self._sections[section])

    def text(self, section: str, key: str, override: str | None) -> str | None:
        """One line of text."""
        value, where = self._value(section, key, override)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ConfigError(f"{where}: must be one line of text")
        return value.strip()

    def path(self, section: str, key: str, override: str | None) -> Path | None:
        """A file; a relative one is relative to the settings file."""
        text = self.text(section, key, override)
        if text is None:
            return None
        path = Path(text).expanduser()
        return path.absolute() if override is not None else Path(self.name).parent / path

    def integer(
        self, section: str, key: str, override: str | None, low: int, high: int, default: int
    ) -> int:
        """A whole number from `low` to `high`."""
        value, where = self._value(section, key, override)
        if value is None:
            return default
        if isinstance(value, str) and override is not None and re.fullmatch(r"[0-9]{1,12}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{where}: must be a whole number from {low} to {high}")
        return value

    def choice(
        self, section: str, key: str, override: str | None, names: Sequence[str], default: str
    ) -> str:
        """One of `names`."""
        value, where = self._value(section, key, override)
        if value is None:
            return default
        if value not in names:
            raise ConfigError(f"{where}: must be one of {', '.join(names)}")
        return str(value)

    def size(self, section: str, key: str, override: str | None) -> int:
        """A number of bytes."""
        value, where = self._value(section, key, override)
        if value is None:
            return STORE_BYTES_DEFAULT
        try:
            return parse_size(value)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None

    def boolean(self, section: str, key: str, override: str | None, *, default: bool) -> bool:
        """True or false."""
        value, where = self._value(section, key, override)
        if value is None:
            return default
        if override is not None:
            value = {"true": True, "false": False}.get(override)
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: must be true or false")
        return value

    def globs(self, section: str, key: str) -> tuple[str, ...]:
        """A list of patterns."""
        value, where = self._value(section, key, None)
        if value is None:
            return ()
        if (
            not isinstance(value, list)
            or len(value) > GLOBS_MAX
            or not all(isinstance(item, str) and item for item in value)
            or any(len(item) > GLOB_CHARACTERS_MAX for item in value)
        ):
            raise ConfigError(f"{where}: must be a list of at most {GLOBS_MAX} patterns")
        return tuple(value)

    def _value(self, section: str, key: str, override: str | None) -> tuple[Any, str]:
        if override is not None:
            return override, f"{section}.{key} (from the environment)"
        return self._sections.get(section, {}).get(key), f"{self.name}: {section}.{key}"
