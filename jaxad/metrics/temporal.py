"""Scores of snippets against truth of frames, and what theorem 8.3.1 expects of them.

Source: document 004, chapter 8.
"""

from collections.abc import Sequence

import numpy as np

from jaxad.metrics import ranking

__all__ = ["expand_to_frames", "expected_separability", "per_class_roc_auc"]


def expand_to_frames(
    scores: np.ndarray, *, frames_per_snippet: int = 16, n_frames: int | None = None
) -> np.ndarray:
    """Repeats each snippet's score over its frames.

    Args:
        scores: `[T]`, one score per snippet.
        frames_per_snippet: Frames that one snippet stands for.
        n_frames: Frames of the video if its last snippet is incomplete; None for
            frames_per_snippet · T.

    Returns:
        `[n_frames]`, in the dtype of `scores`.

    Raises:
        ValueError: If `scores` is not a vector, or `n_frames` frames are not T snippets.
    """
    scores = np.asarray(scores)
    if scores.ndim != 1:
        raise ValueError(f"scores must be [T], one per snippet, got shape {scores.shape}.")
    whole = len(scores) * frames_per_snippet
    n_frames = whole if n_frames is None else n_frames
    if not whole - frames_per_snippet < n_frames <= whole:
        raise ValueError(
            f"{len(scores)} snippets of {frames_per_snippet} frames cannot stand for {n_frames} "
            f"frames: expected {max(whole - frames_per_snippet + 1, 0)} to {whole}."
        )
    return np.repeat(scores, frames_per_snippet)[:n_frames]


def per_class_roc_auc(
    truth: Sequence[np.ndarray], scores: Sequence[np.ndarray], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Frame ROC AUC of each anomaly class (figure 8.6), in the two ways it can be meant.

    Args:
        truth: Per video, frames `[n]` of 0 and 1.
        scores: Per video, frame scores `[n]`.
        classes: Anomaly class of each video, "" for normal ones.

    Returns:
        By class in alphabetical order: "alone", over the frames of its own videos, and
        "with_normal", over those and all normal videos. NaN where one of the two kinds of frames
        is absent.

    Raises:
        ValueError: If the three differ in length, or as `ranking.roc_auc`.
    """
    if not len(truth) == len(scores) == len(classes):
        raise ValueError(
            "truth, scores and classes must have one entry per video, got "
            f"{len(truth)}, {len(scores)} and {len(classes)}."
        )
    return {
        name: {
            "alone": _pooled_roc_auc(truth, scores, [c == name for c in classes]),
            "with_normal": _pooled_roc_auc(truth, scores, [c in (name, "") for c in classes]),
        }
        for name in sorted(set(classes) - {""})
    }


def expected_separability(
    k: np.ndarray,
    *,
    abnormal_snippets: int,
    abnormal_norm: float,
    normal_norm: float,
    epsilon: float = 0.4,
) -> np.ndarray:
    """Expected gap between mean top-k magnitudes of an anomalous and a normal video.

    With μ anomalous snippets, a share min(μ, k) / (k + ε) of the k largest is expected to be
    anomalous; the gap is that share of the difference of mean norms. It rises up to k = μ and tends
    to 0 from there.

    Args:
        k: Snippets selected, at least 1; any shape.
        abnormal_snippets: μ.
        abnormal_norm: Mean feature norm of anomalous snippets.
        normal_norm: Mean feature norm of normal snippets.
        epsilon: ε > 0, for anomalous snippets of small norm.

    Returns:
        float64 of the shape of `k`, in the unit of the norms.

    Raises:
        ValueError: If `k` is below 1 or `epsilon` is not positive.

    References:
        Document 004, theorem 8.3.1 and figure 8.1 (ε = 0.4, μ = 3).
    """
    k = np.asarray(k, np.float64)
    if np.any(k < 1) or not epsilon > 0:
        raise ValueError(f"k must be at least 1 and epsilon positive, got {k} and {epsilon}.")
    share = np.minimum(abnormal_snippets, k) / (k + epsilon)
    return share * (abnormal_norm - normal_norm)


def _pooled_roc_auc(
    truth: Sequence[np.ndarray], scores: Sequence[np.ndarray], chosen: Sequence[bool]
) -> float:
    pooled = [
        np.concatenate([video for video, take in zip(videos, chosen, strict=True) if take])
        for videos in (truth, scores)
    ]
    return ranking.roc_auc(*pooled)
