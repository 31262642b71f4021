"""The ridge regression where it is ill-conditioned, against exact rational arithmetic.

Least squares in float64 loses as much as the method does when penalties are tiny or columns nearly
the same. Fractions lose nothing: every number of the cells is taken for what it is to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from test_ridge import COVARIATES, Case

EPSILON = float(np.finfo(float).eps) / 2
SPOILS: dict[str, Callable[[Case], None]] = {}


def exact(case: Case, penalties: np.ndarray, cluster: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects (B, d) and the intercept (d,) of one cluster, rounded once at the end.

    (Phi*' R Phi* + Lambda) beta = Phi*' R z by elimination, Phi* = [1, Phi].
    """
    n, B = case.Phi.shape
    d = case.Z.shape[1]
    columns = [[0, *(1 + int(code) for code in row)] for row in case.codes]
    left = [[Fraction(0)] * (1 + B) for _ in range(1 + B)]
    right = [[Fraction(0)] * d for _ in range(1 + B)]
    for i in range(n):
        weight = Fraction(float(case.R[i, cluster]))
        z = [Fraction(float(x)) for x in case.Z[i]]
        for a in columns[i]:
            for b in columns[i]:
                left[a][b] += weight
            for p in range(d):
                right[a][p] += weight * z[p]
    for b in range(B):
        left[1 + b][1 + b] += Fraction(float(penalties[cluster, b]))
    solved = np.array(eliminated(left, right), dtype=object).astype(float)
    return solved[1:], solved[0]


def eliminated(left: list[list[Fraction]], right: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss and Jordan; nothing is rounded, so that any pivot but 0 will do."""
    rows = [a + b for a, b in zip(left, right, strict=True)]
    size = len(rows)
    for at in range(size):
        pivot = next(r for r in range(at, size) if rows[r][at])
        rows[at], rows[pivot] = rows[pivot], rows[at]
        head = rows[at] = [x / rows[at][at] for x in rows[at]]
        for r in range(size):
            if r != at and rows[r][at]:
                factor = rows[r][at]
                rows[r] = [x - factor * y for x, y in zip(rows[r], head, strict=True)]
    return [row[size:] for row in rows]


def few(layout: str, **sizes: int) -> Case:
    return Case(layout, **{"n": 40, "d": 2, "K": 2, **sizes})


def spoil(change: Callable[[Case], None]) -> Callable[[Case], None]:
    SPOILS[change.__name__] = change
    return change


@spoil
def nothing(case: Case) -> None:
    """As they come."""


@spoil
def far(case: Case) -> None:
    """Cells far from the origin."""
    case.Z = case.Z + 1e6


@spoil
def twins(case: Case) -> None:
    """Cells that differ in the sixth digit."""
    case.Z = case.Z[np.zeros(len(case.Z), int)] * (1 + 1e-6 * case.Z)


@spoil
def thin(case: Case) -> None:
    """A level of which next to nothing is there."""
    case.thin(0, 0, 1e-12)


@spoil
def thinner(case: Case) -> None:
    """Levels of which less and less is there."""
    for level in range(case.n_levels):
        case.thin(level, 0, 10.0 ** (-3 * level))


@spoil
def lone(case: Case) -> None:
    """A level of one cell."""
    members = np.flatnonzero(case.codes[:, 0] == 0)
    case.codes[members[1:], 0] = 1
    case.Phi[:] = 0
    case.Phi[np.arange(len(case.Z))[:, None], case.codes] = 1


@spoil
def light(case: Case) -> None:
    """A cluster of a hundred-millionth of each cell."""
    case.R[:, 0] *= 1e-8


def assert_exact(case: Case, penalties: np.ndarray) -> None:
    """Cells are moved by what they should be, but for what double precision must lose.

    Levels of one covariate are told from the intercept without loss; those of several are told
    from each other by the penalty alone, and a sum of n numbers leaves n / penalty of its rounding.
    """
    found = case.solve(penalties, None)
    W, intercept = exact(case, penalties, 0)
    apart = case.R[:, 0].sum() / penalties[0].min() if len(case.sizes) > 1 else 0.0
    bound = 8 * EPSILON * (1 + apart) * np.abs(case.Z).max()
    np.testing.assert_allclose(case.Phi @ found.W[0], case.Phi @ W, rtol=0, atol=bound)
    np.testing.assert_allclose(found.intercept[0], intercept, rtol=0, atol=bound)


@pytest.mark.parametrize("change", SPOILS)
@pytest.mark.parametrize("layout", COVARIATES)
@pytest.mark.parametrize("size", [1e-8, 1e-4, 1.0])
def test_solve__is_exact_to_the_bound(size: float, layout: str, change: str) -> None:
    case = few(layout)
    SPOILS[change](case)
    assert_exact(case, np.full((2, case.n_levels), size))


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__is_exact_to_the_bound_for_penalties_of_all_sizes(layout: str) -> None:
    case = few(layout)
    assert_exact(case, np.geomspace(1e-8, 1e8, 2 * case.n_levels).reshape(2, -1))


@pytest.mark.parametrize("layout", ["one", "nested", "three crossed"])
def test_solve__is_exact_to_the_bound_for_many_cells(layout: str) -> None:
    case = few(layout, n=2000, d=1)
    assert_exact(case, np.full((2, case.n_levels), 1e-5))


@pytest.mark.parametrize("layout", COVARIATES)
def test_solve__loses_what_the_bound_says_and_not_much_less(layout: str) -> None:
    """A bound that is far from what happens would let anything pass."""
    case = few(layout)
    for level_size in (1e-8, 1e-6):
        penalties = np.full((2, case.n_levels), level_size)
        W, _ = exact(case, penalties, 0)
        lost = np.abs(case.Phi @ case.solve(penalties, None).W[0] - case.Phi @ W).max()
        apart = case.R[:, 0].sum() / level_size if len(case.sizes) > 1 else 1.0
        assert lost > 1e-3 * EPSILON * apart * np.abs(case.Z).max()


@pytest.mark.parametrize(("size", "weight"), [(1e-8, 1.0), (1e-4, 1.0), (1.0, 1e12), (1.0, 1.0)])
@pytest.mark.parametrize("layout", ["crossed", "three crossed"])
def test_solve__loses_nothing_where_one_covariate_is_left(
    layout: str, size: float, weight: float
) -> None:
    """lambda / (O + lambda) is not 1 - O / (O + lambda), which a small lambda rounds away.

    Where covariates are told apart the penalty loses as much anyway; here nothing does.
    """
    case, one = few(layout, n=120), few("one", n=120)
    case.R[(case.codes[:, 1:] != case.codes[0, 1:]).any(axis=1), 0] = 0
    case.R[:, 0] *= weight
    levels = case.sizes[0]
    one.codes, one.Phi, one.Z, one.R = case.codes[:, :1], case.Phi[:, :levels], case.Z, case.R
    penalties = np.full((2, case.n_levels), size)
    found = case.solve(penalties, None)
    W, intercept = exact(one, penalties[:, :levels], 0)
    assert found.pruned[0, levels:].all()
    assert not found.pruned[0, :levels].any()
    bound = 8 * EPSILON * np.abs(case.Z).max()
    np.testing.assert_allclose(found.W[0, :levels], W, rtol=0, atol=bound)
    np.testing.assert_allclose(found.intercept[0], intercept, rtol=0, atol=bound)
