"""Sums over the cells of an embedding that is in memory, or of one that is lazy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.metrics.inputs import as_embedding, at_safe_scale
from harmonypy_lite.threads import map_threads

R = TypeVar("R")

#: Rows that a thread works on at a time.
_ROWS = 32_768


class Rows:
    """The rows of an embedding, of which functions of some rows at a time are computed.

    A Dask array is never computed whole: Dask does the work, partition by partition, where its
    scheduler wants it. An array of very large or small numbers comes in other units, so what is
    computed must not depend on the scale.

    Parameters
    ----------
    embedding : (N, d)
        An array, or a Dask array whose columns are in one chunk.
    what
        How messages call it.

    Examples
    --------
    >>> rows = Rows(np.arange(6.0).reshape(3, 2), "embedding")
    >>> rows.mean().tolist(), rows.map(lambda part: part.shape)
    ([2.0, 3.0], [(3, 2)])
    """

    def __init__(self, embedding: Any, what: str) -> None:
        self._what = what
        self._lazy = is_dask(embedding)
        if self._lazy:
            if embedding.ndim != 2 or embedding.numblocks[1] != 1 or np.isnan(embedding.shape[0]):
                raise InvalidInput(
                    f"{what} is a Dask array with chunks of columns or of unknown size: use "
                    "rechunk({1: -1}) and compute_chunk_sizes()."
                )
            self._array = embedding
        else:
            self._array, _ = at_safe_scale(as_embedding(embedding, what))
        self.n, self.d = (int(size) for size in self._array.shape)

    def __len__(self) -> int:
        return self.n

    def map(
        self, function: Callable[..., R], *columns: NDArray[Any], n_jobs: int | None = None
    ) -> list[R]:
        """Return function(rows, *column parts) for some rows at a time, in their order."""
        if self._lazy:
            return self._map_lazy(function, columns)

        def work(first: int) -> R:
            piece = slice(first, first + _ROWS)
            return function(self._array[piece], *(column[piece] for column in columns))

        return map_threads(work, range(0, self.n, _ROWS), n_jobs)

    def _map_lazy(self, function: Callable[..., R], columns: tuple[NDArray[Any], ...]) -> list[R]:
        dask = sys.modules["dask"]
        tasks, first, what = [], 0, self._what
        work = dask.delayed(_checked, pure=False)
        for part, size in zip(self._array.to_delayed().ravel(), self._array.chunks[0], strict=True):
            if size:
                piece = slice(first, first + size)
                tasks.append(work(function, what, part, *(column[piece] for column in columns)))
            first += size
        return list(dask.compute(*tasks))

    def mean(self) -> NDArray[np.float64]:
        """Return the (d,) mean."""
        if not self._lazy:
            return np.asarray(self._array.mean(axis=0, dtype=np.float64))
        parts = self.map(lambda rows: rows.sum(axis=0, dtype=np.float64))
        return np.asarray(np.sum(parts, axis=0) / self.n)


def rows_of(embedding: Any, what: str = "embedding") -> Rows:
    """Return the rows of an embedding; of rows, themselves."""
    return embedding if isinstance(embedding, Rows) else Rows(embedding, what)


def _checked(function: Callable[..., R], what: str, rows: Any, *columns: NDArray[Any]) -> R:
    return function(as_embedding(rows, f"{what} (a partition of it)"), *columns)
