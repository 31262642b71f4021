"""The correction step of the pooled flavour: effects that vary smoothly over cell states.

A ridge regression estimates what a level does to a cluster from the cells of that level in that
cluster alone: about ten, and the estimate is mostly noise. Here the clusters share what they know.

The model. For the cells i of level b in cluster k, z_i ~ N(m_k + f_b(k), V), V diagonal. The
intercepts m_k are free (a flat prior: where a type lies says nothing about another), the effects
f_b of the levels of a covariate are independent draws of one Gaussian process over the clusters,

    cov(f_b(k), f_b(l)) = (g + t exp(-2 (1 - cos(m_k, m_l)) / h)) V  =  C_kl V,

a part that all clusters have in common (g) and one that is shared by similar cell states (t). With
t large this is an estimate per neighbourhood of states, with t = 0 one shift per level, with g = 0
too it is no correction; a new level or an empty pair (k, b) gets what its neighbours tell. It is
kriging (Krige 1951) of an external drift m, or a linear mixed model, and the corrections are its
best linear unbiased predictions (Henderson 1975).

Sums are enough. Divided by the square root of V, dimensions share one likelihood, in which only
O_kb = sum R_ik and S_kb = sum R_ik z_i over the cells of b appear. With D_b = diag(O_kb over k),
P_b = D_b - D_b (C^-1 + D_b)^-1 D_b = (C + D_b^-1)^-1, and C = L L',

    M m = sum_b (S_b - G_b L' S_b),      M = sum_b P_b,     G_b = D_b L A_b^-1,
    f_b = L u_b,  A_b u_b = L' (S_b - D_b m),               A_b = I + L' D_b L.

L has a column for the common part and the leading eigenvectors of the kernel.

The variances g and t maximise the restricted likelihood (Patterson & Thompson 1971): the likelihood
of what is left once m is integrated out, -2 log L = d (sum_b log|A_b| + log|M|) + |residuals|^2_P +
a constant. It is stationary where, for each part with n columns of L, MacKay's (1992) update

    variance <- variance |u|^2 / gamma,     gamma = d sum_b sum_j (1 - [A_b^-1 + G_b' M^-1 G_b]_jj),

stands still (steps that go on in one direction are lengthened); gamma counts how many of the
B n d coefficients the data determine. Where labels mean nothing both variances run to 0 and nothing
moves: that is the calibration. V is the mean square of z_i - m_k - f_b(k), from sums: sum z^2 -
2 sum S (m + f) + sum O (m + f)^2.

Several covariates have additive effects; each is fitted in turn to what the others leave over.

What is known and what is not. Partial pooling, empirical Bayes and kriging are old. New in
Harmony is to use them for its table of effects, on sums that it has anyway. h is fixed at 0.3:
from 0.15 to 1 results differed little, and a linear function of the centroid in its place suits
few types and bends many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.method.passes import Moments
from harmonypy_lite.method.ridge import Effects

#: h: squared distance of unit centroids over which effects of levels stay alike.
LENGTH = 0.3
#: Share of the kernel's variance that is left out with its smallest eigenvectors.
LEFT_OUT = 0.05
#: Clusters with fewer cells than this share of all cells are no evidence, and correct nothing.
_EMPTY = 1e-9
#: Variances, in units of V, do not fall below this: a hundredth of a percent of a deviation.
_LEAST = 1e-8
#: A part of less variance, a thousandth of a deviation, is left out, and a column of L that the
#: cells of no level could bring nearer to what they say than by this share.
_FELT, _TOLD = 1e-6, 0.01
#: The variances are estimated from the largest levels: so many, and more until they have so many
#: cells. Where labels mean nothing the estimates err by sqrt(2 / (d cells)) of a deviation.
_LEVELS, _EVIDENCE = 16, 2000
#: Updates of the variances end after so many, or when each changes by less than the first share of
#: itself or the second of both: beside one that explains the effects the other need not reach 0.
_UPDATES = 12
_CHANGE, _SLIGHT = 0.02, 0.005
#: Updates that go on in one direction grow in powers: a variance of nothing would take hundreds.
_FASTER, _FASTEST = 1.5, 8.0
#: With several covariates more rounds follow, of effects only, until they change by less than this
#: share of a deviation.
_MORE_ROUNDS = 30
_SETTLED = 1e-3


class Variances(NamedTuple):
    """How much of V the effects of a covariate's levels vary."""

    common: float  # g
    smooth: float  # t; 0: no such part


@dataclass(frozen=True)
class Pooling:
    """The prior of pooled effects; stands where the ridge has its penalties.

    Attributes
    ----------
    covariates
        The levels of each covariate.
    smooth
        Whether effects may differ between clusters at all.
    """

    covariates: tuple[slice, ...]
    smooth: bool = True

    def effects(self, O: np.ndarray, moments: Moments) -> Effects:
        """Return the effects of all levels in all clusters, from sums over the cells.

        Parameters
        ----------
        O
            (K, B) cells of each level in each cluster.
        moments
            Sums over the cells, squares among them.
        """
        n = O[:, self.covariates[0]].sum(axis=1)
        used = n > _EMPTY * n.sum()
        W = np.zeros(moments.level_sum.shape)
        intercept = np.zeros(W.shape[::2])
        # Coarse covariates first, in whatever order they were named.
        size = O.sum(axis=0)
        order = sorted(self.covariates, key=lambda c: (c.stop - c.start, -size[c].max()))
        fit = _Fit(O[used], _of_clusters(moments, used), order)
        # Common parts alone first: kernel and V need the intercepts.
        for smooth in (False, True) if self.smooth else (False,):
            fit.renew_spread()
            for c in range(len(order)):
                fit.renew_variances(c, smooth=smooth)
                fit.renew_effects(c)
        if len(order) > 1:
            fit.settle()
        W[used], intercept[used] = fit.f, fit.m
        return Effects(W, intercept, np.zeros(O.shape, bool))


def _of_clusters(moments: Moments, used: np.ndarray) -> Moments:
    weight = None if moments.weight is None else moments.weight[used]
    return moments._replace(level_sum=moments.level_sum[used], weight=weight)


class _Fit:
    """The posterior mean on its way: m (K, d), f (K, B, d), V (d,) in the units of the cells."""

    def __init__(self, O: np.ndarray, moments: Moments, covariates: Sequence[slice]) -> None:
        self.covariates = covariates
        self._moments = moments
        self._O, self._S = O, moments.level_sum
        first = covariates[0]
        self._sums = self._S[:, first].sum(axis=1)
        self._N = float(self._O[:, first].sum())
        self.m = _balanced_means(self._O[:, first], self._S[:, first])
        self.f = np.zeros_like(self._S)
        several = len(covariates) > 1
        self._members = [self._membership(c) for c in range(len(covariates))] if several else []
        # The first V knows one shift per level: tables with more would pass noise for effects.
        for c, levels in enumerate(covariates):
            size = np.maximum(self._O[:, levels].sum(axis=0), 1.0)
            rest = self._left_over(c).sum(axis=0) - self._O[:, levels].T @ self.m
            self.f[:, levels] = rest / size[:, None]
        self.variances = [Variances(1.0, 0.1)] * len(covariates)
        self._roots = [np.ones((len(self.m), 1))] * len(covariates)

    def renew_spread(self) -> None:
        """V = (sum z^2 - 2 sum S (m + f) + sum O (m + f)^2) / N, per dimension."""
        assert self._moments.square_sum is not None, "the backend does not sum squares"
        squares = self._moments.square_sum / self._N
        V = squares - 2 * np.einsum("kd,kd->d", self._sums, self.m) / self._N
        V -= 2 * np.einsum("kbd,kbd->d", self._S, self.f) / self._N
        V += self._fitted_squares() / self._N
        least = 1e-9 * (squares.max() or 1.0)
        self._scale = np.sqrt(np.maximum(V, least))

    def renew_variances(self, c: int, *, smooth: bool) -> None:
        """Maximise the restricted likelihood of covariate c in g and t, given the other effects."""
        columns, part = _columns(self.m, smooth=smooth)
        O, S = self._O[:, self.covariates[c]], self._left_over(c)
        largest = _telling(O.sum(axis=0))
        values = np.array(self.variances[c] if smooth else self.variances[c][:1])
        told = told_by(O[:, largest], S[:, largest] / self._scale, columns)
        values = restricted_maximum(told, part, values)
        if smooth:
            self.variances[c] = Variances(*values)
        else:
            self.variances[c] = self.variances[c]._replace(common=float(values[0]))
        most = values[part] * np.square(columns).sum(axis=0) * O.max()
        felt = (values[part] > _FELT) & (most > _TOLD)
        self._roots[c] = columns[:, felt] * np.sqrt(values[part][felt])

    def renew_effects(self, c: int) -> float:
        """Solve for m and the effects of covariate c; return how far they moved, in sqrt(V).

        Given the variances, dimensions do not meet: their units cancel.
        """
        levels, L = self.covariates[c], self._roots[c]
        # Of a level without cells u is 0, as the prior has it.
        solution = solve(told_by(self._O[:, levels], self._left_over(c), L))
        f = np.tensordot(L, solution.u, (1, 1))
        several = len(self.covariates) > 1
        moved = float((np.abs(f - self.f[:, levels]) / self._scale).max()) if several else 0.0
        self.f[:, levels] = f
        self.m = solution.m
        return moved

    def settle(self) -> None:
        """Go on with one covariate after the other, with variances, kernel and V as they are."""
        for _ in range(_MORE_ROUNDS):
            if max([self.renew_effects(c) for c in range(len(self.covariates))]) < _SETTLED:
                break

    def _left_over(self, c: int) -> np.ndarray:
        """Sums of R_ik (z_i - effects of the covariates other than c) per level, (K, B_c, d)."""
        S = self._S[:, self.covariates[c]]
        if len(self.covariates) == 1:
            return S
        S = S.copy()
        combinations, weight = self._combinations()
        others = np.delete(combinations, c, axis=1)
        for k in range(len(S)):
            added = self.f[k][others].sum(axis=1)
            S[k] -= self._members[c] @ (weight[k][:, None] * added)
        return S

    def _fitted_squares(self) -> np.ndarray:
        """Sum R_ik (m_k + effects of i's levels)^2 over the cells, (d,)."""
        total = np.zeros(self.m.shape[1])
        if len(self.covariates) == 1:
            for O, m, f in zip(self._O, self.m, self.f, strict=True):
                total += O @ np.square(m + f)
            return total
        combinations, weight = self._combinations()
        for k in range(len(weight)):
            total += weight[k] @ np.square(self.m[k] + self.f[k][combinations].sum(axis=1))
        return total

    def _membership(self, c: int) -> csr_array:
        """(B_c, Q) 1 where a combination has the level."""
        combinations, _ = self._combinations()
        level, place = combinations[:, c] - self.covariates[c].start, np.arange(len(combinations))
        n_levels = self.covariates[c].stop - self.covariates[c].start
        return csr_array((np.ones(len(place)), (level, place)), (n_levels, len(place)))

    def _combinations(self) -> tuple[np.ndarray, np.ndarray]:
        combinations, weight = self._moments.combinations, self._moments.weight
        assert combinations is not None
        assert weight is not None
        # A backend may order its columns in its own way.
        codes = combinations[0]
        column = [np.flatnonzero((codes >= c.start) & (codes < c.stop))[0] for c in self.covariates]
        return combinations[:, column], weight


def _balanced_means(O: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Mean of each cluster in which no level outweighs the others, (K, d): where m starts.

    A level's mean counts as n_b / (n_b + n) cells, n_b of n: at most half a cell.
    """
    weight = 1 / (O + O.sum(axis=1, keepdims=True))
    return np.matmul(weight[:, None], S)[:, 0] / (weight * O).sum(axis=1)[:, None]


def _telling(size: np.ndarray) -> np.ndarray:
    """Return the places of the levels that the variances are estimated from, of those of `size`."""
    order = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    enough = int(np.searchsorted(np.cumsum(size[order]), _EVIDENCE)) + 1
    return np.sort(order[: max(_LEVELS, enough)])


def _columns(m: np.ndarray, *, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return L for variances of 1, (K, q), and which of the variances each column belongs to."""
    common = np.ones((len(m), 1))
    if not smooth:
        return common, np.zeros(1, int)
    u = unit_rows(m)
    kernel = np.exp(-2 * (1 - u @ u.T) / LENGTH)
    values, vectors = np.linalg.eigh(kernel)
    # Ascending: what is left out comes first.
    keep = np.cumsum(values) > LEFT_OUT * len(m)
    smooth_columns = vectors[:, keep] * np.sqrt(np.maximum(values[keep], 0.0))
    columns = np.hstack([common, smooth_columns])
    return columns, np.minimum(np.arange(columns.shape[1]), 1)


class Told(NamedTuple):
    """What the cells tell of u, where the effects of one covariate are f_b = C u_b.

    All that a solution needs, for any variances of the columns of C: those scale them.
    """

    n: np.ndarray  # (K,) cells
    total: np.ndarray  # (K, d) their sum
    O: np.ndarray  # (K, B)
    C: np.ndarray  # (K, q)
    DC: np.ndarray  # (K, B q)
    CDC: np.ndarray  # (B, q, q)
    CS: np.ndarray  # (B q, d)


def told_by(O: np.ndarray, S: np.ndarray, C: np.ndarray) -> Told:
    """Sum up cells for :func:`solve`.

    Parameters
    ----------
    O
        (K, B) cells.
    S
        (K, B, d) sums, in units of sqrt(V).
    C
        (K, q) root of the prior covariance, or its columns for variances of 1.
    """
    K, B, d = S.shape
    q = C.shape[1]
    squares = (C[:, :, None] * C[:, None]).reshape(K, q * q)
    CS = (C.T @ S.reshape(K, B * d)).reshape(q, B, d).transpose(1, 0, 2).reshape(B * q, d)
    DC = (O[:, :, None] * C[:, None]).reshape(K, B * q)
    CDC = (O.T @ squares).reshape(B, q, q)
    return Told(O.sum(axis=1), S.sum(axis=1), O, C, DC, CDC, CS)


class Reduced(NamedTuple):
    """M m = right: what is left once the effects are eliminated."""

    M: np.ndarray  # (K, K)
    right: np.ndarray  # (K, d)
    A_inverse: np.ndarray  # (B, q, q)
    G: np.ndarray  # (K, B q)


def _without_effects(told: Told, scale: np.ndarray) -> Reduced:
    """Eliminate u, for L = C diag(scale)."""
    K, B = told.O.shape
    q = len(scale)
    A_inverse = np.linalg.inv(np.eye(q) + scale[:, None] * told.CDC * scale)
    # D_b L A_b^-1 of all levels side by side is one product with C.
    beside = (scale[:, None] * A_inverse).transpose(1, 0, 2).reshape(q, B * q)
    G = (told.C @ beside).reshape(K, B, q)
    G *= told.O[:, :, None]
    GL = (G * scale).reshape(K, B * q)
    M = np.diag(told.n) - GL @ told.DC.T
    # Rounding must not make the flattest direction, a shift of all clusters, indefinite.
    M[np.diag_indices(K)] += 1e-13 * told.n
    return Reduced(M, told.total - GL @ told.CS, A_inverse, G.reshape(K, B * q))


def _coefficients(
    told: Told, scale: np.ndarray, A_inverse: np.ndarray, m: np.ndarray
) -> np.ndarray:
    """u_b = A_b^-1 L' (S_b - D_b m), (B, q, d)."""
    rest = told.CS - told.DC.T @ m
    return np.matmul(A_inverse, scale[:, None] * rest.reshape(*A_inverse.shape[:2], m.shape[1]))


class Solution(NamedTuple):
    """Posterior means of the intercepts and of the coefficients of L."""

    m: np.ndarray  # (K, d)
    u: np.ndarray  # (B, q, d)


def solve(told: Told) -> Solution:
    """Solve for the intercepts and the effects of one covariate, C being L (see the text above)."""
    scale = np.ones(told.C.shape[1])
    left = _without_effects(told, scale)
    m = np.linalg.solve(left.M, left.right)
    return Solution(m, _coefficients(told, scale, left.A_inverse, m))


def restricted_maximum(told: Told, part: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the variances that maximise the restricted likelihood.

    Parameters
    ----------
    told
        By the cells, of columns for variances of 1.
    part
        (q,) the variance that each column belongs to.
    values
        The variances to start from.
    """
    d = told.total.shape[1]
    power, last = np.ones(values.size), np.zeros(values.size)
    for _ in range(_UPDATES):
        before = values
        scale = np.sqrt(values)[part]
        left = _without_effects(told, scale)
        solved = np.linalg.solve(left.M, np.hstack([left.right, left.G]))
        u = _coefficients(told, scale, left.A_inverse, solved[:, :d])
        # diag(G' M^-1 G), all levels side by side
        reduced = (left.G * solved[:, d:]).sum(axis=0).reshape(u.shape[:2])
        unknown = np.einsum("bjj->bj", left.A_inverse) + reduced
        determined = d * np.bincount(part, (1 - unknown).sum(axis=0), values.size)
        square = np.bincount(part, np.square(u).sum(axis=(0, 2)), values.size)
        step = np.log(np.maximum(square, 1e-99) / np.maximum(determined, 1e-9))
        power = np.where(step * last > 0, np.minimum(_FASTER * power, _FASTEST), 1.0)
        values = np.clip(values * np.exp(power * step), _LEAST, 1 / _LEAST)
        last = step
        change = np.abs(values - before)
        if ((change < _CHANGE * before) | (change < _SLIGHT * values.sum())).all():
            break
    return values
