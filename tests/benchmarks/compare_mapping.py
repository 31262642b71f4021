"""New cells beside a reference: this package and symphonypy on real sets, in the same run.

    python tests/benchmarks/compare_mapping.py --symphony /path/to/python [SET ...] [--cells 100000]

The query is one batch that the reference lacks, and the features are the set's PCs, so that both
programs map the same numbers; `--cells` repeats a query of counts to that size for time and memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

import harmonypy_lite as hl

WORKER = Path(__file__).parent / "mapping" / "worker.py"
QUERY = {
    "cell_lines_2370": "half",
    "cell_lines_9478": "half",
    "codex_spleen_158k": "MRL-4",
    "cytof_shaham_8files": "Person1Day1_3month",
    "kang_ifnb_pbmc": "stim",
    "pancreas_hormone2cell": "Tritschler et al. 2022",
    "ra_synovium_5265": "S030",
    "sc_mixology_5batch": "sc_celseq2_5cl_p1",
    "sim_tran2020_simul1": "Batch2",
    "sim_tran2020_simul3": "Batch2",
    "sim_tran2020_simul5": "Batch1",
    "snatac_T_lisi_8078": "BRI-1611",
    "symphony_pbmcs_1200": "5p",
}
#: Sets on which the rule for unknown cells was chosen; it was not looked at on the others.
DESIGN = {
    "cell_lines_2370",
    "ra_synovium_5265",
    "sc_mixology_5batch",
    "sim_tran2020_simul1",
    "snatac_T_lisi_8078",
    "symphony_pbmcs_1200",
}


def read(name: str) -> anndata.AnnData:
    """Read a set from the folder of HARMONYPY_LITE_DATA."""
    folder = os.environ.get("HARMONYPY_LITE_DATA")
    if folder is None:
        raise SystemExit("set HARMONYPY_LITE_DATA to the folder that holds the real sets")
    return anndata.read_h5ad(Path(folder) / f"{name}.h5ad")


def split(name: str) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Return reference and query, with the PCs as genes and loadings that change nothing."""
    cells = read(name)
    cells = cells[cells.obs["cell_type"].notna().to_numpy()]
    Z = np.asarray(cells.obsm["X_pca"], np.float32)
    obs = pd.DataFrame(
        {key: cells.obs[key].astype(str).to_numpy() for key in ("batch", "cell_type")},
        index=cells.obs_names,
    )
    new = (obs["batch"] == QUERY[name]).to_numpy()
    made = []
    for own in (~new, new):
        centre = Z[~new].mean(axis=0)
        each = anndata.AnnData(Z[own] - centre, obs=obs[own])
        each.obsm["X_pca"] = Z[own] - centre
        each.varm["PCs"] = np.eye(Z.shape[1])
        each.var["mean"], each.var["std"] = 0.0, 1.0
        made.append(each)
    return made[0], made[1]


def accuracy(reference: np.ndarray, query: np.ndarray, names: tuple[pd.Series, pd.Series]) -> float:
    """Return the share of right labels, by 15 neighbours, among types that the reference has."""
    from sklearn.neighbors import KNeighborsClassifier

    known = names[1].isin(set(names[0])).to_numpy()
    vote = KNeighborsClassifier(15).fit(reference, names[0])
    return float((vote.predict(query[known]) == names[1][known]).mean())


def mixing(reference: np.ndarray, query: np.ndarray) -> float:
    """Return the median LISI of reference and query over at most 4,000 cells."""
    rng = np.random.default_rng(0)
    parts = [Z[rng.permutation(len(Z))[:2000]] for Z in (reference, query)]
    side = np.repeat(["reference", "query"], [len(part) for part in parts])
    return float(np.median(hl.metrics.lisi(np.concatenate(parts), side)))


def run(python: str, program: str, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [python, str(WORKER), program, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, symphony: str) -> str:
    reference, query = split(name)
    labels = reference.obs["cell_type"], query.obs["cell_type"]
    cells = [f"{name} ({len(query):,})"]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        reference.write_h5ad(folder / "reference.h5ad")
        query.write_h5ad(folder / "query.h5ad")
        found = {}
        for program, python in (("harmonypy_lite", sys.executable), ("symphonypy", symphony)):
            try:
                cost = run(python, program, folder)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                continue
            Z = tuple(np.load(folder / f"{program}_{n}.npy") for n in ("reference", "query"))
            found[program] = accuracy(*Z, labels), mixing(*Z), cost["seconds"]
    both = anndata.concat([reference, query])
    joint = hl.Harmony().fit_transform(both.obsm["X_pca"], both.obs["batch"])
    Z = joint[: len(reference)], joint[len(reference) :]
    found["joint"] = accuracy(*Z, labels), mixing(*Z), np.nan
    programs = ("harmonypy_lite", "symphonypy", "joint")
    none = (np.nan, np.nan, np.nan)
    for part, form in ((0, "{:.3f}"), (1, "{:.2f}"), (2, "{:.3f}")):
        shown = [form.format(found.get(p, none)[part]) for p in programs[: 2 if part == 2 else 3]]
        cells.append(" / ".join(shown))
    return "| " + " | ".join(cells) + " |"


def unknown(name: str) -> str:
    """Leave out one type after another; say how many of its cells, and of others, are unknown."""
    reference, query = split(name)
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
            cost = run(python, program, folder)
            print(f"{program}: {cost['seconds']:.2f} s, {cost['bytes'] / 1e6:.0f} MB above start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(QUERY))
    parser.add_argument("--symphony", required=True, help="a Python that has symphonypy 0.2.4")
    parser.add_argument("--cells", type=int, help="size of a large query; nothing else is done")
    parser.add_argument("--unknown", action="store_true", help="leave types out instead")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.cells:
        large(args.cells, args.symphony)
        return
    for name in args.sets:
        print(unknown(name) if args.unknown else compare(name, args.symphony), flush=True)


if __name__ == "__main__":
    main()
