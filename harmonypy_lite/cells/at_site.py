"""Some of the cells of a run: those of one site, while others hold the rest."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.cells.chunk import ChunkWork
from harmonypy_lite.cells.in_memory import InMemoryCells
from harmonypy_lite.method.rules import Setting
from harmonypy_lite.threads import Workers


class SiteCells(InMemoryCells):
    """Holds the cells of one site in memory; sums are in the fixed point of the whole data.

    Parameters
    ----------
    Z
        (n, d) the site's cells.
    codes, block
        (n,) level, counted through the levels of this site, and block of each cell.
    n_blocks
        Number of blocks.
    setting
        With the levels of this site, and N of the whole data.
    workers
        Threads.
    """

    def __init__(
        self,
        Z: np.ndarray,
        codes: np.ndarray,
        block: np.ndarray,
        n_blocks: int,
        setting: Setting,
        *,
        workers: Workers,
    ) -> None:
        n_levels = setting.level_size.size
        super().__init__(
            Z,
            codes[:, None],
            block,
            n_blocks,
            [n_levels],
            setting.sigma,
            directions=False,
            form=setting.form,
            keep=False,
            workers=workers,
        )
        self._work = ChunkWork(setting.sigma, n_levels, setting.n_cells, form=setting.form)
