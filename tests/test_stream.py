"""Cells on disk: the same bytes as in memory, whatever the storage, batches and threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import twin

from harmonypy_lite.cells import arrangement
from harmonypy_lite.cells.arrangement import arrange
from harmonypy_lite.cells.counted import Census, Counted, Walk
from harmonypy_lite.cells.row_file import RowFile
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotConvergedWarning
from harmonypy_lite.method import blocks
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding
from harmonypy_lite.stream import integrate_stream, rows_per_batch

FLAVORS = ("harmony2", "harmony1", "pooled")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut blocks into several chunks, with tiles of their own, though the cells are few."""
    monkeypatch.setattr(arrangement, "CHUNK", 300)


def assert_same_as_in_memory(
    Z: Any, frame: pd.DataFrame, folder: Path, n_rows: int = 700, source: Any = None, **parameters
) -> None:
    arguments = {"n_clusters": 9, "max_iter_harmony": 3, "early_stop": False, "n_jobs": 1}
    params = HarmonyParams(**{**arguments, **parameters})
    wanted = integrate_embedding(Z, frame, params)
    assert wanted.outcome is not None
    design = design_from_columns(frame)
    source = Z if source is None else source
    with integrate_stream(source, design, params, folder, n_rows=n_rows) as found:
        assert found.outcome is not None
        batches = list(found.batches)
        assert len(batches) == -(-len(Z) // n_rows)
        assert np.concatenate(batches).tobytes() == wanted.embedding.tobytes()
        assert found.outcome.O.tobytes() == wanted.outcome.O.tobytes()
        assert found.outcome.effects.W.tobytes() == wanted.outcome.effects.W.tobytes()
        assert found.outcome.history == wanted.outcome.history
        without_time = {"seconds": 0}
        assert found.summary | without_time == wanted.summary | without_time


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "many", "crossed", "three"])
def test_stream__gives_the_same_bytes_as_memory(tmp_path: Path, flavor: str, layout: str) -> None:
    Z, frame = twin.simulated(2600, 10, layout)
    assert_same_as_in_memory(Z, frame, tmp_path, flavor=flavor, block_proportion=0.3)


@pytest.mark.parametrize("theta", [2.0, 1e4])
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("n_rows", [1, 256, 5000])
def test_stream__does_not_depend_on_batches_threads_or_steepness(
    tmp_path: Path, theta: float, n_jobs: int, n_rows: int
) -> None:
    Z, frame = twin.simulated(1300, 7, "crossed")
    assert_same_as_in_memory(Z, frame, tmp_path, n_rows, theta=theta, n_jobs=n_jobs)


@pytest.mark.parametrize("layout", ["nested", "three"])
def test_stream__excluded_combinations_give_the_same_bytes(tmp_path: Path, layout: str) -> None:
    # levels far from some clusters are pruned there: their cells take a pass of their own
    Z, frame = twin.simulated(1500, 7, layout)
    assert_same_as_in_memory(Z, frame, tmp_path, batch_prune_threshold=0.05)


def as_dataset(Z: np.ndarray, folder: Path, **how: Any) -> Any:
    return h5py.File(folder / "z.h5", "w").create_dataset("z", data=Z, **how)


def as_zarr(Z: np.ndarray, folder: Path, version: int) -> Any:
    zarr = pytest.importorskip("zarr")
    made = zarr.open_group(str(folder / "z.zarr"), mode="w", zarr_format=version).create_array(
        "z", shape=Z.shape, chunks=(300, 4), dtype=Z.dtype
    )
    made[:] = Z
    return made


def as_memmap(Z: np.ndarray, folder: Path) -> Any:
    np.save(folder / "z.npy", Z)
    return np.load(folder / "z.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "stored",
    [
        as_dataset,
        lambda Z, folder: as_dataset(Z, folder, chunks=(300, 4), compression="gzip"),
        lambda Z, folder: as_dataset(Z.astype(np.float64), folder),
        lambda Z, folder: as_dataset(np.asfortranarray(Z), folder, chunks=(7, 10)),
        lambda Z, folder: as_zarr(Z, folder, 2),
        lambda Z, folder: as_zarr(Z, folder, 3),
        as_memmap,
    ],
    ids=["h5", "gzip", "float64", "thin", "zarr2", "zarr3", "memmap"],
)
def test_stream__takes_any_array_that_can_be_sliced(tmp_path: Path, stored: Callable) -> None:
    Z, frame = twin.simulated(1000, 10, "one")
    assert_same_as_in_memory(Z, frame, tmp_path, source=stored(Z, tmp_path))


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1.0, 1e30])
def test_stream__double_precision_of_any_size_gives_the_same_bytes(
    tmp_path: Path, scale: float
) -> None:
    Z, frame = twin.simulated(500, 6, "one")
    Z = Z.astype(np.float64) * scale * np.pi
    assert_same_as_in_memory(Z, frame, tmp_path, max_iter_harmony=1)


def test_stream__codes_may_be_on_disk(tmp_path: Path) -> None:
    Z, frame = twin.simulated(900, 6, "three")
    design = design_from_columns(frame)
    params = HarmonyParams(n_clusters=5, max_iter_harmony=2, early_stop=False, n_jobs=1)
    wanted = integrate_embedding(Z, frame, params)
    object.__setattr__(design, "codes", as_memmap(design.codes, tmp_path))
    with integrate_stream(Z, design, params, tmp_path, n_rows=100) as found:
        assert np.concatenate(list(found.batches)).tobytes() == wanted.embedding.tobytes()


def test_stream__one_batch_comes_back_as_it_was(tmp_path: Path) -> None:
    Z, _ = twin.simulated(300, 5, "one")
    frame = pd.DataFrame({"batch": ["only"] * 300})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)
        design = design_from_columns(frame)
    with ExitStack() as stack:
        run = integrate_stream(Z.astype(np.float64), design, HarmonyParams(), tmp_path)
        with pytest.warns(HarmonyWarning, match="nothing to correct"):
            found = stack.enter_context(run)
        assert np.concatenate(list(found.batches)).tobytes() == Z.tobytes()
        assert found.summary["stopped"] == "nothing to correct"


def test_stream__bad_rows_are_counted_over_batches(tmp_path: Path) -> None:
    Z, frame = twin.simulated(300, 5, "one")
    Z = Z.copy()
    Z[[7, 150, 299], 2] = [np.nan, np.inf, -np.inf]
    design = design_from_columns(frame)
    said = r"NaN or infinite values in 3 of 300 rows \(first: 7, 150, 299\)"
    with (
        pytest.raises(InvalidInput, match=said),
        integrate_stream(Z, design, HarmonyParams(), tmp_path, n_rows=64),
    ):
        raise AssertionError("the run should have been refused")


def test_stream__warns_as_a_run_in_memory_does(tmp_path: Path) -> None:
    Z, frame = twin.simulated(300, 5, "one")
    Z = Z.copy()
    Z[[5, 250]] = 0
    design = design_from_columns(frame)
    params = HarmonyParams(max_iter_harmony=1, n_clusters=3, tol_harmony=0.0)
    with (
        pytest.warns(HarmonyWarning, match=r"2 of 300 rows .* \(first: 5, 250\)"),
        pytest.warns(NotConvergedWarning, match="after 1 iterations"),
        integrate_stream(Z, design, params, tmp_path, n_rows=100) as found,
    ):
        result = np.concatenate(list(found.batches))
    assert not result[[5, 250]].any()


def test_stream__lengths_that_differ_are_refused(tmp_path: Path) -> None:
    Z, frame = twin.simulated(300, 5, "one")
    with (
        pytest.raises(InvalidInput, match="299 rows and the batch"),
        integrate_stream(Z[:299], design_from_columns(frame), HarmonyParams(), tmp_path),
    ):
        raise AssertionError("the run should have been refused")


@pytest.mark.parametrize("layout", ["one", "many", "nested", "three"])
def test_counted__says_what_the_arrangement_of_all_cells_says(layout: str) -> None:
    _, frame = twin.simulated(2000, 5, layout)
    codes = design_from_columns(frame).codes
    block = blocks.block_of_cells(np.arange(2000), 6, 3)
    counts = [np.unique(column).size for column in codes.T]
    whole = arrange(codes, block, 6, counts)
    census = Census(codes, lambda place: block[place], 6, 333)
    counted = Counted(census.counts, census.combinations)
    for name in ("combinations", "chunk_start", "block_chunks", "tile_start", "chunk_tiles"):
        np.testing.assert_array_equal(getattr(counted, name), getattr(whole, name), name)
    everything = slice(0, 2000)
    np.testing.assert_array_equal(counted.codes_at(everything), whole.codes)
    np.testing.assert_array_equal(
        counted.combination_at(slice(13, 1777)), whole.combination[13:1777]
    )
    for chunk in range(len(whole.chunk_start) - 1):
        cuts = chunk, chunk + 1
        for ours, theirs in zip(counted.groups(*cuts), whole.groups(*cuts), strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
    for ours, theirs in zip(counted.block_levels, whole.block_levels, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    walk, place = Walk(census, counted), np.empty(2000, int)
    for a in range(0, 2000, 170):  # not the batches of the census
        b = min(a + 170, 2000)
        order, cuts, held = walk.next(a, b)
        for r, first in enumerate(held):
            own = order[cuts[r] : cuts[r + 1]]
            place[first : first + own.size] = own + a
    np.testing.assert_array_equal(place, whole.order)


def test_census__many_covariates_are_numbered_without_overflow() -> None:
    draws = np.random.default_rng(0)
    codes = draws.integers(0, 2**31 - 1, (50, 4), dtype=np.int32)
    codes[25:] = codes[:25]
    census = Census(codes, lambda place: np.zeros(place.size, int), 1, 10)
    np.testing.assert_array_equal(census.counts, np.full((1, 25), 2))
    whole = arrange(codes, np.zeros(50, int), 1, [25] * 4)
    np.testing.assert_array_equal(census.combinations, whole.combinations)


@pytest.mark.parametrize("missing", [(), ("preadv", "pwrite", "posix_fallocate")])
def test_row_file__reads_what_was_written(
    tmp_path: Path, missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    for name in missing:  # as on systems that lack them
        monkeypatch.delattr(os, name)
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    file = RowFile(tmp_path / "rows", 40, 3)
    assert (tmp_path / "rows").stat().st_size == 480
    file.write(25, rows[25:])
    file.write(0, rows[:25])
    found = file.read(slice(10, 37), np.empty((27, 3), np.float32))
    np.testing.assert_array_equal(found, rows[10:37])
    file.close()
    again = RowFile(tmp_path / "rows", 40, 3)
    np.testing.assert_array_equal(again.read(slice(0, 40), np.empty((40, 3), np.float32)), rows)
    with open(tmp_path / "rows", "r+b") as handle:
        handle.truncate(100)
    with pytest.raises(OSError, match="shorter than it was"):
        again.read(slice(0, 40), np.empty((40, 3), np.float32))
    again.close()


def test_batches__are_whole_chunks_of_the_storage(tmp_path: Path) -> None:
    data = as_dataset(np.zeros((10, 4), np.float32), tmp_path, chunks=(7, 4))
    most = 32 * 2**20 // 32
    assert rows_per_batch(data) == most // 7 * 7
    assert rows_per_batch(np.zeros((10, 4))) == most
