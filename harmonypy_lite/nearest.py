"""The nearest cells of a reference for each new cell."""

from __future__ import annotations

import threading

import numpy as np

from harmonypy_lite.kernels import strips
from harmonypy_lite.threads import map_threads

#: Coordinates whose squares are far inside single precision.
_SMALL, _LARGE = 1e-12, 1e12
#: Cells that their centre is taken from, or fewer.
_SEEN = 1024


def nearest(cells: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, k) places of the `k` nearest cells of the reference, and (n, k) their distances.

    In no order. Distances are of single precision, and in another unit where their squares would
    leave it.

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
    some = reference[:: -(-len(reference) // _SEEN)]  # any point in their midst will do
    centre = some.mean(axis=0, dtype=np.float64)
    y, x = (each - centre.astype(each.dtype) for each in (reference, cells))
    largest = max(float(each) for Z in (y, x) for each in (Z.max(), -Z.min()))
    if largest > 0 and not _SMALL < largest < _LARGE:
        y, x = y / largest, x / largest
    columns, _ = strips.as_strips(y.astype(np.float32, copy=False))
    rows = strips.as_rows(x)
    out, squared = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
    own = threading.local()
    together = strips.rows_together(columns)

    def search(first: int) -> None:
        if not hasattr(own, "room"):
            own.room = strips.room_for(k, len(columns))
        some = slice(first, first + together)
        strips.search(rows[some], columns, columns.size, k, own.room, squared[some], out[some])

    map_threads(search, range(0, len(x), together))
    squared *= 2  # a surrogate is |y|^2 / 2 - x.y
    squared += np.einsum("ij,ij->i", x, x, dtype=np.float64).astype(np.float32)[:, None]
    return out, np.sqrt(np.maximum(squared, 0))
