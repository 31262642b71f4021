"""How unevenly a correction changed the distances inside batches.

An effect that is the same for all cells of a batch moves them together, and what was far apart in
the batch stays as far apart. Where types are drawn onto each other, or torn from each other, it
does not: so it shows even where each type stays whole, as neighbours do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.theta.measure import Probe

PARTNERS = 40
"""Cells of its batch that each cell is compared with."""


def stretch(probe: Probe, Z_hat: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """Return the log ratio (m, 40) of distances after and before, to cells of the same batch.

    Of the nearer half of the pairs it is NaN: near cells are a matter of `Probe.kept`.

    Parameters
    ----------
    probe
        The cells that are looked at, their batches, and how they stood before.
    Z_hat
        (N, d) the result.
    seed
        Of the partners.
    """
    partners = _partners(probe, np.random.default_rng([seed, 7]))
    before, after = (
        _distances(np.asarray(points[probe.places], np.float64), partners)
        for points in (probe.Z, Z_hat)
    )
    far = (before > 0) & (before >= np.median(before))
    shortest = np.finfo(np.float64).tiny
    return np.log(np.maximum(after, shortest) / np.where(far, before, np.nan))


def unevenness(
    stretch: NDArray[np.float64], groups: NDArray[np.integer], n: int
) -> NDArray[np.float64]:
    """Return the standard deviation (n,) of the log ratios of each group's cells.

    Examples
    --------
    >>> unevenness(np.array([[0.0, 2.0], [np.nan, 5.0]]), np.array([0, 1]), 3).tolist()
    [1.0, 0.0, nan]
    """
    found = np.full(n, np.nan)
    for group in range(n):
        own = stretch[groups == group]
        own = own[~np.isnan(own)]
        if own.size:
            found[group] = own.std()
    return found


def _partners(probe: Probe, rng: np.random.Generator) -> NDArray[np.int64]:
    found = np.empty((len(probe.places), PARTNERS), np.int64)
    for level in range(probe.batches.n):
        cells = np.flatnonzero(probe.batches.codes == level)
        found[cells] = cells[rng.integers(0, len(cells), (len(cells), PARTNERS))]
    return found


def _distances(points: NDArray[np.float64], partners: NDArray[np.int64]) -> NDArray[np.float64]:
    columns = [np.linalg.norm(points - points[column], axis=1) for column in partners.T]
    return np.stack(columns, axis=1)
