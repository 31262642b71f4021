from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harmonypy_lite.method.blocks import block_of_cells, number_of_blocks

_MASK = 2**64 - 1


def splitmix64(index: int, seed: int) -> int:
    """The published finaliser, in whole numbers of any size."""
    x = (index + (seed + 1) * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


@pytest.mark.parametrize(
    ("proportion", "n_cells", "expected"),
    [
        (0.05, 1000, 20),
        (0.05, 20, 20),
        (0.05, 19, 19),
        (0.05, 1, 1),
        (1.0, 1000, 1),
        (0.5, 1000, 2),
        (0.3, 1000, 4),
        (1 / 3, 1000, 3),
        (0.1, 1000, 10),
        (1e-9, 1000, 1000),
        (1e-300, 7, 7),
    ],
)
def test_number_of_blocks__holds_the_share_and_never_exceeds_the_cells(
    proportion: float, n_cells: int, expected: int
) -> None:
    assert number_of_blocks(proportion, n_cells) == expected


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**62, 2**63 - 1])
@pytest.mark.parametrize("n_blocks", [1, 7, 20])
def test_block__is_the_published_hash(seed: int, n_blocks: int) -> None:
    index = np.array([0, 1, 2, 999, 2**31, 2**40])
    expected = [(splitmix64(int(i), seed) >> 32) * n_blocks >> 32 for i in index]
    found = block_of_cells(index, n_blocks, seed)
    assert found.dtype == np.uint8
    assert found.tolist() == expected


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
@pytest.mark.parametrize("n_blocks", [2, 20, 1000])
def test_block__is_uniform(seed: int, n_blocks: int) -> None:
    counts = np.bincount(block_of_cells(np.arange(100_000), n_blocks, seed), minlength=n_blocks)
    assert counts.size == n_blocks
    assert stats.chisquare(counts).pvalue > 1e-4


def test_block__is_uniform_over_any_regular_subset() -> None:
    # cells that are sorted by batch, or every 96th, must not share blocks
    for index in (np.arange(0, 960_000, 96), np.arange(5000, 15_000), np.arange(10_000) * 2**20):
        counts = np.bincount(block_of_cells(index, 20, 3), minlength=20)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_block__of_neighbours_is_independent() -> None:
    block = block_of_cells(np.arange(100_000), 20, 3).astype(int)
    table = np.bincount(block[:-1] * 20 + block[1:], minlength=400)
    assert stats.chisquare(table).pvalue > 1e-4


def test_block__of_another_seed_is_independent() -> None:
    index = np.arange(100_000)
    for other in (4, 3 + 2**32, 5):
        pair = 20 * block_of_cells(index, 20, 3).astype(int) + block_of_cells(index, 20, other)
        table = np.bincount(pair, minlength=400)
        assert stats.chisquare(table).pvalue > 1e-4


def test_block__depends_on_the_place_alone() -> None:
    whole = block_of_cells(np.arange(1000), 20, 3)
    index = np.random.default_rng(0).permutation(1000)
    for part in np.array_split(index, 7):
        np.testing.assert_array_equal(block_of_cells(part, 20, 3), whole[part])
    np.testing.assert_array_equal(block_of_cells(np.arange(1000, dtype=np.int32), 20, 3), whole)
    np.testing.assert_array_equal(block_of_cells(np.arange(2000), 20, 3)[:1000], whole)
