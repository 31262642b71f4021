"""The data: simulated cells of any size, and real sets; written once, read by all contenders.

A name is that of a real set, or CELLS-LEVELS or CELLS-LEVELSxLEVELS for simulated cells: "50k-20"
has 50,000 cells in 20 batches, "1M-120x870" a second covariate of 870 levels crossed with 120.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REAL = {
    "pbmc": "pbmc_3500_harmonypy",
    "immune": "immune_union_57k",
    "codex": "codex_spleen_158k",
}
N_DIMS, N_TYPES = 50, 20
#: Cells whose corrected coordinates are scored.
SCORED = 20_000
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Workload:
    """Data on disk, and what is known about it."""

    name: str
    origin: str  # "simulated" or the name of the file
    n_cells: int
    n_dims: int
    n_levels: tuple[int, ...]
    embedding: Path  # .npy, float32
    cells: Path  # .npz: see `_write`


def simulated_shape(name: str) -> tuple[int, tuple[int, ...]]:
    """Return the cells and levels that the name of a simulated set asks for."""
    found = re.fullmatch(r"([\d.]+)([kM]?)-(\d+)(?:x(\d+))?", name)
    if found is None:
        raise ValueError(f"{name!r}: give one of {', '.join(REAL)}, or CELLS-LEVELS[xLEVELS]")
    number, unit, *levels = found.groups()
    return round(float(number) * _UNITS[unit]), tuple(int(n) for n in levels if n)


def make(name: str, to: Path, data: Path | None) -> Workload:
    """Write the data of `name` into the folder `to`; `data` is the folder of the real sets."""
    if name not in REAL:
        return _simulate(name, to)
    path = (data or Path()) / f"{REAL[name]}.h5ad"
    if data is None or not path.exists():
        raise FileNotFoundError(f"{REAL[name]}.h5ad is not there: give its folder with --data")
    return _read(name, path, to)


def _simulate(name: str, to: Path) -> Workload:
    """Types with a composition of their own in each batch, a few large batches and many small."""
    from harmonypy_lite.datasets import simulate

    n_cells, n_levels = simulated_shape(name)
    adata = simulate(
        n_cells,
        n_types=N_TYPES,
        n_batches=n_levels[0],
        n_dims=N_DIMS,
        type_separation=10.0,
        batch_strength=4.0,
        type_strength=2.0,
        scale_strength=0.1,
        batch_size_skew=2.0,
        composition_skew=1.0,
        covariate="crossed" if len(n_levels) > 1 else None,
        n_levels=n_levels[-1] if len(n_levels) > 1 else 2,
        rng=0,
    )
    columns = ["batch", "chemistry"][: len(n_levels)]
    codes = [adata.obs[column].cat.codes.to_numpy() for column in columns]
    types = adata.obs["cell_type"].cat.codes.to_numpy()
    return _write(name, "simulated", adata.obsm["X_pca"], columns, codes, types, to)


def _read(name: str, path: Path, to: Path) -> Workload:
    import h5py
    import pandas as pd
    from anndata.io import read_elem

    with h5py.File(path) as file:
        obs, embedding = read_elem(file["obs"]), file["obsm/X_pca"][:]
    types = pd.Categorical(obs["cell_type"]).codes if "cell_type" in obs else np.empty(0, np.int32)
    if (types < 0).any():  # cells without a label
        types = np.empty(0, np.int32)
    codes = [pd.Categorical(obs["batch"]).codes]
    return _write(name, path.name, embedding, ["batch"], codes, types, to)


def _write(
    name: str,
    origin: str,
    embedding: np.ndarray,
    columns: list[str],
    codes: list[np.ndarray],
    types: np.ndarray,
    to: Path,
) -> Workload:
    n_cells, n_dims = embedding.shape
    n_levels = tuple(int(each.max()) + 1 for each in codes)
    paths = to / f"{name}.npy", to / f"{name}-cells.npz"
    np.save(paths[0], np.ascontiguousarray(embedding, np.float32))
    rows = np.random.default_rng(0).permutation(n_cells)[:SCORED]
    np.savez(
        paths[1],
        names=np.array(columns),
        codes=np.array(codes, np.int32),
        n_levels=np.array(n_levels),
        rows=rows,
        types=types,
    )
    return Workload(name, origin, n_cells, n_dims, n_levels, *paths)
