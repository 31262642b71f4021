"""How a run opens: the first centroids, and whether the first clustering sees the cells moved.

Where effects are strong, k-means on the cells as they are finds clusters of one batch each. The
penalty has nothing to pull on then, and the batches stay apart. So the first clustering may see z
minus a shift per level; all that it decides is where the clusters are, for every regression starts
from z. Three ways:

- `kmeans`: no shift. What Harmony does.
- `centred`: the shift is the mean of the level. It brings together batches that are far apart, and
  pulls the types of batches that differ in composition onto each other.
- `auto`: one of two shifts. The careful one is that of a first, small run on some of the cells,
  with effects that all clusters have in common (`Pooling` without its smooth part). Clusters that
  hold several batches tell it, a type that one batch alone has says nothing of it, so that
  composition hardly enters; but where every cluster has one batch, it finds nothing. The bold one
  is that of `centred`. Unless the careful run has mixed its cells already, both are tried on the
  same cells with the whole pooled model, and the bold one is taken if it mixes clearly more for
  what it loses of neighbours inside batches (`trade`).
  On the sets that this was designed on, `centred` gained on `kmeans` at least 12 times as much as
  it lost where strong effects kept batches apart, and at most 3 times where composition differs.

Only cells of the start's sample are read, so that any backend can open in all three ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from harmonypy_lite.design import Design
from harmonypy_lite.method import loop, start
from harmonypy_lite.method.passes import Assign, Cells, CorrectAndAssign
from harmonypy_lite.method.pooled import Pooling
from harmonypy_lite.method.rules import RULES, Rules, Setting, setting_for
from harmonypy_lite.method.trade import Trade, mixing, trade

#: Cells of the small runs: so many, and some for each level.
_CELLS, _CELLS_PER_LEVEL = 2000, 8
#: The shifts are tried on cells of so many levels, the largest.
_LEVELS_TRIED = 40
#: They have fewer blocks and iterations: where they go is clear early.
_BLOCKS, _ITERATIONS = 0.2, 5
#: Mixing that leaves nothing to be gained.
_MIXED = 0.95
#: The bold shift must mix so much more than the careful one, for each neighbour that it loses
#: more; losses below the last number are noise.
_RATE, _NOISE = 7.0, 0.005

#: Rounds in which the means of several covariates' levels are adjusted to each other.
_MEAN_ROUNDS = 20

#: Harmony with one shift per level.
_ALIGNMENT = replace(RULES["pooled"], prior=lambda levels: Pooling(levels, smooth=False))


class Held(Cells, Protocol):
    """A backend that can give back its cells."""

    def result(self) -> np.ndarray:
        """Return the (n, d) corrected cells."""


Hold = Callable[[np.ndarray, Design, Setting], Held]


class Opening(NamedTuple):
    """Where a run starts."""

    Y: np.ndarray  # (K, d) unit centroids
    shift: np.ndarray | None  # (B, d) what the first clustering sees taken off each level


def open_run(
    sample: np.ndarray,
    design: Design,
    setting: Setting,
    rng: np.random.Generator,
    hold: Hold,
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
        return Opening(start.start_centroids(sample, K, rng, setting.params.n_jobs), None)
    means = level_means(sample, design.codes, setting.covariates)
    if how == "centred":
        return _moved(sample, design, means, K, rng, setting.params.n_jobs)
    few = _some(len(sample), setting, rng)
    shift, mixed = _careful(sample[few], design.take(few), setting, rng, hold)
    if mixed < _MIXED and _bold_is_better(sample, design, setting, rng, hold, shift, means):
        shift = means
    return _moved(sample, design, shift, K, rng, setting.params.n_jobs)


def _bold_is_better(
    sample: np.ndarray,
    design: Design,
    setting: Setting,
    rng: np.random.Generator,
    hold: Hold,
    careful: np.ndarray,
    bold: np.ndarray,
) -> bool:
    few = _of_large_levels(design, setting, rng)
    cells, seen = sample[few], design.take(few)
    first = _tried(cells, seen, setting, rng, hold, careful)
    if first.mixed >= _MIXED:
        return False
    second = _tried(cells, seen, setting, rng, hold, bold)
    return second.mixed - first.mixed > _RATE * max(first.kept - second.kept, _NOISE)


def _moved(
    sample: np.ndarray,
    design: Design,
    shift: np.ndarray,
    K: int,
    rng: np.random.Generator,
    n_jobs: int | None,
) -> Opening:
    return Opening(start.start_centroids(_less(sample, design, shift), K, rng, n_jobs), shift)


def _less(sample: np.ndarray, design: Design, shift: np.ndarray) -> np.ndarray:
    return sample - shift[design.codes].sum(axis=1)


def _members(codes: np.ndarray, n_codes: int) -> csr_array:
    """(n_codes, n) 1 where a cell has the code."""
    n = len(codes)
    return csr_array((np.ones(n), (codes, np.arange(n))), (n_codes, n))


def _some(n: int, setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Return the places of the cells that the small runs look at, of `n` sampled ones."""
    size = min(n, max(_CELLS, _CELLS_PER_LEVEL * len(setting.level_size)))
    return np.sort(rng.choice(n, size, replace=False, shuffle=False))


def _of_large_levels(design: Design, setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Return the places of the cells that the shifts are tried on."""
    widest = max(setting.covariates, key=lambda c: c.stop - c.start)
    codes = design.codes[:, setting.covariates.index(widest)]
    size = np.bincount(codes, minlength=widest.stop)
    largest = np.argsort(-size, kind="stable")[:_LEVELS_TRIED]
    of_them = np.flatnonzero(np.isin(codes, largest))
    return np.sort(rng.choice(of_them, min(len(of_them), _CELLS), replace=False, shuffle=False))


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


def _careful(
    cells: np.ndarray, design: Design, setting: Setting, rng: np.random.Generator, hold: Hold
) -> tuple[np.ndarray, float]:
    """Run Harmony with one shift per level from the cells as they are; return it and the mixing."""
    aligning = _small(setting, design, _ALIGNMENT)
    Y = start.start_centroids(cells, aligning.n_clusters, rng, setting.params.n_jobs)
    held = hold(cells, design, aligning)
    outcome = loop.integrate(held, aligning, Y)
    # The same in all clusters, but for those without cells, which correct nothing.
    shift = outcome.effects.W[outcome.O.sum(axis=1).argmax()]
    return shift, mixing(held.result(), design.codes, rng)


def _tried(
    cells: np.ndarray,
    design: Design,
    setting: Setting,
    rng: np.random.Generator,
    hold: Hold,
    shift: np.ndarray,
) -> Trade:
    """Integrate some cells with pooled effects, opened with a shift; return what they trade."""
    trying = _small(setting, design, RULES["pooled"])
    opened = _moved(cells, design, shift, trying.n_clusters, rng, setting.params.n_jobs)
    held = hold(cells, design, trying)
    loop.integrate(Shifted(held, shift, lambda W: None), trying, opened.Y)
    return trade(cells, held.result(), design.codes, rng)


def _small(setting: Setting, design: Design, rules: Rules) -> Setting:
    """Return the setting of a small run on the cells of `design`."""
    params = replace(
        setting.params,
        flavor="pooled",
        n_clusters=min(setting.n_clusters, max(1, design.n_cells // 30)),
        sigma=float(setting.sigma.mean()),
        ridge_lambda=None,
        sync="exact",
        early_stop=True,
        max_iter_harmony=min(setting.params.max_iter_harmony, _ITERATIONS),
        block_proportion=max(setting.params.block_proportion, _BLOCKS),
    )
    # A level that has no cells here moves nothing, but its share must not be 0.
    seen = replace(design, level_size=np.maximum(design.level_size, 1))
    return replace(setting_for(params, seen), rules=rules)


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
