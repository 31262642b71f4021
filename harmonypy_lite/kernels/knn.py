"""Partial selection for the exact neighbour search: scan, refine, certify, or look again.

A query row x keeps the columns y with the `m` smallest surrogates |y|²/2 - x·y of a float32
product, in a buffer of `capacity` >= m + LANES places; a full buffer is cut back to `m` and its
bar falls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import inlined, kernel

Array = NDArray[Any]
LANES = 64  # surrogates compared with the bar at once; a block has a multiple of these columns


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
def cut_back(values: Array, places: Array, length: int, m: int) -> float:
    """Move the `m` smallest of `values[:length]` to the front (quickselect); return the largest."""
    low, high = 0, length - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                places[i], places[j] = places[j], places[i]
                i += 1
                j -= 1
        if m - 1 <= j:
            high = j
        elif m - 1 >= i:
            low = i
        else:
            break
    return values[m - 1]


@kernel
def keep_nearest(
    surrogate: Array,
    first_column: int,
    m: int,
    values: Array,
    places: Array,
    length: Array,
    bar: Array,
) -> None:
    """Keep, per row, the columns whose surrogate lies below the row's bar.

    IN surrogate (rows, columns) of this block, columns a multiple of LANES; first_column, the
    number of its first column; m.
    OUT values, places (rows, capacity); length (rows,); bar (rows,).
    """
    rows, columns = surrogate.shape
    capacity = values.shape[1]
    for row in range(rows):
        limit = bar[row]
        held = length[row]
        for group in range(columns // LANES):
            lanes = surrogate[row, group * LANES : (group + 1) * LANES]
            below = np.int32(0)
            for j in range(LANES):
                below |= np.int32(lanes[j] < limit)
            if below == 0:
                continue
            if held + LANES > capacity:
                limit = cut_back(values[row], places[row], held, m)
                held = m
            for j in range(LANES):
                values[row, held] = lanes[j]
                places[row, held] = first_column + group * LANES + j
                held += lanes[j] < limit
        length[row] = held
        bar[row] = limit


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
    length: Array,
    out: Found,
) -> None:
    """Replace surrogates by float64 distances, sort, and certify that no column was missed.

    A column y outside the buffer has surrogate >= v, the largest kept. Were it nearer than the
    k-th neighbour, |y| <= |x| + d_k, so that its surrogate would be wrong by less than
    e = rounding * (|x| + d_k)²; hence v - e >= (d_k² - |x|²) / 2 proves the row complete.

    IN points (N, d); half_norm, |x|²/2 (N,) as the product saw it; values, places (rows, capacity)
    and length (rows,) of `keep_nearest`.
    OUT out: indices (N, k), distances (N, k), certified (N,).
    """
    k = out.indices.shape[1]
    squared = np.empty(m, np.float64)
    for row in range(length.shape[0]):
        cell = first_row + row
        held = min(length[row], m)
        if length[row] > m:
            cut_back(values[row], places[row], length[row], m)
        largest = values[row, 0]
        for c in range(held):
            largest = max(largest, values[row, c])
            squared[c] = squared_distance(points[cell], points[places[row, c]])
        sort_by_distance(squared, places[row], held)
        for c in range(k):
            out.indices[cell, c] = places[row, c]
            out.distances[cell, c] = np.sqrt(squared[c])
        reach = np.sqrt(2.0 * half_norm[cell]) + out.distances[cell, k - 1]
        needed = squared[k - 1] / 2.0 - half_norm[cell] + rounding * reach * reach
        out.certified[cell] = largest >= needed or held == points.shape[0] - 1


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
