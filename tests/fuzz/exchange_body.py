"""Coverage-guided fuzzing of request bodies: `python tests/fuzz/exchange_body.py -runs=100000`.

The arguments are libFuzzer's. Any bytes are a body that encodes to them again, or a FrameError; and a
device that is answered so says FrameError, too.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["localmem_protocol.exchange", "localmem_protocol.wire"]):
    from localmem_protocol.errors import FrameError, GapError
    from localmem_protocol.exchange import Exchange, Visit, decode_body, encode_body
    from localmem_protocol.room import Peer


def one_input(data: bytes) -> None:
    """What atheris calls."""
    try:
        body = decode_body(data)
        assert encode_body(body) == data
        Exchange().answered(data)
        Visit(Peer(1, "11" * 8, transient=True), body)
    except (FrameError, GapError):
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
