"""Inputs that broke other tools, given to the program as files; numbers are rows of README.md."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from files import N_CELLS, anndata_06_file, anndata_07_file, sha256, small_adata

from harmonypy_lite.cli import program
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

FLAVORS = ("harmony2", "harmony1", "pooled")
FAST = ("--max-iter-harmony", "2", "--n-clusters", "3", "--no-early-stop")
SAME = {"max_iter_harmony": 2, "n_clusters": 3, "early_stop": False}


def call(*words: object) -> Result:
    return CliRunner().invoke(program, [str(word) for word in words])


def written(folder: Path, adata: anndata.AnnData, name: str = "cells.h5ad") -> Path:
    adata.write_h5ad(folder / name)
    return folder / name


def integrate(path: Path, *words: object, key: str = "donor") -> Result:
    return call("integrate", path, "-k", key, *FAST, *words)


def refused(path: Path, *words: object, key: str = "donor") -> str:
    """Return what is said; nothing is written, and the input stays as it is."""
    before, there = sha256(path), sorted(path.parent.iterdir())
    done = integrate(path, *words, key=key)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert (sha256(path), sorted(path.parent.iterdir())) == (before, there)
    return done.stderr


def done(path: Path, *words: object, key: str = "donor") -> tuple[np.ndarray, dict[str, Any]]:
    """Return the coordinates, which are finite, and what is said for machines."""
    before = sha256(path)
    out = path.with_name("out.h5ad")
    found = integrate(path, "-o", out, "--overwrite", "--json", *words, key=key)
    assert found.exit_code == 0, found.output
    assert sha256(path) == before
    moved = anndata.read_h5ad(out).obsm["X_pca_harmony"]
    assert moved.dtype == np.float32
    assert np.isfinite(moved).all()
    return moved, json.loads(found.stdout)


def told(said: dict[str, Any]) -> str:
    return " ".join(said["warnings"])


@pytest.fixture
def adata() -> anndata.AnnData:
    return small_adata()


# Batch columns.


def test_row_01__missing_values_are_refused_or_a_level(tmp_path, adata) -> None:
    adata.obs["donor"] = adata.obs["donor"].where(np.arange(N_CELLS) > 4)
    path = written(tmp_path, adata)
    said = refused(path)
    assert "'donor' has missing values in 5 of 90 cells" in said
    assert "--missing level" in said
    assert done(path, "--missing", "level")[1]["covariates"] == {"donor": 4}


def test_row_02__cell_names_as_batches_are_refused(tmp_path, adata) -> None:
    adata.obs["barcode"] = adata.obs_names
    said = refused(written(tmp_path, adata), key="barcode")
    assert "'barcode' has 90 levels" in said
    assert "cell names" in said


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("size", [1, 4])
def test_row_03__tiny_batches_are_warned_of(tmp_path, adata, flavor, size) -> None:
    adata.obs["donor"] = ["tiny"] * size + ["a", "b"] * ((N_CELLS - size) // 2) + ["a"] * (size % 2)
    moved, said = done(written(tmp_path, adata), "--flavor", flavor)
    assert f"donor=tiny ({size})" in told(said)
    assert np.abs(moved - adata.obsm["X_pca"])[:size].max() < 2 * adata.obsm["X_pca"].std()


def test_row_05__the_same_partition_twice_is_used_once(tmp_path, adata) -> None:
    adata.obs["sample"] = adata.obs["donor"].astype(str).str[::-1]
    path = written(tmp_path, adata)
    moved, said = done(path, "-k", "sample")
    assert "'sample' is left out" in told(said)
    assert moved.tobytes() == done(path)[0].tobytes()
    assert list(said["covariates"]) == ["donor"]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_row_06__nested_covariates_are_both_used(tmp_path, adata, flavor) -> None:
    adata.obs["platform"] = np.where(adata.obs["donor"] == "anna", "p", "q")
    _, said = done(written(tmp_path, adata), "-k", "platform", "--flavor", flavor)
    assert said["covariates"] == {"donor": 3, "platform": 2}


def test_row_07__theta_0_of_a_second_key_is_as_in_python(tmp_path, adata) -> None:
    moved, _ = done(written(tmp_path, adata), "-k", "chemistry", "--theta", "donor=2,chemistry=0")
    params = HarmonyParams(theta=[2, 0], **SAME)
    frame = adata.obs[["donor", "chemistry"]]
    assert moved.tobytes() == (
        integrate_embedding(adata.obsm["X_pca"], frame, params).embedding.tobytes()
    )


# Few cells, parameters.


@pytest.mark.parametrize("n", [2, 10, 40, 200])
def test_row_09__few_cells_work(tmp_path, n) -> None:
    adata = small_adata(max(n, 3))[:n].copy()
    moved, said = done(written(tmp_path, adata), "--n-clusters", min(3, n))
    assert len(moved) == said["n_cells"] == n


def test_row_09__fewer_cells_than_clusters_are_refused(tmp_path) -> None:
    path = written(tmp_path, small_adata(40))
    assert "only 40 cells" in refused(path, "--n-clusters", "41")


@pytest.mark.parametrize(
    ("words", "alike"),
    [
        ("--n-clusters 1", None),
        ("--sigma 1", "--sigma 1.0"),
        ("--sigma 1,1,1", "--sigma 1"),
        ("--theta 3", "--theta 3.0"),
        ("--theta 3,3,3,1,1", "--theta 3 --theta 1"),
        ("--theta donor=3,chemistry=1", "--theta 3,1"),
        ("--theta donor=3,3,3,chemistry=1", "--theta 3,1"),
        ("--ridge-lambda 2,2", "--ridge-lambda 2"),
    ],
)
def test_row_10__numbers_may_be_written_in_any_way(tmp_path, adata, words, alike) -> None:
    path = written(tmp_path, adata)
    moved, _ = done(path, "-k", "chemistry", *words.split())
    if alike is not None:
        assert moved.tobytes() == done(path, "-k", "chemistry", *alike.split())[0].tobytes()


@pytest.mark.parametrize(
    ("words", "lengths"),
    [
        ("--theta 1,2", "theta has 2 values.*1 covariate.*3 levels"),
        ("--theta donor=1,2", "2 values, 'donor' has 3 levels"),
        ("--sigma 0.1,0.2", "sigma has 2 values, but there are 3 clusters"),
        ("--ridge-lambda 1,2", "--ridge-lambda has 2 values"),
        ("--ridge-lambda 0", "--ridge-lambda 0"),
        ("--ridge-lambda 1,0,1", "--ridge-lambda 0"),
    ],
)
def test_row_11_and_16__wrong_lengths_and_lambda_0_are_refused(
    tmp_path, adata, words, lengths
) -> None:
    said = refused(written(tmp_path, adata), *words.split())
    assert re.search(lengths, said), said


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("words", ["--sigma 1e-4", "--theta 1e6", "--sigma 1e-4 --theta 1e6"])
def test_row_14__extremes_stay_finite(tmp_path, adata, flavor, words) -> None:
    done(written(tmp_path, adata), "--flavor", flavor, *words.split())


@pytest.mark.parametrize("flavor", FLAVORS[:2])
def test_row_15__a_small_lambda_is_as_in_python(tmp_path, adata, flavor) -> None:
    adata.obs["third"] = np.arange(N_CELLS) % 5 // 2
    keys = ["donor", "chemistry", "third"]
    more = [word for key in keys[1:] for word in ("-k", key)]
    words = ("--ridge-lambda", "1e-3", "--flavor", flavor)
    moved, _ = done(written(tmp_path, adata), *more, *words)
    params = HarmonyParams(ridge_lambda=1e-3, flavor=flavor, **SAME)
    wanted = integrate_embedding(adata.obsm["X_pca"], adata.obs[keys].astype(str), params)
    assert moved.tobytes() == wanted.embedding.tobytes()


# The embedding.


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("what", ["rows", "column", "constant column", "all"])
def test_row_12__zeros_and_constants_give_finite_coordinates(tmp_path, adata, flavor, what) -> None:
    Z = adata.obsm["X_pca"].copy()
    Z[{"rows": [4, 7], "all": slice(None)}.get(what, []), :] = 0
    Z[:, {"column": [2], "constant column": [2]}.get(what, [])] = 7 * (what == "constant column")
    adata.obsm["X_pca"] = Z
    moved, said = done(written(tmp_path, adata), "--flavor", flavor)
    if what == "rows":
        assert "2 of 90 rows" in told(said)
        assert not moved[[4, 7]].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("memory", ["fast", "scratch"])
def test_row_13__values_that_are_not_finite_are_refused(tmp_path, adata, value, memory) -> None:
    adata.obsm["X_pca"][[7, 50], [0, 4]] = value
    said = refused(written(tmp_path, adata), "--memory", memory)
    assert "2 of 90 rows (first: 7, 50)" in said


@pytest.mark.parametrize("memory", ["fast", "scratch"])
@pytest.mark.parametrize("form", ["f2", "f8", ">f4", "i1", "i8", "u2", "frame"])
def test_row_17__types_are_taken_for_the_numbers_they_hold(tmp_path, adata, form, memory) -> None:
    Z = np.round(adata.obsm["X_pca"] * 4) + 20
    adata.obsm["X_pca"] = Z
    plain = done(written(tmp_path, adata))[0]
    frame = pd.DataFrame(Z, index=adata.obs_names, columns=list("abcdef"))
    adata.obsm["X_pca"] = frame if form == "frame" else Z.astype(form)
    moved, _ = done(written(tmp_path, adata), "--memory", memory)
    assert moved.tobytes() == plain.tobytes()


def _codes(adata: anndata.AnnData) -> pd.Series:
    return adata.obs["donor"].cat.codes


@pytest.mark.parametrize(
    "form",
    [
        lambda adata: adata.obs["donor"].cat.set_categories(["0", "anna", "bea", "carl", "z"]),
        lambda adata: adata.obs["donor"].astype(str).astype(object),
        lambda adata: _codes(adata).astype(np.int64),
        lambda adata: _codes(adata).astype(float),
        lambda adata: _codes(adata).astype("Int64"),
        lambda adata: _codes(adata).astype(np.uint8),
    ],
    ids=["unused categories", "texts", "int", "float", "Int64", "uint8"],
)
def test_row_18__column_types_of_one_partition_give_the_same_bytes(tmp_path, adata, form) -> None:
    plain = done(written(tmp_path, adata))[0]
    adata.obs["donor"] = form(adata)
    moved, said = done(written(tmp_path, adata))
    assert said["covariates"] == {"donor": 3}
    assert moved.tobytes() == plain.tobytes()


def test_row_18__booleans_are_levels(tmp_path, adata) -> None:
    adata.obs["treated"] = np.arange(N_CELLS) % 3 == 0
    assert done(written(tmp_path, adata), key="treated")[1]["covariates"] == {"treated": 2}


def test_row_19__another_basis_is_found_by_its_name(tmp_path, adata) -> None:
    adata.obsm["X_scvi"] = adata.obsm.pop("X_pca")
    path = written(tmp_path, adata)
    assert "obsm has: X_scvi" in refused(path)
    assert done(path, "--basis", "X_scvi")[1]["n_dims"] == 6


# How a run ends, and what it depends on.


def test_row_21__the_reason_for_stopping_is_told(tmp_path) -> None:
    path = written(tmp_path, small_adata(400))
    words = ("--early-stop", "--tol-harmony")
    assert done(path, *words, "0.9")[1]["stopped"] == "converged"
    _, said = done(path, *words, "0")
    assert said["stopped"] == "max_iter_harmony"
    assert "not settled after 2 iterations" in told(said)
    rising = ("--flavor", "harmony1", "--max-iter-harmony", "60")
    _, said = done(path, *words, "0", *rising)
    assert said["stopped"] == "objective rose"
    assert said["objective"][-1] > said["objective"][-2]
    text = integrate(path, *words, "0", *rising).stdout
    assert re.search(r"stopped: the objective .*\brose\b", text)


def test_row_23__threads_change_no_byte(tmp_path) -> None:
    path = written(tmp_path, small_adata(3000))
    assert len({done(path, "--n-jobs", jobs)[0].tobytes() for jobs in (1, 2, 5)}) == 1


# Files.


def _duplicates(path: Path) -> Path:
    adata = small_adata()
    adata.obs_names = ["same"] * N_CELLS
    return written(path.parent, adata)


def _gzipped(path: Path) -> Path:
    small_adata().write_h5ad(path, compression="gzip")
    return path


def _spaces(path: Path) -> Path:
    folder = path.parent / "a folder, é"
    folder.mkdir()
    return written(folder, small_adata(), "my cells (1).h5ad")


def _read_only(path: Path) -> Path:
    small_adata().write_h5ad(path)
    path.chmod(0o444)
    return path


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")
@pytest.mark.parametrize(
    "make",
    [anndata_06_file, anndata_07_file, _duplicates, _gzipped, _spaces, _read_only],
    ids=lambda make: make.__name__.strip("_"),
)
def test_row_24__files_of_many_kinds_are_integrated(tmp_path, make: Callable) -> None:
    path = make(tmp_path / "cells.h5ad")
    plain, _ = done(written(tmp_path, small_adata(), "plain.h5ad"))
    moved, _ = done(path)
    assert moved.tobytes() == plain.tobytes()


def test_row_24__a_file_with_x_alone_says_what_it_lacks(tmp_path) -> None:
    path = tmp_path / "a.h5ad"
    anndata.AnnData(np.ones((5, 3), np.float32)).write_h5ad(path)
    assert "There is no obs column 'donor'" in refused(path)
    with h5py.File(path, "r+") as file:
        for name in list(file):
            if name != "X":
                del file[name]
    assert "obs" in refused(path)


# Reference mapping.


def _counts(n: int, seed: int) -> anndata.AnnData:
    rng = np.random.default_rng(seed)
    rates = np.random.default_rng(0).gamma(2, 1, (3, 60))[rng.integers(0, 3, n)]
    obs = pd.DataFrame(
        {"donor": rng.choice(["a", "b"], n)}, index=[f"{seed}-{i}" for i in range(n)]
    )
    var = pd.DataFrame(index=[f"gene{g}" for g in range(60)])
    return anndata.AnnData(rng.poisson(4 * rates).astype(np.float32), obs=obs, var=var)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    path = written(folder, _counts(300, 1))
    words = ("--preprocess", "--save-model", folder / "m.h5", "--save-genes")
    made = integrate(path, *words)
    assert made.exit_code == 0, made.output
    return folder / "m.h5"


def mapped(folder: Path, adata: anndata.AnnData, model: Path, *words: object) -> Result:
    path = written(folder, adata, "query.h5ad")
    out = folder / "mapped.h5ad"
    return call("map", path, "-m", model, "-o", out, "--overwrite", "--json", *words)


@pytest.mark.parametrize("change", ["order", "categorical", "lower limit"])
def test_row_25__genes_are_matched_by_name(tmp_path, model, change) -> None:
    query = _counts(100, 2)
    plain = mapped(tmp_path, query, model)
    assert plain.exit_code == 0, plain.output
    wanted = anndata.read_h5ad(tmp_path / "mapped.h5ad").obsm["X_pca_harmony"]
    if change == "order":
        query = query[:, np.random.default_rng(0).permutation(60)].copy()
    elif change == "categorical":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            query.var.index = pd.CategoricalIndex(query.var_names)
    found = mapped(tmp_path, query, model, *(["--max-missing", 0] * (change == "lower limit")))
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["missing_genes"] == 0
    moved = anndata.read_h5ad(tmp_path / "mapped.h5ad").obsm["X_pca_harmony"]
    np.testing.assert_allclose(moved, wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_row_25__missing_and_duplicate_genes_are_told_or_refused(tmp_path, model) -> None:
    few = mapped(tmp_path, _counts(100, 2)[:, 6:].copy(), model)
    assert few.exit_code == 0, few.output
    assert json.loads(few.stdout)["missing_genes"] == pytest.approx(0.1)
    fewer = mapped(tmp_path, _counts(100, 2)[:, 40:].copy(), model)
    assert fewer.exit_code == 2
    assert "--max-missing=0.2" in fewer.stderr
    twice = _counts(100, 2)
    twice.var_names = ["gene1" if name == "gene0" else name for name in twice.var_names]
    refused_ = mapped(tmp_path, twice, model)
    assert refused_.exit_code == 2
    assert "gene1" in refused_.stderr


# Metrics.


@pytest.mark.parametrize(
    ("case", "lacking"),
    [
        ("k >= N", "ilisi cilisi graph_connectivity clisi"),
        ("one label", "clisi nmi ari silhouette_label scib robust"),
        ("labels missing", ""),
        ("duplicates", ""),
    ],
)
def test_row_27__scores_are_numbers_or_say_why_not(tmp_path, case, lacking) -> None:
    n = 12 if case == "k >= N" else 300
    adata = small_adata(n)
    adata.obs["type"] = np.where(np.arange(n) % 2, "T", "B")
    if case == "one label":
        adata.obs["type"] = "T"
    if case == "labels missing":
        adata.obs.loc[adata.obs_names[:40], "type"] = None
    if case == "duplicates":
        adata.obsm["X_pca"] = np.repeat(adata.obsm["X_pca"][: n // 3], 3, axis=0)
    path = written(tmp_path, adata)
    found = call("score", path, "-k", "donor", "-l", "type", "-e", "X_pca", "--json")
    assert found.exit_code == 0, found.output
    table = pd.DataFrame(json.loads(found.stdout)).set_index("metric")
    assert table[["raw", "calibrated"]].stack().dropna().between(-1, 1.1).all()
    lacks = table[table["raw"].isna() & table["calibrated"].isna()]
    assert (lacks["reason"].str.len() > 0).all()
    assert set(lacking.split()) <= set(lacks.index) <= {*lacking.split(), "isolated_labels"}
    if case == "labels missing":
        assert (table.loc["bras", "n_cells"], table.loc["ilisi", "n_cells"]) == (n - 40, n)


def test_row_27__one_batch_is_refused(tmp_path, adata) -> None:
    adata.obs["donor"] = "anna"
    found = call("score", written(tmp_path, adata), "-k", "donor", "-e", "X_pca", "--json")
    assert found.exit_code == 2
    assert "donor" in found.stderr
