"""The correction step: per cluster, a ridge regression of the cells on the levels they have.

Cluster k regresses z on [1, Phi] with weights R_ik and the diagonal penalty lambda_kb (none on the
intercept): beta = (Phi*' diag(R_k) Phi* + Lambda_k)^-1 Phi*' diag(R_k) z (Korsunsky 2019, eq. 9;
lambda_kb = alpha E_kb and the pruning of levels: Patikas 2026). Only sums over cells enter, in
float64: a small lambda leaves nearly collinear columns, which single precision cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harmonypy_lite.method.passes import Moments


class Effects(NamedTuple):
    """What the regression found."""

    W: np.ndarray  # (K, B, d) effect of each level in each cluster; 0 for levels left out
    intercept: np.ndarray  # (K, d) a cell of no level in particular; 0 where nothing is corrected
    pruned: np.ndarray  # (K, B) bool: levels left out


def kept_levels(
    O: np.ndarray, level_size: np.ndarray, covariates: Sequence[slice], threshold: float | None
) -> np.ndarray:
    """Return the (K, B) levels that enter each cluster's regression.

    A level enters when more than `threshold` of its cells are there (2026); a covariate with fewer
    than two such levels cannot be told from the intercept, and drops out. Levels without any
    weight never enter.
    """
    kept = O > 0 if threshold is None else O / level_size > threshold
    for levels in covariates:
        kept[:, levels] &= kept[:, levels].sum(axis=1, keepdims=True) >= 2
    return kept


def solve(
    O: np.ndarray,
    moments: Moments,
    penalties: np.ndarray,
    level_size: np.ndarray,
    covariates: Sequence[slice],
    threshold: float | None,
) -> Effects:
    """Return the effects of all levels in all clusters.

    Parameters
    ----------
    O
        (K, B) cells of each level in each cluster.
    moments
        Sums over the cells.
    penalties
        (K, B) lambda_kb.
    level_size
        (B,) cells per level.
    covariates
        The levels of each covariate.
    threshold
        See :func:`kept_levels`; None keeps every level that has weight.
    """
    S, combinations, weight = moments
    if combinations is None or weight is None:
        kept = kept_levels(O, level_size, covariates, threshold)
        W, intercept = _solve_one_covariate(S, O, penalties, kept)
    else:
        # The same O, from the sums of the combinations, so that they agree to the last bit.
        O = _level_weights(combinations, weight, level_size.size)
        kept = kept_levels(O, level_size, covariates, threshold)
        W, intercept = _solve_several(S, combinations, weight, O, penalties, kept)
    return Effects(W, intercept, ~kept)


def _level_weights(combinations: np.ndarray, weight: np.ndarray, n_levels: int) -> np.ndarray:
    """O_kb from the weights of the combinations of levels, (K, B)."""
    O = np.zeros((n_levels, len(weight)))
    for column in combinations.T:
        np.add.at(O, column, weight.T)
    return O.T


def _solve_one_covariate(
    S: np.ndarray, O: np.ndarray, penalties: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve all clusters at once.

    The normal equations are (O_b + lambda_b) W_b + O_b m = S_b and sum_b O_b (W_b + m) = sum_b S_b.
    Eliminating W_b leaves m = sum_b (1 - g_b) S_b / sum_b (1 - g_b) O_b, g_b = O_b / (O_b +
    lambda_b).
    """
    diagonal = np.where(kept, O + penalties, 1.0)
    left = np.where(kept, penalties / diagonal, 0.0)  # 1 - g_b, without its rounding
    mass = (left * O).sum(axis=1)
    intercept = np.matmul(left[:, None, :], S)[:, 0]
    intercept /= np.where(mass > 0, mass, 1.0)[:, None]
    W = S - O[:, :, None] * intercept[:, None, :]
    W *= np.where(kept, 1.0 / diagonal, 0.0)[:, :, None]
    return W, intercept


def _solve_several(
    S: np.ndarray,
    combinations: np.ndarray,
    weight: np.ndarray,
    O: np.ndarray,
    penalties: np.ndarray,
    kept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve cluster by cluster; see :func:`_solve_cluster`."""
    W = np.zeros_like(S)
    intercept = np.zeros((S.shape[0], S.shape[2]))
    for k in np.flatnonzero(kept.any(axis=1)):
        W[k], intercept[k] = _solve_cluster(
            combinations, weight[k], S[k], O[k], penalties[k], kept[k]
        )
    return W, intercept


def _solve_cluster(
    combinations: np.ndarray,
    weight: np.ndarray,
    S: np.ndarray,
    O: np.ndarray,
    penalties: np.ndarray,
    kept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve one cluster with several covariates.

    The levels of the first covariate (the one with most levels) exclude each other, so that their
    part of the normal matrix is diagonal, D. With F the part that couples them to the rest and M
    the rest (intercept and further levels), the Schur complement (M - F' D^-1 F) is all that needs
    a dense solution.
    """
    a = np.unique(combinations[:, 0])
    a = a[kept[a]]
    others = np.setdiff1d(np.flatnonzero(kept), a)
    # Place 0 of the dense part is the intercept; levels left out share a place that is cut off.
    place = np.full(O.size, others.size + 1)
    place[others] = np.arange(1, others.size + 1)
    M = _dense_part(combinations[:, 1:], weight, place, others.size + 2)
    enters = kept[combinations].any(axis=1)
    M[0, 0] = weight[enters].sum()
    M[np.diag_indices(len(M))] += np.append(0.0, penalties[others])
    right = np.vstack([_entering_sum(combinations, weight, S, O, enters), S[others]])
    F = _coupling(combinations, weight, place, a, others.size + 2)
    F[:, 0] = O[a]
    inverse = 1.0 / (O[a] + penalties[a])
    M -= F.T @ (F * inverse[:, None])
    right -= F.T @ (S[a] * inverse[:, None])
    beta = np.linalg.solve(M, right)
    W = np.zeros_like(S)
    W[a] = (S[a] - F @ beta) * inverse[:, None]
    W[others] = beta[1:]
    return W, beta[0]


def _dense_part(
    further: np.ndarray, weight: np.ndarray, place: np.ndarray, size: int
) -> np.ndarray:
    """Normal matrix of the intercept and the further covariates' levels, without penalty."""
    M = np.zeros(size * size)
    columns = [np.zeros(len(further), np.int64), *(place[column] for column in further.T)]
    for left in columns:
        for right in columns:
            M += np.bincount(left * size + right, weight, size * size)
    return M.reshape(size, size)[:-1, :-1].copy()


def _coupling(
    combinations: np.ndarray, weight: np.ndarray, place: np.ndarray, a: np.ndarray, size: int
) -> np.ndarray:
    """Weight that each level of the first covariate shares with each level of the others."""
    row = np.full(place.size, a.size)
    row[a] = np.arange(a.size)
    row_of = row[combinations[:, 0]]
    F = np.zeros((a.size + 1) * size)
    for column in combinations[:, 1:].T:
        F += np.bincount(row_of * size + place[column], weight, F.size)
    return F.reshape(a.size + 1, size)[:-1, :-1].copy()


def _entering_sum(
    combinations: np.ndarray, weight: np.ndarray, S: np.ndarray, O: np.ndarray, enters: np.ndarray
) -> np.ndarray:
    """Sum of R_ik z_i over the cells that enter, those with a kept level.

    Sums are held per level, not per combination: the sum of an excluded combination is taken as its
    weight times the mean of its first level. All its levels are pruned, so it holds less than
    `threshold` of each; what the mean misses is below the rounding of single precision.
    """
    first = combinations[:, 0]
    total = S[np.unique(first)].sum(axis=0)
    out = ~enters & (weight > 0)
    if out.any():
        share = weight[out] / O[first[out]]
        total = total - (share[:, None] * S[first[out]]).sum(axis=0)
    return total
