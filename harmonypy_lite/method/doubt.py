"""How far to trust a label that was carried over: cells of no known type, and scores of clusters.

A cell is told by how far it is from the nearest type: Mahalanobis's distance of its direction (the
cell before any move, at length 1, as Harmony compares cells) from the means of the types, by the
spread inside types. That spread is of all batches together, so it is wide where batches differ. The
distance is Lee et al. 2018's (arXiv:1807.03888), at length 1 as in Mueller and Hein 2025
(arXiv:2505.18032). What is far is learned from batches that are left out one after the other.

A batch that is further out than those were does more than they did: what it moves each type is
taken off first (`shifts`). Others are compared with their own nearest quarter: those that are
nearer, as where the components are the reference's own, which follow the noise of its cells and not
of others; and those most cells of which stay out of reach, whose effects are of no known size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.method.shifts import shifts

#: Share of the cells of a left-out batch that keep their label.
BEYOND = 0.95
#: ... in this share of the batches: in the worst one where there are at most ten.
_BATCHES = 0.9
#: The distance of this share of a batch's cells tells how far out it is as a whole.
_NEAREST = 0.25
#: Shifts that leave fewer cells within reach do not say what a batch does.
_HALF = 0.5
#: Fewer cells tell nothing about a batch.
_FEW = 20
#: Parts that are left out where no batch can be.
_FOLDS = 5
#: So many cells of a batch, evenly spaced, tell where it has the types.
_SAMPLE = 5000
_ROWS = 4096


class Types(NamedTuple):
    """Where the types are, and how wide."""

    mean: np.ndarray  # (T', d) mean directions
    whitener: np.ndarray  # (d, d) L such that |(u - mean) L| is the distance


class Calibration(NamedTuple):
    """What is learned from the reference."""

    types: Types
    near: float  # distance of the nearest quarter of a batch that was left out, usually
    ratio: (
        float  # multiple of its own nearest quarter's beyond which a near batch's cells are unknown
    )
    reach: float  # distance beyond which cells of a batch further out are, its shifts taken off
    furthest: float  # the longest shift of a type by a batch that was left out


class _Batch(NamedTuple):
    """A batch that was left out, seen from the types of the others."""

    distance: np.ndarray  # (n,)
    shifted: np.ndarray  # (n,) distances once its shifts are taken off
    longest: float  # of its shifts


class _Seen(NamedTuple):
    """Cells, and what every distance of theirs needs."""

    Z: np.ndarray  # (n, d)
    scale: np.ndarray  # (n,) 1 / |z|
    square: np.ndarray  # (n,) the squared length of the whitened direction


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
    left_out, whole = _left_out(Z, label, batch, n_types)
    found = [each for each in left_out if len(each.distance) >= _FEW]
    furthest = max((each.longest for each in found), default=np.inf)
    if not found:
        folds, whole = _left_out(Z, label, np.arange(len(Z)) % _FOLDS, n_types)
        distance, shifted = (
            np.concatenate(each) for each in zip(*(f[:2] for f in folds), strict=True)
        )
        found = [_Batch(distance, shifted, np.inf)]
    if len(found[0].distance) < _FEW:
        raise InvalidInput(
            f"The reference has too few labelled cells ({len(Z)}) to learn what is unknown: give "
            "unknown=False."
        )
    quarter = [_near(each.distance) for each in found]
    ratio, reach = (
        float(np.quantile([np.quantile(far, beyond) for far in each], _BATCHES, method="higher"))
        for each in (
            [b.distance / q for b, q in zip(found, quarter, strict=True)],
            [b.shifted for b in found],
        )
    )
    return Calibration(_types(whole), float(np.median(quarter)), ratio, reach, furthest)


def doubt(calibration: Calibration, Z: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return (n,) how far out each cell is: above 1 it is unknown.

    Distances are compared within a batch, whose effect moves all its cells away from the
    reference: its nearest cells, of known types unless hardly any cell is, show how.

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
    >>> Z = np.array([[9.0, 1.0], [9.0, 1.0], [9.0, 1.0], [0.0, 2.0]])
    >>> doubt(Calibration(types, 0.2, 2.0, 0.5, np.inf), Z, np.zeros(4, int)).round(1)
    array([0.5, 0.5, 0.5, 6.4])
    >>> doubt(Calibration(types, 0.1, 2.0, 0.5, np.inf), Z, np.zeros(4, int)).round(1) + 0
    array([0. , 0. , 0. , 2.7])
    """
    types, near, ratio, reach, furthest = calibration
    number, code, size = np.unique(batch, return_inverse=True, return_counts=True)
    code = np.where(size[code] < _FEW, len(number), code)
    out = np.empty(len(Z))
    centre = types.mean @ types.whitener
    for each in np.unique(code):
        own = np.flatnonzero(code == each)
        seen = _seen(Z[own], types)
        distance = _distance(seen, types, centre)
        quarter = _near(distance)
        out[own] = distance / (quarter * ratio)
        if quarter > near:
            moved = shifts(_whitened(Z[_some(own)], types), centre, reach, furthest)
            shifted = _distance(seen, types, centre + moved) / reach
            if np.mean(shifted <= 1) >= _HALF:
                out[own] = shifted
    return out


def _left_out(
    Z: np.ndarray, label: np.ndarray, batch: np.ndarray, n_types: int
) -> tuple[list[_Batch], _Sums]:
    """Leave out each batch; measure its cells of types that the others have. And sum all cells."""
    places = [np.flatnonzero(batch == each) for each in np.unique(batch)]
    nothing = _Batch(np.empty(0), np.empty(0), 0.0)
    if len(places) == 1:  # there are no others
        return [nothing], _Sums(*(np.zeros(0) for _ in _Sums._fields))
    parts = [_sums(Z[own], label[own], n_types) for own in places]
    whole = _Sums(*(np.sum(each, axis=0) for each in zip(*parts, strict=True)))

    def measured(own: np.ndarray, part: _Sums) -> _Batch:
        rest = _Sums(*(a - b for a, b in zip(whole, part, strict=True)))
        own = own[rest.size[label[own]] > 0]
        if not len(own):
            return nothing
        types = _types(rest)
        centre = types.mean @ types.whitener
        moved = shifts(_whitened(Z[_some(own)], types), centre)
        seen = _seen(Z[own], types)
        far, shifted = (_distance(seen, types, each) for each in (centre, centre + moved))
        return _Batch(far, shifted, float(np.linalg.norm(moved, axis=1).max()))

    return [measured(own, part) for own, part in zip(places, parts, strict=True)], whole


def _some(places: np.ndarray) -> np.ndarray:
    """Return at most `_SAMPLE` of them, evenly spaced."""
    if len(places) <= _SAMPLE:
        return places
    return places[np.linspace(0, len(places) - 1, _SAMPLE).astype(int)]


def _sums(Z: np.ndarray, label: np.ndarray, n_types: int) -> _Sums:
    d = Z.shape[1]
    sums = _Sums(np.zeros(n_types), np.zeros((n_types, d)), np.zeros((d, d)))
    for first in range(0, len(Z), _ROWS):
        u, scale = _scaled(Z[first : first + _ROWS])
        u *= scale[:, None]
        member = label[first : first + _ROWS] == np.arange(n_types)[:, None]
        sums.size[...] += np.count_nonzero(member, axis=1)
        sums.total[...] += member.astype(np.float64) @ u
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


def _scaled(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, d) cells in double precision, to write on, and (n,) 1 / |z|, 0 where z is."""
    z = Z.astype(np.float64)
    norm = np.sqrt(np.einsum("ij,ij->i", z, z))
    return z, np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)


def _whitened(Z: np.ndarray, types: Types) -> np.ndarray:
    z, scale = _scaled(Z)
    z = z @ types.whitener
    z *= scale[:, None]
    return z


def _seen(Z: np.ndarray, types: Types) -> _Seen:
    seen = _Seen(Z, np.empty(len(Z)), np.empty(len(Z)))
    for first in range(0, len(Z), _ROWS):
        rows = slice(first, first + _ROWS)
        z, scale = _scaled(Z[rows])
        z = z @ types.whitener
        seen.scale[rows] = scale
        seen.square[rows] = np.einsum("ij,ij->i", z, z) * scale * scale  # scale^2 may overflow
    return seen


def _distance(seen: _Seen, types: Types, centre: np.ndarray) -> np.ndarray:
    """Return (n,) how far each cell is from the nearest of the whitened centres.

    The product of a whitened cell and a centre is that of the cell and the centre whitened again,
    so no cell is whitened here.
    """
    out, turned = np.empty(len(seen.Z)), -2 * centre @ types.whitener.T
    square = (centre**2).sum(axis=1)[:, None]
    for first in range(0, len(out), _ROWS):
        rows = slice(first, first + _ROWS)
        apart = turned @ seen.Z[rows].astype(np.float64).T
        apart *= seen.scale[rows]
        apart += square
        out[rows] = np.sqrt(np.maximum(apart.min(axis=0) + seen.square[rows], 0))
    return out


def _near(distance: np.ndarray) -> float:
    """Return the distance of the nearest cells of a batch."""
    return max(float(np.quantile(distance, _NEAREST)), np.finfo(float).tiny)


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
