"""What `lanes` does, in NumPy: for when the compiler is switched off (coverage, debugging)."""

from __future__ import annotations

from typing import Any

import numpy as np

from harmonypy_lite.kernels.halves import LOWEST, from_half, to_half
from harmonypy_lite.kernels.vector_math import EXP_LOWEST


def _numbers(rows: np.ndarray) -> np.ndarray:
    return from_half(rows) if rows.dtype == np.uint16 else rows


def dot(A: np.ndarray, i: int, T: np.ndarray, b: int) -> np.float32:
    """sum_k A[i, k] T[b, k]."""
    return np.float32(_numbers(A[i]) @ T[b])


def dot_four(A: np.ndarray, i: int, T: np.ndarray, b: int, out: np.ndarray, j: int) -> None:
    """out[j + r] = sum_k A[i + r, k] T[b, k], r < 4."""
    out[j : j + 4] = _numbers(A[i : i + 4]) @ T[b]


def add_rows(rows: int) -> Any:
    """Return what adds so many weighted rows."""

    def add_rows(A: np.ndarray, i: int, weight: np.ndarray, j: int, out: np.ndarray) -> None:
        out[: A.shape[1]] += weight[j : j + rows] @ _numbers(A[i : i + rows])

    return add_rows


def scale_row(
    A: np.ndarray, i: int, T: np.ndarray, b: int, factor: np.float32, out: np.ndarray, j: int
) -> None:
    """out[j] = A[i] T[b] factor."""
    out[j, : A.shape[1]] = _numbers(A[i]) * T[b] * factor


def multiply_row(
    A: np.ndarray, i: int, T: np.ndarray, b: int, out: np.ndarray, j: int
) -> np.float32:
    """out[j] = A[i] T[b]; returns the sum."""
    out[j] = _numbers(A[i]) * T[b]
    return np.float32(out[j].sum())


def share_out(
    X: np.ndarray, i: int, factor: np.float32, sums: np.ndarray, scale: np.float32,
    out: np.ndarray, j: int,
) -> None:  # fmt: skip
    """sums[0] += x, out[j] += int64(x scale), x = X[i] factor."""
    sums[0] += X[i] * factor
    out[j] += (X[i] * factor * scale).astype(np.int64)


def line_max(X: np.ndarray, i: int, slope: np.ndarray, offset: np.ndarray, b: int) -> np.float32:
    """X[i] = X[i] slope - offset[b]; returns the largest."""
    X[i] = X[i] * slope - offset[b]
    return np.float32(X[i].max())


def exp_row(X: np.ndarray, i: int, shift: np.float32, out: np.ndarray, j: int) -> None:
    """out[j] = exp(X[i] - shift)."""
    below = X[i, : out.shape[1]] - shift
    if out.dtype == np.uint16:
        out[j] = to_half(np.exp(np.maximum(below, np.float32(LOWEST))))
    else:
        out[j] = np.exp(np.maximum(below, EXP_LOWEST))


def add_fixed(X: np.ndarray, i: int, scale: np.floating[Any], out: np.ndarray, j: int) -> None:
    """out[j] += int64(X[i] scale)."""
    out[j] += (X[i, : out.shape[1]] * scale).astype(np.int64)
