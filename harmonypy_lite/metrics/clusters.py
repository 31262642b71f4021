"""Clusters against labels: NMI and ARI.

The clustering is k-means with as many clusters as labels, as in scib-metrics, or on request the
best of ten Leiden resolutions on the neighbour graph, as in Luecken et al. 2022
(doi 10.1038/s41592-021-01336-8).
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput, MissingExtra
from harmonypy_lite.metrics.inputs import as_categories, as_embedding, at_least_two, at_safe_scale
from harmonypy_lite.metrics.neighbors import Neighbors, check_same_cells, find_neighbors
from harmonypy_lite.metrics.sampling import looked_at
from harmonypy_lite.threads import map_threads

STARTS = 10


class NmiAri(NamedTuple):
    """Agreement of a clustering with the labels.

    Attributes
    ----------
    nmi
        Normalised mutual information (arithmetic mean), 0 to 1.
    ari
        Adjusted Rand index, 0 on average for random clusters, at most 1.
    """

    nmi: float
    ari: float


def nmi_ari(
    embedding: ArrayLike,
    label: Any,
    *,
    clustering: Literal["kmeans", "leiden"] = "kmeans",
    neighbors: Neighbors | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> NmiAri:
    """Score how well clusters of the embedding find the labels.

    1: clusters are the labels; about 0: shuffled labels or a random embedding. Batches that stay
    apart lower it as well, since they become clusters. k-means prefers clusters of equal size.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    label : (N,)
        Categories of the cells.
    clustering
        "kmeans": k = number of labels, best of 10 starts. "leiden": needs igraph.
    neighbors
        Graph for Leiden; 14 other cells are searched when it is not given.
    seed
        Of the clustering.
    n_jobs
        Threads; the result does not depend on them.

    Raises
    ------
    NotApplicable
        For a single label.
    MissingExtra
        "leiden" without igraph.

    References
    ----------
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> nmi_ari(cells, kind).nmi < 0.1
    True
    """
    embedding, label = looked_at("NMI and ARI", embedding, label=label)
    points = as_embedding(embedding)
    labels = as_categories(label, len(points), "label", embedding)
    at_least_two(labels, "NMI and ARI")
    check_clustering(clustering)
    if clustering == "kmeans":
        return agreement(labels.codes, kmeans(points, labels.n, seed=seed, n_jobs=n_jobs))
    if neighbors is None:
        neighbors = find_neighbors(points, min(14, len(points) - 1), n_jobs=n_jobs)
    check_same_cells(neighbors, len(points))
    clusterings = leiden_sweep(neighbors.others(), seed)
    return max(agreement(labels.codes, clusters) for clusters in clusterings)


def check_clustering(clustering: str) -> None:
    """Raise unless `clustering` is known here and can run."""
    if clustering not in ("kmeans", "leiden"):
        raise InvalidInput(f"clustering must be 'kmeans' or 'leiden'; got {clustering!r}.")
    if clustering == "leiden":
        try:
            import igraph  # noqa: F401
        except ImportError as error:
            raise MissingExtra(
                "Leiden needs igraph: pip install 'harmonypy-lite[leiden]'."
            ) from error


def agreement(first: NDArray[Any], second: NDArray[Any]) -> NmiAri:
    """Return NMI and ARI of two partitions (N,)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return NmiAri(
        float(normalized_mutual_info_score(first, second)),
        float(adjusted_rand_score(first, second)),
    )


def kmeans(
    points: NDArray[np.floating], n_clusters: int, *, seed: int = 0, n_jobs: int | None = None
) -> NDArray[np.int32]:
    """Return the clusters (N,) of the best of `STARTS` runs of k-means.

    Each run has its own seed and one thread, so that threads cannot change a sum's order.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import ThreadpoolController

    openmp = ThreadpoolController()
    points, _ = at_safe_scale(points)
    centred = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)

    def run(start: int) -> tuple[float, NDArray[np.int32]]:
        with openmp.limit(limits=1, user_api="openmp"):
            found = KMeans(n_clusters, n_init=1, random_state=start, copy_x=True).fit(centred)
        return float(found.inertia_), found.labels_

    starts = np.random.default_rng(seed).integers(2**31, size=STARTS).tolist()
    with warnings.catch_warnings():  # fewer distinct points than clusters: some stay empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        runs = map_threads(run, starts, n_jobs)
    return min(runs, key=lambda found: found[0])[1]


def leiden_sweep(neighbors: Neighbors, seed: int = 0) -> list[NDArray[np.int32]]:
    """Return Leiden clusterings of the undirected graph at resolutions 0.2, 0.4, ... 2."""
    import random

    check_clustering("leiden")
    import igraph

    n_cells, k = neighbors.indices.shape
    first = np.repeat(np.arange(n_cells), k)
    graph = igraph.Graph(n_cells, np.column_stack([first, neighbors.indices.ravel()]))
    graph.simplify()
    found = []
    for tenth in range(2, 21, 2):
        igraph.set_random_number_generator(random.Random(seed))
        parts = graph.community_leiden("modularity", resolution=tenth / 10)
        found.append(np.asarray(parts.membership, np.int32))
    igraph.set_random_number_generator(random)
    return found
