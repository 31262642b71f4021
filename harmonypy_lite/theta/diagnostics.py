"""What one run did: movement, composition of clusters, and an alarm where biology went with it.

The alarm holds the run against one over random batches, which tears and bends by noise alone. Its
thresholds were chosen on the first half of the scenarios of tests/benchmarks/study_theta.py, and
so that the default does not raise it on real sets whose labels stay apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.design import Design
from harmonypy_lite.method import start
from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.metrics.inputs import Categories
from harmonypy_lite.metrics.neighbors import find_neighbors
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.theta import null
from harmonypy_lite.theta.distortion import stretch, unevenness
from harmonypy_lite.theta.measure import MIXED, Probe
from harmonypy_lite.theta.results import Diagnosis

TORN = 0.045
"""A cluster is torn that kept so much less of its neighbours inside batches than random ones."""

BENT = 0.039
"""A cluster is bent whose distances changed so much less evenly than with random batches."""

WIDE = 0.2
"""Torn or bent clusters raise the alarm if they have this share of the cells: few are often."""

MERGED = 0.3
"""A cluster whose cells see so much less of their own type than before holds merged types."""

FEWEST = 20
"""Cells below which a cluster raises no alarm."""

_CELLS_PER_CLUSTER, _MOST_CLUSTERS = 100, 30


class Clusters:
    """Clusters of the result, and where the cells stood in them before.

    Parameters
    ----------
    Z, Z_hat
        (N, d) before and after.
    places
        Cells that the centroids are made from.
    seed
        Of the centroids.
    """

    def __init__(
        self,
        Z: NDArray[np.floating],
        Z_hat: NDArray[np.floating],
        places: NDArray[np.int64],
        seed: int,
    ) -> None:
        self.n = int(np.clip(len(places) // _CELLS_PER_CLUSTER, 2, _MOST_CLUSTERS))
        Y = start.start_centroids(Z_hat[places], self.n, np.random.default_rng([seed, 6]))
        self.before, self.after = (nearest(points, Y) for points in (Z, Z_hat))


def nearest(points: NDArray[np.floating], Y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest centroid (N,) of each cell."""
    found = np.empty(len(points), np.int64)
    for first in range(0, len(points), 2**16):
        rows = slice(first, first + 2**16)
        found[rows] = (unit_rows(np.asarray(points[rows], np.float64)) @ Y.T).argmax(axis=1)
    return found


def diagnose(
    probe: Probe,
    Z_hat: NDArray[np.floating],
    batches: Categories,
    design: Design,
    params: HarmonyParams,
    *,
    confounding: dict[str, dict[str, float]],
    seed: int,
) -> Diagnosis:
    """Compare the cells before and after.

    Parameters
    ----------
    probe
        The input, with labels if there are any.
    Z_hat
        (N, d) the result.
    batches
        Of all cells.
    design, params
        Of the run over random batches that tells how much is noise.
    confounding
        Cramer's V of the protected columns.
    seed
        Of the clusters.
    """
    found = Clusters(probe.Z, Z_hat, probe.places, seed)
    shift = probe.shift(Z_hat)
    noise = next(null.runs_over_random_batches(probe, design, params, seed, 1))
    clusters = _clusters(probe, Z_hat, batches, found, noise, seed)
    alarmed = clusters[clusters["alarm"]]
    after = probe.measure(Z_hat, clusters=False)
    overall = {
        "mixing_before": probe.before.mixing,
        "mixing_after": after.mixing,
        "mixing_expected": probe.expected[0],
        "structure": after.structure,
        "displacement": after.displacement,
        "n_measured": len(probe.places),
    }
    return Diagnosis(
        shift,
        _displacement(shift, batches, found),
        _composition(batches, found),
        clusters,
        bool(len(alarmed)),
        _reason(clusters),
        confounding,
        overall,
    )


def _pairs(clusters: NDArray[np.int64], n: int, batches: Categories) -> NDArray[np.int64]:
    """Return how many cells (n, B) each cluster has of each batch."""
    at = clusters * batches.n + batches.codes
    return np.bincount(at, minlength=n * batches.n).reshape(n, batches.n)


def _displacement(shift: NDArray[np.float64], batches: Categories, found: Clusters) -> Any:
    import pandas as pd

    frame = pd.DataFrame({"cluster": found.after, "code": batches.codes, "shift": shift})
    grouped = frame.groupby(["cluster", "code"], sort=True)["shift"]
    table = grouped.agg(
        n_cells="size", median="median", q90=lambda each: each.quantile(0.9)
    ).reset_index()
    table.insert(1, "level", [str(batches.names[code]) for code in table.pop("code")])
    return table


def _composition(batches: Categories, found: Clusters) -> Any:
    import pandas as pd

    before, after = (_pairs(c, found.n, batches) for c in (found.before, found.after))
    share = batches.sizes / batches.sizes.sum()
    cluster, level = (grid.ravel() for grid in np.indices(after.shape))
    return pd.DataFrame(
        {
            "cluster": cluster,
            "level": [str(batches.names[code]) for code in level],
            "observed_before": before.ravel(),
            "expected_before": (before.sum(axis=1, keepdims=True) * share).ravel(),
            "observed_after": after.ravel(),
            "expected_after": (after.sum(axis=1, keepdims=True) * share).ravel(),
        }
    )


def _clusters(
    probe: Probe,
    Z_hat: NDArray[np.floating],
    batches: Categories,
    found: Clusters,
    noise: tuple[Probe, NDArray[np.floating]],
    seed: int,
) -> Any:
    import pandas as pd

    pairs = _pairs(found.after, found.n, batches)
    # a level counts as present with a tenth of the cells that it would have if spread evenly
    expected = pairs.sum(axis=1, keepdims=True) * (batches.sizes / batches.sizes.sum())
    present = (pairs > 0) & (pairs >= 0.1 * expected)
    table = pd.DataFrame({"cluster": np.arange(found.n), "n_cells": pairs.sum(axis=1)})
    table["n_levels"] = present.sum(axis=1)
    table["few_levels"] = (2 * table["n_levels"] <= batches.n) & (table["n_cells"] > 0)
    cluster = found.after[probe.places]
    pair = [each.kept(moved) for each, moved in ((probe, Z_hat), noise)]
    both = ~np.isnan(pair[0] + pair[1])
    table["n_measured"] = np.bincount(cluster[both], minlength=found.n)
    for name, kept in zip(("kept", "kept_random"), pair, strict=True):
        sums = np.bincount(cluster[both], kept[both], minlength=found.n)
        table[name] = sums / table["n_measured"].where(table["n_measured"] > 0)
    for name, (each, moved) in (("uneven", (probe, Z_hat)), ("uneven_random", noise)):
        table[name] = unevenness(stretch(each, moved, seed), cluster, found.n)
    table["merged"], table["types"] = _merged(probe, Z_hat, cluster, found.n)
    return _alarmed(table, labelled=probe.labels is not None)


def _alarmed(table: Any, *, labelled: bool) -> Any:
    """Add which clusters are torn, are bent, and raise the alarm."""
    enough = table["n_measured"] >= FEWEST
    table["torn"] = enough & (table["kept_random"] - table["kept"] >= TORN)
    table["bent"] = enough & (table["uneven"] - table["uneven_random"] >= BENT)
    size = table["n_measured"].where(enough, 0)

    def wide(flagged: Any) -> Any:
        return flagged & (size[flagged].sum() >= WIDE * max(1, size.sum()))

    torn = wide(table["torn"])
    if labelled:  # labels say directly what bent distances only hint at
        table["alarm"] = torn | (enough & (table["merged"] >= MERGED))
    else:  # distances bend at both their ends, so that torn clusters are the better names
        table["alarm"] = torn if torn.any() else wide(table["bent"])
    return table


def _merged(
    probe: Probe, Z_hat: NDArray[np.floating], cluster: NDArray[np.int64], n: int
) -> tuple[NDArray[np.float64], list[str]]:
    """Of each cluster, how much less its cells see of their own type, and its two main types."""
    if probe.labels is None:
        return np.full(n, np.nan), [""] * n
    cells, labels = probe.labels
    places = probe.places[cells]
    k = min(MIXED, len(cells) - 1)
    seen = []
    for points in (probe.Z, Z_hat):
        near = find_neighbors(points[places], k, n_jobs=probe.n_jobs).indices
        seen.append((labels.codes[near] == labels.codes[:, None]).mean(axis=1))
    lost, of = seen[0] - seen[1], cluster[cells]
    size = np.bincount(of, minlength=n)
    mean = np.bincount(of, lost, minlength=n) / np.maximum(size, 1)
    names = []
    for each in range(n):
        counts = np.bincount(labels.codes[of == each], minlength=labels.n)
        main = [c for c in np.argsort(-counts, kind="stable")[:2] if counts[c]]
        names.append(" + ".join(str(labels.names[c]) for c in main))
    return np.where(size > 0, mean, np.nan), names


def _reason(clusters: Any) -> str:
    alarmed = clusters[clusters["alarm"]]
    if not len(alarmed):
        return "No sign of over-correction."
    shown: dict[str, list[str]] = {}
    for row in alarmed.head(5).to_dict(orient="records"):
        sign, measured = _sign(row)
        name = f"{row['cluster']} ({row['types']}: " if row["types"] else f"{row['cluster']} ("
        shown.setdefault(sign, []).append(f"{name}{measured})")
    signs = "; ".join(f"{sign} in {', '.join(names)}" for sign, names in shown.items())
    more = f"; and {len(alarmed) - 5} more" if len(alarmed) > 5 else ""
    share = alarmed["n_cells"].sum() / clusters["n_cells"].sum()
    many = f"{len(alarmed)} cluster{'s' * (len(alarmed) != 1)} with {share:.0%} of the cells"
    return f"Over-correction in {many}: {signs}{more}."


def _sign(row: dict[Any, Any]) -> tuple[str, str]:
    """Say why one cluster raises the alarm, the plainest of its signs, and by how much."""
    if row["merged"] >= MERGED:
        return "cells see fewer of their own type", f"{row['merged']:.0%}"
    if row["torn"]:
        sign = "neighbours inside batches were lost (kept, by random batches)"
        return sign, f"{row['kept']:.0%}, {row['kept_random']:.0%}"
    sign = "distances inside batches changed unevenly (by, by random batches)"
    return sign, f"{row['uneven']:.1%}, {row['uneven_random']:.1%}"
