"""The hub's settings: from the command line, else the environment, else a TOML file, else defaults.

A setting `log_level` is `LOCALMEM_HUB_LOG_LEVEL` in the environment and `log_level` in the file,
which is named by `--config` or `LOCALMEM_HUB_CONFIG`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from localmem_hub.audit import STDERR
from localmem_hub.client_address import Proxies
from localmem_hub.errors import ConfigError
from localmem_hub.limits import DISK_FREE_MB, PAST_EPOCHS_DAYS, STOP_SECONDS
from localmem_hub.logs import LogFormat
from localmem_hub.plain.limits import WORKERS_MAX
from localmem_hub.quotas import Bounds
from localmem_hub.tls import Certificate
from localmem_protocol.access import origin_of

PREFIX: Final = "LOCALMEM_HUB_"
FANOUT: Final = r"^((nats|tls)://\S{1,500})?$"
METRICS: Final = r"^((\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):)?[0-9]{1,5}$|^$"
PORT_MAX: Final = 65535
LogLevel = Literal["debug", "info", "warning", "error"]


class Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Plain Yjs rooms: whether there are any, and how many processes hold their documents.

    The hub reads what is in them. In the environment: `LOCALMEM_HUB_PLAIN_ENABLED`.
    """

    enabled: bool = False
    workers: Annotated[int, msgspec.Meta(ge=1, le=WORKERS_MAX)] = 2


_TABLES: Final = {"plain": Plain.__struct_fields__, "limits": Bounds.__struct_fields__}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a hub can be told. `database` is a SQLAlchemy URL, or `azure-blob://CONTAINER`; then
    `storage_account` is the URL of the storage account, or `storage_connection` a connection string.
    Port 0 takes any free one.

    `origin` is the address that devices dial (`https://hub.example.com`), several with commas; one on
    loopback need not be named. With `open` anybody may make a pool, without an invitation. What is
    stored of an epoch that is over goes when every member has read it, and after `past_epochs_days` at
    the latest; 0 is for ever. `fanout` is the NATS server that replicas on PostgreSQL tell each other
    by, if there is one. `stop_seconds` is how long the hub may take to stop; what is not stored by then was
    not acknowledged either. With less than `disk_free_mb` left on the disk of a SQLite database `/readyz`
    says so. `metrics` is the `HOST:PORT` (or just the port, on loopback) where Prometheus finds them;
    empty for nowhere. With the files `tls_cert` and `tls_key` it speaks TLS. `client_header` is read
    from connections out of the `trusted_proxies` (networks, with commas). `audit` is where the audit log
    goes: "stderr", "off", or a file.
    """

    database: str
    storage_account: str = ""
    storage_connection: str = ""
    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8765
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    origin: str = ""
    open: bool = False
    past_epochs_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = PAST_EPOCHS_DAYS
    fanout: Annotated[str, msgspec.Meta(pattern=FANOUT)] = ""
    stop_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = STOP_SECONDS
    disk_free_mb: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = DISK_FREE_MB
    metrics: Annotated[str, msgspec.Meta(pattern=METRICS)] = ""
    tls_cert: str = ""
    tls_key: str = ""
    audit: Annotated[str, msgspec.Meta(min_length=1)] = STDERR
    client_header: str = ""
    trusted_proxies: str = ""
    plain: Plain = Plain()
    limits: Bounds = Bounds()

    @property
    def certificate(self) -> Certificate | None:
        """What it serves TLS by, if it does. Raises ConfigError."""
        if not self.tls_cert and not self.tls_key:
            return None
        if not self.tls_cert or not self.tls_key:
            raise ConfigError("tls_cert, tls_key: TLS needs both files")
        return Certificate(Path(self.tls_cert), Path(self.tls_key))

    @property
    def proxies(self) -> Proxies | None:
        """Whose word about addresses is taken, if anybody's is. Raises ConfigError."""
        return Proxies.parse(self.client_header, self.trusted_proxies)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of the metrics; None for none. Raises ConfigError."""
        if not self.metrics:
            return None
        host, _, port = self.metrics.rpartition(":")
        if int(port) > PORT_MAX:
            raise ConfigError(f"metrics: there is no port {port}")
        return host.strip("[]") or "127.0.0.1", int(port)

    @property
    def origins(self) -> frozenset[str]:
        """Under which origins the hub is known beside loopback. Raises ConfigError."""
        named = {origin_of(text.strip()) for text in self.origin.split(",") if text.strip()}
        if None in named:
            raise ConfigError("origin: must be URLs such as https://hub.example.com")
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.tls_cert else "http"
        named.add(origin_of(f"{scheme}://{host}:{self.port}"))  # none if the host is no plain name
        return frozenset(origin for origin in named if origin)


def load_settings(
    environment: Mapping[str, str],
    home: Path,
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """The settings that hold; overrides that are None do not count. Raises ConfigError."""
    values: dict[str, object] = {"database": f"sqlite:///{_data(environment, home) / 'hub.db'}"}
    named = file or (Path(text) if (text := environment.get(f"{PREFIX}CONFIG")) else None)
    if named is not None:
        values |= _read(named)
    for name in Settings.__struct_fields__:
        if name not in _TABLES and (text := environment.get(PREFIX + name.upper())):
            values[name] = text
    for table, names in _TABLES.items():
        told = {name: environment.get(f"{PREFIX}{table}_{name}".upper()) for name in names}
        given = values.get(table, {})
        if isinstance(given, dict):  # else the conversion below says what is wrong
            values[table] = given | {name: text for name, text in told.items() if text}
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        # Not strict: what comes from the environment is text.
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a setting is wrong: {error}") from None


def _data(environment: Mapping[str, str], home: Path) -> Path:
    """Where data goes by the XDG base directory specification."""
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else home / ".local/share") / "localmem-hub"


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
