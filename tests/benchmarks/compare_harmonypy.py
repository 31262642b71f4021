"""This package against harmonypy on the real sets: a markdown table.

    python tests/benchmarks/compare_harmonypy.py [--output TABLE.md] [--seeds 3] [NAME ...]

`harmony2` against harmonypy 2.1.0; `harmony1` against harmonypy 0.0.10, where the environment
variable HARMONYPY_0_0_10 names its folder (`pip install --target FOLDER harmonypy==0.0.10`), and
against the results of R that two sets carry.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import oracles  # noqa: E402

from harmonypy_lite import datasets  # noqa: E402

HEADER = (
    "| data set | cells | batches | against | corr. theirs, mean (min) | across, mean (min) "
    "| objective theirs | objective ours | batch LISI before | theirs | ours "
    "| objective | LISI | corr. |"
)
#: harmonypy 0.0.10 takes minutes beyond.
MOST_CELLS_OLD = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="real sets, by file name; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flavor", choices=["harmony1", "harmony2"], help="both by default")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder = datasets.folder() or TESTS.parent.parent / "shared" / "data"
    paths = [folder / f"{n}.h5ad" for n in options.names] or sorted(folder.glob("*.h5ad"))
    flavors = [options.flavor] if options.flavor else ["harmony2", "harmony1"]
    out = options.output.open("w") if options.output else sys.stdout
    print(HEADER, file=out)
    print("|---" * (HEADER.count("|") - 1) + "|", file=out, flush=True)
    for flavor in flavors:
        for path in paths:
            for line in rows(path, flavor, range(options.seeds)):
                print(line, file=out, flush=True)


def rows(path: Path, flavor: str, seeds: range) -> Iterator[str]:
    """Yield the lines of one set."""
    backed = anndata.read_h5ad(path, backed="r")
    Z = np.ascontiguousarray(backed.obsm["X_pca"][:], np.float32)
    stored = backed.obsm["X_pca_harmony_R"][:] if "X_pca_harmony_R" in backed.obsm else None
    obs = backed.obs
    backed.file.close()
    frame = obs[["batch"]]
    name = path.stem
    if flavor == "harmony2":
        yield line(name, frame, Z, seeds, flavor, "harmonypy 2.1.0", oracles.harmonypy_2)
        return
    old = os.environ.get(oracles.OLD)
    if old and len(Z) <= MOST_CELLS_OLD:

        def run_old(Z: np.ndarray, frame: pd.DataFrame, seeds: range) -> list[oracles.Run]:
            return oracles.harmonypy_0(Z, frame, seeds, old)

        yield line(name, frame, Z, seeds, flavor, "harmonypy 0.0.10", run_old)
    if stored is not None:
        several = obs[["batch", "sample"]] if name.startswith("ra_synovium") else frame
        label = "R" if several.shape[1] == 1 else "R, two covariates"
        result = [oracles.Run(np.asarray(stored), float("nan"))]
        yield line(name, several, Z, seeds, flavor, label, lambda *_: result)


def line(
    name: str,
    frame: pd.DataFrame,
    Z: np.ndarray,
    seeds: range,
    flavor: str,
    label: str,
    other: object,
) -> str:
    """Return one row of the table."""
    batch = frame["batch"]
    theirs = other(Z, frame, seeds)  # type: ignore[operator]
    c = oracles.compare(Z, batch, oracles.ours(Z, frame, seeds, flavor), theirs)
    single = len(theirs) == 1
    yes = {True: "ok", False: "**no**"}
    cells = [
        name,
        f"{len(Z):,}",
        str(batch.nunique()),
        label,
        "" if single else f"{c.within.mean():.4f} ({c.within.min():.3f})",
        f"{c.across.mean():.4f} ({c.across.min():.3f})",
        "" if single else span(c.objective_theirs),
        span(c.objective_ours),
        f"{c.lisi_before:.2f}",
        span(c.lisi_theirs, 2),
        span(c.lisi_ours, 2),
        "" if single else yes[c.objective_holds()],
        yes[c.lisi_holds()],
        "" if single else yes[c.correlation_holds()],
    ]
    return "| " + " | ".join(cells) + " |"


def span(values: np.ndarray, digits: int = 1) -> str:
    """Return the range of the values, or the one there is."""
    low, high = (f"{v:.{digits}f}" for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    main()
