"""What follows the exact neighbour search by products: refine, certify, or look again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import inlined, kernel

Array = NDArray[Any]


class Found(NamedTuple):
    """Where `refine` and `nearest_by_differences` write.

    Numba's cache on disk names the class of an argument: only classes of this package may be
    passed, or other processes could not read the cache.
    """

    indices: Array  # (N, k)
    distances: Array  # (N, k)
    certified: Array  # (N,)


@inlined
def squared_distance(x: Array, y: Array) -> float:
    """Return sum_t (x_t - y_t)² in float64."""
    total = 0.0
    for t in range(x.shape[0]):
        difference = np.float64(x[t]) - np.float64(y[t])
        total += difference * difference
    return total


@inlined
def sort_by_distance(squared: Array, places: Array, length: int) -> None:
    """Order pairs by (squared, places), both ascending (shell sort)."""
    gap = 1
    while gap < length // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, length):
            value, place = squared[i], places[i]
            j = i - gap
            while j >= 0 and (squared[j] > value or (squared[j] == value and places[j] > place)):
                squared[j + gap], places[j + gap] = squared[j], places[j]
                j -= gap
            squared[j + gap], places[j + gap] = value, place
        gap //= 3


@kernel
def refine(
    points: Array,
    first_row: int,
    m: int,
    half_norm: Array,
    rounding: float,
    values: Array,
    places: Array,
    out: Found,
) -> None:
    """Replace surrogates by float64 distances, sort, and certify that no column was missed.

    A column y that was not kept has surrogate >= v, the largest kept. Were it nearer than the
    k-th neighbour, |y| <= |x| + d_k, so that its surrogate would be wrong by less than
    e = rounding * (|x| + d_k)²; hence v - e >= (d_k² - |x|²) / 2 proves the row complete.

    IN points (N, d); half_norm, |x|²/2 (N,) as the product saw it; values, places (rows, m)
    as of `strips.search`.
    OUT out: indices (N, k), distances (N, k), certified (N,).
    """
    k = out.indices.shape[1]
    squared = np.empty(m, np.float64)
    for row in range(values.shape[0]):
        cell = first_row + row
        largest = values[row, 0]
        for c in range(m):
            largest = max(largest, values[row, c])
            squared[c] = squared_distance(points[cell], points[places[row, c]])
        sort_by_distance(squared, places[row], m)
        for c in range(k):
            out.indices[cell, c] = places[row, c]
            out.distances[cell, c] = np.sqrt(squared[c])
        reach = np.sqrt(2.0 * half_norm[cell]) + out.distances[cell, k - 1]
        needed = squared[k - 1] / 2.0 - half_norm[cell] + rounding * reach * reach
        out.certified[cell] = largest >= needed or m == points.shape[0] - 1


@kernel
def nearest_by_differences(points: Array, cells: Array, out: Found) -> None:
    """Search all other cells for each of `cells`: sum_t (x_t - y_t)², ties by lowest number.

    IN points (N, d); cells (n,).  OUT out: indices (N, k), distances (N, k), certified (N,).
    """
    k = out.indices.shape[1]
    for cell in cells:
        held = 0
        indices, distances = out.indices[cell], out.distances[cell]
        for other in range(points.shape[0]):
            if other == cell:
                continue
            squared = squared_distance(points[cell], points[other])
            if held == k and squared >= distances[k - 1]:
                continue
            held = min(held + 1, k)
            place = held - 1
            while place > 0 and distances[place - 1] > squared:
                distances[place], indices[place] = distances[place - 1], indices[place - 1]
                place -= 1
            distances[place], indices[place] = squared, other
        for c in range(k):
            distances[c] = np.sqrt(distances[c])
        out.certified[cell] = True
