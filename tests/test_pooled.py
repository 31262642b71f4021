"""The pooled table of effects against the mixed model written out, one row per cell and cluster."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import twin
from test_ridge import COVARIATES, Case

from harmonypy_lite import datasets
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.method import pooled, ridge
from harmonypy_lite.method.passes import Moments
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding


def moments_of(case: Case) -> Moments:
    return case.moments()._replace(square_sum=twin.frozen(np.square(case.Z).sum(axis=0)))


def fitted(case: Case, *, smooth: bool = True) -> pooled._Fit:
    """Fit until nothing moves any more."""
    moments = moments_of(case)
    O = ridge.level_weights(case.observed, moments)
    fit = pooled._Fit(O, moments, case.covariates)
    for _ in range(3):
        fit.renew_spread()
        for c in range(len(case.covariates)):
            fit.renew_variances(c, smooth=smooth)
            fit.renew_effects(c)
    fit.settle()
    return fit


def dense_posterior(
    case: Case, roots: list[np.ndarray], V: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means (m, f): least squares on one row per cell and cluster.

    Row (i, k) is sqrt(R_ik) [e_k, row k of L in the places of the levels of i]; one row more for
    each coefficient u of L, whose prior is N(0, 1). The intercepts have none.
    """
    n, K = case.R.shape
    root_R = np.sqrt(case.R)[:, :, None]
    columns = [root_R * np.eye(K)]  # (n, K, K)
    L_of_level = [
        L
        for L, levels in zip(roots, case.covariates, strict=True)
        for _ in range(levels.start, levels.stop)
    ]
    columns += [root_R * case.Phi[:, b, None, None] * L for b, L in enumerate(L_of_level)]
    X = np.concatenate(columns, axis=2).reshape(n * K, -1)
    y = (root_R * (case.Z / np.sqrt(V))[:, None]).reshape(n * K, -1)
    prior = np.eye(X.shape[1])[K:]
    solution, *_ = np.linalg.lstsq(
        np.vstack([X, prior]), np.vstack([y, np.zeros((len(prior), y.shape[1]))]), rcond=None
    )
    u = np.split(solution[K:], np.cumsum([L.shape[1] for L in L_of_level])[:-1])
    f = np.stack([L @ own for L, own in zip(L_of_level, u, strict=True)], axis=1)
    return solution[:K] * np.sqrt(V), f * np.sqrt(V)


@pytest.fixture
def all_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no eigenvector out, and run to the end."""
    monkeypatch.setattr(pooled, "LEFT_OUT", 0.0)
    monkeypatch.setattr(pooled, "_TOLD", 0.0)
    monkeypatch.setattr(pooled, "_SETTLED", 1e-9)
    monkeypatch.setattr(pooled, "_MORE_ROUNDS", 3000)


@pytest.mark.usefixtures("all_of_the_kernel")
@pytest.mark.parametrize("layout", COVARIATES)
def test_effects__are_the_posterior_mean_of_the_dense_model(layout: str) -> None:
    case = Case(layout, n=120, d=3, K=4)
    fit = fitted(case)
    m, f = dense_posterior(case, fit._roots, fit._scale**2)
    np.testing.assert_allclose(fit.f, f, atol=1e-6)
    np.testing.assert_allclose(fit.m, m, atol=1e-6)
    assert np.abs(f).max() > 0.5


@pytest.mark.parametrize("layout", ["one", "crossed"])
def test_kernel__is_that_of_the_text(layout: str) -> None:
    case = Case(layout, n=120, d=3, K=4)
    columns, part = pooled._columns(case.R.T @ case.Z, smooth=True)
    u = case.R.T @ case.Z
    u = u / np.linalg.norm(u, axis=1, keepdims=True)
    wanted = [[np.exp(-2 * (1 - a @ b) / pooled.LENGTH) for b in u] for a in u]
    smooth = columns[:, part == 1]
    np.testing.assert_allclose(smooth @ smooth.T, wanted, atol=4 * pooled.LEFT_OUT)
    np.testing.assert_array_equal(columns[:, part == 0], np.ones((4, 1)))


@pytest.mark.parametrize("layout", COVARIATES)
def test_spread__is_the_mean_square_of_what_the_fit_leaves(layout: str) -> None:
    case = Case(layout, n=200, d=3, K=4)
    fit = fitted(case)
    fit.renew_spread()
    total = np.zeros(3)
    for i, codes in enumerate(case.codes):
        for k in range(4):
            total += case.R[i, k] * np.square(case.Z[i] - fit.m[k] - fit.f[k, codes].sum(axis=0))
    np.testing.assert_allclose(fit._scale**2, total / len(case.Z), rtol=1e-9)


def to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the variances change until they stand still."""
    monkeypatch.setattr(pooled, "_UPDATES", 20000)
    monkeypatch.setattr(pooled, "_CHANGE", 1e-9)
    monkeypatch.setattr(pooled, "_SLIGHT", 0.0)


class Table:
    """Cells, sums and centroid-like columns of a small table with an effect."""

    def __init__(self, K: int, B: int, d: int, *, common: float, smooth: float, seed: int = 0):
        rng = np.random.default_rng([seed, K, B])
        self.O = rng.integers(2, 60, (K, B)) + rng.random((K, B))
        self.columns, self.part = pooled._columns(rng.normal(size=(K, 3)), smooth=True)
        u = rng.normal(size=(self.columns.shape[1], B, d))
        L = self.columns * np.sqrt([common, smooth])[self.part]
        mean = 3 * rng.normal(size=(K, 1, d)) + np.tensordot(L, u, 1)
        mean += rng.normal(size=(K, B, d)) / np.sqrt(self.O)[:, :, None]
        self.S = self.O[:, :, None] * mean

    def maximum(self, start: tuple[float, float] = (1.0, 0.1)) -> np.ndarray:
        told = pooled.told_by(self.O, self.S, self.columns)
        return pooled.restricted_maximum(told, self.part, np.array(start))

    def covariance(self, values: np.ndarray) -> np.ndarray:
        """Of the means of all pairs of level and cluster, one dimension, given m."""
        C = (self.columns * np.asarray(values)[self.part]) @ self.columns.T
        B = self.O.shape[1]
        return np.kron(C, np.eye(B)) + np.diag(1 / self.O.ravel())

    def restricted(self, values: np.ndarray) -> float:
        """Restricted log-likelihood, from its textbook formula (Patterson & Thompson 1971)."""
        K, B, d = self.S.shape
        y = (self.S / self.O[:, :, None]).reshape(K * B, d)
        X = np.repeat(np.eye(K), B, axis=0)
        precision = np.linalg.inv(self.covariance(values))
        XPX = X.T @ precision @ X
        rest = y - X @ np.linalg.solve(XPX, X.T @ precision @ y)
        logs = np.linalg.slogdet(precision)[1] - np.linalg.slogdet(XPX)[1]
        return 0.5 * d * logs - 0.5 * np.einsum("id,ij,jd->", rest, precision, rest)


def test_restricted_likelihood__is_the_likelihood_with_the_intercepts_integrated_out() -> None:
    # numerically, over a grid of both intercepts: no formula of the oracle enters
    from scipy.stats import multivariate_normal

    table = Table(2, 3, 1, common=0.5, smooth=0.5)
    y = (table.S / table.O[:, :, None]).reshape(-1)
    middle = y.reshape(2, 3).mean(axis=1)
    steps = np.linspace(-9, 9, 181)
    grid = np.stack(np.meshgrid(middle[0] + steps, middle[1] + steps), -1).reshape(-1, 2)
    found = []
    for values in ([0.5, 0.5], [0.1, 1.0], [2.0, 0.01]):
        density = multivariate_normal(np.zeros(6), table.covariance(values)).logpdf
        logs = density(y - np.repeat(grid, 3, axis=1))
        integral = np.logaddexp.reduce(logs) + 2 * np.log(steps[1] - steps[0])
        found.append(integral - table.restricted(values))
    np.testing.assert_allclose(found, found[0], atol=1e-3)


@pytest.mark.usefixtures("all_of_the_kernel")
def test_two_levels__are_the_gaussian_process_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With free intercepts only the difference of two levels is evidence, and it is a Gaussian
    # process of twice the variance: scikit-learn fits and predicts it.
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    to_the_end(monkeypatch)
    rng = np.random.default_rng(1)
    u = rng.normal(size=(25, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    O = rng.integers(20, 60, (25, 2)).astype(float)
    effect = 1.5 + np.sin(2 * u[:, 0]) + u[:, 1]
    y = rng.normal(size=(25, 1)) + np.stack([effect, 0 * effect], axis=1)
    y += rng.normal(size=(25, 2)) / np.sqrt(O)
    # exp(-|a - b|^2 / (2 l^2)) with |a - b|^2 = 2 (1 - cos) is the text's with l^2 = h / 2
    kernel = ConstantKernel(1.0, (1e-4, 1e4)) + ConstantKernel(1.0, (1e-4, 1e4)) * RBF(
        np.sqrt(pooled.LENGTH / 2), "fixed"
    )
    model = GaussianProcessRegressor(kernel, alpha=(1 / O).sum(axis=1), n_restarts_optimizer=3)
    model.fit(u, y[:, 0] - y[:, 1])
    columns, part = pooled._columns(u, smooth=True)
    S = (O * y)[:, :, None]
    told = pooled.told_by(O, S, columns)
    values = pooled.restricted_maximum(told, part, np.array([1.0, 0.1]))
    np.testing.assert_allclose(2 * values, np.exp(model.kernel_.theta), rtol=0.01)
    L = columns * np.sqrt(values)[part]
    difference = L @ (pooled.solve(pooled.told_by(O, S, L)).u[:, :, 0] * [[1], [-1]]).sum(axis=0)
    np.testing.assert_allclose(difference, model.predict(u), atol=2e-3)


@pytest.mark.parametrize("K", [3, 12])
@pytest.mark.parametrize("B", [2, 5])
@pytest.mark.parametrize(("common", "smooth"), [(1.0, 0.3), (0.05, 0.0), (0.0, 0.5)])
def test_variances__maximise_the_restricted_likelihood(
    K: int, B: int, common: float, smooth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_the_end(monkeypatch)
    table = Table(K, B, 40, common=common, smooth=smooth)
    found = table.maximum()
    best = table.restricted(found)
    for other in np.geomspace(0.03, 30, 13):
        assert table.restricted(found * [other, 1]) <= best + 1e-3
        assert table.restricted(found * [1, other]) <= best + 1e-3
    if common and smooth and K == 12:
        assert 0.3 < found[0] / common < 3
        assert 0.5 < found[1] / smooth < 2


def test_variances__few_updates_come_close(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(40, 4, 20, common=1.0, smooth=0.3)
    found = table.maximum()
    to_the_end(monkeypatch)
    np.testing.assert_allclose(found, table.maximum(), rtol=0.1)


def test_variances__go_to_nothing_together_where_there_is_no_effect() -> None:
    # Each may stop beside the other that is larger; both may not stop early.
    table = Table(40, 8, 30, common=0.0, smooth=0.0, seed=3)
    assert (table.maximum() < 1e-4).all()


def test_columns__that_no_level_can_tell_move_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    adata = datasets.simulate(3000, n_batches=60, type_strength=0.5, rng=4)
    params = HarmonyParams(flavor="pooled", start="kmeans", max_iter_harmony=1, early_stop=False)
    found, whole = [], []
    for told, results in ((pooled._TOLD, found), (0.0, whole)):
        monkeypatch.setattr(pooled, "_TOLD", told)
        run = integrate_embedding(adata.obsm["X_pca"], adata.obs[["batch"]], params)
        results.append(run.embedding - adata.obsm["X_pca"])
    # some columns were left out, and what they would have done is little
    assert found[0].tobytes() != whole[0].tobytes()
    assert np.sqrt(np.square(found[0] - whole[0]).mean()) < 0.01 * np.sqrt(np.square(whole).mean())


def test_effects__reach_where_a_level_has_no_cells() -> None:
    case = Case("one", n=400, K=6)
    shift = np.array([[0.0], [4.0], [0.0], [0.0]])
    case.Z = np.random.default_rng(0).normal(size=case.Z.shape) + case.Phi @ shift + 5
    case.thin(1, 2, 0.0)
    moments = moments_of(case)
    found = pooled.Pooling(tuple(case.covariates)).effects(case.observed, moments)
    apart = found.W[:, 1] - found.W[:, [0, 2, 3]].mean(axis=1)
    np.testing.assert_allclose(apart, 4, atol=0.6)


def test_effects__of_an_empty_cluster_are_none() -> None:
    case = Case("crossed", K=5)
    case.R[:, 3] = 0
    moments = moments_of(case)
    O = ridge.level_weights(case.observed, moments)
    found = pooled.Pooling(tuple(case.covariates)).effects(O, moments)
    assert not found.W[3].any()
    assert not found.intercept[3].any()
    assert np.isfinite(found.W).all()
    assert found.intercept[[0, 1, 2, 4]].all()


def test_effects__without_smooth_part_are_one_shift_per_level() -> None:
    case = Case("one", n=400)
    found = pooled.Pooling(tuple(case.covariates), smooth=False).effects(
        case.observed, moments_of(case)
    )
    np.testing.assert_allclose(found.W, np.broadcast_to(found.W[:1], found.W.shape), atol=1e-9)
    assert np.abs(found.W).max() > 0.5


@pytest.mark.parametrize("n_batches", [2, 6])
def test_run__moves_nothing_where_labels_mean_nothing(n_batches: int) -> None:
    adata = datasets.simulate(3000, batch_strength=0.0, n_batches=n_batches)
    Z = adata.obsm["X_pca"]
    moved = integrate_embedding(Z, adata.obs[["batch"]], HarmonyParams(flavor="pooled")).embedding
    # within a type each dimension has a standard deviation of 1
    assert np.sqrt(np.square(moved - Z).mean()) < 0.015


def test_run__moves_little_where_shuffled_batches_are_tiny() -> None:
    # Few large levels tell the variances badly, and few updates leave one that is 0 above it.
    adata = datasets.simulate(1500, batch_strength=2.0, n_batches=200, rng=3)
    Z = adata.obsm["X_pca"]
    frame = adata.obs[["batch"]].iloc[np.random.default_rng(3).permutation(1500)]
    moved = integrate_embedding(Z, frame, HarmonyParams(flavor="pooled")).embedding
    assert np.sqrt(np.square(moved - Z).mean()) < 0.015


def test_run__straightens_what_the_ridge_bends() -> None:
    adata = datasets.simulate(4000, batch_strength=3.0, rng=1)
    truth, Z = adata.obsm["X_truth"], adata.obsm["X_pca"]
    errors = {}
    for flavor in ("harmony2", "pooled"):
        found = integrate_embedding(Z, adata.obs[["batch"]], HarmonyParams(flavor=flavor)).embedding
        off = found - truth
        errors[flavor] = np.square(off - off.mean(axis=0)).mean()
    assert errors["pooled"] < 0.3 * errors["harmony2"]


def test_run__two_covariates_are_told_apart() -> None:
    adata = datasets.simulate(3000, covariate="crossed", batch_strength=3.0, rng=2)
    Z, obs = adata.obsm["X_pca"], adata.obs[["batch", "chemistry"]]
    found = integrate_embedding(Z, obs, HarmonyParams(flavor="pooled"))
    off = found.embedding - adata.obsm["X_truth"]
    assert np.square(off - off.mean(axis=0)).mean() < 0.05
    assert np.square(Z - adata.obsm["X_truth"]).mean() > 0.2


def test_ridge_lambda__is_refused() -> None:
    frame = pd.DataFrame({"batch": ["a", "b"] * 50})
    Z = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(InvalidInput, match=r"ridge_lambda=1\.0 with flavor='pooled'"):
        integrate_embedding(Z, frame, HarmonyParams(flavor="pooled", ridge_lambda=1.0))
