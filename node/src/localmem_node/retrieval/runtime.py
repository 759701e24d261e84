"""onnxruntime, imported in the one way that it may be imported."""

from __future__ import annotations

import os
from typing import Any


def quiet_onnxruntime() -> Any:
    """onnxruntime, kept from reporting its use.

    Since 1.29 its packages send telemetry to Microsoft from Linux and macOS too, and keep a device
    id under ~/.cache. The variable has to be set before the import: it is read once, then. The
    call covers Windows, and a host program that imported onnxruntime earlier.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # type: ignore[import-untyped]

    onnxruntime.disable_telemetry_events()
    return onnxruntime
