"""R from affinities and penalties, and the sums over it.

R_ik = A_ik prod_c tilt[code_ic, k] / (sum over k): R is formed a tile at a time and never kept.
Sums leave as int64 fixed point (value x scale), which add exactly in any order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.product import TILE, multiply, multiply_transposed, padded


class Groups(NamedTuple):
    """Which cells share a level: group t holds the cells members[start[t]:start[t+1]]."""

    members: np.ndarray  # (n,) int32 rows
    start: np.ndarray  # (T+1,) int64
    level: np.ndarray  # (T,) int32 code of the level


@inlined
def weigh(A, codes, i, tilt, sigma, row):
    """row_k = A_ik prod_c tilt[code_ic, k]; returns (sum_k row_k, sum_k sigma_k row_k)."""
    # Rows are indexed, not sliced: a slice in a function that is inlined costs reference counts,
    # and two branches of loops keep LLVM from vectorising either (83 ns a row against 28).
    K = A.shape[1]
    b = codes[i, 0]
    for k in range(K):
        row[k] = A[i, k] * tilt[b, k]
    for c in range(1, codes.shape[1]):
        b = codes[i, c]
        for k in range(K):
            row[k] *= tilt[b, k]
    total = np.float32(0.0)
    width = np.float32(0.0)
    for k in range(K):
        total += row[k]
        width += row[k] * sigma[k]
    return total, width


@inlined
def same_levels(codes, i, j):
    """Whether cells i and j have the same level of every covariate."""
    for c in range(codes.shape[1]):
        if codes[i, c] != codes[j, c]:
            return False
    return True


@kernel
def sum_levels(A, shift, codes, tilt, sigma, start, scale, first, rest, energy):
    """first_tk = sum_{i in tile t} R_ik; rest_bk the same over levels b of further covariates.

    energy_t = -sum_i sigma_bar_i (shift_i + log sum_k A_ik tilt_ik), sigma_bar_i = sum_k R_ik
    sigma_k. IN A (n,K), shift (n), codes (n,C), tilt (B,K), sigma (K), start (T+1) bounds of the
    tiles, scale. OUT first (T,K) int64, rest (B,K) int64 added to, energy (T) float64.
    """
    K = A.shape[1]
    row = np.empty(K, np.float32)
    part = np.zeros(K, np.float32)
    for t in range(start.size - 1):
        loss = 0.0
        first[t] = 0
        for i in range(start[t], start[t + 1]):
            total, width = weigh(A, codes, i, tilt, sigma, row)
            inverse = np.float32(1.0) / total
            for k in range(K):
                part[k] += row[k] * inverse
            loss -= width * inverse * (shift[i] + np.log(total))
            if i + 1 == start[t + 1] or not same_levels(codes, i, i + 1):
                for k in range(K):
                    fixed = np.int64(part[k] * scale)
                    first[t, k] += fixed
                    for c in range(1, codes.shape[1]):
                        rest[codes[i, c], k] += fixed
                    part[k] = 0
        energy[t] = loss


@kernel
def fold_tiles(first, start, log_tilt, sigma, scale, weight):
    """weight_mk = sum_{tiles t of m} first_tk; returns sum_mk sigma_k O_mk log_tilt_mk.

    IN first (T,K) int64, start (M) first tile of each level, log_tilt (M,K), sigma (K), scale.
    OUT weight (M,K) int64, of which O is the value.
    """
    total = 0.0
    for m in range(start.size):
        stop = start[m + 1] if m + 1 < start.size else first.shape[0]
        weight[m] = first[start[m]]
        for t in range(start[m] + 1, stop):
            for k in range(first.shape[1]):
                weight[m, k] += first[t, k]
        for k in range(first.shape[1]):
            total += sigma[k] * log_tilt[m, k] * (weight[m, k] / scale)
    return total


@kernel
def sum_combinations(A, codes, tilt, sigma, combination, scale, G):
    """G_qk += sum over cells of combination q of R_ik.

    IN A (n,K), codes (n,C), tilt (B,K), sigma (K), combination (n), scale. OUT G (Q,K) int64.
    """
    row = np.empty(A.shape[1], np.float32)
    for i in range(A.shape[0]):
        total, _ = weigh(A, codes, i, tilt, sigma, row)
        inverse = np.float32(1.0) / total
        q = combination[i]
        for k in range(row.size):
            G[q, k] += np.int64(row[k] * inverse * scale)


@inlined
def _weights_of(A, codes, tilt, sigma, members, lo, hi, row, R):
    """R_jk for the cells members[lo:hi], one row each."""
    for j in range(lo, hi):
        i = members[j]
        total, _ = weigh(A, codes, i, tilt, sigma, row)
        inverse = np.float32(1.0) / total
        for k in range(row.size):
            R[j - lo, k] = row[k] * inverse


@kernel
def assignments(A, codes, tilt, sigma, R):
    """R_ik = A_ik tilt_ik / sum_k A_ik tilt_ik, tilt_ik = prod_c tilt[code_ic, k].

    IN A (n,K), codes (n,C), tilt (B,K), sigma (K). OUT R (n,K).
    """
    row = np.empty(A.shape[1], np.float32)
    for i in range(A.shape[0]):
        total, _ = weigh(A, codes, i, tilt, sigma, row)
        inverse = np.float32(1.0) / total
        for k in range(row.size):
            R[i, k] = row[k] * inverse


@kernel
def sum_moments(A, codes, tilt, sigma, groups, X, scale, M):
    """M_bpk += sum over cells of level b of R_ik x_ip.

    IN A (n,K), codes (n,C), tilt (B,K), sigma (K), groups (`Groups`: which cells share a level),
    X (n,d) in the precision that the products are to have, scale. OUT M (B,d,K) int64.
    """
    K, d = A.shape[1], X.shape[1]
    row = np.empty(K, np.float32)
    R = np.zeros((TILE, padded(K)), X.dtype)
    Xt = np.empty((TILE, d), X.dtype)
    product = np.empty((d, R.shape[1]), X.dtype)
    for t in range(groups.level.size):
        lo, hi = groups.start[t], groups.start[t + 1]
        _weights_of(A, codes, tilt, sigma, groups.members, lo, hi, row, R)
        for j in range(lo, hi):
            i = groups.members[j]
            for p in range(d):
                Xt[j - lo, p] = X[i, p]
        multiply_transposed(Xt[: hi - lo], R, product)
        b = groups.level[t]
        for p in range(d):
            for k in range(K):
                M[b, p, k] += np.int64(product[p, k] * scale)


@kernel
def sum_excluded(A, codes, tilt, sigma, combination, excluded, X, scale, M):
    """M_pk += sum over cells with excluded[combination_i, k] of R_ik x_ip.

    IN A (n,K), codes (n,C), tilt (B,K), sigma (K), combination (n), excluded (Q,K) bool, X (n,d),
    scale. OUT M (d,K) int64.
    """
    row = np.empty(A.shape[1], np.float32)
    for i in range(A.shape[0]):
        q = combination[i]
        if not excluded[q].any():
            continue
        total, _ = weigh(A, codes, i, tilt, sigma, row)
        for k in range(row.size):
            if excluded[q, k]:
                weight = np.float64(row[k] * (np.float32(1.0) / total))
                for p in range(X.shape[1]):
                    M[p, k] += np.int64(weight * X[i, p] * scale)


@kernel
def subtract_effects(A, codes, tilt, sigma, groups, Z, W, Z_hat):
    """z_hat_i -= sum_k R_ik W[code_ic, k] for one covariate c; zero rows stay as they are.

    IN A (n,K), codes (n,C), tilt (B,K), sigma (K), groups (`Groups` of the covariate), Z (n,d),
    W (B,K,padded d). OUT Z_hat (n,d) changed.
    """
    row = np.empty(A.shape[1], np.float32)
    R = np.empty((TILE, A.shape[1]), np.float32)
    effect = np.empty((TILE, W.shape[2]), np.float32)
    for t in range(groups.level.size):
        lo, hi = groups.start[t], groups.start[t + 1]
        _weights_of(A, codes, tilt, sigma, groups.members, lo, hi, row, R)
        multiply(R[: hi - lo], W[groups.level[t]], effect)
        for j in range(lo, hi):
            i = groups.members[j]
            moves = False
            for p in range(Z.shape[1]):
                moves = moves or Z[i, p] != 0
            if moves:
                for p in range(Z.shape[1]):
                    Z_hat[i, p] -= effect[j - lo, p]
