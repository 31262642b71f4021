"""Cells of an embedding, coloured by batch or type, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_basis, check_columns
from harmonypy_lite.pl import canvas
from harmonypy_lite.pl.colours import GROUND, INK, QUIET, colours_of, level_colours
from harmonypy_lite.pl.layout import Layout, layout_name, positions

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_NONE = "#9aa1a9"  # cells without a level


def embedding(
    places: Any,
    levels: Sequence[Any] | np.ndarray,
    *,
    colours: Sequence[str] | None = None,
    names: bool = False,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw cells as points, coloured by level; no level hides another, whatever their order.

    Parameters
    ----------
    places
        (N, 2) where the cells are.
    levels
        (N,) the level of each; cells with None or NaN are grey and below the others.
    colours
        One for each level in the order of their names; by default colour-blind safe ones.
    names
        Write each level's name where its cells are.
    legend
        Draw a legend below; with more than 40 levels it names the first 40.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InvalidInput
        The lengths differ.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> ax = embedding(np.zeros((3, 2)), ["a", "b", "a"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['a', 'b']
    """
    found, codes = coded(levels)
    places = np.asarray(places, dtype=np.float64)
    if places.shape != (len(codes), 2):
        raise InvalidInput(
            f"places are {places.shape} and levels {len(codes)}: (n_cells, 2) positions and "
            "one level for each are needed."
        )
    ax = canvas.axes(ax, (4.6, 4.6))
    palette = list(colours) if colours is not None else level_colours(len(found))
    _draw_points(ax, places, codes, palette)
    if names:
        _write_names(ax, places, codes, found)
    if legend:
        _draw_legend(ax, found, palette, with_none=bool((codes < 0).any()))
    ax.set(xticks=[], yticks=[])
    return ax


def before_after(
    adata: AnnData,
    key: str,
    label_key: str | None = None,
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    layout: Layout = "auto",
    seed: int = 0,
    axes: Any = None,
) -> Any:
    """Draw the cells before and after integration, by batch and, with labels, by type.

    Parameters
    ----------
    adata
        An integrated AnnData; its own colours (``uns["KEY_colors"]``) are used where there are any.
    key, label_key
        Columns of ``obs`` with batches and types.
    basis, adjusted_basis
        Keys of ``obsm``.
    layout
        "umap" (through scanpy, of each embedding), "pca" (the first two components of both), or
        "auto": UMAP for 60 to 20,000 cells.
    seed
        Of UMAP.
    axes
        (1, 2) or, with labels, (2, 2) Axes to draw on; by default a figure of its own.

    Returns
    -------
    numpy.ndarray
        The Axes: before and after; the second row by type.

    Raises
    ------
    InvalidInput
        A column or embedding that is not there, or axes of another shape.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> from harmonypy_lite import datasets, pp
    >>> adata = datasets.simulate(n_cells=300)
    >>> pp.harmony_integrate(adata, "batch")
    >>> before_after(adata, "batch", "cell_type", layout="pca").shape
    (2, 2)
    """
    keys = [key] if label_key is None else [key, label_key]
    check_columns(keys, adata.obs.columns)
    for name in (basis, adjusted_basis):
        check_basis(name, adata.obsm.keys())
    drawn = layout_name(adata.n_obs, layout).upper()
    if axes is None:
        size = (8.4, 4.6 * len(keys))
        figure = canvas.figure_class()(figsize=size, layout="constrained")
        axes = figure.subplots(len(keys), 2, squeeze=False)
    if np.shape(axes) != (len(keys), 2):
        raise InvalidInput(f"axes are {np.shape(axes)}: ({len(keys)}, 2) are needed.")
    places = [positions(np.asarray(adata.obsm[b]), layout, seed) for b in (basis, adjusted_basis)]
    for row, name in zip(axes, keys, strict=True):
        levels = texts_of(adata.obs[name])
        colours = colours_of(adata, name, coded(levels)[0])
        for ax, where, when in zip(row, places, ("before", "after"), strict=True):
            embedding(where, levels, colours=colours, names=name == label_key, ax=ax)
            canvas.heading(ax, f"{canvas.shown(name)}, {when}")
            ax.set(xlabel=f"{drawn} 1", ylabel=f"{drawn} 2")
    return axes


def texts_of(column: Any) -> np.ndarray:
    """Return a column as texts (N,), with None where there is no value."""
    missing = column.isna().to_numpy()
    found = column.astype(str).to_numpy().astype(object)
    found[missing] = None
    return found


def coded(levels: Any) -> tuple[list[str], np.ndarray]:
    """Return the names of the levels in order, and the code of each cell, -1 for none."""
    given = np.asarray(levels, dtype=object)
    missing = np.array([level is None or level != level for level in given], dtype=bool)
    codes = np.full(len(given), -1)
    names, found = np.unique(given[~missing].astype(str), return_inverse=True)
    codes[~missing] = found
    return [str(name) for name in names], codes


def _draw_points(ax: Axes, places: np.ndarray, codes: np.ndarray, palette: list[str]) -> None:
    n = len(codes)
    size = float(np.clip(9_000 / max(n, 1), 0.8, 14))
    order = np.random.default_rng(0).permutation(n)  # no level on top of all others
    order = order[np.argsort(codes[order] >= 0, kind="stable")]
    colours = np.array([*palette, _NONE])[codes[order]]
    x, y = places[order].T
    ax.scatter(x, y, s=size, c=colours, linewidths=0, alpha=0.85, rasterized=True)


def _write_names(ax: Axes, places: np.ndarray, codes: np.ndarray, names: list[str]) -> None:
    from matplotlib.patheffects import withStroke

    middles = np.array([_densest(places[codes == i]) for i in range(len(names))])
    low, high = ax.get_ylim()
    size = 8.0 if len(names) <= 15 else 6.5
    gap = 0.0042 * size * (high - low) if len(names) <= 24 else 0.0  # more would drift away
    heights = canvas.spread(list(middles[:, 1]), gap)
    for name, (x, _), y in zip(names, middles, heights, strict=True):
        ax.text(x, y, canvas.shown(name, 22), size=size, weight="bold", ha="center", va="center",
                color=INK, path_effects=[withStroke(linewidth=2.2, foreground=GROUND)])  # fmt: skip


def _densest(places: np.ndarray, n_bins: int = 12) -> np.ndarray:
    """Return the middle of the cells where most are: a level may be in several places."""
    low, high = places.min(axis=0), places.max(axis=0)
    bins = ((places - low) / np.maximum(high - low, 1e-12) * n_bins).astype(int).clip(0, n_bins - 1)
    flat = bins[:, 0] * n_bins + bins[:, 1]
    return np.asarray(np.median(places[flat == np.bincount(flat).argmax()], axis=0))


def _draw_legend(ax: Axes, names: list[str], palette: list[str], *, with_none: bool) -> None:
    from matplotlib.lines import Line2D

    shown = [canvas.shown(name, 20 if len(names) > 8 else 26) for name in names[:40]]
    entries = [*zip(shown, palette, strict=False)]
    entries += [("no value", _NONE)] if with_none else []
    marks = [Line2D([], [], marker="o", ls="", ms=5, color=colour) for _, colour in entries]
    widest = max([len(name) for name, _ in entries], default=1)
    columns = max(1, min(len(entries), 60 // (widest + 6)))
    title = f"{len(names)} levels, the first 40 named" if len(names) > 40 else None
    legend = ax.legend(marks, [name for name, _ in entries], loc="upper center", ncols=columns,
              bbox_to_anchor=(0.5, -0.06), frameon=False, title=title, labelcolor=INK,
              fontsize=8 if len(entries) <= 20 else 6.5, handletextpad=0.1,
              columnspacing=1.0, borderaxespad=0.2)  # fmt: skip
    if title:
        legend.get_title().set(size=7.5, color=QUIET)
