"""Rounds in which those who hold the cells hear of each other only now and then.

The penalty of a level reads its row of O and, through E = n Pr, the sizes n of the clusters; of the
other levels it reads nothing. So who holds whole levels can go through the blocks alone if n stays
as it was for a while. Here it does: for one *turn*, in which all holders visit the same blocks side
by side, the rows of the covariate with most levels are live, while n, and the rows of the other
covariates, are as they were at the last exchange. What a block of cells puts into them is not known
then; its share of all cells is taken out instead.

With one covariate a turn is a whole round: n hardly moves within one, as the penalty moves cells of
different levels against each other. With several it is a quarter of one, for rows that stand still
while all cells move overshoot. An iteration exchanges n after the first assignment and after each
round, and the sums of the regression. (docs/large_data.md has the difference that this makes.)

Since all that is not live is held by all alike, the result does not depend on how many hold the
cells, nor on which levels are together. One that holds all cells gets it, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from harmonypy_lite.method.passes import Assigned, Turn
from harmonypy_lite.method.totals import Composition, FixedPoint

#: Turns of a round where there are several covariates.
_TURNS = 4


class ApartComposition(Composition):
    """O and E as a holder of whole levels sees them between two exchanges.

    Parameters
    ----------
    level_share, n_clusters, fixed
        As in `Composition`.
    covariates
        The levels of each covariate.
    n_blocks
        Number of blocks.
    """

    def __init__(
        self,
        level_share: np.ndarray,
        covariates: Sequence[slice],
        n_clusters: int,
        fixed: FixedPoint,
        n_blocks: int,
    ) -> None:
        super().__init__(level_share, covariates[0], n_clusters, fixed)
        self._still = np.ones(level_share.size, bool)
        self._still[finest(covariates)] = False
        self._n_turns = min(1 if len(covariates) == 1 else _TURNS, n_blocks)
        self._others = 1 - 1 / n_blocks  # share of the cells that are in other blocks
        self._left = 1.0
        self.exchange()

    def turns(self, n_blocks: int) -> Iterator[Turn]:
        """Yield the turns of one round, each with what was heard before it."""
        cuts = [n_blocks * i // self._n_turns for i in range(self._n_turns + 1)]
        for a, b in itertools.pairwise(cuts):
            yield Turn(range(a, b), self._n, self._rows)

    def exchange(self) -> None:
        """Hear what all cells put into n and the rows that were still."""
        self._n, self._rows = super().n, super().O[:, self._still]

    def hold(self, turn: Turn) -> None:
        """Take what others heard: for one who holds some of the levels only."""
        assert turn.n is not None
        assert turn.rows is not None
        self._n, self._rows = turn.n, turn.rows

    def take_out(self, block: int) -> None:
        """Take the cells of `block` out of O and n."""
        super().take_out(block)
        self._left = self._others

    def put_back(self, assigned: Assigned) -> None:
        """Put a block back with its new assignment."""
        super().put_back(assigned)
        self._left = 1.0

    def replace(self, assignments: Iterable[Assigned]) -> None:
        """Forget all blocks and take these."""
        super().replace(assignments)
        self.exchange()

    @property
    def O(self) -> np.ndarray:  # noqa: E743  the paper's letter
        """(K, B) cells of each level in each cluster."""
        O = super().O
        if self._rows.size:
            O[:, self._still] = self._left * self._rows
        return O

    @property
    def n(self) -> np.ndarray:
        """(K,) cells in each cluster."""
        return self._left * self._n


def finest(covariates: Sequence[slice]) -> slice:
    """Return the covariate with most levels, the last of several: by its levels cells are sorted.

    Examples
    --------
    >>> finest([slice(0, 3), slice(3, 9), slice(9, 11)])
    slice(3, 9, None)
    """
    return max(reversed(covariates), key=lambda levels: levels.stop - levels.start)
