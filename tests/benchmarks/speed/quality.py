"""How good a result is: the same functions for every contender, on the same sampled cells."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from harmonypy_lite.method.start import start_centroids
from speed.workloads import Workload

#: Cells whose LISI is computed, among themselves.
LISI_CELLS = 5000
_SIGMA, _THETA = 0.1, 2.0


def score(workload: Workload, n_clusters: int, corrected: Path | None) -> dict[str, float | None]:
    """Score the rows in the file `corrected`, or the input when it is None.

    Returns the objective of new clusters (see `objective`), the median LISI of each covariate
    (1: neighbours are of one level), and of the cell types where all cells have one.
    """
    with np.load(workload.cells) as cells:
        rows, codes, names, types = (cells[k] for k in ("rows", "codes", "names", "types"))
    if corrected is None:
        Z = np.load(workload.embedding, mmap_mode="r")[rows]
    else:
        Z = np.load(corrected)
    codes = codes[:, rows]
    found: dict[str, float | None] = {"objective_anew": objective(Z, codes, n_clusters)}
    few = slice(0, LISI_CELLS)
    labels = {str(name): codes[c, few] for c, name in enumerate(names)}
    if types.size:
        labels["type"] = types[rows][few]
    found |= {f"lisi_{name}": value for name, value in _median_lisi(Z[few], labels).items()}
    return found


def objective(Z: np.ndarray, codes: np.ndarray, n_clusters: int) -> float:
    """Harmony's objective, 2000/n of its sum, of new clusters on the cells Z (n, d).

    Programs do not all tell their own objective, nor by one formula. Here k-means with one seed
    finds K directions, cells are assigned softly and without penalty, and the objective (paper of
    2026, its E terms as R harmony 2 has them) is that of this assignment. `codes` is (C, n).
    """
    U = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-30)
    n_clusters = min(n_clusters, len(U) // 30)
    Y = start_centroids(U, n_clusters, np.random.default_rng(0))
    distance = 2 * (1 - U @ Y.T)
    R = np.exp((distance.min(axis=1, keepdims=True) - distance) / _SIGMA)
    R /= R.sum(axis=1, keepdims=True)
    total = (R * distance).sum() + _SIGMA * (R * np.log(np.maximum(R, 1e-30))).sum()
    for level in codes:
        O = np.zeros((level.max() + 1, n_clusters))
        np.add.at(O, level, R)
        share = np.bincount(level) / len(level)
        E = share[:, None] * R.sum(axis=0)
        total += _SIGMA * _THETA * (O * np.log((O + E + 1) / (2 * E + 1))).sum()
    return float(total * 2000 / len(U))


def _median_lisi(Z: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, float]:
    from harmonypy import compute_lisi

    frame = pd.DataFrame({name: codes.astype(str) for name, codes in labels.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compute_lisi(np.asarray(Z, np.float64), frame, list(frame.columns))
    return dict(zip(frame.columns, np.median(found, axis=0).tolist(), strict=True))
