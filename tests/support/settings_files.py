"""Files of settings as people have them: any content, in any style."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

FOREIGN = {"hooks": [{"type": "command", "command": "lint --fix 'a b'", "timeout": 5}]}
FOREIGN_FLAT = {"command": "./notify.sh"}

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
events = st.sampled_from(["Stop", "PostToolUse", "Notification", "stop", "sessionStart"])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """An object with anything in it, sometimes with hooks and servers of somebody else."""
    found: dict[str, Any] = draw(st.dictionaries(names, values, max_size=4))
    for name in ("hooks", "mcpServers", "projects", "version"):
        found.pop(name, None)
    if draw(st.booleans()):
        groups = st.lists(st.sampled_from([FOREIGN, FOREIGN_FLAT]), max_size=2)
        found["hooks"] = draw(st.dictionaries(events, groups, max_size=3))
    if draw(st.booleans()):
        servers = st.fixed_dictionaries({"command": names})
        found["mcpServers"] = draw(st.dictionaries(st.just("other"), servers, max_size=1))
    order = draw(st.permutations(list(found)))
    return {name: found[name] for name in order}


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A document, and a text of it in some style."""
    document = draw(documents())
    indent = draw(st.sampled_from([None, 1, 2, 4, "\t"]))
    comma = draw(st.sampled_from([",", ", "])) if indent is None else ","
    colon = draw(st.sampled_from([":", ": ", " : "]))
    ascii_only = draw(st.booleans())
    text = json.dumps(document, indent=indent, separators=(comma, colon), ensure_ascii=ascii_only)
    if draw(st.booleans()) and indent is not None:
        text = text.replace("\n", "\r\n")
    return document, draw(st.sampled_from(["", "\n", "  "])) + text + draw(
        st.sampled_from(["", "\n", "\r\n", "\n\n"])
    )
