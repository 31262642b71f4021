"""run_harmony against harmonypy 2.1's call and objects."""

from __future__ import annotations

import inspect
import logging
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from harmonypy_lite import HarmonyParams, HarmonyWarning, InvalidInput, compat, run, run_harmony
from harmonypy_lite.run import integrate_embedding

N, D = 300, 7


def cells():
    draws = np.random.default_rng(0)
    meta = pd.DataFrame(
        {
            "donor": np.array(["a", "b", "c"])[draws.integers(0, 3, N)],
            "chemistry": np.array(["v2", "v3"])[draws.integers(0, 2, N)],
            "depth": draws.normal(size=N),
        }
    )
    Z = draws.normal(size=(N, D)).astype(np.float32) + 6 * draws.integers(0, 2, (N, 1))
    Z = (Z + 2 * (meta["donor"] == "b").to_numpy()[:, None]).astype(np.float32)
    Z.flags.writeable = False
    return Z, meta


def params_of(monkeypatch, *args, **more):
    """Return the parameters that a call makes of its arguments."""
    seen = []

    def record(embedding, batches, params, **rest):
        seen.append(params)
        return integrate_embedding(embedding, batches, HarmonyParams(n_clusters=2), **rest)

    with monkeypatch.context() as patch:
        patch.setattr(run, "integrate_embedding", record)
        run_harmony(*cells(), *args, **more)
    return seen[0]


def test_run_harmony__has_the_signature_of_harmonypy():
    harmonypy = pytest.importorskip("harmonypy", reason="the oracle harmonypy is not installed")
    wanted = inspect.signature(harmonypy.run_harmony).parameters
    found = inspect.signature(run_harmony).parameters
    assert {n: p.default for n, p in found.items()} == {n: p.default for n, p in wanted.items()}
    assert list(found) == list(wanted)


@pytest.mark.parametrize("keys", ["donor", ["donor", "chemistry"]])
def test_run_harmony__gives_the_attributes_shapes_and_kinds_of_harmonypy(keys):
    harmonypy = pytest.importorskip("harmonypy", reason="the oracle harmonypy is not installed")
    Z, meta = cells()
    theirs = harmonypy.run_harmony(Z, meta, keys, verbose=False)
    mine = run_harmony(Z, meta, keys, verbose=False)
    names = [name for name in dir(theirs) if not name.startswith("_")]
    assert {"Z_corr", "R", "Y", "objective_kmeans"} <= set(names)
    for name in names:
        wanted, found = getattr(theirs, name), getattr(mine, name)
        if name == "result":
            wanted, found = wanted(), found()
        if isinstance(wanted, np.ndarray):
            assert (name, found.shape) == (name, wanted.shape)
            assert found.dtype.kind == "f"
        else:
            assert type(found) is type(wanted)
    assert mine.K == theirs.K
    np.testing.assert_allclose(mine.Z_orig, theirs.Z_orig, rtol=1e-6)
    for found in (mine, theirs):  # each list means the same
        rounds = np.cumsum([0, *found.kmeans_rounds])
        assert [found.objective_kmeans[i] for i in rounds] == found.objective_harmony
        assert len(found.objective_kmeans) == 1 + rounds[-1]


def test_run_harmony__the_objects_parts_fit_together():
    Z, meta = cells()
    found = run_harmony(Z, meta, ["donor", "chemistry"], nclust=5)
    R = found.R
    np.testing.assert_allclose(R.sum(axis=1), 1, rtol=1e-5)
    levels = pd.get_dummies(meta[["donor", "chemistry"]]).to_numpy(float)
    np.testing.assert_allclose(R.T @ levels, found.O, rtol=1e-5)
    np.testing.assert_allclose(np.outer(R.sum(axis=0), levels.mean(axis=0)), found.E, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.Y, axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.Z_cos, axis=1), 1, rtol=1e-5)
    length = np.linalg.norm(found.Z_corr, axis=1, keepdims=True)
    np.testing.assert_allclose(found.Z_cos * length, found.Z_corr, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.Z_orig, Z)
    assert found.result() is found.Z_corr
    assert abs(found.Z_corr - Z).max() > 0.5
    assert "300 cells x 7 dims, 5 clusters" in repr(found)


def test_run_harmony__assignments_are_made_once_and_on_request(monkeypatch):
    Z, meta = cells()
    Z = Z.copy()
    calls = []
    made = run.Replay.assignments
    monkeypatch.setattr(
        run.Replay, "assignments", lambda self, *args: calls.append(1) or made(self, *args)
    )
    wanted = run_harmony(Z, meta, "donor", nclust=4).R
    found = run_harmony(Z, meta, "donor", nclust=4)
    assert len(calls) == 1
    Z[:] = 0  # the caller's array may change meanwhile
    np.testing.assert_array_equal(found.R, wanted)
    assert found.R is found.R
    assert len(calls) == 2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).R, wanted)


def test_run_harmony__zero_rows_stay_zero_in_z_cos():
    Z, meta = cells()
    Z = Z.copy()
    Z[3] = 0
    with pytest.warns(HarmonyWarning, match="all zero"):
        found = run_harmony(Z, meta, "donor", nclust=3)
    found.Z_corr[3] = 0
    assert not found.Z_cos[3].any()
    assert np.isfinite(found.Z_cos).all()


def test_run_harmony__every_argument_reaches_the_run(monkeypatch):
    given = {
        "theta": [1.0],
        "lamb": 2.0,
        "sigma": 0.2,
        "nclust": 7,
        "tau": 5.0,
        "block_size": 0.1,
        "max_iter_harmony": 3,
        "max_iter_kmeans": 6,
        "epsilon_cluster": 0.25,
        "epsilon_harmony": 0.5,
        "alpha": 0.3,
        "batch_prop_cutoff": 0.01,
        "verbose": False,
        "random_state": 9,
        "ncores": 1,
    }
    assert ["data_mat", "meta_data", "vars_use", *given] == list(
        inspect.signature(run_harmony).parameters
    )
    assert params_of(monkeypatch, "donor", **given) == HarmonyParams(
        theta=[1.0],
        ridge_lambda=2.0,
        sigma=0.2,
        n_clusters=7,
        tau=5.0,
        block_proportion=0.1,
        max_iter_harmony=3,
        max_iter_clustering=6,
        tol_clustering=0.25,
        tol_harmony=0.5,
        alpha=0.3,
        batch_prune_threshold=0.01,
        rng=9,
        n_jobs=1,
    )


def test_run_harmony__defaults_are_those_of_harmony2(monkeypatch):
    found = params_of(monkeypatch, "donor")
    assert found.resolved() == HarmonyParams(flavor="harmony2").resolved()


@pytest.mark.parametrize("lamb", [None, -1, -1.0, [-1], np.array([-1])])
def test_run_harmony__lamb_none_and_minus_one_are_dynamic(monkeypatch, lamb):
    assert params_of(monkeypatch, "donor", lamb=lamb).ridge_lambda is None


@pytest.mark.parametrize(
    "lamb", [0.5, [1.0], np.array([1.0, 2.0, 3.0]), {"donor": 1.0}, np.float32(2)]
)
def test_run_harmony__lamb_may_be_a_number_per_variable_or_per_level(lamb):
    Z, meta = cells()
    fixed = run_harmony(Z, meta, "donor", lamb=lamb, nclust=3)
    dynamic = run_harmony(Z, meta, "donor", nclust=3)
    assert abs(fixed.Z_corr - dynamic.Z_corr).max() > 1e-3


@pytest.mark.parametrize("epsilon", [-np.inf, -1])
def test_run_harmony__epsilon_below_0_runs_all_iterations(epsilon):
    found = run_harmony(
        *cells(), "donor", nclust=3, max_iter_harmony=4, max_iter_kmeans=7,
        epsilon_harmony=epsilon, epsilon_cluster=epsilon,
    )  # fmt: skip
    assert found.kmeans_rounds == [7, 7, 7, 7]


def test_run_harmony__no_seed_draws_one():
    Z, meta = cells()
    first, second = (run_harmony(Z, meta, "donor", random_state=None) for _ in range(2))
    assert not np.array_equal(first.Z_corr, second.Z_corr)
    seeded = [run_harmony(Z, meta, "donor", random_state=5).Z_corr for _ in range(2)]
    np.testing.assert_array_equal(*seeded)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lamb": -2}, "lamb=-2: give a finite number of at least 1e-08"),
        ({"lamb": [1, 2]}, "lamb has 2 values"),
        ({"nclust": 5.0}, "nclust=5.0"),
        ({"nclust": 301}, "nclust=301 .*300 cells.*leave nclust out"),
        ({"block_size": 2}, "block_size=2"),
        ({"max_iter_kmeans": 0}, "max_iter_kmeans=0"),
        ({"epsilon_cluster": "x"}, "epsilon_cluster='x'"),
        ({"epsilon_harmony": np.nan}, "epsilon_harmony=nan"),
        ({"batch_prop_cutoff": -1}, "batch_prop_cutoff=-1"),
        ({"random_state": -1}, "random_state=-1"),
        ({"random_state": np.random.RandomState(0)}, "random_state=RandomState"),
        ({"ncores": 1.5}, "ncores=1.5"),
        ({"theta": [1, 2]}, "theta has 2 values"),
        ({"sigma": [0.1, 0.1]}, "sigma has 2 values"),
        ({"sigma": None}, "sigma=None"),
    ],
)
def test_run_harmony__errors_name_the_arguments_of_this_call(given, message):
    with pytest.raises(InvalidInput, match=message):
        run_harmony(*cells(), "donor", **given)


@pytest.mark.parametrize(
    "keys", ["donor", ["donor", "chemistry"], ("chemistry",), pd.Index(["donor"])]
)
def test_run_harmony__vars_use_may_be_one_name_or_several(keys):
    found = run_harmony(*cells(), keys, nclust=3)
    wanted = [keys] if isinstance(keys, str) else list(keys)
    assert list(found.summary["covariates"]) == wanted


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("Donor", "no meta_data column 'Donor'. Did you mean 'donor'.*chemistry"),
        (["donor", "lab"], "'lab'; meta_data has: donor, chemistry, depth"),
        ([], "vars_use=.*column of meta_data"),
        (0, "vars_use=.*column of meta_data"),
        ([0], "vars_use=.*column of meta_data"),
        (["donor", "donor"], "given twice"),
        ("depth", "look like numbers, such as a measurement"),
    ],
)
def test_run_harmony__columns_that_cannot_be_used_are_refused(keys, message):
    with pytest.raises(InvalidInput, match=message):
        run_harmony(*cells(), keys)


def test_run_harmony__meta_data_may_be_a_mapping_and_nothing_else():
    Z, meta = cells()
    wanted = run_harmony(Z, meta, "donor", nclust=3).Z_corr
    mapping = {"donor": meta["donor"].tolist()}
    np.testing.assert_array_equal(run_harmony(Z, mapping, "donor", nclust=3).Z_corr, wanted)
    with pytest.raises(InvalidInput, match="meta_data is a ndarray"):
        run_harmony(Z, meta.to_numpy(), "donor")


def test_run_harmony__missing_labels_are_refused_with_their_count():
    Z, meta = cells()
    meta.loc[[3, 5], "donor"] = None
    with pytest.raises(InvalidInput, match=r"meta_data\['donor'\].* 2 of 300") as said:
        run_harmony(Z, meta, "donor")
    assert "missing=" not in str(said.value)  # this call has no such argument


def test_run_harmony__dims_by_cells_is_detected():
    Z, meta = cells()
    wanted = run_harmony(Z, meta, "donor", nclust=3)
    with pytest.warns(HarmonyWarning, match=r"shape \(7, 300\).*dims x cells") as said:
        found = run_harmony(Z.T, meta, "donor", nclust=3)
    assert said[0].filename == __file__
    np.testing.assert_array_equal(found.Z_corr, wanted.Z_corr)
    np.testing.assert_array_equal(found.R, wanted.R)
    np.testing.assert_array_equal(found.Z_orig, Z)
    for wrong in (Z[:250], Z.T[:, :250]):
        with pytest.raises(InvalidInput, match=re.escape(f"{wrong.shape}, but meta_data has 300")):
            run_harmony(wrong, meta, "donor")


def test_run_harmony__a_square_matrix_is_cells_by_dims():
    _, meta = cells()
    square = np.random.default_rng(1).normal(size=(60, 60))
    found = run_harmony(square, meta[:60], "donor", nclust=2)
    np.testing.assert_array_equal(found.Z_orig, square.astype(np.float32))


def test_run_harmony__the_same_cells_in_another_order_are_refused():
    Z, meta = cells()
    meta.index = [f"cell{i}" for i in range(N)]
    frame = pd.DataFrame(Z, index=meta.index)
    wanted = run_harmony(Z, meta, "donor", nclust=3).Z_corr
    np.testing.assert_array_equal(run_harmony(frame, meta, "donor", nclust=3).Z_corr, wanted)
    with pytest.raises(InvalidInput, match="different orders"):
        run_harmony(frame[::-1], meta, "donor")


def test_run_harmony__a_matrix_that_cannot_be_used_is_refused():
    Z, meta = cells()
    with pytest.raises(InvalidInput, match="sparse"):
        run_harmony(scipy.sparse.csr_matrix(Z), meta, "donor")
    with pytest.raises(InvalidInput, match="NaN or infinite values in 1 of 300"):
        run_harmony(np.where(np.arange(N)[:, None] == 4, np.nan, Z), meta, "donor")


def test_run_harmony__one_batch_clusters_nothing():
    Z, meta = cells()
    with pytest.warns(HarmonyWarning) as said:
        found = run_harmony(Z, meta.assign(donor="a"), "donor")
    assert any("nothing to correct" in str(w.message) for w in said)
    np.testing.assert_array_equal(found.Z_corr, Z)
    assert found.K == 0
    assert (found.R.shape, found.Y.shape, found.O.shape) == ((N, 0), (D, 0), (0, 0))
    assert found.objective_harmony == found.objective_kmeans == found.kmeans_rounds == []


def test_run_harmony__verbose_logs_and_never_prints(capsys, caplog):
    Z, meta = cells()
    with caplog.at_level(logging.INFO, logger="harmonypy_lite"):
        run_harmony(Z, meta, "donor", nclust=3, verbose=False)
        assert caplog.text == ""
        found = run_harmony(Z, meta, "donor", nclust=3)
    said = [record.getMessage() for record in caplog.records]
    iterations = len(found.kmeans_rounds)
    assert said[:-1] == [f"Iteration {i + 1} of at most 10" for i in range(iterations)]
    assert said[-1] == f"{iterations} iterations: {found.summary['stopped']}"
    assert {record.name for record in caplog.records} == {"harmonypy_lite"}
    assert not compat.log.handlers
    assert capsys.readouterr() == ("", "")
