"""Scenarios and real sets of the study, in two halves: one to design with, one for the last table.

Seeds of the halves differ too. Nothing in the package was chosen by a look at the final half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harmonypy_lite import datasets

#: Arguments of `datasets.simulate`, embedding level.
EMBEDDINGS: dict[str, dict[str, dict[str, Any]]] = {
    "design": {
        "no effect": {"batch_strength": 0.0},
        "weak": {"batch_strength": 1.0},
        "medium": {"batch_strength": 3.0},
        "strong": {"batch_strength": 6.0},
        "per type": {"batch_strength": 2.0, "type_strength": 2.0},
        "uneven": {"composition_skew": 1.5, "batch_size_skew": 1.0},
        "half missing": {"missing_types": 0.5, "n_types": 6},
        "overlap, missing": {"type_separation": 4.0, "missing_types": 0.3},
        "12 batches": {"n_batches": 12},
        "30 types, per type": {"n_types": 30, "batch_strength": 1.0, "type_strength": 3.0},
        "width": {"scale_strength": 0.4},
        "very strong": {"n_types": 4, "n_batches": 2, "batch_strength": 16.0},
    },
    "final": {
        "no effect, 6 batches": {"batch_strength": 0.0, "n_batches": 6, "n_types": 8},
        "small types, 40 dims": {"n_types": 12, "n_dims": 40, "rare_type": 0.005},
        "20 types, per type, uneven": {
            "n_types": 20, "n_batches": 4, "batch_strength": 3.0, "type_strength": 2.0,
            "composition_skew": 1.0,
        },
        "40 batches": {"n_batches": 40, "n_types": 8, "batch_size_skew": 1.0},
        "half confounded": {"n_batches": 4, "n_types": 6, "confounded": 0.5},
        "two covariates": {"covariate": "crossed", "n_levels": 3, "n_batches": 4},
        "nested covariate": {"covariate": "nested", "n_levels": 2, "n_batches": 8},
        "far, a third missing": {
            "n_batches": 3, "n_types": 7, "batch_strength": 9.0, "missing_types": 0.33,
        },
        "close types, per type": {
            "n_types": 8, "type_separation": 5.0, "batch_strength": 2.0, "type_strength": 1.0,
        },
        "two batches, one small": {
            "n_batches": 2, "batch_size_skew": 2.5, "batch_strength": 4.0, "n_types": 10,
        },
        "200 batches": {"n_batches": 200, "batch_strength": 2.0},
        "mild, wide": {"batch_strength": 1.5, "scale_strength": 0.2, "n_batches": 5},
    },
}  # fmt: skip

#: The same with counts, through Scanpy's pipeline.
COUNTS: dict[str, dict[str, dict[str, Any]]] = {
    "design": {
        "counts, medium": {"batch_strength": 3.0},
        "counts, strong": {"batch_strength": 8.0},
    },
    "final": {
        "counts, 8 batches": {"n_batches": 8, "n_types": 7, "batch_strength": 2.5},
        "counts, per type": {"n_batches": 3, "batch_strength": 2.0, "type_strength": 2.0},
        "counts, very strong": {"n_batches": 2, "batch_strength": 12.0},
    },
}

REAL = {
    "design": (
        "sc_mixology_5batch", "cell_lines_2370", "symphony_pbmcs_1200", "pancreas_hormone2cell",
        "kang_ifnb_pbmc", "sim_tran2020_simul1", "sim_tran2020_simul5", "glioblastoma_lemur_5000",
    ),
    "final": (
        "cell_lines_9478", "ra_synovium_5265", "sim_tran2020_simul3", "snatac_T_lisi_8078",
        "cytof_shaham_8files", "pbmc_3500_harmonypy", "codex_spleen_158k",
    ),
}  # fmt: skip


class World(NamedTuple):
    """Cells to integrate, and what is known of them."""

    name: str
    kind: str  # "embedding", "counts" or "real"
    seed: int
    Z: np.ndarray
    frame: pd.DataFrame  # covariates, the batch first
    label: np.ndarray | None
    truth: np.ndarray | None


def simulated(half: str, n_cells: int, seed: int, only: Sequence[str] = ()) -> Iterator[World]:
    for name, arguments in chosen(EMBEDDINGS[half], only):
        adata = datasets.simulate(n_cells, rng=seed, **arguments)
        label = adata.obs.pop("cell_type").to_numpy()
        Z, truth = adata.obsm["X_pca"], adata.obsm["X_truth"]
        yield World(name, "embedding", seed, Z, adata.obs, label, truth)


def chosen(
    scenarios: dict[str, dict[str, Any]], only: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((n, a) for n, a in scenarios.items() if not only or n in only)


def counted(half: str, n_cells: int, seed: int, only: Sequence[str] = ()) -> Iterator[World]:
    for name, arguments in chosen(COUNTS[half], only):
        adata = datasets.simulate(n_cells, kind="counts", n_genes=1500, rng=seed, **arguments)
        none = {"batch_strength": 0.0, "type_strength": 0.0}
        free = datasets.simulate(
            n_cells, kind="counts", n_genes=1500, rng=seed, **{**arguments, **none}
        )
        label = adata.obs.pop("cell_type").to_numpy()
        yield World(name, "counts", seed, pca(adata), adata.obs, label, pca(free))


def pca(adata: Any) -> np.ndarray:
    import scanpy as sc

    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=1000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.scale(adata, max_value=10)
    sc.pp.pca(adata, n_comps=30)
    return adata.obsm["X_pca"]


def real(half: str, folder: Path, most: int, only: Sequence[str] = ()) -> Iterator[World]:
    import anndata

    for name in REAL[half]:
        path = folder / f"{name}.h5ad"
        if not path.is_file() or (only and name not in only):
            continue
        adata = anndata.read_h5ad(path)
        if "demuxlet_cls" in adata.obs:
            adata = adata[adata.obs["demuxlet_cls"].astype(str) != "DBL"]
        if adata.n_obs > most:
            keep = np.sort(np.random.default_rng(0).choice(adata.n_obs, most, replace=False))
            adata = adata[keep]
        key = "X_pca" if "X_pca" in adata.obsm else "X_embedding64"
        labelled = "cell_type" in adata.obs
        label = adata.obs["cell_type"].astype(str).to_numpy() if labelled else None
        frame = adata.obs[["batch"]].astype(str)
        yield World(name, "real", 0, np.asarray(adata.obsm[key], np.float32), frame, label, None)
