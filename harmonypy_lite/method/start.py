"""Where the clusters start: k-means on the sphere, on a sample of the cells.

The start decides which objective a run ends at, and the lowest start does not end lowest: k-means++
alone spends its centroids on outliers, random cells alone miss small types far from the rest. Most
centroids drawn at random and the last quarter by k-means++ ended lowest, or within the noise of the
seed, on ten real and two simulated sets (tests/benchmarks/compare_starts.py). Few clusters can
still miss a type by bad luck; they are cheap, so several starts are made and the tightest is kept.
"""

from __future__ import annotations

import numpy as np

from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.threads import Workers

#: Cells per cluster that the start looks at; more do not improve it.
CELLS_PER_CLUSTER = 256
_LLOYD_ITERATIONS = 10
#: Cells whose cosines are held at a time.
_AT_ONCE = 2048
#: As many starts as make together about so many clusters; at most 8, at least 1.
_CLUSTERS_TRIED = 160
#: Share of the centroids that are drawn evenly from the cells.
_EVEN_SHARE = 0.75


def sample_cells(n_cells: int, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Return, sorted, the places of the cells that the start looks at; all when they are few."""
    size = CELLS_PER_CLUSTER * n_clusters
    if n_cells <= size:
        return np.arange(n_cells)
    return np.sort(rng.choice(n_cells, size, replace=False, shuffle=False))


def start_centroids(
    sample: np.ndarray, n_clusters: int, rng: np.random.Generator, n_jobs: int | None = 1
) -> np.ndarray:
    """Return (K, d) unit centroids from the rows of `sample` (n, d), made by `n_jobs` threads.

    Rows of length zero have no direction and are left out.
    """
    largest = max(sample.max(initial=0.0), -sample.min(initial=0.0))
    # Rounded before anything else: the same numbers in another type or order give the same bytes.
    U = unit_rows(np.ascontiguousarray(sample / (largest or 1.0), np.float32))
    U = U[U.any(axis=1)]
    if len(U) == 0:
        return np.eye(1, sample.shape[1]).repeat(n_clusters, axis=0)
    n_starts = max(1, min(8, _CLUSTERS_TRIED // n_clusters))
    with Workers(n_jobs) as workers:
        starts = [_spherical_k_means(U, n_clusters, rng, workers) for _ in range(n_starts)]
    Y = max(starts, key=lambda start: start[1])[0]
    return unit_rows(Y.astype(np.float64))


def _spherical_k_means(
    U: np.ndarray, n_clusters: int, rng: np.random.Generator, workers: Workers
) -> tuple[np.ndarray, float]:
    """Return centroids, and the sum of the cosines of the cells to the nearest before the last."""
    Y = U[_seed(U, n_clusters, rng, workers)]
    tightness = 0.0
    for _ in range(_LLOYD_ITERATIONS):
        nearest, cosine = _nearest(U, Y, workers)
        tightness = float(cosine.sum(dtype=np.float64))
        moved = _mean_directions(U, nearest, Y)
        if np.array_equal(moved, Y):
            break
        Y = moved
    return Y, tightness


def _nearest(U: np.ndarray, Y: np.ndarray, workers: Workers) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of each cell (n,), and the cosine to it."""
    nearest, most = np.empty(len(U), np.intp), np.empty(len(U), U.dtype)

    def find(first: int) -> None:
        part = slice(first, first + _AT_ONCE)
        cosine = U[part] @ Y.T
        most[part] = cosine.max(axis=1)
        # as cosine.argmax, which is slower
        nearest[part] = (cosine == most[part, None]).argmax(axis=1)

    workers.map(find, range(0, len(U), _AT_ONCE))
    return nearest, most


def _seed(U: np.ndarray, n_clusters: int, rng: np.random.Generator, workers: Workers) -> np.ndarray:
    """Draw three quarters of the centroids evenly, then the rest one by one, far from those before.

    Greedy k-means++ (Arthur and Vassilvitskii 2007): of a few candidates, drawn with a chance that
    grows with their squared distance, the one that leaves the least distance is kept.
    """
    n_even = min(max(1, int(n_clusters * _EVEN_SHARE)), len(U))
    chosen = [int(i) for i in rng.choice(len(U), n_even, replace=False, shuffle=False)]
    distance = np.maximum(1 - _nearest(U, U[chosen], workers)[1], 0)
    n_candidates = 2 + int(np.log(n_clusters))
    for _ in range(n_clusters - n_even):
        cumulative = np.cumsum(distance, dtype=np.float64)
        drawn = np.searchsorted(cumulative, rng.random(n_candidates) * cumulative[-1], "right")
        candidates = np.minimum(drawn, len(U) - 1)
        after = U[candidates] @ U.T
        np.subtract(1, after, out=after)
        np.maximum(after, U.dtype.type(0), out=after)
        np.minimum(after, distance, out=after)
        best = int(after.sum(axis=1).argmin())
        chosen.append(int(candidates[best]))
        distance = after[best]
    return np.array(chosen)


def _mean_directions(U: np.ndarray, nearest: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Mean direction of the cells nearest to each centroid; one without cells stays."""
    from scipy.sparse import csr_array

    n = len(U)
    membership = csr_array((np.ones(n, U.dtype), nearest, np.arange(n + 1)), (n, len(Y)))
    sums = membership.T @ U
    return np.where(sums.any(axis=1, keepdims=True), unit_rows(sums), Y)
