"""The cells in memory, in two ways that give the same bytes.

*Kept affinities*: per cell z and its affinities to the K clusters, so that a round of clustering is
one read of memory. *Recomputed affinities*: per cell only z_hat; affinities are made anew, a chunk
at a time. Centroids that move in every round, and penalties too steep for single precision, leave
nothing to keep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import singledispatchmethod
from typing import NamedTuple

import numpy as np

from harmonypy_lite.cells.arrangement import Arrangement, arrange
from harmonypy_lite.cells.chunk import (
    Affinities,
    ChunkWork,
    InForce,
    Sums,
    added,
    pad_rows,
    unit_above,
)
from harmonypy_lite.cells.counted import Counted
from harmonypy_lite.kernels import rows as row_kernels
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

#: Bytes of tables of moments that the threads may hold together; further threads do without.
_MOMENT_TABLES = 512 * 2**20


class Span(NamedTuple):
    """Whole chunks of one block, worked on by one thread."""

    block: int
    first: int
    last: int


class InMemoryCells:
    """Holds the cells of one array; see the module's text.

    Parameters
    ----------
    Z
        (N, d) floating point, any order; never changed.
    codes
        (N, C) levels, numbered through all covariates; B levels in all.
    block
        (N,) block of each cell.
    n_blocks
        Number of blocks.
    level_counts
        (C,) levels of each covariate, whether all of them have cells here or not.
    sigma
        (K,) widths of the clusters.
    directions
        Whether assignments carry R'u.
    steep
        Whether penalties may leave the range of single precision once exponentiated.
    keep
        Whether affinities may be kept (4 K bytes a cell).
    workers
        Threads; closed by :meth:`close`.
    """

    def __init__(
        self,
        Z: np.ndarray,
        codes: np.ndarray,
        block: np.ndarray,
        n_blocks: int,
        level_counts: Sequence[int],
        sigma: np.ndarray,
        *,
        directions: bool,
        steep: bool,
        keep: bool,
        workers: Workers,
    ) -> None:
        n, d = Z.shape
        self._keep = keep and not directions and not steep
        arrangement = arrange(codes, block, n_blocks, level_counts)
        self._set_up(arrangement, (n, d), sum(level_counts), sigma, directions, steep, workers)
        self._Z, self._order_in = Z, arrangement.order
        largest = max(float(Z.max(initial=0.0)), -float(Z.min(initial=0.0)))
        self._unit = unit_above(largest)
        # z in kept mode, z_hat otherwise: what the mode reads in every pass.
        self._cells = np.empty((n, d), np.float32)
        self._workers.map(self._gather_span, self._all_spans())
        self._A = np.empty((n, sigma.size), np.float32) if self._keep else None
        self._shift = np.empty(n, np.float32) if self._keep else None

    def _set_up(
        self,
        arrangement: Arrangement | Counted,
        shape: tuple[int, int],
        n_levels: int,
        sigma: np.ndarray,
        directions: bool,
        steep: bool,
        workers: Workers,
    ) -> None:
        """Take what every way to hold the cells works with; `shape` is (N, d) of the whole data."""
        self._arrangement, self._workers = arrangement, workers
        self.n_blocks = len(arrangement.block_levels)
        self._n_levels, self._n_clusters, self._n_dims = n_levels, sigma.size, shape[1]
        self._directions = directions
        self._work = ChunkWork(sigma, n_levels, shape[0], steep=steep)
        self._spans = [self._split_block(b) for b in range(self.n_blocks)]
        self._in_force: list[InForce] = []

    @singledispatchmethod
    def run(self, task: object, block: int | None = None) -> object:
        """Carry out a pass over all cells, or over one block."""
        raise TypeError(f"{type(self).__name__} does not know the pass {task!r}")

    @run.register
    def _(self, task: Assign) -> list[Assigned]:
        neutral = self._put_in_force(task.Y)

        def assign(span: Span) -> Sums:
            if self._keep:
                for chunk in self._chunks(span):
                    self._refresh(chunk, self._cells[self._rows(chunk)], neutral)
            return self._sum_span(span, neutral)

        return self._by_block(self._workers.map(assign, self._all_spans()))

    @run.register
    def _(self, task: Reassign, block: int) -> Assigned:
        in_force = self._in_force[block] = self._work.in_force(task.Y, task.P)
        parts = self._workers.map(lambda s: self._sum_span(s, in_force), self._spans[block])
        return self._join(block, parts)

    @run.register
    def _(self, task: SumMoments) -> Moments:
        combinations, K = self._arrangement.combinations, self._n_clusters
        Q = len(combinations) if combinations.shape[1] > 1 else 0
        table = 8 * K * (self._n_levels * self._n_dims + Q)
        n_tables = min(self._workers.count, max(1, _MOMENT_TABLES // table))
        spans = iter(self._all_spans())
        parts = self._workers.map(lambda s: self._sum_moments(s, Q), [spans] * n_tables)
        M, G = parts[0]
        for more_M, more_G in parts[1:]:
            M += more_M
            G += more_G
        return self._moments(M, G)

    @run.register
    def _(self, task: SumExcluded) -> np.ndarray:
        excluded = np.ascontiguousarray(task.excluded.T)

        def add(span: Span) -> np.ndarray:
            out = np.zeros((self._n_dims, self._n_clusters), np.int64)
            for chunk in self._chunks(span):
                codes = self._codes(chunk)
                combination = self._arrangement.combination_at(self._rows(chunk))
                affinities = self._affinities(chunk, self._in_force[span.block])
                z = self._z(chunk)
                self._work.add_excluded(affinities, codes, combination, excluded, z, out)
            return out

        return self._excluded(np.sum(self._workers.map(add, self._all_spans()), axis=0))

    @run.register
    def _(self, task: Correct) -> np.ndarray | None:
        W = self._for_kernels(task.W)

        def correct(span: Span) -> np.ndarray:
            direction = np.zeros((1, self._n_dims, self._n_clusters), np.int64)
            for chunk in self._chunks(span):
                affinities = self._affinities(chunk, self._in_force[span.block])
                z_hat = self._corrected(chunk, affinities, W)
                if self._directions:
                    self._work.add_direction(affinities, self._codes(chunk), z_hat, direction)
                self._store(chunk, z_hat)
            return direction[0].T

        sums = self._workers.map(correct, self._all_spans())
        return self._direction(np.sum(sums, axis=0)) if self._directions else None

    @run.register
    def _(self, task: CorrectAndAssign) -> list[Assigned]:
        W = self._for_kernels(task.W)
        before, neutral = self._in_force, self._put_in_force(task.Y)

        def correct_and_assign(span: Span) -> Sums:
            for chunk in self._chunks(span):
                affinities = self._affinities(chunk, before[span.block])
                z_hat = self._corrected(chunk, affinities, W)
                if self._keep:
                    self._refresh(chunk, z_hat, neutral)
                else:
                    self._store(chunk, z_hat)
            return self._sum_span(span, neutral)

        return self._by_block(self._workers.map(correct_and_assign, self._all_spans()))

    @property
    def in_force(self) -> list[InForce]:
        """What each block's assignment was made from; with it `restore` brings R back."""
        return list(self._in_force)

    def restore(self, in_force: list[InForce]) -> None:
        """Make R again what it was when `in_force` was read, for cells that stand as then."""
        self._in_force = list(in_force)

    def assignments(self) -> np.ndarray:
        """Return R (N, K) in the order of the input; the only place that ever holds it."""
        out = np.empty((len(self._cells), self._n_clusters), np.float32)

        def fill(span: Span) -> None:
            for chunk in self._chunks(span):
                affinities = self._affinities(chunk, self._in_force[span.block])
                R = self._work.assignments(affinities, self._codes(chunk))
                row_kernels.scatter_rows(R, self._order(chunk), 1.0, out)

        self._workers.map(fill, self._all_spans())
        return out

    def result(self) -> np.ndarray:
        """Return the (N, d) float32 corrected cells in the order of the input; ends the run."""
        if not self._keep:
            row_kernels.permute_rows(self._cells, self._order_in, self._unit)
            return self._cells
        self._A = self._shift = None
        out = np.empty_like(self._cells)

        def scatter(span: Span) -> None:
            z_hat = self._cells[self._rows(span)]
            row_kernels.scatter_rows(z_hat, self._order(span), self._unit, out)

        self._workers.map(scatter, self._all_spans())
        return out

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    # How the cells are cut.

    def _split_block(self, block: int) -> list[Span]:
        first, last = self._arrangement.block_chunks[block : block + 2]
        parts = max(1, min(self._workers.count, last - first))
        cuts = np.linspace(first, last, parts + 1).astype(int)
        return [Span(block, int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    def _all_spans(self) -> list[Span]:
        return [span for spans in self._spans for span in spans]

    def _chunks(self, span: Span) -> Iterator[Span]:
        return (Span(span.block, c, c + 1) for c in range(span.first, span.last))

    def _rows(self, span: Span) -> slice:
        return self._arrangement.rows(span.first, span.last)

    def _codes(self, span: Span) -> np.ndarray:
        return self._arrangement.codes_at(self._rows(span))

    def _order(self, span: Span) -> np.ndarray:
        return self._order_in[self._rows(span)]

    # One thread's work.

    def _gather_span(self, span: Span) -> None:
        z = self._cells[self._rows(span)]
        row_kernels.gather_rows(self._Z, self._order(span), 1.0 / self._unit, z)

    def _z(self, chunk: Span) -> np.ndarray:
        if self._keep:
            return self._cells[self._rows(chunk)]
        order = self._order(chunk)
        z = self._work.scratch.array("z", (order.size, self._n_dims))
        row_kernels.gather_rows(self._Z, order, 1.0 / self._unit, z)
        return z

    def _z_hat(self, piece: Span) -> np.ndarray:
        return self._cells[self._rows(piece)]

    def _store(self, chunk: Span, z_hat: np.ndarray) -> None:
        self._cells[self._rows(chunk)] = z_hat

    def _affinities(self, piece: Span, in_force: InForce) -> Affinities:
        """Kept affinities, or those of z_hat."""
        rows = self._rows(piece)
        if self._A is not None and self._shift is not None:
            return Affinities(self._A[rows], self._shift[rows], in_force.tilt)
        return self._work.affinities(self._z_hat(piece), self._codes(piece), in_force)

    def _refresh(self, chunk: Span, z_hat: np.ndarray, in_force: InForce) -> None:
        """Make the kept affinities those of z_hat."""
        assert self._A is not None
        assert self._shift is not None
        rows = self._rows(chunk)
        self._work.affinities(z_hat, self._codes(chunk), in_force, self._A[rows], self._shift[rows])

    def _sum_span(self, span: Span, in_force: InForce) -> Sums:
        """Sum R over the levels, with `in_force`."""
        arrangement = self._arrangement
        tiles = arrangement.tiles(span.first, span.last)
        n_covariates = arrangement.combinations.shape[1]
        sums = self._work.new_sums(tiles.stop - tiles.start, self._n_dims, n_covariates)
        for piece in [span] if self._keep else self._chunks(span):
            own = arrangement.tiles(piece.first, piece.last)
            place = slice(own.start - tiles.start, own.stop - tiles.start)
            affinities, codes = self._affinities(piece, in_force), self._codes(piece)
            tile_start = arrangement.tile_start[own.start : own.stop + 1] - self._rows(piece).start
            self._work.sum_levels(affinities, codes, tile_start, sums, place)
            if self._directions:
                self._work.add_direction(affinities, codes, self._z_hat(piece), sums.direction)
        return sums._replace(first=self._level_sums(span, sums.first))

    def _level_sums(self, span: Span, first: np.ndarray) -> np.ndarray:
        """Add the sums of tiles up for the levels of the block (M, K); exact, being integers."""
        levels, start = self._arrangement.block_levels[span.block]
        block_start = self._arrangement.chunk_tiles[self._arrangement.block_chunks[span.block]]
        tile = self._arrangement.chunk_tiles[span.first] - block_start + np.arange(len(first))
        place, tile_of = np.unique(np.searchsorted(start, tile, "right") - 1, return_index=True)
        out = np.zeros((levels.size, self._n_clusters), np.int64)
        out[place] = np.add.reduceat(first, tile_of, axis=0)
        return out

    def _sum_moments(self, spans: Iterator[Span], Q: int) -> tuple[np.ndarray, np.ndarray]:
        """Sum the moments of the spans that this thread draws, and of Q combinations of levels."""
        M = np.zeros((self._n_levels, self._n_dims, self._n_clusters), np.int64)
        G = np.zeros((Q, self._n_clusters), np.int64)
        for chunk in itertools.chain.from_iterable(map(self._chunks, spans)):
            codes = self._codes(chunk)
            affinities = self._affinities(chunk, self._in_force[chunk.block])
            groups = self._arrangement.groups_in(chunk.first)
            self._work.add_moments(affinities, codes, groups, self._z(chunk), M)
            if Q:
                combination = self._arrangement.combination_at(self._rows(chunk))
                self._work.add_combinations(affinities, codes, combination, G)
        return M, G

    def _corrected(self, chunk: Span, affinities: Affinities, W: np.ndarray) -> np.ndarray:
        groups = self._arrangement.groups_in(chunk.first)
        return self._work.corrected(affinities, self._codes(chunk), groups, self._z(chunk), W)

    # What the threads found, put together.

    def _by_block(self, parts: list[Sums]) -> list[Assigned]:
        found = iter(parts)
        return [self._join(b, [next(found) for _ in self._spans[b]]) for b in range(self.n_blocks)]

    def _join(self, block: int, parts: list[Sums]) -> Assigned:
        sums = added(parts)
        levels, _ = self._arrangement.block_levels[block]
        start, in_force = np.arange(levels.size), self._in_force[block]
        levels, weight, energy = self._work.fold(sums.first, levels, start, in_force)
        if sums.rest.size:
            further, more, extra = self._work.fold_rest(sums.rest, in_force)
            levels = np.concatenate([levels, further])
            order = np.argsort(levels)
            levels, weight = levels[order], np.concatenate([weight, more])[order]
            energy += extra
        energy += math.fsum(sums.energy)
        direction = sums.direction[0].T if self._directions else None
        return Assigned(block, levels, weight, energy, direction)

    def _moments(self, M: np.ndarray, G: np.ndarray) -> Moments:
        fixed, combinations = self._work.fixed, self._arrangement.combinations
        level_sum = fixed.to_float(M).transpose(2, 0, 1) * self._unit
        if combinations.shape[1] == 1:
            return Moments(level_sum, None, None)
        return Moments(level_sum, combinations, fixed.to_float(G).T)

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
        return pad_rows((W / self._unit).transpose(1, 0, 2))
