"""Coverage-guided fuzzing of what a sync connection carries:
`python tests/fuzz/sync_wire.py check_frame -runs=100000 CORPUS`.

The first argument names a check of `support.wire_inputs`, the others are libFuzzer's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["localmem_protocol"]):
    from support import wire_inputs


if __name__ == "__main__":
    check = getattr(wire_inputs, sys.argv.pop(1))

    def one_input(data: bytes) -> None:
        """What atheris calls."""
        check(data)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
