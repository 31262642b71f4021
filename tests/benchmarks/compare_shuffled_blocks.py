"""Fixed blocks of cells against blocks drawn anew in every round: a markdown table.

    python tests/benchmarks/compare_shuffled_blocks.py [--output TABLE.md] [--seeds 5] [NAME ...]

The papers shuffle; this package keeps one partition, so that R need not be stored. Both plans run
in the dense reference from the same centroids; runs differ in the seed of start and blocks. Kept
neighbours are the share of a cell's 30 nearest of its own batch that are among them afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import oracles  # noqa: E402
import twin  # noqa: E402

from harmonypy_lite import datasets  # noqa: E402
from harmonypy_lite.params import HarmonyParams  # noqa: E402

SETS = (
    "pbmc_3500_harmonypy",
    "sc_mixology_5batch",
    "symphony_pbmcs_1200",
    "cell_lines_2370",
    "ra_synovium_5265",
)
HEADER = (
    "| data set | flavor | objective fixed | shuffled | batch LISI fixed | shuffled "
    "| kept neighbours fixed | shuffled | corr. fixed, shuffled | corr. of seeds, shuffled |"
)
N_NEIGHBOURS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=SETS, help="real sets, by file name")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--flavor", action="append", choices=["harmony1", "harmony2"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = datasets.folder() or TESTS.parent.parent / "shared" / "data"
    out = options.output.open("w") if options.output else sys.stdout
    print(HEADER, file=out)
    print("|---" * (HEADER.count("|") - 1) + "|", file=out, flush=True)
    for name in options.names:
        data = anndata.read_h5ad(folder / f"{name}.h5ad", backed="r")
        Z = np.asarray(data.obsm["X_pca"][:], np.float32)
        frame = data.obs[["batch"]].astype(str)
        for flavor in options.flavor or ["harmony2"]:
            print(row(name, flavor, Z, frame, range(options.seeds)), file=out, flush=True)


def row(name: str, flavor: str, Z: np.ndarray, frame: pd.DataFrame, seeds: range) -> str:
    """Run both plans with every seed."""
    before = neighbours(Z, frame["batch"])
    found: dict[str, list[tuple[np.ndarray, float, float, float]]] = {"fixed": [], "shuffled": []}
    for seed in seeds:
        params = HarmonyParams(flavor=flavor, rng=seed)
        for plan, runs in found.items():
            shuffle = np.random.default_rng([seed, 1]) if plan == "shuffled" else None
            result = twin.reference_of(Z, frame, params, shuffle=shuffle)
            kept = kept_neighbours(before, neighbours(result.Z_corr, frame["batch"]))
            lisi = oracles.batch_lisi(result.Z_corr, frame["batch"])
            runs.append((result.Z_corr, result.objective_harmony[-1], lisi, kept))
    fixed, shuffled = found["fixed"], found["shuffled"]
    pairs = itertools.combinations(shuffled, 2)
    cells = [name, flavor]
    for place, digits in ((1, 1), (2, 3), (3, 3)):
        cells += [spread([run[place] for run in runs], digits) for runs in (fixed, shuffled)]
    cells.append(spread([corr(a, b) for a, b in zip(fixed, shuffled, strict=True)], 4))
    cells.append(spread([corr(a, b) for a, b in pairs], 4))
    return "| " + " | ".join(cells) + " |"


def corr(a: tuple, b: tuple) -> float:
    """Return the mean correlation over components of two runs."""
    return float(oracles.correlations(a[0], b[0]).mean())


def neighbours(Z: np.ndarray, batch: pd.Series) -> list[np.ndarray]:
    """Return for each batch the (n, 30) nearest of its own cells of each of its cells."""
    found = []
    for cells in batch.groupby(batch.to_numpy()).indices.values():
        k = min(N_NEIGHBOURS, len(cells) - 1)
        if k > 0:
            search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(Z[cells])
            found.append(search.kneighbors(return_distance=False))
    return found


def kept_neighbours(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Return the mean share of the neighbours before that are neighbours after."""
    shares = [
        np.mean([len(np.intersect1d(x, y)) / len(x) for x, y in zip(a, b, strict=True)])
        for a, b in zip(before, after, strict=True)
    ]
    return float(np.average(shares, weights=[len(a) for a in before]))


def spread(values: list[float], digits: int) -> str:
    """Return mean and standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


if __name__ == "__main__":
    main()
