"""Pearson's chi-square of the batches around each cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import kernel

Array = NDArray[Any]


@kernel
def batch_chi_square(neighbors: Array, codes: Array, shares: Array, out: Array) -> None:
    """chi²_i = sum_b (count_ib - k share_b)² / (k share_b), over the k neighbours of i.

    IN neighbors (n, k); codes (N,); shares (n_batches,), all > 0.  OUT out (n,).
    """
    n_cells, k = neighbors.shape
    counts = np.zeros(shares.shape[0])
    for i in range(n_cells):
        counts[:] = 0.0
        for j in range(k):
            counts[codes[neighbors[i, j]]] += 1.0
        total = 0.0
        for b in range(shares.shape[0]):
            expected = k * shares[b]
            total += (counts[b] - expected) ** 2 / expected
        out[i] = total
