"""`sync="batch"` against `sync="exact"`: a markdown table.

    python tests/benchmarks/compare_sync.py [--output TABLE.md] [--seeds 4] [NAME[:KEY,KEY] ...]

Distances are means over cells between two results, in standard deviations of the input's
components: of the two schemes with the same seed, and of two seeds of the exact one.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import oracles  # noqa: E402
import real_sets  # noqa: E402

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
    assert __doc__ is not None
    parser = real_sets.arguments(__doc__, SETS)
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    real_sets.write_table(options, HEADER, lambda name: row(name, range(options.seeds)))


def row(name: str, seeds: range) -> list[str]:
    """Run both schemes with every seed."""
    Z, frame = real_sets.cells_of(name)
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
    return cells


if __name__ == "__main__":
    main()
