"""The sums for the regression: tables that threads add to, and what the method is given of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from harmonypy_lite.budget import MOST_TABLES
from harmonypy_lite.kernels.tables import combination_sums, level_sums
from harmonypy_lite.threads import Workers

#: Levels, and combinations of levels, that a thread clears or turns at a time.
_LEVELS, _COMBINATIONS = 16, 4096


class Tables(NamedTuple):
    """What one thread adds to, in int64 fixed point."""

    M: np.ndarray  # (B, d, L) R_ik z_i over each level
    G: np.ndarray  # (Q, L) R_ik over each combination of levels; (0, L) with one covariate


Task = Callable[[Tables], None]


class MomentTables:
    """Tables of all threads, kept from one correction to the next.

    To find the memory takes as long as to fill it.

    Parameters
    ----------
    shape
        (B, d, L).
    n_combinations
        Q, or 0.
    workers
        Threads; each has tables of its own.
    owned
        Levels to which one thread at a time adds, as to their combinations, which are all: for
        these, one table is enough.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_combinations: int,
        workers: Workers,
        owned: range = range(0),
    ) -> None:
        B, d, width = shape
        count = min(workers.count, max(1, MOST_TABLES // (8 * width * (B * d + n_combinations))))
        self._workers, self._owned = workers, owned
        self._M = np.empty((count, *shape), np.int64)
        self._G = np.empty((1 if owned else count, n_combinations, width), np.int64)
        self._level_sum: np.ndarray | None = None
        self._weight: np.ndarray | None = None
        starts = {*range(0, B, _LEVELS), owned.start, owned.stop, B}
        self._level_cuts = list(itertools.pairwise(sorted(starts)))
        cuts = [*range(0, n_combinations, _COMBINATIONS), n_combinations]
        self._combination_cuts = list(itertools.pairwise(cuts))

    def fill(self, tasks: Sequence[Task], of_owned: Sequence[Task] = ()) -> None:
        """Clear the tables and let the threads draw tasks, which add to them.

        `of_owned` are tasks for owned levels, of which no two have the same.
        """
        self._workers.map(self._clear, self._level_cuts)
        self._workers.map(lambda cut: self._G[:, slice(*cut)].fill(0), self._combination_cuts)
        each = [Tables(*both) for both in zip(self._M, itertools.cycle(self._G))]
        left, left_of_owned = iter(tasks), iter(of_owned)

        def draw(t: int) -> None:
            for task in left_of_owned:
                task(each[0])
            if t < len(each):
                for task in left:
                    task(each[t])

        self._workers.map(draw, range(self._workers.count if of_owned else len(each)))

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return M (B, d, L) and G (Q, L) of all threads together."""
        M = self._M[0].copy()
        for cut in self._level_cuts:
            for more in self._of_levels(cut)[1:]:
                M[slice(*cut)] += more[slice(*cut)]
        return M, self._G.sum(axis=0)

    def moments(
        self, n_clusters: int, quantum: float, unit: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return M (K, B, d) in units of `unit` and G (K, Q), as float64, until the next call."""
        if self._level_sum is None or self._weight is None:
            _, B, d, _ = self._M.shape
            self._level_sum = np.empty((n_clusters, B, d))
            self._weight = np.empty((n_clusters, self._G.shape[1]))
        level_sum, weight = self._level_sum, self._weight
        self._workers.map(
            lambda cut: level_sums(self._of_levels(cut), *cut, quantum * unit, level_sum),
            self._level_cuts,
        )
        self._workers.map(
            lambda cut: combination_sums(self._G, *cut, quantum, weight), self._combination_cuts
        )
        return level_sum, weight

    def _of_levels(self, cut: tuple[int, int]) -> np.ndarray:
        """Return the tables that have anything of these levels."""
        return self._M[:1] if cut[0] in self._owned else self._M

    def _clear(self, cut: tuple[int, int]) -> None:
        self._of_levels(cut)[:, slice(*cut)] = 0
