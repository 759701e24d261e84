"""What a sealed room of a real hub does with Yjs updates that are not sealed batches, or lack something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pycrdt import Array, Doc, Map, Text

from localmem_protocol.frames import Close, Refusal, Update
from localmem_protocol.updates import Item, encode_update
from localmem_protocol.updates import Update as YjsUpdate
from support.hub_process import HubProcess, running_hub
from support.sync_client import RawClient, close_code

ONE, TWO = (f"{number:016x}" for number in (1, 2))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def made(kind: str, client: int) -> bytes:
    """What a client of another program would send under this client id."""
    doc: Doc[Array[object] | Text | Map[object]] = Doc(client_id=client)
    match kind:
        case "nested":
            doc[ONE] = Array([Array([b"inner"])])
        case "text":
            doc[ONE] = Text("in the clear")
        case "map":
            doc[ONE] = Map({"key": b"value"})
        case _:
            doc[ONE] = Array(["in the clear", 1])
    return doc.get_update()


async def refusal_of(hub: HubProcess, pool: str, update: bytes, *, client: int) -> Refusal:
    """What the device is told that sends this, while another one writes on."""
    async with asyncio.timeout(60):
        other = await RawClient.join(hub.url, pool, TWO, hub.token(pool, TWO))
        one = await RawClient.join(hub.url, pool, ONE, hub.token(pool, ONE), client=client)
        assert one.client == client
        await one.send(Update(update))
        refusal = await one.next()
        assert isinstance(refusal, Refusal)
        assert await close_code(one.socket) == refusal.code
        await other.write(b"undisturbed")
        await other.acknowledged(other.clock)
        await other.socket.close()
    assert hub.query(f"SELECT DISTINCT device FROM updates WHERE pool = '{pool}'") == [(TWO,)]
    return refusal


@pytest.mark.parametrize("kind", ["nested", "text", "map", "values"])
async def test_other_types_are_refused_and_kept_for_the_operator(
    hub: HubProcess, kind: str
) -> None:
    update = made(kind, 77)
    refusal = await refusal_of(hub, kind, update, client=77)
    assert (refusal.code, refusal.permanent) == (Close.REFUSED_UPDATE, True)
    assert hub.query(f"SELECT device, bytes FROM quarantine WHERE pool = '{kind}'") == [
        (ONE, update)
    ]


async def test_an_update_whose_dependencies_are_missing_is_asked_for_again(
    hub: HubProcess,
) -> None:
    update = encode_update(YjsUpdate({77: [Item(5, 1, (b"x",), origin=(77, 4))]}))
    refusal = await refusal_of(hub, "missing", update, client=77)
    assert (refusal.code, refusal.permanent) == (Close.GAP, False)
    assert hub.query("SELECT COUNT(*) FROM quarantine WHERE pool = 'missing'") == [(0,)]
