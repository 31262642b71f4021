"""New cells beside a run: Symphony's equations against dense ones, and nothing guessed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import harmonypy_lite as hl
from harmonypy_lite import Harmony, HarmonyModel
from harmonypy_lite.cli import program
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.kernels.distances import mahalanobis
from harmonypy_lite.kernels.product import padded
from harmonypy_lite.method import mapping

RNG = np.random.default_rng(8)
N, G = 500, 60


def cells(n: int, batches: list[str], seed: int) -> anndata.AnnData:
    """Counts of three types, each batch with genes of its own that are up."""
    rng = np.random.default_rng(seed)
    kind, batch = rng.integers(0, 3, n), rng.integers(0, len(batches), n)
    rate = np.random.default_rng(0).gamma(2.0, 1.0, (3, G))[kind]
    for b, name in enumerate(batches):
        up = np.random.default_rng(sum(map(ord, name))).choice(G, 12, replace=False)
        rate[np.ix_(batch == b, up)] *= 2.5
    obs = pd.DataFrame(
        {"donor": np.array(batches)[batch], "type": np.array(["T", "B", "M"])[kind]},
        index=[f"{seed}-{i}" for i in range(n)],
    )
    var = pd.DataFrame(index=[f"gene{g}" for g in range(G)])
    return anndata.AnnData(rng.poisson(4 * rate).astype(np.float32), obs=obs, var=var)


@pytest.fixture(scope="module")
def reference() -> anndata.AnnData:
    adata = cells(N, ["a", "b", "c"], 1)
    hl.pp.preprocess(adata, "donor")
    hl.pp.harmony_integrate(adata, "donor", n_clusters=6, store_model=True, save_genes=True)
    return adata


@pytest.fixture(scope="module")
def model(reference: anndata.AnnData) -> HarmonyModel:
    return HarmonyModel.from_uns(reference.uns["harmony_model"])


@pytest.fixture
def query() -> anndata.AnnData:
    return cells(300, ["x", "y"], 2)


def dense(model: HarmonyModel, reference: anndata.AnnData, Z: np.ndarray, Phi: np.ndarray):
    """Kang 2021 with every cell of the reference in the regression, and loops."""
    Y = model.centroids
    u = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    R = np.exp(-2 * (1 - u @ Y.T) / 0.1)
    R /= R.sum(axis=1, keepdims=True)
    harmony = Harmony(n_clusters=6).fit(reference.obsm["X_pca"], reference.obs["donor"])
    R_ref = harmony._replay.assignments(reference.obsm["X_pca"], harmony._design)
    out = Z.astype(np.float64).copy()
    for k in range(6):
        X = np.zeros((N + len(Z), 1 + Phi.shape[1]))
        X[:, 0], X[N:, 1:] = 1, Phi
        w = np.concatenate([R_ref[:, k], R[:, k]])
        L = np.eye(X.shape[1])
        L[0, 0] = 0
        both = np.concatenate([reference.obsm["X_pca_harmony"], Z])
        beta = np.linalg.inv(X.T @ np.diag(w) @ X + L) @ X.T @ np.diag(w) @ both
        out -= R[:, [k]] * (Phi @ beta[1:])
    return out


@pytest.mark.parametrize("keys", [["donor"], ["donor", "half"]])
def test_place__solves_the_dense_equations(keys, reference, model, query) -> None:
    query.obs["half"] = np.array(["u", "v"])[np.arange(query.n_obs) % 2]
    Z = reference.obsm["X_pca"][:300] + RNG.normal(size=(300, model.n_dims)).astype(np.float32)
    Phi = pd.get_dummies(query.obs[keys], columns=keys).to_numpy(float)
    found = model.transform(Z, query.obs[keys])
    np.testing.assert_allclose(found, dense(model, reference, Z, Phi), atol=2e-3)


def test_map_embedding__projects_the_run_itself_onto_its_pca(reference, model) -> None:
    again = reference[:, ::-1].copy()  # the order of the genes is of no account
    hl.tl.map_embedding(again, model, key="donor", levels="known")
    Z = reference.obsm["X_pca"]
    assert np.abs(again.obsm["X_pca_reference"] - Z).max() < 1e-3 * np.abs(Z).max()
    apart = np.abs(again.obsm["X_pca_harmony"] - reference.obsm["X_pca_harmony"]).mean()
    assert apart < 0.02 * Z.std()


def test_map_embedding__brings_new_batches_to_their_types(reference, query) -> None:
    hl.tl.map_embedding(query, reference, key="donor")
    centres = {
        kind: reference.obsm["X_pca_harmony"][(reference.obs["type"] == kind).to_numpy()].mean(0)
        for kind in "TBM"
    }
    apart = {
        kind: np.linalg.norm(query.obsm["X_pca_harmony"] - centre, axis=1)
        for kind, centre in centres.items()
    }
    nearest = pd.DataFrame(apart).idxmin(axis=1).to_numpy()
    assert (nearest == query.obs["type"].to_numpy()).mean() > 0.99
    record = query.uns["harmony_map"]
    assert (record["n_mapped"], record["n_replayed"], record["missing_genes"]) == (300, 0, 0)


def test_levels__are_never_guessed(model, reference) -> None:
    Z, batch = reference.obsm["X_pca"], reference.obs["donor"].astype(str).to_numpy()
    with pytest.raises(InvalidInput, match="say whether these are the same"):
        model.transform(Z, batch)
    with pytest.raises(InvalidInput, match=r"did not see \(q\).*levels='new'"):
        model.transform(Z, ["q"] * N, levels="known")
    with pytest.raises(InvalidInput, match="needs the batch"):
        model.transform(Z, levels="known")
    with pytest.raises(InvalidInput, match="choose one of"):
        model.transform(Z, levels="old")
    with pytest.warns(HarmonyWarning, match="other batches"):
        model.transform(Z, batch, levels="new")
    with pytest.raises(InvalidInput, match="one row per cell"):
        model.transform(Z, batch[1:], levels="known")
    with pytest.raises(InvalidInput, match="dimensions"):
        model.transform(Z[:, 1:], batch, levels="known")


def test_either__replays_known_cells_and_maps_the_rest(model, reference) -> None:
    Z, batch = reference.obsm["X_pca"], reference.obs["donor"].astype(str).to_numpy()
    mixed = np.where(np.arange(N) < 200, "q", batch)
    placed = model.place(Z, mixed, levels="either", place=np.arange(N))
    assert (placed.n_replayed, placed.n_mapped) == (N - 200, 200)
    ran = reference.obsm["X_pca_harmony"]
    np.testing.assert_array_equal(placed.embedding[200:], ran[200:])
    alone = model.transform(Z[:200], ["q"] * 200)
    np.testing.assert_allclose(placed.embedding[:200], alone, atol=1e-5)


def test_no_batch__is_one_new_level(model, reference) -> None:
    Z = reference.obsm["X_pca"]
    np.testing.assert_array_equal(model.transform(Z), model.transform(Z, ["q"] * N))


def distances(z: np.ndarray, R: np.ndarray, reference: mapping.Reference) -> np.ndarray:
    K, d = reference.mean.shape
    L = np.zeros((K, d, padded(d)), np.float32)
    L[:, :, :d] = mapping.whitening(reference)
    out = np.empty(len(z), np.float32)
    single = (np.ascontiguousarray(each, np.float32) for each in (z, R, reference.mean))
    mahalanobis(*single, L, 0.01, out)
    return out


def test_distance__is_mahalanobis_in_one_cluster() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 3)) + 5
    size, mean, covariance = np.array([2000.0]), z.mean(0)[None], np.cov(z.T, bias=True)[None]
    reference = mapping.Reference(size, mean, mean, covariance)
    found = distances(z, np.ones((2000, 1)), reference)
    inverse = np.linalg.inv(covariance[0])
    wanted = np.sqrt(np.einsum("ni,ij,nj->n", z - mean, inverse, z - mean))
    np.testing.assert_allclose(found, wanted, rtol=0.01)


def test_equations__are_those_of_the_paper_to_double_precision() -> None:
    """Kang 2021 with all cells in the regression: X = [1; X_q], whose X_q is 0 in the reference."""
    rng = np.random.default_rng(5)
    n, m, K, d, B = 120, 70, 4, 3, 2
    Z_ref, Z = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 1
    R_ref = rng.dirichlet(np.ones(K), n)
    code = np.arange(m) % B
    N_r, C = R_ref.sum(axis=0), R_ref.T @ Z_ref  # the reference's compression terms
    Y = C / np.linalg.norm(C, axis=1, keepdims=True)
    u = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    R = np.exp(-2 * (1 - u @ Y.T) / 0.1)
    R /= R.sum(axis=1, keepdims=True)
    Xq = np.vstack([np.zeros((n, B)), np.eye(B)[code]])
    X, both = np.column_stack([np.ones(n + m), Xq]), np.vstack([Z_ref, Z])
    wanted = Z.copy()
    for k in range(K):
        w = np.diag(np.concatenate([R_ref[:, k], R[:, k]]))
        beta = np.linalg.inv(X.T @ w @ X + np.diag([0.0, 1.0, 1.0])) @ X.T @ w @ both
        wanted -= R[:, [k]] * (np.eye(B)[code] @ beta[1:])
    found = mapping.assignments(Z, Y, np.full(K, 0.1))
    np.testing.assert_allclose(found, R, atol=1e-12)
    sums = mapping.QuerySums(np.arange(B)[:, None], B, K, d)
    for part in (slice(0, 30), slice(30, m)):
        sums.add(mapping.sums_by_combination(found[part], Z[part], code[part]))
    W = sums.effects(mapping.Reference(N_r, C, C, np.zeros((K, d, d))))
    np.testing.assert_allclose(mapping.corrected(Z, found, W, code[:, None]), wanted, atol=1e-10)


def test_distance__is_mahalanobis_weighted_by_the_assignments() -> None:
    rng = np.random.default_rng(6)
    n, K, d = 4000, 3, 2
    z, R = rng.normal(size=(n, d)), rng.dirichlet(np.full(K, 0.3), n)
    mean = np.array([np.average(z, axis=0, weights=R[:, k]) for k in range(K)])
    covariance = np.array([np.cov(z.T, aweights=R[:, k], bias=True) for k in range(K)])
    reference = mapping.Reference(R.sum(axis=0), mean, mean, covariance)
    found = distances(z, R, reference)
    wanted = np.zeros(n)
    for k in range(K):
        apart = z - mean[k]
        inverse = np.linalg.inv(covariance[k])
        wanted += R[:, k] * np.sqrt(np.einsum("ni,ij,nj->n", apart, inverse, apart))
    np.testing.assert_allclose(found, wanted, rtol=0.05)  # near clusters only; few cells drawn in


def test_genes__missing_ones_are_reported_and_too_many_refused(reference, query) -> None:
    few = query[:, 5:].copy()
    hl.tl.map_embedding(few, reference, key="donor")
    used = (reference.varm["PCs"] != 0).any(axis=1)
    assert few.uns["harmony_map"]["missing_genes"] == pytest.approx(used[:5].sum() / used.sum())
    with pytest.raises(InvalidInput, match=r"max_missing=0\.05"):
        hl.tl.map_embedding(few, reference, key="donor", max_missing=0.05)
    twice = query.copy()
    twice.var_names = ["gene1" if name == "gene0" else name for name in query.var_names]
    with pytest.raises(InvalidInput, match=r"there twice \(gene1\)"):
        hl.tl.map_embedding(twice, reference, key="donor")


def test_genes__may_be_a_categorical_and_sparse(reference, query) -> None:
    import scipy.sparse

    other = query.copy()
    other.X = scipy.sparse.csr_matrix(query.X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.var.index = pd.CategoricalIndex(query.var_names)
    for each in (query, other):
        hl.tl.map_embedding(each, reference, key="donor")
    np.testing.assert_array_equal(query.obsm["X_pca_harmony"], other.obsm["X_pca_harmony"])


def test_genes__may_come_in_any_order(reference, query) -> None:
    other = query[:, np.random.default_rng(0).permutation(G)].copy()
    for each in (query, other):
        hl.tl.map_embedding(each, reference, key="donor")
    found, wanted = (each.obsm["X_pca_harmony"] for each in (other, query))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_map_embedding__refuses_what_is_no_count(reference, query) -> None:
    query.X = np.log1p(query.X)
    with pytest.raises(InvalidInput, match="no counts"):
        hl.tl.map_embedding(query, reference, key="donor")
    del reference.uns["harmony"]
    with pytest.raises(InvalidInput, match="holds no model"):
        hl.tl.map_embedding(query, query, key="donor")


def test_save_genes__refuses_a_pca_of_other_values(reference) -> None:
    other = reference.copy()
    other.obsm["X_pca"] = other.obsm["X_pca"][::-1].copy()
    with pytest.raises(InvalidInput, match="not what PCA makes"):
        hl.pp.harmony_integrate(other, "donor", store_model=True, save_genes=True)
    with pytest.raises(InvalidInput, match="without a model"):
        hl.pp.harmony_integrate(other, "donor", save_genes=True)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(program, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("memory", ["fast", "scratch"])
def test_program__gives_the_runs_own_file_its_bytes_again(memory, tmp_path) -> None:
    adata = cells(N, ["a", "b", "c"], 1)
    hl.pp.preprocess(adata, "donor")
    path, m = tmp_path / "a.h5ad", tmp_path / "m.h5"
    adata.write_h5ad(path)
    run("integrate", path, "--key", "donor", "--save-model", m, "--memory", memory)
    args = ("--key", "donor", "--levels", "known", "--basis", "X_pca", "-o", tmp_path / "b.h5ad")
    said = run("map", path, "--model", m, *args)
    assert "run's coordinates" in said
    first, second = (anndata.read_h5ad(tmp_path / n) for n in ("a_harmony.h5ad", "b.h5ad"))
    np.testing.assert_array_equal(first.obsm["X_pca_harmony"], second.obsm["X_pca_harmony"])
    hl.pp.harmony_integrate(adata, "donor", save_model=tmp_path / "python.h5")
    one, two = (HarmonyModel.load(p)._arrays() for p in (m, tmp_path / "python.h5"))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_program__maps_counts_as_python_does(tmp_path, query) -> None:
    path, m, q = tmp_path / "a.h5ad", tmp_path / "m.h5", tmp_path / "q.h5ad"
    cells(N, ["a", "b", "c"], 1).write_h5ad(path)
    run("integrate", path, "-k", "donor", "--preprocess", "--save-model", m, "--save-genes")
    query.write_h5ad(q)
    said = json.loads(run("map", q, "--model", m, "--key", "donor", "--json"))
    assert (said["n_mapped"], said["missing_genes"]) == (300, 0)
    hl.tl.map_embedding(query, m, key="donor")
    out = anndata.read_h5ad(Path(said["output"]))
    np.testing.assert_array_equal(out.obsm["X_pca_harmony"], query.obsm["X_pca_harmony"])
    np.testing.assert_array_equal(out.obsm["harmony_distance"][:, 0], query.obs["harmony_distance"])
    text = run("info", m)
    assert "donor: 3 levels (a, b, c)" in text
    assert "60; the PCA was made of counts" in text
    assert json.loads(run("info", m, "--json"))["genes"] == 60


def test_dask__gives_the_same_model(tmp_path) -> None:
    da = pytest.importorskip("dask.array")
    adata = cells(N, ["a", "b", "c"], 1)
    adata.obsm["X_pca"] = np.log1p(adata.X[:, :8])
    lazy = anndata.AnnData(obs=adata.obs)
    lazy.obsm["X_pca"] = da.from_array(adata.obsm["X_pca"], chunks=(130, 8))
    for each, name in ((adata, "a.h5"), (lazy, "b.h5")):
        hl.pp.harmony_integrate(each, "donor", save_model=tmp_path / name)
    one, two = (HarmonyModel.load(tmp_path / name)._arrays() for name in ("a.h5", "b.h5"))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_map_embedding__gives_the_same_bytes_for_any_threads(reference, monkeypatch) -> None:
    found = []
    for count in (1, 3):
        monkeypatch.setattr("harmonypy_lite.threads.worker_count", lambda n_jobs=None, c=count: c)
        many = cells(1300, ["x", "y"], 3)
        hl.tl.map_embedding(many, reference, key="donor")
        hl.tl.transfer_labels(many, reference, "type", unknown=False)
        found.append(many)
    one, three = found
    np.testing.assert_array_equal(one.obsm["X_pca_harmony"], three.obsm["X_pca_harmony"])
    pd.testing.assert_frame_equal(one.obs, three.obs, check_exact=True)


def test_map_embedding__sees_that_the_kept_model_changed(reference, query) -> None:
    other = reference.copy()
    hl.tl.map_embedding(query, other, key="donor")
    before = query.obsm["X_pca_harmony"]
    other.uns["harmony_model"]["reference_sum"][:] *= [[2.0], [1], [1], [1], [1], [1]]
    hl.tl.map_embedding(query, other, key="donor")
    wanted = HarmonyModel.from_uns(other.uns["harmony_model"])
    after = query.obsm["X_pca_harmony"]
    np.testing.assert_array_equal(
        after, wanted.transform(query.obsm["X_pca_reference"], query.obs["donor"])
    )
    assert not np.array_equal(before, after)
    hl.tl.map_embedding(query, reference, key="donor")
    np.testing.assert_array_equal(query.obsm["X_pca_harmony"], before)
