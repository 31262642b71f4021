"""Harmony as a scikit-learn estimator."""

from __future__ import annotations

import inspect
import pickle
import warnings
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from harmonypy_lite import Harmony, HarmonyParams, HarmonyWarning, InvalidInput, NotConvergedWarning
from harmonypy_lite.design import design_from_columns, design_like

EXPECTED_FAILURES = {
    "check_fit_score_takes_y": "the second argument is named for what it is, `batch`; `y` is its "
    "other name, and a Pipeline passes it by place",
    "check_fit_idempotent": "it transforms new cells without their batch, which nothing can guess",
}


def cells(n=400, d=6, seed=0):
    """Return an embedding with types and shifted batches, and the batch of each cell."""
    draws = np.random.default_rng(seed)
    batch = np.array(["a", "b", "c"])[draws.integers(0, 3, n)]
    Z = draws.normal(size=(n, d)) + 6 * draws.integers(0, 2, (n, 1))
    Z[:, 0] += 2.0 * (batch == "b") - (batch == "c")
    Z.flags.writeable = False
    return Z, batch


@pytest.mark.filterwarnings("ignore::harmonypy_lite.HarmonyWarning")  # batches of 1 to 4 cells
@parametrize_with_checks(
    [Harmony(), Harmony(flavor="harmony1", n_clusters=2, theta=1.0)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_harmony__passes_scikit_learns_checks(estimator, check):
    check(estimator)


def test_harmony__has_the_parameters_and_defaults_of_the_dataclass():
    signature = inspect.signature(Harmony).parameters
    for parameter in fields(HarmonyParams):
        assert signature[parameter.name].default == parameter.default
        assert f"{parameter.name} : default {parameter.default!r}" in Harmony.__doc__
        assert parameter.metadata["meaning"] in Harmony.__doc__
    assert list(signature) == [*(p.name for p in fields(HarmonyParams)), "missing"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in signature.values())


def test_harmony__every_parameter_reaches_the_run():
    given = {
        "flavor": "harmony1",
        "start": "centred",
        "n_clusters": 4,
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
    harmony = Harmony(**given).fit(*cells())
    assert harmony.summary_["parameters"] == given
    assert harmony.n_iter_ == 3


def test_harmony__tells_scikit_learn_that_the_batch_is_needed():
    assert get_tags(Harmony()).target_tags.required


def test_harmony__parameters_are_cloned_and_set_as_in_scikit_learn():
    harmony = Harmony(theta=[1.0], n_clusters=3)
    fitted = clone(harmony).fit(*cells())
    again = clone(fitted)
    assert again.get_params() == harmony.get_params()
    assert not hasattr(again, "levels_")
    assert again.set_params(theta=4.0).theta == 4.0
    with pytest.raises(InvalidInput, match="theta=-1"):
        again.set_params(theta=-1).fit(*cells())


def test_harmony__fit_then_transform_gives_the_bytes_of_fit_transform():
    Z, batch = cells()
    wanted = Harmony(n_clusters=4).fit_transform(Z, batch)
    fitted = Harmony(n_clusters=4)
    assert fitted.fit(Z, batch) is fitted
    assert wanted.dtype == np.float32
    assert abs(wanted - Z).max() > 0.5
    np.testing.assert_array_equal(fitted.transform(Z, batch), wanted)
    np.testing.assert_array_equal(fitted.transform(Z), wanted)
    np.testing.assert_array_equal(Harmony(n_clusters=4).fit_transform(Z, y=batch), wanted)


@pytest.mark.parametrize("flavor", ["harmony1", "harmony2"])
@pytest.mark.parametrize("theta", [2.0, 1e6])
def test_harmony__cells_of_the_fit_are_known_in_any_order_and_part(flavor, theta):
    Z, batch = cells()
    harmony = Harmony(n_clusters=4, flavor=flavor, theta=theta, max_iter_harmony=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        wanted = harmony.fit_transform(Z, batch)
    np.testing.assert_array_equal(harmony.transform(Z, batch), wanted)
    some = np.random.default_rng(1).permutation(len(Z))[:37]
    np.testing.assert_allclose(harmony.transform(Z[some]), wanted[some], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        harmony.transform(Z[some], batch[some]), wanted[some], rtol=1e-5, atol=1e-5
    )


def test_harmony__equal_cells_come_back_in_their_order():
    Z, batch = cells(n=90)
    Z, batch = np.repeat(Z, 4, axis=0), np.repeat(batch, 4)
    harmony = Harmony(n_clusters=4)
    wanted = harmony.fit_transform(Z, batch)
    assert len(np.unique(wanted, axis=0)) > 90  # equal cells differ, by their blocks
    np.testing.assert_array_equal(harmony.transform(Z, batch), wanted)
    np.testing.assert_array_equal(harmony.transform(Z), wanted)


def test_harmony__equal_cells_of_several_batches_need_their_batch():
    Z, batch = cells(n=60)
    Z, batch = np.repeat(Z, 2, axis=0), np.tile(["a", "b"], 60)
    harmony = Harmony(n_clusters=2)
    wanted = harmony.fit_transform(Z, batch)
    np.testing.assert_array_equal(harmony.transform(Z), wanted)  # at their places: no doubt
    with pytest.raises(InvalidInput, match=r"10 of 10 cells \(first: row 0\).*several batches"):
        harmony.transform(Z[:10])
    np.testing.assert_allclose(harmony.transform(Z[1:9], batch[1:9]), wanted[1:9], rtol=1e-5)


def test_harmony__new_cells_move_as_the_cells_of_their_batch():
    Z, batch = cells(n=2000)
    near = Z[:500] + 1e-4
    harmony = Harmony(n_clusters=4)
    wanted = harmony.fit_transform(Z, batch)[:500]
    found = harmony.transform(near, batch[:500])
    assert abs(found - near - (wanted - Z[:500])).max() < 0.05
    assert abs(wanted - Z[:500]).max() > 1
    one_by_one = [harmony.transform(near[i : i + 1], batch[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(found[:5], one_by_one, rtol=1e-5, atol=1e-5)
    with pytest.raises(InvalidInput, match=r"500 of 500 cells.*transform\(X, batch\)"):
        harmony.transform(near)


def test_harmony__a_level_or_column_that_the_fit_did_not_see_is_refused():
    Z, batch = cells()
    other = np.where(np.arange(len(Z)) % 2, "v2", "v3")
    frame = pd.DataFrame({"donor": batch, "chemistry": other})
    harmony = Harmony(n_clusters=3).fit(Z, frame)
    with pytest.raises(InvalidInput, match=r"'donor' has 1 level.*\(d\); it saw a, b, c"):
        harmony.transform(Z[:9], frame[:9].replace("a", "d"))
    with pytest.raises(InvalidInput, match=r"1 column\(s\) \(batch\).*2 \(donor, chemistry\)"):
        harmony.transform(Z, batch)
    with pytest.raises(InvalidInput, match="X has 9 rows and the batch 8"):
        harmony.transform(Z[:9], frame[:8])
    with pytest.raises(InvalidInput, match="missing values in 1 of 9"):
        harmony.transform(Z[:9], frame[:9].assign(donor=[None, *batch[1:9]]))
    wanted = harmony.transform(Z, frame)
    np.testing.assert_array_equal(harmony.transform(Z, frame.to_numpy()), wanted)
    shuffled = frame.assign(more=1)[["more", "chemistry", "donor"]]
    np.testing.assert_array_equal(harmony.transform(Z, shuffled), wanted)


def test_harmony__few_new_cells_of_many_levels_are_not_taken_for_cell_names():
    Z, _ = cells(n=400)
    batch = np.arange(400) % 40
    harmony = Harmony(n_clusters=2).fit(Z, batch)
    assert harmony.transform(Z[:20] + 0.01, batch[:20]).shape == (20, 6)


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        pd.Series,
        pd.Categorical,
        lambda batch: pd.Series(batch, name=3, index=range(7, 407)),
        lambda batch: pd.DataFrame({"donor": batch}),
        lambda batch: batch[:, None],
        lambda batch: [[name] for name in batch],
        lambda batch: np.array([ord(name) for name in batch]),
        lambda batch: pd.array(batch, dtype="string"),
    ],
)
def test_harmony__the_batch_may_be_any_column(form):
    Z, batch = cells()
    wanted = Harmony(n_clusters=3).fit_transform(Z, batch)
    np.testing.assert_array_equal(Harmony(n_clusters=3).fit_transform(Z, form(batch)), wanted)


def test_harmony__covariates_have_the_names_that_were_given():
    Z, batch = cells()
    other = np.where(np.arange(len(Z)) % 2, "v2", "v3")
    arrays = Harmony(n_clusters=3).fit(Z, np.column_stack([batch, other]))
    assert arrays.covariates_ == ("batch1", "batch2")
    assert arrays.levels_ == (("a", "b", "c"), ("v2", "v3"))
    frame = pd.DataFrame({"donor": batch, 7: other})
    named = Harmony(n_clusters=3, theta={"donor": 2, "7": 2}).fit(Z, frame)
    assert named.covariates_ == ("donor", "7")
    np.testing.assert_array_equal(named.transform(Z), arrays.transform(Z))
    assert Harmony(n_clusters=3).fit(Z, batch).covariates_ == ("batch",)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (None, r"fit\(X, batch\)"),
        ("donor", "one value per cell"),
        (3, "one value per cell"),
        ({"a": 1}, "one value per cell"),
        (np.zeros((400, 1, 1)), "3 dimensions"),
        (["a", "b"] * 3, "400 rows and the batch"),
        (["a", None] * 200, "missing values in 200"),
        ([f"cell{i}" for i in range(400)], "look like cell names"),
        ([], "400 rows and the batch"),
    ],
)
def test_harmony__a_batch_that_is_none_is_refused(batch, message):
    with pytest.raises(InvalidInput, match=message):
        Harmony().fit(cells()[0], batch)


def test_harmony__batch_and_y_together_are_refused():
    Z, batch = cells()
    with pytest.raises(InvalidInput, match="Both batch and y"):
        Harmony().fit(Z, batch, y=batch)


def test_harmony__missing_values_become_a_level_on_request():
    Z, batch = cells()
    batch = np.where(np.arange(400) % 5, batch, None)
    harmony = Harmony(n_clusters=3, missing="level").fit(Z, batch)
    assert harmony.levels_ == (("a", "b", "c", "(missing)"),)
    np.testing.assert_array_equal(harmony.transform(Z, batch), harmony.transform(Z))


def test_harmony__the_same_cells_in_another_order_are_refused():
    Z, batch = cells()
    names = pd.Index([f"cell{i}" for i in range(400)])
    X, labels = pd.DataFrame(Z, names, columns=list("abcdef")), pd.Series(batch, names)
    harmony = Harmony(n_clusters=3).fit(X, labels)
    with pytest.raises(InvalidInput, match="different orders"):
        Harmony().fit(X, labels[::-1])
    with pytest.raises(InvalidInput, match="different orders"):
        harmony.transform(X, labels[::-1])
    wanted = harmony.transform(X, labels)
    np.testing.assert_array_equal(harmony.transform(X, labels.reset_index(drop=True)), wanted)
    X.index = np.arange(400)[::-1].copy()  # default numbers of the labels are no names of cells
    np.testing.assert_array_equal(harmony.transform(X, labels.reset_index(drop=True)), wanted)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda Z: np.where(np.arange(6) == 2, np.nan, Z), "NaN or infinite values in 400 of 400"),
        (lambda Z: Z[:, 0], "Expected 2D array"),
        (scipy.sparse.csr_matrix, "sparse"),
        (lambda Z: np.ma.masked_greater(Z, 6), "masked"),
        (lambda Z: Z.astype(complex), "Complex data"),
        (lambda Z: Z.astype(str).astype(object) + "x", "could not convert"),
    ],
)
def test_harmony__an_embedding_that_is_none_is_refused(spoil, message):
    Z, batch = cells()
    with pytest.raises(InvalidInput, match=message):
        Harmony().fit(spoil(Z), batch)


def test_harmony__transform_checks_its_cells():
    Z, batch = cells()
    with pytest.raises(NotFittedError):
        Harmony().transform(Z, batch)
    harmony = Harmony(n_clusters=3).fit(Z, batch)
    with pytest.raises(InvalidInput, match="expecting 6 features"):
        harmony.transform(Z[:, :5], batch)
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        harmony.transform(np.where(Z > 6, np.inf, Z), batch)


def test_harmony__attributes_describe_the_run():
    Z, batch = cells()
    harmony = Harmony(n_clusters=4).fit(Z, batch)
    K, B, d = 4, 3, 6
    assert harmony.n_features_in_ == d
    assert harmony.stopped_ == "converged"
    assert harmony.objective_.shape == (harmony.n_iter_ + 1,)
    assert harmony.objective_[-1] < harmony.objective_[0]
    assert harmony.cluster_centers_.shape == (K, d)
    np.testing.assert_allclose(np.linalg.norm(harmony.cluster_centers_, axis=1), 1, rtol=1e-6)
    assert harmony.composition_.shape == harmony.expected_.shape == (K, B)
    sizes = [(batch == level).sum() for level in harmony.levels_[0]]
    np.testing.assert_allclose(harmony.composition_.sum(axis=0), sizes, rtol=1e-5)
    np.testing.assert_allclose(harmony.cluster_sizes_, harmony.composition_.sum(axis=1))
    expected = np.outer(harmony.cluster_sizes_, np.array(sizes) / 400)
    np.testing.assert_allclose(harmony.expected_, expected, rtol=1e-5)
    assert harmony.summary_["n_cells"] == 400


def test_harmony__one_batch_gives_the_cells_back():
    Z, _ = cells()
    harmony = Harmony()
    with pytest.warns(HarmonyWarning) as said:
        found = harmony.fit_transform(Z, ["a"] * 400)
    assert any("nothing to correct" in str(w.message) for w in said)
    np.testing.assert_array_equal(found, Z.astype(np.float32))
    np.testing.assert_array_equal(harmony.transform(Z + 1, ["a"] * 400), (Z + 1).astype("f4"))
    assert (harmony.stopped_, harmony.n_iter_) == ("nothing to correct", 0)
    assert harmony.cluster_centers_.shape == (0, 6)
    with pytest.raises(InvalidInput, match=r"not see \(b\); it saw a"):
        harmony.transform(Z, ["b"] * 400)
    with pytest.raises(InvalidInput, match="not cells of the fit"):
        harmony.transform(Z + 1)


def test_harmony__gives_data_frames_on_request():
    Z, batch = cells()
    X = pd.DataFrame(Z, [f"cell{i}" for i in range(400)], columns=[f"PC{i}" for i in range(6)])
    harmony = Harmony(n_clusters=3).set_output(transform="pandas")
    found = harmony.fit_transform(X, batch)
    assert list(harmony.feature_names_in_) == list(X.columns)
    assert list(harmony.get_feature_names_out()) == list(X.columns)
    assert found.index.equals(X.index)
    assert found.columns.equals(X.columns)
    pd.testing.assert_frame_equal(harmony.transform(X), found)
    bare = Harmony(n_clusters=3).fit_transform(Z, batch)
    np.testing.assert_array_equal(found.to_numpy(), bare)


def test_harmony__a_pipeline_passes_the_batch_as_y():
    Z, batch = cells()
    pipeline = make_pipeline(PCA(3, random_state=0), Harmony(n_clusters=3))
    found = pipeline.fit_transform(Z, batch)
    wanted = Harmony(n_clusters=3).fit_transform(PCA(3, random_state=0).fit_transform(Z), batch)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(InvalidInput, match="y of a Pipeline"):
        pipeline.fit(Z)


def test_harmony__a_pickled_model_gives_the_same_bytes():
    Z, batch = cells()
    harmony = Harmony(n_clusters=3)
    wanted = harmony.fit_transform(Z, batch)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(harmony)).transform(Z), wanted)


def test_harmony__a_generator_is_drawn_from():
    Z, batch = cells()
    draws = np.random.default_rng(3)
    first = Harmony(n_clusters=3, rng=draws).fit(Z, batch)
    again = Harmony(n_clusters=3, rng=np.random.default_rng(3)).fit(Z, batch)
    second = Harmony(n_clusters=3, rng=draws).fit(Z, batch)
    np.testing.assert_array_equal(first.transform(Z), again.transform(Z))
    assert not np.array_equal(first.transform(Z), second.transform(Z))


def test_design__numbers_are_given_for_the_columns_that_were_named():
    """A column that is left out takes its numbers with it."""
    frame = pd.DataFrame({"donor": ["a", "b"] * 15, "lab": ["x"] * 30, "plate": [1, 2, 3] * 10})
    with pytest.warns(HarmonyWarning, match="'lab' is left out"):
        design = design_from_columns(frame)
    assert design.per_level("theta", [1, 2, 3]).tolist() == [1, 1, 3, 3, 3]
    assert design.per_level("theta", [1, 2, 3, 4, 5, 6]).tolist() == [1, 2, 4, 5, 6]
    assert design.per_level("theta", 7).tolist() == [7] * 5
    by_name = {"donor": 1, "lab": 2, "plate": [3, 4, 5]}
    assert design.per_level("theta", by_name).tolist() == [1, 1, 3, 4, 5]
    with pytest.raises(InvalidInput, match="4 values"):
        design.per_level("theta", [1, 2, 3, 4])


def test_design_like__codes_are_those_of_the_known_design():
    frame = pd.DataFrame(
        {"donor": pd.Categorical(["b", "a", "c"] * 10), "plate": [1, 2] * 15, "lab": ["x"] * 30}
    )
    with pytest.warns(HarmonyWarning, match="'lab' is left out"):
        known = design_from_columns(frame)
    part = frame.iloc[[5, 0]]
    found = design_like(part, known)
    np.testing.assert_array_equal(found.codes, known.codes[[5, 0]])
    np.testing.assert_array_equal(found.codes, known.take(np.array([5, 0])).codes)
    assert found.level_size.tolist() == [0, 1, 1, 1, 1]
    assert known.take(np.array([5, 0])).level_size.tolist() == [0, 1, 1, 1, 1]
    assert (found.levels, found.n_levels) == (known.levels, 5)
    with pytest.raises(InvalidInput, match="'lab' has 1 level"):
        design_like(part.assign(lab="y"), known)


def test_fit__refuses_numbers_beyond_double_precision():
    X = np.full((20, 2), 10**400, dtype=object)
    with pytest.raises(InvalidInput, match="too large"):
        Harmony().fit(X, ["a", "b"] * 10)
