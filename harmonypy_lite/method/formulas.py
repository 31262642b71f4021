"""The paper's formulas on small tables: clusters are rows, levels are columns, (K, B).

Sources: Korsunsky et al., Nature Methods 2019 (doi 10.1038/s41592-019-0619-0) for `harmony1`;
Patikas et al. 2026 (doi 10.64898/2026.03.16.711825) for `harmony2`. Letters are theirs.
"""

from __future__ import annotations

import numpy as np

#: Single precision squares of numbers below this to something near its smallest number, or to 0.
_SHORT = 1e-15


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Return rows of length one, u = x / |x|; a zero row stays zero."""
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    U = np.divide(X, norm, out=np.zeros_like(X), where=norm > 0)
    short = norm[:, 0] < _SHORT
    if X.dtype == np.float32 and short.any():
        U[short] = unit_rows(X[short].astype(np.float64))
    return U


def turned(Y: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return unit centroids along `directions` (K, d); one without a direction stays."""
    return np.where(directions.any(axis=1, keepdims=True), unit_rows(directions), Y)


def expected(n: np.ndarray, level_share: np.ndarray) -> np.ndarray:
    """E_kb = n_k Pr_b: cells of level b in cluster k if levels were spread evenly (2019, eq. 5)."""
    # Laid out as O is, whose levels are rows in memory: the penalty reads both side by side.
    return (level_share[:, None] * n[None, :]).T


def discounted_theta(
    theta: np.ndarray, level_size: np.ndarray, n_clusters: int, tau: float
) -> np.ndarray:
    """theta_b (1 - exp(-(N_b / (K tau))^2)): spares levels with few cells (2019, online methods).

    The square belongs inside the exponential; some packages have it outside.
    """
    if tau == 0:
        return theta
    return theta * -np.expm1(-np.square(level_size / (n_clusters * tau)))


def penalty_harmony1(O: np.ndarray, E: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """P_kb = theta_b log((E + 1) / (O + 1)) (2019, eq. 6)."""
    return theta * np.log((E + 1) / (O + 1))


def penalty_harmony2(O: np.ndarray, E: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """P_kb = theta_b log((2E + 1) / (O + E + 1)) (2026): bounded where a level is absent."""
    return theta * np.log((2 * E + 1) / (O + E + 1))


def diversity_harmony1(O: np.ndarray, E: np.ndarray) -> np.ndarray:
    """O_kb log((O + 1) / (E + 1)): what the objective pays for an uneven level (2019, eq. 4)."""
    return O * np.log((O + 1) / (E + 1))


def diversity_harmony2(O: np.ndarray, E: np.ndarray) -> np.ndarray:
    """O_kb log((O + E + 1) / (2E + 1)): what the objective pays for an uneven level (2026)."""
    return O * np.log((O + E + 1) / (2 * E + 1))


def steepness_harmony1(theta: np.ndarray, level_size: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Bound, per level, on how far P_kb can differ between two clusters.

    P <= theta log(N_b + 1) where the level is absent. -P = theta log((O + 1) / (E + 1)) is largest
    where the whole level is alone in a cluster; `E` (B,) is what is expected there: n Pr with
    O = n = N_b, or less where n and O are not of one time.
    """
    return theta * (np.log1p(level_size) + np.log((level_size + 1) / (E + 1)))


def steepness_harmony2(theta: np.ndarray, level_size: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Bound, per level, on how far P_kb can differ between two clusters.

    As `steepness_harmony1`, with P <= theta log 2 and -P = theta log((O + E + 1) / (2E + 1)).
    """
    return theta * np.log(2 * (level_size + E + 1) / (2 * E + 1))
