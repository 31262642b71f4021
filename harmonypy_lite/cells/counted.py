"""The arrangement of cells that are too many to keep anything of each in memory.

Within a block the held cells are sorted by combination of levels. So the number of cells of each
block and combination says what every held cell is; and since equal cells stay in the order of the
input, it also says, to one who reads the input from its start, where each cell goes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from harmonypy_lite.cells.arrangement import (
    by_size,
    cut_chunks,
    group_further,
    runs,
    sorted_order,
    tile_bounds,
)
from harmonypy_lite.kernels.weights import NO_MEMBERS, Groups


class Counted:
    """What `Arrangement` says, made from counts.

    Parameters
    ----------
    counts
        (n_blocks, Q) cells of each block and combination of levels.
    combinations
        (Q, C) int32 levels of each combination, sorted, the covariate with most levels first.
    cuts
        Held rows at which a chunk must end, besides the bounds of the blocks.
    """

    def __init__(
        self, counts: np.ndarray, combinations: np.ndarray, cuts: np.ndarray | None = None
    ) -> None:
        self.counts, self.combinations = counts, combinations
        self.run_start = np.concatenate([[0], np.cumsum(counts.ravel())]).astype(np.int64)
        block_start = self.run_start[:: len(combinations)]
        self.chunk_start, self.block_chunks = cut_chunks(block_start, cuts)
        starts, levels, chunk_tiles = [], [], [0]
        for a, b in itertools.pairwise(self.chunk_start):
            first = self.codes_at(slice(int(a), int(b)))[:, 0]
            start = tile_bounds(first)[:-1]
            starts.append(start + a)
            levels.append(first[start])
            chunk_tiles.append(chunk_tiles[-1] + start.size)
        self.tile_level = tile_level = np.concatenate(levels)
        self.chunk_tiles = np.array(chunk_tiles)
        self.tile_start = np.append(np.concatenate(starts), self.run_start[-1]).astype(np.int64)
        cuts = self.chunk_tiles[self.block_chunks]
        self.block_levels = [runs(tile_level[a:b]) for a, b in itertools.pairwise(cuts)]

    @property
    def n_cells(self) -> int:
        """Number of cells N."""
        return int(self.run_start[-1])

    def rows(self, first_chunk: int, last_chunk: int) -> slice:
        """Return the held rows of the chunks ``first_chunk`` up to, not with, ``last_chunk``."""
        return slice(int(self.chunk_start[first_chunk]), int(self.chunk_start[last_chunk]))

    def tiles(self, first_chunk: int, last_chunk: int) -> slice:
        """Return the tiles of the chunks ``first_chunk`` up to, not with, ``last_chunk``."""
        return slice(int(self.chunk_tiles[first_chunk]), int(self.chunk_tiles[last_chunk]))

    def codes_at(self, rows: slice) -> np.ndarray:
        """Return the (n, C) levels of held cells."""
        return self.combinations[self.combination_at(rows)]

    def combination_at(self, rows: slice) -> np.ndarray:
        """Return the (n,) numbers of the combinations of levels of held cells."""
        first = int(np.searchsorted(self.run_start, rows.start, "right")) - 1
        last = int(np.searchsorted(self.run_start, rows.stop, "left"))
        bounds = self.run_start[first : last + 1].clip(rows.start, rows.stop)
        number = np.arange(first, last, dtype=np.int32) % np.int32(len(self.combinations))
        return np.repeat(number, np.diff(bounds))

    def groups(self, first_chunk: int, last_chunk: int) -> list[Groups]:
        """Return, for each covariate, which rows of these chunks share a level.

        Several chunks at once only where there is one covariate.
        """
        tiles, rows = self.tiles(first_chunk, last_chunk), self.rows(first_chunk, last_chunk)
        start = self.tile_start[tiles.start : tiles.stop + 1] - rows.start
        first = Groups(NO_MEMBERS, start, self.tile_level[tiles])
        return [first, *group_further(self.codes_at(rows))]


class Census:
    """The combinations of levels that occur, and the block and combination of any cell.

    Parameters
    ----------
    codes
        (N, C) int32 levels, numbered through all covariates; anything that slices give arrays of.
    block_of
        Function of places (n,) that returns blocks (n,).
    n_blocks
        Number of blocks.
    n_rows
        Rows that are looked at together.
    """

    def __init__(
        self,
        codes: Any,
        block_of: Callable[[np.ndarray], np.ndarray],
        n_blocks: int,
        n_rows: int,
    ) -> None:
        self._codes, self._block_of = codes, block_of
        self.n_blocks, self._n_rows = n_blocks, n_rows
        found = _distinct(codes[a:b] for a, b in self.batches())
        self._columns = by_size([np.unique(column).size for column in found.T])
        found = found[:, self._columns]
        self.combinations = np.ascontiguousarray(found[np.lexsort(found.T[::-1])])
        self._table = _Numbers(self.combinations)
        counts = np.zeros(n_blocks * len(self.combinations), np.int64)
        for a, b in self.batches():
            counts += np.bincount(self.key(a, b), minlength=counts.size)
        self.counts = counts.reshape(n_blocks, -1)

    def batches(self) -> Iterable[tuple[int, int]]:
        """Return bounds of batches of rows."""
        n = int(self._codes.shape[0])
        return ((a, min(a + self._n_rows, n)) for a in range(0, n, self._n_rows))

    def key(self, a: int, b: int) -> np.ndarray:
        """Return block x Q + combination of the cells a to b, int64."""
        codes = np.asarray(self._codes[a:b])[:, self._columns]
        block = self._block_of(np.arange(a, b)).astype(np.int64)
        return block * len(self.combinations) + self._table.of(codes)


class Walk:
    """Where the cells of the input are held, for one who goes through it from its start.

    Examples
    --------
    >>> codes = np.array([[0], [1], [0], [1]], np.int32)
    >>> census = Census(codes, lambda place: np.zeros(place.size, int), 1, 100)
    >>> walk = Walk(census, Counted(census.counts, census.combinations))
    >>> order, cuts, held = walk.next(0, 4)
    >>> order.tolist(), cuts.tolist(), held.tolist()
    ([0, 2, 1, 3], [0, 2, 4], [0, 2])
    """

    def __init__(self, census: Census, arrangement: Counted) -> None:
        self._census = census
        self._cursor = arrangement.run_start[:-1].copy()

    def next(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the order that sorts the cells a to b, where its runs end, where each is held.

        Cells ``order[cuts[r]:cuts[r + 1]]`` are held in one stretch from row ``held[r]`` on.
        """
        key = self._census.key(a, b)
        order = sorted_order(key)
        start = np.flatnonzero(np.diff(key[order], prepend=-1))
        own = key[order[start]]
        cuts = np.append(start, b - a)
        held = self._cursor[own]
        self._cursor[own] += np.diff(cuts)
        return order, cuts, held


class _Numbers:
    """The place of each row of codes in a sorted table of distinct rows."""

    def __init__(self, table: np.ndarray) -> None:
        self._values = [np.unique(column) for column in table.T]
        self._keys = []
        key = np.zeros(len(table), np.int64)
        for values, column in zip(self._values, table.T, strict=True):
            # renumbered after every covariate, so that the product of two stays within 64 bits
            key = key * values.size + np.searchsorted(values, column)
            self._keys.append(np.unique(key))
            key = np.searchsorted(self._keys[-1], key)

    def of(self, codes: np.ndarray) -> np.ndarray:
        key = np.zeros(len(codes), np.int64)
        for values, keys, column in zip(self._values, self._keys, codes.T, strict=True):
            key = np.searchsorted(keys, key * values.size + np.searchsorted(values, column))
        return key


def _distinct(batches: Iterable[np.ndarray]) -> np.ndarray:
    """Return the distinct rows of all batches together."""
    found: np.ndarray | None = None
    for codes in batches:
        rows = _distinct_rows(np.asarray(codes))
        found = rows if found is None else _distinct_rows(np.concatenate([found, rows]))
    assert found is not None
    return found


def _distinct_rows(codes: np.ndarray) -> np.ndarray:
    low = codes.min(axis=0).astype(np.int64)
    size = codes.max(axis=0) - low + 1
    if math.prod(int(n) for n in size) >= 2**62:
        return np.unique(codes, axis=0)
    key = np.zeros(len(codes), np.int64)
    for column, first, n in zip(codes.T, low, size, strict=True):
        key = key * n + (column - first)
    return codes[np.unique(key, return_index=True)[1]]
