"""What a metric gives when there is nothing to find, and its value on the scale between.

A mixing score is divided by its *ceiling*, what it gives when the batches are shuffled among the
same cells: unequal batches cannot reach 1. A biology score is moved so that its *null*, what it
gives for shuffled labels, becomes 0: (x - null) / (1 - null). Shuffling depends on the order of
the cells, so that calibrated values are reproducible to their standard error, raw ones exactly.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.errors import HarmonyWarning, NotApplicable
from harmonypy_lite.metrics.connectivity import Mode, largest_components
from harmonypy_lite.metrics.inputs import Categories, at_least_two
from harmonypy_lite.metrics.lisi import (
    Variant,
    average_over,
    cilisi_of_codes,
    clisi_of,
    ilisi_of,
    lisi_of_codes,
)
from harmonypy_lite.metrics.neighbors import Neighbors
from harmonypy_lite.metrics.silhouette import (
    Estimate,
    distance_sums,
    silhouettes_from_sums,
)
from harmonypy_lite.metrics.structure import Structure

PERMUTATIONS = 10
NULL_CELLS = 2000  # cells whose silhouettes under shuffled labels are measured


class Calibrated(NamedTuple):
    """A score, raw and calibrated.

    Attributes
    ----------
    raw
        As the papers define it.
    calibrated
        On a scale from about 0 (nothing there) to about 1 (all there).
    standard_error
        Of the calibrated value, from shuffling or sampling; NaN where nothing was drawn.
    """

    raw: float
    calibrated: float
    standard_error: float = float("nan")


def by_ceiling(raw: float, ceiling: Estimate) -> Calibrated:
    """Return raw / ceiling."""
    if ceiling.value <= 0:
        raise NotApplicable("shuffled batches score 0: there is no ceiling to compare with.")
    value = raw / ceiling.value
    return Calibrated(raw, value, abs(value) * ceiling.standard_error / ceiling.value)


def by_null(raw: Estimate, null: Estimate) -> Calibrated:
    """Return (raw - null) / (1 - null)."""
    if null.value >= 1:
        raise NotApplicable("shuffled labels score 1: there is nothing to tell apart.")
    room = 1 - null.value
    slope = (1 - raw.value) / room**2
    error = np.hypot(raw.standard_error / room, slope * null.standard_error)
    return Calibrated(raw.value, (raw.value - null.value) / room, float(error))


def ilisi(
    neighbors: Neighbors,
    batches: Categories,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    seed: int = 0,
    n_jobs: int | None = None,
) -> Calibrated:
    """Return iLISI and its ratio to iLISI of batches shuffled over all cells."""
    at_least_two(batches, "iLISI")
    codes = _shuffles(batches, seed)
    values = lisi_of_codes(neighbors, codes, perplexity, variant, n_jobs)
    raw, *shuffled = [ilisi_of(column, batches.n) for column in values.T]
    return by_ceiling(raw, _estimate(shuffled))


def clisi(
    neighbors: Neighbors,
    labels: Categories,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    seed: int = 0,
    n_jobs: int | None = None,
) -> Calibrated:
    """Return cLISI and its place between shuffled labels and 1."""
    at_least_two(labels, "cLISI")
    values = lisi_of_codes(neighbors, _shuffles(labels, seed), perplexity, variant, n_jobs)
    raw, *shuffled = [clisi_of(column, labels.n) for column in values.T]
    return by_null(Estimate(raw, 0.0), _estimate(shuffled))


def cilisi(
    points: NDArray[np.floating],
    batches: Categories,
    labels: Categories,
    *,
    perplexity: int = 30,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Calibrated:
    """Return CiLISI (mean of labels) and its ratio to batches shuffled inside labels."""
    codes = _shuffles(batches, seed, within=labels)
    values = cilisi_of_codes(points, codes, labels, perplexity, n_jobs)
    raw, *shuffled = [average_over(column, labels, "label") for column in values.T]
    return by_ceiling(raw, _estimate(shuffled))


def silhouette_null(
    points: NDArray[np.floating], labels: Categories, *, seed: int = 0, n_jobs: int | None = None
) -> Estimate:
    """Return the label silhouette, (s + 1) / 2, of shuffled labels, from `NULL_CELLS` cells."""
    rng = np.random.default_rng(seed)
    size = min(NULL_CELLS, len(points))
    cells = np.sort(rng.choice(len(points), size, replace=False))
    shuffles = np.stack([labels.shuffled(rng) for _ in range(PERMUTATIONS)], axis=1)
    sums = distance_sums(points, cells, shuffles, labels.n, n_jobs)
    parts = zip(np.split(sums, PERMUTATIONS, axis=1), shuffles[cells].T, strict=True)
    values = [silhouettes_from_sums(part, codes, labels.sizes).mean() for part, codes in parts]
    return _estimate([float(value + 1) / 2 for value in values])


def graph_connectivity(
    neighbors: Neighbors, batches: Categories, labels: Categories, mode: Mode = "undirected"
) -> Calibrated:
    """Return graph connectivity and its place between batches wholly apart and 1.

    With batches apart each label falls into its batches, the largest of which is the floor. Labels
    of one batch say nothing about mixing and are left out of both parts of the calibrated value.
    """
    largest = largest_components(neighbors, labels, mode) / labels.sizes
    pairs = labels.codes.astype(np.int64) * batches.n + batches.codes
    cells = np.bincount(pairs, minlength=labels.n * batches.n).reshape(labels.n, batches.n)
    shared = (cells > 0).sum(axis=1) > 1
    if not shared.any():
        warnings.warn(
            "no label is in two batches: connectivity says nothing about mixing.",
            HarmonyWarning,
            stacklevel=2,
        )
        return Calibrated(float(largest.mean()), float("nan"))
    floor = float((cells.max(axis=1) / labels.sizes)[shared].mean())
    calibrated = (largest[shared].mean() - floor) / (1 - floor)
    return Calibrated(float(largest.mean()), float(calibrated))


def structure_overlap(structure: Structure) -> Calibrated:
    """Return the neighbours kept and their place between chance and all."""
    return by_null(Estimate(structure.overlap, 0.0), Estimate(structure.overlap_null, 0.0))


def _shuffles(column: Categories, seed: int, within: Categories | None = None) -> NDArray[np.int32]:
    """Return the column and `PERMUTATIONS` shuffles of it (N, 1 + PERMUTATIONS)."""
    rng = np.random.default_rng(seed)
    shuffled = [column.shuffled(rng, within) for _ in range(PERMUTATIONS)]
    return np.stack([column.codes, *shuffled], axis=1)


def _estimate(draws: list[float]) -> Estimate:
    return Estimate(float(np.mean(draws)), float(np.std(draws, ddof=1) / np.sqrt(len(draws))))
