"""Local inverse Simpson index of one table of neighbours for several label columns at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import inlined, kernel

Array = NDArray[Any]
TRIES = 50


@inlined
def weigh(distances: Array, beta: float, weights: Array) -> float:
    """Set weights_j = exp(-beta (d_j - d_1)); return the entropy of their normalised form.

    The common factor exp(beta d_1) cancels in H = log(sum w) + beta sum(w d) / sum(w); without it
    far neighbours cannot all underflow.
    """
    total = 0.0
    moment = 0.0
    for j in range(distances.shape[0]):
        away = distances[j] - distances[0]
        weights[j] = np.exp(-beta * away)
        total += weights[j]
        moment += weights[j] * away
    return np.log(total) + beta * moment / total


@inlined
def fit_weights(
    distances: Array, log_perplexity: float, first_beta: float, tolerance: float, weights: Array
) -> None:
    """Find beta by bisection from first_beta: |H(beta) - log_perplexity| < tolerance, 50 tries.

    With no more neighbours than the perplexity the solution is beta = 0: equal weights.
    """
    if log_perplexity >= np.log(distances.shape[0]):
        weights[:] = 1.0
        return
    beta, low, high = first_beta, 0.0, np.inf
    excess = weigh(distances, beta, weights) - log_perplexity
    for _ in range(TRIES):
        if abs(excess) < tolerance:
            break
        if excess > 0:
            low = beta
            beta = 2.0 * beta if high == np.inf else (beta + high) / 2.0
        else:
            high = beta
            beta = (beta + low) / 2.0
        excess = weigh(distances, beta, weights) - log_perplexity


@kernel
def inverse_simpson(
    neighbors: Array,
    distances: Array,
    codes: Array,
    n_levels: int,
    log_perplexity: float,
    first_beta: float,
    tolerance: float,
    out: Array,
) -> None:
    """LISI_ic = (sum_j w_j)² / sum_b (sum_{j: code_jc = b} w_j)².

    IN neighbors, distances (n, k), ascending; codes (N, columns), all below n_levels.
    OUT out (n, columns).
    """
    n_cells, k = neighbors.shape
    weights = np.empty(k)
    share = np.zeros(n_levels)
    for i in range(n_cells):
        fit_weights(distances[i], log_perplexity, first_beta, tolerance, weights)
        total = weights.sum()
        for c in range(codes.shape[1]):
            for j in range(k):
                share[codes[neighbors[i, j], c]] += weights[j]
            squares = 0.0
            for b in range(n_levels):
                squares += share[b] * share[b]
                share[b] = 0.0
            out[i, c] = total * total / squares
