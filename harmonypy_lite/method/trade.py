"""What an integration trades: how far the batches mix, and what of their structure it keeps.

Told from some cells alone and without labels, to choose between two ways to integrate the same
cells: more mixing that costs no neighbours is an effect removed, more mixing paid for in
neighbours is biology pulled together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Cells that are asked for their neighbours.
_ASKED = 400
#: Neighbours looked at for mixing, and of a cell's own batch for structure (of few, a third).
_AROUND, _INSIDE = 30, 10


class Trade(NamedTuple):
    """Both are shares, 1 the most; `mixed` may be more where composition differs."""

    mixed: float  # neighbours of other levels, over those of an even mixture
    kept: float  # nearest neighbours inside the same combination of levels that still are


def trade(
    before: np.ndarray, after: np.ndarray, codes: np.ndarray, rng: np.random.Generator
) -> Trade:
    """Measure what became of cells.

    Parameters
    ----------
    before, after
        (n, d) cells.
    codes
        (n, C) their levels. Mixing is the mean over the covariates.
    rng
        Draws the cells that are asked.
    """
    asked = _ask(len(before), rng)
    old, new = (_squared_distances(X, asked) for X in (before, after))
    return Trade(_mixed(new, codes, asked), _kept(old, new, codes, asked))


def mixing(after: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> float:
    """Return `mixed` of :func:`trade` alone."""
    asked = _ask(len(after), rng)
    return _mixed(_squared_distances(after, asked), codes, asked)


def _ask(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.choice(n, min(n, _ASKED), replace=False, shuffle=False))


def _mixed(distances: np.ndarray, codes: np.ndarray, asked: np.ndarray) -> float:
    n = len(codes)
    nearest = np.argpartition(distances, min(_AROUND, n - 2), axis=1)[:, : min(_AROUND, n - 1)]
    mixed = []
    for column in codes.T:
        other = column[nearest] != column[asked][:, None]
        even = 1 - np.bincount(column)[column[asked]] / n
        mixed.append(other.mean() / max(even.mean(), 1 / n))
    return float(np.mean(mixed))


def _squared_distances(X: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(a, n) from the asked cells to all; none is its own neighbour."""
    X = np.asarray(X, np.float64)
    squares = np.square(X).sum(axis=1)
    distances = squares[asked][:, None] - 2 * X[asked] @ X.T + squares
    distances[np.arange(len(asked)), asked] = np.inf
    return distances


def _kept(old: np.ndarray, new: np.ndarray, codes: np.ndarray, asked: np.ndarray) -> float:
    _, group, size = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    apart = group[asked][:, None] != group
    k = np.clip((size[group[asked]] - 1) // 3, 0, _INSIDE)
    known = k > 0
    if not known.any():
        return 1.0
    near = []
    for distances in (old, new):
        inside = np.where(apart, np.inf, distances)[known]
        most = min(_INSIDE, inside.shape[1])
        first = np.sort(np.partition(inside, most - 1, axis=1)[:, :most], axis=1)
        near.append(inside <= np.take_along_axis(first, k[known, None] - 1, axis=1))
    return float(((near[0] & near[1]).sum(axis=1) / k[known]).mean())
