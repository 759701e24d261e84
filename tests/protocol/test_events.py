import msgspec
import pytest
from hypothesis import given

from localmem_protocol.errors import EventError
from localmem_protocol.events import (
    Draft,
    Event,
    decode_draft,
    draft_of,
    is_device_id,
    parse_draft,
    parse_recorded,
    stamp,
    with_id,
)
from localmem_protocol.limits import SNIPPET_BYTES_MAX
from support.events import drafts, event, events, fields


def test_the_five_fields_suffice_and_the_rest_gets_defaults() -> None:
    draft = parse_draft(fields(modelResponseHash="0123456789abcdef"))
    assert draft.model_response_hash == "0123456789abcdef"
    assert (draft.kind, draft.pinned, draft.project) == ("edit", False, None)


def test_a_prompt_needs_no_place() -> None:
    draft = parse_draft({"timestamp": 1, "snippet": "why?", "kind": "prompt"})
    assert draft.file_path is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": "2026-01-01"}, "timestamp"),
        ({"timestamp": True}, "timestamp"),
        ({"timestamp": 1.5}, "timestamp"),
        ({"timestamp": -1}, "timestamp"),
        ({"timestamp": 2**47}, "timestamp"),
        ({"filePath": None}, "filePath"),
        ({"filePath": ""}, "filePath"),
        ({"filePath": "a\nb"}, "filePath"),
        ({"filePath": "a\x7fb"}, "filePath"),
        ({"filePath": "a\x9bb"}, "filePath"),
        ({"filePath": "x" * 5000}, "filePath"),
        ({"filePath": "\ud800"}, "filePath"),
        ({"selectionRange": [0, 1]}, "selectionRange"),
        ({"selectionRange": [2, 1]}, "selectionRange"),
        ({"selectionRange": [1]}, "selectionRange"),
        ({"selectionRange": [1, 2.5]}, "selectionRange"),
        ({"selectionRange": [True, True]}, "selectionRange"),
        ({"selectionRange": "1-2"}, "selectionRange"),
        ({"snippet": ""}, "snippet"),
        ({"snippet": " \n"}, "snippet"),
        ({"snippet": 7}, "snippet"),
        ({"snippet": "é" * (SNIPPET_BYTES_MAX // 2 + 1)}, "snippet"),
        ({"modelResponseHash": "ABCDEF0123456789"}, "modelResponseHash"),
        ({"modelResponseHash": "abc"}, "modelResponseHash"),
        ({"kind": "edits"}, "kind"),
        ({"kind": []}, "kind"),
        ({"pinned": 1}, "pinned"),
        ({"tool": "x" * 200}, "tool"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(EventError) as caught:
        parse_draft(fields(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"7", b'"x"', b"\xff\xfe", b'{"timestamp": \xff}', b"[" * 100_000],
)
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(EventError):
        decode_draft(line)


def test_a_line_of_json_becomes_a_draft() -> None:
    assert decode_draft(msgspec.json.encode(fields())) == parse_draft(fields())


def test_the_id_follows_from_everything_but_the_pin() -> None:
    one = event(1)
    assert len(one.id) == 16
    assert with_id(msgspec.structs.replace(one, id="", pinned=True)).id == one.id
    for change in ({"snippet": "other"}, {"clock": 1}, {"sequence": 9}, {"device": "ff" * 8}):
        assert with_id(msgspec.structs.replace(one, **change)).id != one.id


def test_json_names_are_camel_case() -> None:
    names = msgspec.to_builtins(event(1)).keys()
    assert {"timestamp", "filePath", "selectionRange", "snippet", "modelResponseHash"} <= names


def test_a_device_id_is_sixteen_hex_digits() -> None:
    assert is_device_id("00112233445566aa")
    assert not any(map(is_device_id, ["", "00112233445566AA", "0011", "zz112233445566aa"]))


@given(drafts())
def test_a_draft_can_be_had_back_from_its_event(draft: Draft) -> None:
    assert draft_of(stamp(draft, device="ab" * 8, clock=7, sequence=3)) == draft


@given(events())
def test_a_recorded_event_parses_from_its_own_json(recorded: Event) -> None:
    fields = msgspec.json.decode(msgspec.json.encode(recorded))
    assert parse_recorded(fields) == recorded


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": None}, "id"),
        ({"id": "aaaaaaaaaaaaaaaa"}, "id"),
        ({"id": 7}, "id"),
        ({"snippet": "altered"}, "id"),
        ({"timestamp": 5}, "id"),
        ({"device": None}, "device"),
        ({"device": "00112233445566AA"}, "device"),
        ({"device": 7}, "device"),
        ({"clock": None}, "clock"),
        ({"clock": -1}, "clock"),
        ({"clock": 2**63}, "clock"),
        ({"clock": True}, "clock"),
        ({"sequence": 0}, "sequence"),
        ({"sequence": 1.0}, "sequence"),
        ({"sequence": 2**63}, "sequence"),
        ({"snippet": ""}, "snippet"),
        ({"kind": "thought"}, "kind"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_recorded_event_with_a_wrong_field_is_refused_by_its_name(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(EventError) as caught:
        parse_recorded(msgspec.to_builtins(event(1)) | changes)
    assert caught.value.field == field
