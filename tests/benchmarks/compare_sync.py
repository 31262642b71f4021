"""`sync="batch"` against `sync="exact"`: a markdown table.

    python tests/benchmarks/compare_sync.py [--output TABLE.md] [--seeds 4] [NAME[:KEY,KEY] ...]

Distances are means over cells between two results, in standard deviations of the input's
components: of the two schemes with the same seed, and of two seeds of the exact one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import oracles  # noqa: E402

from harmonypy_lite import datasets  # noqa: E402
from harmonypy_lite.errors import HarmonyWarning, NotConvergedWarning  # noqa: E402
from harmonypy_lite.params import SYNCS, HarmonyParams  # noqa: E402
from harmonypy_lite.run import Integration, integrate_embedding  # noqa: E402

SETS = (
    "pbmc_3500_harmonypy",
    "cell_lines_9478",
    "kang_ifnb_pbmc",
    "cytof_shaham_8files",
    "snatac_T_lisi_8078",
    "ra_synovium_5265",
    "ra_synovium_5265:batch,sample",
    "glioblastoma_lemur_5000:batch,condition",
    "pancreas_hormone2cell:batch,donor_id",
)
HEADER = (
    "| data set | distance of exact and batch | of two seeds | objective exact | batch "
    "| batch LISI exact | batch |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=SETS, help="real sets, by file name")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = datasets.folder() or TESTS.parent.parent / "shared" / "data"
    out = options.output.open("w") if options.output else sys.stdout
    print(HEADER, file=out)
    print("|---" * (HEADER.count("|") - 1) + "|", file=out, flush=True)
    warnings.simplefilter("ignore", HarmonyWarning)
    warnings.simplefilter("ignore", NotConvergedWarning)
    for name in options.names:
        print(row(folder, name, range(options.seeds)), file=out, flush=True)


def row(folder: Path, name: str, seeds: range) -> str:
    """Run both schemes with every seed."""
    file, _, keys = name.partition(":")
    data = anndata.read_h5ad(folder / f"{file}.h5ad", backed="r")
    Z = np.asarray(data.obsm["X_pca"][:], np.float32)
    frame = data.obs[keys.split(",") if keys else ["batch"]].astype(str)
    sd = float(np.sqrt(Z.var(axis=0, dtype=np.float64).mean()))
    exact, batch = (
        [integrate_embedding(Z, frame, HarmonyParams(rng=s, sync=sync)) for s in seeds]
        for sync in SYNCS
    )

    def distances(pairs: object) -> str:
        values = [np.linalg.norm(a.embedding - b.embedding, axis=1).mean() / sd for a, b in pairs]
        return f"{min(values):.3f} to {max(values):.3f}"

    def objective(runs: list[Integration]) -> str:
        values = [run.summary["objective"][-1] for run in runs]
        return f"{min(values):.1f} to {max(values):.1f}"

    def lisi(runs: list[Integration]) -> str:
        values = [oracles.batch_lisi(run.embedding, frame.iloc[:, 0]) for run in runs]
        return f"{min(values):.2f} to {max(values):.2f}"

    cells = [distances(zip(exact, batch, strict=True)), distances(itertools.combinations(exact, 2))]
    cells += [objective(exact), objective(batch), lisi(exact), lisi(batch)]
    return "| " + " | ".join([name.replace(":", ", "), *cells]) + " |"


if __name__ == "__main__":
    main()
