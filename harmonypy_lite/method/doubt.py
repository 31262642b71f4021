"""How far to trust a label that was carried over: cells of no known type, and scores of clusters.

A cell is told by how far it is from the nearest type: Mahalanobis's distance of its direction (the
cell before any move, at length 1, as Harmony compares cells) from the means of the types, by the
spread inside types. That spread is of all batches together, so it is wide where batches differ. The
distance is Lee et al. 2018's (arXiv:1807.03888), at length 1 as in Mueller and Hein 2025
(arXiv:2505.18032). What is far is learned from batches that are left out one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.method.formulas import unit_rows

#: Share of the cells of a left-out batch that keep their label.
BEYOND = 0.95
#: ... in this share of the batches: in the worst one where there are at most ten.
_BATCHES = 0.9
#: A batch lies further out as a whole; the distance of this share of its cells tells how far.
_NEAREST = 0.25
#: Fewer cells tell nothing about a batch.
_FEW = 20
#: Parts that are left out where no batch can be.
_FOLDS = 5
_ROWS = 4096


class Types(NamedTuple):
    """Where the types are, and how wide."""

    mean: np.ndarray  # (T', d) mean directions
    whitener: np.ndarray  # (d, d) L such that |(u - mean) L| is the distance


class Calibration(NamedTuple):
    """What is learned from the reference."""

    types: Types
    threshold: float  # multiple of a batch's near distance beyond which its cells are unknown


class _Sums(NamedTuple):
    """Sums over the directions of cells."""

    size: np.ndarray  # (T,)
    total: np.ndarray  # (T, d)
    square: np.ndarray  # (d, d)


def calibrate(
    Z: np.ndarray, label: np.ndarray, batch: np.ndarray, n_types: int, beyond: float = BEYOND
) -> Calibration:
    """Learn what is far from the types of a reference.

    Every batch is left out once, and its cells of types that the others have are measured from
    those. Where that leaves too few cells (one batch, or types of one batch each) fifths of the
    cells are left out, which knows nothing of what a new batch adds.

    Parameters
    ----------
    Z
        (N, d) the reference's cells before any move.
    label, batch
        (N,) int, types 0 to T - 1 and batches.
    n_types
        T.
    beyond
        Share of the cells of a left-out batch that are within the threshold.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label, batch = np.arange(900) % 3, np.arange(900) // 300
    >>> Z = 3 * np.eye(3)[label] + rng.normal(size=(900, 3))
    >>> found = calibrate(Z, label, batch, 3)
    >>> far = doubt(found, np.r_[Z[:300], -Z[:30]], np.zeros(330, int)) > 1
    >>> bool(far[:300].mean() < 0.15), bool(far[300:].mean() > 0.9)
    (True, True)
    """
    ratios = [r for r in _left_out(Z, label, batch, n_types) if len(r) >= _FEW]
    if not ratios:
        folds = [r for r in _left_out(Z, label, np.arange(len(Z)) % _FOLDS, n_types) if len(r)]
        ratios = [np.concatenate(folds)] if folds else []
    if not ratios or len(ratios[0]) < _FEW:
        raise InvalidInput(
            f"The reference has too few labelled cells ({len(Z)}) to learn what is unknown: give "
            "unknown=False."
        )
    each = [np.quantile(ratio, beyond) for ratio in ratios]
    threshold = float(np.quantile(each, _BATCHES, method="higher"))
    return Calibration(_types(_sums(Z, label, n_types)), threshold)


def doubt(calibration: Calibration, Z: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return (n,) how far out each cell is: above 1 it is unknown.

    Distances are compared within a batch, whose effect moves all its cells away from the
    reference: its nearest quarter, of known types unless hardly any cell is, shows how far.

    Parameters
    ----------
    calibration
        Of the reference.
    Z
        (n, d) new cells before any move.
    batch
        (n,) int, their batches; those of a few cells are taken for one.

    Examples
    --------
    >>> types = Types(np.array([[1.0, 0.0]]), np.eye(2))
    >>> Z = np.array([[9.0, 1.0], [9.0, 1.0], [0.0, 2.0]])
    >>> doubt(Calibration(types, 2.0), Z, np.zeros(3, int)).round(1)
    array([0.5, 0.5, 6.4])
    """
    distance = _nearest(Z, calibration.types)
    number, code, size = np.unique(batch, return_inverse=True, return_counts=True)
    code = np.where(size[code] < _FEW, len(number), code)
    out = np.empty(len(distance))
    for each in np.unique(code):
        out[code == each] = _ratio(distance[code == each]) / calibration.threshold
    return out


def _left_out(
    Z: np.ndarray, label: np.ndarray, batch: np.ndarray, n_types: int
) -> list[np.ndarray]:
    """Leave out each batch; return how far its cells are from the types of the others."""
    places = [np.flatnonzero(batch == each) for each in np.unique(batch)]
    parts = [_sums(Z[own], label[own], n_types) for own in places]
    whole = _Sums(*(np.sum(each, axis=0) for each in zip(*parts, strict=True)))
    ratios = []
    for own, part in zip(places, parts, strict=True):
        rest = _Sums(*(a - b for a, b in zip(whole, part, strict=True)))
        own = own[rest.size[label[own]] > 0]
        ratios.append(_ratio(_nearest(Z[own], _types(rest))) if len(own) else np.empty(0))
    return ratios


def _sums(Z: np.ndarray, label: np.ndarray, n_types: int) -> _Sums:
    d = Z.shape[1]
    sums = _Sums(np.zeros(n_types), np.zeros((n_types, d)), np.zeros((d, d)))
    for first in range(0, len(Z), _ROWS):
        u = unit_rows(Z[first : first + _ROWS].astype(np.float64))
        member = label[first : first + _ROWS, None] == np.arange(n_types)
        sums.size[...] += member.sum(axis=0)
        sums.total[...] += member.T.astype(np.float64) @ u
        sums.square[...] += u.T @ u
    return sums


def _types(sums: _Sums) -> Types:
    """Return the types that have cells; of few cells the spread is drawn to its diagonal."""
    there = sums.size > 0
    mean = sums.total[there] / sums.size[there, None]
    n, d = sums.size.sum(), mean.shape[1]
    spread = (sums.square - sums.total[there].T @ mean) / max(n - there.sum(), 1)
    variance = np.maximum(np.diag(spread), 1e-6 * max(float(np.diag(spread).max()), 1e-6))
    spread *= n / (n + d)
    np.fill_diagonal(spread, variance)
    return Types(mean, np.linalg.inv(np.linalg.cholesky(spread)).T)


def _nearest(Z: np.ndarray, types: Types) -> np.ndarray:
    """Return (n,) the distance of each cell from the nearest type."""
    centre = types.mean @ types.whitener
    out = np.empty(len(Z))
    for first in range(0, len(Z), _ROWS):
        x = unit_rows(Z[first : first + _ROWS].astype(np.float64)) @ types.whitener
        squared = (x**2).sum(axis=1)[:, None] - 2 * x @ centre.T + (centre**2).sum(axis=1)
        out[first : first + _ROWS] = np.sqrt(np.maximum(squared.min(axis=1), 0))
    return out


def _ratio(distance: np.ndarray) -> np.ndarray:
    """Return distances of the cells of one batch in units of its near ones'."""
    return distance / max(float(np.quantile(distance, _NEAREST)), np.finfo(float).tiny)


def cluster_distance(Z: np.ndarray, cluster: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return (C,) how far each cluster of new cells is from the run's nearest cluster.

    Symphony's score per cluster (Kang 2021): Mahalanobis's distance of the cluster's mean from the
    nearest mean of the reference, before any move, by the covariance of the new cells. NaN for
    clusters of fewer than 2 d cells, whose covariance says too little.

    Parameters
    ----------
    Z
        (n, d) new cells in the PCA of the reference.
    cluster
        (n,) int, clusters 0 to C - 1.
    means
        (K, d) of the run's clusters.

    Examples
    --------
    >>> Z = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = cluster_distance(Z, np.zeros(500, int), np.array([[3.0, 0.0], [9.0, 0.0]]))
    >>> found.round()
    array([3.])
    """
    out = np.full(int(cluster.max(initial=-1)) + 1, np.nan)
    for c in range(out.size):
        own = Z[cluster == c].astype(np.float64)
        if len(own) < 2 * Z.shape[1]:
            continue
        centre = own.mean(axis=0)
        nearest = means[np.linalg.norm(means - centre, axis=1).argmin()]
        spread = np.cov(own.T).reshape(Z.shape[1], -1)
        apart = centre - nearest
        out[c] = np.sqrt(apart @ np.linalg.pinv(spread) @ apart)
    return out
