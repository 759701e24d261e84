"""Install and uninstall as a whole: launchers, the endpoint for HTTP hooks, the editors' files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from localmem_node.config import Settings
from localmem_node.daemon.endpoint import (
    HookEndpoint,
    endpoint_path,
    is_held,
    make_endpoint,
    read_endpoint,
)
from localmem_node.editors.captured import Editor
from localmem_node.errors import InstallError
from localmem_node.files import private_directory, try_lock, write_private
from localmem_node.hook.launcher import hook_path, mcp_path, remove_launcher, write_launcher
from localmem_node.installing.applying import apply, check, write_record
from localmem_node.installing.hooks import Transport
from localmem_node.installing.places import (
    Places,
    Scope,
    Target,
    claude_settings,
    codex_folder,
    targets,
)
from localmem_node.installing.planning import (
    Change,
    plan_install,
    plan_uninstall,
    read_settings,
)
from localmem_node.installing.record import Record, read_record, record_path
from localmem_node.installing.trust import names
from localmem_node.project import find_root
from localmem_protocol.seams import Random

PLACEHOLDER: Final = HookEndpoint(0, "0" * 64)
"""What is shown of an endpoint that does not exist yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or would be. `port` is the one that HTTP hooks ask; `made` if it is new."""

    changes: Sequence[Change]
    port: int | None = None
    made: bool = False
    notes: Sequence[str] = field(default_factory=tuple)


def transport_for(asked: Transport | None, scope: Scope, places: Places) -> Transport:
    """HTTP, unless asked otherwise or the token would come into a file that could be committed."""
    if scope == "project":
        return "command"
    return asked or ("command" if in_repository(claude_settings(places, scope)) else "http")


def in_repository(path: Path) -> bool:
    """Whether a file, where links lead, is inside of a git repository: one for dotfiles, say."""
    return find_root(Path(os.path.realpath(path)).parent) is not None


def preview_install(
    settings: Settings,
    editors: Iterable[Editor],
    scope: Scope,
    places: Places,
    transport: Transport,
) -> Outcome:
    """What install would do. Writes nothing. Raises InstallError."""
    endpoint = (read_endpoint(settings) or PLACEHOLDER) if transport == "http" else None
    changes = _plan_install(settings, editors, scope, places, endpoint)
    check(changes)
    return Outcome(changes, endpoint.port if endpoint else None)


def install(
    settings: Settings,
    environment: Mapping[str, str],
    random: Random,
    editors: Sequence[Editor],
    scope: Scope,
    places: Places,
    transport: Transport,
    listening: int | None = None,
) -> Outcome:
    """Wire the editors. `listening` is the port of the daemon that answers now.

    Raises InstallError, ConfigError; then nothing has changed.
    """
    preview_install(settings, editors, scope, places, transport)
    with _alone(settings):
        return _install(settings, environment, random, editors, scope, places, transport, listening)


def _install(
    settings: Settings,
    environment: Mapping[str, str],
    random: Random,
    editors: Sequence[Editor],
    scope: Scope,
    places: Places,
    transport: Transport,
    listening: int | None,
) -> Outcome:
    before = read_endpoint(settings)
    had_launcher = hook_path(settings).exists() or mcp_path(settings).exists()
    needs_endpoint = transport == "http" and "claude-code" in editors
    try:
        endpoint = _endpoint(settings, random, listening) if needs_endpoint else None
        write_launcher(settings, environment)
        changes = _plan_install(settings, editors, scope, places, endpoint)
        apply(changes, read_record(settings), record_path(settings))
    except BaseException as error:
        if not had_launcher:
            remove_launcher(settings)
        _keep_endpoint(settings, before)
        if isinstance(error, OSError):
            raise InstallError(f"{error.filename}: {error.strerror}; nothing was changed") from None
        raise
    return Outcome(changes, endpoint.port if endpoint else None, endpoint != before)


def install_plugin(settings: Settings, environment: Mapping[str, str]) -> None:
    """Write the launchers that a plugin looks for, and remember that it needs them."""
    with _alone(settings):
        write_launcher(settings, environment)
        record = read_record(settings)
        write_record(record_path(settings), Record(files=record.files, plugin=True))


def preview_uninstall(
    settings: Settings, editors: Iterable[Editor], scope: Scope, places: Places
) -> Outcome:
    """What uninstall would do. Writes nothing. Raises InstallError."""
    wanted = _targets(settings, editors, scope, places, None, trusted=True)
    return Outcome(plan_uninstall(wanted, read_record(settings), read_settings))


def uninstall(
    settings: Settings, editors: Iterable[Editor], scope: Scope, places: Places, *, plugin: bool
) -> Outcome:
    """Take ours out, and with the last of it the launchers. Raises InstallError.

    `plugin` if the launchers are no longer needed by one.
    """
    preview_uninstall(settings, editors, scope, places)
    with _alone(settings):
        outcome = preview_uninstall(settings, editors, scope, places)
        record = read_record(settings)
        record = Record(files=record.files, plugin=record.plugin and not plugin)
        if apply(outcome.changes, record, record_path(settings)) == Record():
            remove_launcher(settings)
            endpoint_path(settings).unlink(missing_ok=True)
    return outcome


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Two at once would each keep a record without what the other did. Raises InstallError."""
    lock = try_lock(private_directory(settings.runtime_dir) / "install.lock")
    if lock is None:
        raise InstallError("another install or uninstall is under way; nothing was changed")
    try:
        yield
    finally:
        os.close(lock)


def _endpoint(settings: Settings, random: Random, listening: int | None) -> HookEndpoint:
    """The endpoint, with a port that no stranger holds. Raises InstallError, ConfigError, OSError."""
    found = read_endpoint(settings)
    port = settings.port or (found.port if found is not None else 0)
    if port and port != listening and is_held(port):
        if settings.port:
            raise InstallError(
                f"port {port}, which daemon.port names, is held by another program; "
                "end it or set another port; nothing was changed"
            )
        # It may have been sent the token already, so there is a new one as well.
        endpoint_path(settings).unlink()
    return make_endpoint(settings, random)


def _keep_endpoint(settings: Settings, before: HookEndpoint | None) -> None:
    """Have the endpoint that there was."""
    if before is None:
        endpoint_path(settings).unlink(missing_ok=True)
    elif read_endpoint(settings) != before:
        write_private(endpoint_path(settings), msgspec.json.encode(before))


def _plan_install(
    settings: Settings,
    editors: Iterable[Editor],
    scope: Scope,
    places: Places,
    endpoint: HookEndpoint | None,
) -> list[Change]:
    wanted = _targets(settings, editors, scope, places, endpoint)
    return plan_install(wanted, read_record(settings), read_settings)


def _targets(
    settings: Settings,
    editors: Iterable[Editor],
    scope: Scope,
    places: Places,
    endpoint: HookEndpoint | None,
    *,
    trusted: bool = False,
) -> list[Target]:
    found: list[Target] = []
    for editor in editors:
        known = _trusted(codex_folder(places, scope)) if trusted and editor == "codex" else ()
        found += targets(
            editor, scope, places, hook_path(settings).parent, endpoint, frozenset(known)
        )
    return found


def _trusted(folder: Path) -> Iterable[str]:
    """The names under which Codex notes its trust in our hooks, as they are now."""
    path = folder / "hooks.json"
    with contextlib.suppress(ValueError, OSError):
        document: Any = json.loads(path.read_bytes())
        if isinstance(document, dict):
            return {*names(path, document), *names(Path(os.path.realpath(path)), document)}
    return ()
