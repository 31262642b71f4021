"""What a run leaves of its cells for later ones: sums per cluster, from which new cells are placed.

Symphony (Kang 2021, doi 10.1038/s41467-021-25957-x) compresses a reference to N_r and C, the sizes
of its clusters and the sums of its corrected cells in them; with the unit centroids of C they are
all that the equations of `mapping` need. Means and covariances of the cells as they came say how
far a new cell is from every cluster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Assignments below this leave the covariances alone: they are sums of the cells near a cluster.
_NEAR = 0.01


class Reference(NamedTuple):
    """Sums over the cells of a run."""

    size: np.ndarray  # (K,) N_r = sum_i R_ik
    corrected_sum: np.ndarray  # (K, d) C = sum_i R_ik z_hat_i
    mean: np.ndarray  # (K, d) weighted mean of the z_i, as they came
    covariance: np.ndarray  # (K, d, d) weighted covariance of the z_i


class ReferenceSums:
    """Adds the sums up, batch by batch.

    Examples
    --------
    >>> sums = ReferenceSums(1, 2)
    >>> z = np.array([[1.0, 0.0], [3.0, 0.0]])
    >>> sums.add(np.ones((2, 1)), z, z - 1)
    >>> reference = sums.finish()
    >>> reference.mean.tolist(), reference.corrected_sum.tolist()
    ([[2.0, 0.0]], [[2.0, -2.0]])
    """

    def __init__(self, n_clusters: int, n_dims: int) -> None:
        self._size = np.zeros(n_clusters)
        self._corrected = np.zeros((n_clusters, n_dims))
        self._near = np.zeros(n_clusters)
        self._sum = np.zeros((n_clusters, n_dims))
        self._square = np.zeros((n_clusters, n_dims, n_dims))

    def add(self, R: np.ndarray, z: np.ndarray, z_hat: np.ndarray) -> None:
        """Add cells with assignments R (n, K), z (n, d) as they came, and z_hat (n, d)."""
        R, z = R.astype(np.float64), z.astype(np.float64)
        self._size += R.sum(axis=0)
        self._corrected += R.T @ z_hat.astype(np.float64)
        for k, near in enumerate((R >= _NEAR).T):
            own, weight = z[near], R[near, k]
            self._near[k] += weight.sum()
            self._sum[k] += weight @ own
            self._square[k] += (weight[:, None] * own).T @ own

    def finish(self) -> Reference:
        """Return the sums; a cluster without cells has the mean and covariance of nothing, 0."""
        weight = np.maximum(self._near, np.finfo(float).tiny)[:, None]
        mean = self._sum / weight
        covariance = self._square / weight[:, None] - mean[:, :, None] * mean[:, None, :]
        return Reference(self._size, self._corrected, mean, covariance)
