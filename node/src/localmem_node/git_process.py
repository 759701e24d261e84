"""How git is run: for what it says, of the repository it is asked about, and never to wait for."""

from __future__ import annotations

import os
from typing import Final

_TIES: Final = frozenset(
    [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_PREFIX",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_EXTERNAL_DIFF",
        "GIT_DIFF_OPTS",
    ]
)


def git_environment() -> dict[str, str]:
    """Ours, without what ties git to another repository, and with messages in English.

    Nothing is fetched or asked for, and no lock is taken for the sake of a cache.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _TIES}
    return kept | {
        "LC_ALL": "C",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
