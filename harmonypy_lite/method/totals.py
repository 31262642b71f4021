"""Sums over cells: how they travel, and the table O that the penalty reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from harmonypy_lite.method import formulas
from harmonypy_lite.method.passes import Assigned, Turn


class FixedPoint:
    """Numbers of at most `bound` in absolute value as int64, so that their sums are exact.

    Integers add to the same bytes in any order; a quantum is bound / 2^62.
    """

    def __init__(self, bound: float) -> None:
        self.scale = 2.0 ** (62 - math.ceil(math.log2(max(bound, 1.0))))

    def to_float(self, fixed: np.ndarray) -> np.ndarray:
        """Return the numbers as float64."""
        return fixed / self.scale


class Composition:
    """O, the cells of each level in each cluster, and what each block of cells adds to it.

    Parameters
    ----------
    level_share
        (B,) share of the cells that each level has.
    first_levels
        The levels of the first covariate: each cell has one, so O sums to n over them.
    n_clusters, fixed
        K, and how the blocks' sums are encoded.
    """

    def __init__(
        self, level_share: np.ndarray, first_levels: slice, n_clusters: int, fixed: FixedPoint
    ) -> None:
        self._level_share = level_share
        self._first_levels = first_levels
        self._fixed = fixed
        # Levels are rows here, so that a level is one contiguous row; the method sees (K, B).
        self._sums = np.zeros((level_share.size, n_clusters), np.int64)
        self._blocks: dict[int, Assigned] = {}
        self._direction: np.ndarray | None = None

    def take_out(self, block: int) -> None:
        """Take the cells of `block` out of O."""
        gone = self._blocks.pop(block)
        if len(gone.levels) == len(self._sums):
            self._sums -= gone.weight
        else:
            self._sums[gone.levels] -= gone.weight

    def put_back(self, assigned: Assigned) -> None:
        """Put a block back with its new assignment."""
        if len(assigned.levels) == len(self._sums):  # all levels: they ascend
            self._sums += assigned.weight
        else:
            self._sums[assigned.levels] += assigned.weight
        self._blocks[assigned.block] = assigned
        self._direction = None

    def replace(self, assignments: Iterable[Assigned]) -> None:
        """Forget all blocks and take these."""
        self._sums[:] = 0
        self._blocks.clear()
        for assigned in assignments:
            self.put_back(assigned)

    def turns(self, n_blocks: int) -> Iterator[Turn]:
        """Yield the turns of one round: here every block reads what all before it left."""
        yield Turn(range(n_blocks))

    def exchange(self) -> None:
        """Do what is due after a turn: nothing, for here all is heard at once."""

    @property
    def fixed_n(self) -> np.ndarray:
        """(K,) int64 fixed point: cells in each cluster, as the blocks that are here say."""
        return self._sums[self._first_levels].sum(axis=0)

    @property
    def blocks(self) -> list[Assigned]:
        """What each block adds, in the order of the blocks."""
        return [self._blocks[block] for block in sorted(self._blocks)]

    @property
    def O(self) -> np.ndarray:  # noqa: E743  the paper's letter
        """(K, B) cells of each level in each cluster."""
        return self._fixed.to_float(self._sums).T

    @property
    def n(self) -> np.ndarray:
        """(K,) cells in each cluster."""
        return self._fixed.to_float(self._sums[self._first_levels].sum(axis=0))

    @property
    def E(self) -> np.ndarray:
        """(K, B) cells of each level in each cluster if levels were spread evenly."""
        return formulas.expected(self.n, self._level_share)

    @property
    def energy(self) -> float:
        """sum_ik R_ik (2 (1 - u_i.Y_k) + sigma_k log R_ik) over all cells."""
        return math.fsum(assigned.energy for assigned in self._blocks.values())

    @property
    def entropy(self) -> float:
        """Mean of sum_k sigma_k R_ik log R_ik over the cells that are looked at; 0 without any.

        The energy does not tell: with R a softmax, it is the logarithm of one number a cell. To
        take a logarithm for each cluster would be most of the work; hence a sample.
        """
        found = [a.entropy for a in self._blocks.values() if a.entropy is not None]
        each = np.concatenate(found) if found else np.empty(0)
        return math.fsum(each.tolist()) / max(each.size, 1)

    @property
    def direction(self) -> np.ndarray:
        """(K, d) R'u, where the assignments carry it; a correction changes u, and sets it anew."""
        if self._direction is not None:
            return self._direction
        sums = [a.direction for a in self._blocks.values() if a.direction is not None]
        return self._fixed.to_float(np.sum(sums, axis=0))

    @direction.setter
    def direction(self, value: np.ndarray) -> None:
        self._direction = value
