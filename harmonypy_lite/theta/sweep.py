"""The sweep: runs from one start, each measured, and the rule's reading of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.design import Design
from harmonypy_lite.method import start
from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.metrics.inputs import Categories
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import plain_parameters, versions
from harmonypy_lite.theta import null, verdict
from harmonypy_lite.theta.measure import Measured, Probe, sample_of, spread
from harmonypy_lite.theta.results import COLUMNS, NullCalibration, Sweep
from harmonypy_lite.theta.runs import Run, Runs
from harmonypy_lite.threads import Workers


@dataclass(frozen=True)
class Plan:
    """How a sweep is made.

    Attributes
    ----------
    vary, values
        The parameter that differs, and its values in order.
    n_seeds
        Starts; each runs all values.
    n_splits
        Random batches of the null calibration; 0: none.
    n_measured
        Cells that are looked at for neighbours, about.
    """

    vary: str
    values: tuple[Any, ...]
    n_seeds: int
    n_splits: int
    n_measured: int


class Step(NamedTuple):
    """One run of a sweep, as it is made; what a caller may watch."""

    place: int
    seed: int
    run: Run
    measured: Measured
    seconds: float


def seeds_of(first: int, n: int) -> list[int]:
    """Return `n` seeds, the first as given."""
    more = np.random.default_rng([first, 3]).integers(2**31, size=max(0, n - 1))
    return [first, *(int(seed) for seed in more)]


def probe_of(
    Z: NDArray[np.floating],
    batches: Categories,
    labels: tuple[NDArray[np.bool_], Categories] | None,
    params: HarmonyParams,
    seed: int,
    n_measured: int,
) -> Probe:
    """Choose the cells that are looked at, and the unit of displacement.

    `labels` are a mask (N,) of the cells that have one, and the labels of those.
    """
    places = sample_of(batches, n_measured, np.random.default_rng([seed, 4]))
    points, own = Z[places], batches.only(places)
    known = None
    groups = nearest_of(points, params.clusters_for(len(Z)), seed)
    if labels is not None:
        mask, column = labels
        cells = np.flatnonzero(mask[places])
        at = np.cumsum(mask)[places[cells]] - 1
        if len(np.unique(column.codes[at])) > 1:
            known = cells, column.only(at)
            groups = np.full(len(places), column.n)  # cells without a label are a group
            groups[cells] = column.codes[at]
    unit = spread(points, groups.astype(np.int64) * own.n + own.codes)
    return Probe(Z, places, own, unit, known, params.n_jobs, batches.codes)


def nearest_of(points: NDArray[np.floating], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster (m,) of each cell: the nearest centroid of a start on these cells."""
    n_clusters = min(n_clusters, max(1, len(points) // 10))
    Y = start.start_centroids(points, n_clusters, np.random.default_rng([seed, 5]))
    return (unit_rows(np.asarray(points, np.float64)) @ Y.T).argmax(axis=1)


def sweep(
    probe: Probe,
    design: Design,
    params: HarmonyParams,
    seed: int,
    plan: Plan,
    watch: Callable[[Step], None] = lambda step: None,
) -> Sweep:
    """Run, measure and judge.

    Parameters
    ----------
    probe
        The cells, and what is measured of them.
    design
        Levels of the cells.
    params
        Of all runs, but for the one that differs.
    seed
        Of the first start.
    plan
        What differs and how often.
    watch
        Called after each run.
    """
    seeds = seeds_of(seed, plan.n_seeds)
    steps = []
    with Workers(params.n_jobs) as workers:
        for each in seeds:
            runs = Runs(probe.Z, design, each, workers, keep=params.memory == "fast")
            for place, value in enumerate(plan.values):
                began = time.perf_counter()
                run = runs.run(replace(params, **{plan.vary: value}))
                seconds = time.perf_counter() - began
                # clusters of labels cost more than the run: once is enough
                measured = probe.measure(run.embedding, clusters=each == seed)
                step = Step(place, each, run, measured, seconds)
                watch(step)
                steps.append(step._replace(run=run._replace(embedding=np.empty((0, 0)))))
    return _judged(probe, design, params, seed, plan, steps)


def _judged(
    probe: Probe,
    design: Design,
    params: HarmonyParams,
    seed: int,
    plan: Plan,
    steps: list[Step],
) -> Sweep:
    by_seed = [list(g) for _, g in itertools.groupby(steps, key=lambda step: step.seed)]
    default = _default_place(plan)
    evidence = [_evidence(probe, part, default) for part in by_seed]
    whole = _mean(evidence)
    place = verdict.best(whole)
    best = replace(params, **{plan.vary: plan.values[place]})
    calibration = _calibration(probe, design, best, seed, plan, by_seed[0][place].measured)
    noise = None
    if calibration is not None:
        noise = 1 - float(np.mean(calibration.neighbor_change))
    decision = verdict.decide(whole, noise)
    votes = [verdict.decide(part, noise).place for part in evidence]
    span = verdict.span_of(votes) if decision.place is not None else None
    value = None if decision.place is None else plan.values[decision.place]
    return Sweep(
        plan.vary,
        _table(plan.values, by_seed),
        _before(probe),
        calibration,
        value,
        None if span is None else (plan.values[span[0]], plan.values[span[1]]),
        decision.verdict,
        decision.reason,
        verdict.rule(),
        tuple(None if p is None else plan.values[p] for p in votes),
        _parameters(params, plan, probe),
        versions(),
    )


def _default_place(plan: Plan) -> int:
    usual = getattr(HarmonyParams().resolved(), plan.vary)
    return plan.values.index(usual) if usual in plan.values else 0


def _evidence(probe: Probe, steps: Sequence[Step], default: int) -> verdict.Evidence:
    expected, sd = probe.expected
    return verdict.Evidence(
        np.array([step.measured.mixing for step in steps]),
        np.array([step.measured.structure for step in steps]),
        probe.before.mixing,
        expected,
        sd,
        default,
    )


def _mean(evidence: Sequence[verdict.Evidence]) -> verdict.Evidence:
    mixing = np.mean([each.mixing for each in evidence], axis=0)
    structure = np.mean([each.structure for each in evidence], axis=0)
    return evidence[0]._replace(mixing=mixing, structure=structure)


def _calibration(
    probe: Probe,
    design: Design,
    params: HarmonyParams,
    seed: int,
    plan: Plan,
    real: Measured,
) -> NullCalibration | None:
    if not plan.n_splits:
        return None
    found = null.Null(real.displacement, 1 - real.structure)
    return null.calibrate(probe, design, params, seed, plan.n_splits, found)


def _table(values: Sequence[Any], by_seed: list[list[Step]]) -> Any:
    import pandas as pd

    rows = []
    for place, value in enumerate(values):
        steps = [part[place] for part in by_seed]
        of = {
            name: np.array([getattr(step.measured, name) for step in steps])
            for name in Measured._fields
        }
        more = {
            "objective": np.mean([step.run.outcome.history.objective[-1] for step in steps]),
            "iterations": np.mean([len(step.run.outcome.history.rounds) for step in steps]),
            "seconds": np.mean([step.seconds for step in steps]),
        }
        row = {name: float(known.mean()) for name, known in of.items()} | more
        for name in ("nmi", "ari"):  # of the first seed alone
            row[name] = float(of[name][0])
        for name in ("mixing", "structure"):
            # all seeds look at the same cells, so that error does not shrink with their number
            between = of[name].std(ddof=1) / np.sqrt(len(steps)) if len(steps) > 1 else 0.0
            row[f"{name}_se"] = float(np.hypot(of[f"{name}_se"].mean(), between))
        rows.append({"value": value, **row})
    table = pd.DataFrame(rows)
    front = verdict.pareto(table["mixing"].to_numpy(), table["structure"].to_numpy())
    return table.assign(pareto=front)[list(COLUMNS)]


def _before(probe: Probe) -> dict[str, float]:
    before = probe.before._asdict()
    kept = ("mixing", "structure", "clisi", "nmi", "ari")
    return {name: before[name] for name in kept} | {"mixing_expected": probe.expected[0]}


def _parameters(params: HarmonyParams, plan: Plan, probe: Probe) -> dict[str, Any]:
    shared = plain_parameters(params.resolved())
    shared.pop(plan.vary)
    return shared | {
        "vary": plan.vary,
        "values": list(plan.values),
        "n_seeds": plan.n_seeds,
        "n_splits": plan.n_splits,
        "n_cells": len(probe.Z),
        "n_measured": len(probe.places),
    }
