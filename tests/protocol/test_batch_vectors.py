"""The vectors for other languages: what this release makes and reads, and any bytes beside them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from localmem_protocol.envelope import Opener, PoolKey
from localmem_protocol.errors import ProtocolError
from localmem_protocol.parcels import Context, decode_parcel
from support.batch_inputs import check_columns, check_parcel, check_sealed
from support.batch_vectors import FOLDER, VECTORS, rendered, shown, zstd
from support.seeded import SeededRandom

Json = dict[str, Any]


@cache
def stored(name: str) -> Json:
    vectors: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return vectors


def opener(vectors: Json) -> Opener:
    pool = PoolKey(vectors["pool_text"], vectors["epoch"], bytes.fromhex(vectors["key"]))
    assert pool.reference_key().hex() == vectors["reference_key"]
    return Opener(pool, vectors["device"], vectors["client"])


@pytest.mark.parametrize("name", VECTORS)
def test_the_files_are_what_the_script_writes(name: str) -> None:
    if stored(name)["zstd_text"] == zstd():  # others compress otherwise, and are read all the same
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == rendered(name)


def test_batches_are_read_as_they_were_written() -> None:
    vectors = stored("batches")
    context = Context.of(vectors["device"])
    for batch in vectors["segment"]:
        parcel, context = decode_parcel(bytes.fromhex(batch["plain"]), context)
        assert shown(parcel) == batch["parcel"]


def test_envelopes_open_with_every_padding() -> None:
    vectors = stored("envelope")
    for chain in vectors["chains_by_padding"].values():
        reader = opener(vectors)
        for batch, parcel in zip(chain, vectors["parcels"], strict=True):
            opened = reader.open(bytes.fromhex(batch["sealed"]), batch["clock"])
            assert shown(opened) == parcel
    again = vectors["restarted"]
    opened = opener(vectors).open(bytes.fromhex(again["sealed"]), again["clock"])
    assert shown(opened) == again["parcel"]


def test_what_must_not_open_does_not() -> None:
    vectors = stored("envelope")
    for name, batch in vectors["refused_at_clock_0"].items():
        with pytest.raises(ProtocolError) as refused:
            opener(vectors).open(bytes.fromhex(batch["sealed"]), 0)
        assert refused.value.code == batch["code_text"], name


def test_any_change_of_them_is_refused_or_read_as_what_it_says() -> None:
    random = SeededRandom(6)
    plains = [bytes.fromhex(batch["plain"]) for batch in stored("batches")["segment"]]
    outcomes: set[str] = set()
    for _ in range(600):
        data = bytearray(random.choice(plains))
        for _ in range(1 + random.below(3)):
            data[random.below(len(data))] = random.below(256)
        outcomes |= {check_parcel(bytes(data)), check_sealed(b"\x00" + bytes(data))}
        outcomes.add(check_columns(bytes(data[1:])))
    assert outcomes == {"valid", "BatchError"}
