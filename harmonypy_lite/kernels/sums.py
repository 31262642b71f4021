"""Sums over R, which is formed as they go.

They leave as int64 fixed point (value x scale), which add exactly in any order.
"""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.lanes import (
    add_fixed,
    add_four_rows,
    add_row,
    dot,
    multiply_row,
    scale_row,
    share_out,
)
from harmonypy_lite.kernels.product import TILE, multiply_transposed, padded
from harmonypy_lite.kernels.vector_math import log32
from harmonypy_lite.kernels.weights import (
    dot_rows,
    member,
    multiply_tilts,
    same_further_levels,
    weights_of,
)


@inlined
def add_rows(A, lo, hi, weight, out):
    """out_k = sum_i weight_i A[lo + i, k], i < hi - lo."""
    out[:] = 0
    whole = hi - (hi - lo) % 4
    for i in range(lo, whole, 4):
        add_four_rows(A, i, weight, i - lo, out)
    for i in range(whole, hi):
        add_row(A, i, weight, i - lo, out)


@kernel
def sum_levels(A, shift, codes, tilt, sigma, start, scale, first, rest, energy):
    """first_tk = sum_{i in tile t} R_ik; rest_bk the same over levels b of further covariates.

    energy_t = -sum_i sigma_bar_i (shift_i + log sum_k A_ik tilt_ik), sigma_bar_i = sum_k R_ik
    sigma_k. IN A (n,L), shift (n), codes (n,C), tilt (B,L), sigma (L), or (1) if they are all the
    same, start (T+1) bounds of the tiles, scale. OUT first (T,L) int64, rest (B,L) int64 added to,
    energy (T) float64.
    """
    total, width = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    part = np.empty((1, A.shape[1]), np.float32)
    own = np.empty((1, A.shape[1]), np.float32)
    joint = np.empty((1, A.shape[1]), np.float32)
    spread = np.zeros((1, A.shape[1]), np.float32)
    for t in range(start.size - 1):
        lo, hi = start[t], start[t + 1]
        if codes.shape[1] == 1:
            # The cells' R'1 is tilt * A' (1 / total).
            joint[0] = tilt[codes[lo, 0]]
            dot_rows(A, lo, hi, joint, 0, total)
            if sigma.size > 1:
                for k in range(sigma.size):
                    spread[0, k] = joint[0, k] * sigma[k]
                dot_rows(A, lo, hi, spread, 0, width)
            energy[t] = -_loss(shift, lo, hi, total, width, sigma)
            for i in range(hi - lo):
                total[i] = np.float32(1.0) / total[i]
            add_rows(A, lo, hi, total, part[0])
            scale_row(part, 0, joint, 0, np.float32(1.0), own, 0)
        else:
            own[:] = 0
            for i in range(lo, hi):
                if i == lo or not same_further_levels(codes, i - 1, i):
                    multiply_tilts(codes, i, tilt, joint)
                    for k in range(sigma.size if sigma.size > 1 else 0):
                        spread[0, k] = joint[0, k] * sigma[k]
                total[i - lo] = multiply_row(A, i, joint, 0, part, 0)
                if sigma.size > 1:
                    width[i - lo] = dot(A, i, spread, 0)
                inverse = np.float32(1.0) / total[i - lo]
                share_out(part, 0, inverse, own, scale, rest, codes[i, 1])
                for c in range(2, codes.shape[1]):
                    add_fixed(part, 0, inverse * scale, rest, codes[i, c])
            energy[t] = -_loss(shift, lo, hi, total, width, sigma)
        first[t] = 0
        add_fixed(own, 0, scale, first, t)


@inlined
def _loss(shift, lo, hi, total, width, sigma):
    """sum_i sigma_bar_i (shift_i + log total_i), sigma_bar_i = width_i / total_i."""
    loss = 0.0
    if sigma.size > 1:
        for i in range(hi - lo):
            loss += np.float64(width[i] / total[i] * (shift[lo + i] + log32(total[i])))
        return loss
    for i in range(hi - lo):
        loss += np.float64(shift[lo + i] + log32(total[i]))
    return loss * sigma[0]


@kernel
def add_tiles(first, start, out):
    """out_mk = sum of first_tk, start_m <= t < start_m+1. IN first (T,L), start. OUT out (M,K)."""
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[m, k] = 0
        for t in range(start[m], start[m + 1]):
            for k in range(out.shape[1]):
                out[m, k] += first[t, k]


@kernel
def fold_rows(table, start, level, log_tilt, sigma, scale, weight):
    """weight_mk = sum_{rows t of m} table_tk; returns sum_mk sigma_k O_mk log_tilt_{level m, k}.

    IN table (T,>=K) int64, start (M) first row of each level, level (M), log_tilt (B,K), sigma (K),
    scale. OUT weight (M,K) int64, of which O is the value.
    """
    total = 0.0
    for m in range(start.size):
        stop = start[m + 1] if m + 1 < start.size else table.shape[0]
        for k in range(weight.shape[1]):
            weight[m, k] = table[start[m], k]
        for t in range(start[m] + 1, stop):
            for k in range(weight.shape[1]):
                weight[m, k] += table[t, k]
        b = level[m]
        for k in range(weight.shape[1]):
            total += sigma[k] * log_tilt[b, k] * (weight[m, k] / scale)
    return total


@kernel
def sum_moments(A, codes, tilt, groups, X, scale, M, combination, G):
    """M_bpk += sum over cells of level b of R_ik x_ip; G_qk += sum over combination q of R_ik.

    IN A (n,L), codes (n,C), tilt (B,L), groups (`Groups`: which cells share a level), X (n,d),
    scale in the precision that the products are to have, combination (n). OUT M (B,d,L) int64,
    G (Q,L) int64, or (0,L) if it is not wanted.
    """
    d = X.shape[1]
    joint = np.empty((1, A.shape[1]), np.float32)
    scales = np.full(1, scale)
    # whole registers: half as many double-precision numbers fill one
    R = np.zeros((TILE, padded(A.shape[1], 64 // scales.itemsize)), np.float32)
    Xt = np.empty((TILE, d), scales.dtype)
    product = np.empty((d, R.shape[1]), scales.dtype)
    for t in range(groups.level.size):
        lo, hi = groups.start[t], groups.start[t + 1]
        weights_of(A, codes, tilt, groups, t, joint, R)
        for j in range(lo, hi):
            i = member(groups, j)
            for p in range(d):
                Xt[j - lo, p] = X[i, p]
            if G.shape[0] > 0:
                add_fixed(R, j - lo, np.float32(scale), G, combination[i])
        multiply_transposed(Xt[: hi - lo], R, product)
        level_sum = M[groups.level[t]]
        for p in range(d):
            add_fixed(product, p, scale, level_sum, p)


@kernel
def sum_excluded(A, codes, tilt, combination, excluded, X, scale, M):
    """M_pk += sum over cells with excluded[combination_i, k] of R_ik x_ip.

    IN A (n,L), codes (n,C), tilt (B,L), combination (n), excluded (Q,K) bool, X (n,d), scale.
    OUT M (d,K) int64.
    """
    joint = np.empty((1, A.shape[1]), np.float32)
    row = np.empty((1, A.shape[1]), np.float32)
    for i in range(A.shape[0]):
        q = combination[i]
        if not excluded[q].any():
            continue
        multiply_tilts(codes, i, tilt, joint)
        scale_row(A, i, joint, 0, np.float32(1.0) / dot(A, i, joint, 0), row, 0)
        for k in range(M.shape[1]):
            if excluded[q, k]:
                weight = np.float64(row[0, k])
                for p in range(X.shape[1]):
                    M[p, k] += np.int64(weight * X[i, p] * scale)
