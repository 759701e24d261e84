"""TLS by certificate files, against a real hub."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from localmem_hub import healthcheck
from localmem_hub.doctor import checks
from localmem_hub.errors import ConfigError
from localmem_hub.settings import Settings, load_settings
from localmem_hub.system import SystemClock
from localmem_protocol.frames import (
    CAPABILITIES,
    PROTOCOL,
    Hello,
    Welcome,
    decode_frame,
    encode_frame,
)
from support.certificates import trusting, write_certificate
from support.hub_process import HubProcess, running_hub

ONE = "0000000000000001"


async def dial(hub: HubProcess, token: str, context: ssl.SSLContext) -> ClientConnection:
    headers = {"X-Localmem-Device": ONE, "Authorization": f"Bearer {token}"}
    return await connect(
        f"{hub.url}/v1/sync/team",
        subprotocols=[Subprotocol(PROTOCOL)],
        additional_headers=headers,
        ssl=context,
        proxy=None,
    )


async def welcomed(socket: ClientConnection) -> bool:
    await socket.send(encode_frame(Hello(PROTOCOL, CAPABILITIES, ONE, 0)))
    return isinstance(decode_frame(await socket.recv(decode=False)), Welcome)


async def in_the_clear(hub: HubProcess) -> bytes:
    """What somebody is told who speaks no TLS."""
    port = int(hub.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def said(hub: HubProcess, text: str) -> None:
    """Wait until this stands in the log."""
    async with asyncio.timeout(60):
        while text not in hub.log.read_text():  # noqa: ASYNC110  a file sets no event
            await asyncio.sleep(0.02)


async def test_a_hub_with_a_certificate_speaks_tls_and_takes_a_renewed_one(tmp_path: Path) -> None:
    chain, key = write_certificate(tmp_path)
    first = trusting(chain)
    with running_hub(tmp_path, "--tls-cert", str(chain), "--tls-key", str(key)) as hub:
        assert hub.url.startswith("wss://127.0.0.1:")
        token = hub.token("team", ONE)
        staying = await dial(hub, token, first)
        assert staying.transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        assert not (await in_the_clear(hub)).startswith(b"HTTP/")
        settings = Settings(
            database=hub.database_url,
            port=int(hub.url.rpartition(":")[2]),
            tls_cert=str(chain),
            tls_key=str(key),
        )
        looked = await asyncio.to_thread(lambda: [*checks(settings, SystemClock())])
        (port,) = (one for one in looked if one.name == "port")
        assert port.detail.endswith("is ready")

        chain.write_text("half a certif")
        hub.signal(signal.SIGHUP)
        await said(hub, "the certificate stays as it was")
        await (await dial(hub, token, first)).close()

        write_certificate(tmp_path)
        hub.signal(signal.SIGHUP)
        await said(hub, "the certificate was read again")
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(hub, token, first)
        later = await dial(hub, token, trusting(chain))
        assert await welcomed(staying)  # whoever is there stays
        for socket in (later, staying):
            await socket.close()
        assert hub.stop() == 0


@pytest.mark.parametrize("missing", ["cert", "key"])
def test_half_a_certificate_is_named(tmp_path: Path, missing: str) -> None:
    chain, key = write_certificate(tmp_path)
    told = {"LOCALMEM_HUB_TLS_CERT": str(chain), "LOCALMEM_HUB_TLS_KEY": str(key)}
    settings = load_settings(told, tmp_path)
    assert settings.certificate is not None
    assert settings.origins == {"https://127.0.0.1:8765"}
    del told[f"LOCALMEM_HUB_TLS_{missing.upper()}"]
    with pytest.raises(ConfigError, match="needs both files"):
        _ = load_settings(told, tmp_path).certificate
    told[f"LOCALMEM_HUB_TLS_{missing.upper()}"] = str(tmp_path / "gone.pem")
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.pem"):
        _ = load_settings(told, tmp_path).certificate


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    chain, _ = write_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, key = write_certificate(tmp_path / "other")
    told = {"LOCALMEM_HUB_TLS_CERT": str(chain), "LOCALMEM_HUB_TLS_KEY": str(key)}
    with pytest.raises(ConfigError, match="no certificate and its key"):
        _ = load_settings(told, tmp_path).certificate


@pytest.mark.parametrize("tls", [False, True])
def test_the_health_check_of_the_image_finds_it_with_tls_or_without(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = write_certificate(tmp_path)
    options = ("--tls-cert", str(chain), "--tls-key", str(key)) if tls else ()
    with running_hub(tmp_path, *options) as hub:
        monkeypatch.setenv("LOCALMEM_HUB_PORT", hub.url.rpartition(":")[2])
        for name in ("http_proxy", "https_proxy"):  # nobody is there
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        healthcheck.main()
        hub.kill()
        with pytest.raises(SystemExit, match="does not answer"):
            healthcheck.main()
