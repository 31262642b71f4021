"""Which start ends at the lowest objective: how the first centroids are drawn.

    python tests/benchmarks/compare_starts.py [--data FOLDER] [--seeds 4]

Prints a markdown table: mean and standard deviation over seeds of the final objective, on real sets
and on two simulated ones with well separated types of uneven sizes. The share is that of centroids
drawn evenly from the cells; k-means++ draws the rest. The package uses 0.75.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from harmonypy_lite import HarmonyParams, datasets  # noqa: E402
from harmonypy_lite.method import start  # noqa: E402
from harmonypy_lite.run import integrate_embedding  # noqa: E402

SHARES = (0.0, 0.5, 0.75, 0.9, 1.0)
REAL = (
    "pbmc_3500_harmonypy",
    "ra_synovium_5265",
    "kang_ifnb_pbmc",
    "pancreas_hormone2cell",
    "cytof_shaham_8files",
    "glioblastoma_lemur_5000",
    "cell_lines_2370",
    "symphony_pbmcs_1200",
    "sc_mixology_5batch",
)


def sets(folder: Path) -> Iterator[tuple[str, np.ndarray, pd.DataFrame]]:
    import anndata

    for name in REAL:
        path = folder / f"{name}.h5ad"
        if path.is_file():
            adata = anndata.read_h5ad(path, backed="r")
            yield name, np.asarray(adata.obsm["X_pca"]), adata.obs[["batch"]].copy()
    for n_types, separation in ((20, 6.0), (40, 10.0)):
        rng = np.random.default_rng(n_types)
        centres = rng.normal(size=(n_types, 20)) * separation
        types = rng.choice(n_types, 6000, p=rng.dirichlet(np.full(n_types, 0.5)))
        batch = rng.choice(3, 6000, p=[0.5, 0.3, 0.2])
        Z = centres[types] + rng.normal(size=(6000, 20)) + rng.normal(size=(3, 20))[batch]
        yield f"{n_types} separated types", Z, pd.DataFrame({"batch": batch.astype(str)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| data set | " + " | ".join(f"{share:.0%} even" for share in SHARES) + " |")
    print("|---" * (len(SHARES) + 1) + "|")
    for name, Z, obs in sets(datasets.folder() or given.data):
        cells = [name]
        for share in SHARES:
            start._EVEN_SHARE = share
            runs = [integrate_embedding(Z, obs, HarmonyParams(rng=s)) for s in range(given.seeds)]
            ends = [run.summary["objective"][-1] for run in runs]
            cells.append(f"{np.mean(ends):.1f} ± {np.std(ends):.1f}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
