"""Coverage-guided fuzzing of the ring file: `python tests/fuzz/ring_file.py -runs=100000 CORPUS`.

The arguments are libFuzzer's. An input is a script of `support.ring_images`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]

with atheris.instrument_imports(include=["localmem_node.store"]):
    from support.ring_images import check


def one_input(script: bytes) -> None:
    """What atheris calls."""
    check(script[:400])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
