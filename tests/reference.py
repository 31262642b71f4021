"""The slow, paper-literal twin of the method: dense R (N,K), one-hot Phi, float64, plain loops.

It shares no code with the package and favours the papers' pseudo-code over speed.
Sources: [H1] Korsunsky et al. 2019, doi 10.1038/s41592-019-0619-0 (`flavor="harmony1"`);
[H2] Patikas et al. 2026, doi 10.64898/2026.03.16.711825 (`flavor="harmony2"`).

Letters: Z (N,d) embedding, u = z/|z| its rows on the unit sphere, Y (K,d) unit centroids,
R (N,K) soft assignments, Phi (N,B) one-hot levels of all covariates side by side, Pr (B,) shares
of the levels, O (K,B) and E (K,B) observed and expected cells per cluster and level,
W (K,B,d) what each level of each cluster is moved by.

Where the papers are silent this file decides, and says so in the function:
a centroid whose new direction is the zero vector stays where it was (`renewed`);
zero rows of Z count as cells everywhere but are never moved (`corrected`);
a result's R, O and E are those of the last round, its Y is the centroid table the next
iteration would have started from (`iterate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Reference:
    """What one run returns."""

    Z_corr: Floats  # (N, d)
    R: Floats  # (N, K)
    Y: Floats  # (K, d)
    O: Floats
    E: Floats  # (K, B)
    W: Floats  # (K, B, d)
    objective_harmony: list[float]  # first assignment, then the last round of each iteration
    objective_rounds: list[list[float]]  # per iteration, after each of its rounds
    rounds: list[int]  # per iteration
    stopped: str  # "converged", "objective rose" or "max_iter_harmony"


@dataclass(frozen=True)
class Problem:
    """The data, and the constants of the equations."""

    Z: Floats  # (N, d)
    Phi: Floats  # (N, B)
    covariate: Integers  # (B,) which covariate a level belongs to
    theta: Floats  # (B,) after the discount of small levels
    sigma: Floats  # (K,)
    flavor: str
    alpha: float
    ridge_lambda: Floats | None  # (B,)
    batch_prune_threshold: float | None

    @property
    def level_size(self) -> Floats:
        """N_b = sum_i Phi_ib."""
        return self.Phi.sum(axis=0)

    @property
    def Pr(self) -> Floats:
        """Pr_b = N_b / N."""
        return self.level_size / len(self.Phi)


@dataclass(frozen=True)
class Schedule:
    """How long to go on, and in which blocks."""

    max_iter_harmony: int
    max_iter_clustering: int
    tol_harmony: float
    tol_clustering: float
    early_stop: bool
    blocks: Integers  # (N,)
    shuffle: np.random.Generator | None


def integrate(
    Z: Floats,
    codes: Integers,
    *,
    Y0: Floats,
    blocks: Integers,
    flavor: str = "harmony2",
    theta: Floats,
    sigma: Floats,
    tau: float = 0.0,
    alpha: float = 0.2,
    ridge_lambda: Floats | None = None,
    batch_prune_threshold: float | None = 1e-5,
    max_iter_harmony: int = 10,
    max_iter_clustering: int | None = None,
    tol_harmony: float | None = None,
    tol_clustering: float | None = None,
    early_stop: bool = True,
    shuffle: np.random.Generator | None = None,
) -> Reference:
    """Iterate { cluster; correct } from centroids Y0: Harmony, [H1] Algorithm 1."""
    most_rounds, outer, inner = {"harmony1": (20, 1e-4, 1e-5), "harmony2": (4, 1e-2, 1e-3)}[flavor]
    schedule = Schedule(
        max_iter_harmony=max_iter_harmony,
        max_iter_clustering=most_rounds if max_iter_clustering is None else max_iter_clustering,
        tol_harmony=outer if tol_harmony is None else tol_harmony,
        tol_clustering=inner if tol_clustering is None else tol_clustering,
        early_stop=early_stop,
        blocks=blocks,
        shuffle=shuffle,
    )
    Phi, covariate = one_hot(codes)
    problem = Problem(
        Z, Phi, covariate, theta, sigma, flavor, alpha, ridge_lambda, batch_prune_threshold
    )
    problem = replace(problem, theta=discounted(theta, problem.level_size, len(Y0), tau))
    return iterate(problem, Y0, schedule)


def iterate(problem: Problem, Y: Floats, schedule: Schedule) -> Reference:
    """Cluster z_hat, correct Z, until the objective settles; [H1] Algorithm 1.

    harmony2 restarts R = softmax_k(-2 (1 - u.Y_k) / sigma_k) from the new z_hat in each iteration
    and takes Y from the ridge; harmony1 keeps R, and Y follows from it in `cluster`.
    The correction of the iteration that stops is applied.
    """
    Z_hat = problem.Z
    R = assigned(unit(Z_hat), Y, problem.sigma)
    history = [objective(problem, unit(Z_hat), Y, R)]
    objective_rounds: list[list[float]] = []
    stopped = None
    while stopped is None:
        U = unit(Z_hat)
        if problem.flavor == "harmony2":
            R = assigned(U, Y, problem.sigma)
        R, Y, seen = cluster(problem, U, R, Y, schedule)
        W, intercepts = ridge(problem, R)
        Z_hat = corrected(problem, R, W)
        if problem.flavor == "harmony2":
            Y = renewed(intercepts, Y)
        history.append(seen[-1])
        objective_rounds.append(seen)
        stopped = reason_to_stop(history, schedule)
    return Reference(
        Z_corr=Z_hat,
        R=R,
        Y=Y,
        O=observed(R, problem.Phi),
        E=expected(R.sum(axis=0), problem.Pr),
        W=W,
        objective_harmony=history,
        objective_rounds=objective_rounds,
        rounds=[len(seen) for seen in objective_rounds],
        stopped=stopped,
    )


def reason_to_stop(history: list[float], schedule: Schedule) -> str | None:
    """(old - new) / |old| < tol_harmony between the last two iterations; None to go on."""
    old, new = history[-2:]
    if schedule.early_stop and new > old:
        return "objective rose"
    if schedule.early_stop and old - new < schedule.tol_harmony * abs(old):
        return "converged"
    if len(history) - 1 == schedule.max_iter_harmony:
        return "max_iter_harmony"
    return None


def cluster(
    problem: Problem, U: Floats, R: Floats, Y: Floats, schedule: Schedule
) -> tuple[Floats, Floats, list[float]]:
    """Rounds of block updates: R, Y and the objective after each.

    Maximum diversity clustering, [H1] Algorithm 2.
    harmony1 sets Y_k = unit(sum_i R_ik u_i) before each round; in harmony2 Y is fixed.
    """
    seen: list[float] = []
    while len(seen) < schedule.max_iter_clustering and not settled(seen, schedule.tol_clustering):
        if problem.flavor == "harmony1":
            Y = renewed(R.T @ U, Y)
        R = one_round(problem, U, R, Y, partition(schedule))
        seen.append(objective(problem, U, Y, R))
    return R, Y, seen


def settled(seen: list[float], tol: float) -> bool:
    """|old - new| / |old| < tol; old sums rounds r-3..r-1, new rounds r-2..r, from r = 5 on."""
    if len(seen) <= 4:
        return False
    old, new = sum(seen[-4:-1]), sum(seen[-3:])
    return abs(old - new) < tol * abs(old)


def one_round(
    problem: Problem, U: Floats, R: Floats, Y: Floats, blocks: Iterator[Integers]
) -> Floats:
    """For each block: take it out of O and n, penalise, assign, put it back; [H1] Algorithm 2.

    log R_i = -2 (1 - u_i.Y_k) / sigma_k + sum_c P[k, code_ic] + constant, where P comes from the
    O and E = n Pr of all cells outside the block.
    """
    R = R.copy()
    O, n = observed(R, problem.Phi), R.sum(axis=0)
    for block in blocks:
        Phi = problem.Phi[block]
        O, n = O - observed(R[block], Phi), n - R[block].sum(axis=0)
        P = penalty(O, expected(n, problem.Pr), problem.theta, problem.flavor)
        R[block] = assigned(U[block], Y, problem.sigma, Phi @ P.T)
        O, n = O + observed(R[block], Phi), n + R[block].sum(axis=0)
    return R


def partition(schedule: Schedule) -> Iterator[Integers]:
    """Cells of each block: the fixed blocks by increasing id, or as many fresh random ones.

    The papers draw a new random order of the cells in every round.
    """
    present = np.unique(schedule.blocks)
    if schedule.shuffle is None:
        return (np.flatnonzero(schedule.blocks == b) for b in present)
    order = schedule.shuffle.permutation(len(schedule.blocks))
    return iter(np.array_split(order, len(present)))


def assigned(U: Floats, Y: Floats, sigma: Floats, log_penalty: Floats | float = 0.0) -> Floats:
    """R_ik = softmax_k(-2 (1 - u_i.Y_k) / sigma_k + log penalty_ik), in log space; [H1]."""
    logits = -distance(U, Y) / sigma + log_penalty
    logits = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


def penalty(O: Floats, E: Floats, theta: Floats, flavor: str) -> Floats:
    """P_kb, (K,B), the logarithm of the papers' diversity factor.

    harmony1 [H1]: theta_b [log(E+1) - log(O+1)]; harmony2 [H2]: theta_b [log(2E+1) - log(O+E+1)].
    """
    if flavor == "harmony1":
        return theta * (np.log(E + 1) - np.log(O + 1))
    return theta * (np.log(2 * E + 1) - np.log(O + E + 1))


def objective(problem: Problem, U: Floats, Y: Floats, R: Floats) -> float:
    """Value minimised by clustering, times 2000 / N; [H1] objective, [H2] with smoothed counts.

    sum_ik R 2(1 - u.Y) + sum_ik sigma_k R log R - sum_kb sigma_k O_kb P_kb, where 0 log 0 = 0.
    The last term is + theta_b sigma_k O log((O+E+1)/(2E+1)), or O log((O+1)/(E+1)) in harmony1.
    """
    sigma, Phi = problem.sigma, problem.Phi
    O, E = observed(R, Phi), expected(R.sum(axis=0), problem.Pr)
    R_log_R = R * np.log(np.where(R > 0, R, 1.0))
    P = penalty(O, E, problem.theta, problem.flavor)
    error = np.sum(R * distance(U, Y))
    entropy = np.sum(sigma * R_log_R)
    diversity = -np.sum(sigma[:, None] * O * P)
    return float((error + entropy + diversity) * 2000 / len(U))


def ridge(problem: Problem, R: Floats) -> tuple[Floats, Floats]:
    """W (K,B,d) and intercepts (K,d): each cluster's regression of Z on [1, Phi].

    Mixture of experts correction, [H1]; always from the original Z, never from z_hat.
    Penalties: lambda_b given, or alpha E_kb in harmony2 [H2], or 1 in harmony1 [H1].
    A cluster that no cell enters corrects nothing: W = 0, and keeps its centroid (intercept 0).
    """
    B = problem.Phi.shape[1]
    O, E = observed(R, problem.Phi), expected(R.sum(axis=0), problem.Pr)
    W = np.zeros((R.shape[1], B, problem.Z.shape[1]))
    intercepts = np.zeros((R.shape[1], problem.Z.shape[1]))
    for k in range(R.shape[1]):
        levels = kept_levels(problem, O[k])
        cells = problem.Phi[:, levels].any(axis=1)
        if not cells.any():
            continue
        if problem.ridge_lambda is not None:
            penalties = problem.ridge_lambda
        else:
            penalties = np.ones(B) if problem.flavor == "harmony1" else problem.alpha * E[k]
        table = dense_ridge(
            problem.Z[cells], problem.Phi[cells][:, levels], R[cells, k], penalties[levels]
        )
        intercepts[k], W[k, levels] = table[0], table[1:]
    return W, intercepts


def kept_levels(problem: Problem, O_k: Floats) -> NDArray[np.bool_]:
    """Levels (B,) in one cluster's regression: O_kb / N_b > batch_prune_threshold; [H2].

    A covariate with fewer than two such levels drops out. harmony1 keeps every level.
    """
    if problem.flavor == "harmony1" or problem.batch_prune_threshold is None:
        return np.ones(len(O_k), dtype=bool)
    kept = O_k > problem.batch_prune_threshold * problem.level_size
    per_covariate = np.bincount(problem.covariate, weights=kept)
    return kept & (per_covariate[problem.covariate] >= 2)


def dense_ridge(Z: Floats, Phi: Floats, weights: Floats, penalties: Floats) -> Floats:
    """Coefficients (1+B, d), intercept first, of the weighted ridge regression of Z on [1, Phi].

    argmin_b sum_i w_i |z_i - [1, phi_i] b|^2 + sum_b penalty_b |b_b|^2, intercept free; [H1] MOE.
    It is ordinary least squares on rows sqrt(w_i) [1, phi_i | z_i] and sqrt(penalty_b) [e_b | 0].
    Columns are brought to length one first, so that tiny weights do not pass for rank deficiency.
    """
    design = np.column_stack([np.ones(len(Z)), Phi])
    root = np.sqrt(weights)[:, None]
    rows = np.vstack([root * design, np.diag(np.sqrt(np.append(0.0, penalties)))[1:]])
    target = np.vstack([root * Z, np.zeros((len(penalties), Z.shape[1]))])
    length = np.linalg.norm(rows, axis=0)
    length[length == 0] = 1.0
    scaled, *_ = np.linalg.lstsq(rows / length, target, rcond=None)
    return scaled / length[:, None]


def corrected(problem: Problem, R: Floats, W: Floats) -> Floats:
    """z_hat_i = z_i - sum_k R_ik sum_c W[k, code_ic]; [H1]. Zero rows are not moved."""
    shift = np.einsum("ik,ib,kbd->id", R, problem.Phi, W, optimize=True)
    shift[~problem.Z.any(axis=1)] = 0.0
    return problem.Z - shift


def one_hot(codes: Integers) -> tuple[Floats, Integers]:
    """Phi_ib = 1 where cell i is of level b, covariates side by side; each level's covariate."""
    sizes = codes.max(axis=0) + 1
    parts = [np.eye(size)[column] for size, column in zip(sizes, codes.T, strict=True)]
    return np.column_stack(parts), np.repeat(np.arange(len(sizes)), sizes)


def discounted(theta: Floats, level_size: Floats, K: int, tau: float) -> Floats:
    """theta_b (1 - exp(-(N_b / (K tau))^2)) if tau > 0, else theta; [H1], square inside exp."""
    if tau <= 0:
        return theta
    return theta * (1 - np.exp(-((level_size / (K * tau)) ** 2)))


def observed(R: Floats, Phi: Floats) -> Floats:
    """O = R' Phi; [H1]."""
    return R.T @ Phi


def expected(n: Floats, Pr: Floats) -> Floats:
    """E_kb = n_k Pr_b, where n_k = sum_i R_ik; [H1]."""
    return np.outer(n, Pr)


def distance(U: Floats, Y: Floats) -> Floats:
    """|u_i - Y_k|^2 = 2 (1 - u_i.Y_k), (N,K); a zero row is at distance 2 from every centroid."""
    return 2 * (1 - U @ Y.T)


def unit(A: Floats) -> Floats:
    """a / |a| for each row; a zero row stays zero."""
    length = np.linalg.norm(A, axis=1, keepdims=True)
    return A / np.where(length > 0, length, 1.0)


def renewed(directions: Floats, Y: Floats) -> Floats:
    """Y_k = unit(direction_k); a centroid without a direction (an empty cluster) stays."""
    return np.where(directions.any(axis=1, keepdims=True), unit(directions), Y)
