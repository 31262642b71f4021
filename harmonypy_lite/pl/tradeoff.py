"""What each value of a sweep gained in mixing and cost in structure, and which to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.pl import canvas
from harmonypy_lite.pl.colours import BLUE, GROUND, INK, LINE, ORANGE, QUIET

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from harmonypy_lite.theta.results import Sweep


def tradeoff(sweep: Sweep, *, ax: Axes | None = None) -> Axes:
    """Draw the mixing of batches against the structure kept, a point for each value of a sweep.

    Up and right is better. The line joins the values that no other beats in both (the Pareto
    front); the dashed one is the mixing that shuffled batches would have; the band is what
    integration costs where there is nothing to correct (the null calibration); the ring is the
    recommended value, filled points those between its limits. Bars are standard errors.

    Parameters
    ----------
    sweep
        What `tl.sweep_theta` returned.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> import pandas as pd
    >>> from harmonypy_lite.theta.results import Sweep
    >>> table = pd.DataFrame({"value": [0.0, 2.0], "mixing": [1.2, 1.9], "mixing_se": 0.1,
    ...                       "structure": [0.99, 0.95], "structure_se": 0.01, "pareto": True})
    >>> ax = tradeoff(Sweep("theta", table, {"mixing": 1.0, "mixing_expected": 2.0}, None, 2.0,
    ...                     (2.0, 2.0), "correct", "", "", (2.0,), {}, {}))
    >>> ax.get_title("left")
    'theta 2 is recommended'
    """
    ax = canvas.axes(ax, (5.0, 3.9))
    table = sweep.table
    ax.plot(1.0, sweep.before["mixing"], "s", ms=6, mfc=GROUND, mec=QUIET, mew=1.3)
    errors = {"xerr": table["structure_se"].fillna(0), "yerr": table["mixing_se"].fillna(0)}
    ax.errorbar(table["structure"], table["mixing"], **errors, fmt="none", ecolor=QUIET, lw=0.8)
    front = table[table["pareto"]].sort_values("structure")
    ax.plot(front["structure"], front["mixing"], color=BLUE, lw=1.4, zorder=1)
    inside = _between(sweep)
    ax.plot(table["structure"][~inside], table["mixing"][~inside], "o", ms=6, mfc=GROUND, mec=BLUE,
            mew=1.4, ls="")  # fmt: skip
    ax.plot(table["structure"][inside], table["mixing"][inside], "o", ms=6, color=BLUE, ls="")
    best = table[_is(table["value"], sweep.recommended)] if sweep.recommended is not None else None
    if best is not None and len(best):
        ax.plot(best["structure"], best["mixing"], "o", ms=14, mfc="none", mec=ORANGE, mew=2.2)
    _draw_limits(ax, sweep)
    _name_values(ax, sweep)
    ax.set(xlabel="Structure kept (share of neighbours within batches)",
           ylabel="Mixing (effective batches among 30 neighbours)")  # fmt: skip
    said = {"correct": f"{sweep.vary} {written(sweep.recommended)} is recommended"}
    canvas.heading(ax, said.get(sweep.verdict, sweep.verdict.capitalize()))
    return ax


def written(value: Any) -> str:
    """Return a value of a sweep as people write it: 2 and not 2.0.

    Examples
    --------
    >>> written(2.0), written("pooled")
    ('2', 'pooled')
    """
    return f"{value:g}" if isinstance(value, int | float | np.number) else canvas.shown(value)


def _is(values: pd.Series, value: Any) -> pd.Series:
    return values.map(lambda other: other == value).astype(bool)


def _between(sweep: Sweep) -> pd.Series:
    """Return which values are between the limits of the recommended one."""
    values = list(sweep.table["value"])
    inside = sweep.table["pareto"] & False
    if sweep.interval is not None:
        first, last = (values.index(end) for end in sweep.interval)
        inside.iloc[first : last + 1] = True
    return inside


def _draw_limits(ax: Axes, sweep: Sweep) -> None:
    lot = sweep.before.get("mixing_expected")
    left = min(float(sweep.table["structure"].min()), 1.0)
    if sweep.null is not None:
        noise = max(sweep.null.neighbor_change, default=0.0)
        ax.axvspan(1 - noise, 1, color=LINE, alpha=0.45, lw=0, zorder=0)
        ax.text(1 - noise / 2, 0.6, "noise", transform=ax.get_xaxis_transform(), ha="center",
                va="bottom", size=7.5, color=QUIET, rotation=90)  # fmt: skip
        left = min(left, 1 - noise)
    room = max(1 - left, 0.01)
    ax.set_xlim(left - 0.18 * room, 1 + 0.1 * room)
    ax.margins(y=0.13)
    if lot is not None:
        ax.axhline(lot, color=QUIET, lw=0.9, ls=(0, (4, 3)), zorder=0)
        ax.annotate("shuffled batches", (1, lot), (0, 3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", size=7.5, color=QUIET)  # fmt: skip


def _name_values(ax: Axes, sweep: Sweep) -> None:
    """Write the values right of their points, where fewer others are, none on another."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # sets the limits and sizes that the places depend on
    to_axes = ax.transData + ax.transAxes.inverted()
    table = sweep.table
    points = to_axes.transform(table[["structure", "mixing"]].to_numpy(np.float64))
    heights = canvas.spread([float(y) for _, y in points], 0.06)
    for value, (x, y), height in zip(table["value"], points, heights, strict=True):
        far = abs(height - y) > 0.02
        ax.annotate(
            written(value),
            (x, y),
            (x + (0.08 if far else 0.04), height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            ha="left",
            va="center",
            size=8.5,
            color=INK,
            weight="bold" if value == sweep.recommended else "normal",
            arrowprops={"arrowstyle": "-", "color": LINE, "lw": 0.8} if far else None,
        )
    ax.annotate("input", (1.0, sweep.before["mixing"]), (0, -7), textcoords="offset points",
                ha="center", va="top", size=8, color=QUIET)  # fmt: skip
