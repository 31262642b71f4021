"""Writing: the result is complete or absent, and nothing else in the file changes."""

from __future__ import annotations

import os
import shutil
import stat
import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from files import (
    N_CELLS,
    anndata_06_file,
    anndata_07_file,
    changes,
    sha256,
    small_adata,
    small_file,
    snapshot,
)
from systems import posix

from harmonypy_lite import run
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import output
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

FAST = HarmonyParams(max_iter_harmony=2, n_clusters=3)
RESULT = "obsm/X_pca_harmony"


def integrate(path, **how):
    return integrate_file(path, how.pop("key", "donor"), params=FAST, **how)


@pytest.fixture
def path(tmp_path):
    return small_file(tmp_path / "cells.h5ad")


@pytest.fixture
def no_work(monkeypatch):
    """Let the test fail when the integration starts."""

    def started(*_args, **_more):
        raise AssertionError("the work started before the check")

    monkeypatch.setattr(run, "integrate_embedding", started)


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.endswith(".partial")]


def is_addition(name):
    return name == RESULT or name == "uns/harmony" or name.startswith("uns/harmony/")


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_integrate_file__adds_the_result_and_leaves_all_else_identical(tmp_path, compression):
    path = small_file(tmp_path / "cells.h5ad", compression=compression)
    before, bytes_before = snapshot(path), sha256(path)
    done = integrate(path)
    assert done.path == tmp_path / "cells_harmony.h5ad"
    after = snapshot(done.path)
    assert sha256(path) == bytes_before
    assert RESULT in after
    assert {name for name in changes(before, after) if not is_addition(name)} == set()


def test_integrate_file__leaves_a_real_file_identical_but_for_the_result(real_path, tmp_path):
    source = real_path("kang_ifnb_pbmc")
    done = integrate(source, key="batch", out=tmp_path / "out.h5ad")
    difference = changes(snapshot(source), snapshot(done.path))
    assert RESULT in difference
    assert all(is_addition(name) for name in difference)
    assert done.path.stat().st_mode & stat.S_IWUSR  # the input is read-only, its copy is not


def test_integrate_file__gives_what_the_core_gives(path):
    adata = small_adata()
    done = integrate(path, key=["donor", "chemistry"])
    wanted = integrate_embedding(adata.obsm["X_pca"], adata.obs[["donor", "chemistry"]], FAST)
    found = anndata.read_h5ad(done.path)
    assert found.obsm["X_pca_harmony"].dtype == np.float32
    np.testing.assert_array_equal(found.obsm["X_pca_harmony"], wanted.embedding)
    assert found.uns["harmony"]["covariates"].tolist() == ["donor", "chemistry"]
    assert found.uns["harmony"]["n_levels"].tolist() == [3, 2]
    assert found.uns["harmony"]["parameters"]["max_iter_harmony"] == 2
    np.testing.assert_allclose(found.uns["harmony"]["objective"], done.summary["objective"])


def test_integrate_file__the_same_run_gives_the_same_file(path, tmp_path):
    one = integrate(path, out=tmp_path / "1.h5ad").path
    two = integrate(path, out=tmp_path / "2.h5ad").path
    assert sha256(one) == sha256(two)


@pytest.mark.parametrize("make", [anndata_06_file, anndata_07_file])
def test_integrate_file__old_layouts_come_out_readable(tmp_path, make):
    path = make(tmp_path / "old.h5ad")
    done = integrate(path)
    with h5py.File(done.path) as file:
        result = file[RESULT][...]
        np.testing.assert_array_equal(file["obsm/X_pca"][...], small_adata().obsm["X_pca"])
        assert file["uns/harmony"].attrs["encoding-type"] == "dict"
    wanted = integrate_embedding(
        small_adata().obsm["X_pca"], small_adata().obs[["donor"]], FAST
    ).embedding
    np.testing.assert_array_equal(result, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata says that the file is old
        found = anndata.read_h5ad(done.path)
    assert found.obs["donor"].tolist() == small_adata().obs["donor"].tolist()
    np.testing.assert_array_equal(found.obsm["X_pca_harmony"], wanted)
    others = changes(snapshot(path), snapshot(done.path)) - {"uns", "/"}
    assert not [n for n in others if not is_addition(n) and not n.startswith("obsm")]


def test_integrate_file__works_without_uns_and_with_duplicate_cell_names(tmp_path):
    adata = small_adata()
    adata.obs_names = ["same"] * N_CELLS
    adata.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["uns"]
    done = integrate(tmp_path / "a.h5ad")
    with pytest.warns(UserWarning, match="not unique"):
        found = anndata.read_h5ad(done.path)
    assert found.obsm["X_pca_harmony"].shape == (N_CELLS, 6)


def test_integrate_file__a_path_with_spaces_and_accents_works(path, tmp_path):
    odd = tmp_path / "été à la plage" / "données #1 %s.h5ad"
    odd.parent.mkdir()
    shutil.copyfile(path, odd)
    done = integrate(odd)
    assert done.path.name == "données #1 %s_harmony.h5ad"
    assert RESULT in snapshot(done.path)


@posix("modes of files")
def test_in_place__adds_the_result_and_keeps_mode_and_link(path, tmp_path):
    before = snapshot(path)
    path.chmod(0o640)
    link = tmp_path / "link.h5ad"
    link.symlink_to(path)
    done = integrate(link, in_place=True)
    assert link.is_symlink()
    assert done.path == link
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    difference = changes(before, snapshot(path))
    assert RESULT in difference
    assert all(is_addition(name) for name in difference)


@posix("modes of files")
def test_output__follows_the_umask_and_keeps_the_mode_of_a_replaced_file(path, tmp_path):
    old = os.umask(0o027)
    try:
        new = integrate(path).path
    finally:
        os.umask(old)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    new.chmod(0o600)
    integrate(path, overwrite=True)
    assert stat.S_IMODE(new.stat().st_mode) == 0o600


@posix("links that any user may make")
def test_output__through_a_link_replaces_the_file_it_points_to(path, tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "real.h5ad", tmp_path / "out.h5ad"
    link.symlink_to(real)
    integrate(path, out=link)
    assert link.is_symlink()
    assert RESULT in snapshot(real)


@pytest.mark.usefixtures("no_work")
def test_output__what_exists_is_refused_before_the_work(path, tmp_path):
    (tmp_path / "cells_harmony.h5ad").write_text("mine")
    (tmp_path / "hard.h5ad").hardlink_to(path)
    (tmp_path / "soft.h5ad").symlink_to(path)
    (tmp_path / "folder").mkdir()
    for how, said in [
        ({}, "exists already: --overwrite"),
        ({"out": path}, "is the input itself: use --in-place"),
        ({"out": path, "overwrite": True}, "is the input itself"),
        ({"out": tmp_path / "hard.h5ad", "overwrite": True}, "is the input itself"),
        ({"out": tmp_path / "soft.h5ad", "overwrite": True}, "is the input itself"),
        ({"out": tmp_path / "folder"}, "is a folder"),
        ({"out": tmp_path / "h.csv"}, "h.csv does not end in .h5ad.*-o .*h.h5ad"),
        ({"out": tmp_path / "h"}, "does not end in .h5ad"),
        ({"out": tmp_path / "h.zarr", "overwrite": True}, "does not end in .h5ad"),
        ({"out": tmp_path / "absent" / "o.h5ad"}, "does not exist"),
        ({"out": tmp_path / "o.h5ad", "in_place": True}, "choose one"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            integrate(path, **how)
    assert (tmp_path / "cells_harmony.h5ad").read_text() == "mine"


@pytest.mark.usefixtures("no_work")
def test_output__read_only_files_are_not_replaced(path, tmp_path):
    closed = tmp_path / "closed.h5ad"
    shutil.copyfile(path, closed)
    closed.chmod(0o444)
    path.chmod(0o444)
    with pytest.raises(InvalidInput, match=r"input .*cells.h5ad is read-only"):
        integrate(path, in_place=True)
    with pytest.raises(InvalidInput, match=r"output .*closed.h5ad is read-only"):
        integrate(path, out=closed, overwrite=True)


def test_output__a_read_only_input_is_copied_to_a_writable_output(path):
    path.chmod(0o444)
    assert os.access(integrate(path).path, os.W_OK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.usefixtures("no_work")
def test_output__a_closed_folder_is_refused_before_the_work(path, tmp_path, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda p, _mode: p != tmp_path)  # root may do all
    with pytest.raises(InvalidInput, match=r"Nothing can be written to .*-o FILE"):
        integrate(path)


def test_results__that_are_there_are_replaced_only_when_asked(path):
    integrate(path, in_place=True)
    size, before = path.stat().st_size, snapshot(path)
    with pytest.raises(InvalidInput, match=r"obsm\['X_pca_harmony'\] already.*--overwrite"):
        integrate(path, key="chemistry", in_place=True)
    assert changes(before, snapshot(path)) == set()
    integrate(path, key="chemistry", in_place=True, overwrite=True)
    assert changes(before, snapshot(path)) >= {RESULT, "uns/harmony/covariates"}
    # the old array, 2,160 bytes, stays in the file: until the end it is the one that counts
    assert path.stat().st_size < size + 40_000
    integrate(path, adjusted_basis="beside", in_place=True)
    assert {"obsm/beside", RESULT} <= snapshot(path).keys()


def test_results__a_foreign_uns_harmony_is_replaced_only_when_asked(path):
    with h5py.File(path, "r+") as file:
        file["uns/harmony/mine"] = 1
    with pytest.raises(InvalidInput, match=r"uns\['harmony'\] already"):
        integrate(path)
    assert "uns/harmony/mine" not in snapshot(integrate(path, overwrite=True).path)


@pytest.mark.parametrize("value", [1, "mine", [1.0, 2.0]])
def test_results__a_scalar_or_array_in_uns_harmony_is_not_ours(path, value):
    with h5py.File(path, "r+") as file:
        file["uns/harmony"] = value
    with pytest.raises(InvalidInput, match=r"uns\['harmony'\] already"):
        integrate(path)
    found = anndata.read_h5ad(integrate(path, overwrite=True).path)
    assert found.uns["harmony"]["adjusted_basis"] == "X_pca_harmony"


@pytest.mark.usefixtures("no_work")
def test_names__are_checked_before_the_work(path):
    for how, said in [
        ({"key": "donnor"}, "Did you mean 'donor'"),
        ({"key": ["donor", "donor"]}, "given twice"),
        ({"key": []}, "name of a column"),
        ({"adjusted_basis": "X_pca", "overwrite": True}, "the basis itself"),
        ({"preprocess": True, "basis": "b", "adjusted_basis": "b"}, "the basis itself"),
        ({"layer": "counts"}, "for --preprocess only"),
        ({"basis": "X_umap"}, r"obsm\['X_umap'\].*X_pca"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            integrate(path, **how)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["", "a/b", "/", "."])
def test_names__that_a_file_cannot_hold_are_refused_before_the_work(path, name):
    before = sha256(path)
    with pytest.raises(InvalidInput, match="adjusted_basis cannot be"):
        integrate(path, in_place=True, adjusted_basis=name)
    with pytest.raises(InvalidInput, match=r"^basis cannot be"):
        integrate(path, in_place=True, basis=name, preprocess=True)
    assert sha256(path) == before


def test_preprocess__makes_a_pca_in_the_output_and_leaves_the_counts(tmp_path):
    adata = small_adata()
    del adata.obsm["X_pca"], adata.varm["PCs"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    before = snapshot(tmp_path / "a.h5ad")
    done = integrate(tmp_path / "a.h5ad", preprocess=True)
    added = ("obsm/X_pca", "varm/PCs", "uns/pca")
    difference = {n for n in changes(before, snapshot(done.path)) if not is_addition(n)}
    assert difference
    assert all(name.startswith(added) for name in difference)
    found = anndata.read_h5ad(done.path)
    assert found.obsm["X_pca"].shape == found.obsm["X_pca_harmony"].shape == (N_CELLS, 39)
    assert found.varm["PCs"].shape == (40, 39)
    assert found.uns["pca"]["params"]["zero_center"]


def test_preprocess__a_pca_that_is_there_is_replaced_only_when_asked(path):
    with pytest.raises(InvalidInput, match=r"obsm\['X_pca'\] and varm\['PCs'\] already"):
        integrate(path, preprocess=True)
    done = integrate(path, preprocess=True, layer="dense", overwrite=True)
    assert anndata.read_h5ad(done.path).obsm["X_pca"].shape == (N_CELLS, 39)


def test_preprocess__a_missing_layer_or_normalised_values_are_refused(tmp_path):
    adata = small_adata()
    adata.X = adata.X * 0.37
    del adata.obsm["X_pca"], adata.varm["PCs"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InvalidInput, match=r"no counts .*normalised before.*--layer"):
        integrate(tmp_path / "a.h5ad", preprocess=True)
    with pytest.raises(InvalidInput, match=r"no layers/raw.*counts, dense"):
        integrate(tmp_path / "a.h5ad", preprocess=True, layer="raw")
    assert integrate(tmp_path / "a.h5ad", preprocess=True, layer="counts").path.exists()


def test_preprocess__what_would_stop_the_integration_is_found_before(tmp_path, monkeypatch):
    from harmonypy_lite import io

    adata = small_adata()
    del adata.obsm["X_pca"], adata.varm["PCs"]
    adata.obs["part"] = pd.Categorical(["x", None, "y"] * 30)
    adata.write_h5ad(tmp_path / "a.h5ad")
    monkeypatch.setattr(io, "make_pca", None)  # would fail if it was called
    with pytest.raises(InvalidInput, match="missing values in 30 of 90 cells"):
        integrate(tmp_path / "a.h5ad", key="part", preprocess=True)
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _folder: free)
    with pytest.raises(InvalidInput, match="Not enough space"):
        integrate(tmp_path / "a.h5ad", preprocess=True)


def test_missing__values_in_a_key_are_refused_or_a_level(tmp_path):
    adata = small_adata()
    adata.obs["part"] = pd.Categorical(["x", None, "y"] * 30)
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InvalidInput, match="30"):
        integrate(tmp_path / "a.h5ad", key="part")
    assert integrate(tmp_path / "a.h5ad", key="part", missing="level").path.exists()


def test_progress__is_called_after_each_round(path):
    seen = []
    done = integrate(path, progress=seen.append)
    assert len(seen) == sum(done.summary["rounds"])
    assert seen[-1].iteration == done.summary["iterations"]
