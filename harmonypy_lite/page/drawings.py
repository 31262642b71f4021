"""The pictures of a page, each with a text for those who cannot see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite import pl
from harmonypy_lite.page import words
from harmonypy_lite.page.pictures import Picture, picture
from harmonypy_lite.pl.canvas import axes, heading, shown
from harmonypy_lite.pl.colours import colours_of
from harmonypy_lite.pl.embedding import coded, texts_of
from harmonypy_lite.pl.layout import Layout, layout_name, positions
from harmonypy_lite.pl.tradeoff import written
from harmonypy_lite.record import why_stopped

if TYPE_CHECKING:
    import pandas as pd

    from harmonypy_lite.page.contents import Run
    from harmonypy_lite.theta.results import Diagnosis, Sweep

_OBJECTIVE = (
    "Bands are iterations, between which cells move. Distance: how far cells are from the "
    "centroids. Entropy: what assignments to several clusters are worth. Diversity: what uneven "
    "batches cost."
)
_TRADEOFF = (
    "Up and right is better. The line joins values that no other beats in both, the dashed one is "
    "the mixing of shuffled batches, the grey band what integration costs where there is "
    "nothing to correct, the ring the recommendation; bars are standard errors."
)
_MOVED = "dots are medians, bars the middle half, lines from 5 to 95 of 100 cells."
_EVEN = "blue is more than an even spread would have, red is fewer; least even clusters on top."


def of_run(
    run: Run, diagnosis: Diagnosis, table: pd.DataFrame, layout: Layout
) -> list[dict[str, Any]]:
    """Return the pictures of a run in groups: a title, a sentence, the pictures."""
    key = run.keys[0]
    columns = [*run.keys, *([run.label_key] if run.label_key else [])]
    moved = [_displacement(run, name, place) for place, name in enumerate(columns)]
    return [
        {
            "title": "Cells before and after",
            "flow": False,
            "text": _layout_text(run, layout),
            "pictures": _cells(run, columns, table, layout),
        },
        {
            "title": "What the run did",
            "flow": True,
            "text": "The objective falls until an iteration changes it little; cells move most "
            "where batches were furthest from the rest.",
            "pictures": [_convergence(run), *moved],
        },
        {
            "title": "Clusters",
            "flow": False,
            "text": f"Which levels of {key} are in which cluster of the result, against an even "
            f"spread.{'' if diagnosis.alarm else f' {diagnosis.reason}'}",
            "pictures": [_composition(diagnosis, key, when) for when in ("before", "after")],
        },
    ]


def _layout_text(run: Run, layout: Layout) -> str:
    if layout_name(run.cells.n_obs, layout) == "umap":
        return (
            "UMAP of each embedding by itself: what is near is alike, distances between groups "
            "mean little, and the two pictures share no axes."
        )
    return f"The first two components of {run.before} and {run.after}."


def _cells(run: Run, columns: list[str], table: pd.DataFrame, layout: Layout) -> list[Picture]:
    bases = {"before": run.before, "after": run.after}
    places = {
        when: positions(np.asarray(run.cells.obsm[basis]), layout) for when, basis in bases.items()
    }
    found = []
    for i, column in enumerate(columns):
        levels = texts_of(run.cells.obs[column])
        names = coded(levels)[0]
        colours = colours_of(run.cells, column, names)
        label = column == run.label_key
        for when, basis in bases.items():
            ax = axes(None, (4.6, 4.6))
            pl.embedding(places[when], levels, colours=colours, names=label, ax=ax)
            heading(ax, f"{shown(column)}, {when}")
            alt = (
                f"Scatter plot of {run.cells.n_obs:,} cells {when} integration ({basis}), coloured "
                f"by {column}: {_listed(names)}."
            )
            pair = values_at(table, column, run)
            if pair is not None:
                value = pair[when == "after"]
                alt += f" Mixing of the batches (iLISI) is {words.number(value)} of 1."
            found.append(
                picture(
                    f"cells-{i}-{when}",
                    ax,
                    alt=alt,
                    caption=f"{column}, {when}: {len(names)} levels",
                )
            )
    return found


def values_at(table: pd.DataFrame, column: str, run: Run) -> tuple[float, float] | None:
    """Return iLISI before and after of a batch column, or None for any other column."""
    return words.values_of(table, column, "ilisi", run.before, run.after)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{len(names)} levels, {', '.join(names[:12])}{more}"


def _convergence(run: Run) -> Picture:
    objective = run.record["objective"]
    stopped = why_stopped(run.record)
    n = int(run.record["iterations"])
    alt = (
        f"Line chart of the objective and its terms, distance, entropy and diversity, by round. "
        f"Over {n} iterations it went from {words.number(objective[0], 1)} to "
        f"{words.number(objective[-1], 1)}; the run stopped because {stopped}."
    )
    ax = pl.convergence(run.record)
    return picture("convergence", ax, alt=alt, caption=_OBJECTIVE)


def _displacement(run: Run, column: str, place: int) -> Picture:
    ax = pl.displacement(run.cells, column)
    medians = run.cells.obs.groupby(column, observed=True)["harmony_shift"].median()
    most, least = medians.idxmax(), medians.idxmin()
    alt = (
        f"Chart of how far cells moved by {column}, in units of the spread within clusters. "
        f"Medians go from {words.number(medians[least])} ({least}) to "
        f"{words.number(medians[most])} ({most})."
    )
    return picture(f"moved-{place}", ax, alt=alt, caption=f"{column}: {_MOVED}")


def _composition(diagnosis: Diagnosis, key: str, when: str) -> Picture:
    table = diagnosis.composition
    observed, expected = table[f"observed_{when}"], table[f"expected_{when}"]
    folds = np.abs(np.log2((observed + 1) / (expected + 1)))
    weights = expected.to_numpy(np.float64)
    uneven = float(2 ** np.average(folds, weights=weights)) if weights.any() else 1.0
    alt = (
        f"Heat map of the levels of {key} in {table['cluster'].nunique()} clusters {when} "
        f"integration. On average a level is {words.number(uneven, 1)} times as frequent, or as "
        "rare, in a cluster as an even spread would have it."
    )
    ax = pl.composition(table, when=when)  # type: ignore[arg-type]
    return picture(f"composition-{when}", ax, alt=alt, caption=f"{key}, {when}: {_EVEN}")


def of_sweep(sweep: Sweep) -> dict[str, Any]:
    """Return the part of the page on a sweep: verdict, trade-off, table, rule."""
    table = sweep.table
    first, last = table.iloc[0], table.iloc[-1]
    alt = (
        f"Scatter plot of mixing against structure kept for {len(table)} values of {sweep.vary}. "
        + " ".join(
            f"At {written(row['value'])} mixing is {words.number(row['mixing'])} and structure "
            f"{words.number(row['structure'], 3)}."
            for row in (first, last)
        )
        + f" {sweep.reason}"
    )
    made = picture("tradeoff", pl.tradeoff(sweep), alt=alt, caption=_TRADEOFF)
    return {
        "vary": sweep.vary,
        "headline": _headline(sweep),
        "tone": {"correct": "good", "no correction needed": "good"}.get(sweep.verdict, "mixed"),
        "reason": sweep.reason,
        "rule": sweep.rule,
        "null": _null(sweep),
        "picture": made,
        "heads": _heads(sweep),
        "rows": [_row(sweep, row) for row in table.to_dict(orient="records")],
    }


def _headline(sweep: Sweep) -> str:
    if sweep.recommended is None:
        return f"{sweep.verdict[0].upper()}{sweep.verdict[1:]}."
    text = f"Correct, with {sweep.vary} {written(sweep.recommended)}"
    if sweep.interval is None or sweep.interval[0] == sweep.interval[1]:
        return text + "; all seeds agree." if sweep.interval else text + "."
    low, high = (written(end) for end in sweep.interval)
    return f"{text}; single seeds recommend {low} to {high}."


def _null(sweep: Sweep) -> str:
    null = sweep.null
    if null is None:
        return ""
    moved = f"{np.mean(null.displacement):.1%}"
    return (
        f"Over random batches, where there is nothing to correct, cells move {moved} of the spread "
        f"within clusters and lose {np.mean(null.neighbor_change):.1%} of their neighbours; with "
        f"the real ones {null.real_displacement:.1%} and {null.real_neighbor_change:.1%}."
    )


_COLUMNS = {
    "mixing": ("Mixing", 2),
    "structure": ("Structure kept", 3),
    "clisi": ("cLISI", 3),
    "nmi": ("NMI", 3),
    "ari": ("ARI", 3),
    "displacement": ("Displacement", 2),
    "iterations": ("Iterations", 0),
}


def _columns(sweep: Sweep) -> list[str]:
    return [name for name in _COLUMNS if name in sweep.table and sweep.table[name].notna().any()]


def _heads(sweep: Sweep) -> list[str]:
    return [sweep.vary, *(_COLUMNS[name][0] for name in _columns(sweep)), "Pareto front"]


def _row(sweep: Sweep, row: dict[Any, Any]) -> dict[str, Any]:
    cells = []
    for name in _columns(sweep):
        error = row.get(f"{name}_se", float("nan"))
        shown_error = f" ± {words.number(error, 3)}" if error == error and error >= 5e-4 else ""
        cells.append(words.number(row[name], _COLUMNS[name][1]) + shown_error)
    return {
        "value": written(row["value"]),
        "cells": [*cells, "yes" if row["pareto"] else ""],
        "chosen": row["value"] == sweep.recommended,
    }
