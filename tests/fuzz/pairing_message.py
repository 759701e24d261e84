"""Coverage-guided fuzzing of pairing messages: `python tests/fuzz/pairing_message.py -runs=100000 CORPUS`.

The arguments are libFuzzer's. An input is what `support.identity_inputs.check_pairing` takes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["localmem_protocol"]):
    from support.identity_inputs import check_pairing


def one_input(data: bytes) -> None:
    """What atheris calls."""
    check_pairing(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
