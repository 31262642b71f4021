"""Calls of the public functions as a user's typed program makes them; `mypy --strict` reads it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

import harmonypy_lite as hl


def in_memory(adata: anndata.AnnData) -> None:
    hl.pp.preprocess(adata, "batch")
    hl.pp.harmony_integrate(adata, ["batch"], theta=[2.0], flavor="harmony2", n_jobs=2)
    table: pd.DataFrame = hl.metrics.score(adata, "batch", label_key="cell_type")
    hl.pl.scores(table, batch_key="batch", values="raw").savefig("scores.png")
    hl.pl.convergence(adata).set_title("objective")
    hl.pl.displacement(adata, "batch").set_title("how far cells moved")
    hl.pl.before_after(adata, "batch", "cell_type", layout="auto")
    hl.pl.embedding(adata.obsm["X_pca"][:, :2], list(adata.obs["batch"])).set_title("cells")
    hl.pl.composition(pd.DataFrame({"level": ["a"]}), when="before").set_title("clusters")
    files: dict[str, Path] = hl.pl.figure_files(Path("scores.png"), ["batch"])
    assert files
    hl.write_report(adata, "report.html", label_key="cell_type")


def theta(adata: anndata.AnnData) -> None:
    sweep = hl.tl.sweep_theta(adata, "batch", (0.0, 2.0), "cell_type", n_seeds=2)
    hl.pl.tradeoff(sweep).set_title("what theta costs")
    print(hl.tl.needs_correction(adata, "batch"), hl.tl.null_calibration(adata, "batch"))
    print(hl.tl.diagnose(adata, "batch", label_key="cell_type"), hl.tl.THETAS)


def arrays(X: np.ndarray[Any, Any], batch: pd.DataFrame, path: Path) -> np.ndarray[Any, Any]:
    params = hl.HarmonyParams(theta=1.0, n_clusters=20)
    harmony = hl.Harmony(theta=params.theta, n_clusters=params.n_clusters)
    try:
        with warnings.catch_warnings():
            for category in (
                hl.HarmonyWarning,
                hl.NotConvergedWarning,
                hl.ObjectiveRoseWarning,
                hl.UncorrectedWarning,
                hl.LeftOutWarning,
            ):
                warnings.simplefilter("error", category)
            harmony.fit_transform(X, batch)
    except (hl.InvalidInput, hl.NotApplicable, hl.NumericalError, hl.MissingExtra) as error:
        print(error)
    harmony.save(path, X)
    model: hl.HarmonyModel = hl.HarmonyModel.load(path)
    placed: np.ndarray[Any, Any] = model.transform(X, batch)
    moved: np.ndarray[Any, Any] = hl.run_harmony(X, batch, "batch").Z_corr
    print(moved)
    return placed


def files(path: Path, model: Path, query: anndata.AnnData, reference: anndata.AnnData) -> None:
    done = hl.integrate_file(path, "donor", memory="2G", save_model=model)
    several = hl.integrate_files([path, done.path], ["donor"], in_place=True)
    mapped = hl.map_file(path, model, key="donor")
    print(done.summary, [each.path for each in several], mapped.path)
    hl.tl.map_embedding(query, model)
    hl.tl.transfer_labels(query, reference, "cell_type")
    confidence: dict[str, float] = hl.tl.cluster_confidence(query, model, "leiden")
    print(confidence, hl.datasets.simulate(n_cells=600).n_obs)
