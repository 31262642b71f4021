"""Where the pooled flavour and the starts win and lose, beside Harmony and its relatives.

    python tests/benchmarks/study_pooled.py --half design [--seeds 5] [--cells 4000] [--data FOLDER]
    python tests/benchmarks/study_pooled.py --half final      # once, for the table

Prints markdown tables: one row for each scenario and set, means over seeds; the last rows are means
over scenarios. Programs that are not installed are left out. `--only NAME` (may be repeated) takes
some methods, `--kinds` some of embedding, counts, real, `--scenario` some of those. `--csv FILE`
keeps every figure, `--read FILE...` makes the tables of kept ones. Of runs of many cells, the
measures are of `--asked` random ones and their neighbours among them.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from pooled import worlds  # noqa: E402
from pooled.measures import MEASURES, measured, movement  # noqa: E402

from harmonypy_lite import HarmonyParams, datasets  # noqa: E402
from harmonypy_lite.run import integrate_embedding  # noqa: E402

Method = Callable[[np.ndarray, pd.DataFrame], np.ndarray]
FIRST_SEED = {"design": 0, "final": 100}


def own(**parameters: object) -> Method:
    def integrate(Z: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
        return integrate_embedding(Z, frame, HarmonyParams(**parameters)).embedding

    return integrate


def with_harmonypy(Z: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
    import harmonypy

    found = harmonypy.run_harmony(Z, frame, list(frame.columns), verbose=False)
    corrected = np.asarray(found.Z_corr)
    return corrected if len(corrected) == len(Z) else corrected.T


def with_scanpy(Z: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
    import anndata
    import scanpy as sc

    adata = anndata.AnnData(obs=frame.astype(str), obsm={"X_pca": Z})
    sc.pp.harmony_integrate(adata, list(frame.columns))
    return adata.obsm["X_pca_harmony"]


def with_scanorama(Z: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
    import scanorama

    batch = frame.iloc[:, 0].astype(str).to_numpy()
    places = [np.flatnonzero(batch == level) for level in np.unique(batch)]
    parts = scanorama.assemble([Z[p].copy() for p in places], verbose=0)
    out = np.empty_like(Z)
    for place, part in zip(places, parts, strict=True):
        out[place] = part
    return out


def methods(only: list[str]) -> dict[str, Method]:
    found: dict[str, Method] = {
        "harmony2": own(),
        "harmony2, auto": own(start="auto"),
        "pooled": own(flavor="pooled"),
        "pooled, kmeans": own(flavor="pooled", start="kmeans"),
    }
    if find_spec("harmonypy"):
        found["harmonypy"] = with_harmonypy
    if find_spec("scanpy.external") is None and find_spec("scanpy"):
        import scanpy as sc

        if hasattr(sc.pp, "harmony_integrate"):
            found["scanpy"] = with_scanpy
    if find_spec("scanorama"):
        found["scanorama"] = with_scanorama
    return {name: method for name, method in found.items() if not only or name in only}


def rows(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    chosen = methods(given.only)
    for world in all_worlds(given):
        for name, method in chosen.items():
            began = time.perf_counter()
            Z_hat = method(world.Z, world.frame)
            seconds = time.perf_counter() - began
            row = {"scenario": world.name, "kind": world.kind, "seed": world.seed, "method": name}
            row |= {**measured(*asked(world, Z_hat, given.asked)), "seconds": seconds}
            row["null"] = movement(world, method, world.seed)
            yield row


def asked(world: worlds.World, Z_hat: np.ndarray, most: int) -> tuple[worlds.World, np.ndarray]:
    """Return the world and its result, thinned to `most` cells."""
    n = len(Z_hat)
    if n <= most:
        return world, Z_hat
    few = np.sort(np.random.default_rng(world.seed).choice(n, most, replace=False))
    parts = {"Z": world.Z[few], "frame": world.frame.iloc[few].reset_index(drop=True)}
    parts["label"] = None if world.label is None else world.label[few]
    parts["truth"] = None if world.truth is None else world.truth[few]
    return world._replace(**parts), Z_hat[few]


def all_worlds(given: argparse.Namespace) -> Iterator[worlds.World]:
    first = FIRST_SEED[given.half] + given.skip
    for seed in range(first, first + given.seeds):
        if "embedding" in given.kinds:
            yield from worlds.simulated(given.half, given.cells, seed, given.scenario)
        if "counts" in given.kinds:
            yield from worlds.counted(given.half, given.cells, seed, given.scenario)
    if "real" in given.kinds:
        folder = datasets.folder() or given.data
        yield from worlds.real(given.half, folder, given.most, given.scenario)


def show(table: pd.DataFrame) -> None:
    names = list(dict.fromkeys(table["method"]))
    for kind, part in table.groupby("kind", sort=False):
        present = [m for m in MEASURES if m in part and part[m].notna().any()]
        print(f"\n{kind}: each cell is {', '.join(names)}\n")
        print("| " + " | ".join(["scenario", *present]) + " |")
        print("|---" * (len(present) + 1) + "|")
        mean = part.groupby(["scenario", "method"], sort=False)[present].mean()
        for scenario in [*dict.fromkeys(part["scenario"]), "mean"]:
            own_rows = mean.groupby("method").mean() if scenario == "mean" else mean.loc[scenario]
            cells = [" / ".join(f"{own_rows.loc[n, m]:.3f}" for n in names) for m in present]
            print("| " + " | ".join([str(scenario), *cells]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--half", choices=["design", "final"], default="design")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--skip", type=int, default=0, help="seeds done before")
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--most", type=int, default=20_000, help="cells of a real set, at most")
    parser.add_argument("--kinds", nargs="+", default=["embedding", "counts", "real"])
    parser.add_argument("--asked", type=int, default=20_000, help="cells measured, at most")
    parser.add_argument("--scenario", action="append", default=[], help="a scenario or set")
    parser.add_argument("--only", action="append", default=[], help="a method")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--read", type=Path, nargs="+", help="files of kept figures")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.read:
        show(pd.concat([pd.read_csv(path) for path in given.read], ignore_index=True))
        return
    found = []
    for row in rows(given):
        found.append(row)
        if given.csv:
            pd.DataFrame(found).to_csv(given.csv, index=False)
    show(pd.DataFrame(found))


if __name__ == "__main__":
    main()
