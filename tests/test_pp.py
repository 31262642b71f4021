"""harmony_integrate and preprocess on AnnData objects of every kind."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from dataclasses import fields

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from files import N_CELLS, small_adata, small_file

from harmonypy_lite import pp, run
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.pp import harmony_integrate, preprocess
from harmonypy_lite.run import Progress, integrate_embedding
from harmonypy_lite.threads import Workers

FAST = {"max_iter_harmony": 2, "n_clusters": 3}


@pytest.fixture
def no_work(monkeypatch):
    """Let the test fail when the integration starts."""

    def started(*_args, **_more):
        raise AssertionError("the work started before the check")

    monkeypatch.setattr(run, "integrate_embedding", started)


def test_harmony_integrate__has_the_parameters_and_defaults_of_the_dataclass():
    signature = inspect.signature(harmony_integrate).parameters
    for parameter in fields(HarmonyParams):
        assert signature[parameter.name].default == parameter.default
        assert signature[parameter.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.metadata["meaning"] in harmony_integrate.__doc__
    own = ["adata", "key", "basis", "adjusted_basis", "missing", "protect", "verbose"]
    kept = ["save_model", "store_model", "save_genes"]
    assert set(signature) == {*own, *kept, *(p.name for p in fields(HarmonyParams))}


def test_harmony_integrate__passes_every_parameter_on(monkeypatch):
    given = {
        "flavor": "harmony1",
        "start": "centred",
        "n_clusters": 7,
        "theta": [1.0],
        "sigma": 0.2,
        "tau": 5.0,
        "alpha": 0.3,
        "ridge_lambda": 2.0,
        "batch_prune_threshold": None,
        "block_proportion": 0.1,
        "sync": "batch",
        "max_iter_harmony": 3,
        "max_iter_clustering": 6,
        "tol_harmony": 0.5,
        "tol_clustering": 0.25,
        "early_stop": False,
        "rng": 9,
        "n_jobs": 1,
        "memory": "lean",
    }
    assert set(given) == {p.name for p in fields(HarmonyParams)}
    seen = {}

    def record(_embedding, _batches, params, **more):
        seen.update(params=params, **more)
        return integrate_embedding(
            small_adata().obsm["X_pca"], small_adata().obs[["donor"]], params
        )

    monkeypatch.setattr(run, "integrate_embedding", record)
    harmony_integrate(small_adata(), "donor", missing="level", **given)
    assert seen["params"] == HarmonyParams(**given)
    assert seen["missing"] == "level"


def test_harmony_integrate__gives_what_the_file_gives(tmp_path):
    path = small_file(tmp_path / "a.h5ad")
    done = integrate_file(path, ["donor", "chemistry"], params=HarmonyParams(**FAST))
    wanted = anndata.read_h5ad(done.path)
    adata = small_adata()
    kept = adata.obsm["X_pca"].copy()
    assert harmony_integrate(adata, ["donor", "chemistry"], **FAST) is None
    assert type(adata.obsm["X_pca_harmony"]) is np.ndarray
    assert adata.obsm["X_pca_harmony"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], wanted.obsm["X_pca_harmony"])
    np.testing.assert_array_equal(adata.obsm["X_pca"], kept)
    assert adata.uns["harmony"].keys() == wanted.uns["harmony"].keys()


def test_harmony_integrate__the_record_survives_a_file(tmp_path):
    adata = small_adata()
    adata.obs["a/b"] = adata.obs["donor"]
    adata.obs["same"] = adata.obs["donor"]
    theta = {"a/b": 1.0, "chemistry": [1.0, 2.0]}
    harmony_integrate(adata, ["a/b", "chemistry"], theta=theta, ridge_lambda=1.0, **FAST)
    del adata.obs["a/b"]  # anndata itself refuses such a name
    adata.write_h5ad(tmp_path / "a.h5ad")
    kept, found = adata.uns["harmony"], anndata.read_h5ad(tmp_path / "a.h5ad").uns["harmony"]
    assert found.keys() == kept.keys()
    for name in kept:
        if isinstance(kept[name], dict):
            assert found[name].keys() == kept[name].keys()
        else:
            np.testing.assert_array_equal(found[name], kept[name])
    assert found["covariates"].tolist() == ["a/b", "chemistry"]
    assert found["parameters"]["theta"] == '{"a/b": 1.0, "chemistry": [1.0, 2.0]}'
    assert found["basis"] == "X_pca"


def test_harmony_integrate__protected_columns_are_recorded(tmp_path):
    adata = small_adata()
    adata.obs["sex"] = (adata.obs["donor"] == "carl").to_numpy()
    with pytest.warns(HarmonyWarning, match="'sex' is fully confounded .* 'donor'"):
        harmony_integrate(adata, "donor", protect=["sex", "chemistry"], **FAST)
    adata.write_h5ad(tmp_path / "a.h5ad")
    found = anndata.read_h5ad(tmp_path / "a.h5ad").uns["harmony"]
    assert found["confounding"].tolist() == ["sex ~ donor", "chemistry ~ donor"]
    assert found["cramers_v"][0] == pytest.approx(np.sqrt((1 - 2 / 89) / (1 - 1 / 89)))
    assert found["cramers_v"][1] < 0.5
    adata.obs["one"] = 1
    with pytest.raises(InvalidInput, match="fewer than two levels: nothing to protect"):
        harmony_integrate(adata, "donor", protect="one", **FAST)


@pytest.mark.parametrize("rows", [slice(10, 70), np.arange(N_CELLS) % 3 > 0])
def test_harmony_integrate__a_view_becomes_a_copy_with_the_result(rows):
    adata = small_adata()
    view = adata[rows]
    assert view.is_view
    wanted = adata[rows].copy()
    harmony_integrate(wanted, "donor", **FAST)
    harmony_integrate(view, "donor", **FAST)
    np.testing.assert_array_equal(view.obsm["X_pca_harmony"], wanted.obsm["X_pca_harmony"])
    assert "harmony" in view.uns
    assert "X_pca_harmony" not in adata.obsm
    assert "harmony" not in adata.uns


def test_harmony_integrate__works_in_backed_mode(tmp_path):
    path = small_file(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(path, backed="r")
    wanted = small_adata()
    harmony_integrate(wanted, "donor", **FAST)
    harmony_integrate(adata, "donor", **FAST)
    assert adata.isbacked
    np.testing.assert_array_equal(adata.obsm["X_pca_harmony"], wanted.obsm["X_pca_harmony"])
    view = adata[:30]
    with pytest.raises(InvalidInput, match="to_memory"):
        harmony_integrate(view, "donor", **FAST)
    adata.file.close()


@pytest.mark.usefixtures("no_work")
def test_harmony_integrate__names_are_checked_before_the_work():
    adata = small_adata()
    with pytest.raises(InvalidInput, match=r"'Donor'.*Did you mean 'donor'.*chemistry"):
        harmony_integrate(adata, "Donor")
    with pytest.raises(InvalidInput, match=r"obsm\['pca'\].*'X_pca'"):
        harmony_integrate(adata, "donor", basis="pca")
    with pytest.raises(InvalidInput, match="column"):
        harmony_integrate(adata, [])
    with pytest.raises(InvalidInput, match="the basis itself"):
        harmony_integrate(adata, "donor", adjusted_basis="X_pca")
    with pytest.raises(InvalidInput, match="given twice"):
        harmony_integrate(adata, ["donor", "donor"])
    with pytest.raises(InvalidInput, match="max_iter_harmony=0"):
        harmony_integrate(adata, "donor", max_iter_harmony=0)
    del adata.obsm["X_pca"]
    with pytest.raises(InvalidInput, match=r"obsm is empty.*scanpy\.pp\.pca"):
        harmony_integrate(adata, "donor")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["", "a/b", 3])
def test_names__that_a_file_cannot_hold_are_refused_before_the_work(name):
    with pytest.raises(InvalidInput, match="adjusted_basis cannot be"):
        harmony_integrate(small_adata(), "donor", adjusted_basis=name)
    with pytest.raises(InvalidInput, match=r"^basis cannot be"):
        preprocess(counts(), "batch", basis=name)


def test_harmony_integrate__a_data_frame_is_taken_and_what_is_no_matrix_refused():
    adata, wanted = small_adata(), small_adata()
    frame = pd.DataFrame(adata.obsm["X_pca"], index=adata.obs_names, columns=list("abcdef"))
    adata.obsm["frame"] = frame
    harmony_integrate(wanted, "donor", **FAST)
    harmony_integrate(adata, "donor", basis="frame", adjusted_basis="new", **FAST)
    np.testing.assert_array_equal(adata.obsm["new"], wanted.obsm["X_pca_harmony"])
    adata.obsm["words"] = frame.assign(c="x")
    adata.obsm["sparse"] = scipy.sparse.csr_matrix(frame.to_numpy())
    with pytest.raises(InvalidInput, match=r"no numbers \(c\)"):
        harmony_integrate(adata, "donor", basis="words")
    with pytest.raises(InvalidInput, match="is sparse"):
        harmony_integrate(adata, "donor", basis="sparse")


def test_harmony_integrate__replacing_a_result_is_logged(caplog):
    adata = small_adata()
    with caplog.at_level(logging.INFO, logger="harmonypy_lite"):
        harmony_integrate(adata, "donor", **FAST)
        assert "replaced" not in caplog.text
        first = adata.obsm["X_pca_harmony"]
        harmony_integrate(adata, "chemistry", **FAST)
    assert "obsm['X_pca_harmony'] was there already and is replaced" in caplog.text
    assert not np.array_equal(first, adata.obsm["X_pca_harmony"])


@pytest.mark.parametrize("mine", [{"theta": 2}, "text", np.arange(3)])
def test_harmony_integrate__a_foreign_uns_harmony_is_replaced_with_a_warning(mine):
    adata = small_adata()
    adata.uns["harmony"] = mine
    with pytest.warns(HarmonyWarning, match=r"uns\['harmony'\] is not from an earlier run"):
        harmony_integrate(adata, "donor", **FAST)
    assert adata.uns["harmony"]["adjusted_basis"] == "X_pca_harmony"
    harmony_integrate(adata, "chemistry", **FAST)  # a record of ours: no warning


def test_harmony_integrate__shows_progress_only_when_asked_or_on_a_terminal(capsys, monkeypatch):
    harmony_integrate(small_adata(), "donor", **FAST)
    harmony_integrate(small_adata(), "donor", verbose=False, **FAST)
    assert capsys.readouterr() == ("", "")
    core = integrate_embedding

    def slow(*args, progress, **more):
        progress(Progress(2, 10, 3, 4, 123.5))
        return core(*args, progress=progress, **more)

    monkeypatch.setattr(run, "integrate_embedding", slow)
    harmony_integrate(small_adata(), "donor", verbose=True, **FAST)
    shown = capsys.readouterr()
    assert "iteration 2 of at most 10, round 3" in shown.err
    assert "objective 123.5" in shown.err
    assert shown.out == ""


def counts(n_cells=80, n_genes=60):
    draws = np.random.default_rng(3)
    obs = pd.DataFrame({"batch": ["a", "b"] * (n_cells // 2)})
    obs.index = obs.index.astype(str)
    return anndata.AnnData(draws.poisson(2.0, (n_cells, n_genes)).astype(np.float32), obs=obs)


@pytest.mark.parametrize("store", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_matrix])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint16"])
def test_preprocess__adds_a_pca_and_leaves_the_rest(store, dtype):
    adata = counts()
    adata.X = store(adata.X.astype(dtype))
    kept = adata.copy()
    preprocess(adata, "batch")
    assert adata.obsm["X_pca"].shape == (80, 50)
    assert adata.varm["PCs"].shape == (60, 50)
    assert set(adata.uns) == {"pca"}
    assert list(adata.var.columns) == list(kept.var.columns)
    assert list(adata.layers) == list(kept.layers)
    dense = [x.toarray() if scipy.sparse.issparse(x) else x for x in (adata.X, kept.X)]
    np.testing.assert_array_equal(*dense)
    assert adata.X.dtype == dtype


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # scanpy 1.12 on pandas 3.1
def test_preprocess__gives_what_scanpy_gives():
    import scanpy as sc

    adata, steps = counts(), counts()
    preprocess(adata, "batch")
    with Workers(1):  # as there: BLAS at one thread
        sc.pp.normalize_total(steps)
        sc.pp.log1p(steps)
        steps.obs["batch"] = steps.obs["batch"].astype("category")
        sc.pp.highly_variable_genes(steps, batch_key="batch", n_top_genes=60)
        sc.pp.pca(steps, n_comps=50, mask_var="highly_variable")
    np.testing.assert_array_equal(adata.obsm["X_pca"], steps.obsm["X_pca"])


def test_preprocess__bytes_do_not_depend_on_the_threads_of_blas():
    code = """
import hashlib, warnings
warnings.simplefilter("ignore")
import anndata, numpy as np, pandas as pd
from harmonypy_lite.pp import preprocess
draws = np.random.default_rng(0)
obs = pd.DataFrame({"batch": ["a", "b"] * 600}, index=[f"c{i}" for i in range(1200)])
rates = draws.gamma(1.0, 2.0, (1200, 400))
adata = anndata.AnnData(draws.poisson(rates).astype("float32"), obs=obs)
preprocess(adata, "batch")
print(hashlib.sha256(np.ascontiguousarray(adata.obsm["X_pca"]).tobytes()).hexdigest())
"""
    found = {}
    for threads in ("1", "2"):
        found[threads] = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert len(found["1"].strip()) == 64
    assert found["1"] == found["2"]


def test_preprocess__small_batches_and_several_keys_work():
    adata = counts()
    adata.obs["batch"] = ["a"] * 77 + ["b"] * 2 + ["c"]
    adata.obs["plate"] = [1, 2] * 40
    preprocess(adata, ["batch", "plate"])
    assert np.isfinite(adata.obsm["X_pca"]).all()


def test_preprocess__reads_counts_from_a_backed_file(tmp_path):
    wanted = counts()
    preprocess(wanted, "batch")
    counts().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    preprocess(adata, "batch")
    np.testing.assert_array_equal(adata.obsm["X_pca"], wanted.obsm["X_pca"])
    with pytest.raises(InvalidInput, match="to_memory"):
        preprocess(adata[:30], "batch")
    adata.file.close()


def test_preprocess__what_holds_no_counts_is_refused():
    adata = counts()
    adata.X = np.log1p(adata.X)
    with pytest.raises(InvalidInput, match="no counts"):
        preprocess(adata, "batch")
    with pytest.raises(InvalidInput, match="too few"):
        preprocess(counts(2), "batch")
    with pytest.raises(InvalidInput, match="'donor'"):
        preprocess(counts(), "donor")
    empty = anndata.AnnData(obs=counts().obs)
    with pytest.raises(InvalidInput, match="X is empty"):
        preprocess(empty, "batch")


def test_preprocess__then_integrate_works_on_real_counts(real_path):
    adata = anndata.read_h5ad(real_path("sim_tran2020_simul5"))
    del adata.obsm["X_pca"]
    preprocess(adata, "batch")
    harmony_integrate(adata, "batch", **FAST)
    assert adata.obsm["X_pca_harmony"].shape == (480, 50)


def test_pp__offers_scanpys_names():
    assert callable(pp.harmony_integrate)
    scanpys = ["adata", "key", "basis", "adjusted_basis"]
    assert list(inspect.signature(pp.harmony_integrate).parameters)[:4] == scanpys


@pytest.mark.parametrize("key", [0, None, pd.Series(["a", "b"])])
def test_harmony_integrate__a_key_that_is_no_name_is_refused(key):
    with pytest.raises(InvalidInput, match="give the name of a column of obs"):
        harmony_integrate(small_adata(), key)
