"""What the first clustering sees: the three starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import twin

from harmonypy_lite import datasets
from harmonypy_lite.cells import arrangement
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.method import opening, start
from harmonypy_lite.metrics import find_neighbors, lisi
from harmonypy_lite.params import FLAVORS, STARTS, HarmonyParams
from harmonypy_lite.run import Integration, integrate_embedding


def integrate(Z: np.ndarray, frame: pd.DataFrame, **parameters: Any) -> Integration:
    record = parameters.pop("record", False)
    arguments = {"n_clusters": 12, "max_iter_harmony": 2, "early_stop": False, "n_jobs": 1}
    return integrate_embedding(
        Z, frame, HarmonyParams(**{**arguments, **parameters}), record=record
    )


def mixing(Z: np.ndarray, batch: pd.Series) -> float:
    return float(np.median(lisi(find_neighbors(Z, 90), batch)))


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("how", ["centred", "auto"])
@pytest.mark.parametrize("layout", ["one", "three"])
def test_start__gives_the_same_bytes_in_any_mode(
    flavor: str, how: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrangement, "CHUNK", 512)
    Z, frame = twin.simulated(3000, 7, layout)
    arguments = {"flavor": flavor, "start": how, "block_proportion": 0.4}
    one = integrate(Z, frame, record=True, **arguments)
    for other in ({"n_jobs": 3}, {"memory": "lean"}, {"n_jobs": 2, "memory": "lean"}):
        assert integrate(Z, frame, **arguments, **other).embedding.tobytes() == (
            one.embedding.tobytes()
        )
    assert one.replay is not None
    assert one.replay.correct(Z, one.design).tobytes() == one.embedding.tobytes()
    default = integrate(Z, frame, flavor=flavor, start="kmeans", block_proportion=0.4)
    assert default.embedding.tobytes() != one.embedding.tobytes()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_start__has_the_default_of_the_flavour(flavor: str) -> None:
    Z, frame = twin.simulated(500, 7)
    named = {"harmony2": "kmeans", "harmony1": "kmeans", "pooled": "auto"}[flavor]
    found, wanted = (integrate(Z, frame, flavor=flavor, start=s) for s in (None, named))
    assert found.embedding.tobytes() == wanted.embedding.tobytes()
    assert found.summary["parameters"]["start"] == named


@pytest.mark.parametrize("how", STARTS)
def test_correction__starts_from_the_cells_as_they_are(how: str) -> None:
    Z, frame = twin.simulated(600, 7)
    found = integrate(Z, frame, start=how, record=True, max_iter_harmony=1)
    assert found.outcome is not None
    assert found.replay is not None
    R = found.replay.assignments(Z, found.design)
    moved = np.einsum("ik,kid->id", R, found.outcome.effects.W[:, found.design.codes[:, 0]])
    np.testing.assert_allclose(found.embedding, Z - moved, atol=1e-4)


@pytest.mark.parametrize("layout", ["one", "crossed", "nested", "three"])
def test_level_means__are_those_of_least_squares(layout: str) -> None:
    Z, frame = twin.simulated(400, 5, layout)
    design = design_from_columns(frame)
    slices = design.level_slices()
    found = opening.level_means(Z, design.codes, slices)[design.codes].sum(axis=1)
    Phi = np.zeros((400, design.n_levels))
    Phi[np.arange(400)[:, None], design.codes] = 1
    left = Z - Z.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found, Phi @ np.linalg.lstsq(Phi, left)[0], atol=1e-3)


def shifts(adata: Any, how: str) -> np.ndarray:
    """Return what the two batches are moved by against each other."""
    Z, obs = adata.obsm["X_pca"], adata.obs[["batch"]]
    found = integrate(Z, obs, start=how, record=True, n_clusters=None)
    assert found.replay is not None
    W = found.replay.steps[0][1]
    np.testing.assert_allclose(W, np.broadcast_to(W[:1], W.shape))
    return W[0, 1] - W[0, 0]


def test_auto__finds_the_shift_where_composition_differs() -> None:
    # The types of one batch are missing from the other: the means differ by more than the shift.
    adata = datasets.simulate(
        3000, n_types=6, n_batches=2, missing_types=0.3, batch_strength=5.0, rng=2
    )
    effect = adata.obsm["X_pca"] - adata.obsm["X_truth"]
    first = (adata.obs["batch"] == "batch_1").to_numpy()
    truth = effect[~first][0] - effect[first][0]
    error = {how: np.linalg.norm(shifts(adata, how) - truth) for how in ("centred", "auto")}
    assert error["auto"] < 0.15 * np.linalg.norm(truth)
    assert error["centred"] > 0.4 * np.linalg.norm(truth)


@pytest.mark.parametrize("how", ["centred", "auto"])
@pytest.mark.parametrize(("flavor", "enough"), [("harmony2", 1.3), ("pooled", 1.8)])
def test_start__escapes_from_clusters_of_one_batch(how: str, flavor: str, enough: float) -> None:
    adata = datasets.simulate(2000, n_types=4, n_batches=2, batch_strength=16.0, rng=1)
    Z, obs = adata.obsm["X_pca"], adata.obs[["batch"]]
    stuck = integrate_embedding(Z, obs, HarmonyParams(flavor=flavor, start="kmeans")).embedding
    free = integrate_embedding(Z, obs, HarmonyParams(flavor=flavor, start=how)).embedding
    assert mixing(stuck, obs["batch"]) < 1.1
    assert mixing(free, obs["batch"]) > enough


@pytest.mark.parametrize("how", ["centred", "auto"])
def test_start__takes_levels_that_its_sample_missed(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "CELLS_PER_CLUSTER", 10)
    Z, frame = twin.simulated(2000, 5)
    names = frame["batch"].to_numpy().copy()
    names[:5] = "rare"
    sample = start.sample_cells(2000, 12, np.random.default_rng(0))
    assert not (sample < 5).any() or len(sample) == 120
    found = integrate(Z, pd.DataFrame({"batch": names}), start=how, flavor="pooled")
    assert np.isfinite(found.embedding).all()
