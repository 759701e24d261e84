"""`python -m localmem_hub.healthcheck`: whether the hub of this container answers, for its HEALTHCHECK.

It imports next to nothing, knows the port by the environment, as the image is configured, and finds out
whether it is TLS. The certificate is not checked: it is made out to a name, and this asks at 127.0.0.1.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request
from http.client import HTTPException
from typing import Final

WAIT_S: Final = 2.0


def main() -> None:
    """Exit code 0 if `/healthz` answers, 1 with the reason if not."""
    place = f"127.0.0.1:{os.environ.get('LOCALMEM_HUB_PORT', '8765')}/healthz"
    unchecked = ssl._create_unverified_context()  # noqa: S323
    # Not by a proxy of the environment: that is for others, and knows another 127.0.0.1.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
    )
    reason: object = None
    for scheme in ("http", "https"):
        try:
            opener.open(f"{scheme}://{place}", timeout=WAIT_S)
        except (OSError, HTTPException) as error:
            reason = error
        else:
            return
    sys.exit(f"the hub does not answer: {reason}")


if __name__ == "__main__":
    main()
