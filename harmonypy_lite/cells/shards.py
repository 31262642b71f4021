"""Parts of the cells, each held by itself: their sums are still to be added to others'.

A shard is a stretch of whole chunks of each block; or, of a run with ``sync="batch"``, of whole
levels of the covariate with most levels, so that it can go through a turn alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.cells.by_chunk import ChunkwiseCells, Span
from harmonypy_lite.cells.chunk import InForce, Sums, added
from harmonypy_lite.cells.counted import Counted
from harmonypy_lite.cells.moments import MomentTables
from harmonypy_lite.method import loop
from harmonypy_lite.method.apart import ApartComposition
from harmonypy_lite.method.form import Form
from harmonypy_lite.method.passes import Assign, Assigned, CorrectAndAssign, Reassign, Turn
from harmonypy_lite.method.rules import Setting
from harmonypy_lite.threads import Workers


class Terms(NamedTuple):
    """What every shard is made from, beside its cells."""

    counts: np.ndarray  # (n_blocks, Q) cells of each block and combination of levels
    combinations: np.ndarray  # (Q, C)
    n_dims: int
    n_levels: int
    sigma: np.ndarray  # (K,)
    directions: bool
    form: Form
    unit: float
    setting: Setting | None = None  # of a run whose shards are whole levels and take turns alone


def shards_of(terms: Terms, n_shards: int) -> tuple[Counted, np.ndarray]:
    """Return the arrangement, and the (n_blocks, n_shards + 1) bounds of the shards, in chunks.

    Chunks are cut where shards of whole levels begin: these are bounds of tiles anyway.
    """
    if terms.setting is None:
        arrangement = Counted(terms.counts, terms.combinations)
        return arrangement, cuts_of(arrangement, n_shards)
    n_blocks, Q = terms.counts.shape
    run_start = np.concatenate([[0], np.cumsum(terms.counts.ravel())])
    cuts = level_cuts(terms.counts.sum(axis=0), terms.combinations[:, 0], n_shards)
    rows = run_start[np.arange(n_blocks)[:, None] * Q + cuts]
    arrangement = Counted(terms.counts, terms.combinations, rows.ravel())
    return arrangement, np.searchsorted(arrangement.chunk_start, rows)


def level_cuts(size: np.ndarray, level: np.ndarray, n_shards: int) -> np.ndarray:
    """Cut levels into `n_shards` stretches of about as many cells; a stretch may be empty.

    Parameters
    ----------
    size, level
        (Q,) cells and level of each combination, sorted by level.

    Returns
    -------
    cuts
        (n_shards + 1,) bounds, counted in combinations.

    Examples
    --------
    >>> level_cuts(np.array([10, 20, 30, 5, 40]), np.array([0, 1, 1, 2, 3]), 2).tolist()
    [0, 3, 5]
    """
    first = np.flatnonzero(np.diff(level, prepend=-1))
    starts = np.append(np.cumsum(size) - size, size.sum())[np.append(first, level.size)]
    wanted = starts[-1] * np.arange(1, n_shards) / n_shards
    nearest = np.searchsorted((starts[1:] + starts[:-1]) / 2, wanted)
    return np.concatenate([[0], np.append(first, level.size)[nearest], [level.size]])


def cuts_of(arrangement: Counted, n_shards: int) -> np.ndarray:
    """Return the (n_blocks, n_shards + 1) bounds of the shards in each block, in chunks."""
    first, last = arrangement.block_chunks[:-1, None], arrangement.block_chunks[1:, None]
    return first + (last - first) * np.arange(n_shards + 1) // n_shards


class Shard(ChunkwiseCells):
    """The cells of one worker; answers with sums that are still to be added to others'.

    Parameters
    ----------
    terms
        What all shards have in common.
    number, n_shards
        Which of them this one is.
    pieces
        Pairs of held rows (n,) and cells (n, d) float32, of all the rows that are here.
    workers
        Threads.
    """

    def __init__(
        self,
        terms: Terms,
        number: int,
        n_shards: int,
        pieces: Sequence[tuple[np.ndarray, np.ndarray]],
        workers: Workers,
    ) -> None:
        arrangement, cuts = shards_of(terms, n_shards)
        self._own = cuts[:, number : number + 2]
        super().__init__(
            arrangement,
            (arrangement.n_cells, terms.n_dims),
            terms.n_levels,
            terms.sigma,
            directions=terms.directions,
            form=terms.form,
            workers=workers,
        )
        self._unit = terms.unit
        bounds = arrangement.chunk_start[self._own]
        self._start = bounds[:, 0]
        sizes = bounds[:, 1] - bounds[:, 0]
        self._place = np.cumsum(sizes) - sizes  # where the cells of each block begin here
        self._as_read = np.empty((int(sizes.sum()), terms.n_dims), np.float32)
        n = 0
        for held, rows in pieces:
            block = np.searchsorted(bounds[:, 1], held, "right")
            self._as_read[held - self._start[block] + self._place[block]] = rows
            n += len(rows)
        if n != len(self._as_read):
            raise RuntimeError(f"A shard got {n} of {len(self._as_read)} cells; please report it.")
        self._as_read *= np.float32(1.0 / self._unit)
        self._cells = self._as_read.copy()

    def take_up(
        self,
        steps: Sequence[tuple[list[InForce], Any]],
        in_force: list[InForce],
        known: Sequence[Assigned],
    ) -> None:
        """Bring cells as they were read to where they were after these corrections.

        `known` is what the blocks of all shards put into O, for those that keep rows of it.
        """
        kept = [(each, self._for_kernels(W)) for each, W in steps]
        self._cells[:] = self._as_read
        if kept:
            self.take_steps(kept)
        self.restore(in_force)

    # Cells: rows of this shard.

    def _local(self, span: Span) -> slice:
        rows, shift = self._rows(span), int(self._place[span.block] - self._start[span.block])
        return slice(rows.start + shift, rows.stop + shift)

    def _z(self, chunk: Span) -> np.ndarray:
        return self._as_read[self._local(chunk)]

    def _z_hat(self, piece: Span) -> np.ndarray:
        return self._cells[self._local(piece)]

    def _store(self, chunk: Span, z_hat: np.ndarray) -> None:
        self._cells[self._local(chunk)] = z_hat

    def _split_block(self, block: int) -> list[Span]:
        first, last = (int(cut) for cut in self._own[block])
        parts = max(1, min(self._workers.count, last - first))
        cuts = [first + (last - first) * i // parts for i in range(parts + 1)]
        return [Span(block, a, b) for a, b in itertools.pairwise(cuts)]

    # Sums, as they are.

    def _join(self, block: int, parts: Any) -> Any:
        return added(parts)

    def _assigned(self, block: int, sums: Sums) -> Assigned:
        return super()._join(block, [sums])

    def _moments(self, tables: MomentTables, squares: np.ndarray) -> Any:
        return *tables.sums(), squares

    def _excluded(self, sums: np.ndarray) -> np.ndarray:
        return sums

    def _direction(self, sums: np.ndarray) -> np.ndarray:
        return sums


class LevelShard(Shard):
    """A shard of whole levels: it keeps their rows of O, and can take a turn alone."""

    def __init__(self, terms: Terms, *others: Any) -> None:
        super().__init__(terms, *others)
        assert terms.setting is not None
        table = loop.composition(terms.setting, self.n_blocks)
        assert isinstance(table, ApartComposition)
        self._table, self._setting = table, terms.setting

    def run(self, task: object, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block."""
        answer = super().run(task) if block is None else super().run(task, block)
        if isinstance(task, Assign | CorrectAndAssign):
            self._table.replace(self._assigned(b, sums) for b, sums in enumerate(answer))
        return answer

    def take_turn(self, Y: np.ndarray, turn: Turn) -> list[Sums]:
        """Visit the blocks of a turn; return the sums of each."""
        self._table.hold(turn)
        answers = _Answers(self)
        loop.visit(answers, self._table, Y, self._setting, turn)
        return answers.sums

    def take_up(self, steps: Any, in_force: list[InForce], known: Sequence[Assigned]) -> None:
        """As any shard; O is what all shards put in, of which the own rows will be read."""
        super().take_up(steps, in_force, known)
        self._table.replace(known)


class _Answers:
    """Tells the visitor of blocks what they put into O, and keeps the sums for who asked."""

    def __init__(self, shard: LevelShard) -> None:
        self._shard, self.n_blocks = shard, shard.n_blocks
        self.sums: list[Sums] = []

    def run(self, task: Reassign, block: int | None = None) -> Assigned:
        assert block is not None
        self.sums.append(self._shard.run(task, block))
        return self._shard._assigned(block, self.sums[-1])

    def close(self) -> None:
        """Nothing is to be given back: the shard goes on."""


def owner_of(held: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the shard of each held row, for the (n_blocks, n_shards + 1) bounds of the shards."""
    starts = bounds[:, :-1].ravel()
    ends = bounds[:, 1:].ravel()
    used = np.flatnonzero(ends > starts)  # shards without cells in a block start where others do
    return used[np.searchsorted(starts[used], held, "right") - 1] % (bounds.shape[1] - 1)
