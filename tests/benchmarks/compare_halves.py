"""Affinities of 11 significant bits against those in single precision: a markdown table.

    python tests/benchmarks/compare_halves.py [--output TABLE.md] [NAME[:KEY,KEY] ...]

Distances are between two results, in standard deviations of the input's components, over all
numbers: of the two ways with the same seed, and of two seeds in single precision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import oracles  # noqa: E402
import real_sets  # noqa: E402

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


def row(name: str) -> list[str]:
    """Run both ways, and another seed."""
    Z, frame = real_sets.cells_of(name)

    def run(fewest: int, seed: int) -> Integration:
        form._MANY = fewest  # so many affinities are held in halves
        return integrate_embedding(Z, frame, HarmonyParams(rng=seed))

    single, other, half = run(sys.maxsize, 0), run(sys.maxsize, 1), run(0, 0)

    def apart(a: Integration, b: Integration) -> str:
        far = np.abs(a.embedding - b.embedding) / Z.std(axis=0, dtype=np.float64)
        return f"{np.sqrt((far**2).mean()):.1e}, {far.max():.1e}"

    def both(what: Callable[[Integration], float]) -> str:
        return ", ".join(f"{what(run):.4f}" for run in (single, half))

    return [
        apart(single, half),
        apart(single, other),
        both(lambda run: run.summary["objective"][-1]),
        both(lambda run: oracles.batch_lisi(run.embedding, frame.iloc[:, 0])),
    ]


if __name__ == "__main__":
    assert __doc__ is not None
    real_sets.write_table(real_sets.arguments(__doc__, SETS).parse_args(), HEADER, row)
