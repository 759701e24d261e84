"""The bench of synchronisation's bytes, and the budgets that it has to keep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import payload
from bench.edits import SEED
from bench.payload import Altered, send, year
from bench.payload_trace import Checkout, Hashes, SourceFile, Trace, trace
from localmem_protocol.references import refer


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """The whole bench, of a short year."""
    return payload.measure(payload.EVENTS, 8, SEED)


def test_a_trace_is_the_same_every_time_and_whatever_hashes_it_carries() -> None:
    one, again, hashed = trace(60), trace(60), trace(60, hashes=Hashes.TURNS)
    assert one == again
    assert [event.snippet for event in one.all_events()] == [
        event.snippet for event in hashed.all_events()
    ]
    hashes = [event.model_response_hash for event in hashed.all_events()]
    assert None not in hashes
    assert len(set(hashes)) < 60
    assert len(trace(60, seed=1).files) == len(one.files)
    assert trace(60, seed=1).files != one.files


def test_the_dictionary_saw_none_of_the_traces_files(measured: dict[str, Any]) -> None:
    assert 150 < measured["snippet_characters"] < 240
    assert not set(measured["trace_files"]) & set(measured["dictionary_files"])
    assert all(path.endswith(".py") for path in measured["trace_files"])


def test_budgets_at_ten_per_update(measured: dict[str, Any]) -> None:
    """Other packages have other texts: what all at once needs more bytes for, may take more."""
    hashed = measured["response_hashes"]["each"]
    least = min(hashed["floor"]["snippets"].values())
    sent = hashed["snippets"]["10"]["increment_bytes"]
    assert sent <= max(68 * payload.EVENTS, 1.25 * least)
    assert measured["reference"]["10"]["increment_bytes"] <= 4096


def test_larger_batches_cost_less_and_everything_less_than_other_designs(
    measured: dict[str, Any],
) -> None:
    for mode in ("snippets", "reference"):
        sizes = [measured[mode][size]["increment_bytes"] for size in ("1", "10", "all")]
        assert sizes == sorted(sizes, reverse=True)
        assert min(measured["floor"][mode].values()) < sizes[-1]
        for design in measured["baselines"].values():
            assert all(
                measured[mode][size]["increment_bytes"] < design[size]["increment_bytes"] / 4
                for size in ("1", "10", "all")
            )


def test_the_more_text_is_in_no_commit_the_more_it_costs(measured: dict[str, Any]) -> None:
    rows = list(measured["share_as_snippet"].values())
    assert rows[0]["share"] == 0
    assert [row["increment_bytes"] for row in rows] == sorted(
        row["increment_bytes"] for row in rows
    )


def test_transport_is_counted_apart(measured: dict[str, Any]) -> None:
    transport = measured["transport"]
    assert 0 < transport["websocket"]["up"] < transport["http"]["up"]


def test_the_document_is_as_large_as_on_the_fifth_day() -> None:
    assert abs(year(12)["change"]) <= 0.01


def test_an_event_that_came_back_otherwise_is_noticed() -> None:
    day = trace(30)
    wrong = Trace(day.events, [SourceFile(f.project, f.path, ("x",) * 9) for f in day.files])
    send(day, 10, references=True)
    with pytest.raises(Altered):
        send(wrong, 10, references=True)


def test_a_checkout_without_the_file_has_no_text() -> None:
    day = trace(3)
    event = day.all_events()[0]
    reference = refer(event, bytes(32))
    assert reference is not None
    assert event.snippet in Checkout(day.files).texts(reference)
    assert Checkout([]).texts(reference) == []


def test_both_forms_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    payload.main(["--events", "30", "--days", "5", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert {"snippets", "reference", "baselines", "floor"} <= set(result)
    assert set(result["snippets"]["10"]) >= {"document_bytes", "increment_bytes"}
    payload.main(["--events", "30", "--days", "5"])
    assert "| references" in capsys.readouterr().out
