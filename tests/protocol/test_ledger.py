import pytest

from localmem_protocol.envelope import batch_hash
from localmem_protocol.errors import GapError, UpdateError
from localmem_protocol.ledger import Ledger
from localmem_protocol.limits import CLIENT_ID_MAX
from localmem_protocol.updates import Item, Update

ONE, TWO = "11" * 8, "22" * 8


def run(
    first: int, count: int, *, root: str | None = None, origin: int | None = None
) -> list[Item]:
    contents = tuple(b"batch %d" % clock for clock in range(first, first + count))
    return [Item(first, count, contents, origin=None if origin is None else (origin, 0), root=root)]


def enter(ledger: Ledger, update: Update) -> None:
    ledger.note(update, ledger.check(update))


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    enter(ledger, Update({1: run(0, 3, root=ONE)}))
    ledger.register(2, TWO)
    return ledger


def test_an_account_knows_its_device_its_clock_and_its_newest_batch(ledger: Ledger) -> None:
    account = ledger.account(1)
    assert account is not None
    assert (account.device, account.clock, account.head) == (ONE, 3, batch_hash(b"batch 2"))
    assert ledger.clients_of(TWO) == [2]
    assert ledger.free() == 3


@pytest.mark.parametrize(
    "update",
    [
        Update({1: [Item(4, 1, (b"x",), origin=(1, 3))]}),
        Update({2: [Item(1, 1, (b"x",), root=TWO)]}),
        Update({5: [Item(0, 1, (b"x",), origin=(1, 9))]}),
        Update({5: [Item(0, 1, (b"x",), origin=(6, 0))]}),
        Update({}, {1: [(2, 2)]}),
        Update({}, {9: [(0, 1)]}),
    ],
    ids=["clock", "registered", "origin", "unknown-origin", "delete", "unknown-delete"],
)
def test_what_builds_on_something_missing_is_a_gap(ledger: Ledger, update: Update) -> None:
    with pytest.raises(GapError):
        ledger.check(update)


@pytest.mark.parametrize(
    "update",
    [
        Update({1: [Item(3, 1, (b"x",), root=TWO)]}),
        Update({2: [Item(0, 1, (b"x",), origin=(1, 2))]}),
        Update({5: run(0, 1, root="documents")}),
        Update({1: [Item(3, 1, (b"x",), origin=(1, 3))]}),
        Update({1: [Item(3, 1, (b"x",), origin=(1, 2), right=(1, 3))]}),
        Update({1: [Item(3, 1, (b"x",), origin=(1, 4)), Item(4, 1, (b"x",), origin=(1, 2))]}),
        Update({1: [Item(3, 1, (b"x",), (5, 0))], 5: [Item(0, 1, (b"x",), (1, 3))]}),
        Update({CLIENT_ID_MAX + 1: run(0, 1, root=ONE)}),
        Update({0: run(0, 1, root=ONE)}),
    ],
    ids=[
        "another-array",
        "another-device",
        "no-device",
        "itself",
        "itself-at-the-right",
        "its-own-future",
        "in-a-circle",
        "too-high",
        "zero",
    ],
)
def test_what_contradicts_the_accounts_is_refused_for_good(ledger: Ledger, update: Update) -> None:
    with pytest.raises(UpdateError) as caught:
        ledger.check(update)
    assert caught.value.permanent


def test_a_second_incarnation_is_known_by_what_it_builds_on(ledger: Ledger) -> None:
    update = Update({5: [Item(0, 1, (b"x",), origin=(1, 2))]})
    enter(ledger, update)
    assert ledger.owner(5) == ONE


def test_a_client_id_is_never_rebound(ledger: Ledger) -> None:
    with pytest.raises(UpdateError):
        ledger.register(1, TWO)


def test_a_check_changes_nothing(ledger: Ledger) -> None:
    ledger.check(Update({7: run(0, 2, root=TWO)}))
    assert 7 not in ledger
