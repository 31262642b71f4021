"""kBET: whether the batches around a cell look like a draw from all cells.

Büttner et al. 2019 (doi 10.1038/s41592-018-0254-1): Pearson's chi-square of the batch counts
among the neighbours against the batch shares of all cells; the score is the share of cells where
the test accepts. The rule per label is that of Luecken et al. 2022
(doi 10.1038/s41592-021-01336-8).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput, NotApplicable
from harmonypy_lite.kernels.kbet import batch_chi_square
from harmonypy_lite.metrics.connectivity import components_within
from harmonypy_lite.metrics.inputs import (
    Categories,
    as_categories,
    as_labelled,
    at_least_two,
    warn_left_out,
)
from harmonypy_lite.metrics.neighbors import (
    Neighbors,
    check_same_cells,
    find_neighbors,
    neighbors_of,
)
from harmonypy_lite.metrics.sampling import looked_at
from harmonypy_lite.threads import map_threads

SMALLEST_LABEL = 10
NEEDED = f"{SMALLEST_LABEL} cells in two batches"
_ROWS = 16_384


class KbetTest(NamedTuple):
    """The test of every cell.

    Attributes
    ----------
    acceptance
        Share of cells with p_value >= alpha.
    statistic, p_value : (N,)
        Pearson's chi-square and its upper tail with B - 1 degrees of freedom.
    """

    acceptance: float
    statistic: NDArray[np.float64]
    p_value: NDArray[np.float64]


def kbet(
    embedding_or_neighbors: ArrayLike | Neighbors,
    batch: Any,
    *,
    n_neighbors: int = 49,
    alpha: float = 0.05,
    n_jobs: int | None = None,
) -> float:
    """Score the mixing of batches: the share of cells whose neighbourhood passes the test.

    About 1 - alpha when batches are mixed perfectly (more with few neighbours), 0 when the test
    always rejects. Its power grows with the number of neighbours and it reacts to differences in
    composition: never compare it between data sets or numbers of cells. A random embedding passes.

    Parameters
    ----------
    embedding_or_neighbors : (N, d) or Neighbors
        Cells in rows, or their neighbours.
    batch : (N,)
        Categories of the cells.
    n_neighbors
        Other cells per cell. scib-metrics' Benchmarker tests 50 with the cell itself among them,
        which always speaks for its own batch: scores differ by 0.02 or so.
    alpha
        Level of the test.
    n_jobs
        Threads.

    Raises
    ------
    NotApplicable
        For a single batch.

    References
    ----------
    Büttner et al. 2019, doi 10.1038/s41592-018-0254-1.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> kbet(cells, donor) > 0.9
    True
    """
    embedding_or_neighbors, batch = looked_at("kBET", embedding_or_neighbors, batch=batch)
    return kbet_test(
        embedding_or_neighbors, batch, n_neighbors=n_neighbors, alpha=alpha, n_jobs=n_jobs
    ).acceptance


def kbet_test(
    embedding_or_neighbors: ArrayLike | Neighbors,
    batch: Any,
    *,
    n_neighbors: int = 49,
    alpha: float = 0.05,
    n_jobs: int | None = None,
) -> KbetTest:
    """Compute the test of every cell; parameters and errors are those of `kbet`.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kbet_test(cells, ["a", "b"] * 100).p_value.shape
    (200,)
    """
    neighbors = neighbors_of(embedding_or_neighbors, n_neighbors, n_jobs)
    batches = as_categories(batch, neighbors.n_cells, "batch", embedding_or_neighbors)
    at_least_two(batches, "kBET")
    return _test(neighbors, batches, alpha, n_jobs)


def kbet_per_label(
    embedding: ArrayLike,
    batch: Any,
    label: Any,
    *,
    neighbors: Neighbors | None = None,
    alpha: float = 0.05,
    n_jobs: int | None = None,
) -> float:
    """Score kBET inside each label and average: the mean of `kbet_of_labels` where defined.

    What is said of `kbet` holds here too.

    Parameters
    ----------
    embedding, batch, label, neighbors, alpha, n_jobs
        See `kbet_of_labels`.

    Raises
    ------
    NotApplicable
        When no label has 10 cells in two batches.

    Warns
    -----
    HarmonyWarning
        When some labels have not; they are left out.

    References
    ----------
    Büttner et al. 2019, doi 10.1038/s41592-018-0254-1.
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> kbet_per_label(cells, donor, kind) > 0.9
    True
    """
    embedding, batch, label = looked_at("kBET per label", embedding, batch=batch, label=label)
    points, batches, labels = as_labelled(embedding, batch, label)
    values = kbet_of_labels(
        points, batches, labels, neighbors=neighbors, alpha=alpha, n_jobs=n_jobs
    )
    if np.isnan(values).all():
        raise NotApplicable(f"kBET per label needs a label with {NEEDED}; {labels.what} has none.")
    warn_left_out("kBET", labels, ~np.isnan(values[labels.codes]), NEEDED)
    return float(np.nanmean(values))


def kbet_of_labels(
    embedding: ArrayLike,
    batch: Any,
    label: Any,
    *,
    neighbors: Neighbors | None = None,
    alpha: float = 0.05,
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Compute kBET of each label among its own cells, with scIB's rules.

    A label of fewer than 10 cells, or of one batch, is NaN. The neighbourhood is a quarter of the
    label's mean batch size, at least 10 and at most 70 cells. A label in several components of
    the neighbour graph is tested on those of at least three neighbourhoods if they hold 75 % of
    its cells, and scores 0 otherwise. Neighbours are the nearest in the embedding, where
    scib-metrics goes through a diffusion map of the graph.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    batch, label : (N,)
        Categories of the cells.
    neighbors
        The graph of the component rule; 49 other cells are searched when it is not given.
    alpha
        Level of the test.
    n_jobs
        Threads.

    Returns
    -------
    (n_labels,)
        In the order of the sorted labels.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 95 + ["rare"] * 5
    >>> np.isnan(kbet_of_labels(cells, ["a", "b"] * 100, kind)).tolist()
    [False, False, True]
    """
    points, batches, labels = as_labelled(embedding, batch, label)
    at_least_two(batches, "kBET")
    if neighbors is None:
        neighbors = find_neighbors(points, min(49, len(points) - 1), n_jobs=n_jobs)
    check_same_cells(neighbors, len(points))
    component = components_within(neighbors.others(), labels)
    values = np.full(labels.n, np.nan)
    for level in range(labels.n):
        cells = np.flatnonzero(labels.codes == level)
        inside = batches.only(cells)
        if len(cells) < SMALLEST_LABEL or inside.n < 2:
            continue
        k = min(int(np.clip(len(cells) // inside.n // 4, 10, 70)), len(cells) - 1)
        kept = _large_components(component[cells], 3 * k)
        values[level] = 0.0
        if kept.mean() >= 0.75:
            usable = batches.only(cells[kept])
            if usable.n > 1:
                near = find_neighbors(points[cells[kept]], k, n_jobs=n_jobs)
                values[level] = _test(near, usable, alpha, n_jobs).acceptance
    return values


def _large_components(component: NDArray[np.int32], smallest: int) -> NDArray[np.bool_]:
    """Return which cells are usable: all of a single component, else those of large ones."""
    _, number, sizes = np.unique(component, return_inverse=True, return_counts=True)
    large: NDArray[np.bool_] = (sizes >= smallest)[number]
    return large if len(sizes) > 1 else np.ones_like(large)


def _test(neighbors: Neighbors, batches: Categories, alpha: float, n_jobs: int | None) -> KbetTest:
    from scipy.special import chdtrc

    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha must be between 0 and 1; got {alpha!r}.")
    shares = batches.sizes / batches.sizes.sum()
    statistic = np.empty(neighbors.n_cells)

    def rows(first: int) -> None:
        piece = slice(first, first + _ROWS)
        batch_chi_square(neighbors.indices[piece], batches.codes, shares, statistic[piece])

    map_threads(rows, range(0, neighbors.n_cells, _ROWS), n_jobs)
    p_value = chdtrc(batches.n - 1, statistic)
    return KbetTest(float(np.mean(p_value >= alpha)), statistic, p_value)
