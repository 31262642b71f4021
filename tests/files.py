"""Small .h5ad files for tests, and a way to compare all that is in two of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse

N_CELLS = 90


def small_adata(n_cells: int = N_CELLS) -> anndata.AnnData:
    """Return cells with all the parts that a file may have besides the embedding."""
    draws = np.random.default_rng(7)
    donors = np.array(["anna", "bea", "carl"])[draws.integers(0, 3, n_cells)]
    donors[:3] = ["anna", "bea", "carl"]
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical(donors),
            "chemistry": np.where(np.arange(n_cells) % 2, "v2", "v3"),
            "depth": draws.normal(size=n_cells),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    counts = scipy.sparse.csr_matrix(draws.poisson(1.0, (n_cells, 40)).astype(np.float32))
    adata = anndata.AnnData(counts, obs=obs)
    adata.layers["counts"] = counts.copy()
    adata.layers["dense"] = counts.toarray()
    shift = pd.Categorical(donors).codes[:, None].astype(float)
    adata.obsm["X_pca"] = (draws.normal(size=(n_cells, 6)) + shift).astype(np.float32)
    adata.obsp["near"] = scipy.sparse.eye(n_cells, format="csr")
    adata.varm["PCs"] = draws.normal(size=(40, 6))
    adata.uns["notes"] = {"text": "kept", "numbers": np.arange(4), "deep": {"flag": True}}
    adata.raw = adata.copy()
    return adata


def small_file(path: Path, **how: Any) -> Path:
    """Write :func:`small_adata` to `path`."""
    small_adata().write_h5ad(path, **how)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(path: Path) -> dict[str, Any]:
    """Return every object of an HDF5 file: attributes, type, layout, filters and values."""
    found: dict[str, Any] = {}

    def described(value: Any) -> Any:
        return str(np.asarray(value).dtype), np.asarray(value).tolist()

    def look(name: str, part: Any) -> None:
        attrs = {
            key: file[value].name if isinstance(value, h5py.Reference) else described(value)
            for key, value in part.attrs.items()
        }
        if isinstance(part, h5py.Group):
            found[name] = ("group", attrs)
            return
        raw = part[()] if part.shape is not None else None
        text = part.dtype.kind == "O"
        value = np.asarray(raw).tolist() if text else np.asarray(raw).tobytes()
        layout = (part.shape, str(part.dtype), part.chunks, part.compression)
        found[name] = ("dataset", attrs, layout, value)

    with h5py.File(path, "r") as file:
        look("/", file)
        file.visititems(look)
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the names of the objects that are new, gone, or different."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def add_column(path: Path, name: str, write: Any) -> None:
    """Add a column to obs by hand, as some program wrote it."""
    with h5py.File(path, "r+") as file:
        write(file["obs"], name)
        order = [*file["obs"].attrs["column-order"], name]
        file["obs"].attrs["column-order"] = np.array(order, dtype=object)


def anndata_06_file(path: Path) -> Path:
    """Write the layout of anndata 0.6: compound arrays, categories in uns."""
    adata = small_adata()
    codes = adata.obs["donor"].cat.codes.to_numpy()
    kind = [("index", "S8"), ("donor", "i1"), ("chemistry", "S2"), ("depth", "f8")]
    obs = np.empty(N_CELLS, dtype=kind)
    obs["index"] = np.char.encode(adata.obs_names.to_numpy().astype("U8"))
    obs["donor"] = codes
    obs["chemistry"] = np.char.encode(adata.obs["chemistry"].to_numpy().astype("U2"))
    obs["depth"] = adata.obs["depth"]
    obsm = np.empty(N_CELLS, dtype=[("X_pca", "f4", (6,)), ("X_tsne", "f4", (2,))])
    obsm["X_pca"] = adata.obsm["X_pca"]
    obsm["X_tsne"] = adata.obsm["X_pca"][:, :2]
    var = np.array([(f"g{i}".encode(),) for i in range(40)], dtype=[("index", "S4")])
    with h5py.File(path, "w") as file:
        file["X"] = adata.X.toarray()
        file["obs"], file["var"], file["obsm"] = obs, var, obsm
        file["uns/donor_categories"] = np.array([b"anna", b"bea", b"carl"])
    return path


def anndata_07_file(path: Path) -> Path:
    """Write the layout of anndata 0.7: codes that refer to `__categories`."""
    adata = small_adata()
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file["X"] = adata.X.toarray()
        for name, index in (("obs", adata.obs_names), ("var", adata.var_names)):
            group = file.create_group(name)
            group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0"})
            group.attrs["_index"] = "_index"
            group.attrs["column-order"] = np.array([], dtype=float)
            group.create_dataset("_index", data=index.to_numpy().astype(object), dtype=text)
        obs = file["obs"]
        obs.attrs["column-order"] = np.array(["donor", "chemistry"], dtype=object)
        categories = obs.create_dataset(
            "__categories/donor", data=np.array(["anna", "bea", "carl"], object), dtype=text
        )
        obs["donor"] = adata.obs["donor"].cat.codes.to_numpy()
        obs["donor"].attrs["categories"] = categories.ref
        obs.create_dataset(
            "chemistry", data=adata.obs["chemistry"].to_numpy().astype(object), dtype=text
        )
        file["obsm/X_pca"] = adata.obsm["X_pca"]
    return path
