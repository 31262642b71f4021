"""Make the data set that ships with the package: `python data/make_data.py`.

Counts come from `harmonypy_lite.datasets.simulate`, principal components from Scanpy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import scanpy as sc
from anndata import AnnData

from harmonypy_lite import datasets

HERE = Path(__file__).resolve().parent
NAME = "simulated_donors.h5ad"
SEED = 20190


def make() -> AnnData:
    """Six donors of unequal size and composition, each measured with two chemistries."""
    adata = datasets.simulate(
        2000,
        kind="counts",
        n_types=7,
        n_batches=6,
        n_dims=15,
        n_genes=500,
        type_separation=10.0,
        rare_type=0.03,
        batch_strength=4.0,
        type_strength=1.5,
        batch_size_skew=1.0,
        composition_skew=0.5,
        covariate="crossed",
        n_levels=2,
        covariate_strength=4.0,
        rng=SEED,
    )
    donors = adata.obs.pop("batch").cat.rename_categories(
        lambda name: name.replace("batch", "donor")
    )
    adata.obs.insert(0, "donor", donors)
    adata.obsm["X_pca"] = principal_components(adata)
    adata.uns["source"] = "simulated by data/make_data.py of harmonypy_lite; CC0-1.0"
    return adata


def principal_components(adata: AnnData) -> np.ndarray:
    """The 30 first principal components, as Scanpy's tutorials make them; `X` stays counts."""
    work = adata.copy()
    sc.pp.normalize_total(work, target_sum=1e4)
    sc.pp.log1p(work)
    sc.pp.pca(work, n_comps=30, random_state=0)
    return work.obsm["X_pca"].astype("float32")


def main() -> None:
    path = HERE / NAME
    make().write_h5ad(path, compression="gzip", compression_opts=9)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (HERE / "SHA256SUMS").write_text(f"{digest}  {NAME}\n")


if __name__ == "__main__":
    main()
