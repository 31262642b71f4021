"""New cells beside a reference: this package and symphonypy on real sets, in the same run.

    python tests/benchmarks/compare_mapping.py --symphony /path/to/python [SET ...]
    python tests/benchmarks/compare_mapping.py --symphony /path/to/python --cells 100000
    python tests/benchmarks/compare_mapping.py --unknown [SET ...]
    python tests/benchmarks/compare_mapping.py --counts SET

Queries are batches that the reference lacks, and the features are the set's PCs, so that both
programs map the same numbers. The task is the same: map, and carry labels over, each by its own
default (symphonypy: 5 neighbours; its accuracy with 15 is given in brackets). The programs take
turns, with a seed each turn. `--cells` repeats a query of counts to that size for time and memory;
`--unknown` leaves types out of the reference; `--counts` leaves out one batch after the other of a
set of counts, and places it by the set's PCs, which its own cells have a part in, and by PCs of the
reference's counts alone, as one has to with new cells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from mapping.splits import QUERY, read, split, splits

import harmonypy_lite as hl

WORKER = Path(__file__).parent / "mapping" / "worker.py"
SEEDS = 3
#: Sets on which the rule for unknown cells was chosen; none was chosen for the others.
DESIGN = {
    "cell_lines_2370",
    "codex_spleen_158k",
    "cytof_shaham_8files",
    "kang_ifnb_pbmc",
    "ra_synovium_5265",
    "sim_tran2020_simul1",
    "sim_tran2020_simul5",
    "symphony_pbmcs_1200",
}


def accuracy(found: np.ndarray, names: tuple[pd.Series, pd.Series]) -> float:
    """Return the share of right labels among the cells of types that the reference has."""
    known = names[1].isin(set(names[0])).to_numpy()
    return float((found[known] == names[1].to_numpy(str)[known]).mean())


def mixing(reference: np.ndarray, query: np.ndarray) -> float:
    """Return the median LISI of reference and query over at most 4,000 cells."""
    rng = np.random.default_rng(0)
    parts = [Z[rng.permutation(len(Z))[:2000]] for Z in (reference, query)]
    side = np.repeat(["reference", "query"], [len(part) for part in parts])
    return float(np.median(hl.metrics.lisi(np.concatenate(parts), side)))


def run(python: str, program: str, folder: Path, *arguments: object) -> dict:
    command = [python, str(WORKER), program, str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def joint(reference: anndata.AnnData, query: anndata.AnnData) -> dict[str, np.ndarray]:
    """Integrate all cells together: the ceiling."""
    both = anndata.concat([reference, query])
    Z = hl.Harmony().fit_transform(both.obsm["X_pca"], both.obs["batch"])
    made = {"reference": Z[: len(reference)], "query": Z[len(reference) :]}
    sides = [anndata.AnnData(obs=each.obs.copy()) for each in (reference, query)]
    for side, moved in zip(sides, made.values(), strict=True):
        side.obsm["X_pca_harmony"] = moved
    hl.tl.transfer_labels(sides[1], sides[0], "cell_type", unknown=False)
    return made | {"found": sides[1].obs["cell_type_transferred"].to_numpy(str)}


def compare(name: str, symphony: str) -> str:
    python = {"harmonypy_lite": sys.executable, "symphonypy": symphony}
    scores: dict[str, list[tuple[float, float]]] = {}
    of_15 = []
    # of each seed and query, of the task, and of this package with the answer "unknown", too
    seconds: dict[str, list[list[float]]] = {each: [] for each in (*python, "unknown")}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for seed in range(SEEDS):
            for program in python:
                times = run(python[program], program, folder, seed, name)
                kinds = {program: "task"} | (
                    {"unknown": "unknown"} if program != "symphonypy" else {}
                )
                for name_of, kind in kinds.items():
                    each = [float(np.median(t[kind])) for t in times.values()]
                    seconds[name_of].append(each)
        sizes = []
        for i, (_, reference, query) in enumerate(splits(name)):
            labels = reference.obs["cell_type"], query.obs["cell_type"]
            sizes.append(len(query))
            results = [("joint", joint(reference, query))]
            for program in python:
                for seed in range(SEEDS):
                    results.append((program, np.load(folder / f"{program}_{seed}_{i}.npz")))
            for program, found in results:
                mixed = mixing(found["reference"], found["query"])
                scores.setdefault(program, []).append((accuracy(found["found"], labels), mixed))
                if program == "symphonypy":
                    of_15.append(accuracy(found["of_15"], labels))
    mean = {program: np.mean(each, axis=0) for program, each in scores.items()}
    order = ("harmonypy_lite", "symphonypy", "joint")
    ours, theirs, unknown = (
        1e3 * float(np.median(seconds[each], axis=0).mean()) for each in (*order[:2], "unknown")
    )
    cells = [
        name,
        f"{len(sizes)} ({min(sizes):,} to {max(sizes):,})",
        " / ".join(f"{mean[program][0]:.4f}" for program in order[:2])
        + f" ({np.mean(of_15):.4f}) / {mean['joint'][0]:.4f}",
        " / ".join(f"{mean[program][1]:.2f}" for program in order),
        f"{ours:.1f} / {theirs:.1f} ({theirs / ours:.1f})",
        f"{unknown:.1f} ({theirs / unknown:.1f})",
    ]
    return "| " + " | ".join(cells) + " |"


def unknown(name: str) -> str:
    """Leave out one type after another; say how many of its cells, and of others, are unknown."""
    reference, query = split(read(name), QUERY[name])
    kinds = query.obs["cell_type"]
    counts = kinds[kinds.isin(set(reference.obs["cell_type"]))].value_counts()
    found, present = {}, {}
    for out in [None, *counts[counts >= 20].index]:
        some = reference[(reference.obs["cell_type"] != out).to_numpy()].copy()
        there = kinds.isin(set(some.obs["cell_type"])).to_numpy()
        if some.n_obs < 100 or not there.any():
            continue
        hl.pp.harmony_integrate(some, "batch", store_model=True)
        hl.tl.map_embedding(query, some, key="batch", basis="X_pca", levels="new")
        hl.tl.transfer_labels(query, some, "cell_type")
        lost = (query.obs["cell_type_transferred"] == "unknown").to_numpy()
        present[out] = lost[there].mean()
        if out is not None:
            found[out] = lost[(kinds == out).to_numpy()].mean()
    missed = {out: share for out, share in found.items() if share < 0.8}
    cells = [
        f"{name}{' *' if name in DESIGN else ''}",
        f"{len(found) - len(missed)} of {len(found)}",
        ", ".join(f"{out} {share:.2f}" for out, share in missed.items()) or "-",
        f"{present[None]:.2f}",
        f"{max(present.values()):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def by_counts(name: str) -> None:
    """Print which share of a batch is called unknown, and which right, by two kinds of PCs."""
    cells = read(name)
    print("| batch | PCs of all cells: unknown, right | of the reference's counts |\n|---|---|---|")
    for batch in sorted(set(cells.obs["batch"].astype(str))):
        reference, query = split(cells, batch)
        hl.pp.harmony_integrate(reference, "batch", store_model=True)
        hl.tl.map_embedding(query, reference, key="batch", basis="X_pca", levels="new")
        shares = [called(reference, query)]
        own = (cells.obs["batch"] == batch).to_numpy()
        reference, query = cells[~own].copy(), cells[own].copy()
        query.obsm = None
        hl.pp.preprocess(reference, "batch")
        hl.pp.harmony_integrate(reference, "batch", store_model=True, save_genes=True)
        hl.tl.map_embedding(query, reference, key="batch")
        shares.append(called(reference, query))
        print(
            f"| {batch} | " + " | ".join(f"{u:.2f}, {r:.2f}" for u, r in shares) + " |", flush=True
        )


def called(reference: anndata.AnnData, query: anndata.AnnData) -> tuple[float, float]:
    hl.tl.transfer_labels(query, reference, "cell_type")
    names = query.obs["cell_type"].astype(str)
    known = names.isin(set(reference.obs["cell_type"])).to_numpy()
    found = query.obs["cell_type_transferred"].astype(str)[known]
    return float((found == "unknown").mean()), float((found == names[known]).mean())


def large(n_cells: int, symphony: str) -> None:
    """Print time and memory for a query of counts that is repeated to `n_cells`."""
    cells = read("kang_ifnb_pbmc")
    cells = cells[:, cells.var["highly_variable"].to_numpy()].copy()
    hl.pp.preprocess(cells, "batch")
    stim = (cells.obs["batch"] == "stim").to_numpy()
    reference = cells[~stim].copy()
    reference.obs["batch"] = np.array(["a", "b"])[np.arange(reference.n_obs) % 2]
    import scanpy as sc

    for each in (reference,):
        sc.pp.normalize_total(each, target_sum=1e4)
        sc.pp.log1p(each)
        sc.pp.pca(each, n_comps=50)
        each.var["mean"] = np.asarray(each.X.mean(axis=0)).ravel()
        each.var["std"] = 1.0
    query = cells[np.resize(np.flatnonzero(stim), n_cells)].copy()
    query.obs_names = [f"q{i}" for i in range(n_cells)]
    sc.pp.normalize_total(query, target_sum=1e4)
    sc.pp.log1p(query)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        reference.write_h5ad(folder / "reference.h5ad")
        query.write_h5ad(folder / "query.h5ad")
        for program, python in (("harmonypy_lite", sys.executable), ("symphonypy", symphony)):
            cost = run(python, program, folder, 0)
            print(f"{program}: {cost['seconds']:.2f} s, {cost['bytes'] / 1e6:.0f} MB above start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(QUERY))
    parser.add_argument("--symphony", help="a Python that has symphonypy 0.2.4")
    parser.add_argument("--cells", type=int, help="size of a large query; nothing else is done")
    parser.add_argument("--unknown", action="store_true", help="leave types out instead")
    parser.add_argument("--counts", action="store_true", help="two kinds of PCs, each batch")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.symphony is None and not args.unknown and not args.counts:
        parser.error("--symphony is needed, except with --unknown and --counts")
    if args.counts:
        for name in args.sets:
            by_counts(name)
        return
    if args.cells:
        large(args.cells, args.symphony)
        return
    for name in args.sets:
        print(unknown(name) if args.unknown else compare(name, args.symphony), flush=True)


if __name__ == "__main__":
    main()
