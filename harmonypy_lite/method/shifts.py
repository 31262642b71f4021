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


def nearest_centre(x: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) the nearest centre of each cell, and (n,) the squared distance."""
    squared = (x**2).sum(axis=1)[:, None] - 2 * x @ centre.T + (centre**2).sum(axis=1)
    place = squared.argmin(axis=1)
    return place, np.maximum(squared[np.arange(len(x)), place], 0)


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

    def start(squared: np.ndarray) -> np.ndarray:
        return squared <= np.quantile(squared, _START)

    def reached(squared: np.ndarray) -> np.ndarray:
        return squared <= max(reach**2, float(np.quantile(squared, _START / 2)))

    def half(squared: np.ndarray) -> np.ndarray:
        return reached(squared) & (squared <= np.quantile(squared, _HALF))

    found = np.zeros_like(centre)
    for known in (start, reached, half) if np.isfinite(reach) else (half,):
        found = _settled(x, centre, found, known, furthest)
    return found


def _settled(
    x: np.ndarray,
    centre: np.ndarray,
    found: np.ndarray,
    known: Callable[[np.ndarray], np.ndarray],
    furthest: float,
) -> np.ndarray:
    """Move the types to their nearest known cells until they stay."""
    for _ in range(_STEPS):
        place, squared = nearest_centre(x, centre + found)
        own = known(squared)
        apart, of = x[own] - centre[place[own]], place[own]
        common = apart.mean(axis=0)
        moved = np.tile(common, (len(centre), 1))
        for t in np.flatnonzero(np.bincount(of, minlength=len(centre)) >= _FEW):
            mine = apart[of == t]
            moved[t] += (mine.mean(axis=0) - common) * len(mine) / (len(mine) + _CELLS)
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        moved *= np.minimum(1, furthest / np.maximum(length, np.finfo(float).tiny))
        if np.allclose(moved, found, rtol=0, atol=1e-6):
            break
        found = moved
    return found
