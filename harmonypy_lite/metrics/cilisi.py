"""CiLISI: how well batches mix among the cells of each label.

Andreatta et al. 2024 (doi 10.1038/s41467-024-45240-z): LISI on neighbours of the cell's own label,
so that a label which only some batches have costs nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import NotApplicable
from harmonypy_lite.metrics.inputs import (
    Categories,
    as_categories,
    as_labelled,
    average_over,
    warn_left_out,
    whole_number,
)
from harmonypy_lite.metrics.lisi import lisi_of_codes
from harmonypy_lite.metrics.neighbors import find_neighbors
from harmonypy_lite.metrics.sampling import looked_at

SMALLEST_LABEL = 10  # cells below which a label is left out
NEEDED = f"{SMALLEST_LABEL} cells in two batches"


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
    It cannot see whether labels stay apart. Where a batch has fewer cells of a label than are
    looked at, its cells see others even when the batches are apart: the score does not reach 0
    then (`calibration.cilisi` does).

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

    Warns
    -----
    HarmonyWarning
        When some labels have not; they are left out.

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
    embedding, batch, label = looked_at("CiLISI", embedding, batch=batch, label=label)
    values = cilisi_per_cell(embedding, batch, label, perplexity=perplexity, n_jobs=n_jobs)
    labels = as_categories(label, len(values), "label")
    warn_left_out("CiLISI", labels, ~np.isnan(values), NEEDED)
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

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> cilisi_per_cell(cells, ["a", "b"] * 100, kind).shape
    (200,)
    """
    points, batches, labels = as_labelled(embedding, batch, label)
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
    perplexity = whole_number("perplexity", perplexity, 2)
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
        raise NotApplicable(f"CiLISI needs a label with {NEEDED}; {labels.what} has none.")
    return values


def cilisi_apart(batches: Categories, labels: Categories, perplexity: int) -> NDArray[np.float64]:
    """Return CiLISI per cell (N,) if all batches were far apart; NaN as in `cilisi_of_codes`.

    A cell sees its whole batch first. Where that is too small, the other batches of the label fill
    up the neighbourhood by their shares.
    """
    values = np.full(len(labels.codes), np.nan)
    for level in range(labels.n):
        cells = np.flatnonzero(labels.codes == level)
        inside = batches.only(cells)
        if len(cells) < SMALLEST_LABEL or inside.n < 2:
            continue
        k = min(perplexity, len(cells) - 1)
        own = np.minimum(inside.sizes - 1, k)
        others = np.sum(inside.sizes**2) - inside.sizes**2
        rest = (k - own) ** 2 * others / (len(cells) - inside.sizes) ** 2
        values[cells] = ((k**2 / (own**2 + rest) - 1) / (inside.n - 1))[inside.codes]
    return values
