"""Votes of neighbours, against the formulas cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from harmonypy_lite.method.votes import halfway, shares


def spread_inside(Z: np.ndarray, label: np.ndarray) -> np.ndarray:
    inside = Z.astype(np.float64)
    for each in set(label.tolist()):
        inside[label == each] -= inside[label == each].mean(axis=0)
    return inside.T @ inside / len(Z)


@pytest.mark.parametrize(("n", "far"), [(300, 0), (9000, 1e4)])
def test_halfway__is_the_geometric_mean_of_euclid_and_mahalanobis(n: int, far: float) -> None:
    rng = np.random.default_rng(n)
    label = rng.integers(0, 3, n) + 1  # no cell has label 0
    mixed = rng.normal(size=(4, 4))
    Z = rng.normal(size=(n, 4)) @ mixed + 5 * rng.normal(size=(4, 4))[label] + far
    L = halfway(Z, label, 4)
    form = L @ L.T
    wanted = np.linalg.inv(sqrtm(spread_inside(Z, label)).real)
    np.testing.assert_allclose(form / np.trace(form), wanted / np.trace(wanted), rtol=1e-6)


def test_halfway__bounds_directions_in_which_no_type_varies() -> None:
    label = np.arange(400) % 2
    Z = np.zeros((400, 3))
    Z[:, 0] = np.random.default_rng(0).normal(size=400)
    Z[:, 1] = label
    L = halfway(Z, label, 2)
    flat, wide = np.sort(np.linalg.norm(L, axis=0) ** 2)[[-1, 0]]
    assert flat / wide == pytest.approx((3 / 1e-3) ** 0.5)
    np.testing.assert_array_equal(halfway(np.eye(3), np.arange(3), 3), np.eye(3))
    scaled = halfway(Z.astype(np.float32) * np.float32(1e25), label, 2)
    np.testing.assert_allclose(scaled @ scaled.T, L @ L.T, rtol=1e-5, atol=1e-6)


def test_shares__weigh_near_votes_more() -> None:
    rng = np.random.default_rng(1)
    label, distance = rng.integers(0, 4, (50, 9)), rng.uniform(1, 2, (50, 9)).astype(np.float32)
    found = shares(label, distance, 5)
    for row in range(50):
        weight = 1 - (distance[row] / distance[row].max()) ** 2
        wanted = [weight[label[row] == each].sum() / weight.sum() for each in range(5)]
        np.testing.assert_allclose(found[row], wanted, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("distance", [0.0, 3.0])
def test_shares__count_votes_where_all_are_equally_far(distance: float) -> None:
    found = shares(np.array([[0, 1, 1, 2]]), np.full((1, 4), distance, np.float32), 3)
    np.testing.assert_allclose(found, [[0.25, 0.5, 0.25]])
