"""What rounding does to a result, held to the bounds that docs/how_it_works.md states.

A step is compared with float64 *given its tables*, the centroids and penalties that a run kept:
then nothing feeds back, and the bound holds for any parameters. Whole iterations are compared where
feedback is mild.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import reference
import twin
from scipy import sparse
from scipy.sparse.linalg import spsolve

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.method import blocks
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Integration, integrate_embedding

FLAVORS = ("harmony2", "harmony1")
#: Rounding of a number in single precision.
EPSILON = float(np.finfo(np.float32).eps) / 2

pytestmark = pytest.mark.filterwarnings("ignore::harmonypy_lite.errors.HarmonyWarning")


class Step(NamedTuple):
    """One iteration of a run, and the same in float64 from the tables that it kept."""

    done: Integration
    Z: np.ndarray  # (N, d) float64, of the single-precision numbers that the run saw
    R: np.ndarray  # (N, K)
    loss: float  # the bound on |R - R*|


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def step(Z: np.ndarray, frame: pd.DataFrame, **parameters: Any) -> Step:
    """Run one iteration; form R from its tables, a block at a time."""
    Z = twin.frozen(np.asarray(Z, np.float32))
    given = {"n_jobs": 1, "early_stop": False, "max_iter_harmony": 1, "n_clusters": 8, **parameters}
    done = integrate_embedding(Z, frame, HarmonyParams(**given), record=True)
    assert done.replay is not None
    design, replay = done.design, done.replay
    sigma, ((in_force, _),) = replay.setting.sigma, replay.steps
    block = blocks.block_of_cells(np.arange(len(Z)), len(in_force), replay.block_seed)
    U, R, span = reference.unit(Z.astype(float)), np.empty((len(Z), sigma.size)), 0.0
    for b, tables in enumerate(in_force):
        own, tilt = block == b, tables.log_tilt.astype(float)
        Y = tables.Yt[:, : sigma.size].T.astype(float)
        R[own] = softmax(-2 * (1 - U[own] @ Y.T) / sigma + tilt[design.codes[own]].sum(axis=1))
        span = max(span, sum(float(-tilt[levels].min()) for levels in design.level_slices()))
    loss = 6 * EPSILON * (1 + 1 / sigma.min() + span)
    return Step(done, Z.astype(float), R, loss)


def dense_effects(one: Step) -> np.ndarray:
    """W (K, B, d), by the reference."""
    replay, design = one.done.replay, one.done.design
    assert replay is not None
    setting, params = replay.setting, replay.setting.params
    Phi = np.zeros((len(one.Z), design.n_levels))
    Phi[np.arange(len(one.Z))[:, None], design.codes] = 1
    covariate = np.repeat(np.arange(len(design.covariates)), np.diff(design.offsets))
    problem = reference.Problem(
        one.Z,
        Phi,
        covariate,
        setting.theta,
        setting.sigma,
        params.flavor,
        params.alpha,
        setting.ridge_lambda,
        params.batch_prune_threshold,
    )
    return reference.ridge(problem, one.R)[0]


def sparse_effects(one: Step) -> np.ndarray:
    """W (K, B, d) of one covariate with many levels, by sparse normal equations."""
    replay, design = one.done.replay, one.done.design
    assert replay is not None
    setting, codes = replay.setting, design.codes[:, 0]
    B, (n, d) = design.n_levels, one.Z.shape
    Phi = sparse.csr_array((np.ones(n), (np.arange(n), codes)), (n, B))
    W = np.zeros((one.R.shape[1], B, d))
    for k, weight in enumerate(one.R.T):
        O = Phi.T @ weight
        assert setting.ridge_lambda is None
        penalty = setting.params.alpha * weight.sum() * setting.level_share
        kept = np.flatnonzero(O / setting.level_size > 1e-5)
        inside = np.isin(codes, kept) * weight
        rows = sparse.hstack([np.ones((n, 1)), Phi[:, kept]], format="csr")
        left = rows.T @ (rows * inside[:, None]) + sparse.diags_array(np.append(0, penalty[kept]))
        W[k, kept] = spsolve(sparse.csc_array(left), rows.T @ (inside[:, None] * one.Z))[1:]
    return W


def assert_within(one: Step, W: np.ndarray | None = None) -> float:
    """R to the step's bound, coordinates to 16 roundings and that bound, of the largest number.

    Returns what was lost of coordinates, of the largest number.
    """
    replay, codes = one.done.replay, one.done.design.codes
    assert replay is not None
    R = replay.assignments(one.Z.astype(np.float32), one.done.design)
    np.testing.assert_allclose(R, one.R, rtol=0, atol=one.loss)
    W = dense_effects(one) if W is None else W
    wanted = one.Z.copy()
    for column in codes.T:
        for k in range(len(W)):
            wanted -= one.R[:, k, None] * W[k, column]
    wanted[~one.Z.any(axis=1)] = 0
    lost = float(np.abs(one.done.embedding - wanted).max() / np.abs(one.Z).max())
    assert lost < 16 * EPSILON + one.loss
    return lost


def spread_of(case: np.ndarray, low: float, high: float) -> np.ndarray:
    draws = np.random.default_rng(0).uniform(np.log(low), np.log(high), (len(case), 1))
    return case.astype(float) * np.exp(draws)


def of_rank(Z: np.ndarray, rank: int) -> np.ndarray:
    return Z[:, :rank] @ np.random.default_rng(0).normal(size=(rank, Z.shape[1]))


def near_twins(Z: np.ndarray) -> np.ndarray:
    twins = np.repeat(Z[:40].astype(float), len(Z) // 40, axis=0)
    return twins * (1 + 1e-6 * np.random.default_rng(0).normal(size=twins.shape))


EMBEDDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it comes": lambda Z: Z,
    **{f"times {s:g}": lambda Z, s=s: Z.astype(float) * s for s in (1e-20, 1e-10, 1e10, 1e20)},
    **{f"plus {s:g}": lambda Z, s=s: Z.astype(float) + s for s in (1e2, 1e4, 1e6)},
    "one column plus 1e6": lambda Z: Z + 1e6 * (np.arange(Z.shape[1]) == 2),
    "near twins": near_twins,
    "of rank 1": lambda Z: of_rank(Z, 1),
    "of rank 2": lambda Z: of_rank(Z, 2),
    "long and short cells": lambda Z: spread_of(Z, 1e-13, 1e13),
    "cells that all but vanish": lambda Z: spread_of(Z, 1e-35, 1),
    "columns that all but vanish": lambda Z: Z * np.geomspace(1e-20, 1, Z.shape[1]),
}


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "crossed"])
@pytest.mark.parametrize("form", EMBEDDINGS)
def test_step__of_any_embedding_is_within_the_bound(form: str, layout: str, flavor: str) -> None:
    Z, frame = twin.simulated(400, 7, layout)
    assert assert_within(step(EMBEDDINGS[form](Z), frame, flavor=flavor)) < 1e-6


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "many", "nested"])
@pytest.mark.parametrize(
    "parameters",
    [
        *({"sigma": sigma} for sigma in (1e-6, 1e-4, 1e-2, 1.0, 1e3, 1e6)),
        {"sigma": np.geomspace(1e-6, 1e6, 8)},
        *({"theta": theta} for theta in (0, 10, 100, 1e3, 1e4, 1e8, 1e12)),
        {"sigma": 1e-4, "theta": 1e6},
        *({"ridge_lambda": size} for size in (1e-3, 1.0, 1e4, 1e10)),
        *({"n_clusters": K} for K in (1, 2, 100)),
    ],
    ids=str,
)
def test_step__of_any_parameters_is_within_the_bound(
    parameters: dict[str, Any], layout: str, flavor: str
) -> None:
    Z, frame = twin.simulated(400, 7, layout)
    lost = assert_within(step(Z, frame, flavor=flavor, **parameters))
    if np.min(parameters.get("sigma", 1)) >= 1e-2:
        assert lost < 1e-6


@pytest.mark.parametrize("alpha", [1e-8, 1e-4, 1e4])
def test_step__of_any_alpha_is_within_the_bound(alpha: float) -> None:
    Z, frame = twin.simulated(400, 7, "nested")
    assert assert_within(step(Z, frame, alpha=alpha)) < 1e-6


@pytest.mark.parametrize("flavor", FLAVORS)
def test_step__with_most_levels_of_one_cell_is_within_the_bound(flavor: str) -> None:
    Z, _ = twin.simulated(500, 7)
    code = np.where(np.arange(500) < 240, np.arange(500), 240 + np.arange(500) % 3)
    done = step(Z, pd.DataFrame({"well": code}), flavor=flavor, n_clusters=3)
    assert (done.done.design.level_size == 1).sum() == 240
    assert assert_within(done) < 1e-6


@pytest.mark.parametrize(("n_levels", "n"), [(1_000, 5_000), (10_000, 25_000)])
def test_step__with_many_levels_is_within_the_bound(n_levels: int, n: int) -> None:
    rng = np.random.default_rng(0)
    code = rng.permutation(np.arange(n) % n_levels)
    Z = rng.normal(0, 3, (4, 5))[rng.integers(0, 4, n)] + rng.normal(size=(n, 5))
    Z += rng.normal(0, 2, (n_levels, 5))[code]
    done = step(Z, pd.DataFrame({"well": code}), n_clusters=4)
    assert done.done.design.n_levels == n_levels
    assert assert_within(done, sparse_effects(done)) < 1e-6
    moved = np.abs(done.done.embedding - done.Z).max()
    assert moved > 1, "nothing was corrected: the case proves nothing"


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "grid", "nested"])
@pytest.mark.parametrize(("theta", "sigma"), [(0, 0.1), (2, 0.1), (10, 0.1), (2, 0.02), (4, 1)])
def test_iteration__with_mild_feedback_is_within_the_bound(
    theta: float, sigma: float, layout: str, flavor: str
) -> None:
    """R decides the penalties of the blocks that come after: what is lost may grow on the way."""
    Z, frame = twin.simulated(400, 7, layout)
    given: dict[str, Any] = {"flavor": flavor, "theta": theta, "sigma": sigma, "n_clusters": 8}
    given |= {"max_iter_harmony": 1, "max_iter_clustering": 4, "early_stop": False}
    found, wanted = twin.both(Z, frame, **given)
    assert np.abs(found.embedding - wanted.Z_corr).max() < 2e-6 * np.abs(Z).max()


def test_lambda__that_cannot_tell_covariates_apart_is_refused() -> None:
    Z, frame = twin.simulated(400, 7, "crossed")
    Z, frame = np.repeat(Z, 10, axis=0), pd.concat([frame] * 10)
    with pytest.raises(InvalidInput, match=r"cannot tell 2 covariates apart in 4000 cells.* 4e-08"):
        step(Z, frame, ridge_lambda=1e-8)
    step(Z, frame, ridge_lambda=4e-8)
    step(Z, frame[["batch"]], ridge_lambda=1e-8)
