"""Dask arrays: the same bytes for any partitions and workers, lazy results, lost workers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import twin

from harmonypy_lite import pp
from harmonypy_lite.cells import arrangement, on_dask
from harmonypy_lite.cells.counted import Census, Counted
from harmonypy_lite.cells.on_dask import DaskCells
from harmonypy_lite.cells.shards import cuts_of, level_cuts, owner_of
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.lazy import integrate_lazy
from harmonypy_lite.method.passes import Correct, Reassign, Turn
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

pytestmark = [  # sockets and ports of the clusters
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Port .* is already in use"),
]

PARTITIONS = {
    1: (1300,),
    4: (1, 700, 99, 500),
    15: (10, 200, 3, 3, 90, 400, 1, 1, 92, 50, 150, 7, 93, 0, 200),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ports and dashboards
        cluster = distributed.LocalCluster(
            2, threads_per_worker=1, dashboard_address=":0", memory_limit="2GiB"
        )
    yield cluster
    cluster.close()


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with cluster.get_client() as client:
        yield client


def case(layout: str = "crossed", n: int = 1300, **parameters: Any) -> Any:
    Z, frame = twin.simulated(n, 7, layout)
    given = {"n_clusters": 9, "max_iter_harmony": 3, "early_stop": False, "n_jobs": 2}
    return Z, frame, HarmonyParams(**{**given, **parameters})


def assert_same(Z: Any, frame: pd.DataFrame, params: HarmonyParams, chunks: tuple) -> None:
    wanted = integrate_embedding(Z, frame, params)
    array = da.from_array(Z, chunks=(chunks, Z.shape[1]))
    found = integrate_lazy(array, design_from_columns(frame), params)
    assert is_dask(found.embedding)
    assert found.embedding.chunks == array.chunks
    assert found.embedding.compute().tobytes() == wanted.embedding.tobytes()
    assert found.outcome is not None
    assert wanted.outcome is not None
    assert found.outcome.O.tobytes() == wanted.outcome.O.tobytes()
    assert found.outcome.history == wanted.outcome.history
    assert found.summary | {"seconds": 0} == wanted.summary | {"seconds": 0}


@pytest.mark.parametrize("n", PARTITIONS)
@pytest.mark.parametrize("flavor", ["harmony2", "harmony1", "pooled"])
def test_dask__without_a_client_gives_the_bytes_of_memory(n: int, flavor: str) -> None:
    Z, frame, params = case(flavor=flavor)
    assert_same(Z, frame, params, PARTITIONS[n])


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("n", PARTITIONS)
@pytest.mark.parametrize("flavor", ["harmony2", "harmony1", "pooled"])
def test_dask__on_a_cluster_gives_the_bytes_of_memory(n: int, flavor: str) -> None:
    Z, frame, params = case(flavor=flavor)
    assert_same(Z, frame, params, PARTITIONS[n])


@pytest.mark.usefixtures("numbers")
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    "how",
    [
        {"layout": "one"},
        {"layout": "three", "batch_prune_threshold": 0.05},
        {"layout": "many", "theta": 1e4},
        {"n": 9000, "block_proportion": 0.5},  # several chunks for each worker
    ],
    ids=["one", "excluded", "steep", "chunks"],
)
def test_dask__on_a_cluster_all_passes_give_the_bytes_of_memory(how: dict[str, Any]) -> None:
    Z, frame, params = case(**how)
    assert_same(Z.astype(np.float64), frame, params, (len(Z) - 600, 600))


def test_dask__workers_that_are_threads_have_shards_of_their_own() -> None:
    distributed = pytest.importorskip("distributed")
    Z, frame, params = case()
    with (
        distributed.LocalCluster(3, processes=False, dashboard_address=":0") as cluster,
        cluster.get_client(),
    ):
        assert_same(Z, frame, params, PARTITIONS[4])
    assert not on_dask._SHARDS  # the workers forgot them


def test_dask__is_never_computed_whole() -> None:
    Z, frame, params = case()
    seen = []

    def part(block: np.ndarray) -> np.ndarray:
        seen.append(len(block))
        return block

    array = da.from_array(Z, chunks=(100, 7)).map_blocks(part, meta=np.empty((0, 0), "f4"))
    found = integrate_lazy(array, design_from_columns(frame), params)
    assert seen == [100] * 13  # once, one after another
    found.embedding[150:160].compute()
    assert seen == [100] * 14


@pytest.mark.parametrize("chunks", [(600, 3), ((1300,), (6, 1))])
def test_dask__chunked_columns_are_refused(chunks: Any) -> None:
    Z, frame, params = case()
    with pytest.raises(InvalidInput, match=r"columns .* are chunked .*rechunk\(\{1: -1\}\)"):
        integrate_lazy(da.from_array(Z, chunks=chunks), design_from_columns(frame), params)


def test_dask__unknown_chunks_are_refused() -> None:
    Z, frame, params = case()
    array = da.from_array(Z, chunks=(600, 7))
    array = array[array[:, 0] > -100]
    with pytest.raises(InvalidInput, match="compute_chunk_sizes"):
        integrate_lazy(array, design_from_columns(frame), params)


@pytest.mark.usefixtures("client")
def test_dask__bad_rows_and_zero_rows_are_counted_over_partitions() -> None:
    Z, frame, params = case()
    Z = Z.copy()
    Z[[3, 1200]] = 0
    design = design_from_columns(frame)
    with pytest.warns(HarmonyWarning, match=r"2 of 1300 rows .* \(first: 3, 1200\)"):
        integrate_lazy(da.from_array(Z, chunks=(500, 7)), design, params)
    Z[[7, 800], 1] = np.nan
    with pytest.raises(InvalidInput, match=r"in 2 of 1300 rows \(first: 7, 800\)"):
        integrate_lazy(da.from_array(Z, chunks=(500, 7)), design, params)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("n", PARTITIONS)
@pytest.mark.parametrize("flavor", ["harmony2", "harmony1", "pooled"])
def test_batch__on_a_cluster_gives_the_bytes_of_memory(n: int, flavor: str) -> None:
    Z, frame, params = case("many", flavor=flavor, sync="batch")
    assert_same(Z, frame, params, PARTITIONS[n])


def test_batch__without_a_client_gives_the_bytes_of_memory() -> None:
    Z, frame, params = case("three", sync="batch")
    assert_same(Z, frame, params, PARTITIONS[15])


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("layout", ["crossed", "three"])
def test_batch__on_a_cluster_several_covariates_agree_to_rounding(layout: str) -> None:
    # sums over the levels of further covariates are rounded where shards are cut
    Z, frame, params = case(layout, sync="batch")
    wanted = integrate_embedding(Z, frame, params).embedding
    array = da.from_array(Z, chunks=(500, 7))
    found = integrate_lazy(array, design_from_columns(frame), params).embedding.compute()
    assert np.abs(found - wanted).max() < 1e-4 * Z.std()


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("layout", "sync", "barriers"),
    [("one", "exact", 20), ("one", "batch", 1), ("crossed", "batch", 4)],
)
def test_batch__workers_wait_for_each_other_once_a_turn(
    layout: str, sync: str, barriers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, frame, params = case(layout, sync=sync, max_iter_harmony=1)
    asked: list[str] = []
    real = DaskCells._ask

    def ask(self: DaskCells, function: Any, *arguments: Any) -> Any:
        asked.append(function.__name__)
        return real(self, function, *arguments)

    monkeypatch.setattr(DaskCells, "_ask", ask)
    integrate_lazy(da.from_array(Z, chunks=(500, 7)), design_from_columns(frame), params)
    # besides 4 rounds: first assignment, moments, correction, and the end
    assert len(asked) == 4 * barriers + 4


def test_batch__levels_stay_together_and_are_spread_evenly() -> None:
    draws = np.random.default_rng(0)
    level = np.sort(draws.integers(0, 30, 90))
    size = draws.integers(1, 100, 90)
    for n_shards in (1, 2, 7, 64):
        cuts = level_cuts(size, level, n_shards)
        assert (cuts[0], cuts[-1], len(cuts)) == (0, 90, n_shards + 1)
        assert (np.diff(cuts) >= 0).all()
        assert all(level[q - 1] < level[q] for q in cuts[1:-1] if 0 < q < 90)
        held = np.add.reduceat(np.append(size, 0), cuts[:-1]) * (np.diff(cuts) > 0)
        assert held.sum() == size.sum()
        largest = np.bincount(level, size).max()
        assert held.max() <= size.sum() / n_shards + largest


@pytest.mark.parametrize(
    ("sync", "task", "at"),
    [
        ("exact", Reassign, 30),
        ("exact", Correct, 1),
        ("batch", Turn, 6),
    ],
)
def test_dask__a_lost_worker_changes_nothing(
    sync: str, task: type, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    Z, frame, params = case("one" if sync == "batch" else "crossed", sync=sync)
    seen: list[int] = []
    real = DaskCells._ask

    def ask(self: DaskCells, function: Any, *arguments: Any) -> Any:
        of_interest = any(isinstance(each, task) for each in arguments)
        seen.extend([1] * of_interest)
        if of_interest and len(seen) == at:
            # one worker gets the pass and does it, the other dies of it
            self._client.run(os._exit, 1, workers=self._addresses[:1], on_error="ignore")
        return real(self, function, *arguments)

    monkeypatch.setattr(DaskCells, "_ask", ask)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster,
        cluster.get_client(),
    ):
        assert_same(Z, frame, params, PARTITIONS[4])
    assert len(seen) > at, "it was not done again"


@pytest.mark.usefixtures("client")
def test_dask__workers_that_are_lost_again_and_again_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Z, frame, params = case()

    def ask(self: DaskCells, *_: Any) -> Any:
        raise on_dask.LostShard("gone")

    monkeypatch.setattr(DaskCells, "_ask", ask)
    array = da.from_array(Z, chunks=(500, 7))
    with pytest.raises(RuntimeError, match="lost 5 times in a row"):
        integrate_lazy(array, design_from_columns(frame), params)


def test_shards__have_whole_chunks_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "CHUNK", 40)
    codes = np.random.default_rng(0).integers(0, 3, (1000, 1)).astype(np.int32)
    census = Census(codes, lambda place: place % 3, 4, 100)  # the last block is empty
    counted = Counted(census.counts, census.combinations)
    for n_shards in (1, 3, 20):
        cuts = cuts_of(counted, n_shards)
        assert (cuts[:, 0] == counted.block_chunks[:-1]).all()
        assert (cuts[:, -1] == counted.block_chunks[1:]).all()
        owner = owner_of(np.arange(1000), counted.chunk_start[cuts])
        sizes = np.diff(counted.chunk_start[cuts], axis=1)
        np.testing.assert_array_equal(np.bincount(owner, minlength=n_shards), sizes.sum(axis=0))
        for a, b in zip(counted.chunk_start[:-1], counted.chunk_start[1:], strict=True):
            assert np.unique(owner[a:b]).size == 1


def test_harmony_integrate__takes_and_gives_dask_arrays() -> None:
    Z, frame, _ = case()
    frame.index = frame.index.astype(str)
    adata = anndata.AnnData(obs=frame, obsm={"X_pca": np.array(Z)})
    lazy = anndata.AnnData(obs=frame, obsm={"X_pca": da.from_array(Z, chunks=(500, 7))})
    for each in (adata, lazy):
        pp.harmony_integrate(each, ["batch", "chemistry"], n_clusters=5)
    assert is_dask(lazy.obsm["X_pca_harmony"])
    found = lazy.obsm["X_pca_harmony"].compute()
    assert found.tobytes() == adata.obsm["X_pca_harmony"].tobytes()
    assert lazy.uns["harmony"]["n_cells"] == 1300


def test_harmony_integrate__takes_what_anndata_reads_lazily(tmp_path: Any) -> None:
    pytest.importorskip("zarr")
    read_lazy = pytest.importorskip("anndata.experimental").read_lazy
    pytest.importorskip("xarray")
    Z, frame, _ = case()
    frame.index = frame.index.astype(str)
    adata = anndata.AnnData(obs=frame, obsm={"X_pca": np.array(Z)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats and of what is experimental
        adata.write_zarr(tmp_path / "a.zarr")
        lazy = read_lazy(tmp_path / "a.zarr")
    for each in (adata, lazy):
        pp.harmony_integrate(each, "batch", n_clusters=5)
    found = lazy.obsm["X_pca_harmony"].compute()
    assert found.tobytes() == adata.obsm["X_pca_harmony"].tobytes()
