"""Two numbers for each cell, so that an embedding can be drawn."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from harmonypy_lite.errors import InvalidInput

Layout = Literal["auto", "umap", "pca"]
#: More cells than this are drawn by their first two components: UMAP would take minutes.
UMAP_CELLS = 20_000
_FEW = 60  # below, neighbours are most of the cells


def layout_name(n_cells: int, layout: Layout) -> str:
    """Return "umap" or "pca".

    Raises
    ------
    InvalidInput
        `layout` is another word.

    Examples
    --------
    >>> layout_name(3_000, "auto"), layout_name(300_000, "auto")
    ('umap', 'pca')
    """
    if layout not in ("auto", "umap", "pca"):
        raise InvalidInput(f"layout must be 'auto', 'umap' or 'pca'; got {layout!r}.")
    if layout == "auto":
        return "umap" if _FEW <= n_cells <= UMAP_CELLS else "pca"
    return layout


def positions(points: np.ndarray, layout: Layout = "auto", seed: int = 0) -> np.ndarray:
    """Return (N, 2) positions of the cells: UMAP through scanpy, or the first two components.

    Parameters
    ----------
    points
        (N, d) an embedding.
    layout
        "umap", "pca", or "auto": UMAP for 60 to 20,000 cells.
    seed
        Of UMAP.

    Examples
    --------
    >>> positions(np.arange(6.0).reshape(2, 3)).tolist()
    [[0.0, 1.0], [3.0, 4.0]]
    """
    if layout_name(len(points), layout) == "umap" and points.shape[1] > 2:
        return _umap(points, seed)
    two = np.zeros((len(points), 2))
    two[:, : points.shape[1]] = points[:, :2]
    return two


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    import scanpy as sc
    from anndata import AnnData

    cells = AnnData(shape=(len(points), 0), obsm={"points": np.asarray(points, np.float32)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of umap and scanpy, on their own insides
        sc.pp.neighbors(cells, n_neighbors=min(15, len(points) - 1), use_rep="points",
                        random_state=seed)  # fmt: skip
        sc.tl.umap(cells, random_state=seed)
    return np.asarray(cells.obsm["X_umap"], dtype=np.float64)
