"""Clusters against labels: NMI and ARI.

The clustering is k-means with as many clusters as labels, as in scib-metrics, or on request the
best of ten Leiden resolutions on the neighbour graph, as in Luecken et al. 2022
(doi 10.1038/s41592-021-01336-8).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput, MissingExtra
from harmonypy_lite.metrics.inputs import as_categories, as_embedding, at_least_two
from harmonypy_lite.metrics.kmeans import kmeans, own_order
from harmonypy_lite.metrics.neighbors import Neighbors, check_same_cells, find_neighbors
from harmonypy_lite.metrics.sampling import looked_at


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
    clusterings = leiden_sweep(neighbors.others(), own_order(points), seed)
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
    """Return NMI and ARI of two partitions (N,), numbered from 0.

    NMI is mutual information over the mean of the two entropies, ARI the pairs of cells that are
    together in both, corrected for chance (Hubert & Arabie 1985, doi 10.1007/BF01908075).
    """
    shape = int(first.max()) + 1, int(second.max()) + 1
    pairs = first.astype(np.int64) * shape[1] + second
    cells = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    return NmiAri(_nmi(cells), _ari(cells))


def _nmi(cells: NDArray[np.int64]) -> float:
    """Return the NMI of a table of counts: (H_1 + H_2 - H_12) / mean(H_1, H_2), H the entropy."""
    both = _entropy(cells.sum(axis=1)) + _entropy(cells.sum(axis=0))
    if both == 0:
        return 1.0
    return min(max((both - _entropy(cells.ravel())) / (both / 2), 0.0), 1.0)


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log(shares)))


def _ari(cells: NDArray[np.int64]) -> float:
    """Return the ARI of a table of counts: (together - by chance) / (at most - by chance)."""
    together, first, second, pairs = (
        float(np.sum(counts * (counts - 1.0)) / 2)
        for counts in (cells, cells.sum(axis=1), cells.sum(axis=0), cells.sum())
    )
    chance, most = first * second / pairs, (first + second) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)


def leiden_sweep(
    neighbors: Neighbors, order: NDArray[np.int64], seed: int = 0
) -> list[NDArray[np.int32]]:
    """Return Leiden clusterings (N,) of the undirected graph at resolutions 0.2, 0.4, ... 2.

    They depend on how cells and edges are numbered: `order` (N,) says which cell comes first.
    """
    import random

    check_clustering("leiden")
    import igraph

    n_cells, k = neighbors.indices.shape
    place = np.empty(n_cells, np.int64)
    place[order] = np.arange(n_cells)
    ends = np.repeat(place, k), place[neighbors.indices.ravel()]
    edges = np.unique(np.minimum(*ends) * n_cells + np.maximum(*ends))
    graph = igraph.Graph(n_cells, np.column_stack(np.divmod(edges, n_cells)))
    found = []
    for tenth in range(2, 21, 2):
        igraph.set_random_number_generator(random.Random(seed))
        parts = graph.community_leiden("modularity", resolution=tenth / 10)
        found.append(np.asarray(parts.membership, np.int32)[place])
    igraph.set_random_number_generator(random)
    return found
