"""Sums over groups of cells, for the metrics that need no pairwise distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import inlined, kernel

Array = NDArray[Any]

# Below this a mean cosine distance is the rounding error of a sum that cancelled.
_NOTHING = 64 * 2.0**-52


@inlined
def inverse_norm(x: Array) -> float:
    """Return 1 / |x|, and 0 for the zero row."""
    squared = 0.0
    for t in range(x.shape[0]):
        squared += np.float64(x[t]) * np.float64(x[t])
    return 1.0 / np.sqrt(squared) if squared > 0.0 else 0.0


@kernel
def add_unit_rows(points: Array, groups: Array, sums: Array) -> None:
    """S_g += sum of x / |x| over the cells of g; a zero row adds nothing.

    IN points (n, d); groups (n,).  OUT sums (n_groups, d).
    """
    for i in range(points.shape[0]):
        inverse = inverse_norm(points[i])
        for t in range(points.shape[1]):
            sums[groups[i], t] += points[i, t] * inverse


@kernel
def batch_silhouettes(
    points: Array, groups: Array, sums: Array, sizes: Array, others: Array, n_others: Array,
    out: Array,
) -> None:  # fmt: skip
    """Score 1 - |b - a| / max(a, b); the mean cosine distance of x to a group is 1 - x·S / n.

    a is the mean over the other cells of x's group, b over the same label in all other batches.
    A zero row is at distance 1 from every other cell. A group of one cell scores 1.
    IN points (n, d); groups (n,); sums, others (n_groups, d); sizes, n_others (n_groups,).
    OUT out (n,).
    """
    for i in range(points.shape[0]):
        g = groups[i]
        inverse = inverse_norm(points[i])
        own, other = 0.0, 0.0
        for t in range(points.shape[1]):
            own += points[i, t] * sums[g, t]
            other += points[i, t] * others[g, t]
        if sizes[g] == 1:
            out[i] = 1.0
            continue
        itself = 1.0 if inverse == 0.0 else 0.0
        a = (sizes[g] - own * inverse - itself) / (sizes[g] - 1)
        b = (n_others[g] - other * inverse) / n_others[g]
        larger = max(a, b)
        out[i] = 1.0 - abs(b - a) / larger if larger > _NOTHING else 1.0


@kernel
def add_centred_rows(
    points: Array, centre: Array, groups: Array, sums: Array, squares: Array
) -> None:
    """S_g += sum of (x - centre) over the cells of g; Q_t += sum of (x_t - centre_t)².

    IN points (n, d); centre (d,); groups (n,).  OUT sums (n_groups, d); squares (d,).
    """
    for i in range(points.shape[0]):
        for t in range(points.shape[1]):
            away = points[i, t] - centre[t]
            sums[groups[i], t] += away
            squares[t] += away * away
