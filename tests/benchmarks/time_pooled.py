"""Seconds of the pooled flavour beside harmony2, turn by turn in one process.

    python tests/benchmarks/time_pooled.py [--cells 100000] [--levels 20 870] [--turns 5]

The median over turns of each, and of the ratio within a turn; default iterations, two threads.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harmonypy_lite import HarmonyParams, datasets
from harmonypy_lite.run import integrate_embedding

RUNS = {
    "harmony2": {"flavor": "harmony2"},
    "pooled, start kmeans": {"flavor": "pooled", "start": "kmeans"},
    "pooled, start auto": {"flavor": "pooled", "start": "auto"},
}


def turns(n_cells: int, n_levels: int, n_turns: int, n_jobs: int) -> pd.DataFrame:
    """Return a row for each turn; a turn before is not counted."""
    adata = datasets.simulate(n_cells, n_dims=50, n_types=20, n_batches=n_levels, rng=0)
    Z, frame = adata.obsm["X_pca"], adata.obs[["batch"]]
    rows = []
    for _ in range(n_turns + 1):
        row = {}
        for name, given in RUNS.items():
            began = time.perf_counter()
            integrate_embedding(Z, frame, HarmonyParams(**given, n_jobs=n_jobs))
            row[name] = time.perf_counter() - began
        rows.append(row)
    return pd.DataFrame(rows[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--levels", type=int, nargs="+", default=[20, 870])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print("| levels | run | seconds | times harmony2 |\n|---|---|---|---|")
    for n_levels in given.levels:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = turns(given.cells, n_levels, given.turns, given.threads)
        ratio = found.div(found["harmony2"], axis=0)
        for name in found:
            print(
                f"| {n_levels} | {name} | {np.median(found[name]):.3f} | "
                f"{np.median(ratio[name]):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
