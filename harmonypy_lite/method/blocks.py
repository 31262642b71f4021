"""The fixed partition of the cells into blocks.

A cell's block is a seeded hash of its place in the data, so that a file, a shard or a worker can
tell it without seeing the rest. The papers draw a new partition in every round; the effect of
keeping one is within the noise of the seed (see docs/agreement.md).
"""

from __future__ import annotations

import math

import numpy as np

#: Cells that are hashed at a time, so that 8 bytes of each are all that is held.
_AT_ONCE = 2**16


def number_of_blocks(block_proportion: float, n_cells: int) -> int:
    """Return how many blocks hold `block_proportion` of the cells each; at least 1."""
    return max(1, min(math.ceil(1 / block_proportion - 1e-9), n_cells))


def block_of_cells(index: np.ndarray, n_blocks: int, seed: int) -> np.ndarray:
    """Return the (n,) block ids, in few bytes, of the cells at `index` (places in the whole data).

    The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi
    10.1145/2660193.2660195), whose high bits, scaled to the number of blocks, are uniform.
    """
    out = np.empty(index.shape, np.min_scalar_type(n_blocks))
    for first in range(0, index.size, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        out[part] = _block_of(index[part], n_blocks, seed)
    return out


def _block_of(index: np.ndarray, n_blocks: int, seed: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = index.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(32)) * np.uint64(n_blocks)) >> np.uint64(32)
