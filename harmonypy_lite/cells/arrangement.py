"""In which order the cells are held: block by block, level by level.

A block is cut into chunks (a working set that stays in cache), a chunk into tiles of cells with
the same level of the first covariate. Every sum is made of whole tiles, whose bounds depend on the
data alone: so no result depends on threads or on how much of the data is in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harmonypy_lite.kernels.product import TILE
from harmonypy_lite.kernels.sorting import counting_order
from harmonypy_lite.kernels.weights import NO_MEMBERS, Groups

#: Cells that are worked on together, at most; their affinities to 100 clusters take 1.6 MB.
CHUNK = 4096
#: Blocks of more than one chunk are cut into a multiple of this.
_CHUNKS_OF = 4


@dataclass(frozen=True)
class Arrangement:
    """The order of the cells and its cuts.

    Attributes
    ----------
    order
        (N,) place in the input of each held cell.
    codes
        (N, C) int32 levels of the held cells, the covariate with most levels first.
    combination
        (N,) int32 number of the combination of levels of each held cell.
    combinations
        (Q, C) levels of each combination, columns as in `codes`.
    chunk_start
        (n_chunks + 1,) bounds of the chunks.
    block_chunks
        (n_blocks + 1,) bounds of the blocks, counted in chunks.
    tile_start, tile_level
        (n_tiles + 1,) bounds of the tiles of the first covariate, and (n_tiles,) their levels.
    further_groups
        For each chunk, the cells of each level of each further covariate, as rows of the chunk.
    chunk_tiles
        (n_chunks + 1,) bounds of the chunks, counted in tiles.
    block_levels
        For each block the levels of the first covariate that it has, and the first tile of each,
        counted from the block's first tile.
    """

    order: np.ndarray
    codes: np.ndarray
    combination: np.ndarray
    combinations: np.ndarray
    chunk_start: np.ndarray
    block_chunks: np.ndarray
    tile_start: np.ndarray
    tile_level: np.ndarray
    further_groups: list[list[Groups]]
    chunk_tiles: np.ndarray
    block_levels: list[tuple[np.ndarray, np.ndarray]]

    def rows(self, first_chunk: int, last_chunk: int) -> slice:
        """Return the held rows of the chunks ``first_chunk`` up to, not with, ``last_chunk``."""
        return slice(int(self.chunk_start[first_chunk]), int(self.chunk_start[last_chunk]))

    def groups(self, first_chunk: int, last_chunk: int) -> list[Groups]:
        """Return, for each covariate, which rows of these chunks share a level.

        Several chunks at once only where there is one covariate.
        """
        tiles = self.tiles(first_chunk, last_chunk)
        start = self.tile_start[tiles.start : tiles.stop + 1] - self.chunk_start[first_chunk]
        first = Groups(NO_MEMBERS, start, self.tile_level[tiles])
        if self.codes.shape[1] == 1:
            return [first]
        return [first, *self.further_groups[first_chunk]]

    def tiles(self, first_chunk: int, last_chunk: int) -> slice:
        """Return the tiles of the chunks ``first_chunk`` up to, not with, ``last_chunk``."""
        return slice(int(self.chunk_tiles[first_chunk]), int(self.chunk_tiles[last_chunk]))

    def strip(self, block: int, levels: range) -> tuple[slice, Groups]:
        """Return the rows of a block that have these levels of the first covariate, in tiles."""
        own, start = self.block_levels[block]
        first, last = self.chunk_tiles[self.block_chunks[block : block + 2]]
        start = np.append(start + first, last)
        a, b = start[np.searchsorted(own, (levels.start, levels.stop))]
        bounds = self.tile_start[a : b + 1]
        rows = slice(int(bounds[0]), int(bounds[-1]))
        return rows, Groups(NO_MEMBERS, bounds - bounds[0], self.tile_level[a:b])

    def codes_at(self, rows: slice) -> np.ndarray:
        """Return the (n, C) levels of held cells."""
        return self.codes[rows]

    def combination_at(self, rows: slice) -> np.ndarray:
        """Return the (n,) numbers of the combinations of levels of held cells."""
        return self.combination[rows]


def arrange(
    codes: np.ndarray, block: np.ndarray, n_blocks: int, level_counts: Sequence[int]
) -> Arrangement:
    """Sort cells by block, then by combination of levels, and cut them into chunks and tiles.

    Parameters
    ----------
    codes
        (N, C) int32 levels, numbered through all covariates.
    block
        (N,) block of each cell.
    n_blocks
        Number of blocks; some may be empty.
    level_counts
        (C,) levels of each covariate, whether all of them have cells here or not: some of the cells
        must be worked on in the order of covariates that all of them have.
    """
    codes = codes[:, by_size(level_counts)]
    combination, combinations = combine(codes)
    key = block.astype(np.int32 if n_blocks * len(combinations) < 2**31 else np.int64)
    np.multiply(key, len(combinations), out=key)
    np.add(key, combination, out=key)
    order = sorted_order(key)
    del key  # with what it is made of the most memory that an arrangement takes
    codes = codes[order]
    # of one covariate whose levels all occur, the combinations are its levels: 4 bytes a cell less
    same = codes.shape[1] == 1 and len(combinations) == combinations[-1, 0] + 1
    combination = codes[:, 0] if same else combination[order]
    # in the type of the blocks, of which a copy in another would take 8 bytes a cell
    inner = np.searchsorted(block[order], np.arange(1, n_blocks).astype(block.dtype))
    block_start = np.array([0, *inner, len(order)])
    chunk_start, block_chunks = cut_chunks(block_start)
    tile_start = tile_bounds(codes[:, 0], chunk_start[1:-1])
    chunk_tiles = np.searchsorted(tile_start, chunk_start)
    tile_level = codes[tile_start[:-1], 0]
    return Arrangement(
        order,
        codes,
        combination,
        combinations,
        chunk_start,
        block_chunks,
        tile_start,
        tile_level,
        [group_further(codes[a:b]) for a, b in itertools.pairwise(chunk_start)],
        chunk_tiles=chunk_tiles,
        block_levels=[
            runs(tile_level[a:b]) for a, b in itertools.pairwise(chunk_tiles[block_chunks])
        ],
    )


def by_size(level_counts: Sequence[int]) -> np.ndarray:
    """Return the order of the covariates, the one with most levels first."""
    return np.argsort(level_counts, kind="stable")[::-1]


def first_levels(level_counts: Sequence[int]) -> range:
    """Return the levels of the covariate with most levels."""
    first = by_size(level_counts)[0]
    start = sum(level_counts[:first])
    return range(start, start + level_counts[first])


def runs(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of a sorted array, and where each begins."""
    start = np.flatnonzero(np.diff(level, prepend=-1))
    return level[start], start


def combine(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the combinations of levels that occur, in order of their codes."""
    combination, used = _renumber(codes[:, 0])
    combinations = used[:, None]
    for column in codes.T[1:]:
        # renumbered after every covariate, so that the product of two stays within 64 bits
        further, levels = _renumber(column)
        combination, used = _renumber(combination.astype(np.int64) * levels.size + further)
        before, last = np.divmod(used, levels.size)
        combinations = np.column_stack([combinations[before], levels[last]])
    return combination, combinations


def _renumber(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each value's place, int32, among the distinct values, and these, ascending."""
    largest = int(values.max(initial=-1))
    if largest >= 4 * values.size:
        used, place = np.unique(values, return_inverse=True)
        return place.reshape(-1).astype(np.int32), used
    # counting is several times faster than sorting
    seen = np.zeros(largest + 1, bool)
    seen[values] = True
    used = np.flatnonzero(seen)
    place = np.empty(largest + 1, np.int32)
    place[used] = np.arange(used.size)
    return place[values], used


def sorted_order(key: np.ndarray) -> np.ndarray:
    """Return the order that sorts `key` (n,), whole numbers >= 0; equal ones stay as they came."""
    out = np.empty(key.size, np.int32 if key.size < 2**31 else np.int64)
    n_keys = int(key.max(initial=-1)) + 1
    if n_keys <= 4 * key.size:
        counting_order(key, np.zeros(n_keys + 1, np.int64), out)
    else:
        out[:] = np.argsort(key, kind="stable")
    return out


def cut_chunks(
    block_start: np.ndarray, cuts: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the chunks, and those of the blocks counted in chunks.

    `cuts` are further bounds, which the chunks have besides those that they would have anyway.
    """
    chunk_start: list[int] = []
    block_chunks = [0]
    for a, b in itertools.pairwise(block_start):
        n = -(-int(b - a) // CHUNK)
        n = n if n <= 1 else n + -n % _CHUNKS_OF  # so that threads have the same to do
        starts = {int(a + (b - a) * i // n) for i in range(n)}
        if cuts is not None:
            starts.update(cuts[(cuts > a) & (cuts < b)].tolist())
        chunk_start.extend(sorted(starts))
        block_chunks.append(len(chunk_start))
    chunk_start.append(int(block_start[-1]))
    return np.array(chunk_start), np.array(block_chunks)


def group_further(codes: np.ndarray) -> list[Groups]:
    """Group the cells of a chunk by the level of each covariate but the first."""
    groups = []
    for column in codes.T[1:]:
        members = sorted_order(column)
        start = tile_bounds(column[members])
        groups.append(Groups(members, start, column[members[start[:-1]]]))
    return groups


def tile_bounds(codes: np.ndarray, cuts: np.ndarray | None = None) -> np.ndarray:
    """Return the bounds of runs of equal codes, cut at `cuts` and into tiles of at most TILE."""
    ends = codes[1:] != codes[:-1]
    if cuts is not None:
        ends[cuts - 1] = True
    runs = np.concatenate([[0], 1 + np.flatnonzero(ends), [codes.size]])
    tiles = -(-np.diff(runs) // TILE)
    within = np.arange(tiles.sum()) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    return np.append(np.repeat(runs[:-1], tiles) + within * TILE, runs[-1])
