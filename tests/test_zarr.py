"""Zarr stores, formats 2 and 3: read, copied, added to in place, integrated with files."""

from __future__ import annotations

import errno
import shutil
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from files import small_adata, small_file

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import zarr_store
from harmonypy_lite.files.stores import open_store
from harmonypy_lite.io import integrate_file, integrate_files
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

pytest.importorskip("zarr")
FAST = HarmonyParams(max_iter_harmony=2, n_clusters=3, early_stop=False)
pytestmark = pytest.mark.filterwarnings("ignore:.*(zarr|Zarr|onsolidated).*")


def store(path: Path, version: int, adata: anndata.AnnData | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with anndata.settings.override(zarr_write_format=version):
            (small_adata() if adata is None else adata).write_zarr(path)
    return path


def read(path: Path) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.read_zarr(path)


def files_of(path: Path) -> dict[str, bytes]:
    found = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items()}


def wanted() -> np.ndarray:
    adata = small_adata()
    return integrate_embedding(adata.obsm["X_pca"], adata.obs[["donor"]], FAST).embedding


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("memory", ["fast", "scratch"])
@pytest.mark.parametrize("in_place", [False, True])
def test_zarr__gets_the_result_and_keeps_all_else(
    tmp_path: Path, version: int, memory: str, in_place: bool
) -> None:
    path = store(tmp_path / "a.zarr", version)
    before = files_of(path)
    done = integrate_file(path, "donor", params=FAST, memory=memory, in_place=in_place)
    assert done.path == (path if in_place else tmp_path / "a_harmony.zarr")
    after = files_of(done.path)
    metadata = {".zmetadata", "zarr.json"}
    changed = {n for n in before if after.get(n) != before[n]} - metadata
    added = set(after) - set(before)
    assert changed == set()
    assert added
    assert all(name.startswith(("obsm/X_pca_harmony/", "uns/harmony/")) for name in added)
    found = read(done.path)
    assert found.obsm["X_pca_harmony"].tobytes() == wanted().tobytes()
    assert found.uns["harmony"]["covariates"].tolist() == ["donor"]
    if not in_place:
        assert files_of(path) == before
    with pytest.raises(InvalidInput, match="already"):
        integrate_file(path, "donor", params=FAST, in_place=in_place)


@pytest.mark.parametrize("exchange", [True, False])
def test_zarr__a_result_in_place_is_replaced(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path / "a.zarr", 3)
    integrate_file(path, "chemistry", params=FAST, in_place=True)
    if not exchange:
        monkeypatch.setattr(zarr_store, "_exchange", lambda *_: False)
    integrate_file(path, "donor", params=FAST, in_place=True, overwrite=True)
    found = read(path)
    assert found.obsm["X_pca_harmony"].tobytes() == wanted().tobytes()
    assert found.uns["harmony"]["covariates"].tolist() == ["donor"]
    assert not [p for p in path.iterdir() if p.name.startswith(".harmonypy")]


def test_zarr__a_failure_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path / "a.zarr", 2)
    before = files_of(path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr_store, "_write_records", full)
    for in_place in (True, False):
        with pytest.raises(OSError, match="No space left"):
            integrate_file(path, "donor", params=FAST, in_place=in_place)
        assert files_of(path) == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("in_place", [True, False])
def test_zarr__with_a_listed_group_that_is_gone_is_left_as_it_was(
    in_place: bool, tmp_path: Path
) -> None:
    path = store(tmp_path / "a.zarr", 2)
    assert (path / ".zmetadata").is_file(), "the list from which the group is not taken"
    shutil.rmtree(path / "uns")
    before = files_of(path)
    with pytest.raises(InvalidInput, match=r"a\.zarr: uns is listed .* but is not there"):
        integrate_file(path, "donor", params=FAST, in_place=in_place)
    assert files_of(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_zarr__and_files_are_integrated_together(tmp_path: Path) -> None:
    one = small_file(tmp_path / "a.h5ad")
    two = store(tmp_path / "b.zarr", 2)
    adata = small_adata()
    Z = np.concatenate([adata.obsm["X_pca"]] * 2)
    obs = anndata.concat([adata, adata], index_unique="-").obs[["donor"]]
    both = integrate_embedding(Z, obs, FAST).embedding
    for memory in ("lean", "scratch"):
        done = integrate_files([one, two], "donor", params=FAST, memory=memory, in_place=True,
                               overwrite=True)  # fmt: skip
        assert [each.path for each in done] == [one, two]
        found = np.concatenate(
            [anndata.read_h5ad(one).obsm["X_pca_harmony"], read(two).obsm["X_pca_harmony"]]
        )
        assert found.tobytes() == both.tobytes()


@pytest.mark.parametrize("version", [2, 3])
def test_zarr__contents_are_told(tmp_path: Path, version: int) -> None:
    path = store(tmp_path / "a.zarr", version)
    with open_store(path) as opened:
        contents = opened.contents()
        np.testing.assert_array_equal(opened.embedding("X_pca"), small_adata().obsm["X_pca"])
    assert contents.n_cells == 90
    assert {c.name: c.n_levels for c in contents.columns}["donor"] == 3
    assert contents.n_bytes > 10_000
