"""From products of blocks to Euclidean distances, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import kernel

Array = NDArray[Any]


@kernel
def surrogate_to_distance(half_norm: Array, block: Array) -> None:
    """d_ij = sqrt(2 max(0, |x_i|²/2 + s_ij)), with s_ij = |y_j|²/2 - x_i·y_j.

    IN half_norm, |x|²/2 (rows,).  OUT block (rows, columns), s on entry and d on return.
    """
    rows, columns = block.shape
    for i in range(rows):
        x = half_norm[i]
        for j in range(columns):
            squared = x + block[i, j]
            squared = squared if squared > 0 else block.dtype.type(0)
            block[i, j] = np.sqrt(squared + squared)
