"""What Codex trusts: hooks that its user has looked at, each by a hash of its definition.

Codex skips a hook that it does not trust without a word. It notes trust in config.toml under
`[hooks.state."<file>:<event>:<group>:<place>"]`, as the SHA-256 of the hook's event, matcher and
handler, written as JSON with sorted keys, so that a change asks the user again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from localmem_node.installing.hooks import handlers

Trust = Literal["trusted", "changed", "not trusted", "turned off"]

TIMEOUT_S: Final = 600
"""What Codex takes where a hook says nothing."""

HOW: Final = (
    "start codex and choose `Trust all and continue`, or open /hooks in it; "
    "for scripts there is: codex exec --dangerously-bypass-hook-trust"
)


def names(path: Path, document: Mapping[str, Any]) -> dict[str, str]:
    """Under which name Codex notes each hook of ours in a file, and the hash of what it is now."""
    found = {}
    for place, handler in handlers(document):
        if len(place) != 5:
            continue
        _, event, group, _, index = place
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", str(event)).lower()
        matcher = document["hooks"][event][group].get("matcher")
        found[f"{path}:{name}:{group}:{index}"] = _hash(name, matcher, handler)
    return found


def trust(state: object, digest: str) -> Trust:
    """What an entry of `hooks.state` says of a hook with this hash."""
    if not isinstance(state, Mapping) or not isinstance(state.get("trusted_hash"), str):
        return "not trusted"
    if state.get("enabled") is False:
        return "turned off"
    return "trusted" if state["trusted_hash"] == digest else "changed"


def _hash(event: str, matcher: object, handler: Mapping[str, Any]) -> str:
    normal = {
        "async": handler.get("async", False),
        "command": handler.get("command"),
        "timeout": handler.get("timeout", TIMEOUT_S),
        "type": handler.get("type"),
    }
    identity: dict[str, object] = {"event_name": event, "hooks": [normal]}
    if matcher is not None:
        identity["matcher"] = matcher
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
