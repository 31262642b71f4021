"""Sums of several threads put together, and turned so that clusters come first."""

from __future__ import annotations

from harmonypy_lite.kernels.jit import kernel

#: Rows that are turned into columns together: 64 of 100 numbers stay in the first cache.
_SIDE = 64


@kernel
def level_sums(tables, first, last, quantum, out):
    """out_kbp = quantum * sum_t tables[t][b, p, k], first <= b < last; int64 to float64.

    IN tables (T,B,d,L) int64. OUT out (K,B,d).
    """
    K, d = out.shape[0], out.shape[2]
    for b in range(first, last):
        for k in range(K):
            for p in range(d):
                total = tables[0, b, p, k]
                for t in range(1, tables.shape[0]):
                    total += tables[t, b, p, k]
                out[k, b, p] = total * quantum


@kernel
def combination_sums(tables, first, last, quantum, out):
    """out_kq = quantum * sum_t tables[t][q, k], first <= q < last. IN tables (T,Q,L) int64."""
    for near in range(first, last, _SIDE):
        for k in range(out.shape[0]):
            for q in range(near, min(near + _SIDE, last)):
                total = tables[0, q, k]
                for t in range(1, tables.shape[0]):
                    total += tables[t, q, k]
                out[k, q] = total * quantum
