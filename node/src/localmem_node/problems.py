"""Errors as JSON, and back: `{"error": {"code", "message", "field"}}`.

Codes are stable; messages are for people. The table serves the daemon (error to answer), its
client (answer to error) and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from localmem_node import errors
from localmem_protocol.errors import EventError, ProtocolError

_CODES: Final[tuple[tuple[type[errors.NodeError], str, int], ...]] = (
    (errors.QueryError, "query", 400),
    (errors.ConfigError, "config", 500),
    (errors.ForeignFile, "foreign_file", 500),
    (errors.WrongVersion, "wrong_version", 500),
    (errors.WrongKey, "wrong_key", 500),
    (errors.DamagedStore, "damaged_store", 500),
    (errors.StoreBusy, "store_busy", 503),
    (errors.StoreFailed, "store_failed", 503),
    (errors.StoreError, "store", 500),
    (errors.KeyUnavailable, "key_unavailable", 500),
    (errors.DaemonTimeout, "timeout", 504),
    (errors.DaemonError, "daemon", 502),
    (errors.BodyTooLarge, "too_large", 413),
    (errors.WatchTooSlow, "too_slow", 503),
    (errors.TooManyWatches, "too_many_watches", 503),
    (errors.ForeignExport, "foreign_export", 400),
    (errors.WrongExportVersion, "wrong_export_version", 400),
    (errors.WrongPassphrase, "wrong_passphrase", 400),
    (errors.DamagedExport, "damaged_export", 400),
    (errors.TransferError, "transfer", 500),
    (errors.SettingsRefused, "settings_refused", 400),
    (errors.InstallError, "install", 500),
    (errors.SyncError, "sync", 502),
    (errors.NodeError, "node", 500),
)


def problem(error: Exception) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the JSON object of an error."""
    if isinstance(error, EventError):
        return 400, problem_json("event", error.problem, error.field)
    if isinstance(error, ProtocolError):
        return 500, problem_json("protocol", str(error))
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            message = getattr(error, "problem", None) or str(error)
            if isinstance(error, errors.DaemonError):
                code = error.code  # what another daemon, or its client, said
            return status, problem_json(code, message, getattr(error, "field", None))
    return 500, problem_json("internal", "internal error; the daemon's log has more")


def problem_json(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """The JSON object of an error; the message is one line."""
    return {"error": {"code": code, "message": one_line(message), "field": field}}


def raise_problem(answer: Mapping[str, Any]) -> None:
    """Raise what `problem` was made from. Raises DaemonError for anything that it was not."""
    error = answer.get("error")
    if not isinstance(error, Mapping):
        raise errors.DaemonError("the daemon's answer is not understood; run: localmem down")
    code, message = str(error.get("code")), str(error.get("message"))
    field = str(error.get("field") or "")
    if code == "event":
        raise EventError(field, message)
    if code == "query":
        raise errors.QueryError(field, message)
    kinds: dict[str, type[errors.NodeError]] = {known: kind for kind, known, _ in _CODES}
    if code in kinds:
        raise kinds[code](message)
    raise errors.DaemonError(f"the daemon refused: {message}", code)


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())
