"""What one run did: movement, composition of clusters, and an alarm where biology went with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.method import start
from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.metrics.inputs import Categories
from harmonypy_lite.metrics.neighbors import find_neighbors
from harmonypy_lite.theta.measure import MIXED, Probe
from harmonypy_lite.theta.results import Diagnosis

TORN = 0.75
"""A cluster whose cells kept less of their neighbours inside batches is torn."""

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
    confounding
        Cramer's V of the protected columns.
    seed
        Of the clusters.
    """
    found = Clusters(probe.Z, Z_hat, probe.places, seed)
    shift = probe.shift(Z_hat)
    clusters = _clusters(probe, Z_hat, batches, found)
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
    probe: Probe, Z_hat: NDArray[np.floating], batches: Categories, found: Clusters
) -> Any:
    import pandas as pd

    pairs = _pairs(found.after, found.n, batches)
    cluster = found.after[probe.places]
    kept = probe.kept(Z_hat)
    rows = []
    for k in range(found.n):
        own = kept[cluster == k]
        own = own[~np.isnan(own)]
        rows.append((k, len(own), own.mean() if len(own) else np.nan))
    table = pd.DataFrame(rows, columns=["cluster", "n_measured", "kept"])
    table.insert(1, "n_cells", pairs.sum(axis=1))
    # a level counts as present with a tenth of the cells that it would have if spread evenly
    expected = pairs.sum(axis=1, keepdims=True) * (batches.sizes / batches.sizes.sum())
    present = (pairs > 0) & (pairs >= 0.1 * expected)
    table.insert(2, "n_levels", present.sum(axis=1))
    table["few_levels"] = (2 * table["n_levels"] <= batches.n) & (table["n_cells"] > 0)
    enough = table["n_measured"] >= FEWEST
    table["torn"] = enough & (table["kept"] < TORN)
    lost, types = _merged(probe, Z_hat, cluster, found.n)
    table["merged"], table["types"] = lost, types
    # labels say directly what torn neighbourhoods only hint at
    table["alarm"] = table["torn"] if probe.labels is None else enough & (lost > MERGED)
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
    labelled = clusters["merged"].notna().any()
    shown = []
    for row in alarmed.head(5).to_dict(orient="records"):
        if labelled:
            shown.append(f"{row['cluster']} ({row['types']}: {row['merged']:.0%})")
        else:
            shown.append(f"{row['cluster']} ({row['kept']:.0%} kept)")
    more = f" and {len(alarmed) - 5} more" if len(alarmed) > 5 else ""
    what = (
        "types merged: cells see fewer cells of their own type than before by"
        if labelled
        else "neighbourhoods inside batches were torn"
    )
    return f"Over-correction in {len(alarmed)} clusters, {what}: {', '.join(shown)}{more}."
