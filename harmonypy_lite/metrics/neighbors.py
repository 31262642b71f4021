"""The neighbours of every cell: searched once, used by every metric that looks at neighbourhoods.

The exact search multiplies blocks of cells in float32, keeps a few more candidates than asked for,
measures those in float64 and proves for every row, from the rounding bound of the product, that no
nearer cell was missed; rows without proof (ties, duplicates) are searched again by differences.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.kernels import knn, strips
from harmonypy_lite.metrics.inputs import as_embedding, at_safe_scale, whole_number
from harmonypy_lite.threads import map_threads, worker_count

Method = Literal["auto", "exact", "pynndescent"]

EXACT_UP_TO = 200_000
"""Cells up to which ``method="auto"`` searches exactly: there it is also the faster way."""


@dataclass(frozen=True)
class Neighbors:
    """The nearest cells of every cell, nearest first.

    Parameters
    ----------
    indices : (N, k) integers
        Numbers of the neighbouring cells; stored as int32.
    distances : (N, k)
        Plain Euclidean distances to them; stored as float64.
    includes_self
        Whether a row may hold the cell itself, as in scib-metrics' and pynndescent's results.
    method
        Where the neighbours come from; only reported.

    Raises
    ------
    InvalidInput
        Shapes that differ, k >= N (k > N with the cell itself), an index outside 0..N-1 (-1 marks
        a failed search), a cell in its own row without `includes_self`, distances that are
        negative, not finite or not ascending.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.array([[0.0], [1.0], [3.0]])
    >>> find_neighbors(line, 1).indices.ravel().tolist()
    [1, 0, 1]
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float64]
    includes_self: bool = False
    method: str = "given"

    def __post_init__(self) -> None:
        indices, distances = np.asarray(self.indices), np.asarray(self.distances, np.float64)
        if indices.ndim != 2 or indices.shape != distances.shape or indices.dtype.kind not in "iu":
            raise InvalidInput(
                "indices must be integers of shape (cells, k) and distances of the same shape; "
                f"got {indices.dtype} {indices.shape} and {distances.shape}."
            )
        n_cells, k = indices.shape
        if not 0 < k < n_cells + self.includes_self:
            raise InvalidInput(f"{k} neighbours of {n_cells} cells: need 0 < k < cells.")
        wrong = np.flatnonzero(((indices < 0) | (indices >= n_cells)).any(axis=1))
        if len(wrong):
            raise InvalidInput(
                f"{len(wrong)} cells have neighbours outside 0..{n_cells - 1}, the first at rows "
                f"{wrong[:5].tolist()} (-1 marks a search that failed); search again exactly."
            )
        own = np.flatnonzero((indices == np.arange(n_cells)[:, None]).any(axis=1))
        if len(own) and not self.includes_self:
            raise InvalidInput(
                f"{len(own)} cells are their own neighbours, the first at rows {own[:5].tolist()}; "
                "give includes_self=True."
            )
        ascending = (distances[:, :1] >= 0).all() and (np.diff(distances, axis=1) >= 0).all()
        if not (ascending and np.isfinite(distances[:, -1]).all()):
            raise InvalidInput("distances must be finite, >= 0 and ascending along each row.")
        object.__setattr__(self, "indices", np.ascontiguousarray(indices, np.int32))
        object.__setattr__(self, "distances", np.ascontiguousarray(distances))

    @property
    def n_cells(self) -> int:
        """Return the number of cells."""
        return len(self.indices)

    def others(self, k: int | None = None) -> Neighbors:
        """Return the `k` nearest other cells (default: all there are), without the cell itself.

        Where a row should hold the cell itself but does not (duplicates can displace it), its
        farthest entry is dropped instead, so that all rows stay equally long.

        Raises
        ------
        InvalidInput
            When fewer than `k` other cells are held.
        """
        indices, distances = self.indices, self.distances
        if self.includes_self:
            own = indices == np.arange(self.n_cells)[:, None]
            kept = np.argsort(own, axis=1, kind="stable")[:, :-1]  # the cell itself, or the last
            indices = np.take_along_axis(indices, kept, axis=1)
            distances = np.take_along_axis(distances, kept, axis=1)
        held = indices.shape[1]
        if k is not None and not 0 < k <= held:
            remedy = f"search with find_neighbors(embedding, n_neighbors={k}) or more"
            raise InvalidInput(
                f"{k} other cells per cell are needed, {held} are held; "
                + (f"{remedy}." if k < self.n_cells else f"there are {self.n_cells} cells in all.")
            )
        if k in (None, held) and not self.includes_self:
            return self
        return Neighbors(indices[:, :k], distances[:, :k], False, self.method)

    @classmethod
    def from_scanpy(cls, distances: Any) -> Neighbors:
        """Read ``adata.obsp["distances"]``, which holds ``n_neighbors - 1`` other cells per row.

        Parameters
        ----------
        distances : (N, N) scipy.sparse
            Distances to the neighbours; a stored zero is a duplicate, not the cell itself.

        Raises
        ------
        InvalidInput
            When rows hold different numbers of cells (a graph cut by radius, or one that lost
            stored zeros): search again with `find_neighbors`.
        """
        from scipy.sparse import coo_array

        graph = coo_array(distances)
        away = graph.row != graph.col
        row, column, value = graph.row[away], graph.col[away], graph.data[away]
        counts = np.bincount(row, minlength=graph.shape[0])
        fewest, most = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
        if fewest != most or most == 0:
            raise InvalidInput(
                f"the graph holds between {fewest} and {most} cells per row; a neighbour table "
                "needs the same number in each row."
            )
        order = np.lexsort((column, value, row))
        shape = (len(counts), int(counts[0]))
        return cls(column[order].reshape(shape), value[order].reshape(shape), False, "scanpy")


def find_neighbors(
    embedding: ArrayLike,
    n_neighbors: int = 90,
    *,
    method: Method = "auto",
    seed: int = 0,
    n_jobs: int | None = None,
) -> Neighbors:
    """Find the nearest other cells of every cell (plain Euclidean distance).

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    n_neighbors
        Other cells per cell, below N. 90 serves every metric of this package.
    method
        "exact": brute force through BLAS, proven complete, ties by lowest cell number.
        "pynndescent": approximate, with scib-metrics' settings. "auto": exact up to
        `EXACT_UP_TO` cells. The choice is reported in ``Neighbors.method``.
    seed
        For pynndescent only; the exact search has no randomness.
    n_jobs
        Threads; see `harmonypy_lite.threads.worker_count`. Exact results never depend on it.

    Returns
    -------
    Neighbors
        Without the cells themselves.

    Raises
    ------
    InvalidInput
        NaN or infinite values, or n_neighbors outside 1..N-1.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> find_neighbors(cells, 15).indices.shape
    (200, 15)
    """
    points = as_embedding(embedding)
    n_neighbors = whole_number("n_neighbors", n_neighbors, 1)
    if n_neighbors >= len(points):
        raise InvalidInput(
            f"n_neighbors={n_neighbors} for {len(points)} cells; each has {len(points) - 1} others."
        )
    if method_for(len(points), method) == "exact":
        return _exact(points, n_neighbors, n_jobs)
    return _approximate(points, n_neighbors, seed, n_jobs)


def neighbors_of(
    embedding_or_neighbors: ArrayLike | Neighbors, k: int, n_jobs: int | None
) -> Neighbors:
    """Return the `k` nearest other cells: of the table that is given, or searched now."""
    if isinstance(embedding_or_neighbors, Neighbors):
        return embedding_or_neighbors.others(whole_number("n_neighbors", k, 1))
    return find_neighbors(embedding_or_neighbors, k, n_jobs=n_jobs)


def check_same_cells(neighbors: Neighbors, n_cells: int) -> None:
    """Refuse neighbours of other cells than those of the embedding."""
    if neighbors.n_cells != n_cells:
        raise InvalidInput(
            f"neighbors are of {neighbors.n_cells} cells and the embedding is of {n_cells}; search "
            "them in this embedding, or leave them out."
        )


def method_for(n_cells: int, method: Method = "auto") -> Method:
    """Return the search that `find_neighbors` uses for this many cells."""
    if method not in ("auto", "exact", "pynndescent"):
        raise InvalidInput(f"method must be 'auto', 'exact' or 'pynndescent'; got {method!r}.")
    if method == "auto":
        return "exact" if n_cells <= EXACT_UP_TO else "pynndescent"
    return method


class _Product(NamedTuple):
    """Queries and columns whose float32 product is the surrogate |y|²/2 - x·y."""

    points: NDArray[np.floating]  # (N, d), measured in float64
    queries: NDArray[np.float32]  # (N, d + 1), centred
    columns: NDArray[np.float32]  # (S, d + 1, LANES)
    half_norm: NDArray[np.float64]  # (N,)
    rounding: float


def _exact(embedding: NDArray[np.floating], k: int, n_jobs: int | None) -> Neighbors:
    n_cells = len(embedding)
    points, scale = at_safe_scale(embedding)
    product = _prepare(points)
    found = knn.Found(
        np.empty((n_cells, k), np.int32), np.empty((n_cells, k)), np.empty(n_cells, np.bool_)
    )
    candidates = min(k + max(16, k // 8), n_cells - 1)
    together = strips.rows_together(product.columns)
    own = threading.local()

    def search(first: int) -> None:
        if not hasattr(own, "room"):
            own.room = strips.room_for(candidates, len(product.columns))
        _search_rows(product, slice(first, first + together), candidates, own.room, found)

    map_threads(search, range(0, n_cells, together), n_jobs)
    _search_again(product.points, np.flatnonzero(~found.certified), found, n_jobs)
    found.distances[...] /= scale
    return Neighbors(found.indices, found.distances, False, "exact")


def _prepare(points: NDArray[np.floating]) -> _Product:
    centred = (points - points.mean(axis=0, dtype=np.float64)).astype(np.float32)
    columns, half_norm = strips.as_strips(centred)
    # gamma of a sum of d + 1 products, with room for the rounding of the operands themselves
    rounding = (points.shape[1] + 16) * 2.0**-23
    return _Product(points, strips.as_rows(centred), columns, half_norm, rounding)


def _search_rows(
    product: _Product, cells: slice, candidates: int, room: strips.Room, found: knn.Found
) -> None:
    """Search all columns for some cells; fills their rows of `found`."""
    rows = product.queries[cells]
    values = np.empty((len(rows), candidates), np.float32)
    places = np.empty((len(rows), candidates), np.int32)
    strips.search(rows, product.columns, cells.start, candidates, room, values, places)
    knn.refine(
        product.points,
        cells.start,
        candidates,
        product.half_norm,
        product.rounding,
        values,
        places,
        found,
    )


def _search_again(
    points: NDArray[np.floating], cells: NDArray[np.int64], found: knn.Found, n_jobs: int | None
) -> None:
    pieces = [cells[i : i + 64] for i in range(0, len(cells), 64)]
    map_threads(lambda piece: knn.nearest_by_differences(points, piece, found), pieces, n_jobs)


def _approximate(points: NDArray[np.floating], k: int, seed: int, n_jobs: int | None) -> Neighbors:
    """Call pynndescent as scib-metrics does; rows that it could not fill are searched exactly."""
    from pynndescent import NNDescent

    n_cells = len(points)
    near_one, scale = at_safe_scale(points)
    index = NNDescent(
        (near_one - near_one.mean(axis=0, dtype=np.float64)).astype(np.float32),
        n_neighbors=k + 1,
        random_state=seed,
        low_memory=True,
        n_jobs=worker_count(n_jobs),
        compressed=False,
        n_trees=min(64, 5 + round(n_cells**0.5 / 20)),
        n_iters=max(5, round(np.log2(n_cells))),
        max_candidates=60,
    )
    indices, distances = index.neighbor_graph
    failed = np.flatnonzero((indices < 0).any(axis=1))
    indices[failed], distances[failed] = np.arange(k + 1), 0.0  # valid until searched again
    held = Neighbors(indices, distances / np.float64(scale), True).others()
    found = knn.Found(held.indices, held.distances, np.ones(n_cells, np.bool_))
    _search_again(points, failed, found, n_jobs)
    return Neighbors(found.indices, found.distances, False, "pynndescent")
