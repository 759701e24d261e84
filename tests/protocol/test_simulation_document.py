"""The examples of docs/simulation.md run, and what it lists is all there is."""

import re
from pathlib import Path
from typing import Any

from localmem_protocol.simulation import FAULTS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")


def test_the_examples_run_and_the_planted_bug_is_found() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(compile(block, "docs/simulation.md", "exec"), names)
    assert not names["found"].passed


def test_every_fault_is_described_as_it_is_in_the_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCUMENT, re.MULTILINE))
    assert rows == FAULTS
