"""Cells to the nearest of a few centres, and the sums from which the centres move."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import kernel

Array = NDArray[Any]


@kernel
def assign_nearest(
    points: Array, product: Array, half_norm: Array, nearest: Array, sums: Array, sizes: Array
) -> None:
    """k_i = argmin_k |c_k|²/2 - x_i·c_k, the first of equals; S_k += x_i, n_k += 1 for k = k_i.

    IN points (n, d); product, x·c (n, K); half_norm, |c|²/2 (K,).
    OUT nearest (n,); sums (K, d); sizes (K,).
    """
    for i in range(points.shape[0]):
        best = 0
        least = half_norm[0] - product[i, 0]
        for k in range(1, half_norm.shape[0]):
            surrogate = half_norm[k] - product[i, k]
            if surrogate < least:
                least = surrogate
                best = k
        nearest[i] = best
        sizes[best] += 1
        for t in range(points.shape[1]):
            sums[best, t] += points[i, t]
