"""Rows from one order to another."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import inlined, kernel

#: Squares of lengths below this have parts below the smallest normal number in single precision.
_SHORT = np.float32(1e-30)


@kernel
def gather_rows(X, order, factor, out):
    """out_j = factor * X[order_j], X in single precision. IN X (N,d), order (n). OUT out (n,d)."""
    for j in range(order.size):
        i = order[j]
        for p in range(out.shape[1]):
            out[j, p] = np.float32(np.float32(X[i, p]) * factor)


@kernel
def scatter_rows(X, order, factor, out):
    """out[order_j] = factor * X_j. IN X (n,d), order (n). OUT out (N,d)."""
    for j in range(order.size):
        i = order[j]
        for p in range(X.shape[1]):
            out[i, p] = np.float32(X[j, p] * factor)


@kernel
def unit_rows(Z, U):
    """u_i = z_i / |z_i|; a zero row stays zero. IN Z (n,d). OUT U (n,d)."""
    for i in range(Z.shape[0]):
        square = np.float32(0.0)
        for p in range(Z.shape[1]):
            square += Z[i, p] * Z[i, p]
        if square < _SHORT:
            _unit_short(Z, i, U)
            continue
        inverse = np.float32(1.0) / np.sqrt(square)
        for p in range(Z.shape[1]):
            U[i, p] = Z[i, p] * inverse


@inlined
def _unit_short(Z, i, U):
    """u_i = z_i / |z_i| where squares leave single precision, or z_i is 0."""
    square = 0.0
    for p in range(Z.shape[1]):
        square += np.float64(Z[i, p]) * np.float64(Z[i, p])
    inverse = 1.0 / np.sqrt(square) if square > 0.0 else 0.0
    for p in range(Z.shape[1]):
        U[i, p] = np.float32(np.float64(Z[i, p]) * inverse)


@kernel
def add_squares(Z, scale, out):
    """Sum squares: out += sum_i z_i^2 in fixed point, |z| <= 1. IN Z (n,d). OUT out (d) int64."""
    for i in range(Z.shape[0]):
        for p in range(Z.shape[1]):
            z = np.float64(Z[i, p])
            out[p] += np.int64(z * z * scale)


@kernel
def permute_rows(X, order, factor):
    """X[order_j] = factor * X_j, in place, cycle by cycle. IN X (N,d), order (N), both changed."""
    row = np.empty(X.shape[1], X.dtype)
    for first in range(order.size):
        if order[first] < 0:
            continue
        for p in range(row.size):
            row[p] = X[first, p]
        at = first
        while order[at] >= 0:
            target = order[at]
            order[at] = -1
            for p in range(row.size):
                moved = np.float32(row[p] * factor)
                row[p] = X[target, p]
                X[target, p] = moved
            at = target
