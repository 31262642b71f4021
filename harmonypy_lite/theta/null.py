"""Where nothing is to be corrected: runs over random batches, and a test of the input.

A calibrated method moves nothing when cells are dealt to batches at random (Antonsson & Melsted
2025, Genome Research). Harmony estimates an effect for every batch in every cluster from few cells,
and so moves every cell by the noise of that estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.design import Design
from harmonypy_lite.metrics.inputs import as_categories
from harmonypy_lite.metrics.neighbors import find_neighbors
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import plain_parameters
from harmonypy_lite.theta.measure import MIXED, Probe, simpson
from harmonypy_lite.theta.results import MixingTest, NullCalibration
from harmonypy_lite.theta.runs import Runs
from harmonypy_lite.theta.verdict import BELIEVED, NEGLIGIBLE, is_needed, missing_share
from harmonypy_lite.threads import Workers

FEWEST = 20
"""Cells below which a cluster is not tested."""

_ALPHA = 0.05


class Null(NamedTuple):
    """One run over random batches."""

    displacement: float
    neighbor_change: float


def runs_over_random_batches(
    probe: Probe, design: Design, params: HarmonyParams, seed: int, n_splits: int
) -> Iterator[tuple[Probe, NDArray[np.float32]]]:
    """Deal the cells to batches of the same sizes and integrate over these; some times.

    Yields the cells with these batches, and the result (N, d).
    """
    rng = np.random.default_rng([seed, 1])
    for _ in range(n_splits):
        order = rng.permutation(len(probe.Z))
        dealt = replace(design, codes=design.codes[order])
        with Workers(params.n_jobs) as workers:
            moved = Runs(probe.Z, dealt, seed, workers, keep=params.memory == "fast").run(params)
        assert probe.codes is not None
        column = as_categories(probe.codes[order][probe.places], len(probe.places), "pseudo-batch")
        yield replace(probe, batches=column), moved.embedding


def calibrate(
    probe: Probe,
    design: Design,
    params: HarmonyParams,
    seed: int,
    n_splits: int,
    real: Null,
) -> NullCalibration:
    """Set runs over random batches beside the real run, whose measures are given."""
    found = [
        Null(dealt.displacement(moved), 1 - float(np.nanmean(dealt.kept(moved))))
        for dealt, moved in runs_over_random_batches(probe, design, params, seed, n_splits)
    ]
    return NullCalibration(
        tuple(each.displacement for each in found),
        tuple(each.neighbor_change for each in found),
        real.displacement,
        real.neighbor_change,
        n_splits,
        len(probe.places),
        plain_parameters(params),
    )


def mixing_test(
    probe: Probe,
    clusters: NDArray[np.integer],
    names: NDArray[Any],
    *,
    n_permutations: int,
    seed: int,
) -> MixingTest:
    """Test the mixing of the input, overall and inside each cluster.

    Parameters
    ----------
    probe
        The cells.
    clusters
        (m,) cluster of each cell that is looked at.
    names
        Of the clusters.
    n_permutations
        Shuffles of the batches.
    seed
        Of the shuffles.
    """
    import pandas as pd

    rng = np.random.default_rng([seed, 2])
    near, batches = probe.neighbors_before.indices, probe.batches
    whole = _shuffled(near, batches.codes, batches.n, n_permutations, rng)
    rows = []
    points = probe.Z[probe.places]
    for cluster, name in enumerate(names):
        cells = np.flatnonzero(clusters == cluster)
        own = batches.only(cells) if len(cells) else None
        if own is None or own.n < 2 or len(cells) < FEWEST:
            rows.append((str(name), len(cells), np.nan, np.nan, np.nan, np.nan))
            continue
        inside = find_neighbors(points[cells], min(MIXED, len(cells) // 2), n_jobs=probe.n_jobs)
        found = _shuffled(inside.indices, own.codes, own.n, n_permutations, rng)
        rows.append((str(name), len(cells), *found.row))
    columns = ["cluster", "n_cells", "mixing", "expected", "effect", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = holm(table["p_value"].to_numpy())
    needed, reason = _answer(whole, table)
    return MixingTest(
        whole.mixing,
        whole.expected,
        whole.sd,
        whole.effect,
        whole.p_value,
        table,
        needed,
        reason,
        n_permutations,
        len(points),
    )


class _Tested(NamedTuple):
    mixing: float
    expected: float
    sd: float
    effect: float
    p_value: float

    @property
    def row(self) -> tuple[float, float, float, float]:
        return self.mixing, self.expected, self.effect, self.p_value

    @property
    def matters(self) -> bool:
        deviation = (self.expected - self.mixing) / max(self.sd, 1e-12)
        return is_needed(self.effect, deviation) and self.p_value <= _ALPHA


def _shuffled(
    near: NDArray[np.int32], codes: NDArray[np.int32], n: int, times: int, rng: np.random.Generator
) -> _Tested:
    mixing = float(simpson(near, codes, n).mean())
    dealt = np.array([simpson(near, rng.permutation(codes), n).mean() for _ in range(times)])
    expected = float(dealt.mean())
    p_value = (1 + int((dealt <= mixing).sum())) / (1 + times)
    sd = float(dealt.std(ddof=1))
    return _Tested(mixing, expected, sd, missing_share(mixing, expected), p_value)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted for their number (Holm 1979); NaN stays, and does not count.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, np.nan])).tolist()
    [0.02, 0.04, nan]
    """
    out = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int((~np.isnan(p_values)).sum())]
    factor = len(order) - np.arange(len(order))
    out[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factor))
    return out


def _answer(whole: _Tested, table: Any) -> tuple[bool, str]:
    share = f"{whole.effect:.1%} of the mixing that shuffled batches have is missing"
    p_value = f"p = {whole.p_value:.2g}"
    concerned = table[(table["effect"] >= NEGLIGIBLE) & (table["p_adjusted"] <= _ALPHA)]
    where = f" In {len(concerned)} of {len(table)} clusters batches mix less than shuffled ones."
    if whole.matters:
        return True, f"Yes: {share} ({p_value}).{where}"
    return False, (
        f"No: {share} ({p_value}), less than {NEGLIGIBLE:.0%} or than {BELIEVED:g} standard "
        f"deviations of the shuffles.{where if len(concerned) else ''}"
    )
