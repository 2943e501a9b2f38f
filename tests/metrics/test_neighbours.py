import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from jaxad.metrics import neighbours


@pytest.mark.parametrize("k", [1, 10, 20])
def test_published_votes_are_reproduced(k):
    golden = vectors.load("self_distillation", "knn")
    bank, queries = golden["bank"].astype(float), golden["queries"].astype(float)
    votes = neighbours.knn_votes(
        queries, bank, golden["bank_labels"], classes=10, neighbours=k, chunk=50
    )
    # The released weights lack our constant factor exp(-1 / temperature).
    expected = golden[f"votes_k{k}"] * np.exp(-1 / float(golden["temperature"]))
    np.testing.assert_allclose(votes, expected, rtol=1e-5, atol=1e-12)
    given_ = queries, golden["query_labels"], bank, golden["bank_labels"]
    accuracy = neighbours.knn_accuracy(*given_, neighbours=k)
    assert 100 * accuracy == pytest.approx(float(golden[f"top1_k{k}"]))
    if k == 20:  # With fewer neighbours, the released top five hold classes without a vote.
        accuracy = neighbours.knn_accuracy(*given_, neighbours=k, top=5)
        assert 100 * accuracy == pytest.approx(float(golden[f"top5_k{k}"]))


@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_accuracy_equals_scikit_learn(seed, k, chunk):
    rng = np.random.default_rng(seed)
    bank, queries = rng.normal(size=(40, 3)), rng.normal(size=(23, 3))
    bank_labels, labels = rng.integers(0, 4, 40), rng.integers(0, 4, 23)
    reference = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp(-d / 0.07))
    expected = reference.fit(bank, bank_labels).score(queries, labels)
    actual = neighbours.knn_accuracy(queries, labels, bank, bank_labels, neighbours=k, chunk=chunk)
    assert actual == pytest.approx(expected)


def test_small_temperatures_do_not_overflow():
    votes = neighbours.knn_votes(
        np.eye(2), np.eye(2), np.array([0, 1]), classes=2, temperature=1e-4
    )
    np.testing.assert_array_equal(votes, np.eye(2))


def test_lengths_do_not_matter_and_zero_vectors_are_allowed():
    bank = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    given_ = bank, np.array([0, 1, 1])
    small = neighbours.knn_votes(np.array([[1e-9, 0.0]]), *given_, classes=2, neighbours=1)
    large = neighbours.knn_votes(np.array([[1e9, 0.0]]), *given_, classes=2, neighbours=1)
    np.testing.assert_allclose(small, large, rtol=1e-12)
    assert np.isfinite(neighbours.knn_votes(np.zeros((1, 2)), *given_, classes=2)).all()


def test_bad_input_is_named():
    bank, labels = np.eye(2), np.array([0, 1])
    with pytest.raises(ValueError, match=r"bank must be \[M, 3\], M > 0, got \(2, 2\)"):
        neighbours.knn_accuracy(np.zeros((1, 3)), [0], bank, labels)
    with pytest.raises(ValueError, match="labels must not be empty"):
        neighbours.knn_accuracy(np.zeros((0, 2)), np.zeros(0, int), bank, labels)
    with pytest.raises(ValueError, match="neighbours and temperature must be positive, got 0"):
        neighbours.knn_accuracy(bank, labels, bank, labels, neighbours=0)
    with pytest.raises(ValueError, match="bank_labels must be integers 0 to 0"):
        neighbours.knn_votes(bank, bank, labels, classes=1)
    with pytest.raises(ValueError, match="1 of 4 features are NaN"):
        neighbours.knn_accuracy(np.array([[1, np.nan], [0, 1]]), labels, bank, labels)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_lengths_neither_overflow_nor_vanish(scale):
    bank = np.eye(3, dtype=np.float32)
    queries = bank * np.float32(scale)
    votes = neighbours.knn_votes(queries, bank, np.arange(3), classes=3, neighbours=1)
    np.testing.assert_allclose(votes, np.eye(3), atol=1e-5)
