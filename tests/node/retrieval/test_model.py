from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import localmem_minilm
from localmem_node.retrieval.model import (
    FEATURES,
    FOLDER,
    Floats,
    Model,
    Numbers,
    for_encoder,
    shipped,
)

_DIMENSIONS = 384


def _numbers() -> Numbers:
    return msgspec.json.decode((FOLDER / "ranking.json").read_bytes(), type=Numbers)


def _small(maps: bool = True) -> Model:
    chance = np.random.default_rng(3)
    count = len(FEATURES)
    return Model(
        weights=chance.normal(size=(2, count)).astype(np.float32),
        floor=chance.normal(size=count).astype(np.float32),
        maps=chance.normal(size=(2, 8, 8)).astype(np.float32) if maps else None,
    )


def _products(features: Floats, weights: Floats) -> list[float]:
    return [one * weight for one, weight in zip(features.tolist(), weights.tolist(), strict=True)]


def test_the_shipped_numbers_are_finite_and_of_features_that_there_are() -> None:
    numbers = _numbers()
    for weights in (numbers.said, numbers.done, numbers.floor):
        assert weights
        assert weights.keys() <= set(FEATURES)
        assert np.isfinite(list(weights.values())).all()
    assert 0 <= numbers.burst_penalty < 10
    assert len(set(FEATURES)) == len(FEATURES)


def test_the_shipped_model_has_its_numbers_in_the_columns_of_its_features() -> None:
    model, numbers = shipped(), _numbers()
    assert model.weights.shape == (2, len(FEATURES))
    for column, name in enumerate(FEATURES):
        expected = [weights.get(name, 0) for weights in (numbers.done, numbers.said, numbers.floor)]
        found = [*model.weights[:, column].tolist(), model.floor[column].item()]
        assert found == pytest.approx(expected, rel=1e-6)
    assert model.burst_penalty == numbers.burst_penalty


def test_the_shipped_maps_fit_the_shipped_encoder() -> None:
    maps = shipped().maps
    assert maps is not None
    assert maps.shape == (2, localmem_minilm.DIMENSIONS, localmem_minilm.DIMENSIONS)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()


def test_another_encoder_has_the_weights_but_no_maps() -> None:
    assert for_encoder(localmem_minilm.FINGERPRINT) is shipped()
    assert for_encoder("sentence-transformers/All-MiniLM-L6-v2").maps is not None
    other = for_encoder("all-mpnet-base-v2/0123456789ab")
    assert other.maps is None
    assert other.weights is shipped().weights
    assert other.burst_penalty == shipped().burst_penalty


@given(st.integers(0, 2**32))
def test_what_is_learned_are_two_rows_of_length_1(seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=_DIMENSIONS).astype(np.float32)
    vector /= np.linalg.norm(vector)
    rows = shipped().learned(vector)
    assert rows.shape == (2, _DIMENSIONS)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    # A map turns a question towards its answers, not away from itself.
    assert (rows @ vector > 0).all()


def test_each_map_has_its_row() -> None:
    model = _small()
    assert model.maps is not None
    vector = np.eye(8, dtype=np.float32)[2]
    for row, one in zip(model.learned(vector), model.maps, strict=True):
        np.testing.assert_allclose(row, one[2] / np.linalg.norm(one[2]), rtol=1e-5)


def test_without_maps_or_for_another_length_the_vector_stays_itself() -> None:
    vector = np.eye(8, dtype=np.float32)[0]
    assert np.array_equal(_small(maps=False).learned(vector), [vector, vector])
    longer = np.eye(9, dtype=np.float32)[0]
    assert np.array_equal(_small().learned(longer), [longer, longer])


def test_a_vector_of_nothing_is_no_error() -> None:
    assert not _small().learned(np.zeros(8, np.float32)).any()


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_a_score_is_the_plain_sum_of_its_parts(seed: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    features = chance.random((len(FEATURES), count), dtype=np.float32)
    said = chance.random(count) < 0.5
    model = _small()
    scores, relevance = model.judged(features, said)
    parts = model.parts(features, said)
    for row in range(count):
        weights = model.weights[1 if said[row] else 0]
        expected = _products(features[:, row], weights)
        assert parts[:, row].tolist() == pytest.approx(expected, rel=1e-5)
        assert scores[row] == pytest.approx(sum(expected), abs=1e-4)
        logit = sum(_products(features[:, row], model.floor))
        assert relevance[row] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)


def test_relevance_is_from_0_to_1() -> None:
    features = np.zeros((len(FEATURES), 3), np.float32)
    features[0] = (-30, 0, 30)
    floor = np.eye(len(FEATURES), dtype=np.float32)[0]
    model = Model(np.zeros((2, len(FEATURES)), np.float32), floor, None)
    relevance = model.judged(features, np.array([True, False, True]))[1]
    assert relevance.tolist() == pytest.approx([0, 0.5, 1])
