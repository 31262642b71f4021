"""The cells in memory, in two ways that give the same bytes.

*Kept affinities*: per cell z and its affinities to the K clusters, so that a round of clustering is
one read of memory. *Recomputed affinities*: per cell only z_hat; affinities are made anew, a chunk
at a time. Centroids that move in every round, and penalties too steep for single precision, leave
nothing to keep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import singledispatchmethod
from typing import NamedTuple

import numpy as np

from harmonypy_lite.cells.arrangement import CHUNK, arrange
from harmonypy_lite.cells.chunk import Affinities, ChunkWork, InForce, Sums, pad_rows
from harmonypy_lite.kernels import rows as row_kernels
from harmonypy_lite.kernels.weights import Groups
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
    n_blocks, n_levels
        Number of blocks and B.
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
        n_levels: int,
        sigma: np.ndarray,
        *,
        directions: bool,
        steep: bool,
        keep: bool,
        workers: Workers,
    ) -> None:
        n, d = Z.shape
        self.n_blocks = n_blocks
        self._Z, self._workers = Z, workers
        self._n_levels, self._n_clusters, self._n_dims = n_levels, sigma.size, d
        self._directions = directions
        self._keep = keep and not directions and not steep
        self._work = ChunkWork(sigma, n_levels, n, steep=steep)
        self._arrangement = arrange(codes, block, n_blocks)
        self._tiled = self._keep and codes.shape[1] == 1
        self._spans = [self._split_block(b) for b in range(n_blocks)]
        self._in_force: list[InForce] = []
        self._unit = _power_of_two_above(Z, workers)
        # z in kept mode, z_hat otherwise: what the mode reads in every pass.
        self._cells = np.empty((n, d), np.float32)
        squares = self._workers.map(self._gather_span, self._all_spans())
        self._square_sum = self._work.fixed.to_float(np.sum(squares, axis=0)) * self._unit**2
        self._A = np.empty((n, self._work.row_width), np.float32) if self._keep else None
        self._shift = np.empty(n, np.float32) if self._keep else None

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
        several = combinations.shape[1] > 1
        Q = len(combinations) if several else 0
        table = 8 * K * (self._n_levels * self._n_dims + Q)
        n_tables = min(self._workers.count, max(1, _MOMENT_TABLES // table))
        spans = iter(self._all_spans())
        parts = self._workers.map(lambda s: self._sum_moments(s, Q), [spans] * n_tables)
        M, G = parts[0]
        for more_M, more_G in parts[1:]:
            M += more_M
            G += more_G
        fixed = self._work.fixed
        level_sum = fixed.to_float(M[..., :K]).transpose(2, 0, 1) * self._unit
        if not several:
            return Moments(level_sum, None, None, self._square_sum)
        return Moments(level_sum, combinations, fixed.to_float(G).T, self._square_sum)

    @run.register
    def _(self, task: SumExcluded) -> np.ndarray:
        excluded = np.ascontiguousarray(task.excluded.T)

        def add(span: Span) -> np.ndarray:
            out = np.zeros((self._n_dims, self._n_clusters), np.int64)
            for chunk in self._chunks(span):
                codes = self._codes(chunk)
                combination = self._arrangement.combination[self._rows(chunk)]
                affinities = self._affinities(chunk, self._in_force[span.block])
                z = self._z(chunk)
                self._work.add_excluded(affinities, codes, combination, excluded, z, out)
            return out

        sums = np.sum(self._workers.map(add, self._all_spans()), axis=0)
        return self._work.fixed.to_float(sums).T * self._unit

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
                self._cells[self._rows(chunk)] = z_hat
            return direction[0, :, : self._n_clusters].T

        sums = self._workers.map(correct, self._all_spans())
        return self._work.fixed.to_float(np.sum(sums, axis=0)) if self._directions else None

    @run.register
    def _(self, task: CorrectAndAssign) -> list[Assigned]:
        W = self._for_kernels(task.W)
        before, neutral = self._in_force, self._put_in_force(task.Y)

        def correct_and_assign(span: Span) -> Sums:
            if self._tiled:
                sums = self._new_sums(span)
                tiles = self._groups(span)[0]
                affinities = self._affinities(span, before[span.block])
                z = self._cells[self._rows(span)]
                self._work.correct_and_assign(
                    affinities, self._codes(span), tiles, z, W, neutral, sums
                )
                return sums
            for chunk in self._chunks(span):
                affinities = self._affinities(chunk, before[span.block])
                z_hat = self._corrected(chunk, affinities, W)
                if self._keep:
                    self._refresh(chunk, z_hat, neutral)
                else:
                    self._cells[self._rows(chunk)] = z_hat
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
            row_kernels.permute_rows(self._cells, self._arrangement.order, self._unit)
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
        rows = self._rows(Span(block, first, last))
        parts = max(1, min(self._workers.count, last - first, (rows.stop - rows.start) // CHUNK))
        cuts = np.linspace(first, last, parts + 1).astype(int)
        return [Span(block, int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    def _all_spans(self) -> list[Span]:
        return [span for spans in self._spans for span in spans]

    def _chunks(self, span: Span) -> Iterator[Span]:
        return (Span(span.block, c, c + 1) for c in range(span.first, span.last))

    def _pieces(self, span: Span) -> Iterator[Span]:
        """What kernels are given at once: kept affinities of one covariate need no scratch."""
        return iter([span]) if self._tiled else self._chunks(span)

    def _groups(self, piece: Span) -> list[Groups]:
        return self._arrangement.groups(piece.first, piece.last)

    def _rows(self, span: Span) -> slice:
        return self._arrangement.rows(span.first, span.last)

    def _codes(self, span: Span) -> np.ndarray:
        return self._arrangement.codes[self._rows(span)]

    def _order(self, span: Span) -> np.ndarray:
        return self._arrangement.order[self._rows(span)]

    # One thread's work.

    def _gather_span(self, span: Span) -> np.ndarray:
        """Take the cells in; return the sum of z^2 in fixed point."""
        squares = np.zeros(self._n_dims, np.int64)
        for chunk in self._chunks(span):
            z = self._cells[self._rows(chunk)]
            row_kernels.gather_rows(self._Z, self._order(chunk), 1.0 / self._unit, z)
            row_kernels.add_squares(z, self._work.fixed.scale, squares)
        return squares

    def _z(self, chunk: Span) -> np.ndarray:
        if self._keep:
            return self._cells[self._rows(chunk)]
        order = self._order(chunk)
        z = self._work.scratch.array("z", (order.size, self._n_dims))
        row_kernels.gather_rows(self._Z, order, 1.0 / self._unit, z)
        return z

    def _affinities(self, piece: Span, in_force: InForce) -> Affinities:
        """Kept affinities, or those of z_hat."""
        rows = self._rows(piece)
        if self._A is not None and self._shift is not None:
            return Affinities(self._A[rows], self._shift[rows], in_force.tilt)
        return self._work.affinities(self._cells[rows], self._codes(piece), in_force)

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
        sums = self._new_sums(span)
        for piece in [span] if self._keep else self._chunks(span):
            own = arrangement.tiles(piece.first, piece.last)
            place = slice(own.start - tiles.start, own.stop - tiles.start)
            affinities, codes = self._affinities(piece, in_force), self._codes(piece)
            tile_start = arrangement.tile_start[own.start : own.stop + 1] - self._rows(piece).start
            self._work.sum_levels(affinities, codes, tile_start, sums, place)
            if self._directions:
                z_hat = self._cells[self._rows(piece)]
                self._work.add_direction(affinities, codes, tile_start, z_hat, sums.direction)
        return sums

    def _new_sums(self, span: Span) -> Sums:
        tiles = self._arrangement.tiles(span.first, span.last)
        n_covariates = self._arrangement.codes.shape[1]
        return self._work.new_sums(tiles.stop - tiles.start, self._n_dims, n_covariates)

    def _sum_moments(self, spans: Iterator[Span], Q: int) -> tuple[np.ndarray, np.ndarray]:
        """Sum the moments of the spans that this thread draws, and of Q combinations of levels."""
        M = np.zeros((self._n_levels, self._n_dims, self._work.row_width), np.int64)
        G = np.zeros((Q, self._n_clusters), np.int64)
        for piece in itertools.chain.from_iterable(map(self._pieces, spans)):
            codes = self._codes(piece)
            affinities = self._affinities(piece, self._in_force[piece.block])
            self._work.add_moments(affinities, codes, self._groups(piece), self._z(piece), M)
            if Q:
                combination = self._arrangement.combination[self._rows(piece)]
                self._work.add_combinations(affinities, codes, combination, G)
        return M, G

    def _corrected(self, chunk: Span, affinities: Affinities, W: np.ndarray) -> np.ndarray:
        groups = self._groups(chunk)
        return self._work.corrected(affinities, self._codes(chunk), groups, self._z(chunk), W)

    # What the threads found, put together.

    def _by_block(self, parts: list[Sums]) -> list[Assigned]:
        found = iter(parts)
        return [self._join(b, [next(found) for _ in self._spans[b]]) for b in range(self.n_blocks)]

    def _join(self, block: int, parts: list[Sums]) -> Assigned:
        levels, start = self._arrangement.block_levels[block]
        first = parts[0].first if len(parts) == 1 else np.concatenate([p.first for p in parts])
        levels, weight, energy = self._work.fold(first, levels, start, self._in_force[block])
        if self._arrangement.codes.shape[1] > 1:
            rest = np.sum([part.rest for part in parts], axis=0)
            further, more, added = self._work.fold_rest(rest, self._in_force[block])
            levels = np.concatenate([levels, further])
            order = np.argsort(levels)
            levels, weight = levels[order], np.concatenate([weight, more])[order]
            energy += added
        energy += math.fsum(x for part in parts for x in part.energy)
        direction = None
        if self._directions:
            direction = np.sum([part.direction[0] for part in parts], axis=0).T
            direction = direction[: self._n_clusters]
        return Assigned(block, levels, weight, energy, direction)

    def _put_in_force(self, Y: np.ndarray) -> InForce:
        """Make all blocks be assigned without penalty."""
        neutral = self._work.in_force(Y)
        self._in_force = [neutral] * self.n_blocks
        return neutral

    def _for_kernels(self, W: np.ndarray) -> np.ndarray:
        return pad_rows((W / self._unit).transpose(1, 0, 2))


def _power_of_two_above(Z: np.ndarray, workers: Workers) -> float:
    """Return the power of two that all |z| are below: dividing by it rounds nothing."""

    def largest(part: np.ndarray) -> float:
        return max(float(part.max(initial=0.0)), -float(part.min(initial=0.0)))

    parts = workers.map(largest, np.array_split(Z, workers.count))
    return 2.0 ** math.frexp(max(parts))[1]
