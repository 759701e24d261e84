"""What the hub has said, and what it has to be told then."""

from localmem_protocol.envelope import PoolKey
from localmem_protocol.hub_view import HubView
from localmem_protocol.limits import SEGMENT_BATCHES_MAX
from localmem_protocol.replica import Replica
from localmem_protocol.updates import decode_update
from support.events import event

POOL, ONE, TWO = PoolKey("team", 1, bytes(32)), "11" * 8, "22" * 8


def test_deletes_that_the_hub_told_of_are_not_told_to_it() -> None:
    owner, other = Replica(POOL, ONE, 1), Replica(POOL, TWO, 2)
    told = [owner.append([event(n, ONE)]) for n in range(1, SEGMENT_BATCHES_MAX + 4)]
    evicted = owner.evict(0)
    assert evicted is not None
    for update in (*told, evicted):
        other.integrate(update)
    view = HubView()
    for update in told:
        view.note(decode_update(update))
    gone = decode_update(evicted).deletes
    assert view.untold_deletes(other) == gone
    view.note(decode_update(evicted))
    assert view.untold_deletes(other) == {}


def test_deletes_of_what_the_hub_does_not_have_are_kept_from_it_unless_it_is_ours() -> None:
    owner, other = Replica(POOL, ONE, 1), Replica(POOL, TWO, 2)
    for number in range(1, SEGMENT_BATCHES_MAX + 4):
        other.integrate(owner.append([event(number, ONE)]))
    evicted = owner.evict(0)
    assert evicted is not None
    other.integrate(evicted)
    assert HubView().untold_deletes(other) == {}
    assert HubView().untold_deletes(owner) == decode_update(evicted).deletes
