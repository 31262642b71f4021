"""Whether the sweep recommends the right theta; the truth is known.

    python tests/benchmarks/study_theta.py --half design --csv design.csv   # for the thresholds
    python tests/benchmarks/study_theta.py --half final  --csv final.csv    # once, for the table
    python tests/benchmarks/study_theta.py --half final --kinds none,real   # no effect; real sets
    python tests/benchmarks/study_theta.py --cost 100000                    # seconds of a sweep

Scenarios, halves and seeds are those of `pooled.worlds`. Truth is the share of the 30 nearest
neighbours of the batch-free embedding that a run recovers. `--seeds 100,101` takes some seeds,
`--read FILE...` makes the tables of kept figures. `study_alarm` does the same for the alarm.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from pooled import figures, worlds  # noqa: E402
from pooled.measures import shared_neighbors  # noqa: E402

from harmonypy_lite import datasets, tl  # noqa: E402
from harmonypy_lite.theta.sweep import Step  # noqa: E402

#: Cells without any batch effect: batches, types, and how unequal the batches are in size.
NO_EFFECT = [(b, t, s) for b in (2, 3, 5, 10) for t in (3, 6, 12) for s in (0.0, 1.0)]
APART = {"n_batches": 2, "n_types": 4, "confounded": 1.0}


def cells(world: worlds.World) -> Any:
    import anndata

    obs = world.frame.reset_index(drop=True)
    obs.index = obs.index.astype(str)
    if world.label is not None:
        obs = obs.assign(label_of_cell=world.label)
    return anndata.AnnData(obs=obs, obsm={"X_pca": world.Z})


def studied(world: worlds.World, half: str) -> dict[str, Any]:
    """Return one row: the sweep's answer, and what each theta recovers."""
    adata, row = cells(world), {"half": half, "scenario": world.name, "seed": world.seed}
    label = "label_of_cell" if world.label is not None else None
    keys = list(world.frame.columns)

    def watch(step: Step) -> None:
        if world.truth is not None:
            recovered = shared_neighbors(world.truth, step.run.embedding, 30)
            row[f"recovery {step.run.params.theta:g}"] = recovered

    found = tl.sweep_theta(adata, keys, label_key=label, n_seeds=1, rng=world.seed, progress=watch)
    at = found.table.set_index("value")
    shown = found.recommended if found.recommended is not None else 2.0
    row |= {
        "verdict": found.verdict,
        "recommended": found.recommended,
        "shown": shown,
        "before": found.before["mixing"],
        "expected": found.before["mixing_expected"],
        "null": found.null.displacement[0],
        "clisi before": found.before["clisi"],
    }
    row |= {name: at.loc[shown, name] for name in ("mixing", "structure", "clisi", "displacement")}
    if world.truth is not None:
        row["recovery input"] = shared_neighbors(world.truth, world.Z, 30)
    return row


def without_effect(n_cells: int, seed: int) -> list[dict[str, Any]]:
    rows = []
    for n_batches, n_types, skew in NO_EFFECT:
        adata = datasets.simulate(
            n_cells, n_batches=n_batches, n_types=n_types, batch_size_skew=skew,
            batch_strength=0.0, rng=seed,
        )  # fmt: skip
        # at random: the simulation spreads each batch evenly over the types
        rng = np.random.default_rng(seed)
        adata.obs["batch"] = rng.permutation(adata.obs["batch"].astype(str))
        found = tl.sweep_theta(adata, "batch", (2,), n_seeds=1, n_splits=0, rng=seed)
        name = f"{n_batches} batches, {n_types} types, sizes {skew:g}"
        rows.append({"half": "none", "scenario": name, "seed": seed, "verdict": found.verdict})
    return rows


def confounded(n_cells: int, seed: int) -> dict[str, Any]:
    adata = datasets.simulate(n_cells, rng=seed, **APART)
    found = tl.sweep_theta(adata, "batch", n_seeds=1, rng=seed)
    return {"half": "apart", "scenario": "confounded", "seed": seed, "verdict": found.verdict}


def collect(given: argparse.Namespace) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for seed in figures.seeds(given):
        if "embedding" in given.kinds:
            for place, world in enumerate(worlds.simulated(given.half, given.cells, seed)):
                if place % given.of == given.part:
                    rows.append(studied(world, given.half))
        if "none" in given.kinds:
            rows += without_effect(given.cells, seed)
            rows.append(confounded(given.cells, seed))
    if "real" in given.kinds:
        folder = datasets.folder() or REPOSITORY.parent / "shared" / "data"
        for half in worlds.REAL:
            for world in worlds.real(half, folder, given.most):
                rows.append(studied(world, "real"))
    return pd.DataFrame(rows)


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Return the loss of the recommendation and of the default, of all runs with a truth."""
    of = table.filter(regex=r"^recovery \d")
    table = table[of.notna().all(axis=1)].copy()
    of = of.loc[table.index]
    best = of.max(axis=1)
    chosen = [
        row["recovery input"] if pd.isna(row["recommended"]) else row[f"recovery {row.shown:g}"]
        for _, row in table.iterrows()
    ]
    table["loss"] = 1 - np.array(chosen) / best
    table["default loss"] = 1 - table["recovery 2"] / best
    table["best theta"] = [float(name.split()[1]) for name in of.idxmax(axis=1)]
    return table


def show(table: pd.DataFrame) -> None:
    known = losses(table) if "recovery 2" in table else table[:0]
    for half, part in known.groupby("half"):
        print(f"\n{half}: theta recommended (number of seeds), mean loss, that of the default")
        for scenario, own in part.groupby("scenario", sort=False):
            said = own["recommended"].map(lambda v: "none" if pd.isna(v) else f"{v:g}")
            votes = ", ".join(f"{v} ({n})" for v, n in said.value_counts().items())
            best = ", ".join(f"{v:g}" for v in sorted(own["best theta"].unique()))
            verdicts = ", ".join(own["verdict"].unique())
            print(
                f"| {scenario} | {verdicts} | {votes} | {best} | {own['loss'].mean():.4f} | "
                f"{own['default loss'].mean():.4f} | {own['null'].mean():.3f} |"
            )
        for what, some in (("all", part), ("corrected", part[part["recommended"].notna()])):
            print(
                f"{what} {len(some)}: loss <= 2 % in {(some['loss'] <= 0.02).mean():.1%} "
                f"(default {(some['default loss'] <= 0.02).mean():.1%}); mean "
                f"{some['loss'].mean():.4f}, default {some['default loss'].mean():.4f}"
            )
    for half in ("none", "apart"):
        part = table[table["half"] == half]
        if len(part):
            print(f"\n{half}:", part["verdict"].value_counts().to_dict())
    real = table[table["half"] == "real"]
    for _, row in real.iterrows():
        clisi = "-" if pd.isna(row["clisi"]) else f"{row['clisi before']:.3f}, {row['clisi']:.3f}"
        print(
            f"| {row['scenario']} | {row['verdict']} | {row['recommended']} | {row['before']:.2f}, "
            f"{row['mixing']:.2f} ({row['expected']:.2f}) | {row['structure']:.3f} | {clisi} | "
            f"{row['displacement']:.3f} | {row['null']:.3f} |"
        )


def cost(n_cells: int) -> None:
    adata = datasets.simulate(n_cells, n_dims=50, n_types=20, n_batches=10, batch_strength=4.0)
    tl.sweep_theta(adata[:2000].copy(), "batch", (2,), n_seeds=1)  # compiled before
    for label, n_seeds in ((None, 1), (None, 3), ("cell_type", 1), ("cell_type", 3)):
        began = time.perf_counter()
        found = tl.sweep_theta(adata, "batch", label_key=label, n_seeds=n_seeds)
        seconds = time.perf_counter() - began
        runs = found.table["seconds"].sum() * n_seeds
        print(
            f"{n_cells} cells, {len(found.table)} values, {n_seeds} seeds, labels {label}: "
            f"{seconds:.1f} s, of which runs {runs:.1f} s; {found.parameters['n_measured']} "
            f"cells measured; {found.verdict} {found.recommended}",
            flush=True,
        )


def main() -> None:
    parser = figures.options(__doc__)
    parser.add_argument("--most", type=int, default=2000, help="cells of a real set")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["embedding"])
    parser.add_argument("--part", type=int, default=0, help="which of the parts")
    parser.add_argument("--of", type=int, default=1, help="parts that the scenarios are cut into")
    parser.add_argument("--cost", type=int)
    given = parser.parse_args()
    if given.cost:
        cost(given.cost)
        return
    show(figures.table(given, collect))


if __name__ == "__main__":
    main()
