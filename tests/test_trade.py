"""What an integration trades, against neighbours found by scikit-learn one cell at a time."""

from __future__ import annotations

import numpy as np
import pytest
import twin
from sklearn.neighbors import NearestNeighbors

from harmonypy_lite.method import trade


def neighbors(X: np.ndarray, among: np.ndarray, cell: int, k: int) -> set[int]:
    """Return the k nearest cells of `cell` among others."""
    others = among[among != cell]
    search = NearestNeighbors(n_neighbors=k).fit(X[others])
    return set(others[search.kneighbors(X[[cell]], return_distance=False)[0]])


@pytest.mark.parametrize("columns", [1, 2])
def test_trade__is_what_the_neighbours_say(columns: int) -> None:
    rng = np.random.default_rng(columns)
    n = 200
    codes = np.stack([rng.integers(0, 3, n), rng.integers(3, 5, n)], axis=1)[:, :columns]
    before = twin.frozen(rng.normal(size=(n, 4)) + codes[:, :1])
    after = twin.frozen(before - 0.7 * codes[:, :1] + 0.2 * rng.normal(size=(n, 4)))
    everyone = np.arange(n)
    kept, other, even = [], np.zeros(columns), np.zeros(columns)
    for i in range(n):
        near = list(neighbors(after, everyone, i, 30))
        other += (codes[near] != codes[i]).mean(axis=0)
        even += (codes != codes[i]).mean(axis=0)
        own = np.flatnonzero((codes == codes[i]).all(axis=1))
        k = min(10, (len(own) - 1) // 3)
        kept.append(len(neighbors(before, own, i, k) & neighbors(after, own, i, k)) / k)
    found = trade.trade(before, after, codes, np.random.default_rng(0))
    np.testing.assert_allclose(found, [(other / even).mean(), np.mean(kept)], rtol=1e-12)
    assert trade.mixing(after, codes, np.random.default_rng(0)) == found.mixed


def test_trade__of_nothing_done_keeps_everything() -> None:
    X = np.random.default_rng(0).normal(size=(90, 3))
    X[:45] += 100
    codes = np.repeat([0, 1], 45)[:, None]
    found = trade.trade(X, X, codes, np.random.default_rng(0))
    assert found == (0.0, 1.0)


def test_trade__of_levels_of_a_few_cells_is_defined() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    for codes in (np.arange(40), np.arange(40) // 2):
        found = trade.trade(X, X, codes[:, None], np.random.default_rng(0))
        assert found.kept == 1.0
        assert found.mixed > 0.9
