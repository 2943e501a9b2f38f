"""Nearest-neighbour classification of features, the usual probe of representations."""

import numpy as np

from jaxad.metrics import checks

__all__ = ["knn_accuracy", "knn_votes"]


def knn_votes(
    features: np.ndarray,
    bank: np.ndarray,
    bank_labels: np.ndarray,
    *,
    classes: int,
    neighbours: int = 20,
    temperature: float = 0.07,
    chunk: int = 1024,
) -> np.ndarray:
    """Sums exp((cos - 1) / temperature) of the nearest bank features by their class.

    The released weight is exp(cos / temperature); the constant factor changes no vote and keeps
    small temperatures from overflowing.

    Args:
        features: Finite numbers `[N, D]`; scaled to unit length, zero vectors have cosine 0.
        bank: Finite numbers `[M, D]`.
        bank_labels: Integers `[M]`, 0 to `classes` - 1.
        classes: K.
        neighbours: By largest cosine, of equal ones any; at least 1, and all M if that is fewer.
        temperature: Above 0, else a `ValueError`; large ones count neighbours alike.
        chunk: Features compared with the bank at a time: memory is chunk · M.

    Returns:
        float64 `[N, K]`.

    References:
        Wu et al., https://arxiv.org/abs/1805.01978 (weighted k-NN).
    """
    features, bank = _unit_rows("features", features), _unit_rows("bank", bank)
    bank_labels = np.asarray(bank_labels)
    checks.same_shape("bank_labels", bank_labels.shape, "bank", bank.shape[:1])
    if not len(bank) or features.shape[1] != bank.shape[1]:
        raise ValueError(f"bank must be [M, {features.shape[1]}], M > 0, got {bank.shape}.")
    if bank_labels.dtype.kind not in "iub" or bank_labels.min() < 0 or bank_labels.max() >= classes:
        raise ValueError(f"bank_labels must be integers 0 to {classes - 1}.")
    if neighbours < 1 or not temperature > 0:
        raise ValueError(
            f"neighbours and temperature must be positive, got {neighbours} and {temperature}."
        )
    k = min(neighbours, len(bank))
    votes = np.zeros((len(features), classes))
    for start in range(0, len(features), chunk):
        cosine = features[start : start + chunk] @ bank.T
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosine, nearest, axis=1) - 1.0) / temperature)
        rows = np.arange(start, start + len(cosine))[:, None]
        np.add.at(votes, (rows, bank_labels[nearest]), weights)
    return votes


def knn_accuracy(
    features: np.ndarray,
    labels: np.ndarray,
    bank: np.ndarray,
    bank_labels: np.ndarray,
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
    top: int = 1,
    chunk: int = 1024,
) -> float:
    """Share of features whose true class is among the `top` classes by `knn_votes`.

    Args:
        features: Finite numbers `[N, D]`, N at least 1, else a `ValueError`.
        labels: Integers `[N]`, at least 0.
        bank: Finite numbers `[M, D]`.
        bank_labels: Integers `[M]`, at least 0.
        neighbours: That vote.
        temperature: Of the votes.
        top: At least 1. Of equal votes the lower class comes first; a class without votes never
            counts.
        chunk: Features compared with the bank at a time.

    Returns:
        Scalar in [0, 1].

    References:
        As `knn_votes`.
    """
    labels, bank_labels = np.asarray(labels), np.asarray(bank_labels)
    checks.same_shape("labels", labels.shape, "features", np.shape(features)[:1])
    if not labels.size or top < 1:
        raise ValueError(f"labels must not be empty and top at least 1, got {labels.size}, {top}.")
    classes = int(max(labels.max(), bank_labels.max(initial=0))) + 1
    votes = knn_votes(
        features,
        bank,
        bank_labels,
        classes=classes,
        neighbours=neighbours,
        temperature=temperature,
        chunk=chunk,
    )
    best = np.argsort(-votes, axis=1, kind="stable")[:, :top]
    right = (best == labels[:, None]) & (np.take_along_axis(votes, best, axis=1) > 0)
    return float(right.any(axis=1).mean())


def _unit_rows(name: str, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.ndim != 2:
        raise ValueError(f"{name} must be [N, D], got {rows.shape}.")
    dtype = np.float32 if rows.dtype.itemsize <= 4 else np.float64
    rows = checks.numbers(name, rows)  # In float64: squares of float32 overflow and vanish.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows = rows / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(dtype)
