"""Two totals, both 0.4 batch + 0.6 biology (Luecken et al. 2022), of means over metrics.

`scib` averages the raw values of scib-metrics' set, as this package defines them. `robust`
averages calibrated values and leaves all silhouettes out. A total needs both kinds: a batch metric
alone is never one, since a random embedding mixes perfectly. What could not be computed is named,
not silently averaged over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from harmonypy_lite.metrics.suite import METRICS, Result

WEIGHTS = {"batch": 0.4, "biology": 0.6}

SCIB = (
    "bras",
    "ilisi",
    "kbet_per_label",
    "graph_connectivity",
    "pcr_comparison",
    "isolated_labels",
    "nmi",
    "ari",
    "silhouette_label",
    "clisi",
)
ROBUST = ("ilisi", "cilisi", "pcr_comparison", "graph_connectivity", "clisi", "nmi", "ari")


class Total(NamedTuple):
    """One total; NaN with the reason when one kind has no value."""

    name: str
    value: float
    reason: str


def totals(results: Iterable[Result]) -> list[Total]:
    """Return `scib` and `robust` of the results of one embedding and batch column."""
    scores = {result.metric: result.score for result in results if result.score is not None}
    raw = {name: score.raw for name, score in scores.items()}
    calibrated = {name: score.calibrated for name, score in scores.items()}
    return [total("scib", SCIB, raw), total("robust", ROBUST, calibrated)]


def total(name: str, members: tuple[str, ...], values: dict[str, float]) -> Total:
    """Average `values` of the `members` by kind and weigh the kinds."""
    held = {member: values.get(member, np.nan) for member in members}
    missing = [member for member, value in held.items() if np.isnan(value)]
    without = f"without {', '.join(missing)}" if missing else ""
    value = 0.0
    for kind, weight in WEIGHTS.items():
        part = [v for member, v in held.items() if METRICS[member].kind == kind]
        part = [v for v in part if not np.isnan(v)]
        if not part:
            return Total(name, float("nan"), f"no {kind} metric could be computed")
        value += weight * float(np.mean(part))
    return Total(name, value, without)
