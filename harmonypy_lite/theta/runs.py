"""Runs on the same cells that share what they can: the arranged cells and the start."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.cells.in_memory import InMemoryCells
from harmonypy_lite.design import Design
from harmonypy_lite.method import opening, start
from harmonypy_lite.method.loop import Outcome
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import holder, integrate_cells
from harmonypy_lite.threads import Workers


class Run(NamedTuple):
    """One run: its parameters, its result (N, d) and its tables."""

    params: HarmonyParams
    embedding: np.ndarray
    outcome: Outcome


class Runs:
    """Runs of the same cells with the same seed; each gives the bytes of a run of its own.

    The cells are sorted once, and the first centroids are found once, for as long as the
    parameters that decide them stay.

    Parameters
    ----------
    Z
        (N, d) floating point.
    design
        Levels of the cells, at least two.
    seed
        Of the start and of the blocks.
    workers
        Threads.
    keep
        Whether affinities may be kept in memory (2 K bytes a cell, or 4 K).

    Examples
    --------
    >>> import pandas as pd
    >>> from harmonypy_lite.design import design_from_columns
    >>> Z = np.random.default_rng(0).normal(size=(200, 4))
    >>> design = design_from_columns(pd.DataFrame({"donor": ["a", "b"] * 100}))
    >>> with Workers(1) as workers:
    ...     runs = Runs(Z, design, 0, workers)
    ...     [len(runs.run(HarmonyParams(theta=theta)).embedding) for theta in (0, 2)]
    [200, 200]
    """

    def __init__(
        self, Z: np.ndarray, design: Design, seed: int, workers: Workers, *, keep: bool = True
    ) -> None:
        self._Z, self._design, self._seed = Z, design, seed
        self._workers, self._keep = workers, keep
        self._cells: tuple[Any, InMemoryCells] | None = None
        self._opened: tuple[Any, opening.Opening] | None = None

    def run(self, params: HarmonyParams) -> Run:
        """Integrate with these parameters, but for their `rng`."""
        setting = setting_for(params, self._design)
        rng = np.random.default_rng(self._seed)
        block_seed = int(rng.integers(2**63))
        cells = self._hold(setting, block_seed)
        opened = self._open(setting, block_seed, rng)
        outcome = integrate_cells(cells, opened, setting, lambda W: None, None)
        return Run(setting.params, cells.corrected(), outcome)

    def _hold(self, setting: Setting, block_seed: int) -> InMemoryCells:
        key = (
            setting.sigma.tobytes(),
            setting.form,
            setting.rules.moving_centroids,
            setting.params.block_proportion,
        )
        if self._cells is not None and self._cells[0] == key:
            self._cells[1].rewind()
        else:
            self._cells = None  # frees the memory of the one before
            hold = holder(block_seed, self._workers, keep=self._keep)
            self._cells = key, hold(self._Z, self._design, setting)
        return self._cells[1]

    def _open(self, setting: Setting, block_seed: int, rng: np.random.Generator) -> opening.Opening:
        key: Any = setting.n_clusters, setting.params.start
        if setting.params.start == "auto":  # its small runs use all parameters
            key = setting.params
        if self._opened is None or self._opened[0] != key:
            sample = start.sample_cells(len(self._Z), setting.n_clusters, rng)
            hold = holder(block_seed, self._workers, keep=self._keep)
            taken = self._Z[sample], self._design.take(sample)
            self._opened = key, opening.open_run(*taken, setting, rng, hold)
        return self._opened[1]
