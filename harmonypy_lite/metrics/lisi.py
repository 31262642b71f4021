"""LISI and its scores: how many batches, or labels, a cell effectively sees around itself.

Korsunsky et al. 2019 (doi 10.1038/s41592-019-0619-0) weigh the neighbours of a cell by
p_j ∝ exp(-beta d_j), with beta such that the entropy of p is the log of the perplexity, and take
LISI = 1 / sum_b (sum of p over level b)². The scaled scores are those of Luecken et al. 2022
(doi 10.1038/s41592-021-01336-8); CiLISI follows Andreatta et al. 2024
(doi 10.1038/s41467-024-45240-z).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput, NotApplicable
from harmonypy_lite.kernels.lisi import inverse_simpson
from harmonypy_lite.metrics.inputs import Categories, as_categories, as_embedding, at_least_two
from harmonypy_lite.metrics.neighbors import Neighbors, find_neighbors
from harmonypy_lite.threads import map_threads

Variant = Literal["scib", "harmonypy"]

TOLERANCE: dict[str, float] = {"scib": 1e-9, "harmonypy": 1e-5}
"""Error of the entropy at which the search for beta stops. At harmonypy's 1e-5 the result depends
on the unit of the embedding in the sixth digit; it equals harmonypy's to 1e-8."""

SMALLEST_LABEL = 10  # cells below which CiLISI leaves a label out
_ROWS = 4096


def lisi(
    embedding_or_neighbors: ArrayLike | Neighbors,
    labels: Any,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Compute the local inverse Simpson index of every cell.

    Parameters
    ----------
    embedding_or_neighbors : (N, d) or Neighbors
        Cells in rows, or their neighbours when they are known already.
    labels : (N,) or (N, n_columns)
        Categories of the cells; a data frame or two-dimensional array gives one result per
        column, for little more than the price of one.
    perplexity
        Effective number of neighbours.
    variant
        How many other cells are looked at. "scib" (default): ``3 * perplexity - 1``, as R lisi and
        scib-metrics. "harmonypy": ``3 * perplexity``, with its `TOLERANCE`, as harmonypy 2.1.
    n_jobs
        Threads; the result does not depend on them.

    Returns
    -------
    (N,) or (N, n_columns)
        Between 1 (all neighbours alike) and the number of categories.

    Raises
    ------
    InvalidInput
        Missing labels, NaN in the embedding, or too few cells or neighbours for the perplexity.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> bool(lisi(cells, ["a", "b"] * 100).min() > 1)
    True
    """
    neighbors = _neighbors_for(embedding_or_neighbors, perplexity, variant, n_jobs)
    table = getattr(labels, "columns", None) is not None or np.ndim(labels) == 2
    if table:
        by_name = hasattr(labels, "columns")
        names = labels.columns if by_name else range(np.asarray(labels).shape[1])
        columns = [labels[name] if by_name else np.asarray(labels)[:, name] for name in names]
    else:
        names, columns = ["labels"], [labels]
    codes = [
        as_categories(column, neighbors.n_cells, f"label column {name!r}").codes
        for name, column in zip(names, columns, strict=True)
    ]
    values = lisi_of_codes(neighbors, np.stack(codes, axis=1), perplexity, variant, n_jobs)
    return values if table else values[:, 0]


def ilisi(
    embedding_or_neighbors: ArrayLike | Neighbors,
    batch: Any,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    n_jobs: int | None = None,
) -> float:
    """Score the mixing of batches: (median LISI - 1) / (B - 1).

    0: cells see their own batch only; 1: all batches in equal parts, which batches of unequal
    size cannot reach even when perfectly mixed (see `calibration.ilisi`). It sees local
    mixing only: a random embedding scores almost as well as a perfect integration, and a batch
    with a cell type of its own pulls it down rightly or wrongly.

    Parameters
    ----------
    embedding_or_neighbors : (N, d) or Neighbors
        Cells in rows, or their neighbours.
    batch : (N,)
        Categories of the cells.
    perplexity, variant, n_jobs
        See `lisi`.

    Raises
    ------
    NotApplicable
        For a single batch.
    InvalidInput
        As `lisi`.

    References
    ----------
    Korsunsky et al. 2019, doi 10.1038/s41592-019-0619-0.
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> round(ilisi(cells, donor), 1)
    0.9
    """
    neighbors = _neighbors_for(embedding_or_neighbors, perplexity, variant, n_jobs)
    batches = as_categories(batch, neighbors.n_cells, "batch")
    at_least_two(batches, "iLISI")
    values = lisi_of_codes(neighbors, batches.codes[:, None], perplexity, variant, n_jobs)
    return ilisi_of(values[:, 0], batches.n)


def clisi(
    embedding_or_neighbors: ArrayLike | Neighbors,
    label: Any,
    *,
    perplexity: int = 30,
    variant: Variant = "scib",
    n_jobs: int | None = None,
) -> float:
    """Score the purity of labels: (C - median LISI) / (C - 1).

    1: cells see their own label only. The floor is not 0: shuffled labels score the more the less
    equal their sizes (0.27 for five types; see `calibration.clisi`). It saturates at 1
    for any embedding in which most types are apart, and does not see the loss of finer structure.

    Parameters
    ----------
    embedding_or_neighbors : (N, d) or Neighbors
        Cells in rows, or their neighbours.
    label : (N,)
        Categories of the cells.
    perplexity, variant, n_jobs
        See `lisi`.

    Raises
    ------
    NotApplicable
        For a single label.
    InvalidInput
        As `lisi`.

    References
    ----------
    Korsunsky et al. 2019, doi 10.1038/s41592-019-0619-0.
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> round(clisi(cells, kind), 1)
    0.1
    """
    neighbors = _neighbors_for(embedding_or_neighbors, perplexity, variant, n_jobs)
    labels = as_categories(label, neighbors.n_cells, "label")
    at_least_two(labels, "cLISI")
    values = lisi_of_codes(neighbors, labels.codes[:, None], perplexity, variant, n_jobs)
    return clisi_of(values[:, 0], labels.n)


def cilisi(
    embedding: ArrayLike,
    batch: Any,
    label: Any,
    *,
    perplexity: int = 30,
    average: Literal["label", "cell"] = "label",
    n_jobs: int | None = None,
) -> float:
    """Score the mixing of batches among cells of the same label.

    As iLISI, but a label that only some batches have costs nothing. 0: no mixing; 1: equal parts.
    It cannot see whether labels stay apart.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    batch, label : (N,)
        Categories of the cells.
    perplexity
        Neighbours looked at, all with the same weight; fewer in labels of fewer cells.
    average
        "label": mean of the labels' means, so that rare types count; "cell": mean over cells.
    n_jobs
        Threads.

    Raises
    ------
    NotApplicable
        When no label has `SMALLEST_LABEL` cells and two batches.

    References
    ----------
    Andreatta et al. 2024, doi 10.1038/s41467-024-45240-z.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> round(cilisi(cells, donor, kind), 1)
    1.0
    """
    values = cilisi_per_cell(embedding, batch, label, perplexity=perplexity, n_jobs=n_jobs)
    labels = as_categories(label, len(values), "label")
    return average_over(values, labels, average)


def cilisi_per_cell(
    embedding: ArrayLike,
    batch: Any,
    label: Any,
    *,
    perplexity: int = 30,
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Compute (LISI - 1) / (B_label - 1) inside the label of each cell.

    Parameters and errors are those of `cilisi`.

    Returns
    -------
    (N,)
        NaN for cells of labels that are too small or have one batch only.
    """
    points = as_embedding(embedding)
    batches = as_categories(batch, len(points), "batch")
    labels = as_categories(label, len(points), "label")
    return cilisi_of_codes(points, batches.codes[:, None], labels, perplexity, n_jobs)[:, 0]


def cilisi_of_codes(
    points: NDArray[np.floating],
    codes: NDArray[np.int32],
    labels: Categories,
    perplexity: int,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Return CiLISI per cell for several columns of batch codes (N, columns).

    The columns may differ by a permutation within labels only.
    """
    values = np.full(codes.shape, np.nan)
    for level in range(labels.n):
        cells = np.flatnonzero(labels.codes == level)
        n_batches = len(np.unique(codes[cells, 0]))
        if len(cells) < SMALLEST_LABEL or n_batches < 2:
            continue
        k = min(perplexity, len(cells) - 1)
        inside = find_neighbors(points[cells], k, n_jobs=n_jobs)
        seen = lisi_of_codes(inside, codes[cells], k, "scib", n_jobs)
        values[cells] = (seen - 1) / (n_batches - 1)
    if np.isnan(values).all():
        raise NotApplicable(
            f"CiLISI needs a label with at least {SMALLEST_LABEL} cells in two batches; "
            f"{labels.what} has none."
        )
    return values


def average_over(
    values: NDArray[np.float64], labels: Categories, average: Literal["label", "cell"]
) -> float:
    """Return the mean of `values` over cells, or of the labels' means; NaN cells left out."""
    known = ~np.isnan(values)
    if average == "cell":
        return float(values[known].mean())
    if average != "label":
        raise InvalidInput(f"average must be 'label' or 'cell'; got {average!r}.")
    cells = np.bincount(labels.codes[known], minlength=labels.n)
    sums = np.bincount(labels.codes[known], values[known], minlength=labels.n)
    return float((sums[cells > 0] / cells[cells > 0]).mean())


def ilisi_of(values: NDArray[np.float64], n_batches: int) -> float:
    """Scale LISI values of the batches: (median - 1) / (B - 1)."""
    return float((np.median(values) - 1) / (n_batches - 1))


def clisi_of(values: NDArray[np.float64], n_labels: int) -> float:
    """Scale LISI values of the labels: (C - median) / (C - 1)."""
    return float((n_labels - np.median(values)) / (n_labels - 1))


def neighbors_needed(perplexity: int, variant: Variant) -> int:
    """Return the number of other cells that LISI looks at."""
    if variant not in ("scib", "harmonypy"):
        raise InvalidInput(f"variant must be 'scib' or 'harmonypy'; got {variant!r}.")
    if perplexity < 2:
        raise InvalidInput(f"perplexity must be at least 2; got {perplexity}.")
    return 3 * perplexity - (variant == "scib")


def lisi_of_codes(
    neighbors: Neighbors,
    codes: NDArray[np.int32],
    perplexity: int,
    variant: Variant,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Return LISI (N, columns) of several columns of codes (N, columns) in one pass."""
    codes = np.ascontiguousarray(codes)
    n_levels, log_perplexity = int(codes.max()) + 1, float(np.log(perplexity))
    values = np.empty(codes.shape)

    def rows(first: int) -> None:
        piece = slice(first, first + _ROWS)
        inverse_simpson(
            neighbors.indices[piece],
            neighbors.distances[piece],
            codes,
            n_levels,
            log_perplexity,
            TOLERANCE[variant],
            values[piece],
        )

    map_threads(rows, range(0, len(values), _ROWS), n_jobs)
    return values


def _neighbors_for(
    embedding_or_neighbors: ArrayLike | Neighbors,
    perplexity: int,
    variant: Variant,
    n_jobs: int | None,
) -> Neighbors:
    k = neighbors_needed(perplexity, variant)
    if isinstance(embedding_or_neighbors, Neighbors):
        return embedding_or_neighbors.others(k)
    points = as_embedding(embedding_or_neighbors)
    if k >= len(points):
        raise InvalidInput(
            f"LISI at perplexity {perplexity} looks at {k} other cells; there are "
            f"{len(points) - 1}. Use a perplexity of at most {max(2, len(points) // 3)}."
        )
    return find_neighbors(points, k, n_jobs=n_jobs)
