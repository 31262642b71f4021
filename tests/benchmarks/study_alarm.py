"""Whether the over-correction alarm fires where it should; the truth is known.

    python tests/benchmarks/study_alarm.py --half design --csv design.csv   # for the thresholds
    python tests/benchmarks/study_alarm.py --half final  --csv final.csv    # once, for the table
    python tests/benchmarks/study_alarm.py --half real                      # real sets, no truth

The scenarios of `pooled.worlds`, and four more in each half in which batches share few types; each
with theta from 0 to 32, and with a sigma of 0.3. Truth is the share of the 30 nearest neighbours of
the batch-free embedding that a run recovers. A run is over-corrected when one that mixes batches
less recovers more by a ninth, good within 2 % of the best. `--seeds 100,101` takes some seeds,
`--cells N` others than 1,500, `--read FILE...` makes the table of kept figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from pooled import figures, worlds  # noqa: E402
from pooled.measures import shared_neighbors  # noqa: E402

from harmonypy_lite import datasets  # noqa: E402
from harmonypy_lite.design import Design, design_from_columns  # noqa: E402
from harmonypy_lite.metrics.inputs import Categories, as_categories  # noqa: E402
from harmonypy_lite.params import HarmonyParams  # noqa: E402
from harmonypy_lite.theta import diagnostics  # noqa: E402
from harmonypy_lite.theta.measure import N_MEASURED  # noqa: E402
from harmonypy_lite.theta.runs import Runs  # noqa: E402
from harmonypy_lite.theta.sweep import probe_of  # noqa: E402
from harmonypy_lite.threads import Workers  # noqa: E402

RUNS: list[dict[str, Any]] = [
    *({"theta": theta} for theta in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
    {"theta": 2.0, "sigma": 0.3},
    {"theta": 8.0, "sigma": 0.3},
]
#: Batches that share few types: arguments of `datasets.simulate`.
SHARING_LITTLE: dict[str, dict[str, dict[str, Any]]] = {
    "design": {
        "confounded": {"n_types": 6, "confounded": 0.7},
        "two thirds missing": {
            "n_batches": 4, "n_types": 8, "missing_types": 0.6, "batch_strength": 4.0,
        },
        "skewed, close types": {"composition_skew": 2.5, "type_separation": 5.0},
        "halves": {"n_batches": 2, "n_types": 8, "missing_types": 0.5, "batch_strength": 5.0},
    },
    "final": {
        "strongly confounded": {"n_batches": 5, "confounded": 0.9, "batch_strength": 2.0},
        "60 % missing": {"n_types": 9, "missing_types": 0.6, "batch_strength": 5.0},
        "skewed, 4 types": {
            "n_batches": 4, "n_types": 4, "composition_skew": 3.0, "batch_strength": 4.0,
        },
        "missing, per type": {
            "n_batches": 2, "n_types": 6, "missing_types": 0.4, "batch_strength": 2.0,
            "type_strength": 2.0,
        },
    },
}  # fmt: skip


def simulated(half: str, n_cells: int, seed: int) -> Iterator[worlds.World]:
    yield from worlds.simulated(half, n_cells, seed)
    for name, given in SHARING_LITTLE[half].items():
        adata = datasets.simulate(n_cells, rng=seed, **given)
        label = adata.obs.pop("cell_type").to_numpy()
        Z, truth = adata.obsm["X_pca"], adata.obsm["X_truth"]
        yield worlds.World(name, "embedding", seed, Z, adata.obs, label, truth)


def studied(world: worlds.World, half: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each run: what it recovered, and what the alarm said."""
    n = len(world.Z)
    joined = world.frame.astype(str).agg(" ".join, axis=1)  # levels of all covariates
    batches = as_categories(joined.to_numpy(), n, "batch")
    label = None if world.label is None else as_categories(world.label, n, "label")
    design = design_from_columns(world.frame)
    with Workers(None) as workers:
        runs = Runs(world.Z, design, world.seed, workers)
        for given in RUNS:
            Z_hat = runs.run(HarmonyParams(**given)).embedding
            row = {"half": half, "scenario": world.name, "seed": world.seed}
            row["run"] = ", ".join(f"{name} {value:g}" for name, value in given.items())
            if world.truth is not None:
                row["recovery"] = shared_neighbors(world.truth, Z_hat, 30)
            found = diagnosed(world.Z, Z_hat, batches, design, None)
            row |= {"mixing": found.overall["mixing_after"], "without": found.alarm}
            if label is not None:
                row["with labels"] = diagnosed(world.Z, Z_hat, batches, design, label).alarm
            yield row


def diagnosed(
    Z: np.ndarray, Z_hat: np.ndarray, batches: Categories, design: Design, label: Categories | None
) -> diagnostics.Diagnosis:
    known = None if label is None else (np.ones(len(Z), bool), label)
    params = HarmonyParams()
    probe = probe_of(Z, batches, known, params, 0, N_MEASURED)
    return diagnostics.diagnose(probe, Z_hat, batches, design, params, confounding={}, seed=0)


def collect(given: argparse.Namespace) -> pd.DataFrame:
    if given.half == "real":
        folder = datasets.folder() or REPOSITORY.parent / "shared" / "data"
        found = [w for half in worlds.REAL for w in worlds.real(half, folder, 3000)]
    else:
        seeds = figures.seeds(given)
        found = [w for seed in seeds for w in simulated(given.half, given.cells, seed)]
    return pd.DataFrame([row for world in found for row in studied(world, given.half)])


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Add which runs are over-corrected, good, or neither."""
    parts = []
    for _, part in table.groupby(["scenario", "seed"], sort=False):
        recovery, mixing = part["recovery"].to_numpy(), part["mixing"].to_numpy()
        kind = np.where(recovery >= 0.98 * recovery.max(), "good", "between").astype(object)
        for i in range(len(part)):
            gentler = recovery[mixing < mixing[i]]
            if gentler.size and recovery[i] <= 0.9 * gentler.max():
                kind[i] = "over-corrected"
        parts.append(part.assign(kind=kind))
    return pd.concat(parts)


def show(table: pd.DataFrame) -> None:
    signs = ["with labels", "without"]
    if "recovery" not in table:
        for sign in signs:
            fired = table[table[sign] == True]  # noqa: E712 - NaN without labels
            print(f"{sign}:", fired.groupby("run", sort=False)["scenario"].unique().to_dict())
        return
    table = judged(table)
    for scenario, part in table.groupby("scenario", sort=False):
        counts = [
            f"{int(own[sign].sum())} of {len(own)}"
            for kind in ("over-corrected", "good")
            for own in [part[part["kind"] == kind]]
            for sign in signs
        ]
        print(f"| {scenario} | {' | '.join(counts)} |")
    for kind, part in table.groupby("kind"):
        rates = ", ".join(f"{sign} {part[sign].mean():.1%}" for sign in signs)
        print(f"{kind}: {len(part)} runs; the alarm fires in {rates}")


def main() -> None:
    show(figures.table(figures.options(__doc__, "real").parse_args(), collect))


if __name__ == "__main__":
    main()
