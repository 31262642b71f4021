"""Cells known by their coordinates: which cells of an earlier run these are.

A model replays a cell of the run from its block and its levels. Neither is in the coordinates, so
the run keeps 8 bytes a cell by which cells are found again, in any order and any part of the data.
"""

from __future__ import annotations

import numpy as np

_ROWS = 8192  # rows whose products fit the cache
_ODD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


def digests(Z: np.ndarray) -> np.ndarray:
    """Return (N,) uint64, equal for rows of `Z` (N, d) that are equal in single precision.

    Each number's bits are multiplied by an odd constant of its column, and the high half, which
    the product mixes best, is folded onto the low one; the sum over the columns is the digest.

    Examples
    --------
    >>> first, second, again = digests(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> bool(first == again), bool(first == second)
    (True, False)
    """
    factor = np.cumprod(np.full(Z.shape[1], _ODD, np.uint64))
    out = np.empty(len(Z), np.uint64)
    for first in range(0, len(Z), _ROWS):
        rows = Z[first : first + _ROWS].astype(np.float32, order="C")
        rows += np.float32(0)  # -0 becomes 0
        mixed = rows.view(np.uint32) * factor
        mixed ^= mixed >> _HALF
        out[first : first + _ROWS] = mixed.sum(axis=1)
    return out


def fingerprint(Z: np.ndarray, first: int) -> int:
    """Return a number of cells (n, d) that begin at place `first`.

    Those of all parts, added up modulo 2^64, tell whether cells are the same in the same order.

    Examples
    --------
    >>> Z = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> whole = fingerprint(Z, 0)
    >>> whole == (fingerprint(Z[:1], 0) + fingerprint(Z[1:], 1)) % 2**64
    True
    >>> whole == fingerprint(Z[::-1], 0)
    False
    """
    place = np.arange(first, first + len(Z), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return int((digests(Z) * place).sum(dtype=np.uint64))


class KnownCells:
    """The cells of a run.

    Parameters
    ----------
    Z
        (N, d) their coordinates; not kept.
    codes
        (N, C) their levels.

    Examples
    --------
    >>> Z = np.random.default_rng(0).normal(size=(50, 3))
    >>> known = KnownCells(Z, np.zeros((50, 1), int))
    >>> known.find(digests(Z[[7, 3]])), known.find(digests(Z[[7, 3]] + 1))
    (array([7, 3]), array([-1, -1]))
    """

    def __init__(self, Z: np.ndarray, codes: np.ndarray) -> None:
        self._key = digests(Z)
        self._codes = codes

    def are(self, Z: np.ndarray) -> bool:
        """Tell whether these (n, d) are the cells of the run, in its order."""
        return np.array_equal(digests(Z), self._key)

    def find(self, key: np.ndarray, codes: np.ndarray | None = None) -> np.ndarray:
        """Return (n,) the place of each cell in the run, -1 for cells that it did not see.

        Parameters
        ----------
        key
            (n,) digests of the cells.
        codes
            (n, C) their levels; a cell of other levels than in the run is not the same cell.
            Without levels, coordinates that the run saw with several are not found.
        """
        if codes is None:
            mine, theirs = self._key, key
        else:
            mine, theirs = _combined(self._key, self._codes), _combined(key, codes)
        place = np.full(len(key), -1, np.int64)
        if len(theirs) == len(mine):  # equal cells of one run differ by their blocks
            here = np.flatnonzero(theirs == mine)
            place[here] = here
        left = np.flatnonzero(place < 0)
        if left.size:
            order = np.argsort(mine, kind="stable")
            first = np.searchsorted(mine, theirs[left], sorter=order)
            candidate = order[np.minimum(first, len(order) - 1)]
            place[left] = np.where(mine[candidate] == theirs[left], candidate, -1)
            if codes is None:
                place[left[np.isin(theirs[left], self._ambiguous(order))]] = -1
        return place

    def _ambiguous(self, order: np.ndarray) -> np.ndarray:
        """Return the digests that stand for cells of different levels."""
        key, codes = self._key[order], self._codes[order]
        same = key[1:] == key[:-1]
        differ = (codes[1:] != codes[:-1]).any(axis=1)
        return key[1:][same & differ]


def _combined(key: np.ndarray, codes: np.ndarray) -> np.ndarray:
    for column in codes.T:
        key = (key ^ (column.astype(np.uint64) + np.uint64(1))) * _ODD
        key ^= key >> _HALF
    return key
