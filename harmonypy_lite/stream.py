"""An embedding that stays where it is in, corrected cells in batches out: memory stays small.

The counterpart of `run` for cells that are too many to be in memory at once. The same seed gives
the same bytes as there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.cells.chunk import unit_above
from harmonypy_lite.cells.counted import Census
from harmonypy_lite.cells.journal import JournaledCells
from harmonypy_lite.cells.on_disk import OnDiskCells
from harmonypy_lite.cells.row_file import RowFile
from harmonypy_lite.design import Design
from harmonypy_lite.embedding import Inspection, ZeroRows, check_shape
from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.method import blocks, opening, start
from harmonypy_lite.method.loop import Outcome
from harmonypy_lite.method.passes import Cells
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import (
    NOTHING_TO_CORRECT,
    Progress,
    Replay,
    holder,
    integrate_cells,
    summarise,
)
from harmonypy_lite.scratch import note_read, noted_read
from harmonypy_lite.shortfalls import warn_of_shortfalls
from harmonypy_lite.threads import Workers

#: Bytes of the batches in which input and result pass through memory.
BATCH_BYTES = 32 * 2**20
_SAMPLE = "sample.npy"

log = logging.getLogger("harmonypy_lite")


@dataclass(frozen=True)
class Streamed:
    """The result of a run on disk; its cells can be read while its context is open.

    Attributes
    ----------
    batches
        Iterates over the (n, d) float32 corrected cells, in the order of the input.
    summary, outcome, replay
        As in `Integration`.
    """

    batches: Iterator[np.ndarray]
    summary: dict[str, Any]
    outcome: Outcome | None
    replay: Replay | None = None


@contextmanager
def integrate_stream(
    embedding: Any,
    design: Design,
    params: HarmonyParams,
    folder: Path,
    *,
    n_rows: int | None = None,
    journal: bool = False,
    record: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Streamed]:
    """Correct an embedding that is never in memory as a whole.

    Parameters
    ----------
    embedding
        (N, d), anything with a shape whose slices of rows are arrays: a dataset of h5py or zarr, a
        memory map. Read once, front to back.
    design
        Levels of the cells; its codes may be anything whose slices are arrays, too.
    params
        All parameters; `memory` is without effect.
    folder
        Where the scratch files go, 8 d bytes per cell; they stay there.
    n_rows
        Rows that pass through memory together.
    journal
        Keep in `folder` what a run needs to go on where one with the same arguments was killed,
        and go on if there is something.
    record
        Keep the tables of every iteration, as in `integrate_embedding`.
    progress
        Called after each round.

    Raises
    ------
    InvalidInput
        For an embedding that cannot be used.

    Examples
    --------
    >>> import pandas as pd, tempfile
    >>> from harmonypy_lite.design import design_from_columns
    >>> Z = np.random.default_rng(0).normal(size=(200, 5))
    >>> design = design_from_columns(pd.DataFrame({"batch": ["a", "b"] * 100}))
    >>> with integrate_stream(Z, design, HarmonyParams(), Path(tempfile.mkdtemp())) as done:
    ...     np.concatenate(list(done.batches)).shape
    (200, 5)
    """
    began = time.perf_counter()
    n, d = check_same_cells(embedding, design)
    n_rows = n_rows or rows_per_batch(embedding)
    if not design.covariates:
        warn(NOTHING_TO_CORRECT)
        summary = summarise((n, d), design, params, None, 0.0)
        with _unchanged(embedding, folder, n_rows) as batches:
            yield Streamed(batches, summary, None)
        return
    setting = setting_for(params, design)
    rng = np.random.default_rng(setting.params.rng)
    block_seed = int(rng.integers(2**63))
    sample = Sample(start.sample_cells(n, setting.n_clusters, rng))
    with Workers(setting.params.n_jobs) as workers:
        cells_on_disk = _hold(design, setting, block_seed, (n_rows, d), workers, folder)
        try:
            read = noted_read(folder) if journal else None
            if read is None:
                read = _read(embedding, cells_on_disk, sample, n_rows)
                np.save(folder / _SAMPLE, sample.rows)
                note_read(folder, read)
            ZeroRows(**read["zero_rows"]).warn()
            cells_on_disk.scale(unit_above(read["largest"]))
            rows, seen = np.load(folder / _SAMPLE), design.take(sample.places)
            hold = holder(block_seed, workers, keep=False)
            opened = opening.open_run(rows, seen, setting, rng, hold)
            replay = Replay(setting, [], block_seed)
            listen = replay.listen(cells_on_disk) if record else lambda W: None
            with _journaled(cells_on_disk, folder if journal else None) as cells:
                outcome = integrate_cells(cells, opened, setting, listen, progress)
            seconds = time.perf_counter() - began
            summary = summarise((n, d), design, setting.params, outcome, seconds)
            warn_of_shortfalls(outcome, design, params)
            yield Streamed(cells_on_disk.batches(), summary, outcome, replay if record else None)
        finally:
            cells_on_disk.close()


@contextmanager
def _unchanged(embedding: Any, folder: Path, n_rows: int) -> Iterator[Iterator[np.ndarray]]:
    """Give the cells as they are, from a copy: the input is not needed any more."""
    copy, at = RowFile(folder / "corrected.f32", *embedding.shape), 0
    try:
        for batch in _batches(embedding, n_rows, Inspection()):
            copy.write(at, batch)
            at += len(batch)
        yield (copy[a : a + n_rows] for a in range(0, at, n_rows))
    finally:
        copy.close()


def check_same_cells(embedding: Any, design: Design) -> tuple[int, int]:
    """Return (N, d) of an embedding that has one row for each cell of the design."""
    check_shape(embedding.shape)
    n, d = (int(size) for size in embedding.shape)
    if n != design.n_cells:
        raise InvalidInput(
            f"The embedding has {n} rows and the batch column(s) {design.n_cells}: one row per "
            "cell is needed in both."
        )
    return n, d


def rows_per_batch(embedding: Any) -> int:
    """Return how many rows pass through memory together: whole chunks of the storage, if it can."""
    most = max(1, BATCH_BYTES // (max(8, embedding.dtype.itemsize) * int(embedding.shape[1])))
    stored = getattr(embedding, "chunks", None)
    whole = int(stored[0]) if stored and isinstance(stored[0], int) else 1
    return most // whole * whole or whole


class Sample:
    """The rows at some places, taken out of batches that pass by."""

    def __init__(self, places: np.ndarray) -> None:
        self.places = places
        self._parts: list[np.ndarray] = []

    def see(self, batch: np.ndarray, first: int) -> None:
        """Take the rows of a batch that begins at place `first`."""
        a, b = np.searchsorted(self.places, [first, first + len(batch)])
        self._parts.append(batch[self.places[a:b] - first])

    @property
    def rows(self) -> np.ndarray:
        """The rows, in the order of their places."""
        return np.concatenate(self._parts)


@contextmanager
def _journaled(cells: OnDiskCells, folder: Path | None) -> Iterator[Cells]:
    """Give the cells as they are, or with a journal of their answers in `folder`."""
    if folder is None:
        yield cells
        return
    journal = JournaledCells(cells, folder / "answers")
    try:
        yield journal
    finally:
        journal.close()
        log.info("%d answers were known from the run that is resumed", journal.n_known)


def _read(embedding: Any, cells: OnDiskCells, sample: Sample, n_rows: int) -> dict[str, Any]:
    """Read the input, once: inspect it, take the sample, and put the cells in their places."""
    inspection, zero_rows = Inspection(), ZeroRows()

    def watched() -> Iterator[np.ndarray]:
        first = 0
        for batch in _batches(embedding, n_rows, inspection):
            zero_rows.see(batch)
            sample.see(batch, first)
            first += len(batch)
            yield batch

    cells.fill(watched())
    return {"largest": inspection.largest, "zero_rows": zero_rows.seen}


def _batches(embedding: Any, n_rows: int, inspection: Inspection) -> Iterator[np.ndarray]:
    n = int(embedding.shape[0])
    for a in range(0, n, n_rows):
        batch = inspection.see(np.asarray(embedding[a : min(a + n_rows, n)]))
        yield np.require(batch, requirements=["C", "W"])  # kernels are compiled for such arrays
    inspection.check()


def census_of(design: Design, setting: Setting, block_seed: int, n_rows: int) -> Census:
    """Return the blocks and combinations of levels of the cells."""
    n_blocks = blocks.number_of_blocks(setting.params.block_proportion, setting.n_cells)
    block_of = partial(blocks.block_of_cells, n_blocks=n_blocks, seed=block_seed)
    return Census(design.codes, block_of, n_blocks, n_rows)


def _hold(
    design: Design,
    setting: Setting,
    block_seed: int,
    batch: tuple[int, int],
    workers: Workers,
    folder: Path,
) -> OnDiskCells:
    return OnDiskCells(
        census_of(design, setting, block_seed, batch[0]),
        batch[1],
        design.n_levels,
        setting.sigma,
        directions=setting.rules.moving_centroids,
        form=setting.form,
        workers=workers,
        folder=folder,
    )
