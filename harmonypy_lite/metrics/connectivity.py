"""Graph connectivity: whether the cells of a label hang together in the neighbour graph.

Luecken et al. 2022 (doi 10.1038/s41592-021-01336-8): per label, the share of cells in the
largest component of the label's part of the graph, averaged over labels.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.metrics.inputs import Categories, as_categories
from harmonypy_lite.metrics.neighbors import Neighbors, neighbors_of
from harmonypy_lite.metrics.sampling import looked_at

Mode = Literal["undirected", "directed"]

N_NEIGHBORS = 14
"""Other cells per cell: the ``n_neighbors=15`` of scanpy and scIB, who count the cell itself."""


def graph_connectivity(
    embedding_or_neighbors: ArrayLike | Neighbors,
    label: Any,
    *,
    n_neighbors: int = N_NEIGHBORS,
    mode: Mode = "undirected",
    n_jobs: int | None = None,
) -> float:
    """Score the connectedness of labels: mean over them of largest component / size.

    1: every label is one piece. Batches far apart split labels, but so do real subtypes, and a
    small shift can connect more than none; the floor is the share of the largest piece, not 0
    (see `calibration.graph_connectivity`). A random embedding scores high: it says nothing about
    labels being apart.

    Parameters
    ----------
    embedding_or_neighbors : (N, d) or Neighbors
        Cells in rows, or their neighbours.
    label : (N,)
        Categories of the cells.
    n_neighbors
        Other cells per cell; see `N_NEIGHBORS`.
    mode
        "undirected" (scIB): cells are joined when either has the other as a neighbour.
        "directed" (scib-metrics): strongly connected components, a harsher count.
    n_jobs
        Threads of the search.

    Raises
    ------
    InvalidInput
        Missing labels, or fewer neighbours than asked for.

    References
    ----------
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> graph_connectivity(cells, kind) > 0.9
    True
    """
    embedding_or_neighbors, label = looked_at(
        "graph connectivity", embedding_or_neighbors, label=label
    )
    neighbors = neighbors_of(embedding_or_neighbors, n_neighbors, n_jobs)
    labels = as_categories(label, neighbors.n_cells, "label", embedding_or_neighbors)
    return float(np.mean(largest_components(neighbors, labels, mode) / labels.sizes))


def largest_components(
    neighbors: Neighbors, labels: Categories, mode: Mode = "undirected"
) -> NDArray[np.int64]:
    """Return the cells in the largest component of each label (n_labels,)."""
    component = components_within(neighbors, labels, mode)
    sizes = np.bincount(component)
    largest = np.zeros(labels.n, np.int64)
    np.maximum.at(largest, labels.codes, sizes[component])
    return largest


def components_within(
    neighbors: Neighbors, labels: Categories, mode: Mode = "undirected"
) -> NDArray[np.int32]:
    """Return the component of each cell (N,), edges between labels removed."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if mode not in ("undirected", "directed"):
        raise InvalidInput(f"mode must be 'undirected' or 'directed'; got {mode!r}.")
    n_cells = neighbors.n_cells
    same = labels.codes[neighbors.indices] == labels.codes[:, None]
    ends = np.concatenate([[0], np.cumsum(same.sum(axis=1))])
    edges = csr_array(
        (np.ones(ends[-1], np.float32), neighbors.indices[same], ends), shape=(n_cells, n_cells)
    )
    connection = "strong" if mode == "directed" else "weak"
    component: NDArray[np.int32] = connected_components(edges, connection=connection)[1]
    return component
