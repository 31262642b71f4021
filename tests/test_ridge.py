"""The ridge regression against explicit dense least squares with augmented rows, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import twin

from harmonypy_lite.method import ridge
from harmonypy_lite.method.passes import Moments

COVARIATES = {
    "one": [4],
    "crossed": [4, 3],
    "three crossed": [3, 2, 4],
    "nested": [6, 2],
    "nested in two": [12, 4, 2],
}


class Case:
    """Cells with weights, and the sums over them that the method would hand to the ridge."""

    def __init__(self, layout: str, *, n: int = 300, d: int = 5, K: int = 6, seed: int = 0):
        rng = np.random.default_rng([seed, n])
        self.sizes = COVARIATES[layout]
        codes = np.column_stack([rng.permutation(np.arange(n) % size) for size in self.sizes])
        if layout.startswith("nested"):
            for c in range(1, len(self.sizes)):
                codes[:, c] = codes[:, 0] * self.sizes[c] // self.sizes[0]
        self.offsets = np.cumsum([0, *self.sizes])
        self.codes = codes + self.offsets[:-1]
        self.Phi = np.zeros((n, self.offsets[-1]))
        self.Phi[np.arange(n)[:, None], self.codes] = 1
        self.Z = rng.normal(size=(n, d)) + self.Phi @ rng.normal(0, 2, (self.offsets[-1], d)) + 5
        self.R = rng.dirichlet(np.full(K, 0.2), size=n)
        self.n_levels = int(self.offsets[-1])

    @property
    def level_size(self) -> np.ndarray:
        return self.Phi.sum(axis=0).astype(np.int64)

    @property
    def covariates(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.offsets, self.offsets[1:], strict=False)]

    @property
    def observed(self) -> np.ndarray:
        return self.R.T @ self.Phi

    def thin(self, level: int, cluster: int, share: float) -> None:
        """Take almost all weight of a level out of a cluster."""
        cells = self.Phi[:, level] > 0
        self.R[cells, cluster] *= share

    def moments(self) -> Moments:
        level_sum = np.einsum("ik,ib,id->kbd", self.R, self.Phi, self.Z)
        combinations, which = np.unique(self.codes, axis=0, return_inverse=True)
        if len(self.sizes) == 1:
            return Moments(twin.frozen(level_sum), None, None)
        weight = np.zeros((self.R.shape[1], len(combinations)))
        np.add.at(weight.T, which.reshape(-1), self.R)
        return Moments(twin.frozen(level_sum), twin.frozen(combinations), twin.frozen(weight))

    def solve(self, penalties: np.ndarray, threshold: float | None = 1e-5) -> ridge.Effects:
        moments = self.moments()
        O = twin.frozen(ridge.level_weights(twin.frozen(self.observed), moments))
        size = twin.frozen(self.level_size)
        kept = ridge.kept_levels(O, size, self.covariates, threshold)
        excluded = ridge.excluded_combinations(moments, kept)
        without = 0.0 if excluded is None else self.excluded_sum(excluded)
        return ridge.solve(O, moments, twin.frozen(penalties), twin.frozen(kept), without)

    def excluded_sum(self, excluded: np.ndarray) -> np.ndarray:
        _, which = np.unique(self.codes, axis=0, return_inverse=True)
        return (self.R * excluded.T[which.reshape(-1)]).T @ self.Z

    def dense(
        self, penalties: np.ndarray, kept: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve with one row per cell; only cells with a kept level enter."""
        K, B = penalties.shape
        kept = np.ones((K, B), bool) if kept is None else kept
        W, intercept = np.zeros((K, B, self.Z.shape[1])), np.zeros((K, self.Z.shape[1]))
        for k in range(K):
            cells = self.Phi[:, kept[k]].any(axis=1)
            if cells.any():
                table = reference.dense_ridge(
                    self.Z[cells],
                    self.Phi[np.ix_(cells, kept[k])],
                    self.R[cells, k],
                    penalties[k, kept[k]],
                )
                intercept[k], W[k, kept[k]] = table[0], table[1:]
        return W, intercept


def assert_solved(
    found: ridge.Effects, wanted: tuple[np.ndarray, np.ndarray], rtol: float = 1e-9
) -> None:
    np.testing.assert_allclose(found.W, wanted[0], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.intercept, wanted[1], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__equals_dense_least_squares_with_relative_penalty(layout: str) -> None:
    case = Case(layout)
    expected = np.outer(case.R.sum(axis=0), case.level_size / len(case.Z))
    assert_solved(case.solve(0.2 * expected), case.dense(0.2 * expected))


@pytest.mark.parametrize("layout", COVARIATES)
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6, 1e4])
def test_solve__equals_dense_least_squares_with_fixed_penalty(layout: str, size: float) -> None:
    case = Case(layout)
    penalties = np.full((6, case.n_levels), size)
    # 1e-6 on collinear columns has a condition number of 1e9; single precision would be off by all
    tolerance = 1e-9 if size >= 1e-3 else 1e-6
    assert_solved(case.solve(penalties), case.dense(penalties), tolerance)


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__equals_dense_least_squares_with_penalty_per_level(layout: str) -> None:
    case = Case(layout)
    penalties = np.geomspace(1e-3, 20, 6 * case.n_levels).reshape(6, case.n_levels)
    assert_solved(case.solve(penalties), case.dense(penalties))


@pytest.mark.parametrize("layout", COVARIATES)
@pytest.mark.parametrize("n", [13, 40])
def test_solve__equals_dense_least_squares_for_few_cells(layout: str, n: int) -> None:
    case = Case(layout, n=n)
    penalties = np.full((6, case.n_levels), 0.5)
    assert_solved(case.solve(penalties, None), case.dense(penalties))


@pytest.mark.parametrize(("d", "K"), [(1, 1), (1, 6), (50, 2)])
@pytest.mark.parametrize("layout", ["one", "crossed"])
def test_solve__equals_dense_least_squares_for_odd_sizes(layout: str, d: int, K: int) -> None:
    case = Case(layout, d=d, K=K)
    penalties = np.full((K, case.n_levels), 0.5)
    assert_solved(case.solve(penalties), case.dense(penalties))


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__leaves_out_a_thin_level(layout: str) -> None:
    case = Case(layout)
    case.thin(0, 2, 1e-7)
    kept = np.ones((6, case.n_levels), bool)
    kept[2, 0] = False
    found = case.solve(np.full((6, case.n_levels), 0.7))
    np.testing.assert_array_equal(found.pruned, ~kept)
    assert not found.W[2, 0].any()
    assert_solved(found, case.dense(np.full((6, case.n_levels), 0.7), kept))


@pytest.mark.parametrize("threshold", [1e-5, 0.0, None])
def test_solve__drops_a_covariate_with_one_level_left(threshold: float | None) -> None:
    case = Case("crossed")
    for level in (1, 2, 3):
        case.thin(level, 4, 0.0)
    kept = np.ones((6, case.n_levels), bool)
    kept[4, :4] = False
    found = case.solve(np.full((6, case.n_levels), 0.7), threshold)
    np.testing.assert_array_equal(found.pruned, ~kept)
    assert_solved(found, case.dense(np.full((6, case.n_levels), 0.7), kept))


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__corrects_nothing_where_no_level_is_left(layout: str) -> None:
    case = Case(layout)
    found = case.solve(np.full((6, case.n_levels), 0.7), 1.0)
    assert found.pruned.all()
    assert not found.W.any()
    assert not found.intercept.any()


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__corrects_nothing_in_an_empty_cluster(layout: str) -> None:
    case = Case(layout)
    case.R[:, 3] = 0
    found = case.solve(np.full((6, case.n_levels), 0.7))
    assert not found.W[3].any()
    assert not found.intercept[3].any()
    assert np.isfinite(found.W).all()


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.18])
@pytest.mark.parametrize("layout", ["one", "nested"])
def test_solve__prunes_by_the_share_of_the_level(layout: str, threshold: float) -> None:
    case = Case(layout)
    for level in range(case.n_levels):
        case.thin(level, level % 6, 0.1)
    kept = case.observed > threshold * case.level_size
    for levels in case.covariates:
        kept[:, levels] &= kept[:, levels].sum(axis=1, keepdims=True) >= 2
    found = case.solve(np.full((6, case.n_levels), 0.7), threshold)
    np.testing.assert_array_equal(found.pruned, ~kept)
    assert_solved(found, case.dense(np.full((6, case.n_levels), 0.7), kept))


def test_solve__treats_collinear_columns_alike() -> None:
    # Each platform's column is the sum of its donors' columns: the penalty alone decides, and
    # sums of donors must match their platform's to more than single precision.
    case = Case("nested")
    for size in (1e-3, 1e-5):
        penalties = np.full((6, case.n_levels), size)
        found, (W, intercept) = case.solve(penalties), case.dense(penalties)
        effect, wanted = (np.einsum("ib,kbd->kid", case.Phi, w) for w in (found.W, W))
        np.testing.assert_allclose(effect, wanted, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found.intercept, intercept, rtol=0, atol=1e-7)
        # equal penalties split a shared effect by the number of columns: the effects of the
        # donors of a platform add up to the platform's own
        np.testing.assert_allclose(found.W[:, 0:3].sum(axis=1), found.W[:, 6], atol=1e-6)
        np.testing.assert_allclose(found.W[:, 3:6].sum(axis=1), found.W[:, 7], atol=1e-6)


@pytest.mark.parametrize("layout", ["one", "crossed"])
def test_solve__does_not_depend_on_the_order_of_levels(layout: str) -> None:
    case = Case(layout)
    penalties = np.geomspace(0.1, 10, case.n_levels)[None].repeat(6, axis=0)
    found = case.solve(penalties.copy())
    turned = Case(layout)
    size = turned.sizes[0]
    back = np.r_[np.arange(size)[::-1], np.arange(size, case.n_levels)]
    turned.codes[:, 0] = size - 1 - turned.codes[:, 0]
    turned.Phi = turned.Phi[:, back]
    again = turned.solve(penalties[:, back].copy())
    np.testing.assert_allclose(again.W, found.W[:, back], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(again.intercept, found.intercept, rtol=1e-9, atol=1e-12)


def test_solve__takes_out_the_mean_of_each_level_as_the_penalty_goes_to_zero() -> None:
    case = Case("one", K=1)
    found = case.solve(np.full((1, 4), 1e-9))
    means = found.W[0] + found.intercept[0]
    for level in range(4):
        cells = case.Phi[:, level] > 0
        np.testing.assert_allclose(means[level], case.Z[cells].mean(axis=0), rtol=1e-6)


def test_solve__moves_nothing_as_the_penalty_goes_to_infinity() -> None:
    case = Case("crossed")
    found = case.solve(np.full((6, 7), 1e12))
    assert np.abs(found.W).max() < 1e-8
    means = case.R.T @ case.Z / case.R.sum(axis=0)[:, None]
    np.testing.assert_allclose(found.intercept, means, rtol=1e-8)


def test_kept_levels__are_those_above_the_share() -> None:
    observed = np.array([[1.0, 2.0, 3.0, 10.0, 0.5], [10.0, 0.0, 10.0, 0.0, 10.0]])
    size = np.array([100, 100, 100, 100, 100])
    kept = ridge.kept_levels(observed, size, [slice(0, 3), slice(3, 5)], 0.01)
    np.testing.assert_array_equal(kept, [[0, 1, 1, 0, 0], [1, 0, 1, 0, 0]])


@pytest.mark.parametrize("share", [1e-3, 0.02])
def test_solve__leaves_out_cells_with_pruned_levels_only(share: float) -> None:
    # Level 0 of the first covariate and level 4 of the second are pruned in cluster 2: the cells
    # that have both leave the regression, those with one of them stay in it.
    case = Case("crossed")
    case.thin(0, 2, share)
    case.thin(4, 2, share)
    threshold = case.observed[2, [0, 4]].max() / case.level_size[[0, 4]].min() * 1.01
    kept = np.ones((6, 7), bool)
    kept[2, [0, 4]] = False
    penalties = np.full((6, 7), 0.7)
    found = case.solve(penalties, threshold)
    np.testing.assert_array_equal(found.pruned, ~kept)
    assert_solved(found, case.dense(penalties, kept), 1e-9)
