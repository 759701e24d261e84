"""Any bytes as a ring file: an error or a store that works, never a crash, never an overwrite."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.missing import missing
from support.ring_images import STEP, bases, check
from support.seeded import SeededRandom

ROOT = Path(__file__).parents[3]
CORPUS = Path(__file__).parent / "corpus"
TARGET = ROOT / "tests" / "fuzz" / "ring_file.py"
CASES = 2000
RUNS = 20_000


def drawn(random: SeededRandom) -> bytes:
    """A script that tends to mend the checksums of what it broke."""
    script = bytearray([random.below(len(bases()))])
    for _ in range(1 + random.below(5)):
        what, small = random.below(8), random.below(256)
        number, wide = random.below(1 << 16), random.below(1 << random.choice([4, 8, 16, 32]))
        script += STEP.pack(what, small, number, wide)
        if what in (1, 2) and random.chance(0.7):
            script += STEP.pack(7, small, 0, 0)
        if what == 5 and random.chance(0.7):
            script += STEP.pack(6, 0, number, 0)
    return bytes(script)


def test_seeded_scripts_are_refused_or_open_a_store_that_works() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(CASES):
        script = drawn(SeededRandom(seed))
        try:
            outcomes[check(script)] += 1
        except Exception as error:
            raise AssertionError(f"script {script.hex()}: {error!r}") from error
    assert {"opened", "ForeignFile", "WrongVersion", "DamagedStore"} <= set(outcomes), outcomes
    assert outcomes["opened"] > CASES // 5


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_no_store(data: bytes) -> None:
    assert check(b"\xff" + data) in ("empty", "ForeignFile", "WrongVersion", "DamagedStore")


@pytest.mark.parametrize("name", sorted(file.name for file in CORPUS.iterdir()))
def test_what_fuzzing_has_found_stays_mended(name: str) -> None:
    check((CORPUS / name).read_bytes())


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_coverage_guided_fuzzing_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris is not installed; run: pip install --group fuzz")
    found = tmp_path / "corpus"
    found.mkdir()
    done = subprocess.run(
        [sys.executable, TARGET, f"-runs={RUNS}", "-max_len=400", "-timeout=60", found, CORPUS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
