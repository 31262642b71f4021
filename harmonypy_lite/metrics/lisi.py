"""LISI and its scores: how many batches, or labels, a cell effectively sees around itself.

Korsunsky et al. 2019 (doi 10.1038/s41592-019-0619-0) weigh the neighbours of a cell by
p_j ∝ exp(-beta d_j), with beta such that the entropy of p is the log of the perplexity, and take
LISI = 1 / sum_b (sum of p over level b)². The scaled scores are those of Luecken et al. 2022
(doi 10.1038/s41592-021-01336-8).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.kernels.lisi import inverse_simpson
from harmonypy_lite.metrics.inputs import as_categories, as_embedding, at_least_two, whole_number
from harmonypy_lite.metrics.neighbors import Neighbors, find_neighbors
from harmonypy_lite.metrics.sampling import looked_at
from harmonypy_lite.threads import map_threads

Variant = Literal["scib", "harmonypy"]

TOLERANCE: dict[str, float] = {"scib": 1e-9, "harmonypy": 1e-5}
"""Error of the entropy at which the search for beta stops. harmonypy's search starts from 1 in the
unit of the embedding and stops at 1e-5: its result, equalled to 1e-8, depends on that unit in the
sixth digit, and is lost where beta is not within 2**50 of 1. "scib" starts from the distances."""

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

    References
    ----------
    Korsunsky et al. 2019, doi 10.1038/s41592-019-0619-0.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> bool(lisi(cells, ["a", "b"] * 100).min() > 1)
    True
    """
    neighbors = lisi_neighbors(embedding_or_neighbors, perplexity, variant, n_jobs)
    table = getattr(labels, "columns", None) is not None or np.ndim(labels) == 2
    if table:
        by_name = hasattr(labels, "columns")
        names = labels.columns if by_name else range(np.asarray(labels).shape[1])
        columns = [labels[name] if by_name else np.asarray(labels)[:, name] for name in names]
    else:
        names, columns = ["labels"], [labels]
    codes = [
        as_categories(
            column, neighbors.n_cells, f"label column {name!r}", embedding_or_neighbors
        ).codes
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
    size cannot reach even when perfectly mixed (see `calibration.ilisi`); where most cells are
    of batches smaller than the perplexity, 0 cannot be reached. It sees local
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
    embedding_or_neighbors, batch = looked_at("iLISI", embedding_or_neighbors, batch=batch)
    neighbors = lisi_neighbors(embedding_or_neighbors, perplexity, variant, n_jobs)
    batches = as_categories(batch, neighbors.n_cells, "batch", embedding_or_neighbors)
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
    embedding_or_neighbors, label = looked_at("cLISI", embedding_or_neighbors, label=label)
    neighbors = lisi_neighbors(embedding_or_neighbors, perplexity, variant, n_jobs)
    labels = as_categories(label, neighbors.n_cells, "label", embedding_or_neighbors)
    at_least_two(labels, "cLISI")
    values = lisi_of_codes(neighbors, labels.codes[:, None], perplexity, variant, n_jobs)
    return clisi_of(values[:, 0], labels.n)


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
    return 3 * whole_number("perplexity", perplexity, 2) - (variant == "scib")


def check_perplexity(perplexity: int, variant: Variant, n_cells: int) -> None:
    """Raise InvalidInput when there are too few cells for the perplexity."""
    k = neighbors_needed(perplexity, variant)
    if k >= n_cells:
        largest = (n_cells - 1 + (variant == "scib")) // 3
        remedy = f"use a perplexity of at most {largest}" if largest > 1 else "there are too few"
        raise InvalidInput(
            f"LISI at perplexity {perplexity} looks at {k} other cells, and each of {n_cells} "
            f"cells has {n_cells - 1}: {remedy}."
        )


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
    first_beta = _usual_beta(neighbors) if variant == "scib" else 1.0
    values = np.empty(codes.shape)

    def rows(first: int) -> None:
        piece = slice(first, first + _ROWS)
        inverse_simpson(
            neighbors.indices[piece],
            neighbors.distances[piece],
            codes,
            n_levels,
            log_perplexity,
            first_beta,
            TOLERANCE[variant],
            values[piece],
        )

    map_threads(rows, range(0, len(values), _ROWS), n_jobs)
    return values


def _usual_beta(neighbors: Neighbors) -> float:
    """Return the inverse of the usual width of a row: near the solution, whatever the unit."""
    width = neighbors.distances[:, -1] - neighbors.distances[:, 0]
    width = width[width > 0]
    return 1.0 / float(np.median(width)) if len(width) else 1.0


def lisi_neighbors(
    embedding_or_neighbors: ArrayLike | Neighbors,
    perplexity: int,
    variant: Variant,
    n_jobs: int | None,
) -> Neighbors:
    """Return the neighbours that LISI looks at: of the table that is given, or searched now."""
    k = neighbors_needed(perplexity, variant)
    if isinstance(embedding_or_neighbors, Neighbors):
        return embedding_or_neighbors.others(k)
    points = as_embedding(embedding_or_neighbors)
    check_perplexity(perplexity, variant, len(points))
    return find_neighbors(points, k, n_jobs=n_jobs)
