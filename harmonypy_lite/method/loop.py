"""Harmony: iterate { cluster; correct; converged? }.

Clustering assigns cells to soft clusters, with a penalty on clusters that one batch dominates;
correction removes from each cluster, by ridge regression, what the batch explains. Letters are the
paper's (Korsunsky 2019): Z cells, Y centroids, R assignments, O and E observed and expected cells
of each level in each cluster, W effects of the levels. The cells, and R with them, live behind
`cells`; here are tables only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from harmonypy_lite.method import ridge
from harmonypy_lite.method.apart import ApartComposition
from harmonypy_lite.method.formulas import turned
from harmonypy_lite.method.history import History
from harmonypy_lite.method.passes import (
    Assign,
    Cells,
    Correct,
    CorrectAndAssign,
    Reassign,
    SumExcluded,
    SumMoments,
    Turn,
)
from harmonypy_lite.method.rules import Setting
from harmonypy_lite.method.totals import Composition, FixedPoint


class Outcome(NamedTuple):
    """What a run leaves behind, besides the corrected cells."""

    Y: np.ndarray  # (K, d) centroids of the last clustering
    O: np.ndarray  # (K, B) cells of each level in each cluster
    E: np.ndarray  # (K, B) the same if levels were spread evenly
    effects: ridge.Effects  # of the last correction
    history: History


def integrate(
    cells: Cells,
    setting: Setting,
    Y: np.ndarray,
    *,
    on_round: Callable[[History], None] = lambda history: None,
    on_correction: Callable[[np.ndarray, ridge.Effects], None] = lambda Y, effects: None,
) -> Outcome:
    """Correct the cells, from the unit centroids `Y` (K, d) on.

    `on_round` is called after each round of clustering, `on_correction` before each correction
    (what a model records).
    """
    history = _history(setting)
    table = composition(setting, cells.n_blocks)
    table.replace(cells.run(Assign(Y)))
    history.start = setting.objective(table)
    history.diversity.append(setting.diversity(table))
    history.entropy.append(setting.entropy(table))
    while True:
        Y = cluster(cells, table, Y, setting, history, on_round)
        effects = regress(cells, table, setting)
        on_correction(Y, effects)
        history.stopped = history.reason_to_stop() or ""
        if history.stopped:
            cells.run(Correct(effects.W))
            return Outcome(Y, table.O, table.E, effects, history)
        Y = correct(cells, table, Y, effects, setting)


def cluster(
    cells: Cells,
    table: Composition,
    Y: np.ndarray,
    setting: Setting,
    history: History,
    on_round: Callable[[History], None],
) -> np.ndarray:
    """Rounds of visits to all blocks of cells; Y moves between them, if at all."""
    history.rounds.append([])
    for _ in range(setting.params.max_iter_clustering or 1):
        if setting.rules.moving_centroids:
            Y = turned(Y, table.direction)
        for turn in table.turns(cells.n_blocks):
            visit(cells, table, Y, setting, turn)
            table.exchange()
        history.rounds[-1].append(setting.objective(table))
        history.diversity.append(setting.diversity(table))
        history.entropy.append(setting.entropy(table))
        on_round(history)
        if history.rounds_settled():
            break
    return Y


def visit(cells: Cells, table: Composition, Y: np.ndarray, setting: Setting, turn: Turn) -> None:
    """For each block of cells { take out; penalise; assign; put back }."""
    for block in turn.blocks:
        table.take_out(block)
        P = setting.penalty(table)
        table.put_back(cells.run(Reassign(Y, P, turn), block))


def regress(cells: Cells, table: Composition, setting: Setting) -> ridge.Effects:
    """In each cluster, regress the cells on the levels they have."""
    moments = cells.run(SumMoments())
    O = ridge.level_weights(table.O, moments)
    kept = ridge.kept_levels(O, setting.level_size, setting.covariates, setting.prune_threshold)
    excluded = ridge.excluded_combinations(moments, kept)
    excluded_sum = 0.0 if excluded is None else cells.run(SumExcluded(excluded))
    penalties, n_jobs = setting.ridge_penalties(table), setting.params.n_jobs
    return ridge.solve(O, moments, penalties, kept, excluded_sum, n_jobs)


def correct(
    cells: Cells, table: Composition, Y: np.ndarray, effects: ridge.Effects, setting: Setting
) -> np.ndarray:
    """Move the cells; return the centroids that the next clustering starts from.

    A cluster that corrects nothing has no intercept, and keeps its centroid.
    """
    if setting.rules.moving_centroids:
        table.direction = cells.run(Correct(effects.W))
        return Y
    Y = turned(Y, effects.intercept)
    table.replace(cells.run(CorrectAndAssign(effects.W, Y)))
    return Y


def _history(setting: Setting) -> History:
    params = setting.params
    return History(
        tol_harmony=params.tol_harmony or 0.0,
        tol_clustering=params.tol_clustering or 0.0,
        max_iter_harmony=params.max_iter_harmony,
        early_stop=params.early_stop,
    )


def composition(setting: Setting, n_blocks: int) -> Composition:
    """Return the table O that this setting's penalties read."""
    fixed = FixedPoint(setting.n_cells)
    if setting.params.sync == "batch":
        tables = setting.level_share, setting.covariates, setting.n_clusters
        return ApartComposition(*tables, fixed, n_blocks)
    return Composition(setting.level_share, setting.covariates[0], setting.n_clusters, fixed)
