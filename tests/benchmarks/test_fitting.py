"""What is fitted is the best there is, wherever the search for it begins."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fitting import Candidates, fitted_weights
from localmem_node.retrieval.model import FEATURES

_WIDTH = len(FEATURES)
_TELLING = FEATURES.index("words")


def _questions(said: list[float]) -> list[Candidates]:
    """Questions of nine candidates; for each the share of what is said. "words" tells the answer."""
    chance = np.random.default_rng(1)
    made: list[Candidates] = []
    for share in said:
        features = chance.random((9, _WIDTH)).astype(np.float32)
        features[:2, _TELLING] += 0.5
        made.append(
            Candidates(
                "git",
                "store",
                np.arange(9),
                features,
                chance.random(9) < share,
                (0, 1),
                np.arange(9),
            )
        )
    return made


@pytest.mark.parametrize("said", [[0.0] * 12, [1.0] * 12, [0.0, 1.0, 0.5] * 8])
def test_the_weights_are_the_same_from_any_start(said: list[float]) -> None:
    asked = _questions(said)
    found = fitted_weights(asked, {"git": 1.0}, 2.0)
    start = np.random.default_rng(2).random((2, _WIDTH))
    assert np.allclose(fitted_weights(asked, {"git": 1.0}, 2.0, start=start), found, atol=0.05)
    assert found[0, _TELLING] > 0 or 0.0 not in said
    assert found[1, _TELLING] > 0 or 1.0 not in said


def test_a_feature_that_is_left_out_weighs_nothing() -> None:
    asked = _questions([0.0, 1.0, 0.5] * 8)
    found = fitted_weights(asked, {"git": 1.0}, 2.0, without=("words",), start=np.ones((2, _WIDTH)))
    assert (found[:, _TELLING] == 0).all()
    assert (np.delete(found, _TELLING, axis=1) != 0).all()


def test_weights_of_what_no_question_has_stay_nothing() -> None:
    assert (fitted_weights(_questions([0.0] * 5), {"git": 1.0}, 2.0)[1] == 0).all()
