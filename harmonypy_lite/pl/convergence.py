"""What the objective did, round by round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.pl import canvas
from harmonypy_lite.pl.colours import BLUE, GREEN, INK, LINE, ORANGE, QUIET
from harmonypy_lite.record import why_stopped

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


def convergence(run: AnnData | Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw the objective after each round of clustering, its three terms, and why the run stopped.

    Distance is how far cells are from the centroids; entropy, below zero, is what assignments to
    several clusters are worth; diversity is what uneven batches cost. The three add up to the
    objective; how the first two share is estimated from some of the cells, a tenth of them where
    there are few and never less than a 320th. Bands mark the iterations, between which cells are
    corrected. With `harmony2` each iteration starts from an assignment without a penalty, so that
    the first round of one may lie above the last of the one before.

    Parameters
    ----------
    run
        An integrated AnnData, the record in its ``uns["harmony"]``, or the summary of a run.
    ax
        Where to draw; by default on a figure of its own.

    Raises
    ------
    InvalidInput
        There is no record, or one of a run that corrected nothing.
    MissingExtra
        Without matplotlib.

    Examples
    --------
    >>> ax = convergence({"objective_by_round": [9.0, 7.0, 6.8], "diversity_by_round": [2, 1, 0.9],
    ...                   "entropy_by_round": [-1, -2, -2], "rounds": [2], "stopped": "converged"})
    >>> [line.get_label() for line in ax.lines]
    ['objective', 'distance', 'entropy', 'diversity']
    """
    record = record_of(run)
    total, entropy, diversity = (
        np.asarray(record[f"{name}_by_round"], dtype=np.float64)
        for name in ("objective", "entropy", "diversity")
    )
    ends = np.cumsum(np.asarray(record["rounds"], dtype=np.int64))
    ax = canvas.axes(ax, (5.0, 3.3))
    terms = (
        ("objective", total, INK, "-", 2.0),
        ("distance", total - entropy - diversity, BLUE, "--", 1.5),
        ("entropy", entropy, GREEN, "-.", 1.5),
        ("diversity", diversity, ORANGE, ":", 1.8),
    )
    for name, values, colour, dashes, width in terms:
        ax.plot(np.arange(len(values)), values, ls=dashes, lw=width, color=colour, label=name)
    _draw_iterations(ax, ends)
    right = len(total) - 1
    _name_lines(ax, right, [(name, values[-1], colour) for name, values, colour, *_ in terms])
    ax.set(xlabel="Round of clustering", ylabel="Objective, per 2,000 cells")
    n = len(ends)
    stopped = re.split(r"[;(]", why_stopped(record))[0].strip()
    canvas.heading(ax, f"{n} iteration{'s' * (n != 1)}: {stopped}")
    return ax


def record_of(run: AnnData | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of a run with the objective of each round, or raise InvalidInput."""
    record = run if isinstance(run, Mapping) else getattr(run, "uns", {}).get("harmony")
    if not isinstance(record, Mapping):
        raise InvalidInput(
            "There is no record of a run in uns['harmony']: integrate first, "
            "harmonypy_lite.pp.harmony_integrate(adata, key)."
        )
    by_round = record.get("objective_by_round")
    if by_round is not None and len(by_round) == 0:
        raise InvalidInput("The run had nothing to correct: there is no objective to draw.")
    if by_round is None or "entropy_by_round" not in record:
        raise InvalidInput(
            "The record in uns['harmony'] lacks the terms of the objective in each round (an older "
            "version wrote it, or a federated run): integrate again."
        )
    return record


def _draw_iterations(ax: Axes, ends: np.ndarray) -> None:
    last = int(ends[-1])
    ax.set_xlim(0, last * 1.22)  # names of the lines stand at their ends
    step = -(-len(ends) // 12)
    for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if i % 2 == 0:
            ax.axvspan(start, end, color=LINE, alpha=0.25, lw=0)
        if i % step == 0:
            ax.text((start + end) / 2, 0.985, str(i + 1), transform=ax.get_xaxis_transform(),
                    ha="center", va="top", size=8, color=QUIET)  # fmt: skip
    ax.set_xticks(range(0, last + 1, -(-last // 10)))
    ax.margins(y=0.12)


def _name_lines(ax: Axes, right: int, ends: list[tuple[str, float, str]]) -> None:
    low, high = ax.get_ylim()
    places = canvas.spread([value for _, value, _ in ends], 0.075 * (high - low))
    for (name, _, colour), place in zip(ends, places, strict=True):
        ax.annotate(name, (right, place), (5, 0), textcoords="offset points", va="center",
                    size=8.5, color=colour, annotation_clip=False)  # fmt: skip
