from __future__ import annotations

import itertools

import numpy as np
import pytest
import twin

from harmonypy_lite.cells import arrangement
from harmonypy_lite.cells.arrangement import Arrangement, arrange
from harmonypy_lite.kernels.product import TILE

LAYOUTS = ([5], [2, 7], [3, 2, 11], [1000])


def level_counts(codes: np.ndarray) -> list[int]:
    return [np.unique(column).size for column in codes.T]


def made(sizes: list[int], n: int, n_blocks: int = 4, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes])[:-1]
    codes = (rng.integers(0, sizes, (n, len(sizes))) + offsets).astype(np.int32)
    block = rng.integers(0, n_blocks, n).astype(np.int32)
    block[block == 2] = 3  # one block is empty
    twin.frozen(codes)
    twin.frozen(block)
    return codes, block, arrange(codes, block, n_blocks, level_counts(codes))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "CHUNK", 700)


@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("n", [1, 3, 5000])
def test_order__is_a_permutation_by_block_then_levels(sizes: list[int], n: int) -> None:
    _, block, a = made(sizes, n)
    assert sorted(a.order.tolist()) == list(range(n))
    assert (np.diff(block[a.order]) >= 0).all()
    keys = [
        (int(block[i]), *codes_of.tolist(), int(i))
        for i, codes_of in zip(a.order, a.codes, strict=True)
    ]
    assert keys == sorted(keys), "cells of one block and combination stay in the order of the input"


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_codes__have_the_covariate_with_most_levels_first(sizes: list[int]) -> None:
    codes, _, a = made(sizes, 5000)
    used = [len(np.unique(column)) for column in a.codes.T]
    assert used == sorted(used, reverse=True)
    for held, given in zip(a.codes, codes[a.order], strict=True):
        assert sorted(held.tolist()) == sorted(given.tolist())


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_combinations__are_those_that_occur(sizes: list[int]) -> None:
    _, _, a = made(sizes, 900)
    np.testing.assert_array_equal(a.combinations[a.combination], a.codes)
    assert len({tuple(row) for row in a.combinations.tolist()}) == len(a.combinations)
    assert set(a.combination.tolist()) == set(range(len(a.combinations)))


def test_combinations__of_many_large_covariates_are_numbered_without_overflow() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    codes = (rng.integers(0, 2000, (n, 8)) + np.arange(8) * 2000).astype(np.int32)
    codes[n // 2 :] = codes[: n // 2]
    a = arrange(codes, np.zeros(n, np.int32), 1, level_counts(codes))
    assert len(a.combinations) == len(np.unique(codes, axis=0))
    np.testing.assert_array_equal(a.combinations[a.combination], a.codes)


@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize("n", [1, 3, 5000])
def test_chunks__cut_blocks_into_pieces_of_bounded_size(sizes: list[int], n: int) -> None:
    _, block, a = made(sizes, n)
    assert a.chunk_start[0] == 0
    assert a.chunk_start[-1] == n
    assert len(a.block_chunks) == 5
    for b, (first, last) in enumerate(itertools.pairwise(a.block_chunks)):
        rows = a.rows(first, last)
        assert (block[a.order[rows]] == b).all()
        assert rows.stop - rows.start == (block == b).sum()
    lengths = np.diff(a.chunk_start)
    assert (lengths > 0).all()
    assert lengths.max(initial=0) <= 700


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_groups__hold_each_cell_once_with_its_level(sizes: list[int]) -> None:
    _, _, a = made(sizes, 5000)
    for chunk in range(len(a.chunk_start) - 1):
        codes = a.codes[a.rows(chunk, chunk + 1)]
        groups = a.groups(chunk, chunk + 1)
        assert len(groups) == len(sizes)
        for c, group in enumerate(groups):
            members = group.members if c else np.arange(len(codes))
            assert sorted(members.tolist()) == list(range(len(codes)))
            assert (np.diff(group.start) > 0).all()
            assert (np.diff(group.start) <= TILE).all()
            of_member = np.repeat(group.level, np.diff(group.start))
            np.testing.assert_array_equal(codes[members, c], of_member)


def tiles(a: Arrangement) -> list[tuple[int, int]]:
    return list(itertools.pairwise(a.tile_start.tolist()))


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_tiles__are_runs_of_one_level_within_a_chunk(sizes: list[int]) -> None:
    _, _, a = made(sizes, 5000)
    assert set(a.chunk_start.tolist()) <= set(a.tile_start.tolist())
    for start, stop in tiles(a):
        assert 0 < stop - start <= TILE
        assert len(set(a.codes[start:stop, 0].tolist())) == 1
    np.testing.assert_array_equal(a.tile_start[a.chunk_tiles], a.chunk_start)
    for b, (first, last) in enumerate(itertools.pairwise(a.block_chunks)):
        rows, own = a.rows(first, last), a.tiles(first, last)
        levels, start = a.block_levels[b]
        np.testing.assert_array_equal(levels, np.unique(a.codes[rows, 0]))
        of_tile = a.codes[a.tile_start[own], 0]
        np.testing.assert_array_equal(of_tile[start], levels)
        bounds = [*start.tolist(), own.stop - own.start]
        for level, (lo, hi) in zip(levels, itertools.pairwise(bounds), strict=True):
            assert (of_tile[lo:hi] == level).all()


def test_arrangement__of_a_block_does_not_depend_on_other_blocks() -> None:
    codes, block, a = made([5], 5000)
    rows = a.rows(*a.block_chunks[1:3])
    alone = arrange(codes[block == 1], block[block == 1], 4, level_counts(codes))
    np.testing.assert_array_equal(np.flatnonzero(block == 1)[alone.order], a.order[rows])
    np.testing.assert_array_equal(
        np.diff(alone.chunk_start),
        np.diff(a.chunk_start[a.block_chunks[1] : a.block_chunks[2] + 1]),
    )


def test_groups__of_a_further_covariate_are_one_for_each_level() -> None:
    codes = np.random.default_rng(0).integers(0, 7, (500, 2)).astype(np.int32)
    (group,) = arrangement.group_further(codes)
    np.testing.assert_array_equal(group.level, np.unique(codes[:, 1]))
