"""The columns of a product with the smallest surrogates for each row: the exact neighbour search.

A row x and a column y have the surrogate |y|²/2 - x·y, which orders the columns as their distances
from x do. Products come in strips of LANES columns; a bar for the row follows from the least of
them before any column is looked at by itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.marks import MARKED, below, count, first_mark, lower, without_first
from harmonypy_lite.kernels.product import multiply

Array = NDArray[Any]
LANES = MARKED  # columns in a strip
_NONE, _HALF = np.uint64(0), np.float32(0.5)
_HALVINGS = 12
#: Rows and strips whose surrogates are held at a time: at most 2 MB.
_ROWS, _STRIPS = 64, 128
#: Multiplications in a piece of work, beside which its beginning is little.
_WORK = 2**27


class Room(NamedTuple):
    """Arrays that `search` writes to."""

    block: Array  # (strips x r, LANES) surrogates of some strips and r rows
    least: Array  # (r, a multiple of LANES of at least m)
    values: Array  # (r, at least m + LANES) surrogates that may be among the smallest
    places: Array  # the same, int32: their columns
    length: Array  # (r,) how many there are


def room_for(m: int, n_strips: int) -> Room:
    """Return arrays for a search of `m` columns in so many strips."""
    width = LANES * (1 + 2 * m // LANES)  # at twice `m`, few of the nearest share a residue
    return Room(
        np.empty((min(_STRIPS, n_strips) * _ROWS, LANES), np.float32),
        np.empty((_ROWS, width), np.float32),
        np.empty((_ROWS, 4 * m + 2 * LANES), np.float32),
        np.empty((_ROWS, 4 * m + 2 * LANES), np.int32),
        np.empty(_ROWS, np.int64),
    )


def rows_together(strips: Array) -> int:
    """Return how many rows are a piece of work for a thread."""
    return _ROWS * max(1, _WORK // (_ROWS * strips.size))


def as_strips(points: Array) -> tuple[Array, Array]:
    """Return the strips of points (N, d) in single precision, and (N,) |y|²/2."""
    n, d = points.shape
    strips = np.empty((-(-n // LANES), d + 1, LANES), np.float32)
    half_norm = np.empty(n)
    fill_strips(points, strips, half_norm)
    return strips, half_norm


def as_rows(points: Array) -> Array:
    """Return [x, 1] (n, d+1) of points (n, d), in single precision."""
    rows = np.ones((len(points), points.shape[1] + 1), np.float32)
    rows[:, :-1] = points
    return rows


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
def fill_strips(points: Array, strips: Array, half_norm: Array) -> None:
    """strips[s, :, j] = [-y, |y|²/2] for y of row s LANES + j; infinitely far behind the last row.

    IN points (N, d).  OUT strips (S, d+1, LANES), S LANES >= N; half_norm, |y|²/2 (N,).
    """
    dims = points.shape[1]
    for s in range(strips.shape[0]):
        own = points[s * LANES : (s + 1) * LANES]
        for t in range(dims):
            for j in range(own.shape[0]):
                strips[s, t, j] = -own[j, t]
            for j in range(own.shape[0], LANES):
                strips[s, t, j] = 0.0
        for j in range(own.shape[0]):
            total = 0.0
            for t in range(dims):
                total += np.float64(own[j, t]) * np.float64(own[j, t])
            half_norm[s * LANES + j] = total / 2
            strips[s, dims, j] = total / 2
        for j in range(own.shape[0], LANES):
            strips[s, dims, j] = np.inf


@kernel
def search(
    rows: Array, strips: Array, own: int, m: int, room: Room, values: Array, places: Array
) -> None:
    """Find, per row x, the `m` columns y with the smallest surrogates; without its own column.

    The bar is the m-th of the least surrogates of each residue of the columns modulo the width of
    `least`: `m` columns are at or below it, and hardly more.

    IN rows, [x, 1] (n, d+1); strips, [-y, |y|²/2] of LANES columns each (S, d+1, LANES); own, the
    number of the first row's own column, S LANES or more if rows are no columns; m.
    OUT room, for scratch; values, places (n, m), in no order.
    """
    block, least, length = room.block, room.least, room.length
    together, width = least.shape
    capacity = block.shape[0] // together
    for start in range(0, rows.shape[0], together):
        some = rows[start : start + together]
        least[:] = np.inf
        length[:] = 0
        for first in range(0, strips.shape[0], capacity):
            n_strips = min(capacity, strips.shape[0] - first)
            for s in range(n_strips):
                at = (first + s) * LANES
                surrogate = block[s * together : s * together + some.shape[0]]
                multiply(some, strips[first + s], surrogate)
                _leave_out(surrogate, own + start - at)
                for row in range(some.shape[0]):
                    lower(least, row, at % width, block, s * together + row)
            for row in range(some.shape[0]):
                _keep_below(room, row, n_strips, first * LANES, m)
        for row in range(some.shape[0]):
            if length[row] > m:
                cut_back(room.values[row], room.places[row], length[row], m)
            for c in range(m):
                values[start + row, c] = room.values[row, c]
                places[start + row, c] = room.places[row, c]


@inlined
def _leave_out(surrogate: Array, own: int) -> None:
    """surrogate[i, own + i] = inf, for the columns that there are."""
    for row in range(max(0, -own), min(surrogate.shape[0], LANES - own)):
        surrogate[row, own + row] = np.inf


@inlined
def _bar(least: Array, row: int, m: int) -> float:
    """A number that `m` of the row's numbers are below, and hardly more: by bisection."""
    width = least.shape[1]
    low, high = least[row, 0], least[row, 0]
    for j in range(1, width):
        low, high = min(low, least[row, j]), max(high, least[row, j])
    high = np.nextafter(high, np.float32(np.inf))
    if high == np.inf:
        return high
    for _ in range(_HALVINGS):
        middle = np.float32(low + (high - low) * _HALF)
        n = 0
        for first in range(0, width, LANES):
            n += count(below(least, row, first, middle))
        low, high = (low, middle) if n >= m else (middle, high)
    return high


@inlined
def _keep_below(room: Room, row: int, n_strips: int, first_column: int, m: int) -> None:
    """Append the row's surrogates below its bar; a full buffer is cut back, and the bar falls."""
    block, together = room.block, room.least.shape[0]
    values, places = room.values[row], room.places[row]
    limit = _bar(room.least, row, m)
    held = room.length[row]
    for s in range(n_strips):
        at = s * together + row
        marks = below(block, at, 0, limit)
        if marks == _NONE:
            continue
        if held + LANES > values.size:
            limit = cut_back(values, places, held, m)
            held = m
            marks = below(block, at, 0, limit)
        while marks != _NONE:
            j = first_mark(marks)
            values[held] = block[at, j]
            places[held] = first_column + s * LANES + j
            held += 1
            marks = without_first(marks)
    room.length[row] = held
