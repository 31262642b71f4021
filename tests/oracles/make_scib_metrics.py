"""Store what scib-metrics 0.5.10 answers, so that the tests need not install jax.

In an environment with scib-metrics==0.5.10, from the repository root, with the folder of real sets:
``PYTHONPATH=tests HARMONYPY_LITE_DATA=FOLDER python tests/oracles/make_scib_metrics.py``
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import anndata
import numpy as np
import scib_metrics
from scib_metrics.benchmark import Benchmarker
from scib_metrics.nearest_neighbors import NeighborsResults
from sklearn.neighbors import NearestNeighbors
from worlds import labelled, world

REAL = ("sc_mixology_5batch", "symphony_pbmcs_1200", "pancreas_hormone2cell")
OUT = Path(__file__).with_name("scib_metrics_0.5.10.npz")


def labels_not_in_all_batches(batch, label):
    """Give one batch no cells of two types, and make one type tiny."""
    label = label.astype("U6")
    label[(batch == "donor_a") & np.isin(label, ["T", "B"])] = "N"
    label[:15] = "A_rare"
    return label


def neighbors(cells, k):
    """Return the k nearest other cells, float64."""
    found = NearestNeighbors(n_neighbors=k + 1, algorithm="kd_tree").fit(cells.astype(np.float64))
    distances, indices = found.kneighbors(cells.astype(np.float64))
    return NeighborsResults(indices=indices[:, 1:], distances=distances[:, 1:])


def answers(cells, batch, label, pre):
    """Return every metric of the package on one world."""
    far, fifty, near = neighbors(cells, 89), neighbors(cells, 49), neighbors(cells, 14)
    acceptance, statistic, p_value = scib_metrics.kbet(fifty, batch)
    return {
        "lisi_batch": scib_metrics.lisi_knn(far, batch, perplexity=30),
        "lisi_label": scib_metrics.lisi_knn(far, label, perplexity=30),
        "ilisi": scib_metrics.ilisi_knn(far, batch, perplexity=30),
        "clisi": scib_metrics.clisi_knn(far, label, perplexity=30),
        "bras": scib_metrics.bras(cells, label, batch),
        "silhouette_label": scib_metrics.silhouette_label(cells, label),
        "silhouette_batch": scib_metrics.silhouette_batch(cells, label, batch),
        "isolated_labels": scib_metrics.isolated_labels(cells, label, batch),
        "pcr_comparison": scib_metrics.pcr_comparison(pre, cells, batch, categorical=True),
        "connectivity_directed": scib_metrics.graph_connectivity(near, label),
        "kbet": acceptance,
        "kbet_statistic": statistic,
        "kbet_p_value": p_value,
    }


def totals(rng):
    """Return random scores of three embeddings and the totals that the Benchmarker makes."""
    cells, batch, label = world(n_cells=120)
    adata = anndata.AnnData(
        cells.astype(np.float32), obs={"batch": batch, "label": label}, obsm={"one": cells.copy()}
    )
    benchmarker = Benchmarker(adata, "batch", "label", ["one"])
    kinds = {
        "Bio conservation": [
            "isolated_labels",
            "nmi_ari_cluster_labels_kmeans_nmi",
            "nmi_ari_cluster_labels_kmeans_ari",
            "silhouette_label",
            "clisi_knn",
        ],
        "Batch correction": [
            "bras",
            "ilisi_knn",
            "kbet_per_label",
            "graph_connectivity",
            "pcr_comparison",
        ],
    }
    scores = rng.random(10)
    for score, (kind, name) in zip(
        scores, [(k, n) for k, names in kinds.items() for n in names], strict=True
    ):
        benchmarker._results.loc[name, "one"] = score
        benchmarker._results.loc[name, "Metric Type"] = kind
    table = benchmarker.get_results(min_max_scale=False, clean_names=False).loc["one"]
    columns = ["Batch correction", "Bio conservation", "Total"]
    return {"total_scores": scores, "totals": table[columns].to_numpy(dtype=float)}


def main():
    """Write the answers and the inputs they belong to."""
    warnings.simplefilter("ignore")
    stored = totals(np.random.default_rng(1))
    for shift in (0.0, 2.0):
        cells, batch, label = world(shift=shift, n_cells=400)
        cells = cells.astype(np.float32)
        label = labels_not_in_all_batches(batch, label)
        pre = world(shift=6.0, n_cells=400).embedding.astype(np.float32)
        stored |= {
            f"{shift:g}/{name}": np.asarray(value)
            for name, value in {
                **{"cells": cells, "batch": batch, "label": label, "pre": pre},
                **answers(cells, batch, label, pre),
            }.items()
        }
    for name in REAL:
        adata = anndata.read_h5ad(Path(os.environ["HARMONYPY_LITE_DATA"]) / f"{name}.h5ad")
        cells, batch, label = labelled(adata)
        pre, post = cells, np.ascontiguousarray(cells[:, 5:])
        found = answers(cells, batch, label, pre)
        found["pcr_comparison"] = scib_metrics.pcr_comparison(pre, post, batch, categorical=True)
        stored |= {
            f"{name}/{metric}": np.asarray(value).astype(np.float32 if np.ndim(value) else float)
            for metric, value in found.items()
        }
    np.savez_compressed(OUT, **stored)


if __name__ == "__main__":
    main()
