"""Affinities of 11 significant bits against those in single precision: a markdown table.

    python tests/benchmarks/compare_halves.py [--output TABLE.md] [NAME[:KEY,KEY] ...]

Distances are between two results, in standard deviations of the input's components, over all
numbers: of the two ways with the same seed, and of two seeds in single precision.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import oracles  # noqa: E402

from harmonypy_lite import datasets  # noqa: E402
from harmonypy_lite.errors import HarmonyWarning, NotConvergedWarning  # noqa: E402
from harmonypy_lite.method import form  # noqa: E402
from harmonypy_lite.params import HarmonyParams  # noqa: E402
from harmonypy_lite.run import Integration, integrate_embedding  # noqa: E402

SETS = (
    "immune_union_57k",
    "codex_spleen_158k:sample",
    "kang_ifnb_pbmc",
    "cytof_shaham_8files",
    "pbmc_3500_harmonypy",
    "ra_synovium_5265:batch,sample",
)
HEADER = (
    "| data set | apart: root mean square, largest | two seeds apart | objective: single, half "
    "| batch LISI: single, half |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=SETS, help="real sets, by file name")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = datasets.folder() or TESTS.parent.parent / "shared" / "data"
    out = options.output.open("w") if options.output else sys.stdout
    print(HEADER, file=out)
    print("|---" * (HEADER.count("|") - 1) + "|", file=out, flush=True)
    warnings.simplefilter("ignore", HarmonyWarning)
    warnings.simplefilter("ignore", NotConvergedWarning)
    for name in options.names:
        print(row(folder, name), file=out, flush=True)


def row(folder: Path, name: str) -> str:
    """Run both ways, and another seed."""
    file, _, keys = name.partition(":")
    data = anndata.read_h5ad(folder / f"{file}.h5ad", backed="r")
    Z = np.asarray(data.obsm["X_pca"][:], np.float32)
    frame = data.obs[keys.split(",") if keys else ["batch"]].astype(str)

    def run(fewest: int, seed: int) -> Integration:
        form._MANY = fewest  # so many affinities are held in halves
        return integrate_embedding(Z, frame, HarmonyParams(rng=seed))

    single, other, half = run(sys.maxsize, 0), run(sys.maxsize, 1), run(0, 0)

    def apart(a: Integration, b: Integration) -> str:
        far = np.abs(a.embedding - b.embedding) / Z.std(axis=0, dtype=np.float64)
        return f"{np.sqrt((far**2).mean()):.1e}, {far.max():.1e}"

    def both(what: Any, form: str) -> str:
        return ", ".join(format(what(run), form) for run in (single, half))

    cells = [apart(single, half), apart(single, other)]
    cells.append(both(lambda run: run.summary["objective"][-1], ".4f"))
    cells.append(both(lambda run: oracles.batch_lisi(run.embedding, frame.iloc[:, 0]), ".4f"))
    return "| " + " | ".join([name.replace(":", ", "), *cells]) + " |"


if __name__ == "__main__":
    main()
