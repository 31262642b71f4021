"""The nearest cells of a reference for each new cell."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels import knn
from harmonypy_lite.threads import map_threads

_ROWS, _COLUMNS = 256, 2048  # one block of products: 2 MB, shared-cache size


def nearest(cells: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, k) places of the `k` nearest cells of the reference, and (n, k) their distances.

    In no order. Distances are of single precision, in units of the largest coordinate.

    Parameters
    ----------
    cells
        (n, d) new cells.
    reference
        (N, d) with N >= k.
    k
        Number of neighbours.

    Examples
    --------
    >>> line = np.arange(9.0)[:, None]
    >>> np.sort(nearest(np.array([[2.1], [9.0]]), line, 2)[0], axis=1).tolist()
    [[2, 3], [7, 8]]
    """
    n, d = reference.shape
    centre = reference.mean(axis=0, dtype=np.float64)
    y, x = (each - centre for each in (reference, cells))
    scale = max(float(np.abs(y).max()), float(np.abs(x).max())) or 1.0  # squares stay in range
    y, x = ((each / scale).astype(np.float32) for each in (y, x))
    columns = np.full((d + 1, -(-n // knn.LANES) * knn.LANES), np.inf, np.float32)
    columns[:d] = 0  # padding is infinitely far
    columns[:d, :n] = -y.T
    columns[d, :n] = np.einsum("ij,ij->i", y, y, dtype=np.float64) / 2
    rows = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
    out, squared = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
    length_2 = np.einsum("ij,ij->i", x, x, dtype=np.float64).astype(np.float32)

    def search(first: int) -> None:
        own = rows[first : first + _ROWS]
        values = np.empty((len(own), 4 * k + knn.LANES), np.float32)
        places = np.empty(values.shape, np.int32)
        length, bar = np.zeros(len(own), np.int64), np.full(len(own), np.inf, np.float32)
        room = np.empty(len(own) * _COLUMNS, np.float32)
        for at in range(0, columns.shape[1], _COLUMNS):
            some = columns[:, at : at + _COLUMNS]
            block = room[: len(own) * some.shape[1]].reshape(len(own), -1)
            np.matmul(own, some, out=block)
            knn.keep_nearest(block, at, k, values, places, length, bar)
        values[np.arange(values.shape[1]) >= length[:, None]] = np.inf
        nearest_first = np.argpartition(values, k - 1, axis=1)[:, :k]
        out[first : first + _ROWS] = np.take_along_axis(places, nearest_first, axis=1)
        squared[first : first + _ROWS] = np.take_along_axis(values, nearest_first, axis=1)

    map_threads(search, range(0, len(x), _ROWS))
    # a surrogate is |y|^2 / 2 - x.y
    squared = np.maximum(2 * squared + length_2[:, None], 0)
    return out, np.sqrt(squared)
