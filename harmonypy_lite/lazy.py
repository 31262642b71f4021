"""A Dask array in, a lazy Dask array out: the cells are never in one place.

With a client of dask.distributed the cells are dealt out to the workers; without one they go to
scratch files. The result is no array that was computed but a recipe: the run's small tables, which
move the cells of any partition as the run moved them, to the same bytes.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.cells.chunk import unit_above
from harmonypy_lite.cells.counted import Census, Counted, Walk
from harmonypy_lite.cells.on_dask import DaskCells
from harmonypy_lite.cells.shards import Terms, owner_of
from harmonypy_lite.design import Design
from harmonypy_lite.embedding import Inspection, ZeroRows, as_floats
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.method import opening, start
from harmonypy_lite.method.loop import Outcome
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import (
    Progress,
    Replay,
    holder,
    integrate_cells,
    summarise,
)
from harmonypy_lite.shortfalls import warn_of_shortfalls
from harmonypy_lite.stream import Sample, census_of, check_same_cells, integrate_stream
from harmonypy_lite.threads import Workers


@dataclass(frozen=True)
class LazyIntegration:
    """The result of a run on a Dask array.

    Attributes
    ----------
    embedding
        (N, d) float32 Dask array, chunked as the input was.
    summary, outcome, design, replay
        As in `Integration`.
    """

    embedding: Any
    summary: dict[str, Any]
    outcome: Outcome | None
    design: Design
    replay: Replay | None


def integrate_lazy(
    embedding: Any,
    design: Design,
    params: HarmonyParams,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> LazyIntegration:
    """Correct a Dask array.

    Parameters
    ----------
    embedding
        (N, d) Dask array; rows may be chunked unevenly, columns not at all.
    design
        Levels of the cells.
    params
        All parameters; `memory` is without effect.
    progress
        Called after each round.

    Raises
    ------
    InvalidInput
        For chunks of columns or of unknown size, and for cells that cannot be used.

    Examples
    --------
    >>> import dask.array as da, numpy as np, pandas as pd
    >>> from harmonypy_lite.design import design_from_columns
    >>> Z = da.from_array(np.random.default_rng(0).normal(size=(200, 5)), chunks=(70, 5))
    >>> design = design_from_columns(pd.DataFrame({"batch": ["a", "b"] * 100}))
    >>> integrate_lazy(Z, design, HarmonyParams()).embedding.chunks
    ((70, 70, 60), (5,))
    """
    _check_chunks(embedding)
    check_same_cells(embedding, design)
    client = _client()
    if client is None or not design.covariates:
        return _on_disk(embedding, design, params, progress)
    return _on_workers(client, embedding, design, params, progress)


def _check_chunks(embedding: Any) -> None:
    if embedding.ndim != 2 or np.isnan(embedding.shape[0]):
        raise InvalidInput(
            "The embedding is a Dask array whose chunks have unknown sizes, or that is no matrix: "
            "give cells x dimensions, and call compute_chunk_sizes() on it first."
        )
    if embedding.numblocks[1] > 1:
        raise InvalidInput(
            f"The columns of the embedding are chunked ({embedding.chunks[1]}): a cell must be in "
            "one chunk. Use embedding.rechunk({1: -1}), which leaves the rows as they are."
        )


def _client() -> Any:
    """Return the client of dask.distributed that is in force, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _on_disk(
    embedding: Any,
    design: Design,
    params: HarmonyParams,
    progress: Callable[[Progress], None] | None,
) -> LazyIntegration:
    import dask

    folder = dask.config.get("temporary-directory", None)
    with (
        tempfile.TemporaryDirectory(prefix=".harmonypy-lite-", dir=folder) as scratch,
        integrate_stream(
            _Partitions(embedding), design, params, Path(scratch), record=True, progress=progress
        ) as done,
    ):
        lazy = _recipe(embedding, design, done.replay)
        return LazyIntegration(lazy, done.summary, done.outcome, design, done.replay)


def partitions(embedding: Any) -> Iterator[np.ndarray]:
    """Give the rows of a Dask array, one partition after another."""
    for block in embedding.blocks:
        Z = np.require(as_floats(np.asarray(block.compute())), requirements=["C", "W"])
        if len(Z):
            yield Z


class _Partitions:
    """Rows of a Dask array, which computes one partition after another, each once."""

    def __init__(self, embedding: Any) -> None:
        self._array = embedding
        self._ends = np.cumsum(embedding.chunks[0])
        self._held: tuple[int, np.ndarray] | None = None
        self.shape, self.dtype = embedding.shape, embedding.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        a, b, _ = rows.indices(self.shape[0])
        found = []
        while a < b:
            i = int(np.searchsorted(self._ends, a, "right"))
            if self._held is None or self._held[0] != i:
                self._held = None  # let the old one go before the next one comes
                self._held = i, np.asarray(self._array.blocks[i].compute())
            first = int(self._ends[i]) - len(self._held[1])
            found.append(self._held[1][a - first : b - first])
            a += len(found[-1])
        return found[0] if len(found) == 1 else np.concatenate(found)


def _on_workers(
    client: Any,
    embedding: Any,
    design: Design,
    params: HarmonyParams,
    progress: Callable[[Progress], None] | None,
) -> LazyIntegration:
    began = time.perf_counter()
    setting = setting_for(params, design)
    rng = np.random.default_rng(setting.params.rng)
    block_seed = int(rng.integers(2**63))
    places = start.sample_cells(design.n_cells, setting.n_clusters, rng)
    census = census_of(design, setting, block_seed, 2**20)
    source = _Source(client, embedding, census)
    largest, sample = source.look(places)
    with Workers(1) as workers:
        hold = holder(block_seed, workers, keep=False)
        opened = opening.open_run(sample, design.take(places), setting, rng, hold)
    cells = DaskCells(client, _terms(census, design, setting, embedding, largest), source.deal)
    try:
        source.forget()
        replay = Replay(setting, [], block_seed)
        outcome = integrate_cells(cells, opened, setting, replay.listen(cells), progress)
    finally:
        cells.close()
    seconds = time.perf_counter() - began
    summary = summarise(embedding.shape, design, setting.params, outcome, seconds)
    warn_of_shortfalls(outcome, design, params)
    lazy = _recipe(embedding, design, replay)
    return LazyIntegration(lazy, summary, outcome, design, replay)


def _terms(
    census: Census, design: Design, setting: Setting, embedding: Any, largest: float
) -> Terms:
    return Terms(
        census.counts,
        census.combinations,
        int(embedding.shape[1]),
        design.n_levels,
        setting.sigma,
        setting.rules.moving_centroids,
        setting.form,
        unit_above(largest),
        setting if setting.params.sync == "batch" else None,
    )


class _Source:
    """The partitions of a Dask array, computed on the workers."""

    def __init__(self, client: Any, embedding: Any, census: Census) -> None:
        self._client, self._embedding, self._census = client, embedding, census
        ends = np.cumsum(embedding.chunks[0]).tolist()
        self._bounds = list(itertools.pairwise([0, *ends]))
        self._parts: list[Any] | None = self._computed()

    def _computed(self) -> list[Any]:
        blocks = self._embedding.to_delayed().ravel().tolist()
        return self._client.compute(blocks)

    def look(self, places: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the largest number, and the cells at `places`; refuse and warn of what is seen."""
        assert self._parts is not None
        looks = []
        for part, (a, b) in zip(self._parts, self._bounds, strict=True):
            own = places[np.searchsorted(places, a) : np.searchsorted(places, b)] - a
            looks.append(self._client.submit(_look, part, own, pure=False))
        inspection, zero_rows, rows = Inspection(), ZeroRows(), []
        for seen, zero, sample in self._client.gather(looks):
            inspection.join(seen)
            zero_rows.join(zero)
            rows.append(sample)
        inspection.check()
        zero_rows.warn()
        return inspection.largest, np.concatenate(rows)

    def deal(self, bounds: np.ndarray) -> list[Any]:
        """Return for each partition a future of its pieces, one for each shard."""
        parts = self._parts or self._computed()
        walk = Walk(self._census, Counted(self._census.counts, self._census.combinations))
        return [
            self._client.submit(_cut, part, *walk.next(a, b), bounds, pure=False)
            for part, (a, b) in zip(parts, self._bounds, strict=True)
        ]

    def forget(self) -> None:
        """Let the partitions go; were they needed again, they would be computed again."""
        self._parts = None


def _look(part: Any, places: np.ndarray) -> tuple[Inspection, ZeroRows, np.ndarray]:
    inspection, zero_rows = Inspection(), ZeroRows()
    sample = Sample(places)
    if len(part):
        Z = inspection.see(np.asarray(part))
        zero_rows.see(Z)
        sample.see(Z, 0)
        return inspection, zero_rows, sample.rows
    return inspection, zero_rows, np.empty((0, part.shape[1]), np.float32)


def _cut(
    part: Any, order: np.ndarray, cuts: np.ndarray, held: np.ndarray, bounds: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the held rows and the cells of a partition that go to each shard."""
    row = np.repeat(held - cuts[:-1], np.diff(cuts)) + np.arange(order.size)
    rows = as_floats(np.asarray(part))[order].astype(np.float32)
    owner = owner_of(row, bounds)
    return [(row[owner == s], rows[owner == s]) for s in range(bounds.shape[1] - 1)]


def _recipe(embedding: Any, design: Design, replay: Replay | None) -> Any:
    """Return the lazy result: each partition goes through the corrections that the run made."""
    import dask.array as da
    from dask.delayed import delayed

    if replay is None:
        return embedding.astype(np.float32)
    # each partition is worked on by one thread; the tables travel once, not with every partition
    setting = replace(replay.setting, params=replace(replay.setting.params, n_jobs=1))
    without_codes = replace(design, codes=np.empty((0, len(design.covariates)), np.int32))
    model = delayed((Replay(setting, replay.steps, replay.block_seed), without_codes))
    kind = np.min_scalar_type(design.n_levels - 1)
    codes = np.asarray(design.codes[0 : design.n_cells]).astype(kind)
    return da.map_blocks(
        _replayed,
        embedding,
        da.from_array(codes, chunks=(embedding.chunks[0], codes.shape[1])),
        model=model,
        chunks=embedding.chunks,
        meta=np.empty((0, 0), np.float32),
    )


def _replayed(
    part: Any, codes: np.ndarray, model: tuple[Replay, Design], block_info: Any
) -> np.ndarray:
    (first, last), _ = block_info[0]["array-location"]
    replay, design = model
    Z = np.require(as_floats(np.asarray(part)), requirements=["C", "W"])
    if len(Z) == 0:
        return Z.astype(np.float32)
    return replay.correct(Z, replace(design, codes=codes.astype(np.int32)), np.arange(first, last))
