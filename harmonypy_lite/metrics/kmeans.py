"""k-means: the best of ten runs, each of greedy k-means++ and then Lloyd's iterations.

Arthur & Vassilvitskii 2007 (doi 10.5555/1283383.1283494). Settings are scikit-learn's, and so are
the clusters, up to the draw of the starts; but to import scikit-learn takes as long as all other
scores of 20,000 cells.
Each run has its own seed and one thread, so that threads cannot change a sum. Starts are drawn
from the points in an order of their own, so that the order of the cells in a file and a rotation
of the embedding change nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.nearest import assign_nearest
from harmonypy_lite.metrics.inputs import at_safe_scale
from harmonypy_lite.threads import map_threads

STARTS = 10
ITERATIONS = 300
TOLERANCE = 1e-4  # of the squared way of all centres, in mean variances of a dimension
_ROWS = 4096
_SAME = 9  # decimals of a squared distance, in the largest


def kmeans(
    points: NDArray[np.floating], n_clusters: int, *, seed: int = 0, n_jobs: int | None = None
) -> NDArray[np.int32]:
    """Return the clusters (N,) of the best of `STARTS` runs.

    Where there are fewer distinct points than clusters, some clusters stay empty.

    Examples
    --------
    >>> kmeans(np.array([[0.0], [5.0], [0.1], [5.1]]), 2).tolist() in ([0, 1, 0, 1], [1, 0, 1, 0])
    True
    """
    points, _ = at_safe_scale(points)
    order = own_order(points)
    centred = points[order]
    centred -= points.mean(axis=0, dtype=np.float64).astype(points.dtype)
    enough = TOLERANCE * float(np.mean(centred.var(axis=0, dtype=np.float64)))

    def run(start: int) -> tuple[float, NDArray[np.int32]]:
        centres = spread(centred, n_clusters, np.random.default_rng(start))
        return lloyd(centred, centres, enough)

    starts = np.random.default_rng(seed).integers(2**31, size=STARTS).tolist()
    clusters = np.empty(len(points), np.int32)
    clusters[order] = max(map_threads(run, starts, n_jobs), key=lambda found: found[0])[1]
    return clusters


def own_order(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the points (N,) by distance to their mean, which no rotation or shuffle changes.

    Where that is the same, by distance to a second place that turns with them: the mean in which
    far points weigh more. What rounding alone tells apart counts as the same.
    """
    points, _ = at_safe_scale(points)
    first = _away(points, points.mean(axis=0, dtype=np.float64))
    far = first / max(float(first.max()), np.finfo(np.float64).tiny)
    second = _away(points, np.einsum("i,ij->j", far, points) / max(float(far.sum()), 1.0))
    return np.lexsort((second, np.round(far, _SAME)))


def _away(points: NDArray[np.floating], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distances (N,) to a place, in double precision."""
    squared = np.empty(len(points))
    for first in range(0, len(points), _ROWS):
        part = slice(first, first + _ROWS)
        difference = points[part] - place
        np.einsum("ij,ij->i", difference, difference, out=squared[part])
    return squared


def spread(
    points: NDArray[np.floating], n_clusters: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw centres (K, d) from the points: of a few far from those before, the one that helps most.

    Candidates are drawn with a chance that grows with their squared distance to the nearest centre;
    the one that leaves the least sum of these distances is kept.
    """
    norm = np.einsum("ij,ij->i", points, points)
    n_candidates = 2 + int(np.log(n_clusters))
    chosen = [int(rng.integers(len(points)))]
    left = _squared_distances(points, norm, np.array(chosen))[0]
    while len(chosen) < n_clusters:
        cumulative = np.cumsum(left, dtype=np.float64)
        drawn = np.searchsorted(cumulative, rng.random(n_candidates) * cumulative[-1], "right")
        candidates = np.minimum(drawn, len(points) - 1)
        after = np.minimum(left, _squared_distances(points, norm, candidates))
        best = int(after.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(candidates[best]))
        left = after[best]
    return points[chosen].astype(np.float64)


def _squared_distances(
    points: NDArray[np.floating], norm: NDArray[np.floating], cells: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Return the squared distances (n, N) of some of the points to all, given |x|² (N,)."""
    squared = points[cells] @ points.T
    squared *= -2
    squared += norm
    squared += norm[cells][:, None]
    return np.maximum(squared, 0, out=squared)


def lloyd(
    points: NDArray[np.floating], centres: NDArray[np.float64], enough: float
) -> tuple[float, NDArray[np.int32]]:
    """Return the sum of squares between the clusters, to be made large, and the clusters (N,).

    A cluster without points stays where it is.
    """
    nearest = np.empty(len(points), np.int32)
    between, settled = 0.0, False
    for _ in range(ITERATIONS):
        sums, sizes = _assign(points, centres, nearest)
        means = sums / np.maximum(sizes, 1)[:, None]
        between = float(np.sum(means * sums))  # less is within, as the two add up to the total
        if settled:
            break
        moved = np.where(sizes[:, None] > 0, means, centres)
        settled = float(np.sum((moved - centres) ** 2)) <= enough
        centres = moved
    return between, nearest


def _assign(
    points: NDArray[np.floating], centres: NDArray[np.float64], nearest: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Fill in the nearest centre of each point; return what each centre has, in sum and number."""
    sums, sizes = np.zeros(centres.shape), np.zeros(len(centres), np.int64)
    half_norm = np.einsum("ij,ij->i", centres, centres) / 2
    turned = np.ascontiguousarray(centres.T, points.dtype)
    for first in range(0, len(points), _ROWS):
        part = slice(first, first + _ROWS)
        assign_nearest(points[part], points[part] @ turned, half_norm, nearest[part], sums, sizes)
    return sums, sizes
