"""How far to trust a label that was carried over: probabilities, and cells of no known type."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Share of a reference type's own cells beyond whose distance a cell is unknown.
BEYOND = 0.95
#: A batch lies further out as a whole; this share of its cells tells how far.
_NEAREST = 0.1
#: Types with fewer cells than this borrow the threshold of all.
_FEW = 20


class Calibration(NamedTuple):
    """What distances the reference's own cells have from its clusters."""

    typical: np.ndarray  # (T,) median of each type
    threshold: np.ndarray  # (T,) multiple of the median beyond which a cell is unknown
    near: float  # multiple within which the nearest cells are


def calibrate(
    distance: np.ndarray, label: np.ndarray, n_types: int, beyond: float = BEYOND
) -> Calibration:
    """Learn what is far from cells of the reference.

    Parameters
    ----------
    distance
        (N,) Mahalanobis's distance of the reference's cells from its clusters, before any move.
    label
        (N,) int, types 0 to T - 1.
    n_types
        T.
    beyond
        Share of a type's own cells that are within its threshold.

    Examples
    --------
    >>> found = calibrate(np.arange(1.0, 101.0), np.zeros(100, int), 1)
    >>> float(found.typical[0])
    50.5
    """
    typical = np.array([np.median(distance[label == t]) for t in range(n_types)])
    typical = np.maximum(typical, np.finfo(float).tiny)
    ratio = distance / typical[label]
    threshold = np.full(n_types, np.quantile(ratio, beyond))
    for t in range(n_types):
        own = ratio[label == t]
        if own.size >= _FEW:
            threshold[t] = np.quantile(own, beyond)
    return Calibration(typical, threshold, float(np.quantile(ratio, _NEAREST)))


def doubt(
    calibration: Calibration, distance: np.ndarray, label: np.ndarray, batch: np.ndarray
) -> np.ndarray:
    """Return (n,) how far out each cell is for its type: above 1 it is unknown.

    Distances are compared within a batch: a batch effect moves all its cells away from the
    reference, and its nearest tenth, which is of known types unless hardly any cell is, shows how
    far.

    Parameters
    ----------
    calibration
        Of the reference.
    distance, label, batch
        (n,) of the new cells; labels as they were carried over.

    Examples
    --------
    >>> calibration = Calibration(np.array([2.0]), np.array([1.5]), 0.5)
    >>> doubt(calibration, np.array([2.0, 9.0]), np.zeros(2, int), np.zeros(2, int)).round(2)
    array([0.25, 1.11])
    """
    ratio = distance / calibration.typical[label]
    out = np.empty(len(ratio))
    for each in np.unique(batch):
        own = batch == each
        further = float(np.quantile(ratio[own], _NEAREST)) / calibration.near
        out[own] = ratio[own] / further / calibration.threshold[label[own]]
    return out


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
