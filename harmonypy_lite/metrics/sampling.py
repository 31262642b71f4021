"""Cells to look at where there are too many, or where they are in no memory: a stratified sample.

Metrics that are sums over cells (BRAS, PCR) stream over a Dask array. The others need neighbours,
distances or clusters; of a Dask array they look at `SAMPLE` cells, and say so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import warn
from harmonypy_lite.lookup import check_same_order
from harmonypy_lite.metrics.inputs import Categories, as_categories, as_embedding
from harmonypy_lite.metrics.rows import rows_of

SAMPLE = 50_000
"""Cells of a Dask array that metrics look at which are no sums over cells."""


def stratified(strata: list[NDArray[Any]], n: int, seed: int) -> NDArray[np.int64]:
    """Return `n` cells, ascending, that hold each combination of the columns in its share.

    Cells are put in order by combination, at random inside each, and every (N / n)-th is taken
    from a random start: a combination of m cells gets m n / N of the places, rounded up or down.

    Parameters
    ----------
    strata : list of (N,)
        Columns of codes.
    n
        Cells to take, at most N.
    seed
        Of the draw.

    Examples
    --------
    >>> batch = np.repeat([0, 1], [900, 100])
    >>> np.bincount(batch[stratified([batch], 50, seed=0)]).tolist()
    [45, 5]
    """
    n_cells = len(strata[0])
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(n_cells), *strata))
    places = (np.arange(n) + rng.random()) * (n_cells / n)
    return np.sort(order[np.minimum(places.astype(np.int64), n_cells - 1)])


def take(embedding: Any, cells: NDArray[np.int64], what: str = "embedding") -> NDArray[np.floating]:
    """Return some cells (n, d), ascending, of an array, or of a Dask array part by part."""
    if not is_dask(embedding):
        return as_embedding(embedding, what)[cells]
    rows = rows_of(embedding, what)
    wanted = np.zeros(len(rows), np.bool_)
    wanted[cells] = True
    return np.concatenate(rows.map(lambda part, mine: part[mine], wanted))


def looked_at(metric: str, embedding: Any, **columns: Any) -> tuple[Any, ...]:
    """Return the embedding and its columns, of a Dask array those of the sampled cells.

    Parameters
    ----------
    metric
        How the warning calls it.
    embedding : (N, d)
        Anything; what is no Dask array comes back as it is, with the columns as they are.
    **columns : (N,)
        Categories of the cells, by the names that messages use.

    Warns
    -----
    HarmonyWarning
        When cells were left out: how many were looked at.
    """
    if not is_dask(embedding):
        return (embedding, *columns.values())
    cells, sampled = sample_of(metric, embedding, **columns)
    return (take(embedding, cells), *sampled)


def sample_of(
    metric: str, embedding: Any, **columns: Any
) -> tuple[NDArray[np.int64], list[Categories]]:
    """Return the sampled cells of a Dask array and their columns; see `looked_at`."""
    n_cells = len(rows_of(embedding))
    given = list(columns.values())
    for column in given[1:]:
        check_same_order(given[0], column)
    whole = [as_categories(column, n_cells, name) for name, column in columns.items()]
    n = min(SAMPLE, n_cells)
    cells = stratified([column.codes for column in whole], n, seed=0)
    if n < n_cells:
        warn(
            f"{metric} of a Dask array looks at a sample: {n:,} of {n_cells:,} cells, stratified "
            f"by {' and '.join(columns)}."
        )
    return cells, [column.only(cells) for column in whole]
