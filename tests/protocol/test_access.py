import pytest

from localmem_protocol.access import is_pool_id, origin_of, parse_room, proof_data, room_name

POOL = "0123456789abcdef" * 2


def test_a_room_is_named_after_its_pool_and_epoch() -> None:
    assert room_name(POOL, 3) == f"{POOL}.3"
    assert parse_room(f"{POOL}.3") == (POOL, 3)


@pytest.mark.parametrize(
    "name",
    [
        "team",
        POOL,
        f"{POOL}.",
        f"{POOL}.0",
        f"{POOL}.01",
        f"{POOL}.-1",
        f"{POOL}.1 ",
        f"{POOL}.1\n",
        f"{POOL}.٣",
        f"{POOL.upper()}.1",
        f"{POOL}0.1",
        f"{POOL}.{10**9}",
    ],
)
def test_no_other_name_is_a_room_of_an_epoch(name: str) -> None:
    assert parse_room(name) is None


@pytest.mark.parametrize("text", ["", POOL[1:], POOL + "0", POOL.upper(), POOL + "\n", "team"])
def test_a_pool_id_is_32_hex_digits(text: str) -> None:
    assert is_pool_id(POOL)
    assert not is_pool_id(text)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("ws://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("wss://Hub.Example.com:443/behind/a/proxy/", "https://hub.example.com"),
        ("HTTP://hub:80", "http://hub"),
        ("https://hub:80", "https://hub:80"),
        ("wss://[2001:DB8::1]:9", "https://[2001:db8::1]:9"),
    ],
)
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    assert origin_of(url) == origin
    assert origin_of(origin) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hub",
        "ftp://hub",
        "https://",
        "https://user@hub",
        "https://hub:0",
        "https://hub:65536",
        "https://hub?x",
        "https://hub#x",
        "https://hub\n",
        "https://häb",
        "https://" + "h" * 300,
    ],
)
def test_what_is_no_url_of_a_hub_has_no_origin(url: str) -> None:
    assert origin_of(url) is None


def test_what_is_signed_depends_on_every_part_and_on_where_one_ends() -> None:
    parts = ("ab", "cd", "ef", "gh")
    others = [("abc", "d", "ef", "gh"), ("ab", "cde", "f", "gh"), ("ab", "cd", "efg", "h")]
    others += [parts[::-1], ("", *parts[:3])]
    assert len({proof_data(*made) for made in [parts, *others]}) == len(others) + 1
