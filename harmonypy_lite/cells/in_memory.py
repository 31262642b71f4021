"""The cells in memory, in two ways that give the same bytes.

*Kept affinities*: per cell z and its affinities to the K clusters (2 bytes each where there are
many, see `method.form`), so that a round of clustering is one read of memory. *Recomputed
affinities*: per cell only z_hat; affinities are made anew, a chunk at a time. Centroids that move
in every round, and penalties too steep for single precision, leave nothing to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from harmonypy_lite.cells.arrangement import Arrangement, arrange, first_levels
from harmonypy_lite.cells.by_chunk import ChunkwiseCells, Span
from harmonypy_lite.cells.chunk import Affinities, InForce, Sums, unit_above
from harmonypy_lite.cells.moments import MomentTables, Tables
from harmonypy_lite.kernels import rows as row_kernels
from harmonypy_lite.method.form import Form
from harmonypy_lite.threads import Workers

#: Levels whose moments are summed up together: of 50 dimensions and 100 clusters they take 640 KB.
_STRIP = 16
#: Tables of no more levels (2.6 MB) are left to the cache as they come.
_FEW = 4 * _STRIP
#: Cells whose affinities are read in about the time that it takes to wake a thread.
_HEAD_START = 4096
_NEAR = 2048


class InMemoryCells(ChunkwiseCells):
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
    directions, form, workers
        As in `ChunkwiseCells`.
    keep
        Whether affinities may be kept (2 K bytes a cell, or 4 K).
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
        form: Form,
        keep: bool,
        workers: Workers,
    ) -> None:
        n, d = Z.shape
        self._arrangement: Arrangement
        arrangement = arrange(codes, block, n_blocks, level_counts)
        self._keep = keep and not directions and form is not Form.WITH_PENALTY
        # Kept affinities of one covariate are worked on in place, without scratch memory.
        self._tiled = self._keep and codes.shape[1] == 1
        super().__init__(
            arrangement,
            (n, d),
            sum(level_counts),
            sigma,
            directions=directions,
            form=form,
            workers=workers,
            head_start=_HEAD_START if self._tiled else 0,
        )
        self._strip_levels = first_levels(level_counts)
        self._strips = _strips(arrangement, self._strip_levels, workers.count) if self._keep else []
        self._Z, self._order_in = Z, arrangement.order
        self._unit = unit_above(max(workers.map(_largest, np.array_split(Z, workers.count))))
        # z in kept mode, z_hat otherwise: what the mode reads in every pass.
        self._cells = np.empty((n, d), np.float32)
        self._workers.map(self._gather_span, self._all_spans())
        self._A = self._work.new_affinities(n) if self._keep else None
        self._shift = np.empty(n, np.float32) if self._keep else None

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
        return self.corrected()

    def corrected(self) -> np.ndarray:
        """Return a copy of the (N, d) float32 corrected cells in the order of the input."""
        out = np.empty_like(self._cells)

        def scatter(span: Span) -> None:
            z_hat = self._cells[self._rows(span)]
            row_kernels.scatter_rows(z_hat, self._order(span), self._unit, out)

        self._workers.map(scatter, self._all_spans())
        return out

    def rewind(self) -> None:
        """Take the cells as they came again, for another run; not after `result`."""
        self._workers.map(self._gather_span, self._all_spans())

    def _order(self, span: Span) -> np.ndarray:
        return self._order_in[self._rows(span)]

    def _pieces(self, span: Span) -> Iterator[Span]:
        return iter([span]) if self._tiled else self._chunks(span)

    # Sums per level, level by level.

    def _owned_levels(self) -> range:
        return self._strip_levels if self._strips else range(0)

    def _fill(self, tables: MomentTables) -> None:
        """Go through strips of levels, whose tables stay in cache; then further covariates."""
        if not self._strips:
            super()._fill(tables)
            return
        further = self._all_spans() if self._n_covariates > 1 else []
        tables.fill(
            [partial(self._add_moments, span, covariates=slice(1, None)) for span in further],
            of_owned=[partial(self._add_strip, strip) for strip in self._strips],
        )

    def _add_strip(self, levels: range, tables: Tables) -> None:
        assert self._A is not None
        assert self._shift is not None
        for block, in_force in enumerate(self._in_force):
            rows, groups = self._arrangement.strip(block, levels)
            affinities = Affinities(self._A[rows], self._shift[rows], in_force.tilt)
            codes, combination = self._arrangement.codes[rows], self._arrangement.combination[rows]
            z = self._cells[rows]
            self._work.add_moments(affinities, codes, [groups], z, combination, tables)

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
        return super()._affinities(piece, in_force)

    def _refresh(self, chunk: Span, z_hat: np.ndarray, in_force: InForce) -> None:
        """Make the kept affinities those of z_hat."""
        assert self._A is not None
        assert self._shift is not None
        rows = self._rows(chunk)
        self._work.affinities(z_hat, self._codes(chunk), in_force, self._A[rows], self._shift[rows])

    def _assign(self, span: Span, neutral: InForce) -> Sums:
        if self._keep:
            for chunk in self._chunks(span):
                self._refresh(chunk, self._cells[self._rows(chunk)], neutral)
        return super()._assign(span, neutral)

    def _correct_and_assign(
        self, span: Span, before: InForce, neutral: InForce, W: np.ndarray
    ) -> Sums:
        if not self._keep:
            return super()._correct_and_assign(span, before, neutral, W)
        if not self._tiled:
            for chunk in self._chunks(span):
                affinities = self._affinities(chunk, before)
                self._refresh(chunk, self._corrected(chunk, affinities, W), neutral)
            return self._sum_span(span, neutral)
        sums, tiles = self._new_sums(span), self._groups(span)[0]
        affinities, codes = self._affinities(span, before), self._codes(span)
        z = self._cells[self._rows(span)]
        self._work.correct_and_assign(affinities, codes, tiles, z, W, neutral, sums)
        if self._work.looks_at(span.block):
            after = affinities._replace(tilt=neutral.tilt)
            entropy = self._work.entropies(after, codes, self._rows(span).start)
            sums = sums._replace(entropy=entropy)
        return self._of_levels(span, sums)


def _strips(arrangement: Arrangement, levels: range, n_workers: int) -> list[range]:
    """Return strips of levels, the heaviest first; none where threads could not share them well."""
    if len(levels) <= _FEW:
        return []
    strips = [levels[first : first + _STRIP] for first in range(0, len(levels), _STRIP)]
    sizes = np.bincount(
        arrangement.tile_level, np.diff(arrangement.tile_start), minlength=levels.stop
    )
    cells = [sizes[strip.start : strip.stop].sum() for strip in strips]
    if len(strips) < 2 * n_workers or max(cells) * n_workers > sum(cells):
        return []
    return [strips[i] for i in np.argsort(cells, kind="stable")[::-1]]


def _largest(part: np.ndarray) -> float:
    most = 0.0
    for first in range(0, len(part), _NEAR):  # both looks at what is in the cache
        near = part[first : first + _NEAR]
        most = max(most, float(near.max()), -float(near.min()))
    return most
