"""What holds of every run, whatever the cells, levels and parameters: cases that nobody chose.

Some hundred cases in the usual run, always the same; `pytest --hypothesis-profile=nightly
tests/test_properties.py` draws thousands of new ones.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import twin
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Integration, Progress, integrate_embedding
from harmonypy_lite.stream import integrate_stream

NIGHTLY = settings().max_examples >= 5000
FORMS = {
    "float32": lambda Z: Z.astype(np.float32),
    "float64": lambda Z: Z,
    "float16": lambda Z: Z.astype(np.float16),
    "whole": lambda Z: np.rint(4 * Z).astype(np.int32),
    "fortran": np.asfortranarray,
    "strided": lambda Z: np.repeat(Z.astype(np.float32), 2, axis=1)[:, ::2],
    "backwards": lambda Z: Z[::-1].copy()[::-1],
    "bigendian": lambda Z: Z.astype(">f8"),
}
LAYOUTS = ("one", "tiny", "many", "crossed", "nested", "three", "same", "single")


def any_of(cases: int) -> Any:
    """Return the settings of a test: so many cases, or those of the profile if it has more."""
    return settings(
        max_examples=max(cases, settings().max_examples if NIGHTLY else 0),
        derandomize=not NIGHTLY,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


class Case(NamedTuple):
    """A call."""

    Z: np.ndarray
    frame: pd.DataFrame
    parameters: dict[str, Any]


def columns_of(layout: str, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the levels of n cells."""
    first = rng.integers(0, 3, n)
    if layout == "single":
        return {"a": np.zeros(n, int)}
    if layout == "tiny":  # several levels of one cell
        first[: min(4, n // 4)] = 3 + np.arange(min(4, n // 4))
    if layout == "many":
        first = rng.integers(0, max(2, n // 4), n)
    columns = {"a": first}
    if layout in ("crossed", "three"):
        columns["b"] = rng.integers(0, 2, n)
    if layout in ("nested", "three"):
        columns["c"] = 2 * first + rng.integers(0, 2, n)
    if layout == "same":
        columns["b"] = 7 - first
    return columns


@st.composite
def embeddings(draw: st.DrawFn, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw cells of four types, some of them spoilt, in some memory order and type."""
    Z = rng.normal(0, 3, (4, d))[rng.integers(0, 4, n)] + rng.normal(size=(n, d))
    spoilt = draw(st.sampled_from(["none", "none", "zeros", "twins", "flat", "far"]))
    if spoilt == "zeros":
        Z[rng.random(n) < 0.1] = 0
    elif spoilt == "twins":
        Z = Z[rng.integers(0, max(1, n // 5), n)]
    elif spoilt == "flat":  # of rank one
        Z = Z[:, :1] * rng.normal(size=d)
    elif spoilt == "far":
        Z += 100
    Z = FORMS[draw(st.sampled_from(sorted(FORMS)))](Z)
    Z.flags.writeable = False
    return Z


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw as many small numbers as large ones."""
    return st.floats(np.log(low), np.log(high)).map(lambda x: float(np.exp(x)))


@st.composite
def parameters_for(draw: st.DrawFn, n: int, n_columns: int) -> dict[str, Any]:
    """Draw parameters within their bounds."""
    theta = st.sampled_from([0.0, 1.0, 2.0, 100.0]) | st.floats(0, 100)
    lists = st.lists(theta, min_size=n_columns, max_size=n_columns)
    flavor = draw(st.sampled_from(["harmony2", "harmony1", "pooled"]))
    fixed = st.none() if flavor == "pooled" else st.none() | st.none() | floats(1e-4, 100)
    return {
        "flavor": flavor,
        "start": draw(st.sampled_from([None, None, "kmeans", "centred", "auto"])),
        "n_clusters": draw(st.none() | st.integers(1, min(n, 40))),
        "theta": draw(theta | lists),
        "sigma": draw(st.just(0.1) | floats(1e-3, 10)),
        "tau": draw(st.sampled_from([0.0, 0.0, 5.0, 50.0])),
        "alpha": draw(st.just(0.2) | floats(1e-4, 10)),
        "ridge_lambda": draw(fixed),
        "batch_prune_threshold": draw(st.sampled_from([1e-5, None, 0.0, 0.02, 0.5])),
        "block_proportion": draw(st.just(0.05) | floats(0.01, 1)),
        "sync": draw(st.sampled_from(["exact", "exact", "exact", "batch"])),
        "max_iter_harmony": draw(st.integers(1, 3)),
        "max_iter_clustering": draw(st.none() | st.integers(1, 3)),
        "early_stop": draw(st.booleans()),
        "rng": draw(st.integers(0, 2**40)),
    }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a call."""
    n = draw(st.integers(1, 12) | st.integers(1, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    layout = draw(st.sampled_from(LAYOUTS))
    columns = columns_of(layout, n, rng)
    kind = draw(st.sampled_from(["text", "number", "category"]))
    frame = pd.DataFrame(columns)
    if kind != "number":
        frame = frame.map("level {}".format)
    if kind == "category":
        frame = frame.astype("category")
    Z = draw(embeddings(n, draw(st.integers(1, 20)), rng))
    return Case(Z, frame, draw(parameters_for(n, len(columns))))


def run(case: Case, **changes: Any) -> tuple[Integration, list[Progress]]:
    """Integrate; return also what was reported."""
    seen: list[Progress] = []
    params = HarmonyParams(**{"n_jobs": 1, **case.parameters, **changes})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)
        done = integrate_embedding(case.Z, case.frame, params, record=True, progress=seen.append)
    return done, seen


def streamed(case: Case, done: Integration, n_rows: int) -> bytes:
    """Return the result of the same run with its cells in scratch files."""
    params = HarmonyParams(**{**case.parameters, "n_jobs": 2})
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore", HarmonyWarning)
        with integrate_stream(case.Z, done.design, params, Path(folder), n_rows=n_rows) as stream:
            return np.concatenate(list(stream.batches)).tobytes()


def assert_whole(done: Integration, case: Case, seen: list[Progress]) -> None:
    """Look at a result by itself."""
    outcome, history = done.outcome, done.outcome.history  # type: ignore[union-attr]
    assert outcome is not None
    size = done.design.level_size
    np.testing.assert_allclose(outcome.O.sum(axis=0), size, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outcome.E.sum(axis=0), size, rtol=1e-5, atol=1e-5)
    assert (outcome.O >= 0).all()
    rounds = [x for each in history.rounds for x in each]
    assert [report.objective for report in seen] == rounds
    assert np.isfinite([history.start, *rounds]).all()
    assert done.summary["rounds"] == [len(each) for each in history.rounds]
    most = case.parameters["max_iter_harmony"]
    assert 1 <= done.summary["iterations"] == len(history.rounds) <= most
    assert history.stopped in ("converged", "objective rose", "max_iter_harmony")
    assert done.replay is not None
    R = done.replay.assignments(as_embedding(case.Z), done.design)
    assert (R >= 0).all()
    np.testing.assert_allclose(R.sum(axis=1), 1, atol=1e-5)


@any_of(240)
@given(case=cases(), n_rows=st.integers(1, 500), lean=st.booleans())
def test_any_run__is_finite_whole_and_the_same_however_it_is_held(
    case: Case, n_rows: int, lean: bool
) -> None:
    before = case.Z.tobytes()
    try:
        done, seen = run(case)
    except InvalidInput as error:  # levels of which most have one cell
        event("refused")
        assert "levels in" in str(error)  # noqa: PT017  the only reason there is
        return
    assert case.Z.tobytes() == before
    assert not np.shares_memory(done.embedding, case.Z)
    assert (done.embedding.shape, done.embedding.dtype) == (case.Z.shape, np.float32)
    assert np.isfinite(done.embedding).all()
    given_ = np.asarray(case.Z, np.float32)
    still = ~case.Z.any(axis=1) if done.outcome else np.ones(len(given_), bool)
    np.testing.assert_array_equal(done.embedding[still], given_[still])
    event("corrected" if done.outcome else "one level")
    if done.outcome:
        assert_whole(done, case, seen)
    other, _ = run(case, n_jobs=3, memory="lean" if lean else "fast")
    assert other.embedding.tobytes() == done.embedding.tobytes()
    if done.outcome and n_rows % 3 == 0:
        assert streamed(case, done, n_rows) == done.embedding.tobytes()


@st.composite
def mild_cases(draw: st.DrawFn) -> Case:
    """Draw a call whose result rounding hardly changes, so that the reference can tell."""
    n = draw(st.integers(12, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frame = pd.DataFrame(columns_of(draw(st.sampled_from(LAYOUTS[:-2])), n, rng))
    Z = draw(embeddings(n, draw(st.integers(2, 12)), rng))
    parameters = {
        **draw(parameters_for(n, len(frame.columns))),
        "flavor": draw(st.sampled_from(["harmony2", "harmony1"])),
        "start": "kmeans",
        "n_clusters": draw(st.integers(1, 6)),
        "theta": draw(st.floats(0, 4)),
        "sigma": draw(floats(0.05, 5)),
        "ridge_lambda": draw(st.none() | floats(0.1, 10)),
        "batch_prune_threshold": None,  # a level just above or just below is another model
        "alpha": draw(floats(0.05, 5)),
        "sync": "exact",
        "max_iter_harmony": 1,
        "tol_clustering": 0.0,  # a fall just above or just below it is a round more or less
    }
    return Case(Z, frame.map("level {}".format), parameters)


@any_of(60)
@given(case=mild_cases())
def test_any_mild_run__agrees_with_the_reference(case: Case) -> None:
    """One iteration: coordinates to 1e-3 of the largest, objectives to 1e-4."""
    try:
        done, _ = run(case)
    except InvalidInput as error:
        assert "levels in" in str(error)  # noqa: PT017
        return
    if done.outcome is None:
        return
    Z = np.asarray(case.Z, np.float32)
    params = HarmonyParams(**case.parameters)
    # of cells in one line k-means has ties that the last digit of double precision breaks
    start, _, _ = twin.start_of(as_embedding(case.Z), params)
    frame = case.frame[list(done.design.covariates)]
    wanted = twin.reference_of(Z, frame, params, Y0=start)
    event(f"moved: {np.abs(wanted.Z_corr - Z).max() > 1e-2}")
    np.testing.assert_allclose(
        done.embedding, wanted.Z_corr, rtol=0, atol=1e-3 * np.abs(Z).max() + 1e-30
    )
    np.testing.assert_allclose(done.outcome.O, wanted.O, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        done.outcome.history.objective, wanted.objective_harmony, rtol=1e-4, atol=2e-2
    )
