"""Any bytes as what identity is made of: a typed error, or what they say; never a crash."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.identity_inputs import (
    check_entry,
    check_head,
    check_keys,
    check_log,
    check_pairing,
    mutated,
    samples,
)
from support.missing import missing
from support.seeded import SeededRandom

ROOT = Path(__file__).parents[2]
SAMPLES = samples()
CHEAP = [check for check in SAMPLES if check is not check_pairing]
TARGETS = {
    "roster_entry": check_entry,
    "pairing_message": check_pairing,
    "signed_head": check_head,
    "device_keys": check_keys,
}
PAIRINGS, CASES = 40, 1500
RUNS = {"pairing_message": 500}


@pytest.mark.parametrize("check", SAMPLES)
def test_what_is_valid_is_taken(check: Callable[[bytes], str]) -> None:
    said = {check(sample) for sample in SAMPLES[check]}
    assert said & {"applied", "valid", "verified", "keys"}


@pytest.mark.parametrize("check", SAMPLES)
def test_seeded_mutations_are_refused_or_are_what_they_say(check: Callable[[bytes], str]) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(PAIRINGS if check is check_pairing else CASES):
        random = SeededRandom(seed)
        data = mutated(random.choice(SAMPLES[check]), random)
        try:
            outcomes[check(data)] += 1
        except Exception as error:
            raise AssertionError(f"{check.__name__}({data.hex()}): {error!r}") from error
    assert len(outcomes) > 1, outcomes


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for check in CHEAP:
        check(noise)


@pytest.mark.parametrize("check", [check_entry, check_log, check_pairing])
def test_deep_and_long_claims_cost_nothing(check: Callable[[bytes], str]) -> None:
    for bomb in (b"\xdd\xff\xff\xff\xff", b"\x91" * 4000, b"\xc6\xff\xff\xff\xff", b"\xde\xff\xff"):
        for sample in (b"", SAMPLES[check][0][:1]):
            assert check(sample + bomb) in ("RosterError", "refused")


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", TARGETS)
def test_coverage_guided_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris is not installed; run: pip install --group fuzz")
    found = tmp_path / "corpus"
    found.mkdir()
    for number, sample in enumerate(SAMPLES[TARGETS[name]]):
        (found / f"sample-{number}").write_bytes(sample)
    options = [f"-runs={RUNS.get(name, 20_000)}", "-max_len=2000", "-timeout=60", str(found)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fuzz" / f"{name}.py"), *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
