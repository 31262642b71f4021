"""What a metric gives when there is nothing to find, and its value on the scale between.

A mixing score is divided by its *ceiling*, what it gives when the batches are shuffled among the
same cells: unequal batches cannot reach 1. Where it has a *floor*, which batches wholly apart
still get, it is moved so that this becomes 0. BRAS, PCR comparison and kBET stay as they are; so
do NMI and ARI, whose null is about 0. Any other biology score is moved so that its *null*, what it
gives for shuffled labels, becomes 0: (x - null) / (1 - null). Shuffling depends on the order of
the cells, so that calibrated values are reproducible to their standard error, raw ones exactly.

`metrics.score` puts both into its table. For one metric, and arrays:

>>> import numpy as np
>>> cells = np.random.default_rng(0).normal(size=(200, 5))
>>> found = ilisi(cells, ["a", "b"] * 100)
>>> round(found.raw, 1), round(found.calibrated, 1)
(0.9, 1.0)
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import HarmonyWarning, NotApplicable
from harmonypy_lite.lookup import check_same_order
from harmonypy_lite.metrics.cilisi import NEEDED, cilisi_apart, cilisi_of_codes
from harmonypy_lite.metrics.connectivity import N_NEIGHBORS, Mode, largest_components
from harmonypy_lite.metrics.inputs import (
    Categories,
    as_categories,
    as_embedding,
    as_labelled,
    at_least_two,
    average_over,
    warn_left_out,
)
from harmonypy_lite.metrics.lisi import (
    Variant,
    clisi_of,
    ilisi_of,
    lisi_neighbors,
    lisi_of_codes,
)
from harmonypy_lite.metrics.neighbors import Neighbors, neighbors_of
from harmonypy_lite.metrics.sampling import looked_at
from harmonypy_lite.metrics.silhouette import (
    Estimate,
    distance_sums,
    silhouettes_from_sums,
)
from harmonypy_lite.metrics.structure import Structure

PERMUTATIONS = 10
NULL_CELLS = 2000  # cells whose silhouettes under shuffled labels are measured
_NOTHING = 1e-6  # less room than this is rounding, or a median that hardly ever leaves 1


class Calibrated(NamedTuple):
    """A score, raw and calibrated.

    Attributes
    ----------
    raw
        As the papers define it.
    calibrated
        On a scale from about 0 (nothing there) to about 1 (all there); NaN, with a warning, where
        the data hold nothing to compare with.
    standard_error
        Of the calibrated value, from shuffling or sampling; NaN where nothing was drawn.
    """

    raw: float
    calibrated: float
    standard_error: float = float("nan")


def by_ceiling(raw: float, ceiling: Estimate, floor: float = 0.0) -> Calibrated:
    """Return (raw - floor) / (ceiling - floor); NaN, with a warning, where there is no room."""
    room = ceiling.value - floor
    if room <= max(_NOTHING, 3 * ceiling.standard_error):
        warnings.warn(
            "not calibrated: shuffled batches score no better than batches apart, since nearly "
            "all cells are of one batch, or are too few.",
            HarmonyWarning,
            stacklevel=3,
        )
        return Calibrated(raw, float("nan"))
    value = (raw - floor) / room
    return Calibrated(raw, value, abs(value) * ceiling.standard_error / room)


def by_null(raw: Estimate, null: Estimate) -> Calibrated:
    """Return (raw - null) / (1 - null)."""
    if null.value >= 1:
        raise NotApplicable("shuffled labels score 1: there is nothing to tell apart.")
    room = 1 - null.value
    slope = (1 - raw.value) / room**2
    error = np.hypot(raw.standard_error / room, slope * null.standard_error)
    return Calibrated(raw.value, (raw.value - null.value) / room, float(error))


def ilisi(
    embedding_or_neighbors: ArrayLike | Neighbors,
    batch: Any,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    seed: int = 0,
    n_jobs: int | None = None,
) -> Calibrated:
    """Compute iLISI and its ratio to iLISI of batches shuffled over all cells.

    About 1 without a batch effect, 0 for batches apart, above 1 where batches are spread more
    evenly than shuffled ones. A random embedding gets 1. Parameters and errors are those of
    `metrics.ilisi`; `seed` is that of the shuffles.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> round(ilisi(cells, ["a", "b"] * 100).calibrated, 1)
    1.0
    """
    embedding_or_neighbors, batch = looked_at("iLISI", embedding_or_neighbors, batch=batch)
    neighbors = lisi_neighbors(embedding_or_neighbors, perplexity, variant, n_jobs)
    batches = as_categories(batch, neighbors.n_cells, "batch", embedding_or_neighbors)
    at_least_two(batches, "iLISI")
    values = lisi_of_codes(neighbors, _shuffles(batches, seed), perplexity, variant, n_jobs)
    raw, *shuffled = [ilisi_of(column, batches.n) for column in values.T]
    return by_ceiling(raw, _estimate(shuffled))


def clisi(
    embedding_or_neighbors: ArrayLike | Neighbors,
    label: Any,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    seed: int = 0,
    n_jobs: int | None = None,
) -> Calibrated:
    """Compute cLISI and its place between shuffled labels and 1.

    About 0 for a random embedding, 1 where cells see their own label only. Parameters and errors
    are those of `metrics.clisi`; `seed` is that of the shuffles.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> abs(clisi(cells, ["T"] * 150 + ["B"] * 50).calibrated) < 0.1
    True
    """
    embedding_or_neighbors, label = looked_at("cLISI", embedding_or_neighbors, label=label)
    neighbors = lisi_neighbors(embedding_or_neighbors, perplexity, variant, n_jobs)
    labels = as_categories(label, neighbors.n_cells, "label", embedding_or_neighbors)
    at_least_two(labels, "cLISI")
    values = lisi_of_codes(neighbors, _shuffles(labels, seed), perplexity, variant, n_jobs)
    raw, *shuffled = [clisi_of(column, labels.n) for column in values.T]
    return by_null(Estimate(raw, 0.0), _estimate(shuffled))


def cilisi(
    embedding: ArrayLike,
    batch: Any,
    label: Any,
    *,
    perplexity: int = 30,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Calibrated:
    """Compute CiLISI (mean of labels), and its place between batches apart and shuffled in labels.

    About 1 without a batch effect, 0 for batches apart, also in labels of fewer cells than a
    neighbourhood. Parameters, errors and warnings are those of `metrics.cilisi`; `seed` is that of
    the shuffles.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> round(cilisi(cells, ["a", "b"] * 100, ["T"] * 100 + ["B"] * 100).calibrated, 1)
    1.0
    """
    embedding, batch, label = looked_at("CiLISI", embedding, batch=batch, label=label)
    points, batches, labels = as_labelled(embedding, batch, label)
    codes = _shuffles(batches, seed, within=labels)
    values = cilisi_of_codes(points, codes, labels, perplexity, n_jobs)
    warn_left_out("CiLISI", labels, ~np.isnan(values[:, 0]), NEEDED)
    raw, *shuffled = [average_over(column, labels, "label") for column in values.T]
    floor = average_over(cilisi_apart(batches, labels, perplexity), labels, "label")
    return by_ceiling(raw, _estimate(shuffled), floor)


def silhouette_null(
    embedding: ArrayLike, label: Any, *, seed: int = 0, n_jobs: int | None = None
) -> Estimate:
    """Estimate the label silhouette, (s + 1) / 2, of shuffled labels from `NULL_CELLS` cells.

    About 0.5. Parameters are those of `metrics.silhouette_label`; `seed` is that of the shuffles.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> round(silhouette_null(cells, ["T"] * 100 + ["B"] * 100).value, 2)
    0.5
    """
    embedding, label = looked_at("label silhouette", embedding, label=label)
    points = as_embedding(embedding)
    labels = as_categories(label, len(points), "label", embedding)
    rng = np.random.default_rng(seed)
    size = min(NULL_CELLS, len(points))
    cells = np.sort(rng.choice(len(points), size, replace=False))
    shuffles = np.stack([labels.shuffled(rng) for _ in range(PERMUTATIONS)], axis=1)
    sums = distance_sums(points, cells, shuffles, labels.n, n_jobs)
    parts = zip(np.split(sums, PERMUTATIONS, axis=1), shuffles[cells].T, strict=True)
    values = [silhouettes_from_sums(part, codes, labels.sizes).mean() for part, codes in parts]
    return _estimate([float(value + 1) / 2 for value in values])


def graph_connectivity(
    embedding_or_neighbors: ArrayLike | Neighbors,
    batch: Any,
    label: Any,
    *,
    mode: Mode = "undirected",
    n_jobs: int | None = None,
) -> Calibrated:
    """Compute graph connectivity and its place between batches wholly apart and 1.

    With batches apart each label falls into its batches, the largest of which is the floor. Labels
    of one batch say nothing about mixing and are left out of both parts of the calibrated value.
    Parameters and errors are those of `metrics.graph_connectivity`, and the batch (N,).

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> graph_connectivity(cells, ["a", "b"] * 100, ["T"] * 100 + ["B"] * 100).calibrated > 0.9
    True
    """
    embedding_or_neighbors, batch, label = looked_at(
        "graph connectivity", embedding_or_neighbors, batch=batch, label=label
    )
    neighbors = neighbors_of(embedding_or_neighbors, N_NEIGHBORS, n_jobs)
    check_same_order(batch, label)
    batches = as_categories(batch, neighbors.n_cells, "batch", embedding_or_neighbors)
    labels = as_categories(label, neighbors.n_cells, "label", embedding_or_neighbors)
    largest = largest_components(neighbors, labels, mode) / labels.sizes
    pairs = labels.codes.astype(np.int64) * batches.n + batches.codes
    cells = np.bincount(pairs, minlength=labels.n * batches.n).reshape(labels.n, batches.n)
    shared = (cells > 0).sum(axis=1) > 1
    if not shared.any():
        warnings.warn(
            "not calibrated: no label is in two batches, connectivity says nothing about mixing.",
            HarmonyWarning,
            stacklevel=2,
        )
        return Calibrated(float(largest.mean()), float("nan"))
    warn_left_out("The calibrated value", labels, shared[labels.codes], "cells in two batches")
    floor = float((cells.max(axis=1) / labels.sizes)[shared].mean())
    calibrated = (largest[shared].mean() - floor) / (1 - floor)
    return Calibrated(float(largest.mean()), float(calibrated))


def structure_overlap(structure: Structure) -> Calibrated:
    """Return the neighbours kept and their place between chance, 0, and all, 1.

    Examples
    --------
    >>> import numpy as np
    >>> none = np.empty(0)
    >>> round(structure_overlap(Structure(0.6, 0.2, 0.5, none)).calibrated, 3)
    0.5
    """
    return by_null(Estimate(structure.overlap, 0.0), Estimate(structure.overlap_null, 0.0))


def _shuffles(column: Categories, seed: int, within: Categories | None = None) -> NDArray[np.int32]:
    """Return the column and `PERMUTATIONS` shuffles of it (N, 1 + PERMUTATIONS)."""
    rng = np.random.default_rng(seed)
    shuffled = [column.shuffled(rng, within) for _ in range(PERMUTATIONS)]
    return np.stack([column.codes, *shuffled], axis=1)


def _estimate(draws: list[float]) -> Estimate:
    return Estimate(float(np.mean(draws)), float(np.std(draws, ddof=1) / np.sqrt(len(draws))))
