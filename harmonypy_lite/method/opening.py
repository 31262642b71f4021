"""How a run opens: the first centroids, and whether the first clustering sees the cells moved.

Where effects are strong, k-means on the cells as they are finds clusters of one batch each. The
penalty has nothing to pull on then, and the batches stay apart. So the first clustering may see z
minus a shift per level; all that it decides is where the clusters are, for every regression starts
from z. Three ways:

- `kmeans`: no shift. What Harmony does.
- `centred`: the shift is the mean of the level. It brings together batches that are far apart, and
  pulls the types of batches that differ in composition onto each other.
- `auto`: the shift is that of a first, small run on some of the cells, with effects that all
  clusters have in common (`Pooling` without its smooth part). Clusters that hold several batches
  tell it, a type that one batch alone has says nothing of it, so that composition hardly enters;
  and such a type is not drawn to another, as it may be by effects that differ between clusters
  before the batches are in place. That run is made twice, from the cells as they are and from
  centred ones, which alone escape where every cluster has one batch. The first is kept unless the
  second leaves the cells clearly closer to as many centroids: batches whose types coincide need
  fewer places than batches that lie beside each other or across.

Only cells of the start's sample are read, so that any backend can open in all three ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from harmonypy_lite.design import Design
from harmonypy_lite.method import loop, start
from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.method.passes import Assign, Cells, CorrectAndAssign
from harmonypy_lite.method.pooled import Pooling
from harmonypy_lite.method.rules import RULES, Setting, setting_for

#: Cells of the small runs: half of all, but at least the first and at most the second number (the
#: latter per cluster), and some for each level.
_CELLS, _CELLS_PER_CLUSTER, _CELLS_PER_LEVEL = 2000, 64, 8
#: How much less of the variance the centred run must leave inside clusters to be preferred.
_CLEARLY = 0.05

#: Rounds in which the means of several covariates' levels are adjusted to each other.
_MEAN_ROUNDS = 20

#: Harmony with one shift per level.
_ALIGNMENT = replace(RULES["pooled"], prior=lambda levels: Pooling(levels, smooth=False))


class Opening(NamedTuple):
    """Where a run starts."""

    Y: np.ndarray  # (K, d) unit centroids
    shift: np.ndarray | None  # (B, d) what the first clustering sees taken off each level


def open_run(
    sample: np.ndarray,
    design: Design,
    setting: Setting,
    rng: np.random.Generator,
    hold: Callable[[np.ndarray, Design, Setting], Cells],
) -> Opening:
    """Find the first centroids, and the shift that the setting's start asks for.

    Parameters
    ----------
    sample
        (n, d) cells that the start looks at, from :func:`start.sample_cells`.
    design
        The levels of those cells.
    setting
        Of the run.
    rng
        Draws the centroids.
    hold
        Makes a backend of some cells.
    """
    K, how = setting.n_clusters, setting.params.start
    if how == "kmeans":
        return Opening(start.start_centroids(sample, K, rng), None)
    means = level_means(sample, design.codes, setting.covariates)
    if how == "centred":
        return _moved(sample, design, means, K, rng)
    few = _some(len(sample), setting, rng)
    aligned = [
        _align(sample[few], design.take(few), setting, rng, hold, first) for first in (None, means)
    ]
    (plain, loose), (centred, tight) = aligned
    return _moved(sample, design, centred if tight < (1 - _CLEARLY) * loose else plain, K, rng)


def _moved(
    sample: np.ndarray, design: Design, shift: np.ndarray, K: int, rng: np.random.Generator
) -> Opening:
    return Opening(start.start_centroids(_less(sample, design, shift), K, rng), shift)


def _less(sample: np.ndarray, design: Design, shift: np.ndarray) -> np.ndarray:
    return sample - shift[design.codes].sum(axis=1)


def _looseness(moved: np.ndarray, Y: np.ndarray) -> float:
    """Sum of the squared distances of cells from the mean of their cluster."""
    nearest = (unit_rows(moved) @ Y.T).argmax(axis=1)
    size = np.bincount(nearest, minlength=len(Y))
    sums = _members(nearest, len(Y)) @ moved
    return float(np.square(moved).sum() - (np.square(sums).sum(axis=1) / np.maximum(size, 1)).sum())


def _members(codes: np.ndarray, n_codes: int) -> csr_array:
    """(n_codes, n) 1 where a cell has the code."""
    n = len(codes)
    return csr_array((np.ones(n), (codes, np.arange(n))), (n_codes, n))


def _some(n: int, setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Return the places of the cells that the small runs look at, of `n` sampled ones."""
    most = max(_CELLS_PER_CLUSTER * setting.n_clusters, _CELLS_PER_LEVEL * len(setting.level_size))
    size = min(n, max(_CELLS, min(setting.n_cells // 2, most)))
    return np.sort(rng.choice(n, size, replace=False, shuffle=False))


def level_means(sample: np.ndarray, codes: np.ndarray, covariates: Sequence[slice]) -> np.ndarray:
    """Return what each level adds to the mean of all cells, (B, d); additive over covariates.

    For several covariates least squares, by fitting one after the other to what the rest leave.
    """
    left = sample - sample.mean(axis=0, dtype=np.float64)
    shift = np.zeros((covariates[-1].stop, sample.shape[1]))
    for _ in range(_MEAN_ROUNDS if len(covariates) > 1 else 1):
        for column in codes.T:
            members = _members(column, len(shift))
            more = members @ left / np.maximum(members.sum(axis=1), 1)[:, None]
            shift += more
            left -= more[column]
    return shift


def _align(
    cells: np.ndarray,
    design: Design,
    setting: Setting,
    rng: np.random.Generator,
    hold: Callable[[np.ndarray, Design, Setting], Cells],
    first: np.ndarray | None,
) -> tuple[np.ndarray, float]:
    """Run Harmony with one shift per level, opened with the shift `first`.

    Return the shift (B, d), and how far from their centroids it leaves the cells.
    """
    K = min(setting.n_clusters, max(1, len(cells) // 30))
    params = replace(
        setting.params,
        flavor="pooled",
        n_clusters=K,
        sigma=float(setting.sigma.mean()),
        ridge_lambda=None,
        sync="exact",
        early_stop=True,
    )
    # A level that has no cells here moves nothing, but its share must not be 0.
    seen = replace(design, level_size=np.maximum(design.level_size, 1))
    aligning = replace(setting_for(params, seen), rules=_ALIGNMENT)
    held = hold(cells, design, aligning)
    if first is not None:
        held = Shifted(held, first, lambda W: None)
    opened = cells if first is None else _less(cells, design, first)
    outcome = loop.integrate(held, aligning, start.start_centroids(opened, K, rng))
    # The same in all clusters, but for those without cells, which correct nothing.
    shift = outcome.effects.W[outcome.O.sum(axis=1).argmax()]
    moved = _less(cells, design, shift)
    return shift, _looseness(moved, start.start_centroids(moved, K, rng))


class Shifted:
    """Cells whose first assignment sees them moved.

    Parameters
    ----------
    cells
        The backend that holds them.
    shift
        (B, d) taken off each level before the first assignment.
    before
        Called with W (K, B, d) before that is done, as before any correction.
    """

    def __init__(
        self, cells: Cells, shift: np.ndarray, before: Callable[[np.ndarray], None]
    ) -> None:
        self.n_blocks = cells.n_blocks
        self._cells, self._before = cells, before
        self._shift: np.ndarray | None = shift

    def run(self, task: Any, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block."""
        if block is not None:
            return self._cells.run(task, block)
        if self._shift is None or not isinstance(task, Assign):
            return self._cells.run(task)
        W = np.broadcast_to(self._shift, (len(task.Y), *self._shift.shape)).copy()
        self._shift = None
        self._cells.run(task)
        self._before(W)
        return self._cells.run(CorrectAndAssign(W, task.Y))

    def close(self) -> None:
        """Give back threads, files and memory."""
        self._cells.close()
