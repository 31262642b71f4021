"""New cells beside a finished run: Symphony's equations.

The reference stays as it is. New cells are softly assigned to its unit centroids in the corrected
space, and a ridge regression per cluster, over the reference and the new cells together, finds what
their levels explain. The reference enters as N_r and C alone (`model.Reference`). Kang 2021, doi
10.1038/s41467-021-25957-x.
"""

from __future__ import annotations

import numpy as np

from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.method.model import Reference

#: Ridge penalty of every level; the intercept has none (Kang 2021).
PENALTY = 1.0
#: Numbers in the designs of clusters that are solved for together.
_TOGETHER = 2**22


def assignments(z: np.ndarray, Y: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return R (n, K) = softmax_k(-2 (1 - u.Y_k) / sigma_k) of cells z (n, d), in Y's precision."""
    score = unit_rows(z) @ Y.T
    score -= 1
    score *= (2.0 / sigma).astype(score.dtype)
    score -= score.max(axis=1, keepdims=True)
    np.exp(score, out=score)
    score /= score.sum(axis=1, keepdims=True)
    return score


def sums_by_combination(
    R: np.ndarray, z: np.ndarray, combination: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return q, sum_i R_ik (K,) and sum_i R_ik z_i (K, d) for each combination q that occurs."""
    sums = []
    there = np.unique(combination).tolist()
    for q in there:
        own = combination == q if len(there) > 1 else slice(None)
        sums.append((q, R[own].sum(axis=0), R[own].T @ z[own]))
    return sums


class QuerySums:
    """Adds up, batch by batch, what the regression needs of the new cells.

    Parameters
    ----------
    combinations
        (Q, C) the combinations of levels that occur, levels numbered through all covariates.
    n_levels, n_clusters, n_dims
        B, K and d.
    """

    def __init__(
        self, combinations: np.ndarray, n_levels: int, n_clusters: int, n_dims: int
    ) -> None:
        self._combinations, self._n_levels = combinations, n_levels
        self.weight = np.zeros((len(combinations), n_clusters))
        self.moment = np.zeros((len(combinations), n_clusters, n_dims))

    def add(self, sums: list[tuple[int, np.ndarray, np.ndarray]]) -> None:
        """Add `sums_by_combination` of some cells."""
        for q, weight, moment in sums:
            self.weight[q] += weight
            self.moment[q] += moment

    def effects(self, reference: Reference) -> np.ndarray:
        """Return W (K, B, d): per cluster, what each level of the new cells explains.

        beta_k = (X' diag(R_k) X + Lambda)^-1 X' diag(R_k) Z with X = [1, Phi] over the cells of
        the reference, whose Phi is 0 and whose Z is corrected, and the new ones.
        """
        Q, B = len(self._combinations), self._n_levels
        X = np.zeros((Q, 1 + B))
        X[:, 0] = 1.0
        X[np.arange(Q)[:, None], 1 + self._combinations] = 1.0
        penalty = np.full(1 + B, PENALTY)
        penalty[0] = 0.0
        n_clusters, n_dims = self.moment.shape[1:]
        W = np.zeros((n_clusters, B, n_dims))
        there = np.flatnonzero(self.weight.sum(axis=0) > 0)
        step = max(1, _TOGETHER // max(X.size, 1))
        for some in (there[first : first + step] for first in range(0, there.size, step)):
            A = (X.T * self.weight.T[some, None]) @ X + np.diag(penalty)
            A[:, 0, 0] += reference.size[some]
            right = X.T @ self.moment[:, some].swapaxes(0, 1)
            right[:, 0] += reference.corrected_sum[some]
            W[some] = np.linalg.solve(A, right)[:, 1:]
        return W


def corrected(z: np.ndarray, R: np.ndarray, W: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return z_i - sum_k R_ik sum_c W_k[code_ic] for cells (n, d) with codes (n, C)."""
    z_hat = z.copy()
    for column in codes.T:
        levels = np.unique(column)
        for level in levels:
            own = column == level if len(levels) > 1 else slice(None)
            z_hat[own] -= R[own] @ W[:, level]
    return z_hat


def whitening(reference: Reference) -> np.ndarray:
    """Return L (K, d, d) such that |(z - mean_k) L_k| is Mahalanobis's distance from cluster k.

    The covariance of n_k cells is drawn towards the clusters' mean variances with weight
    d / (d + n_k), without which few cells have no inverse.
    """
    d = reference.mean.shape[1]
    share = reference.size / max(reference.size.sum(), 1.0)
    pooled = np.einsum("k,kii->i", share, reference.covariance)
    floor = np.diag(np.maximum(pooled, 1e-6 * max(float(pooled.max(initial=0.0)), 1e-30)))
    weight = (d / (d + reference.size))[:, None, None]
    drawn = (1 - weight) * reference.covariance + weight * floor
    try:
        return np.linalg.inv(np.linalg.cholesky(drawn)).swapaxes(1, 2)
    except np.linalg.LinAlgError:  # rounded below 0 where the cells are far from 0 and close by
        values, vectors = np.linalg.eigh(drawn)
        return vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))[:, None, :]
