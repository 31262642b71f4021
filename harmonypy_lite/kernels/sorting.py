"""Orders of keys of which there are few."""

from __future__ import annotations

from harmonypy_lite.kernels.jit import kernel


@kernel
def counting_order(key, start, order):
    """Places of the keys in ascending order, equal keys as they came.

    IN key (n) whole numbers from 0 up to k - 1, start (k+1) zeros, changed. OUT order (n).
    """
    for j in range(key.size):
        start[key[j] + 1] += 1
    for k in range(1, start.size):
        start[k] += start[k - 1]
    for j in range(key.size):
        order[start[key[j]]] = j
        start[key[j]] += 1
