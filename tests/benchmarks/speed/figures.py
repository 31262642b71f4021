"""Numbers that are computed from the runs of a session: medians, ratios, growth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

Comparison = dict[str, Any]  # what `session.compare` returns


class Row(NamedTuple):
    """One contender on one set; None is what is not known."""

    contender: str
    seconds: float
    least: float
    most: float
    faster: float | None  # times as fast as harmonypy
    first: float  # seconds of the first call of this size in a process
    first_faster: float | None
    per_iteration: float | None
    iterations: int | None
    rounds: list[int] | None
    cpus: float  # CPU seconds per second
    peak: int  # bytes above the input
    bytes_per_cell: float
    objective: list[float]  # one for each turn, that is, for each seed
    scores: dict[str, list[float]]  # the same


def rows(comparison: Comparison, against: str = "harmonypy") -> list[Row]:
    """Return a row for each contender that finished."""
    reference, _ = _medians(comparison, against)
    first_reference = _median_of(comparison, against, "first_seconds")
    found = []
    for contender, runs in comparison["runs"].items():
        good = [run for run in runs if "seconds" in run]
        if not good:
            continue
        seconds, per_iteration = _medians(comparison, contender)
        times = [run["seconds"] for run in good]
        first = _median_of(comparison, contender, "first_seconds")
        peak = int(statistics.median(run["peak_above_input"] for run in good))
        found.append(
            Row(
                contender,
                seconds,
                min(times),
                max(times),
                reference and reference / seconds,
                first,
                first_reference and first_reference / first,
                per_iteration,
                good[0]["iterations"],
                good[0]["rounds"],
                statistics.median(run["cpu_seconds"] / run["seconds"] for run in good),
                peak,
                peak / comparison["n_cells"],
                [run["objective"] for run in good if run["objective"] is not None],
                {name: [run["scores"][name] for run in good] for name in good[0]["scores"]},
            )
        )
    return found


def row(comparison: Comparison | None, contender: str) -> Row | None:
    """Return one contender's row."""
    all_rows = rows(comparison) if comparison is not None else []
    return next((each for each in all_rows if each.contender == contender), None)


def _medians(comparison: Comparison, contender: str) -> tuple[Any, Any]:
    """Return the median seconds of a contender, and per iteration."""
    seconds = _median_of(comparison, contender, "seconds")
    if seconds is None:
        return None, None
    good = [run for run in comparison["runs"][contender] if "seconds" in run]
    iterations = good[0]["iterations"]
    return seconds, seconds / iterations if iterations else None


def _median_of(comparison: Comparison, contender: str, name: str) -> Any:
    """Return the median of a number of a contender's runs, None without runs."""
    numbers = [run[name] for run in comparison["runs"].get(contender, []) if name in run]
    return statistics.median(numbers) if numbers else None


def over_floor(comparison: Comparison, contender: str = "lite") -> float | None:
    """Return seconds over those that the arithmetic takes at the speed of the machine."""
    of = row(comparison, contender)
    floor = comparison["floor"].get("seconds")
    if of is None or floor is None or of.per_iteration is None:
        return None
    return of.per_iteration / floor["iteration"]


def same_bytes(comparison: Comparison) -> bool | None:
    """Whether modes and threads of this package made no difference; None if only one ran."""
    ours = [comparison["runs"].get(name, []) for name in ("lite", "lite-lean", "lite-1")]
    hashes = [[run["sha256"] for run in runs if "sha256" in run] for runs in ours]
    hashes = [each for each in hashes if each]
    return None if len(hashes) < 2 else all(each == hashes[0] for each in hashes)


def exponent_in_cells(comparisons: list[Comparison], contender: str) -> float | None:
    """Return the slope of log seconds over log cells, for simulated sets of the same levels."""
    points = [
        (math.log(each["n_cells"]), math.log(found.seconds))
        for each in _one_covariate(comparisons)
        if each["n_levels"] == _base_levels(comparisons)
        and (found := row(each, contender)) is not None
    ]
    if len(points) < 2:
        return None
    x, y = zip(*points, strict=True)
    return statistics.linear_regression(x, y).slope


def growth_in_levels(comparisons: list[Comparison], contender: str) -> dict[str, Any] | None:
    """Return how the seconds grow from the fewest to the most levels, at the largest size."""
    for n_cells in sorted({each["n_cells"] for each in comparisons}, reverse=True):
        same = [each for each in _one_covariate(comparisons) if each["n_cells"] == n_cells]
        same.sort(key=lambda each: each["n_levels"])
        if len(same) > 1:
            few, many = row(same[0], contender), row(same[-1], contender)
            if few is not None and many is not None:
                levels = same[0]["n_levels"][0], same[-1]["n_levels"][0]
                ratio = many.seconds / few.seconds
                return {"n_cells": n_cells, "levels": levels, "ratio": ratio}
    return None


def speed_of_threads(comparison: Comparison) -> float | None:
    """Return the seconds of one thread over those of all."""
    one, all_ = row(comparison, "lite-1"), row(comparison, "lite")
    return None if one is None or all_ is None else one.seconds / all_.seconds


def _one_covariate(comparisons: list[Comparison]) -> Iterator[Comparison]:
    for each in comparisons:
        if each["origin"] == "simulated" and len(each["n_levels"]) == 1:
            yield each


def _base_levels(comparisons: list[Comparison]) -> list[int]:
    return min((each["n_levels"] for each in _one_covariate(comparisons)), default=[])
