"""How many neighbours two tables share, row by row."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import kernel

Array = NDArray[Any]


@kernel
def count_shared(first: Array, second: Array, out: Array) -> None:
    """shared_i = |first_i ∩ second_i|, each row without repeats.

    IN first, second (n, k), rows sorted.  OUT out (n,).
    """
    n_cells, k = first.shape
    for i in range(n_cells):
        a, b, shared = 0, 0, 0
        while a < k and b < k:
            if first[i, a] == second[i, b]:
                shared += 1
                a += 1
                b += 1
            elif first[i, a] < second[i, b]:
                a += 1
            else:
                b += 1
        out[i] = shared
