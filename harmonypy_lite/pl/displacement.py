"""How far cells moved, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_columns
from harmonypy_lite.pl import canvas
from harmonypy_lite.pl.colours import BLUE, LINE, QUIET
from harmonypy_lite.pl.embedding import coded, texts_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

#: Levels that one picture shows.
MOST = 40


def displacement(
    adata: AnnData, key: str, *, column: str = "harmony_shift", ax: Axes | None = None
) -> Axes:
    """Draw how far the cells of each level moved: median, middle half, and from 5 to 95 in 100.

    The levels that moved most are on top. Of more than 40, those that moved most and least are
    drawn.

    Parameters
    ----------
    adata
        An AnnData with the column that `tl.diagnose` writes.
    key
        Column of ``obs`` with the levels: batches, types.
    column
        Column of ``obs`` with the distances, in units of the spread within clusters and batches.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InvalidInput
        A column that is not there.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> from anndata import AnnData
    >>> adata = AnnData(shape=(4, 0))
    >>> adata.obs["donor"], adata.obs["harmony_shift"] = list("aabb"), [0.1, 0.2, 0.5, 0.9]
    >>> [label.get_text() for label in displacement(adata, "donor").get_yticklabels()]
    ['a', 'b']
    """
    check_columns([key, column], adata.obs.columns)
    names, codes = coded(texts_of(adata.obs[key]))
    shift = adata.obs[column].to_numpy(dtype=np.float64)
    if not names or not np.isfinite(shift).all():
        raise InvalidInput(
            f"obs[{column!r}] and obs[{key!r}] must hold a finite number and a level for the cells "
            "to be drawn."
        )
    spans = np.array(
        [np.quantile(shift[codes == i], (0.05, 0.25, 0.5, 0.75, 0.95)) for i in range(len(names))]
    )
    order = np.argsort(spans[:, 2], kind="stable")
    left_out = max(0, len(order) - MOST)
    if left_out:
        order = np.concatenate([order[: MOST // 2], order[-MOST // 2 :]])
    ax = canvas.axes(ax, (5.0, 1.2 + 0.2 * len(order)))
    rows = np.arange(len(order))
    ends = spans[order].T
    ax.hlines(rows, ends[0], ends[4], color=LINE, lw=1.6)
    ax.hlines(rows, ends[1], ends[3], color=BLUE, lw=4.5)
    ax.plot(ends[2], rows, "o", ms=5, mfc="white", mec=BLUE, mew=1.4)
    ax.set_yticks(rows, [canvas.shown(names[i]) for i in order], size=8.5 if len(order) < 25 else 7)
    ax.set(xlim=(0, None), ylim=(-0.7, len(order) - 0.3), xlabel="Displacement, in units of spread")
    if left_out:
        ax.axhline(MOST / 2 - 0.5, color=QUIET, lw=0.8, ls=(0, (2, 3)))
        ax.text(1, MOST / 2 - 0.5, f"{left_out} levels between are left out", size=7.5, color=QUIET,
                transform=ax.get_yaxis_transform(), ha="right", va="bottom")  # fmt: skip
    canvas.heading(ax, f"How far cells moved, by {canvas.shown(key)}")
    return ax
