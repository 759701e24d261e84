"""The hook's command finds the runtime folder where everything else of the node has it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem_node.config import load_settings
from localmem_node.errors import ConfigError
from support.hook_command import client

pytestmark = pytest.mark.usefixtures("each_client")

_PATHS = st.sampled_from(
    [
        "/tmp",
        "/tmp/",
        "/nowhere",
        "/etc/passwd",
        "relative",
        ".",
        "~",
        "~/x",
        "~root/y",
        "",
        "/a b/é",
    ]
)
_VALUES = _PATHS | st.text("/~.ab é\"'", max_size=12)


def expected(environment: dict[str, str]) -> Path | None:
    """By `load_settings`, which reads the same variables of its own process through platformdirs."""
    with mock.patch.dict(os.environ, environment, clear=True):
        try:
            return load_settings(environment).runtime_dir
        except ConfigError:
            return None


def found(environment: dict[str, str]) -> Path | None:
    path = client().functions.runtime_dir(
        {os.fsencode(k): os.fsencode(v) for k, v in environment.items()}
    )
    return None if path is None else Path(os.fsdecode(path))


def one_root(path: Path | None) -> Path | None:
    """`//` is `/` where hooks run, though `Path` keeps it."""
    return Path("/", str(path).lstrip("/")) if path and path.is_absolute() else path


@given(
    st.dictionaries(
        st.sampled_from(["LOCALMEM_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "HOME"]), _VALUES
    )
)
def test_the_rules_are_those_of_the_settings(environment: dict[str, str]) -> None:
    try:
        wanted = expected(environment)
    except RuntimeError:  # a user whose home nobody knows, so that there is no daemon either
        return
    assert one_root(found(environment)) == one_root(wanted)


def test_a_home_that_is_no_utf8_is_found(tmp_path: Path) -> None:
    home = str(tmp_path) + "/\udcff"
    assert found({"LOCALMEM_HOME": home}) == expected({"LOCALMEM_HOME": home})
    assert found({"LOCALMEM_HOME": home}) == Path(home) / "run"
