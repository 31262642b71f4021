"""Where the clusters start when nobody may see a cell: k-means from sums.

First all sites' directions are described by their mean and covariance; candidates, several for each
cluster, are drawn from that Gaussian distribution. Lloyd's iterations, each an exchange of a sum
and a count per centroid, move them to where cells are. Then the candidates, weighted by their
counts, are themselves clustered as in the last step of k-means|| (Bahmani et al. 2012, doi
10.14778/2180912.2180915), and Lloyd's iterations of the K that are left end it.
"""

from __future__ import annotations

import numpy as np

from harmonypy_lite.method.formulas import turned, unit_rows

#: Candidates per cluster; Lloyd's iterations of the candidates, and of the clusters.
PER_CLUSTER, WIDE, NARROW = 4, 4, 6
_ROWS = 2**14


def n_candidates(n_clusters: int, n_cells: int) -> int:
    """Return how many candidates there are."""
    return max(n_clusters, min(PER_CLUSTER * n_clusters, n_cells // 10))


def moments(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of u (d,) and of u u' (d, d) over cells (n, d)."""
    first, second = np.zeros(Z.shape[1]), np.zeros((Z.shape[1],) * 2)
    for a in range(0, len(Z), _ROWS):
        U = unit_rows(Z[a : a + _ROWS].astype(np.float64))
        first += U.sum(axis=0)
        second += U.T @ U
    return first, second


def candidates(
    first: np.ndarray, second: np.ndarray, n_cells: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw unit centroids (number, d) from the Gaussian distribution with these sums."""
    mean = first / n_cells
    values, vectors = np.linalg.eigh(second / n_cells - np.outer(mean, mean))
    draws = rng.normal(size=(number, mean.size)) * np.sqrt(np.maximum(values, 0.0))
    # the sign of an eigenvector is nobody's choice: draws are symmetric, but bytes are not
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(mean.size)])
    C = unit_rows(mean + draws @ (vectors * signs).T)
    return turned(np.eye(1, mean.size).repeat(number, axis=0), C)


def nearest_sums(Z: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many cells are nearest to each centroid (K,), and their sum of u (K, d)."""
    count, sums = np.zeros(len(C)), np.zeros(C.shape)
    for a in range(0, len(Z), _ROWS):
        U = unit_rows(Z[a : a + _ROWS].astype(np.float64))
        U = U[U.any(axis=1)]
        nearest = (U @ C.T).argmax(axis=1)
        count += np.bincount(nearest, minlength=len(C))
        member = np.zeros((len(C), len(U)))
        member[nearest, np.arange(len(U))] = 1.0
        sums += member @ U
    return count, sums


def reduced(
    C: np.ndarray, count: np.ndarray, n_clusters: int, rng: np.random.Generator
) -> np.ndarray:
    """Return `n_clusters` unit centroids of the candidates C (M, d), weighted by their cells.

    Three quarters are drawn by weight and the rest far from those before, as `method.start` does.
    """
    C, count = C[count > 0], count[count > 0]
    if len(C) <= n_clusters:
        spare = rng.normal(size=(n_clusters - len(C), C.shape[1]))
        return np.vstack([C, unit_rows(spare)])
    n_even = max(1, int(0.75 * n_clusters))
    chosen = list(rng.choice(len(C), n_even, replace=False, p=count / count.sum()))
    while len(chosen) < n_clusters:
        gap = np.maximum(1 - C @ C[chosen].T, 0).min(axis=1) * count
        gap[chosen] = 0.0
        best = rng.choice(len(C), p=gap / gap.sum()) if gap.any() else gap.argmax()
        chosen.append(int(best))
    Y = C[chosen]
    for _ in range(20):
        nearest = (C @ Y.T).argmax(axis=1)
        sums = np.zeros(Y.shape)
        np.add.at(sums, nearest, C * count[:, None])
        Y = turned(Y, sums)
    return Y
