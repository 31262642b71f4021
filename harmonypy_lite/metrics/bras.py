"""BRAS: the batch silhouette that sees nested batches, in linear time.

Rautenstrauch & Ohler 2025 (doi 10.1038/s41587-025-02743-4). Inside each label, a is a cell's mean
cosine distance to its own batch, b to all cells of all other batches. The sum of the cosine
distances of x to a group of n cells is n - x·S, S the sum of their unit rows, so that no pair of
cells is ever formed. All sums are float64: at large offsets float32 loses the answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import NotApplicable
from harmonypy_lite.kernels.groups import add_unit_rows, batch_silhouettes
from harmonypy_lite.lookup import check_same_order
from harmonypy_lite.metrics.inputs import (
    Categories,
    as_categories,
    average_over,
    warn_left_out,
)
from harmonypy_lite.metrics.rows import Rows, rows_of

NEEDED = "several cells in two batches"


def bras(embedding: ArrayLike, batch: Any, label: Any, *, n_jobs: int | None = None) -> float:
    """Score the mixing of batches inside labels: ``1 - |s|``, mean per label, then over labels.

    1: every batch lies where all others lie; 0: batches far apart. It is global inside a label
    where LISI is local; it cannot see whether labels stay apart, and a random embedding scores
    0.98. Cosine distance is measured from the origin: moving the embedding changes the score.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows; a Dask array is read partition by partition. A zero row has no direction;
        its distance to every other cell is 1.
    batch, label : (N,)
        Categories of the cells.
    n_jobs
        Threads; the result does not depend on them.

    Raises
    ------
    NotApplicable
        When no label has several cells in at least two batches.

    Warns
    -----
    HarmonyWarning
        When some labels have not; they are left out.

    References
    ----------
    Rautenstrauch & Ohler 2025, doi 10.1038/s41587-025-02743-4.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> round(bras(cells, donor, kind), 1)
    0.9
    """
    values = bras_per_cell(embedding, batch, label, n_jobs=n_jobs)
    labels = as_categories(label, len(values), "label")
    warn_left_out("BRAS", labels, ~np.isnan(values), NEEDED)
    return average_over(values, labels, "label")


def bras_per_cell(
    embedding: ArrayLike, batch: Any, label: Any, *, n_jobs: int | None = None
) -> NDArray[np.float64]:
    """Compute ``1 - |s|`` of every cell; NaN in labels of one batch, or of one cell per batch.

    Parameters and errors are those of `bras`.

    Returns
    -------
    (N,)
        0 to 1; NaN where there is nothing to compare.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> bras_per_cell(cells, ["a", "b"] * 100, ["T"] * 200).shape
    (200,)
    """
    points = rows_of(embedding)
    batches = as_categories(batch, len(points), "batch", embedding)
    check_same_order(batch, label)
    labels = as_categories(label, len(points), "label", embedding)
    groups = _group(batches, labels)
    sums = _sum_unit_rows(points, groups, n_jobs)
    others = np.zeros((labels.n, points.d))
    np.add.at(others, groups.label, sums)
    others = others[groups.label] - sums
    n_others = labels.sizes[groups.label] - groups.sizes
    sizes, n_others = groups.sizes, np.maximum(n_others, 1)

    def score(rows: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        out = np.empty(len(rows))
        batch_silhouettes(rows, codes, sums, sizes, others, n_others, out)
        return out

    values = np.concatenate(points.map(score, groups.codes, n_jobs=n_jobs))
    n_batches = np.bincount(groups.label, minlength=labels.n)
    skipped = (n_batches < 2) | (n_batches == labels.sizes)
    if skipped.all():
        raise NotApplicable(f"BRAS needs a label with {NEEDED}; {labels.what} has none.")
    values[skipped[labels.codes]] = np.nan
    return values


class _Groups(NamedTuple):
    """Cells of one label and one batch."""

    codes: NDArray[np.int64]  # (N,)
    sizes: NDArray[np.int64]  # (n_groups,)
    label: NDArray[np.int64]  # (n_groups,)


def _group(batches: Categories, labels: Categories) -> _Groups:
    pairs = labels.codes.astype(np.int64) * batches.n + batches.codes
    counts = np.bincount(pairs, minlength=labels.n * batches.n)
    used = np.flatnonzero(counts)
    rank = np.zeros(len(counts), np.int64)
    rank[used] = np.arange(len(used))
    return _Groups(rank[pairs], counts[used], used // batches.n)


def _sum_unit_rows(points: Rows, groups: _Groups, n_jobs: int | None) -> NDArray[np.float64]:
    """Return the sum of the unit rows of each group, pieces added in order."""
    shape = (len(groups.sizes), points.d)

    def add(rows: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        sums = np.zeros(shape)
        add_unit_rows(rows, codes, sums)
        return sums

    return np.sum(points.map(add, groups.codes, n_jobs=n_jobs), axis=0)
