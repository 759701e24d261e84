"""Which members are meant by who names lost devices."""

from __future__ import annotations

import pytest

from localmem_node.errors import QueryError
from localmem_node.sync.lost_devices import lost_devices
from localmem_protocol.roster import remove
from support.pools import NOW, RESCUER, Pool, device_id, person, pool


def named(*labels: str) -> Pool:
    made = pool()
    for number, label in enumerate(labels, start=1):
        made.admit(number, label=label)
    return made


def test_a_device_is_meant_by_its_id_or_its_name() -> None:
    team, other = named("phone", "tablet"), pool("member", seed=8)
    both = [team.roster, other.roster]
    assert lost_devices(both, RESCUER.keys, []) == set()
    meant = lost_devices(both, RESCUER.keys, ["phone", device_id(2), device_id(0)])
    assert meant == {device_id(1), device_id(2), device_id(0)}


def test_what_nobody_is_called_is_refused_and_the_members_are_named() -> None:
    team = named("phone")
    with pytest.raises(QueryError, match="is no member; there are") as caught:
        lost_devices([team.roster], RESCUER.keys, [device_id(1), "phnoe"])
    with pytest.raises(QueryError, match="is no member"):
        lost_devices([pool("member").roster], RESCUER.keys, [""])
    assert caught.value.field == "lost"
    assert f"{device_id(0)} (desk), {device_id(1)} (phone)" in str(caught.value)


def test_a_name_of_two_is_refused() -> None:
    with pytest.raises(QueryError, match="several"):
        lost_devices([named("phone", "phone").roster], RESCUER.keys, ["phone"])


def test_whoever_was_removed_already_is_no_mistake() -> None:
    team = named("phone")
    team.apply(remove(team.roster, person(0), team.random, NOW, device_id(1)))
    assert lost_devices([team.roster], RESCUER.keys, [device_id(1)]) == {device_id(1)}
