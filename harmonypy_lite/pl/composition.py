"""Which levels are in which clusters, against what chance would put there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.pl import canvas
from harmonypy_lite.pl.colours import INK, QUIET

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("cluster", "level", "observed_before", "observed_after")
_FURTHEST = 3  # of the colours: eight times as many, an eighth


def composition(
    table: pd.DataFrame,
    *,
    when: Literal["before", "after"] = "after",
    ax: Axes | None = None,
) -> Axes:
    """Draw how many cells of each level each cluster has, against an even spread.

    White is as many as chance would put there, blue more, red fewer, as (observed + 1) over
    (expected + 1). Clusters in which levels are least even are on top.

    Parameters
    ----------
    table
        `composition` of a `Diagnosis`: a row for each cluster and level.
    when
        Before or after the integration.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InvalidInput
        The table lacks a column or is empty.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"cluster": [0, 0, 1, 1], "level": ["a", "b"] * 2,
    ...                       "observed_before": [10, 0, 0, 10], "observed_after": [5, 5, 5, 5]})
    >>> composition(table, when="before").get_title("left")
    'Levels in clusters, before'
    """
    missing = [name for name in _NEEDED if name not in table]
    if missing or table.empty:
        raise InvalidInput(
            f"The table needs the columns {', '.join(_NEEDED)} and at least one row"
            + (f"; it lacks {', '.join(missing)}." if missing else "; it has none.")
        )
    wide = table.pivot(index="cluster", columns="level", values=f"observed_{when}")
    counts = wide.to_numpy(dtype=np.float64)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    # with one cell more on both sides, a level that would have few cells anyway is not made much of
    folds = np.log2((counts + 1) / (expected + 1)).clip(-_FURTHEST, _FURTHEST)
    order = np.argsort(-np.abs(folds).mean(axis=1), kind="stable")
    n_clusters = len(folds)
    ax = canvas.axes(ax, (5.0, 3.0 + min(2.5, 0.03 * n_clusters)))
    image = ax.imshow(folds[order], cmap="RdBu", vmin=-_FURTHEST, vmax=_FURTHEST, aspect="auto",
                      interpolation="nearest")  # fmt: skip
    _name_levels(ax, [canvas.shown(name, 18) for name in wide.columns])
    if n_clusters <= 25:
        ax.set_yticks(range(n_clusters), [str(wide.index[i]) for i in order], size=7.5)
        ax.set_ylabel("Cluster")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{n_clusters} clusters, least even on top")
    _draw_key(ax, image)
    canvas.heading(ax, f"Levels in clusters, {when}")
    return ax


def _name_levels(ax: Axes, names: list[str]) -> None:
    flat = sum(map(len, names)) <= 44
    size = 8.5 if len(names) <= 20 else 6.5
    step = -(-len(names) // 60)
    ax.set_xticks(range(0, len(names), step), names[::step], size=size)
    if not flat:
        ax.tick_params(axis="x", labelrotation=90)


def _draw_key(ax: Axes, image: object) -> None:
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02, aspect=25)  # type: ignore[arg-type]
    words = ["1/8", "1/4", "1/2", "as expected", "2 times", "4 times", "8 times"]
    bar.set_ticks(range(-_FURTHEST, _FURTHEST + 1), labels=words)
    bar.ax.tick_params(labelsize=7.5, colors=QUIET, labelcolor=INK, length=2)
    bar.outline.set_visible(False)
