"""The cells in scratch files: memory does not depend on how many there are.

The input is read once, front to back; each cell goes to its place in the arrangement, in a file of
float32 rows. A pass then reads the file front to back, a chunk at a time, and works as
`InMemoryCells` without kept affinities does, with the same bytes. Corrected cells stand in a second
file, so that the first is as it was read; the result is read in the order of the input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.cells.by_chunk import ChunkwiseCells, Span
from harmonypy_lite.cells.chunk import InForce
from harmonypy_lite.cells.counted import Census, Counted, Walk
from harmonypy_lite.cells.row_file import RowFile
from harmonypy_lite.kernels import rows as row_kernels
from harmonypy_lite.method.form import Form
from harmonypy_lite.method.passes import Assign, Correct, CorrectAndAssign, Reassign
from harmonypy_lite.threads import Workers


class OnDiskCells(ChunkwiseCells):
    """Holds the cells in two files; see the module's text.

    Parameters
    ----------
    census
        The cells' blocks and combinations of levels.
    n_dims, n_levels
        d and B.
    sigma
        (K,) widths of the clusters.
    directions, form, workers
        As in `InMemoryCells`.
    folder
        Where the files are, or will be.
    """

    def __init__(
        self,
        census: Census,
        n_dims: int,
        n_levels: int,
        sigma: np.ndarray,
        *,
        directions: bool,
        form: Form,
        workers: Workers,
        folder: Path,
    ) -> None:
        self._census = census
        self._counted = Counted(census.counts, census.combinations)
        super().__init__(
            self._counted,
            (self._counted.n_cells, n_dims),
            n_levels,
            sigma,
            directions=directions,
            form=form,
            workers=workers,
        )
        shape = (self._counted.n_cells, n_dims)
        self._as_read = RowFile(folder / "cells.f32", *shape)
        self._moved = RowFile(folder / "corrected.f32", *shape)
        self._is_moved = np.zeros(len(self._counted.chunk_start) - 1, bool)
        self._to_take: list[tuple[list[InForce], np.ndarray]] = []

    def fill(self, batches: Iterator[np.ndarray]) -> None:
        """Take the cells (n, d) in, in the order of the input."""
        walk, at = Walk(self._census, self._counted), 0
        for batch in batches:
            order, cuts, held = walk.next(at, at + len(batch))
            rows = np.empty((len(batch), self._n_dims), np.float32)
            self._by_piece(partial(_gather, batch, order, rows), len(batch))
            self._write_runs(rows, cuts, held)
            at += len(batch)

    def scale(self, unit: float) -> None:
        """Work in units of `unit`, a power of two that all |z| are below."""
        self._unit = unit

    def run(self, task: object, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block."""
        self._catch_up()
        return super().run(task) if block is None else super().run(task, block)

    def skip(self, task: object, block: int | None = None) -> None:
        """Note a pass whose answer is known, so that the next one that is run finds its effect."""
        if isinstance(task, Correct | CorrectAndAssign):
            self._to_take.append((self.in_force, self._for_kernels(task.W)))
        if isinstance(task, Assign | CorrectAndAssign):
            self._put_in_force(task.Y)
        elif isinstance(task, Reassign):
            assert block is not None
            self._in_force[block] = self._work.in_force(task.Y, task.P)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the (n, d) float32 corrected cells in the order of the input, batch by batch."""
        self._catch_up()
        walk = Walk(self._census, self._counted)
        for a, b in self._census.batches():
            order, cuts, held = walk.next(a, b)
            rows = np.empty((b - a, self._n_dims), np.float32)
            self._read_runs(rows, cuts, held)
            out = np.empty_like(rows)
            self._by_piece(partial(_scatter, rows, order, out, self._unit), b - a)
            yield out

    def result(self) -> np.ndarray:
        """Return the (N, d) float32 corrected cells: for data that fit in memory."""
        return np.concatenate(list(self.batches()))

    def close(self) -> None:
        """Close the files, which stay; end the threads."""
        self._as_read.close()
        self._moved.close()
        super().close()

    # Cells of a chunk: each of these has scratch memory of its own.

    def _z(self, chunk: Span) -> np.ndarray:
        return self._scaled(chunk, "z")

    def _z_hat(self, piece: Span) -> np.ndarray:
        if not self._is_moved[piece.first]:
            return self._scaled(piece, "held")
        rows = self._rows(piece)
        out = self._work.scratch.array("held", (rows.stop - rows.start, self._n_dims))
        return self._moved.read(rows, out)

    def _store(self, chunk: Span, z_hat: np.ndarray) -> None:
        self._moved.write(self._rows(chunk).start, z_hat)
        self._is_moved[chunk.first] = True

    def _scaled(self, chunk: Span, name: str) -> np.ndarray:
        rows = self._rows(chunk)
        out = self._work.scratch.array(name, (rows.stop - rows.start, self._n_dims))
        self._as_read.read(rows, out)
        out *= np.float32(1.0 / self._unit)  # a power of two: nothing is rounded
        return out

    def _catch_up(self) -> None:
        if self._to_take:
            steps, self._to_take = self._to_take, []
            self.take_steps(steps)

    # Runs: stretches of held cells of one block and combination.

    def _by_piece(self, work: Callable[[slice], None], n: int) -> None:
        cuts = np.linspace(0, n, self._workers.count + 1).astype(int).tolist()
        self._workers.map(work, [slice(a, b) for a, b in itertools.pairwise(cuts)])

    def _write_runs(self, rows: np.ndarray, cuts: np.ndarray, held: np.ndarray) -> None:
        def write(part: np.ndarray) -> None:
            for r in part.tolist():
                self._as_read.write(int(held[r]), rows[cuts[r] : cuts[r + 1]])

        self._workers.map(write, np.array_split(np.arange(held.size), self._workers.count))

    def _read_runs(self, rows: np.ndarray, cuts: np.ndarray, held: np.ndarray) -> None:
        def read(part: np.ndarray) -> None:
            for r in part.tolist():
                first = int(held[r])
                out = rows[cuts[r] : cuts[r + 1]]
                self._moved.read(slice(first, first + len(out)), out)

        self._workers.map(read, np.array_split(np.arange(held.size), self._workers.count))


def _gather(batch: np.ndarray, order: np.ndarray, out: np.ndarray, piece: slice) -> None:
    row_kernels.gather_rows(batch, order[piece], 1.0, out[piece])


def _scatter(
    rows: np.ndarray, order: np.ndarray, out: np.ndarray, unit: float, piece: slice
) -> None:
    row_kernels.scatter_rows(rows[piece], order[piece], unit, out)
