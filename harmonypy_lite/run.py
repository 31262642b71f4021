"""Stand-in for the core until it lands: subtracts the mean of each batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from harmonypy_lite._version import __version__
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.params import HarmonyParams


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    iteration: int
    max_iter: int
    round: int
    max_rounds: int
    objective: float | None


@dataclass(frozen=True)
class Integration:
    """The result of a run."""

    embedding: np.ndarray
    summary: dict[str, Any]


def integrate_embedding(
    embedding: np.ndarray,
    batches: pd.DataFrame,
    params: HarmonyParams,
    *,
    missing: str = "refuse",
    progress: Callable[[Progress], None] | None = None,
) -> Integration:
    """Subtract the mean of each batch."""
    started = time.perf_counter()
    for name in batches:
        gone = int(batches[name].isna().sum())
        if gone and missing == "refuse":
            raise InvalidInput(f"{gone} cells have no value in {name!r}: give --missing level.")
    z = np.array(embedding, dtype=np.float32)
    for name in batches:
        for _, rows in batches.groupby(batches[name].astype(str)).indices.items():
            z[rows] -= z[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
    for iteration in (1, 2):
        for k in range(1, 5):
            if progress is not None:
                progress(Progress(iteration, params.max_iter_harmony, k, 4, 100.0 / iteration - k))
    parameters = asdict(params.resolved())
    parameters["rng"] = params.rng if isinstance(params.rng, int) else "generator"
    summary = {
        "n_cells": int(z.shape[0]),
        "n_dims": int(z.shape[1]),
        "covariates": {str(n): int(batches[n].nunique()) for n in batches},
        "dropped_covariates": {},
        "n_clusters": params.clusters_for(z.shape[0]),
        "iterations": 2,
        "rounds": [4, 4],
        "stopped": "converged",
        "objective": [100.0, 50.0],
        "cluster_sizes": [float(z.shape[0])],
        "parameters": parameters,
        "versions": {"harmonypy_lite": __version__, "numpy": np.__version__},
        "seconds": time.perf_counter() - started,
    }
    return Integration(z, summary)
