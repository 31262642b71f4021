"""The cells in memory, in two ways that give the same bytes.

*Kept affinities*: per cell z and its affinities to the K clusters, so that a round of clustering is
one read of memory. *Recomputed affinities*: per cell only z_hat; affinities are made anew, a chunk
at a time. Centroids that move in every round, and penalties too steep for single precision, leave
nothing to keep.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from functools import singledispatchmethod
from typing import NamedTuple

import numpy as np

from harmonypy_lite.cells.arrangement import arrange
from harmonypy_lite.kernels import affinity as affinity_kernels
from harmonypy_lite.kernels import rows as row_kernels
from harmonypy_lite.kernels import weights as kernels
from harmonypy_lite.kernels.product import TILE, padded
from harmonypy_lite.method.passes import (
    Assign,
    Assigned,
    Correct,
    CorrectAndAssign,
    Moments,
    Reassign,
    SumMoments,
)
from harmonypy_lite.method.totals import FixedPoint
from harmonypy_lite.threads import Workers

#: Bytes of tables of moments that the threads may hold together; further threads do without.
_MOMENT_TABLES = 512 * 2**20
#: Distance of the clusters that only fill up a vector.
_FAR = 1e30


class Span(NamedTuple):
    """Whole chunks of one block, worked on by one thread."""

    block: int
    first: int
    last: int


class InForce(NamedTuple):
    """What the assignment of a block was made from: with the cells, it gives R again."""

    Yt: np.ndarray  # (d, K) centroids
    log_tilt: np.ndarray  # (B, K) P_kb - max_k P_kb
    tilt: np.ndarray  # (B, K) its exponential


class _Affinities(NamedTuple):
    A: np.ndarray  # (n, K)
    shift: np.ndarray  # (n,)
    tilt: np.ndarray  # (B, K) what is still to be multiplied on


class _Scratch(threading.local):
    """Arrays that a thread uses again and again."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        size = math.prod(shape)
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, dtype)
        return self._arrays[name][:size].reshape(shape)


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
        self.n_blocks = n_blocks
        self._Z = Z
        self._workers = workers
        self._scratch = _Scratch()
        self._arrangement = arrange(codes, block, n_blocks)
        self._directions, self._steep = directions, steep
        self._keep = keep and not directions and not steep
        self._sigma = sigma.astype(np.float32)
        self._slope = _padded(2.0 / sigma)
        self._offset = np.where(self._slope > 0, self._slope, _FAR).astype(np.float32)
        self._neutral = np.ones((n_levels, sigma.size), np.float32)
        self._in_force: list[InForce] = []
        self._unit = _power_of_two_above(Z)
        self._fixed = FixedPoint(Z.shape[0])
        self._count_tiles()
        self._spans = [self._split_block(b) for b in range(n_blocks)]
        n, d, K = Z.shape[0], Z.shape[1], sigma.size
        # `_cells` is z in kept mode, z_hat otherwise: what the mode reads in every pass.
        self._cells = np.empty((n, d), np.float32)
        self._workers.map(self._gather_span, self._all_spans())
        self._A = np.empty((n, K), np.float32) if self._keep else None
        self._shift = np.empty(n, np.float32) if self._keep else None

    @singledispatchmethod
    def run(self, task: object, block: int | None = None) -> object:
        """Carry out a pass over all cells, or over one block."""
        raise TypeError(f"{type(self).__name__} does not know the pass {task!r}")

    @run.register
    def _(self, task: Assign) -> list[Assigned]:
        neutral = self._put_in_force(task.Y)
        parts = self._workers.map(lambda s: self._assign_span(s, neutral), self._all_spans())
        return self._by_block(parts)

    @run.register
    def _(self, task: Reassign, block: int) -> Assigned:
        log_tilt = (task.P - task.P.max(axis=0)).T
        tilt = np.exp(log_tilt).astype(np.float32)
        in_force = InForce(_padded(task.Y.T), log_tilt.astype(np.float32), tilt)
        self._in_force[block] = in_force
        parts = self._workers.map(
            lambda s: self._sum_span(s, self._pieces(s), in_force), self._spans[block]
        )
        return self._join(block, parts)

    @run.register
    def _(self, task: SumMoments) -> Moments:
        K, B, d = self._sigma.size, len(self._neutral), self._cells.shape[1]
        several = self._arrangement.codes.shape[1] > 1
        Q = len(self._arrangement.combinations) if several else 0
        spans = iter(self._all_spans())
        tables = min(self._workers.count, max(1, _MOMENT_TABLES // (8 * K * (B * d + Q))))
        parts = self._workers.map(lambda s: self._sum_moments(s, Q), [spans] * tables)
        M, G = parts[0]
        for more_M, more_G in parts[1:]:
            M += more_M
            G += more_G
        level_sum = self._fixed.to_float(M).transpose(2, 0, 1) * self._unit
        if not several:
            return Moments(level_sum, None, None)
        return Moments(level_sum, self._arrangement.combinations, self._fixed.to_float(G).T)

    @run.register
    def _(self, task: Correct) -> np.ndarray | None:
        W = self._for_kernels(task.W)
        sums = self._workers.map(lambda s: self._correct_span(s, W), self._all_spans())
        return self._fixed.to_float(np.sum(sums, axis=0)) if self._directions else None

    @run.register
    def _(self, task: CorrectAndAssign) -> list[Assigned]:
        W = self._for_kernels(task.W)
        before, neutral = self._in_force, self._put_in_force(task.Y)

        def correct_and_assign(span: Span) -> tuple:
            return self._assign_span(span, neutral, W, before[span.block])

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
        out = np.empty((len(self._cells), self._sigma.size), np.float32)

        def fill(span: Span) -> None:
            for chunk in self._chunks(span):
                rows = self._rows(chunk)
                A, _, tilt = self._affinities(chunk, self._in_force[span.block])
                R = self._scratch.array("all R", A.shape)
                codes = self._arrangement.codes[rows]
                kernels.assignments(A, codes, tilt, self._sigma, R)
                row_kernels.scatter_rows(R, self._arrangement.order[rows], 1.0, out)

        self._workers.map(fill, self._all_spans())
        return out

    def result(self) -> np.ndarray:
        """Return the (N, d) float32 corrected cells in the order of the input; ends the run."""
        order, factor = self._arrangement.order, self._unit
        if not self._keep:
            row_kernels.permute_rows(self._cells, order, factor)
            return self._cells
        self._A = self._shift = None
        out = np.empty_like(self._cells)

        def scatter(span: Span) -> None:
            rows = self._rows(span)
            row_kernels.scatter_rows(self._cells[rows], order[rows], factor, out)

        self._workers.map(scatter, self._all_spans())
        return out

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    # How the cells are cut.

    def _count_tiles(self) -> None:
        groups, chunk_start = self._arrangement.groups, self._arrangement.chunk_start
        starts = [g[0].start[:-1] + chunk_start[c] for c, g in enumerate(groups)]
        self._tile_start = np.append(np.concatenate(starts or [[]]), chunk_start[-1]).astype(
            np.int64
        )
        self._chunk_tiles = np.cumsum([0, *(g[0].level.size for g in groups)])
        self._tile_level = np.concatenate([g[0].level for g in groups])

    def _split_block(self, block: int) -> list[Span]:
        first, last = self._arrangement.block_chunks[block : block + 2]
        parts = max(1, min(self._workers.count, last - first))
        cuts = np.linspace(first, last, parts + 1).astype(int)
        return [Span(block, int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    def _all_spans(self) -> list[Span]:
        return [span for spans in self._spans for span in spans]

    def _rows(self, span: Span) -> slice:
        return self._arrangement.rows(span.first, span.last)

    def _chunks(self, span: Span) -> Iterator[Span]:
        return (Span(span.block, c, c + 1) for c in range(span.first, span.last))

    def _pieces(self, span: Span) -> Iterator[Span]:
        return iter([span]) if self._keep else self._chunks(span)

    # One thread's work.

    def _gather_span(self, span: Span) -> None:
        rows = self._rows(span)
        order = self._arrangement.order[rows]
        row_kernels.gather_rows(self._Z, order, 1.0 / self._unit, self._cells[rows])

    def _z(self, chunk: Span) -> np.ndarray:
        rows = self._rows(chunk)
        if self._keep:
            return self._cells[rows]
        order = self._arrangement.order[rows]
        z = self._scratch.array("z", (order.size, self._cells.shape[1]))
        row_kernels.gather_rows(self._Z, order, 1.0 / self._unit, z)
        return z

    def _affinities(self, piece: Span, in_force: InForce) -> _Affinities:
        """Kept affinities, or those of z_hat."""
        rows = self._rows(piece)
        if self._A is not None and self._shift is not None:
            return _Affinities(self._A[rows], self._shift[rows], in_force.tilt)
        return self._make_affinities(piece, self._cells[rows], in_force)

    def _make_affinities(self, chunk: Span, z_hat: np.ndarray, in_force: InForce) -> _Affinities:
        rows = self._rows(chunk)
        n, K = len(z_hat), self._sigma.size
        if self._A is not None and self._shift is not None:
            A, shift = self._A[rows], self._shift[rows]
        else:
            A, shift = self._scratch.array("A", (n, K)), self._scratch.array("shift", (n,))
        if not self._steep:
            affinity_kernels.affinity(z_hat, in_force.Yt, self._slope, self._offset, A, shift)
            return _Affinities(A, shift, in_force.tilt)
        codes = self._arrangement.codes[rows]
        affinity_kernels.tempered(
            z_hat, in_force.Yt, self._slope, self._offset, codes, in_force.log_tilt, A, shift
        )
        return _Affinities(A, shift, self._neutral)

    def _assign_span(
        self,
        span: Span,
        in_force: InForce,
        W: np.ndarray | None = None,
        before: InForce | None = None,
    ) -> tuple:
        """Assign the cells anew, after correcting them where W and what was in force are given."""
        for chunk in self._chunks(span) if self._keep or W is not None else ():
            if W is None or before is None:
                z_hat = self._cells[self._rows(chunk)]
            else:
                z_hat = self._corrected(chunk, self._affinities(chunk, before), W)
            if self._keep:
                self._make_affinities(chunk, z_hat, in_force)
            else:
                self._cells[self._rows(chunk)] = z_hat
        return self._sum_span(span, self._pieces(span), in_force)

    def _sum_span(self, span: Span, pieces: Iterator[Span], in_force: InForce) -> tuple:
        """Return sums per tile of the first covariate, per level of the others, energies, R'u."""
        tiles = slice(self._chunk_tiles[span.first], self._chunk_tiles[span.last])
        K, d = self._sigma.size, self._cells.shape[1]
        first = np.empty((tiles.stop - tiles.start, K), np.int64)
        several = self._arrangement.codes.shape[1] > 1
        rest = np.zeros(self._neutral.shape if several else (0, K), np.int64)
        energy = np.empty(len(first))
        direction = np.zeros((1, d, K), np.int64)
        for piece in pieces:
            rows = self._rows(piece)
            lo, hi = self._chunk_tiles[piece.first], self._chunk_tiles[piece.last]
            out = slice(lo - tiles.start, hi - tiles.start)
            A, shift, tilt = self._affinities(piece, in_force)
            kernels.sum_levels(
                A,
                shift,
                self._arrangement.codes[rows],
                tilt,
                self._sigma,
                self._tile_start[lo : hi + 1] - rows.start,
                self._fixed.scale,
                first[out],
                rest,
                energy[out],
            )
            if self._directions:
                self._add_direction(piece, A, tilt, self._cells[rows], direction)
        return first, rest, energy, direction[0].T

    def _add_direction(
        self, chunk: Span, A: np.ndarray, tilt: np.ndarray, z_hat: np.ndarray, out: np.ndarray
    ) -> None:
        U = self._scratch.array("units", z_hat.shape)
        row_kernels.unit_rows(z_hat, U)
        start = np.append(np.arange(0, len(U), TILE), len(U))
        everyone = kernels.Groups(
            np.arange(len(U), dtype=np.int32), start, np.zeros(start.size - 1, np.int32)
        )
        codes = self._arrangement.codes[self._rows(chunk)]
        kernels.sum_moments(A, codes, tilt, self._sigma, everyone, U, self._fixed.scale, out)

    def _sum_moments(self, spans: Iterator[Span], Q: int) -> tuple[np.ndarray, np.ndarray]:
        """Sum the moments of the spans that this thread draws, and of Q combinations of levels."""
        arrangement = self._arrangement
        K, d = self._sigma.size, self._cells.shape[1]
        # Sums over one covariate's levels must match another's to more than single precision.
        number = np.float64 if arrangement.codes.shape[1] > 1 else np.float32
        M = np.zeros((len(self._neutral), d, K), np.int64)
        G = np.zeros((Q, K), np.int64)
        for span in spans:
            for chunk in self._chunks(span):
                codes = arrangement.codes[self._rows(chunk)]
                A, _, tilt = self._affinities(chunk, self._in_force[span.block])
                z = self._z(chunk).astype(number, copy=False)
                for groups in arrangement.groups[chunk.first]:
                    kernels.sum_moments(
                        A, codes, tilt, self._sigma, groups, z, self._fixed.scale, M
                    )
                if Q:
                    combination = arrangement.combination[self._rows(chunk)]
                    kernels.sum_combinations(
                        A, codes, tilt, self._sigma, combination, self._fixed.scale, G
                    )
        return M, G

    def _corrected(self, chunk: Span, affinities: _Affinities, W: np.ndarray) -> np.ndarray:
        A, _, tilt = affinities
        z = self._z(chunk)
        z_hat = self._scratch.array("z_hat", z.shape)
        z_hat[:] = z
        codes = self._arrangement.codes[self._rows(chunk)]
        for groups in self._arrangement.groups[chunk.first]:
            kernels.subtract_effects(A, codes, tilt, self._sigma, groups, z, W, z_hat)
        return z_hat

    def _correct_span(self, span: Span, W: np.ndarray) -> np.ndarray:
        """Correct without a new assignment; R'u of the corrected cells where it is asked for."""
        direction = np.zeros((1, self._cells.shape[1], self._sigma.size), np.int64)
        for chunk in self._chunks(span):
            affinities = self._affinities(chunk, self._in_force[span.block])
            z_hat = self._corrected(chunk, affinities, W)
            if self._directions:
                self._add_direction(chunk, affinities.A, affinities.tilt, z_hat, direction)
            self._cells[self._rows(chunk)] = z_hat
        return direction[0].T

    # What the threads found, put together.

    def _by_block(self, parts: list[tuple]) -> list[Assigned]:
        found = iter(parts)
        return [self._join(b, [next(found) for _ in self._spans[b]]) for b in range(self.n_blocks)]

    def _join(self, block: int, parts: list[tuple]) -> Assigned:
        per_tile = np.concatenate([part[0] for part in parts])
        chunks = self._arrangement.block_chunks[block : block + 2]
        level_of = self._tile_level[self._chunk_tiles[chunks[0]] : self._chunk_tiles[chunks[1]]]
        order = np.argsort(level_of, kind="stable")
        levels, start = np.unique(level_of[order], return_index=True)
        weight = np.add.reduceat(per_tile[order], start) if start.size else per_tile
        rest = np.sum([part[1] for part in parts], axis=0)
        further = np.flatnonzero(rest.any(axis=1))
        levels = np.concatenate([levels, further])
        weight = np.concatenate([weight, rest[further]])
        in_force = self._in_force[block]
        energy = math.fsum(x for part in parts for x in part[2])
        widths = self._fixed.to_float(weight) * in_force.log_tilt[levels]
        energy += float((widths * self._sigma).sum())
        direction = np.sum([part[3] for part in parts], axis=0) if self._directions else None
        return Assigned(block, levels, weight, energy, direction)

    def _put_in_force(self, Y: np.ndarray) -> InForce:
        """Make all blocks be assigned without penalty."""
        neutral = InForce(_padded(Y.T), np.zeros_like(self._neutral), self._neutral)
        self._in_force = [neutral] * self.n_blocks
        return neutral

    def _for_kernels(self, W: np.ndarray) -> np.ndarray:
        return _padded((W / self._unit).transpose(1, 0, 2))


def _padded(X: np.ndarray) -> np.ndarray:
    """Return X in single precision, its rows filled up with zeros as products want them."""
    out = np.zeros((*X.shape[:-1], padded(X.shape[-1])), np.float32)
    out[..., : X.shape[-1]] = X
    return out


def _power_of_two_above(Z: np.ndarray) -> float:
    """Return the power of two that all |z| are below: dividing by it rounds nothing."""
    largest = max(float(Z.max(initial=0.0)), -float(Z.min(initial=0.0)))
    return 2.0 ** math.frexp(largest)[1]
