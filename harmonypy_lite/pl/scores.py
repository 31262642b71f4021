"""The figure of the score table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.pl.canvas import figure_class

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLES = {
    "ilisi": "iLISI",
    "cilisi": "CiLISI",
    "bras": "BRAS",
    "pcr_comparison": "PCR\ncomparison",
    "graph_connectivity": "Graph con-\nnectivity",
    "kbet": "kBET",
    "kbet_per_label": "kBET\nper label",
    "silhouette_batch": "Silhouette\nbatch",
    "clisi": "cLISI",
    "nmi": "NMI",
    "ari": "ARI",
    "silhouette_label": "Silhouette\nlabel",
    "isolated_labels": "Isolated\nlabels",
    "structure_overlap": "Neighbours\nkept",
    "structure_concordance": "Clusters\nkept",
    "scib": "scIB",
    "robust": "Robust",
}
_GROUPS = {
    "batch": ("Batch mixing", "#e3eef6", "#1f5f8b"),
    "biology": ("Biology kept", "#e9f3e3", "#39732f"),
    "total": ("Totals", "#f3ecf7", "#6a4c93"),
}
_CELL, _ROW, _GAP, _HEAD = 0.82, 0.52, 0.28, 1.05  # inches
_BAR = 1.25
_GREY = "#8a8a8a"
#: What the names of files of figures may end in.
FORMATS = (".png", ".pdf", ".svg")


def scores(
    table: pd.DataFrame,
    *,
    batch_key: str | None = None,
    values: Literal["raw", "calibrated"] = "raw",
    title: str | None = None,
) -> Figure:
    """Draw the table of `metrics.score`: a circle per metric, a bar per total.

    Rows are embeddings, the best total first. Darker is better; every value is written. Below the
    table stand the metrics that no embedding has, and what a total had to do without.

    Parameters
    ----------
    table
        What `metrics.score` returned, or the same columns read back from a file.
    batch_key
        Which batch column to draw; needed when the table has several.
    values
        Circles show the "raw" or the "calibrated" values. Totals are as defined: scIB of raw,
        robust of calibrated values.
    title
        Text above the table.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("scores.png", dpi=200)``.

    Raises
    ------
    InvalidInput
        An empty table, several batch columns and no `batch_key`, or two rows for one value.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"embedding": "X_pca", "batch_key": "donor", "metric": "ilisi", "kind": "batch"}
    >>> figure = scores(pd.DataFrame([{**row, "raw": 0.4, "calibrated": 0.5}]))
    >>> len(figure.axes)
    1
    """
    new_figure = figure_class()
    part = _one_batch_key(table, batch_key, values)
    wide, kinds = _wide(part, values)
    shown = [name for name in wide.columns if wide[name].notna().any()]
    groups = {kind: [name for name in shown if kinds[name] == kind] for kind in _GROUPS}
    wide.index = [_literal(name) for name in wide.index]
    corner = [_literal(part["batch_key"].iloc[0]), f"{values} values"]
    edges = _columns(groups, 0.4 + max(_length(name) for name in [*wide.index, *corner]))
    width = max(right for _, right in edges.values()) + 0.15
    heading = _wrapped([title or ""], width, 0.105)
    notes = _wrapped(_notes(part, shown), width, 0.068)
    above = _HEAD + 0.22 * len(heading) + (0.13 if heading else 0.0)
    below = 0.12 + 0.16 * len(notes) + (0.1 if notes else 0.0)
    height = above + _ROW * len(wide) + below
    figure = new_figure(figsize=(width, height), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.set_axis_off()
    _draw_heads(ax, groups, edges, height - above)
    for row, (embedding, cells) in enumerate(wide.iterrows()):
        middle = height - above - _ROW * (row + 0.5)
        _draw_row(ax, str(embedding), cells, kinds, edges, middle, last=row == len(wide) - 1)
    ax.text(0.15, height - above + 0.34, "\n".join(corner), size=8.5, color=_GREY, va="center")
    ax.text(0.15, height - 0.1, "\n".join(heading), size=12, weight="bold", va="top")
    ax.text(0.15, below - 0.1, "\n".join(notes), size=8, color=_GREY, va="top")
    return figure


def figure_files(path: Path, batch_keys: Iterable[str]) -> dict[str, Path]:
    """Return the file of each batch column's figure, to be known before the scores are computed.

    With several columns each has its name before the ending: ``scores_donor.png``.

    Raises
    ------
    InvalidInput
        The name ends in no format of figures.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> [str(file) for file in figure_files(Path("scores.png"), ["donor", "lab"]).values()]
    ['scores_donor.png', 'scores_lab.png']
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(
            f"The figure {path} cannot be drawn: its name must end in {', '.join(FORMATS)}."
        )
    figure_class()
    keys = list(dict.fromkeys(batch_keys))
    if len(keys) == 1:
        return {keys[0]: path}
    return {key: path.with_stem(f"{path.stem}_{key}") for key in keys}


def _literal(name: object) -> str:
    """Return the text that matplotlib draws as `name`: what stands between dollars is a formula."""
    return str(name).replace("$", r"\$")


def _length(name: str) -> float:
    """Return how long the name of an embedding is, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight="bold")
    return float(TextPath((0, 0), name, size=10, prop=font).get_extents().width) / 72


def _wrapped(texts: list[str], width: float, letter: float) -> list[str]:
    """Return the lines of `texts` in a figure `width` inches wide, of letters of that length."""
    return [line for text in texts for line in textwrap.wrap(text, int((width - 0.3) / letter))]


def _notes(part: pd.DataFrame, shown: list[str]) -> list[str]:
    """Return what is missing: metrics that no embedding has, and members of totals."""
    missing = [name for name in dict.fromkeys(part["metric"]) if name not in shown]
    names = ", ".join(_one_line(name) for name in missing)
    notes = [f"Not computed (see reason): {names}."] if missing else []
    if "reason" in part:
        sample = r"(Of a stratified sample: [\d,]+ of [\d,]+ cells)"
        said = part["reason"].astype("str").str.extract(sample, expand=False).dropna()
        notes += [f"{text}, but for BRAS and PCR comparison." for text in said.unique()]
    notes += labels_missing(part)
    totals = part[(part["kind"] == "total") & part["metric"].isin(shown)]
    for name, reasons in totals.get("reason", totals["metric"][:0]).groupby(totals["metric"]):
        said = sorted(set(reasons.dropna()) - {""})
        if len(said) == 1:
            words = [_one_line(word) for word in said[0].removeprefix("without ").split(", ")]
            notes.append(f"{_one_line(str(name))} is without {', '.join(words)}.")
        elif said:
            notes.append(f"{_one_line(str(name))} lacks metrics for some (see reason).")
    return notes


def labels_missing(part: pd.DataFrame) -> list[str]:
    """Return what is to be said where some cells had no label.

    Examples
    --------
    >>> import pandas as pd
    >>> labels_missing(pd.DataFrame({"metric": ["nmi", "robust"], "n_cells": [90, 100]}))
    ['Metrics that need labels are of 90 of 100 cells, which have one.']
    """
    from harmonypy_lite.metrics.suite import METRICS, SUMS

    if "n_cells" not in part:
        return []
    needing = [name for name in METRICS if METRICS[name].needs == "labels" and name not in SUMS]
    labelled = part.loc[part["metric"].isin(needing) & (part["n_cells"] > 0), "n_cells"]
    every = part.loc[part["metric"].isin(["scib", "robust"]), "n_cells"]
    if labelled.empty or every.empty or labelled.max() == every.max():
        return []
    n, of = int(labelled.max()), int(every.max())
    return [f"Metrics that need labels are of {n:,} of {of:,} cells, which have one."]


def _one_line(name: str) -> str:
    return _TITLES.get(name, name).replace("-\n", "").replace("\n", " ")


def _one_batch_key(table: pd.DataFrame, batch_key: str | None, values: str) -> pd.DataFrame:
    """Return the rows of one batch column, or raise InvalidInput."""
    if values not in ("raw", "calibrated"):
        raise InvalidInput(f"values must be 'raw' or 'calibrated'; got {values!r}.")
    keys = list(dict.fromkeys(table["batch_key"]))
    if not keys:
        raise InvalidInput("the table of scores is empty.")
    if batch_key is None and len(keys) > 1:
        raise InvalidInput(f"the table has the batch columns {keys}; choose one as batch_key.")
    part = table[table["batch_key"] == (batch_key or keys[0])]
    if part.empty:
        raise InvalidInput(f"the table has no batch_key {batch_key!r}; it has {keys}.")
    if part.duplicated(["embedding", "metric"]).any():
        raise InvalidInput(
            "the table has two rows for one embedding and metric: draw tables of different data "
            "one by one."
        )
    return part


def _wide(part: pd.DataFrame, values: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return one row per embedding, best total first, and the kind of each column."""
    totals = part["raw"].fillna(part["calibrated"])
    part = part.assign(shown=part[values].where(part["kind"] != "total", totals))
    wide = part.pivot(index="embedding", columns="metric", values="shown")
    wide = wide.loc[list(dict.fromkeys(part["embedding"])), list(dict.fromkeys(part["metric"]))]
    by = [name for name in ("robust", "scib") if name in wide and wide[name].notna().any()]
    if by:
        wide = wide.sort_values(by[0], ascending=False, kind="stable")
    return wide, dict(zip(part["metric"], part["kind"], strict=True))


def _columns(groups: dict[str, list[str]], start: float) -> dict[str, tuple[float, float]]:
    """Return the left and right edge of each column, in inches."""
    edges, left = {}, start
    for kind, names in groups.items():
        if not names:
            continue
        step = _BAR if kind == "total" else _CELL
        for name in names:
            edges[name] = (left, left + step)
            left += step
        left += _GAP
    return edges


def _draw_heads(
    ax: Axes, groups: dict[str, list[str]], edges: dict[str, tuple[float, float]], top: float
) -> None:
    for kind, names in groups.items():
        if not names:
            continue
        title, _, colour = _GROUPS[kind]
        left, right = edges[names[0]][0], edges[names[-1]][1]
        ax.plot([left + 0.06, right - 0.06], [top + 0.68] * 2, color=colour, lw=1.6)
        ax.text((left + right) / 2, top + 0.82, title, ha="center", va="center", size=10,
                weight="bold", color=colour)  # fmt: skip
        for name in names:
            ax.text(sum(edges[name]) / 2, top + 0.34, _TITLES.get(name, name), ha="center",
                    va="center", size=8.5, linespacing=1.1)  # fmt: skip
    ax.plot([0.15, max(right for _, right in edges.values())], [top] * 2, color="black", lw=0.8)


def _draw_row(
    ax: Axes,
    embedding: str,
    cells: Any,
    kinds: dict[str, str],
    edges: dict[str, tuple[float, float]],
    middle: float,
    *,
    last: bool,
) -> None:
    ax.text(0.15, middle, embedding, va="center_baseline", size=10, weight="bold")
    for name, (left, right) in edges.items():
        value = float(cells[name])
        if np.isnan(value):
            centre = (left + right) / 2
            ax.text(centre, middle, "\N{EN DASH}", ha="center", va="center", color=_GREY)
        elif kinds[name] == "total":
            _draw_bar(ax, value, left + 0.08, right - 0.08, middle)
        else:
            _draw_circle(ax, value, kinds[name], (left + right) / 2, middle)
    if not last:
        ends = [0.15, max(right for _, right in edges.values())]
        ax.plot(ends, [middle - _ROW / 2] * 2, color="#c9c9c9", lw=0.6, ls=(0, (1, 3)))


def _draw_bar(ax: Axes, value: float, left: float, right: float, middle: float) -> None:
    from matplotlib.patches import Rectangle

    length = float(np.clip(value, 0, 1))
    start, colour = (left, middle - 0.15), _shade("total", length)
    ax.add_patch(Rectangle(start, right - left, 0.3, color="#f4f4f4", lw=0))
    ax.add_patch(Rectangle(start, (right - left) * length, 0.3, color=colour, lw=0))
    ax.text(left + 0.07, middle, _written(value), va="center", size=9, weight="bold",
            color=_ink(colour))  # fmt: skip


def _draw_circle(ax: Axes, value: float, kind: str, centre: float, middle: float) -> None:
    from matplotlib.patches import Circle

    colour = _shade(kind, float(np.clip(value, 0, 1)))
    ax.add_patch(Circle((centre, middle), 0.21, facecolor=colour, lw=0))
    ax.text(centre, middle, _written(value), ha="center", va="center", size=8, color=_ink(colour))


def _shade(kind: str, value: float) -> tuple[float, ...]:
    """Return the colour between the group's light and dark end."""
    from matplotlib.colors import to_rgb

    light, dark = (np.array(to_rgb(colour)) for colour in _GROUPS[kind][1:])
    return tuple((1 - value) * light + value * dark)


def _ink(colour: tuple[float, ...]) -> str:
    """Return black or white, whichever has more contrast to the colour (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if (luminance + 0.05) ** 2 < 1.05 * 0.05 else "black"


def _written(value: float) -> str:
    """Return the value with two digits, a real minus sign, and no minus zero."""
    return f"{value if round(value, 2) else 0.0:.2f}".replace("-", "\N{MINUS SIGN}")
