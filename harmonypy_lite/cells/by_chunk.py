"""The passes over cells that are held a chunk at a time, wherever they are.

Nothing is kept of R: affinities are made anew from the cells and from what was in force when their
block was last assigned. A backend says how a chunk's cells are read and written (``_z``,
``_z_hat``, ``_store``); one that can do more than that replaces a step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial, singledispatchmethod
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.cells.arrangement import CHUNK, Arrangement
from harmonypy_lite.cells.chunk import (
    Affinities,
    ChunkWork,
    InForce,
    Sums,
    added,
    pad_rows,
)
from harmonypy_lite.cells.counted import Counted
from harmonypy_lite.cells.moments import MomentTables, Tables
from harmonypy_lite.kernels import rows as row_kernels
from harmonypy_lite.kernels.sums import add_tiles
from harmonypy_lite.kernels.weights import Groups
from harmonypy_lite.method.form import Form
from harmonypy_lite.method.passes import (
    Assign,
    Assigned,
    Correct,
    CorrectAndAssign,
    Moments,
    Reassign,
    SumExcluded,
    SumMoments,
)
from harmonypy_lite.threads import Workers


class Span(NamedTuple):
    """Whole chunks of one block, worked on by one thread."""

    block: int
    first: int
    last: int


class ChunkwiseCells:
    """Does the passes; see the module's text.

    Parameters
    ----------
    arrangement
        Of all cells of the data.
    shape
        (N, d) of the whole data.
    n_levels
        B.
    sigma
        (K,) widths of the clusters.
    directions
        Whether assignments carry R'u.
    form
        How affinities are held.
    workers
        Threads; closed by :meth:`close`.
    head_start
        Cells of a block that the caller works through while another thread wakes.
    """

    def __init__(
        self,
        arrangement: Arrangement | Counted,
        shape: tuple[int, int],
        n_levels: int,
        sigma: np.ndarray,
        *,
        directions: bool,
        form: Form,
        workers: Workers,
        head_start: int = 0,
    ) -> None:
        self._arrangement, self._workers = arrangement, workers
        self.n_blocks = len(arrangement.block_levels)
        self._n_levels, self._n_clusters, self._n_dims = n_levels, sigma.size, shape[1]
        self._n_covariates = arrangement.combinations.shape[1]
        further = arrangement.combinations[:, 1:]
        # the levels of the covariates but the first, and what lies between them
        self._further = slice(further.min(), further.max() + 1) if further.size else slice(0)
        self._directions = directions
        self._unit = 1.0
        self._work = ChunkWork(sigma, n_levels, shape[0], form=form)
        self._head_start = head_start
        self._spans = [self._split_block(b) for b in range(self.n_blocks)]
        self._in_force: list[InForce] = []
        self._squares: np.ndarray | None = None
        self._tables: MomentTables | None = None

    @singledispatchmethod
    def run(self, task: object, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block."""
        raise TypeError(f"{type(self).__name__} does not know the pass {task!r}")

    @run.register
    def _(self, task: Assign) -> list[Assigned]:
        neutral = self._put_in_force(task.Y)
        return self._by_block(
            self._workers.map(lambda span: self._assign(span, neutral), self._all_spans())
        )

    @run.register
    def _(self, task: Reassign, block: int) -> Assigned:
        in_force = self._in_force[block] = self._work.in_force(task.Y, task.P)
        parts = self._workers.map(lambda span: self._sum_span(span, in_force), self._spans[block])
        return self._join(block, parts)

    @run.register
    def _(self, task: SumMoments) -> Moments:
        if self._tables is None:
            self._tables = self._new_tables()
        self._fill(self._tables)
        if self._squares is None:
            self._squares = np.sum(self._workers.map(self._sum_squares, self._all_spans()), axis=0)
        return self._moments(self._tables, self._squares)

    @run.register
    def _(self, task: SumExcluded) -> np.ndarray:
        excluded = np.ascontiguousarray(task.excluded.T)

        def add(span: Span) -> np.ndarray:
            out = np.zeros((self._n_dims, self._n_clusters), np.int64)
            for chunk in self._chunks(span):
                codes, combination = self._codes(chunk), self._combination(chunk)
                affinities = self._affinities(chunk, self._in_force[span.block])
                z = self._z(chunk)
                self._work.add_excluded(affinities, codes, combination, excluded, z, out)
            return out

        return self._excluded(np.sum(self._workers.map(add, self._all_spans()), axis=0))

    @run.register
    def _(self, task: Correct) -> np.ndarray | None:
        W = self._for_kernels(task.W)

        def correct(span: Span) -> np.ndarray:
            direction = np.zeros((1, self._n_dims, self._work.row_width), np.int64)
            for chunk in self._chunks(span):
                affinities = self._affinities(chunk, self._in_force[span.block])
                z_hat = self._corrected(chunk, affinities, W)
                if self._directions:
                    codes, start = self._codes(chunk), self._groups(chunk)[0].start
                    self._work.add_direction(affinities, codes, start, z_hat, direction)
                self._store(chunk, z_hat)
            return direction[0, :, : self._n_clusters].T

        sums = self._workers.map(correct, self._all_spans())
        return self._direction(np.sum(sums, axis=0)) if self._directions else None

    @run.register
    def _(self, task: CorrectAndAssign) -> list[Assigned]:
        W = self._for_kernels(task.W)
        before, neutral = self._in_force, self._put_in_force(task.Y)

        def correct_and_assign(span: Span) -> Sums:
            return self._correct_and_assign(span, before[span.block], neutral, W)

        return self._by_block(self._workers.map(correct_and_assign, self._all_spans()))

    @property
    def in_force(self) -> list[InForce]:
        """What each block's assignment was made from; with it `restore` brings R back."""
        return list(self._in_force)

    def restore(self, in_force: list[InForce]) -> None:
        """Make R again what it was when `in_force` was read, for cells that stand as then."""
        self._in_force = list(in_force)

    def take_steps(self, steps: Sequence[tuple[list[InForce], np.ndarray]]) -> None:
        """Correct the cells step after step; of each, what R was made from, and W for kernels."""

        def correct(span: Span) -> None:
            for chunk in self._chunks(span):
                codes, z_hat = self._codes(chunk), self._z(chunk)
                for in_force, W in steps:
                    affinities = self._work.affinities(z_hat, codes, in_force[span.block])
                    z_hat = self._corrected(chunk, affinities, W)
                self._store(chunk, z_hat)

        self._workers.map(correct, self._all_spans())

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    # What a backend says.

    def _z(self, chunk: Span) -> np.ndarray:
        """Return the cells as they came, in units of `_unit`."""
        raise NotImplementedError

    def _z_hat(self, piece: Span) -> np.ndarray:
        """Return the corrected cells, in units of `_unit`."""
        raise NotImplementedError

    def _store(self, chunk: Span, z_hat: np.ndarray) -> None:
        """Keep the corrected cells."""
        raise NotImplementedError

    # How the cells are cut.

    def _split_block(self, block: int) -> list[Span]:
        """Return what each thread does of a block; the first has begun before others are awake."""
        first, last = (int(chunk) for chunk in self._arrangement.block_chunks[block : block + 2])
        start = self._arrangement.chunk_start[first : last + 1]
        n = int(start[-1] - start[0])
        # less than a chunk is not worth waking a thread for
        parts = max(1, min(self._workers.count, last - first, (n - self._head_start) // CHUNK))
        wanted = start[0] + self._head_start + (n - self._head_start) * np.arange(1, parts) / parts
        inner = first + np.searchsorted((start[1:] + start[:-1]) / 2, wanted)
        cuts = [first, *np.clip(inner, first + 1, last - 1).tolist(), last]
        return [Span(block, a, b) for a, b in itertools.pairwise(cuts) if a < b or parts == 1]

    def _all_spans(self) -> list[Span]:
        return [span for spans in self._spans for span in spans]

    def _chunks(self, span: Span) -> Iterator[Span]:
        return (Span(span.block, c, c + 1) for c in range(span.first, span.last))

    def _pieces(self, span: Span) -> Iterator[Span]:
        """What kernels are given at once."""
        return self._chunks(span)

    def _groups(self, piece: Span) -> list[Groups]:
        return self._arrangement.groups(piece.first, piece.last)

    def _rows(self, span: Span) -> slice:
        return self._arrangement.rows(span.first, span.last)

    def _codes(self, span: Span) -> np.ndarray:
        return self._arrangement.codes_at(self._rows(span))

    def _combination(self, span: Span) -> np.ndarray:
        return self._arrangement.combination_at(self._rows(span))

    # One thread's work.

    def _affinities(self, piece: Span, in_force: InForce) -> Affinities:
        return self._work.affinities(self._z_hat(piece), self._codes(piece), in_force)

    def _assign(self, span: Span, neutral: InForce) -> Sums:
        return self._sum_span(span, neutral)

    def _correct_and_assign(
        self, span: Span, before: InForce, neutral: InForce, W: np.ndarray
    ) -> Sums:
        for chunk in self._chunks(span):
            self._store(chunk, self._corrected(chunk, self._affinities(chunk, before), W))
        return self._sum_span(span, neutral)

    def _sum_span(self, span: Span, in_force: InForce) -> Sums:
        """Sum R over the levels, with `in_force`."""
        arrangement = self._arrangement
        tiles = arrangement.tiles(span.first, span.last)
        sums = self._new_sums(span)
        entropy = []
        for piece in self._pieces(span):
            own = arrangement.tiles(piece.first, piece.last)
            place = slice(own.start - tiles.start, own.stop - tiles.start)
            affinities, codes = self._affinities(piece, in_force), self._codes(piece)
            tile_start = arrangement.tile_start[own.start : own.stop + 1] - self._rows(piece).start
            self._work.sum_levels(affinities, codes, tile_start, sums, place)
            if self._work.looks_at(span.block):
                entropy.append(self._work.entropies(affinities, codes, self._rows(piece).start))
            if self._directions:
                z_hat = self._z_hat(piece)
                self._work.add_direction(affinities, codes, tile_start, z_hat, sums.direction)
        if entropy:
            sums = sums._replace(entropy=np.concatenate(entropy))
        return self._of_levels(span, sums)

    def _new_sums(self, span: Span) -> Sums:
        tiles = self._arrangement.tiles(span.first, span.last)
        return self._work.new_sums(tiles.stop - tiles.start, self._n_dims, self._n_covariates)

    def _of_levels(self, span: Span, sums: Sums) -> Sums:
        """Add the sums of tiles up for the levels of the block (M, K); exact, being integers."""
        levels, start = self._arrangement.block_levels[span.block]
        block_start = self._arrangement.chunk_tiles[self._arrangement.block_chunks[span.block]]
        first_tile = self._arrangement.chunk_tiles[span.first] - block_start
        bounds = np.clip(np.append(start - first_tile, len(sums.first)), 0, len(sums.first))
        out = np.empty((levels.size, self._n_clusters), np.int64)
        add_tiles(sums.first, bounds, out)
        rest = np.ascontiguousarray(sums.rest[self._further, : self._n_clusters])
        return sums._replace(first=out, rest=rest)

    def _owned_levels(self) -> range:
        """Return the levels to whose moments one thread at a time adds."""
        return range(0)

    def _new_tables(self) -> MomentTables:
        """Return what moments, and weights of combinations of levels, are summed up in."""
        shape = (self._n_levels, self._n_dims, self._work.row_width)
        Q = len(self._arrangement.combinations) if self._n_covariates > 1 else 0
        return MomentTables(shape, Q, self._workers, self._owned_levels())

    def _fill(self, tables: MomentTables) -> None:
        tables.fill([partial(self._add_moments, span) for span in self._all_spans()])

    def _add_moments(self, span: Span, tables: Tables, covariates: slice = slice(None)) -> None:
        for piece in self._pieces(span):
            affinities = self._affinities(piece, self._in_force[piece.block])
            codes, combination = self._codes(piece), self._combination(piece)
            z, groups = self._z(piece), self._groups(piece)[covariates]
            self._work.add_moments(affinities, codes, groups, z, combination, tables)

    def _sum_squares(self, span: Span) -> np.ndarray:
        """Sum z^2, in fixed point."""
        out = np.zeros(self._n_dims, np.int64)
        for chunk in self._chunks(span):
            row_kernels.add_squares(self._z(chunk), self._work.fixed.scale, out)
        return out

    def _corrected(self, chunk: Span, affinities: Affinities, W: np.ndarray) -> np.ndarray:
        groups = self._groups(chunk)
        return self._work.corrected(affinities, self._codes(chunk), groups, self._z(chunk), W)

    # What the threads found, put together.

    def _by_block(self, parts: list[Sums]) -> list[Assigned]:
        found = iter(parts)
        return [self._join(b, [next(found) for _ in self._spans[b]]) for b in range(self.n_blocks)]

    def _join(self, block: int, parts: list[Sums]) -> Assigned:
        sums = added(parts)
        levels, _ = self._arrangement.block_levels[block]
        in_force, further = self._in_force[block], self._further.start or 0
        levels, weight, energy = self._work.fold(sums, levels, further, in_force)
        energy += math.fsum(sums.energy)
        direction = sums.direction[0, :, : self._n_clusters].T if self._directions else None
        return Assigned(block, levels, weight, energy, direction, sums.entropy)

    def _moments(self, tables: MomentTables, squares: np.ndarray) -> Moments:
        quantum, combinations = 1.0 / self._work.fixed.scale, self._arrangement.combinations
        level_sum, weight = tables.moments(self._n_clusters, quantum, self._unit)
        square_sum = self._work.fixed.to_float(squares) * self._unit**2
        if self._n_covariates == 1:
            return Moments(level_sum, None, None, square_sum)
        return Moments(level_sum, combinations, weight, square_sum)

    def _excluded(self, sums: np.ndarray) -> np.ndarray:
        return self._work.fixed.to_float(sums).T * self._unit

    def _direction(self, sums: np.ndarray) -> np.ndarray:
        return self._work.fixed.to_float(sums)

    def _put_in_force(self, Y: np.ndarray) -> InForce:
        """Make all blocks be assigned without penalty."""
        neutral = self._work.in_force(Y)
        self._in_force = [neutral] * self.n_blocks
        return neutral

    def _for_kernels(self, W: np.ndarray) -> np.ndarray:
        return pad_rows(W.transpose(1, 0, 2), 1.0 / self._unit)
