"""What integration did to the inside of each batch; needs no labels.

A batch integrated with others should keep its own structure: the neighbours its cells had among
themselves, and the clusters they formed. Batch mixing alone never shows the loss of either.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import InvalidInput, NotApplicable
from harmonypy_lite.kernels.overlap import count_shared
from harmonypy_lite.metrics.clusters import agreement
from harmonypy_lite.metrics.inputs import (
    as_categories,
    as_pair,
    warn_left_out,
    whole_number,
)
from harmonypy_lite.metrics.kmeans import kmeans
from harmonypy_lite.metrics.neighbors import find_neighbors
from harmonypy_lite.metrics.rows import rows_of
from harmonypy_lite.metrics.sampling import sample_of, take


class Structure(NamedTuple):
    """How much of each batch's structure is left.

    Attributes
    ----------
    overlap
        Mean share of neighbours kept, 0 to 1; k / (n - 1) by chance alone.
    overlap_null
        What unrelated neighbours would give.
    concordance
        Mean over batches, weighted by cells, of the ARI of the batch's clusters before and after.
    per_cell : (N,)
        Share of neighbours kept; NaN in batches that are too small, and for cells of a Dask array
        that are not in the sample.
    """

    overlap: float
    overlap_null: float
    concordance: float
    per_cell: NDArray[np.float64]


def structure_preservation(
    pre: ArrayLike,
    post: ArrayLike,
    batch: Any,
    *,
    n_neighbors: int = 30,
    n_clusters: int = 10,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Structure:
    """Score the neighbours and clusters that each batch kept, without labels.

    1: every batch is as it was, up to rotation and scale; about 0: a random embedding. A loss is
    not always an error: integration may remove structure that was technical. It cannot see
    whether batches are aligned, nor whether types of different batches were merged.

    Parameters
    ----------
    pre, post : (N, d)
        The embedding before and after integration; dimensions may differ. Where one is a Dask
        array, a sample of the cells is compared.
    batch : (N,)
        Categories of the cells.
    n_neighbors
        Neighbours compared, searched among the cells of the same batch.
    n_clusters
        Clusters of k-means in each batch, at most one per `n_neighbors` cells.
    seed
        Of k-means.
    n_jobs
        Threads; the result does not depend on them.

    Raises
    ------
    NotApplicable
        When no batch has more than twice `n_neighbors` cells.

    Warns
    -----
    HarmonyWarning
        When some batches have not; they are left out.

    References
    ----------
    Overlap of neighbours: Venna & Kaski 2001, ICANN, LNCS 2130.
    ARI: Hubert & Arabie 1985, doi 10.1007/BF01908075. Both inside batches: this package.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> structure_preservation(cells, 2 * cells, donor).overlap
    1.0
    """
    if is_dask(pre) or is_dask(post):
        options = {"n_neighbors": n_neighbors, "n_clusters": n_clusters, "seed": seed}
        return _of_sample(pre, post, batch, n_jobs=n_jobs, **options)
    before, after = as_pair(pre, post)
    n_neighbors = whole_number("n_neighbors", n_neighbors, 1)
    n_clusters = whole_number("n_clusters", n_clusters, 2)
    batches = as_categories(batch, len(before), "batch", post)
    per_cell = np.full(len(before), np.nan)
    weights, nulls, concordances = [], [], []
    for level in np.flatnonzero(batches.sizes > 2 * n_neighbors):
        cells = np.flatnonzero(batches.codes == level)
        one, two = before[cells], after[cells]
        per_cell[cells] = _overlap(one, two, n_neighbors, n_jobs)
        k = max(2, min(n_clusters, len(cells) // n_neighbors))
        clusters = [kmeans(part, k, seed=seed, n_jobs=n_jobs) for part in (one, two)]
        concordances.append(agreement(*clusters).ari)
        nulls.append(n_neighbors / (len(cells) - 1))
        weights.append(len(cells))
    needed = f"more than {2 * n_neighbors} cells"
    if not weights:
        raise NotApplicable(
            f"structure preservation compares {n_neighbors} neighbours inside each batch; no "
            f"category of {batches.what} has {needed}."
        )
    warn_left_out("structure preservation", batches, ~np.isnan(per_cell), needed)
    overlap = float(np.nanmean(per_cell))
    null, concordance = np.average([nulls, concordances], axis=1, weights=weights)
    return Structure(overlap, float(null), float(concordance), per_cell)


def _of_sample(pre: Any, post: Any, batch: Any, **options: Any) -> Structure:
    """Return the structure of a sample of the cells, with NaN for the others."""
    n_cells = len(rows_of(post, "post"))
    if len(rows_of(pre, "pre")) != n_cells:
        raise InvalidInput(f"pre has {len(rows_of(pre, 'pre'))} cells and post {n_cells}.")
    cells, (batches,) = sample_of("structure preservation", post, batch=batch)
    parts = take(pre, cells, "pre"), take(post, cells, "post")
    found = structure_preservation(*parts, batches, **options)
    per_cell = np.full(n_cells, np.nan)
    per_cell[cells] = found.per_cell
    return found._replace(per_cell=per_cell)


def _overlap(
    one: NDArray[np.floating], two: NDArray[np.floating], k: int, n_jobs: int | None
) -> NDArray[np.float64]:
    first = np.sort(find_neighbors(one, k, n_jobs=n_jobs).indices, axis=1)
    second = np.sort(find_neighbors(two, k, n_jobs=n_jobs).indices, axis=1)
    shared = np.empty(len(one), np.int64)
    count_shared(first, second, shared)
    return shared / k
