"""Any bytes as frames, updates and state vectors: a typed error, or what they say; never a crash."""

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

from support.identity_inputs import mutated
from support.missing import missing
from support.seeded import SeededRandom
from support.wire_inputs import check_notices, check_room, check_session, samples

ROOT = Path(__file__).parents[2]
SAMPLES = samples()
CASES = 1500
RUNS = 20_000


@pytest.mark.parametrize("check", SAMPLES)
def test_seeded_mutations_are_refused_or_are_what_they_say(check: Callable[[bytes], str]) -> None:
    outcomes: Counter[str] = Counter(check(sample) for sample in SAMPLES[check])
    for seed in range(CASES // 5 if check in (check_session, check_room) else CASES):
        random = SeededRandom(seed)
        data = mutated(random.choice(SAMPLES[check]), random)
        try:
            outcomes[check(data)] += 1
        except BaseException as error:  # pyo3's PanicException is no Exception
            raise AssertionError(f"{check.__name__}({data.hex()}): {error!r}") from error
    assert len(outcomes) > 1, outcomes


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for check in SAMPLES:
        check(noise)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("check", [one for one in SAMPLES if one is not check_notices])
def test_coverage_guided_fuzzing_finds_nothing(
    check: Callable[[bytes], str], tmp_path: Path
) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris is not installed; run: pip install --group fuzz")
    found = tmp_path / "corpus"
    found.mkdir()
    for number, sample in enumerate(SAMPLES[check]):
        (found / f"sample-{number}").write_bytes(sample)
    options = [f"-runs={RUNS}", "-max_len=2000", "-timeout=60", str(found)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/fuzz/sync_wire.py"), check.__name__, *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
