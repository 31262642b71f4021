"""Cells that are read and written a chunk at a time, wherever they are, with nothing kept of R."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harmonypy_lite.cells.chunk import InForce
from harmonypy_lite.cells.counted import Counted
from harmonypy_lite.cells.in_memory import InMemoryCells, Span
from harmonypy_lite.threads import Workers


class ChunkwiseCells(InMemoryCells):
    """Does the passes as `InMemoryCells` does without kept affinities.

    A class of these has ``_z``, ``_z_hat`` and ``_store``, which read and write one chunk.

    Parameters
    ----------
    arrangement
        Of all cells of the data.
    n_dims, n_levels
        d and B.
    sigma
        (K,) widths of the clusters.
    directions, steep, workers
        As in `InMemoryCells`.
    """

    def __init__(
        self,
        arrangement: Counted,
        n_dims: int,
        n_levels: int,
        sigma: np.ndarray,
        *,
        directions: bool,
        steep: bool,
        workers: Workers,
    ) -> None:
        self._keep, self._A, self._shift = False, None, None
        shape = (arrangement.n_cells, n_dims)
        self._set_up(arrangement, shape, n_levels, sigma, directions, steep, workers)

    def _take_steps(self, steps: Sequence[tuple[list[InForce], np.ndarray]]) -> None:
        """Correct the cells step after step; of each, what R was made from, and W for kernels."""

        def correct(span: Span) -> None:
            for chunk in self._chunks(span):
                codes, z_hat = self._codes(chunk), self._z(chunk)
                for in_force, W in steps:
                    affinities = self._work.affinities(z_hat, codes, in_force[span.block])
                    z_hat = self._corrected(chunk, affinities, W)
                self._store(chunk, z_hat)

        self._workers.map(correct, self._all_spans())
