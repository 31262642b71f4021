"""What a sweep, a null calibration, a test and a diagnosis return: frozen, and plain as a dict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["correct", "no correction needed", "cannot be told apart"]

#: Columns of the table of a sweep, in their order; those of labels are NaN where there are none.
COLUMNS = (
    "value",
    "mixing",
    "mixing_se",
    "structure",
    "structure_se",
    "clisi",
    "nmi",
    "ari",
    "displacement",
    "objective",
    "iterations",
    "seconds",
    "pareto",
)


class _Plain:
    """A dataclass that gives itself as plain numbers, texts, lists and dicts."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; what is not finite becomes None."""
        return {entry.name: plain(getattr(self, entry.name)) for entry in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class NullCalibration(_Plain):
    """What the integration does where there is nothing to correct, beside the real run.

    Attributes
    ----------
    displacement
        (n_splits,) median over cells of how far they moved, with cells dealt at random to
        pseudo-batches of the sizes of the real ones, in units of the spread within clusters (or
        types) and batches.
    neighbor_change
        (n_splits,) mean share of the 15 nearest neighbours that cells lost.
    real_displacement, real_neighbor_change
        The same of the real run; neighbours inside its batches.
    n_splits
        How often cells were dealt.
    n_measured
        Cells that were looked at for neighbours.
    parameters
        Of the runs.
    """

    displacement: tuple[float, ...]
    neighbor_change: tuple[float, ...]
    real_displacement: float
    real_neighbor_change: float
    n_splits: int
    n_measured: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class MixingTest(_Plain):
    """Batch mixing of an embedding against its permutation distribution.

    Attributes
    ----------
    mixing
        Mean inverse Simpson index of the batches among the 30 nearest neighbours.
    expected, expected_sd
        Its mean and standard deviation with batches shuffled among the cells.
    effect
        Share of the mixing to be had that is missing: 0 (as shuffled batches) to 1 (batches apart).
    p_value
        Share of shuffles that mixed no better; (1 + found) / (1 + shuffles).
    clusters
        One row for each cluster: cluster, n_cells, mixing, expected, effect, p_value, and
        p_adjusted (Holm); shuffles stay inside the cluster.
    needed
        Whether `effect` is large enough to matter and `p_value` small enough to be believed.
    reason
        The answer in plain words.
    n_permutations, n_measured
        Shuffles, and cells that were looked at.
    """

    mixing: float
    expected: float
    expected_sd: float
    effect: float
    p_value: float
    clusters: pd.DataFrame
    needed: bool
    reason: str
    n_permutations: int
    n_measured: int


@dataclass(frozen=True)
class Sweep(_Plain):
    """Runs that differ in one parameter, what each gained and cost, and which to take.

    Attributes
    ----------
    vary
        The parameter that differs.
    table
        One row for each value: value; mixing (mean inverse Simpson index of the batches among the
        30 nearest neighbours) and structure (share of each cell's 15 nearest neighbours in its
        batch that it kept), each with its standard error; clisi, nmi, ari (NaN without labels);
        displacement (median, in units of the spread within clusters or types); objective,
        iterations, seconds; pareto (no other value is better in both mixing and structure).
    before
        Mixing, structure (1) and, with labels, clisi, nmi, ari of the input; and
        `mixing_expected`, the mixing that shuffled batches would have.
    null
        The null calibration of the run that is recommended, or of the defaults; None if it was
        not asked for.
    recommended
        The value to take; None where the verdict is another than "correct".
    interval
        Smallest and largest value that single seeds recommend (in the order of the table); None
        where none is recommended.
    verdict
        "correct", "no correction needed" or "cannot be told apart".
    reason
        The verdict in plain words.
    rule
        The rule that chose.
    votes
        For each seed the value that it alone would recommend, or None.
    parameters
        Of all runs, but for the one that differs; and the settings of the measurements.
    versions
        Of all that the bytes may depend on.
    """

    vary: str
    table: pd.DataFrame
    before: dict[str, float]
    null: NullCalibration | None
    recommended: Any
    interval: tuple[Any, Any] | None
    verdict: Verdict
    reason: str
    rule: str
    votes: tuple[Any, ...]
    parameters: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True)
class Diagnosis(_Plain):
    """What one run did to the cells, clusters and batches.

    Attributes
    ----------
    shift
        (N,) how far each cell moved, in units of the spread within its cluster and batch.
    displacement
        One row for each cluster and level: cluster, level, n_cells, median, q90 of `shift`.
    composition
        One row for each cluster and level: cluster, level, observed (cells of the level in the
        cluster) before and after, and expected (if levels were spread evenly).
    clusters
        One row for each cluster: n_cells, n_levels (levels that have cells there), few_levels,
        n_measured; kept (mean share of neighbours inside batches that were kept) and uneven
        (standard deviation of the log ratio of distances after and before, to far cells of the
        batch), both also of a run over random batches; merged (with labels: by how much neighbours
        of other types increased), types; torn, bent, alarm.
    alarm
        Whether any cluster is over-corrected.
    reason
        What the alarm saw, in plain words.
    confounding
        Cramer's V of each protected column with each batch column.
    overall
        Mixing before and after, structure, expected mixing.
    """

    shift: np.ndarray
    displacement: pd.DataFrame
    composition: pd.DataFrame
    clusters: pd.DataFrame
    alarm: bool
    reason: str
    confounding: dict[str, dict[str, float]]
    overall: dict[str, float]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; data frames become lists of rows.

    Examples
    --------
    >>> plain({"a": np.float64("nan"), "b": (1, np.int64(2))})
    {'a': None, 'b': [1, 2]}
    """
    if isinstance(value, _Plain):
        return value.to_dict()
    if hasattr(value, "iterrows"):
        return [plain(row) for row in value.to_dict(orient="records")]
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
