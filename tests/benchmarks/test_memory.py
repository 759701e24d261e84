from __future__ import annotations

import json

import pytest

from bench import memory


def test_memory_is_sampled_while_a_ring_wraps(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--events", "400", "--every", "50", "--sizes", "32 KiB", "--json"]
    memory.main(arguments)
    store = json.loads(capsys.readouterr().out)["stores"]["0.03125 MiB"]
    assert [sample["recorded"] for sample in store["samples"]] == list(range(0, 401, 50))
    assert store["samples"][0]["events"] == 0 < store["samples"][-1]["events"] < 200
    assert all(0 < one["anonymous_mib"] < one["rss_mib"] for one in store["samples"])
    assert store["full_after"] <= 200
    assert store["laps"] > 2
    assert isinstance(store["slope"], float)


def test_with_encode_every_sample_has_all_its_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--events", "30", "--every", "15", "--sizes", "1 MiB", "--encode"])
    printed = capsys.readouterr()
    assert printed.err.count("waiting=0 ") == 3
    assert "| slope" in printed.out


def test_slopes_are_those_before_the_ring_was_full_and_after_it_was_filled_twice() -> None:
    sizes = [10, 20, 30, 40, 50, 54, 58, 62]
    samples: list[memory.Sample] = [
        {"recorded": 100 * at, "events": min(100 * at, 300), "anonymous_mib": size}
        for at, size in enumerate(sizes)
    ]
    found = memory.summary(samples)
    assert (found["full_after"], found["start_mib"], found["end_mib"]) == (400, 10, 62)
    assert found["per_event"] == pytest.approx(0.1 * memory.MIB, abs=0.01)
    assert found["slope"] is None
    more: list[memory.Sample] = [{"recorded": 800, "events": 300, "anonymous_mib": 66}]
    assert memory.summary(samples + more)["slope"] == pytest.approx(0.04 * memory.MIB, abs=0.01)
