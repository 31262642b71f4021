"""The correction step: per cluster, a ridge regression of the cells on the levels they have.

Cluster k regresses z on [1, Phi] with weights R_ik and the diagonal penalty lambda_kb (none on the
intercept): beta = (Phi*' diag(R_k) Phi* + Lambda_k)^-1 Phi*' diag(R_k) z (Korsunsky 2019, eq. 9;
lambda_kb = alpha E_kb and the pruning of levels: Patikas 2026). Only sums over cells enter, in
float64: a small lambda leaves nearly collinear columns, which single precision cannot tell apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from harmonypy_lite.errors import NumericalError
from harmonypy_lite.method.passes import Moments
from harmonypy_lite.threads import map_threads


class Effects(NamedTuple):
    """What the regression found."""

    W: np.ndarray  # (K, B, d) effect of each level in each cluster; 0 for levels left out
    intercept: np.ndarray  # (K, d) a cell of no level in particular; 0 where nothing is corrected
    pruned: np.ndarray  # (K, B) bool: levels left out


class Prior(Protocol):
    """What is known of the effects before the cells are seen, where it is no diagonal penalty."""

    def effects(self, O: np.ndarray, moments: Moments) -> Effects:
        """Return the effects that O (K, B) and the sums over the cells speak for."""


def kept_levels(
    O: np.ndarray, level_size: np.ndarray, covariates: Sequence[slice], threshold: float | None
) -> np.ndarray:
    """Return the (K, B) levels that enter each cluster's regression.

    A level enters when more than `threshold` of its cells are there (2026); a covariate with fewer
    than two such levels cannot be told from the intercept, and drops out. Levels without any
    weight never enter.
    """
    kept = present_levels(O, level_size, threshold)
    for levels in covariates:
        kept[:, levels] &= kept[:, levels].sum(axis=1, keepdims=True) >= 2
    return kept


def present_levels(O: np.ndarray, level_size: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return the (K, B) levels that would enter each cluster's regression if not alone there."""
    return O > 0 if threshold is None else O / level_size > threshold


def excluded_combinations(moments: Moments, kept: np.ndarray) -> np.ndarray | None:
    """Return the (K, Q) combinations of levels whose cells do not enter a cluster's regression.

    Those are the combinations of which no level is kept. None if there is nothing to exclude: with
    one covariate, sums per level say it all.
    """
    if moments.combinations is None or moments.weight is None:
        return None
    excluded = np.zeros(moments.weight.shape, bool)
    # no cell of a cluster that keeps all levels of a covariate is excluded
    for k in np.flatnonzero(~_keeps_a_covariate(moments.combinations, kept)):
        excluded[k] = (moments.weight[k] > 0) & ~kept[k][moments.combinations].any(axis=1)
    return excluded if excluded.any() else None


def _keeps_a_covariate(combinations: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return whether each cluster (K,) keeps all levels of some covariate."""
    out = np.zeros(len(kept), bool)
    for column in combinations.T:
        levels = np.flatnonzero(np.bincount(column, minlength=kept.shape[1]))
        out |= kept[:, levels].all(axis=1)
    return out


def level_weights(O: np.ndarray, moments: Moments) -> np.ndarray:
    """Return O (K, B); with several covariates from the combinations, to match them exactly."""
    if moments.combinations is None or moments.weight is None:
        return O
    out = np.zeros(O.shape)
    for column in _columns(moments.combinations):
        start = np.flatnonzero(np.diff(column, prepend=-1))
        if (column[start[1:]] > column[start[:-1]]).all():  # sorted: adding up runs is faster
            out[:, column[start]] = np.add.reduceat(moments.weight, start, axis=1)
            continue
        for own, weight in zip(out, moments.weight, strict=True):
            own += np.bincount(column, weight, O.shape[1])
    return out


def _columns(combinations: np.ndarray) -> list[np.ndarray]:
    """Return the levels (Q,) of each covariate, as counting wants them."""
    return [np.ascontiguousarray(column, np.intp) for column in combinations.T]


def solve(
    O: np.ndarray,
    moments: Moments,
    penalties: np.ndarray | Prior,
    kept: np.ndarray,
    excluded_sum: np.ndarray | float = 0.0,
    n_jobs: int | None = 1,
) -> Effects:
    """Return the effects of all levels in all clusters.

    Parameters
    ----------
    O
        (K, B) cells of each level in each cluster, from :func:`level_weights`.
    moments
        Sums over the cells.
    penalties
        (K, B) lambda_kb; or another prior, which brings its own solution.
    kept
        (K, B) from :func:`kept_levels`.
    excluded_sum
        (K, d) sum of R_ik z_i over the cells of :func:`excluded_combinations`.
    n_jobs
        Threads for clusters of several covariates, as in :func:`~harmonypy_lite.threads.Workers`.
    """
    if not isinstance(penalties, np.ndarray):
        return penalties.effects(O, moments)
    S, combinations, weight, _ = moments
    if combinations is None or weight is None:
        W, intercept = _solve_one_covariate(S, O, penalties, kept)
        return Effects(W, intercept, ~kept)
    W = np.zeros_like(S)
    intercept = np.zeros((S.shape[0], S.shape[2]))
    excluded_sum = np.broadcast_to(excluded_sum, intercept.shape)
    columns = _columns(combinations)
    pairs = _Pairs(columns, O.shape[1])

    def solve_one(k: int) -> None:
        cluster = _Cluster(columns, weight[k], S[k], O[k], penalties[k], kept[k])
        try:
            intercept[k] = _solve_cluster(cluster, pairs, excluded_sum[k], W[k])
        except np.linalg.LinAlgError as error:
            raise NumericalError(
                f"The ridge regression of cluster {k} ({kept[k].sum()} levels, smallest penalty "
                f"{penalties[k][kept[k]].min():g}) is singular: raise ridge_lambda or alpha."
            ) from error

    map_threads(solve_one, np.flatnonzero(kept.any(axis=1)).tolist(), n_jobs)
    return Effects(W, intercept, ~kept)


def _solve_one_covariate(
    S: np.ndarray, O: np.ndarray, penalties: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve all clusters at once.

    The normal equations are (O_b + lambda_b) W_b + O_b m = S_b and sum_b O_b (W_b + m) = sum_b S_b.
    Eliminating W_b leaves m = sum_b (1 - g_b) S_b / sum_b (1 - g_b) O_b, g_b = O_b / (O_b +
    lambda_b).
    """
    intercept = intercepts(*intercept_sums(S, O, penalties, kept))
    return level_effects(S, O, penalties, kept, intercept), intercept


def intercept_sums(
    S: np.ndarray, O: np.ndarray, penalties: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return sum_b (1 - g_b) O_b (K,) and sum_b (1 - g_b) S_b (K, d) over some of the levels."""
    diagonal = np.where(kept, O + penalties, 1.0)
    left = np.where(kept, penalties / diagonal, 0.0)  # 1 - g_b, without its rounding
    return (left * O).sum(axis=1), np.matmul(left[:, None, :], S)[:, 0]


def intercepts(mass: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return m (K, d) from :func:`intercept_sums` of all levels."""
    return sums / np.where(mass > 0, mass, 1.0)[:, None]


def level_effects(
    S: np.ndarray, O: np.ndarray, penalties: np.ndarray, kept: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """Return W (K, B, d) of levels whose clusters have these intercepts."""
    factor = np.where(kept, 1.0 / np.where(kept, O + penalties, 1.0), 0.0)
    W = np.empty_like(S)
    # cluster by cluster, so that what is made on the way stays in cache
    for k, own in enumerate(W):
        np.multiply(O[k][:, None], intercept[k], out=own)
        np.subtract(S[k], own, out=own)
        own *= factor[k][:, None]
    return W


class _Pairs:
    """Which levels of the first covariate and of each further one come together."""

    def __init__(self, columns: list[np.ndarray], n_levels: int) -> None:
        self.first, place = _numbered(columns[0], n_levels)
        self.further, self._bins = [], []
        for column in columns[1:]:
            levels, further_place = _numbered(column, n_levels)
            self.further.append(levels)
            self._bins.append(place * levels.size + further_place)

    def weights(self, weight: np.ndarray, a: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the weight of a cluster's combinations, (first levels, all further levels).

        Of these, the ones that the masks `a` and `others` keep.
        """
        n = self.first.size
        parts = [
            np.bincount(bins, weight, n * levels.size).reshape(n, -1)
            for bins, levels in zip(self._bins, self.further, strict=True)
        ]
        all_of_them = parts[0] if len(parts) == 1 else np.hstack(parts)
        if a.all() and others.all():
            return all_of_them
        return all_of_them[np.ix_(a, others)]


def _numbered(column: np.ndarray, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels that occur, and the place among them of each entry."""
    levels = np.flatnonzero(np.bincount(column, minlength=n_levels))
    place = np.zeros(n_levels, np.intp)
    place[levels] = np.arange(levels.size)
    return levels, place[column]


class _Cluster(NamedTuple):
    """What the regression of one cluster works with; shapes as in `solve`, without K."""

    columns: list[np.ndarray]  # C of (Q,) levels of each combination
    weight: np.ndarray  # (Q,)
    S: np.ndarray  # (B, d)
    O: np.ndarray  # (B,)
    penalties: np.ndarray  # (B,)
    kept: np.ndarray  # (B,)


def _solve_cluster(
    own: _Cluster, pairs: _Pairs, excluded_sum: np.ndarray, W: np.ndarray
) -> np.ndarray:
    """Solve one cluster with several covariates: fill W (B, d), zeros before; return the intercept.

    In the normal equations the levels a of the first covariate (the one with most levels) exclude
    each other, so that their part is diagonal, D = O_a + lambda_a. With x the intercept and the
    levels of the other covariates, M their part and F what couples them to a:

        D W_a + F x = S_a,    F' W_a + M x = s    =>    (M - F' D^-1 F) x = s - F' D^-1 S_a.

    All columns are nearly collinear (each covariate's levels add up to the intercept; only lambda
    tells them apart), so what cancels in the difference is left out on paper: with F_a0 = O_a, rest
    = weight of the cells whose first level is not kept, and j a level of another covariate,

        entry (0, 0) = sum_a O_a lambda_a / D_a + rest,
        entry (0, j) = sum_a F_aj lambda_a / D_a + rest_j,
        entry (j, j) = sum_a F_aj (O_a - F_aj + lambda_a) / D_a + rest_j + lambda_j,
        right side 0 = sum_a S_a lambda_a / D_a + sum over the rest.
    """
    first, further = pairs.first, np.concatenate(pairs.further)
    a_kept, others_kept = own.kept[first], own.kept[further]
    a, others = _together(first[a_kept]), further[others_kept]
    O, S, D = own.O[a], own.S[a], own.O[a] + own.penalties[a]
    F = np.empty((O.size, 1 + others.size))
    F[:, 0], F[:, 1:] = O, pairs.weights(own.weight, a_kept, others_kept)
    F_D = F / D[:, None]
    rest = _rest(own, others)
    left = own.penalties[a] / D
    x_matrix = rest - F.T @ F_D
    x_matrix[0, :] = x_matrix[:, 0] = rest[0] + F.T @ left
    place = np.arange(1, len(x_matrix))
    x_matrix[place, place] = np.einsum("aj,aj->j", F_D[:, 1:], D[:, None] - F[:, 1:])
    x_matrix[place, place] += rest[place, place] + own.penalties[others]
    right = own.S[others] - F_D[:, 1:].T @ S
    lone = first[~a_kept]
    right_0 = left @ S + own.S[lone].sum(axis=0) - excluded_sum
    x = np.linalg.solve(x_matrix, np.vstack([right_0, right]))
    W[a] = (S - F @ x) / D[:, None]
    W[others] = x[1:]
    return x[0]


def _together(levels: np.ndarray) -> np.ndarray | slice:
    """Return levels as a slice where they are neighbours: what is read by it is not copied."""
    if levels.size and levels[-1] - levels[0] == levels.size - 1:
        return slice(int(levels[0]), int(levels[-1]) + 1)
    return levels


def _rest(own: _Cluster, others: np.ndarray) -> np.ndarray:
    """M of the cells that enter although their first level is not kept, without penalty.

    Of all cells, their further covariates' levels that occur together off the diagonal.
    """
    n = others.size + 2
    # In x: 0 is the intercept; levels that are not kept share the last place, which is cut off.
    place = np.full(own.O.size, n - 1)
    place[others] = np.arange(1, n - 1)
    M = np.zeros((n, n))
    for left, right in itertools.permutations(own.columns[1:], 2):
        M += np.bincount(place[left] * n + place[right], own.weight, n * n).reshape(n, n)
    lone = np.flatnonzero(~own.kept[own.columns[0]])
    levels, weight = [column[lone] for column in own.columns], own.weight[lone]
    alone = sum(np.bincount(place[each], weight, n) for each in levels[1:])
    M[0, :] = M[:, 0] = alone
    # A level with itself: only what the first covariate does not account for.
    M[np.diag_indices(n)] += alone
    M[0, 0] = weight[np.any([own.kept[each] for each in levels], axis=0)].sum()
    return M[:-1, :-1]
