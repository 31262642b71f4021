"""Inputs that broke other tools, given to the integrator as arrays and columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import twin
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import (
    HarmonyWarning,
    InvalidInput,
    NotConvergedWarning,
    NumericalError,
)
from harmonypy_lite.levels import MISSING_LEVEL
from harmonypy_lite.method import loop
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Integration, integrate_embedding

FLAVORS = ("harmony2", "harmony1", "pooled")


def integrate(Z: Any, frame: pd.DataFrame, missing: str = "refuse", **parameters: Any) -> Any:
    arguments = {"n_jobs": 1, "early_stop": False, "max_iter_harmony": 2, **parameters}
    return integrate_embedding(Z, frame, HarmonyParams(**arguments), missing=missing)


def assert_plausible(result: Integration, Z: np.ndarray) -> None:
    """Finite float32 coordinates in the input's shape, no further out than the input reaches."""
    assert result.embedding.shape == Z.shape
    assert result.embedding.dtype == np.float32
    assert np.isfinite(result.embedding).all()
    reach = np.abs(Z - Z.mean(axis=0)).max()
    assert np.abs(result.embedding - Z).max() <= 2 * reach + 1e-6
    assert np.isfinite(result.summary["objective"]).all()


def labels(*names: str, n: int) -> pd.DataFrame:
    return pd.DataFrame({"batch": np.resize(np.array(names, dtype=object), n)})


# Batch columns.


@pytest.mark.parametrize("absent", [None, np.nan, pd.NA])
@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_missing_values__are_refused_with_their_number(absent: Any, dtype: Any) -> None:
    Z, frame = twin.simulated(100, 5)
    frame.iloc[[3, 50, 77], 0] = absent
    with pytest.raises(InvalidInput, match=r"'batch' has missing values in 3 of 100 cells"):
        integrate(Z, frame.astype(dtype))


@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_missing_values__make_a_level_on_request(dtype: Any) -> None:
    Z, frame = twin.simulated(100, 5)
    frame.iloc[3:13, 0] = None
    result = integrate(Z, frame.astype(dtype), missing="level")
    filled = frame.fillna("zzz")
    assert result.design.levels[0][-1] == MISSING_LEVEL
    assert result.design.level_size[-1] == 10
    assert result.embedding.tobytes() == integrate(Z, filled).embedding.tobytes()


def test_missing_values__in_numbers_are_missing() -> None:
    Z, _ = twin.simulated(100, 5)
    frame = pd.DataFrame({"plate": np.resize([1.0, 2.0, np.nan, 3.0], 100)})
    with pytest.raises(InvalidInput, match="'plate' has missing values in 25 of 100 cells"):
        integrate(Z, frame)


@pytest.mark.parametrize("n", [11, 200])
def test_cell_names__as_batches_are_refused(n: int) -> None:
    Z, _ = twin.simulated(n, 5, "one")
    frame = pd.DataFrame({"barcode": [f"AACG-{i}" for i in range(n)]})
    with pytest.raises(InvalidInput, match=rf"'barcode' has {n} levels .* cell names"):
        integrate(Z, frame)
    almost = frame["barcode"].where(np.arange(n) % 3 > 0, "same")
    with pytest.raises(InvalidInput, match="cell names"):
        integrate(Z, almost.to_frame())


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_tiny_batch__warns_and_hardly_moves(flavor: str, size: int) -> None:
    Z, frame = twin.simulated(300, 7)
    frame.iloc[:size, 0] = "tiny"
    with pytest.warns(HarmonyWarning, match=rf"fewer than 5 cells.*batch=tiny \({size}\)"):
        result = integrate(Z, frame, flavor=flavor)
    assert_plausible(result, Z)
    moved = np.linalg.norm(result.embedding - Z, axis=1)[:size]
    shift = np.linalg.norm(Z[:size] - Z.mean(axis=0), axis=1)
    assert (moved < shift + 3 * Z.std()).all()


def test_several_tiny_batches__are_counted_and_named() -> None:
    Z, frame = twin.simulated(300, 7)
    frame.iloc[:14, 0] = [f"tiny {i // 2}" for i in range(14)]
    with pytest.warns(HarmonyWarning, match=r"7 level\(s\) .*tiny 0 \(2\).* and 2 more"):
        assert_plausible(integrate(Z, frame), Z)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_one_level__returns_the_cells_unchanged_and_warns(flavor: str) -> None:
    Z, _ = twin.simulated(100, 5)
    with pytest.warns(HarmonyWarning) as caught:
        result = integrate(Z, labels("only", n=100), flavor=flavor)
    texts = " ".join(str(w.message) for w in caught)
    assert "'batch' is left out: it has only one level (only)" in texts
    assert "nothing to correct" in texts
    np.testing.assert_array_equal(result.embedding, Z)
    assert result.embedding is not Z
    assert result.outcome is None
    assert result.summary["stopped"] == "nothing to correct"


def test_one_level_beside_a_covariate__is_left_out() -> None:
    Z, frame = twin.simulated(200, 5)
    plain = integrate(Z, frame)
    with pytest.warns(HarmonyWarning, match="'tissue' is left out: it has only one level"):
        more = integrate(Z, frame.assign(tissue="lung"))
    assert more.embedding.tobytes() == plain.embedding.tobytes()
    assert list(more.summary["dropped_covariates"]) == ["tissue"]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_same_partition_twice__is_used_once(flavor: str) -> None:
    Z, frame = twin.simulated(200, 5)
    again = [{"x": "9", "y": "1", "z": "5"}[v[-1]] for v in frame["batch"]]
    plain = integrate(Z, frame, flavor=flavor)
    with pytest.warns(HarmonyWarning, match="'sample' is left out: .* just as 'batch' does"):
        twice = integrate(Z, frame.assign(sample=again), flavor=flavor)
    assert twice.embedding.tobytes() == plain.embedding.tobytes()
    assert list(twice.summary["covariates"]) == ["batch"]


@pytest.mark.parametrize(
    ("theta", "alone"),
    [
        ([1.0, 3.0], 1.0),
        ({"batch": 1.0, "sample": 3.0}, 1.0),
        ([1.0, 0.5, 3.0, 3.0], [1.0, 0.5]),
    ],
)
def test_same_partition_twice__takes_the_parameters_of_the_one_in_use(
    theta: Any, alone: Any
) -> None:
    # two levels, so that one number per covariate could pass for one per level
    Z, _ = twin.simulated(200, 5)
    frame = pd.DataFrame({"batch": np.random.default_rng(0).choice(["a", "b"], 200)})
    frame["sample"] = frame["batch"] + "2"
    plain = integrate(Z, frame[["batch"]], theta=alone)
    with pytest.warns(HarmonyWarning, match="left out"):
        twice = integrate(Z, frame, theta=theta)
    assert twice.embedding.tobytes() == plain.embedding.tobytes()
    with pytest.warns(HarmonyWarning, match="left out"):
        first = integrate(Z, frame[["sample", "batch"]], theta=[1.0, 3.0])
    assert (
        first.embedding.tobytes() == integrate(Z, frame[["batch"]], theta=1.0).embedding.tobytes()
    )


@pytest.mark.parametrize("flavor", FLAVORS)
def test_nested_covariates__are_both_used_in_either_order(flavor: str) -> None:
    Z, frame = twin.simulated(400, 7, "nested")
    one = integrate(Z, frame, flavor=flavor)
    other = integrate(Z, frame[["platform", "donor"]], flavor=flavor)
    assert list(one.summary["covariates"]) == ["donor", "platform"]
    assert_plausible(one, Z)
    assert np.abs(one.embedding - other.embedding).max() < 1e-4 * Z.std()


def test_two_columns_of_one_name__are_refused() -> None:
    Z, frame = twin.simulated(100, 5)
    twice = pd.concat([frame, frame], axis=1)
    with pytest.raises(InvalidInput, match="named twice"):
        integrate(Z, twice)


def test_no_column__is_refused() -> None:
    Z, frame = twin.simulated(100, 5)
    with pytest.raises(InvalidInput, match="name at least one"):
        integrate(Z, frame[[]])


@pytest.mark.parametrize(
    "form",
    [
        lambda c: pd.Categorical(c, categories=["none", *sorted(set(c)), "unused"]),
        lambda c: pd.array(c, dtype="string"),
        lambda c: c.map({v: i for i, v in enumerate(sorted(set(c)))}),
        lambda c: c.map({v: i for i, v in enumerate(sorted(set(c)))}).astype(float),
        lambda c: c.map({v: i for i, v in enumerate(sorted(set(c)))}).astype("Int64"),
        lambda c: c.map({v: i for i, v in enumerate(sorted(set(c)))}).astype(np.uint8),
        lambda c: pd.to_datetime(c.map({v: i for i, v in enumerate(sorted(set(c)))})),
        lambda c: c.map(dict(zip(sorted(set(c)), [1, "b", ("c", 2)], strict=True))),
    ],
    ids=["categorical", "string", "int", "float", "Int64", "uint8", "datetime", "mixed"],
)
def test_column_types__of_one_partition_give_the_same_bytes(form: Callable) -> None:
    Z, frame = twin.simulated(200, 5)
    plain = integrate(Z, frame)
    other = integrate(Z, pd.DataFrame({"batch": form(frame["batch"])}))
    assert other.design.n_levels == 3
    assert other.embedding.tobytes() == plain.embedding.tobytes()


def test_booleans__are_levels() -> None:
    Z, _ = twin.simulated(200, 5)
    treated = np.random.default_rng(0).random(200) < 0.4
    result = integrate(Z, pd.DataFrame({"treated": treated}))
    assert result.design.levels == (("False", "True"),)
    assert result.design.level_size.tolist() == [(~treated).sum(), treated.sum()]


def test_index_of_the_columns__is_no_matter() -> None:
    Z, frame = twin.simulated(200, 5)
    plain = integrate(Z, frame)
    frame.index = ["same name"] * 200
    assert integrate(Z, frame).embedding.tobytes() == plain.embedding.tobytes()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_thousand_levels__are_corrected(flavor: str) -> None:
    rng = np.random.default_rng(0)
    code = rng.permutation(np.repeat(np.arange(1000), 6))
    Z = rng.normal(size=(6000, 5)) + rng.normal(0, 2, (1000, 5))[code]
    frame = pd.DataFrame({"well": code, "plate": code // 96})
    result = integrate(Z, frame, n_clusters=20, flavor=flavor, max_iter_clustering=2)
    assert_plausible(result, Z)
    before, after = (
        pd.DataFrame(X).groupby(code).mean().to_numpy().std() for X in (Z, result.embedding)
    )
    assert after < 0.8 * before  # six cells a level, one or less a cluster: much shrinkage


# Few cells, parameters.


@pytest.mark.filterwarnings("ignore:.*fewer than 5 cells")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("n", [2, 3, 5, 10, 40, 200])
def test_few_cells__give_finite_coordinates(flavor: str, n: int) -> None:
    Z = twin.simulated(200, 5)[0][:n]
    result = integrate(Z, labels("a", "b", n=n), flavor=flavor)
    assert_plausible(result, Z)
    assert result.summary["n_clusters"] == max(1, round(n / 30))


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("n_clusters", [1, 39, 40])
def test_as_many_clusters_as_cells__work(flavor: str, n_clusters: int) -> None:
    Z, _ = twin.simulated(40, 5)
    result = integrate(Z, labels("a", "b", "c", n=40), flavor=flavor, n_clusters=n_clusters)
    assert_plausible(result, Z)
    assert result.outcome.Y.shape == (n_clusters, 5)


def test_fewer_cells_than_clusters__are_refused_with_both_numbers() -> None:
    Z, _ = twin.simulated(40, 5)
    with pytest.raises(InvalidInput, match="n_clusters=41 but there are only 40 cells"):
        integrate(Z, labels("a", "b", n=40), n_clusters=41)


@pytest.mark.parametrize(
    "theta",
    [
        2,
        2.0,
        np.float32(2),
        np.int64(2),
        np.array(2.0),
        [2],
        (2.0,),
        np.array([2, 2, 2]),
        pd.Series([2.0] * 3),
        {"batch": 2},
        {"batch": [2, 2.0, np.float32(2)]},
    ],
    ids=lambda value: f"{type(value).__name__}{np.shape(value)}",
)
def test_theta__of_any_form_means_the_same(theta: Any) -> None:
    Z, frame = twin.simulated(200, 5)
    assert integrate(Z, frame, theta=theta).embedding.tobytes() == (
        integrate(Z, frame).embedding.tobytes()
    )


@pytest.mark.parametrize("sigma", [1, np.float32(1), [1] * 6, np.ones(6), (np.int8(1),)])
def test_sigma__of_any_form_means_the_same(sigma: Any) -> None:
    Z, frame = twin.simulated(200, 5)
    given = integrate(Z, frame, sigma=sigma, n_clusters=6)
    assert given.embedding.tobytes() == (
        integrate(Z, frame, sigma=1.0, n_clusters=6).embedding.tobytes()
    )


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"theta": [1, 2]}, "theta has 2 values.*1 covariate.*3 levels"),
        ({"theta": [1, 2, 3, 4]}, "theta has 4 values"),
        ({"theta": {"donor": 1}}, "theta names .'donor'., the covariates are .'batch'."),
        ({"theta": {"batch": [1, 2]}}, r"theta\['batch'\] has 2 values, 'batch' has 3 levels"),
        ({"ridge_lambda": [1.0, 2.0]}, "ridge_lambda has 2 values"),
        ({"sigma": [0.1, 0.2]}, "sigma has 2 values, but there are 6 clusters"),
        ({"sigma": []}, "sigma has shape"),
        ({"theta": [[1, 2, 3]]}, "theta has shape"),
        ({"ridge_lambda": 0}, "ridge_lambda=0: give a finite number of at least 1e-08"),
        ({"ridge_lambda": [1, 0, 1]}, "ridge_lambda=0"),
        ({"sigma": 0}, "sigma=0"),
        ({"theta": -1}, "theta=-1"),
        ({"theta": float("nan")}, "theta=nan"),
        ({"theta": "2"}, "theta='2'"),
        ({"n_clusters": 0}, "n_clusters=0"),
        ({"n_clusters": 5.5}, "n_clusters=5.5: give a whole number"),
    ],
)
def test_wrong_parameters__are_refused_before_any_work(
    parameters: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr(loop, "integrate", work)
    Z, frame = twin.simulated(200, 5)
    with pytest.raises(InvalidInput, match=text):
        integrate(Z, frame, **{"n_clusters": 6, **parameters})


# The embedding.


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "crossed"])
def test_zero_rows__stay_and_are_reported(flavor: str, layout: str) -> None:
    Z, frame = twin.simulated(300, 7, layout)
    Z = Z.copy()
    Z[[4, 100, 101]] = 0
    Z[200:204, 0] = 0  # these have a direction
    with pytest.warns(HarmonyWarning, match=r"3 of 300 rows .* zero \(first: 4, 100, 101\)"):
        result = integrate(Z, frame, flavor=flavor)
    assert_plausible(result, Z)
    assert not result.embedding[[4, 100, 101]].any()
    assert (result.embedding != Z)[:4].all()


@pytest.mark.filterwarnings("ignore:.*are all zero")
@pytest.mark.parametrize("flavor", FLAVORS[:2])
def test_zero_rows__agree_with_the_reference(flavor: str) -> None:
    Z, frame = twin.simulated(300, 7, "crossed")
    Z = Z.copy()
    Z[[4, 100, 101]] = 0
    found, wanted = twin.both(
        Z, frame, flavor=flavor, n_clusters=8, tol_clustering=0.0, max_iter_harmony=3
    )
    twin.assert_agree(found, wanted, Z)


@pytest.mark.filterwarnings("ignore:.*are all zero")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda Z: Z * np.array([1, 1, 0, 1, 1]),
        lambda Z: np.where(np.arange(5) == 2, 7.0, Z),
        lambda Z: np.zeros_like(Z),
        lambda Z: np.ones_like(Z),
        lambda Z: np.repeat(Z[:2], len(Z) // 2, axis=0),
        lambda Z: Z[:, :1],
        lambda Z: Z + 1e4,
        lambda Z: Z * 1e-30,
        lambda Z: Z * 1e30,
    ],
    ids=[
        "zero column",
        "constant column",
        "zero",
        "constant",
        "two places",
        "one column",
        "far away",
        "tiny",
        "huge",
    ],
)
def test_degenerate_embedding__gives_finite_coordinates(flavor: str, spoil: Callable) -> None:
    Z, frame = twin.simulated(200, 5)
    Z = twin.frozen(spoil(Z).astype(np.float32))
    assert_plausible(integrate(Z, frame, flavor=flavor), Z)


def test_constant_column__stays_constant() -> None:
    Z, frame = twin.simulated(200, 5)
    Z = np.where(np.arange(5) == 2, np.float32(7), Z)
    result = integrate(Z, frame)
    np.testing.assert_allclose(result.embedding[:, 2], 7, rtol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, object])
def test_values_that_are_not_finite__are_refused_with_their_rows(value: float, dtype: Any) -> None:
    Z, frame = twin.simulated(200, 5)
    Z = Z.astype(dtype)
    Z[[7, 150], [0, 4]] = value
    with pytest.raises(InvalidInput, match=r"2 of 200 rows \(first: 7, 150\)"):
        integrate(Z, frame)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (lambda Z: Z.astype(complex), "complex128"),
        (lambda Z: Z.astype(str), "real numbers are needed"),
        (lambda Z: np.where(np.arange(5) == 2, "a", Z.astype(object)), "not numbers"),
        (lambda Z: Z.astype("datetime64[s]"), "datetime64"),
        (sparse.csr_array, "sparse"),
        (lambda Z: np.ma.masked_greater(Z, 1), "masked"),
        (lambda Z: Z[0], r"shape \(5,\)"),
        (lambda Z: Z[None], r"shape \(1, 200, 5\)"),
        (lambda Z: Z[:, :0], r"shape \(200, 0\)"),
        (lambda Z: Z[:100], "100 rows and the batch column"),
        (lambda Z: Z.T, "5 rows and the batch column"),
        (lambda Z: Z.astype(float) * 1e39, "beyond single precision"),
        (lambda Z: Z.astype(float) * 1e-39, "below single precision: scale it up"),
        (lambda Z: np.where(np.arange(5) == 2, 10**400, Z.astype(object)), "not numbers"),
    ],
)
def test_unusable_embedding__is_refused(form: Callable, text: str) -> None:
    Z, frame = twin.simulated(200, 5)
    with pytest.raises(InvalidInput, match=text):
        integrate(form(Z), frame)


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", "g", ">f4", ">f8", "i1", "i2", "i4", "i8", "u1", "u8", "?", "O"]
)
@pytest.mark.filterwarnings("ignore:.*are all zero")
def test_types__are_taken_for_the_numbers_they_hold(dtype: str) -> None:
    Z, frame = twin.simulated(200, 5)
    typed = (np.abs(Z * 3) if dtype in ("u1", "u8") else Z * 3).astype(dtype)
    plain = integrate(typed.astype(np.float64), frame)
    before = typed.tobytes()
    result = integrate(twin.frozen(typed), frame)
    assert result.embedding.tobytes() == plain.embedding.tobytes()
    assert typed.tobytes() == before


def test_memory_map__is_read_and_left_alone(tmp_path: Path) -> None:
    Z, frame = twin.simulated(200, 5)
    np.save(tmp_path / "Z.npy", Z)
    mapped = np.load(tmp_path / "Z.npy", mmap_mode="r")
    plain = integrate(Z, frame)
    result = integrate(mapped, frame)
    assert result.embedding.tobytes() == plain.embedding.tobytes()
    assert type(result.embedding) is np.ndarray
    np.testing.assert_array_equal(np.load(tmp_path / "Z.npy"), Z)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_input__is_never_changed_nor_shared(flavor: str, memory: str) -> None:
    Z, frame = twin.simulated(200, 5)
    Z = Z.copy()
    values, columns = Z.copy(), frame.copy()
    result = integrate(Z, frame, flavor=flavor, memory=memory)
    np.testing.assert_array_equal(Z, values)
    pd.testing.assert_frame_equal(frame, columns)
    assert not np.shares_memory(result.embedding, Z)


def test_data_frame__of_nullable_numbers_is_taken_and_its_gaps_refused() -> None:
    Z, frame = twin.simulated(200, 5)
    table = pd.DataFrame(Z).astype("Float64")
    assert integrate(table, frame).embedding.tobytes() == integrate(Z, frame).embedding.tobytes()
    table.iloc[3, 3] = pd.NA
    with pytest.raises(InvalidInput, match="not numbers"):
        integrate(table, frame)


# How a run ends.


def test_end__says_converged_when_the_objective_settled() -> None:
    Z, frame = twin.simulated(400, 7)
    result = integrate_embedding(Z, frame, HarmonyParams(tol_harmony=0.5, n_jobs=1))
    assert result.summary["stopped"] == "converged"
    objective = result.summary["objective"]
    assert 0 <= objective[-2] - objective[-1] < 0.5 * abs(objective[-2])


def test_end__says_when_the_objective_rose() -> None:
    Z, frame = twin.simulated(400, 7)
    params = HarmonyParams(flavor="harmony1", tol_harmony=0, max_iter_harmony=50, n_jobs=1)
    result = integrate_embedding(Z, frame, params)
    assert result.summary["stopped"] == "objective rose"
    assert result.summary["objective"][-1] > result.summary["objective"][-2]


@pytest.mark.parametrize("early_stop", [True, False])
def test_end__says_when_all_iterations_were_used(early_stop: bool) -> None:
    Z, frame = twin.simulated(400, 7)
    params = HarmonyParams(tol_harmony=0, max_iter_harmony=2, early_stop=early_stop, n_jobs=1)
    if early_stop:
        with pytest.warns(NotConvergedWarning, match="not settled after 2 iterations"):
            result = integrate_embedding(Z, frame, params)
    else:
        result = integrate_embedding(Z, frame, params)
    assert result.summary["stopped"] == "max_iter_harmony"
    assert result.summary["iterations"] == 2


def test_end__is_an_error_when_the_objective_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from harmonypy_lite.method.rules import Setting

    monkeypatch.setattr(Setting, "objective", lambda self, table: float("nan"))
    Z, frame = twin.simulated(200, 5)
    with pytest.raises(NumericalError, match=r"after round 1 of iteration 1 \(200 cells"):
        integrate(Z, frame)


# Anything.


@st.composite
def partitions(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(2, 60))
    columns = {}
    for c in range(draw(st.integers(1, 3))):
        n_levels = draw(st.integers(1, min(n, 6)))
        codes = draw(st.lists(st.integers(0, n_levels - 1), min_size=n, max_size=n))
        columns[f"covariate {c}"] = [f"level {code}" for code in codes]
    return pd.DataFrame(columns)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    frame=partitions(),
    d=st.integers(1, 9),
    K=st.integers(1, 8),
    theta=st.sampled_from([0, 0.5, 2, 50]),
    flavor=st.sampled_from(FLAVORS),
    scale=st.sampled_from([1e-20, 1, 1e15]),
)
@pytest.mark.filterwarnings("ignore::harmonypy_lite.errors.HarmonyWarning")
def test_any_partition__gives_finite_coordinates_and_whole_tables(
    frame: pd.DataFrame, d: int, K: int, theta: float, flavor: str, scale: float
) -> None:
    n = len(frame)
    Z = np.random.default_rng(n).normal(size=(n, d)) * scale
    try:
        result = integrate(Z, frame, theta=theta, flavor=flavor, n_clusters=min(K, n))
    except InvalidInput as error:
        assert "levels in" in str(error)  # noqa: PT017  the only reason there is
        return
    assert np.isfinite(result.embedding).all()
    if result.outcome is not None:
        size = result.design.level_size
        np.testing.assert_allclose(result.outcome.O.sum(axis=0), size, rtol=1e-5)
        np.testing.assert_allclose(result.outcome.E.sum(axis=0), size, rtol=1e-5)


def test_largest_and_smallest_number__are_looked_for_once() -> None:
    class Counting(np.ndarray):
        calls = 0

        def max(self, *args: Any, **kwargs: Any) -> Any:
            Counting.calls += 1
            return super().max(*args, **kwargs)

        def min(self, *args: Any, **kwargs: Any) -> Any:
            Counting.calls += 1
            return super().min(*args, **kwargs)

    Z = np.ones((4, 3)).view(Counting)
    as_array = np.asarray
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "asarray", lambda x: x if isinstance(x, Counting) else as_array(x))
        assert as_embedding(Z) is Z
    assert Counting.calls == 2


def test_all_zero_embedding__is_not_too_small() -> None:
    zeros = np.zeros((4, 3))
    assert as_embedding(zeros) is zeros


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"theta": 1e4}, 1),
        ({}, 0),
        ({"theta": 1e4, "memory": "lean"}, 0),
        ({"theta": 1e4, "flavor": "harmony1"}, 0),
    ],
)
@pytest.mark.filterwarnings("ignore::harmonypy_lite.NotConvergedWarning")
def test_steep_penalties__that_leave_nothing_to_keep_are_told_once(
    given_: dict[str, Any], told: int, caplog: pytest.LogCaptureFixture
) -> None:
    Z, frame = twin.simulated(200, 5)
    with caplog.at_level("INFO", logger="harmonypy_lite"):
        integrate_embedding(Z, frame, HarmonyParams(max_iter_harmony=2, **given_))
    assert sum("too steep" in line for line in caplog.messages) == told
