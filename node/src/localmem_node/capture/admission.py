"""The gate of the store: what a deny list names or git ignores stays out, the rest comes out redacted."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from localmem_node.capture.ignored import IgnoredFiles
from localmem_node.capture.redaction import placeholder, redact
from localmem_node.errors import ConfigError
from localmem_node.project import is_project_id, project_of_remote
from localmem_protocol.errors import EventError
from localmem_protocol.events import Draft
from localmem_protocol.limits import LABEL_BYTES_MAX, PATH_BYTES_MAX, SNIPPET_BYTES_MAX

DENIED_ALWAYS: Final = (
    ".env", ".env.local", ".env.production", ".envrc", "*.pem", "*.p12", "*.pfx", "*.jks",
    "*.keystore", "*.kdbx", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", ".pgpass",
    ".git-credentials", ".npmrc", ".pypirc", ".aws/credentials", ".docker/config.json", ".kube/config",
)  # fmt: skip
"""Files that hold secrets and little else."""

DENIED_PROJECT: Final = "is on the deny list (capture.deny_projects)"

PATHS_REMEMBERED: Final = 1024


class Admission:
    """Decides, and cleans. Without arguments: the built-in deny list and redaction."""

    def __init__(
        self,
        deny_paths: Iterable[str] = (),
        deny_projects: Iterable[str] = (),
        deny_tools: Iterable[str] = (),
        ignored: IgnoredFiles | None = None,
    ) -> None:
        """Paths are patterns as in .gitignore: without a slash they match any part of a path, with
        one the end of it. Projects are ids, or git remotes. Tools are names, or patterns with `*`
        and `?`, whatever the case. `ignored` says which files git ignores. Raises ConfigError.
        """
        self._patterns = [(glob, _Glob(glob)) for glob in (*DENIED_ALWAYS, *deny_paths)]
        self._projects = project_ids(deny_projects)
        self._tools = [(glob, _tool(glob)) for glob in deny_tools]
        self._ignored = ignored
        # Events of one file come in runs, and this is half of the cost of admitting one.
        self._denied_by = lru_cache(maxsize=PATHS_REMEMBERED)(self._first_match)

    def admit(self, draft: Draft, folder: str | None = None) -> Draft:
        """The draft as it may be stored. Raises EventError naming the field that is denied.

        A relative path is looked for in `folder`; without one, git is not asked about it.
        """
        admitted = self.admit_all([draft], folder)[0]
        if isinstance(admitted, EventError):
            raise admitted
        return admitted

    def admit_all(
        self, drafts: Sequence[Draft], folder: str | None = None
    ) -> list[Draft | EventError]:
        """What `admit` returns or raises for each; git is asked once about all of them."""
        located = [_located(draft, folder) for draft in drafts]
        ignored: set[str] = set()
        if self._ignored and any(located):
            ignored = self._ignored.among({path for path in located if path})
        admitted: list[Draft | EventError] = []
        for draft, place in zip(drafts, located, strict=True):
            try:
                self._check(draft)
                if place in ignored:
                    raise EventError("filePath", "is ignored by git (capture.skip_ignored)")
                admitted.append(_redacted(draft))
            except EventError as error:
                admitted.append(error)
        return admitted

    def _check(self, draft: Draft) -> None:
        """Raises EventError if a deny list names the draft."""
        if draft.project is not None and draft.project in self._projects:
            raise EventError("project", DENIED_PROJECT)
        if draft.tool is not None:
            name = draft.tool.casefold()
            for glob, pattern in self._tools:
                if pattern.fullmatch(name):
                    raise EventError("tool", f"is on the deny list (capture.deny_tools: {glob})")
        if draft.file_path is not None and (denied := self._denied_by(draft.file_path)):
            raise EventError("filePath", f"is on the deny list ({denied})")

    def _first_match(self, path: str) -> str | None:
        parts = path.replace("\\", "/").strip("/").split("/")
        for glob, pattern in self._patterns:
            if pattern.matches(parts):
                return glob
        return None


def _located(draft: Draft, folder: str | None) -> str | None:
    """Where the file of a draft is, if anybody can say."""
    if draft.file_path is None:
        return None
    path = os.path.join(folder or "", draft.file_path)
    return path if os.path.isabs(path) else None


def _redacted(draft: Draft) -> Draft:
    return msgspec.structs.replace(
        draft,
        snippet=_fit(redact(draft.snippet), SNIPPET_BYTES_MAX),
        file_path=_label(draft.file_path, PATH_BYTES_MAX),
        tool=_label(draft.tool, LABEL_BYTES_MAX),
        session=_label(draft.session, LABEL_BYTES_MAX),
        project=_label(draft.project, LABEL_BYTES_MAX),
    )


class _Glob:
    """A deny pattern. What it matches denies everything below it, so its end is not anchored."""

    def __init__(self, glob: str) -> None:
        parts = glob.strip("/").split("/")
        if not any(part.strip("*") for part in parts):
            raise ConfigError(
                f"capture.deny_paths: {glob!r} matches nothing in particular; name files or folders"
            )
        self._anchored = glob.startswith("/") and parts[0] != "**"
        self._runs: list[list[re.Pattern[str]]] = [[]]
        for part in parts:
            if part == "**":
                self._runs.append([])
            else:
                self._runs[-1].append(_component(part))

    def matches(self, parts: Sequence[str]) -> bool:
        """Whether the runs between `**` follow each other; the leftmost place is the best."""
        at = 0
        for number, run in enumerate(self._runs):
            last = at if number == 0 and self._anchored else len(parts) - len(run)
            places = range(at, min(last, len(parts) - len(run)) + 1)
            found = next((place for place in places if _fits(run, parts[place:])), None)
            if found is None:
                return False
            at = found + len(run)
        return True


def _fits(run: Sequence[re.Pattern[str]], parts: Sequence[str]) -> bool:
    return all(pattern.fullmatch(part) for pattern, part in zip(run, parts, strict=False))


def _component(part: str) -> re.Pattern[str]:
    first, *rest = (
        "".join("." if character == "?" else re.escape(character) for character in fixed)
        for fixed in part.split("*")
    )
    if not rest:
        return re.compile(first, re.DOTALL)
    # The leftmost place of every piece but the last is as good as any: no backtracking.
    middle = "".join(f"(?>.*?{fixed})" for fixed in rest[:-1] if fixed)
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def _tool(glob: str) -> re.Pattern[str]:
    if not glob.strip("*"):
        raise ConfigError(f"capture.deny_tools: {glob!r} matches nothing in particular; name tools")
    return _component(glob.casefold())


def project_ids(texts: Iterable[str]) -> set[str]:
    """The ids of projects that are named by them, or by git remotes. Raises ConfigError."""
    return {_project(text) for text in texts}


def _project(text: str) -> str:
    identity = text if is_project_id(text) else project_of_remote(text)
    if identity is None:
        raise ConfigError(
            f"capture.deny_projects: {text!r} is neither a project id nor a git remote"
        )
    return identity


def _fit(text: str, bytes_max: int) -> str:
    # A placeholder can be longer than the secret it stands for.
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")


def _label(text: str | None, bytes_max: int) -> str | None:
    if text is None:
        return None
    cleaned = redact(text, guess=False)  # an id looks random, and has to stay one
    if len(cleaned.encode()) > bytes_max:
        return placeholder("label")
    return cleaned
