"""TLS by certificate files, which may be renewed while the hub runs.

A certificate lasts for weeks, a connection for months: `reload` has new connections use new files, and
lets those that are there be.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from localmem_hub.errors import ConfigError

_ALPN: Final = ["http/1.1"]


class Certificate:
    """The files of a certificate chain and its key (PEM), and what serves by them.

    Raises ConfigError when they cannot be used, and says which.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = self._load()

    def reload(self) -> None:
        """Use what the files hold now. Raises ConfigError; then all stays as it was."""
        self._load()  # a file that is half written must not leave half a context
        self.context.load_cert_chain(self._chain, self._key)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(_ALPN)
        try:
            context.load_cert_chain(self._chain, self._key, _no_password)
        except ssl.SSLError as error:
            raise ConfigError(
                f"tls_cert, tls_key: {self._chain} and {self._key} are no certificate and its key "
                f"in PEM ({error.reason or 'unreadable'})"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"tls_cert, tls_key: cannot read {self._chain} and {self._key}: {error.strerror}"
            ) from None
        return context


def _no_password() -> str:
    """A hub starts without anybody at a terminal."""
    raise ConfigError("tls_key: the key has a password; give it one without")
