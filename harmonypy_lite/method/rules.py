"""What makes a flavour, in one value, and the numbers that one run works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harmonypy_lite.design import Design
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.method import formulas
from harmonypy_lite.method.form import Form, form_of
from harmonypy_lite.method.pooled import Pooling
from harmonypy_lite.method.totals import Composition
from harmonypy_lite.params import HarmonyParams

#: A fixed ridge penalty for each cell, below which the levels of several covariates could not be
#: told apart in double precision: of what cells are moved by, 1e-15 cells / penalty is lost.
_LEAST_LAMBDA = 1e-11


#: Numbers of a table that are worked on at a time: what a formula makes on its way stays in cache.
_NEAR = 12_800


@dataclass(frozen=True)
class Rules:
    """One flavour of Harmony; nothing else knows flavours.

    Attributes
    ----------
    penalty
        P(O, E, theta), added to the log-assignment of every cell of a level.
    diversity
        D(O, E): the term of the objective that the penalty descends.
    steepness
        Bound(theta, N_b, least E_kb beside the whole level) on how far P can differ between two
        clusters.
    moving_centroids
        True: Y = unit(R'u) before each round, and R carries over a correction (2019).
        False: Y = unit(intercept of the ridge regression) after a correction, and R starts anew
        from it (2026).
    fixed_lambda
        Ridge penalty of every level; None: alpha E_kb.
    prunes
        Whether levels that are almost absent from a cluster leave its regression.
    prior
        Makes, from the levels of each covariate, the prior of the effects that stands in place of
        ridge penalties; None: there are penalties.
    """

    penalty: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    diversity: Callable[[np.ndarray, np.ndarray], np.ndarray]
    steepness: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    moving_centroids: bool
    fixed_lambda: float | None
    prunes: bool
    prior: Callable[[tuple[slice, ...]], Pooling] | None = None


RULES = {
    "harmony2": Rules(
        formulas.penalty_harmony2,
        formulas.diversity_harmony2,
        formulas.steepness_harmony2,
        moving_centroids=False,
        fixed_lambda=None,
        prunes=True,
    ),
    "harmony1": Rules(
        formulas.penalty_harmony1,
        formulas.diversity_harmony1,
        formulas.steepness_harmony1,
        moving_centroids=True,
        fixed_lambda=1.0,
        prunes=False,
    ),
    "pooled": Rules(
        formulas.penalty_harmony2,
        formulas.diversity_harmony2,
        formulas.steepness_harmony2,
        moving_centroids=False,
        fixed_lambda=None,
        prunes=False,
        prior=Pooling,
    ),
}


@dataclass(frozen=True)
class Setting:
    """The numbers of one run: a flavour's rules applied to parameters and a design.

    Attributes
    ----------
    theta, sigma
        (B,) after the tau discount, and (K,).
    ridge_lambda
        (B,) fixed penalties, or None for alpha E_kb.
    form
        How affinities are held.
    """

    rules: Rules
    params: HarmonyParams
    n_cells: int
    n_clusters: int
    theta: np.ndarray
    sigma: np.ndarray
    ridge_lambda: np.ndarray | None
    level_size: np.ndarray
    level_share: np.ndarray
    covariates: tuple[slice, ...]
    form: Form

    @property
    def prune_threshold(self) -> float | None:
        """Share of a level below which it leaves a cluster's regression; None: never."""
        return self.params.batch_prune_threshold if self.rules.prunes else None

    def penalty(self, table: Composition) -> np.ndarray:
        """Return P (K, B) for the composition as it stands."""
        # to as many digits as affinities have
        kind = np.float32 if self.form is Form.HALF else np.float64
        O, n, share, theta = (
            x.astype(kind, copy=False) for x in (table.O, table.n, self.level_share, self.theta)
        )
        P = np.empty_like(O)
        step = max(1, _NEAR // self.n_clusters)
        for first in range(0, self.theta.size, step):
            some = slice(first, first + step)
            E = formulas.expected(n, share[some])
            P[:, some] = self.rules.penalty(O[:, some], E, theta[some])
        return P

    def ridge_penalties(self, table: Composition) -> np.ndarray | Pooling:
        """Return lambda (K, B), or the prior that this flavour has in its place."""
        if self.rules.prior is not None:
            return self.rules.prior(self.covariates)
        if self.ridge_lambda is not None:
            return np.broadcast_to(self.ridge_lambda, (self.n_clusters, self.theta.size))
        return self.params.alpha * table.E

    def objective(self, table: Composition) -> float:
        """Sum R 2(1-cos) + sigma sum R log R + sum theta sigma D(O, E), times 2000 / N."""
        return (table.energy + self._pays(table)) * 2000 / self.n_cells

    def diversity(self, table: Composition) -> float:
        """Sum theta sigma D(O, E), times 2000 / N: what the objective pays for uneven levels."""
        return self._pays(table) * 2000 / self.n_cells

    def entropy(self, table: Composition) -> float:
        """Sum sigma R log R, times 2000 / N, estimated from a sample of the cells."""
        return table.entropy * 2000

    def _pays(self, table: Composition) -> float:
        diversity = self.rules.diversity(table.O, table.E)
        return float(np.einsum("k,kb,b->", self.sigma, diversity, self.theta))


def setting_for(params: HarmonyParams, design: Design) -> Setting:
    """Check `params` against `design` and spread them over clusters and levels."""
    params = params.resolved()
    rules = RULES[params.flavor]
    K = params.clusters_for(design.n_cells)
    sigma = np.asarray(params.sigma, dtype=np.float64).ravel()
    if sigma.size not in (1, K):
        raise InvalidInput(
            f"sigma has {sigma.size} values, but there are {K} clusters: give 1 or {K}."
        )
    if rules.prior is not None and params.ridge_lambda is not None:
        raise InvalidInput(
            f"ridge_lambda={params.ridge_lambda!r} with flavor={params.flavor!r}, which estimates "
            "from the data how far to shrink: leave it out, or choose another flavor."
        )
    fixed = rules.fixed_lambda if params.ridge_lambda is None else params.ridge_lambda
    ridge_lambda = None if fixed is None else design.per_level("ridge_lambda", fixed)
    _check_lambda(ridge_lambda, design)
    theta = formulas.discounted_theta(
        design.per_level("theta", params.theta), design.level_size, K, params.tau
    )
    return Setting(
        rules=rules,
        params=params,
        n_cells=design.n_cells,
        n_clusters=K,
        theta=theta,
        sigma=np.broadcast_to(sigma, (K,)).copy(),
        ridge_lambda=ridge_lambda,
        level_size=design.level_size,
        level_share=design.level_share,
        covariates=tuple(design.level_slices()),
        form=form_of(rules, theta, design, K, stale=params.sync == "batch"),
    )


def _check_lambda(ridge_lambda: np.ndarray | None, design: Design) -> None:
    """Refuse penalties by which several covariates cannot be told apart; see `ridge`."""
    if ridge_lambda is None or len(design.covariates) < 2:
        return
    least = _LEAST_LAMBDA * design.n_cells
    if ridge_lambda.min() < least:
        raise InvalidInput(
            f"ridge_lambda={ridge_lambda.min():g} cannot tell {len(design.covariates)} covariates "
            f"apart in {design.n_cells} cells: rounding would be as large as the correction. Give "
            f"at least {least:.0e}, or leave it out."
        )
