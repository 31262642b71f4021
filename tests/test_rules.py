"""How far penalties can lead, and how affinities are held for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harmonypy_lite.design import Design, design_from_columns
from harmonypy_lite.method import formulas
from harmonypy_lite.method.form import Form, affinity_bytes
from harmonypy_lite.method.rules import RULES, setting_for
from harmonypy_lite.params import HarmonyParams


def design_of(*sizes: list[int]) -> Design:
    """Return a design of covariates that have levels of these sizes, in any company."""
    rng = np.random.default_rng(0)
    columns = {
        f"c{i}": rng.permutation(np.repeat(np.arange(len(each)), each)).astype(str)
        for i, each in enumerate(sizes)
    }
    return design_from_columns(pd.DataFrame(columns))


def form(*sizes: list[int], **parameters: Any) -> Form:
    params = HarmonyParams(**{"n_clusters": 100} | parameters)
    return setting_for(params, design_of(*sizes)).form


@pytest.mark.parametrize("flavor", ["harmony1", "harmony2"])
@pytest.mark.parametrize("seed", range(20))
def test_steepness__is_never_exceeded(flavor: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(0, 12, rng.integers(2, 9))).astype(int) + 1
    share, K = size / size.sum(), 6
    theta = rng.uniform(0, 8, size.size)
    spread = rng.gamma(10.0 ** rng.uniform(-2, 1), size=(K, size.size)) + 1e-12
    spread[:, 0] = np.eye(K)[0]  # a level that is alone in a cluster
    spread[0, 1:] = 0
    spread /= spread.sum(axis=0)
    for there in (1.0, 0.95):  # with all blocks, and without one
        O = there * spread * size
        E = formulas.expected(O.sum(axis=1), share)
        P = RULES[flavor].penalty(O, E, theta)
        bound = RULES[flavor].steepness(theta, size, size * share)
        assert (P.max(axis=0) - P.min(axis=0) <= bound * (1 + 1e-12)).all()


@pytest.mark.parametrize("flavor", ["harmony1", "harmony2"])
@pytest.mark.parametrize("seed", range(20))
def test_steepness__is_never_exceeded_where_n_is_of_another_time(flavor: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(0, 12, rng.integers(2, 9))).astype(int) + 1
    share, theta = size / size.sum(), rng.uniform(0, 8, size.size)
    O = rng.dirichlet(np.full(6, 0.1), size.size).T * size
    n = rng.dirichlet(np.full(6, 0.1)) * size.sum()
    O[:, 0], n[0] = np.eye(6)[0] * size[0], 0  # all of a level where none are expected
    P = RULES[flavor].penalty(O, formulas.expected(n, share), theta)
    bound = RULES[flavor].steepness(theta, size, 0 * share)
    assert (P.max(axis=0) - P.min(axis=0) <= bound * (1 + 1e-12)).all()


def test_steepness__of_a_level_that_is_alone_is_reached() -> None:
    size, theta = np.array([1000, 99_000]), np.array([2.0, 0.0])
    share = size / size.sum()
    O = np.array([[1000.0, 0.0], [0.0, 99_000.0]])
    P = formulas.penalty_harmony2(O, formulas.expected(O.sum(axis=1), share), theta)
    bound = formulas.steepness_harmony2(theta, size, size * share)
    assert P[1, 0] - P[0, 0] == pytest.approx(bound[0], rel=0.01)


def test_form__is_half_where_cells_are_many_and_penalties_mild() -> None:
    assert form([30_000, 20_000]) is Form.HALF
    assert form([3_000, 2_000]) is Form.SINGLE
    assert form([30_000, 20_000], n_clusters=20) is Form.SINGLE
    assert form([30_000, 20_000], flavor="pooled") is Form.HALF
    assert form([30_000, 20_000], flavor="harmony1") is Form.SINGLE


def test_form__follows_the_penalties() -> None:
    sizes = [49_842, 158]  # a level of sqrt(N / 2) cells is the steepest
    assert form(sizes) is Form.HALF
    assert form(sizes, theta=6.0) is Form.SINGLE
    assert form(sizes, theta=13.0) is Form.WITH_PENALTY
    assert form(sizes, sizes) is Form.HALF
    assert form(sizes, sizes, theta=3.0) is Form.SINGLE


def test_form__hears_of_blocks_that_do_not_hear_of_each_other() -> None:
    assert form([30_000, 20_000], theta=2.5) is Form.HALF
    assert form([30_000, 20_000], theta=2.5, sync="batch") is Form.HALF
    assert form([30_000, 20_000], theta=10.0) is Form.HALF
    assert form([30_000, 20_000], theta=10.0, sync="batch") is Form.WITH_PENALTY


def test_form__of_a_million_cells_and_two_covariates_is_half() -> None:
    # the benchmark of two covariates, whatever sizes its levels have
    size = np.array([999_293, 707])
    bound = formulas.steepness_harmony2(np.array([2.0, 2.0]), size, size**2 / size.sum())
    assert 2 * bound.max() < 30


@pytest.mark.parametrize("sizes", [[[49_842, 158]], [[10_000] * 5], [[5, 49_995], [25_000] * 2]])
@pytest.mark.parametrize("theta", [1.0, 2.0, 3.0, 5.0, 20.0])
@pytest.mark.parametrize("n_clusters", [20, 100])
def test_affinity_bytes__are_enough_whatever_the_levels_are(
    sizes: list[list[int]], theta: float, n_clusters: int
) -> None:
    params = HarmonyParams(theta=theta, n_clusters=n_clusters)
    planned = affinity_bytes(RULES["harmony2"], params, 50_000, len(sizes))
    needed = 2 if form(*sizes, theta=theta, n_clusters=n_clusters) is Form.HALF else 4
    assert planned >= needed
    assert planned == 2 or theta > 2 or n_clusters == 20
