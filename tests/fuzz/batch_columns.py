"""Coverage-guided fuzzing of batches: `python tests/fuzz/batch_columns.py -runs=100000 CORPUS`.

The arguments are libFuzzer's. An input is what `support.batch_inputs.check_columns` takes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["localmem_protocol"]):
    from support.batch_inputs import check_columns


def one_input(data: bytes) -> None:
    """What atheris calls."""
    check_columns(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
