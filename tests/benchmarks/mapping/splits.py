"""Reference and query of a real set: one batch is left out after the other.

Runs in any environment that has anndata: it imports nothing of the tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

#: The batch that is left out first.
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
_MOST_CELLS = 20_000
_MOST_BATCHES = 4


def read(name: str) -> anndata.AnnData:
    """Read a set from the folder of HARMONYPY_LITE_DATA."""
    folder = os.environ.get("HARMONYPY_LITE_DATA")
    if folder is None:
        raise SystemExit("set HARMONYPY_LITE_DATA to the folder that holds the real sets")
    return anndata.read_h5ad(Path(folder) / f"{name}.h5ad")


def split(cells: anndata.AnnData, query: str) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Return reference and query, with the PCs as genes and loadings that change nothing."""
    cells = cells[cells.obs["cell_type"].notna().to_numpy()]
    Z = np.asarray(cells.obsm["X_pca"], np.float32)
    obs = pd.DataFrame(
        {key: cells.obs[key].astype(str).to_numpy(object) for key in ("batch", "cell_type")},
        index=cells.obs_names,
    )
    new = (obs["batch"] == query).to_numpy()
    centre = Z[~new].mean(axis=0)
    made = []
    for own in (~new, new):
        each = anndata.AnnData(Z[own] - centre, obs=obs[own])
        each.obsm["X_pca"] = Z[own] - centre
        each.varm["PCs"] = np.eye(Z.shape[1])
        each.var["mean"], each.var["std"] = 0.0, 1.0
        made.append(each)
    return made[0], made[1]


def splits(name: str) -> Iterator[tuple[str, anndata.AnnData, anndata.AnnData]]:
    """Leave out batches of at least 50 cells that share types with the rest, at most four."""
    cells = read(name)
    if cells.n_obs > _MOST_CELLS:
        rows = np.random.default_rng(0).choice(cells.n_obs, _MOST_CELLS, replace=False)
        cells = cells[np.sort(rows)].copy()
    sizes = cells.obs["batch"].astype(str).value_counts(sort=False).sort_index(kind="stable")
    order = sizes.sort_values(ascending=False, kind="stable").index
    done = 0
    for query in [QUERY[name], *(each for each in order if each != QUERY[name])]:
        if done == _MOST_BATCHES or sizes[query] < 50:
            continue
        reference, new = split(cells, query)
        shared = new.obs["cell_type"].isin(set(reference.obs["cell_type"]))
        if reference.n_obs >= 100 and reference.obs["cell_type"].nunique() > 1 and shared.any():
            done += 1
            yield query, reference, new
