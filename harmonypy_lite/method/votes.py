"""Labels of neighbours as votes: how distances are measured, and what a vote weighs.

Directions in which cells of one type differ say little about types, so distances are shortened
along them: halfway between Euclid's and Mahalanobis's by the spread inside types, in the geometric
mean of both forms. Either alone is worse on some sets; Mahalanobis's trusts directions without
signal. A vote weighs less the further away it comes from (Epanechnikov's kernel, whose reach is the
distance of the first neighbour that is not asked).
"""

from __future__ import annotations

import numpy as np

#: Directions of less variance, in shares of the mean variance inside types, are taken for this.
_FLOOR = 1e-3
#: Weight of the furthest vote, so that neighbours that are all equally far have a say.
_LEAST = 1e-6
_ROWS = 4096


def halfway(Z: np.ndarray, label: np.ndarray, n_labels: int) -> np.ndarray:
    """Return L (d, d) with |(x - y) L|^2 = (x - y)' S^(-1/2) (x - y), S the spread inside types.

    Parameters
    ----------
    Z
        (N, d) cells.
    label
        (N,) int, types 0 to T - 1.
    n_labels
        T.

    Examples
    --------
    >>> inside = np.array([[4.0, 1.0], [4.0, -1.0], [-4.0, 1.0], [-4.0, -1.0]])
    >>> L = halfway(np.r_[inside, inside + [0, 9]], np.repeat([0, 1], 4), 2)
    >>> one, other = np.linalg.norm(np.eye(2) @ L, axis=1)
    >>> float((other / one).round(2))  # 4 is the ratio of the spreads
    2.0
    """
    d = Z.shape[1]
    size, total, square = np.bincount(label, minlength=n_labels), np.zeros((n_labels, d)), 0.0
    mean = Z.mean(axis=0, dtype=np.float64)
    for first in range(0, len(Z), _ROWS):
        z = Z[first : first + _ROWS] - mean
        member = label[first : first + _ROWS] == np.arange(n_labels)[:, None]
        total += member.astype(np.float64) @ z
        square = square + z.T @ z
    spread = (square - (total.T / np.maximum(size, 1)) @ total) / len(Z)
    variance, direction = np.linalg.eigh(spread)
    if variance.mean() <= 0:  # one cell of each type
        return np.eye(d)
    variance = np.maximum(variance / variance.mean(), _FLOOR)
    return np.asarray(direction * variance**-0.25)


def shares(label: np.ndarray, distance: np.ndarray, n_labels: int) -> np.ndarray:
    """Return (n, T) the share of each label in votes that weigh 1 - (r / reach)^2.

    Parameters
    ----------
    label, distance
        (n, k + 1) of the k neighbours that are asked and of the next one, in any order.
    n_labels
        T.

    Examples
    --------
    >>> shares(np.array([[0, 1, 1, 1]]), np.array([[1.0, 3.0, 3.0, 4.0]]), 2).round(2)
    array([[0.52, 0.48]])
    """
    reach = np.maximum(distance.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    weight = np.maximum(1 - (distance / reach) ** 2, _LEAST).astype(np.float64)
    place = np.arange(len(label))[:, None] * n_labels + label
    votes = np.bincount(place.ravel(), weight.ravel(), len(label) * n_labels)
    votes = votes.reshape(len(label), n_labels)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))
