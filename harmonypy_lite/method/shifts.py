"""Where a new batch has the types of a reference: its effect on each, learned without labels.

A batch moves all its cells, each type a little differently, and its cells have no labels yet. The
types are moved to the mean of their own nearest cells, again and again, as k-means would, with
cells that are out of reach left out, lest an unknown type drag a known one along. At last the
nearest half of the cells decide: an unknown type beside a known one of more cells has no say then.
Everything is in units of the spread inside types (whitened), in which a cell's distance is
Mahalanobis's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: The nearest share of the cells of a batch that says where the types are.
_HALF = 0.5
#: ... and where it begins: it is of known types unless hardly any cell is.
_START = 0.25
#: A type's own shift, beyond that of all, is drawn to nothing as if so many cells had none.
_CELLS = 20
#: Fewer nearest cells tell nothing about a type.
_FEW = 5
_STEPS = 10


def nearest_centre(
    x: np.ndarray, centre: np.ndarray, square: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (T, n) which centre is nearest each cell, and (n,) the squared distance.

    `square` (n,) is |x|^2, where it is at hand.
    """
    # A centre's distances lie together, so that minima over centres are taken of many cells at once
    apart = -2 * centre @ x.T
    apart += (centre**2).sum(axis=1)[:, None]
    least = apart.min(axis=0)
    own = apart == least
    if np.count_nonzero(own) > len(x):  # a cell equally far from two is of the first
        own = apart.argmin(axis=0) == np.arange(len(centre))[:, None]
    least += np.einsum("ij,ij->i", x, x) if square is None else square
    return own, np.maximum(least, 0, out=least)


def shifts(
    x: np.ndarray, centre: np.ndarray, reach: float = np.inf, furthest: float = np.inf
) -> np.ndarray:
    """Return (T, d) how far a batch moves each type.

    Parameters
    ----------
    x
        (n, d) cells of one batch, n > 0, whitened.
    centre
        (T, d) means of the types, whitened alike.
    reach
        Cells that are further out are of no known type. Infinite: all are of known types.
    furthest
        The longest shift that batches are known to have.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> centre = np.array([[0.0, 0.0], [50.0, 0.0]])
    >>> known = centre[np.arange(200) % 2] + [0.0, 5.0] + rng.normal(size=(200, 2))
    >>> unknown = [0.0, 30.0] + rng.normal(size=(100, 2))
    >>> shifts(np.r_[known, unknown], centre, reach=3).round() + 0
    array([[0., 5.],
           [0., 5.]])
    """

    def start(squared: np.ndarray) -> float:
        return _least(squared, _START)

    def reached(squared: np.ndarray) -> float:
        return max(reach**2, _least(squared, _START / 2))

    def half(squared: np.ndarray) -> float:
        most = _least(squared, _HALF)
        return min(reached(squared), most) if np.isfinite(reach) else most

    x = np.asfortranarray(x)
    found = np.zeros_like(centre)
    for limit in (start, reached, half) if np.isfinite(reach) else (half,):
        found = _settled(x, centre, found, limit, furthest)
    return found


def _least(squared: np.ndarray, share: float) -> float:
    """Return the largest of this share of the numbers, the least: those up to the quantile."""
    k = int((len(squared) - 1) * share)
    return float(np.partition(squared, k)[k])


def _settled(
    x: np.ndarray,
    centre: np.ndarray,
    found: np.ndarray,
    limit: Callable[[np.ndarray], float],
    furthest: float,
) -> np.ndarray:
    """Move the types to their nearest cells within a limit until they stay."""
    square = np.einsum("ij,ij->i", x, x)
    for _ in range(_STEPS):
        own, squared = nearest_centre(x, centre + found, square)
        own &= squared <= limit(squared)
        size = np.count_nonzero(own, axis=1)[:, None]
        total = own.astype(x.dtype) @ x
        total -= size * centre
        common = total.sum(axis=0) / size.sum()
        weight = np.where(size >= _FEW, size / (size + _CELLS), 0)
        moved = common + weight * (total / np.maximum(size, 1) - common)
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        moved *= np.minimum(1, furthest / np.maximum(length, np.finfo(float).tiny))
        if np.abs(moved - found).max() <= 1e-6:
            break
        found = moved
    return found
