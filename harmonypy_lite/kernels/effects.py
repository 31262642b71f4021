"""Cells moved by the effects of their levels."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.affinity import near
from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.product import TILE, multiply
from harmonypy_lite.kernels.rows import unit_rows
from harmonypy_lite.kernels.sums import sum_levels
from harmonypy_lite.kernels.weights import member, weights_of


@kernel
def subtract_effects(A, codes, tilt, groups, Z, W, Z_hat):
    """z_hat_i -= sum_k R_ik W[code_ic, k] for one covariate c; zero rows stay as they are.

    IN A (n,L), codes (n,C), tilt (B,L), groups (`Groups` of the covariate), Z (n,d),
    W (B,K,padded d). OUT Z_hat (n,d) changed; it may be Z itself.
    """
    joint = np.empty((1, A.shape[1]), np.float32)
    R = np.empty((TILE, A.shape[1]), np.float32)
    effect = np.empty((TILE, W.shape[2]), np.float32)
    for t in range(groups.level.size):
        lo, hi = groups.start[t], groups.start[t + 1]
        weights_of(A, codes, tilt, groups, t, joint, R)
        multiply(R[: hi - lo], W[groups.level[t]], effect)
        for j in range(lo, hi):
            i = member(groups, j)
            if not _all_zero(Z, i):
                for p in range(Z.shape[1]):
                    Z_hat[i, p] -= effect[j - lo, p]


@kernel
def correct_and_assign(A, shift, codes, tilt, tiles, Z, W, target, scale, sums):
    """`subtract_effects`, `affinity` from there and `sum_levels`, tile by tile: A stays in cache.

    For one covariate, whose levels sort the rows. IN codes (n,1), tilt (B,L) with which the cells
    were assigned before, tiles (`Groups` without members), Z (n,d), W (B,K,padded d), target
    (`Target`), scale. OUT A (n,L) read before it is written anew, shift (n), sums (`LevelSums`).
    """
    joint = np.empty((1, A.shape[1]), np.float32)
    R = np.empty((TILE, A.shape[1]), np.float32)
    effect = np.empty((TILE, W.shape[2]), np.float32)
    Z_hat = np.empty((TILE, Z.shape[1]), np.float32)
    U = np.empty((TILE, Z.shape[1]), np.float32)
    line = np.empty((TILE, target.Yt.shape[1]), np.float32)
    start = tiles.start
    for t in range(tiles.level.size):
        lo, hi = start[t], start[t + 1]
        weights_of(A, codes, tilt, tiles, t, joint, R)
        multiply(R[: hi - lo], W[tiles.level[t]], effect)
        for i in range(lo, hi):
            moves = np.float32(0.0 if _all_zero(Z, i) else 1.0)
            for p in range(Z.shape[1]):
                Z_hat[i - lo, p] = Z[i, p] - moves * effect[i - lo, p]
        unit_rows(Z_hat[: hi - lo], U)
        near(U, lo, hi, target, line, A, shift)
        sum_levels(
            A,
            shift,
            codes,
            target.tilt,
            target.sigma,
            start[t : t + 2],
            scale,
            sums.first[t : t + 1],
            sums.rest,
            sums.energy[t : t + 1],
        )


@inlined
def _all_zero(Z, i):
    """Whether z_i is 0."""
    for p in range(Z.shape[1]):
        if Z[i, p] != 0:
            return False
    return True
