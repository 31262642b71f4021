"""The whole run against `tests/reference.py`: dense R, one-hot Phi, float64, no shared code.

Both start from the same centroids and blocks. Cells are few (400) because the reference is slow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import twin

from harmonypy_lite.method import form

FLAVORS = ("harmony2", "harmony1")
LAYOUTS = tuple(twin.LAYOUTS)


def check(layout: str, d: int = 7, seed: int = 0, n: int = 400, **parameters: Any) -> Any:
    Z, frame = twin.simulated(n, d, layout, seed)
    # harmony1's 1e-5 of an objective near zero, the difference of terms near 2000, is a matter of
    # rounding for so few cells: it runs all its rounds, but for the test of that tolerance
    if parameters.get("flavor") == "harmony1":
        parameters = {"tol_clustering": 0.0, "max_iter_harmony": 4, **parameters}
    found, wanted = twin.both(Z, frame, **parameters)
    twin.assert_agree(found, wanted, Z)
    return found, wanted


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("d", [7, 50])
@pytest.mark.parametrize("K", [1, 2, 33])
def test_run__agrees_for_any_covariates_dimensions_and_clusters(
    flavor: str, layout: str, d: int, K: int
) -> None:
    check(layout, d, flavor=flavor, n_clusters=K)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("K", [1, 2, 33])
def test_run__agrees_in_one_dimension(flavor: str, layout: str, K: int) -> None:
    # All unit rows are -1 or 1, so that the objective is flat but for rounding after one
    # iteration: without early stopping the number of iterations does not hang on that.
    check(layout, 1, flavor=flavor, n_clusters=K, early_stop=False, max_iter_harmony=3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_run__agrees_with_hundred_clusters(layout: str, flavor: str) -> None:
    # Four cells a cluster: over many harmony1 iterations such clusters amplify rounding.
    check(layout, 7, flavor=flavor, n_clusters=100, max_iter_harmony=2)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "crossed", "three"])
@pytest.mark.parametrize("theta", [0, 1, 2, 4])
def test_run__agrees_for_one_theta(flavor: str, layout: str, theta: float) -> None:
    check(layout, flavor=flavor, n_clusters=8, theta=theta)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("layout", "theta"),
    [
        ("crossed", [4.0, 0.0]),
        ("crossed", [0.0, 1.0]),
        ("nested", [1, 3]),
        ("three", [2.0, 0.5, 4.0]),
        ("one", np.array([0.0, 1.0, 4.0])),
        ("crossed", np.linspace(0, 4, 5)),
    ],
)
def test_run__agrees_for_theta_per_covariate_and_level(
    flavor: str, layout: str, theta: Any
) -> None:
    check(layout, flavor=flavor, n_clusters=8, theta=theta)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "crossed"])
@pytest.mark.parametrize("sigma", [0.05, 0.3, 1, np.linspace(0.05, 0.4, 8)])
def test_run__agrees_for_sigma(flavor: str, layout: str, sigma: Any) -> None:
    # wide clusters make a flat objective: whether it settled is a matter of rounding
    check(layout, flavor=flavor, n_clusters=8, sigma=sigma, early_stop=False, max_iter_harmony=4)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["many", "crossed"])
@pytest.mark.parametrize("tau", [1.0, 10.0, 100.0])
def test_run__agrees_for_tau(flavor: str, layout: str, tau: float) -> None:
    check(layout, flavor=flavor, n_clusters=8, tau=tau)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_run__agrees_for_tiny_fixed_lambda(flavor: str, layout: str) -> None:
    check(layout, flavor=flavor, n_clusters=8, ridge_lambda=1e-3)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("layout", "ridge_lambda"),
    [
        ("one", np.array([1e-3, 1.0, 30.0])),
        ("crossed", [0.1, 10.0]),
        ("grid", np.geomspace(1e-3, 10, 7)),
        ("nested", np.geomspace(1e-3, 10, 8)),
    ],
)
def test_run__agrees_for_lambda_per_covariate_and_level(
    flavor: str, layout: str, ridge_lambda: Any
) -> None:
    check(layout, flavor=flavor, n_clusters=8, ridge_lambda=ridge_lambda)


@pytest.mark.parametrize("alpha", [0.01, 1, 5.0])
@pytest.mark.parametrize("layout", ["one", "grid"])
def test_run__agrees_for_alpha(layout: str, alpha: float) -> None:
    check(layout, n_clusters=8, alpha=alpha)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threshold", [None, 0.0, 1e-3, 0.05, 0.1])
def test_run__agrees_when_levels_are_pruned(layout: str, threshold: float | None) -> None:
    found, _ = check(layout, n_clusters=8, batch_prune_threshold=threshold)
    pruned = found.outcome.effects.pruned
    if threshold == 0.1:
        assert 0 < pruned.sum() < pruned.size, "the threshold should prune some levels, not all"


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "nested"])
def test_run__agrees_without_early_stop(flavor: str, layout: str) -> None:
    found, _ = check(layout, flavor=flavor, n_clusters=8, early_stop=False, max_iter_harmony=7)
    assert found.summary["iterations"] == 7


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("rounds", [1, 6, 30])
def test_run__agrees_for_number_of_rounds(flavor: str, rounds: int) -> None:
    check("crossed", flavor=flavor, n_clusters=8, max_iter_clustering=rounds, tol_clustering=1e-4)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("proportion", [0.003, 0.3, 1.0])
def test_run__agrees_for_block_proportion(flavor: str, proportion: float) -> None:
    check("crossed", flavor=flavor, n_clusters=8, block_proportion=proportion)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(3))
def test_run__with_affinities_of_eleven_bits_agrees_to_as_many(
    layout: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "_MANY", 0)
    Z, frame = twin.simulated(400, 7, layout, seed)
    # rounds that end at a threshold would end elsewhere
    found, wanted = twin.both(Z, frame, tol_clustering=0.0, early_stop=False, max_iter_harmony=5)
    assert found.outcome is not None
    error = np.abs(found.embedding - wanted.Z_corr).max(axis=0) / Z.std(axis=0)
    assert 1e-6 < error.max() < 1e-3
    np.testing.assert_allclose(found.outcome.O, wanted.O, rtol=1e-3, atol=2e-3)
    objective = found.outcome.history.objective
    np.testing.assert_allclose(objective, wanted.objective_harmony, rtol=1e-4, atol=2e-2)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("seed", range(1, 6))
def test_run__agrees_for_other_cells_and_seeds(flavor: str, seed: int) -> None:
    check("grid", 12, seed, n=700, flavor=flavor, rng=seed)
