"""Labels carried over to new cells: right, with probabilities, and unknown where they should be."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import anndata
import numpy as np
import pandas as pd
import pytest

import harmonypy_lite as hl
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.method.doubt import calibrate, cluster_distance, doubt


def split(left_out: str | None = None) -> tuple[anndata.AnnData, anndata.AnnData]:
    """A reference of three batches without a type, and a query from a fourth with all."""
    cells = hl.datasets.simulate(n_cells=2400, n_batches=4, n_types=4)
    batch, kind = (cells.obs[key].astype(str).to_numpy() for key in ("batch", "cell_type"))
    new = batch == sorted(set(batch))[0]
    query, reference = cells[new].copy(), cells[~new & (kind != left_out)].copy()
    hl.pp.harmony_integrate(reference, "batch", store_model=True)
    hl.tl.map_embedding(query, reference, key="batch", basis="X_pca")
    return query, reference


def test_transfer__finds_the_types_with_probabilities() -> None:
    query, reference = split()
    reference.obs["cell_type"] = reference.obs["cell_type"].astype(str)
    reference.obs.iloc[:50, reference.obs.columns.get_loc("cell_type")] = None
    hl.tl.transfer_labels(query, reference, "cell_type")
    found = query.obs["cell_type_transferred"].astype(str)
    assert (found == query.obs["cell_type"].astype(str)).mean() > 0.85
    assert 0 < (found == "unknown").mean() <= 0.12
    hl.tl.transfer_labels(query, reference, "cell_type", unknown=False)
    found = query.obs["cell_type_transferred"].astype(str)
    assert (found == query.obs["cell_type"].astype(str)).mean() > 0.97
    assert query.obs["cell_type_probability"].between(1 / 15, 1.0001).all()


@pytest.mark.parametrize("which", [0, 3])
def test_transfer__calls_a_type_that_was_left_out_unknown(which: int) -> None:
    names = sorted(
        hl.datasets.simulate(n_cells=2400, n_batches=4, n_types=4).obs["cell_type"].unique()
    )
    query, reference = split(names[which])
    hl.tl.transfer_labels(query, reference, "cell_type")
    unknown = (query.obs["cell_type_transferred"] == "unknown").to_numpy()
    new = (query.obs["cell_type"] == names[which]).to_numpy()
    assert unknown[new].mean() >= 0.8
    assert unknown[~new].mean() <= 0.1


def test_transfer__on_real_cells_knows_b_cells_only_with_b_cells(real_data: Callable) -> None:
    cells = real_data("symphony_pbmcs_1200")
    batch, kind = (cells.obs[key].astype(str).to_numpy() for key in ("batch", "cell_type"))
    query = cells[batch == "5p"].copy()
    for left_out, wanted in ((None, 0.1), ("B", 0.8)):
        reference = cells[(batch != "5p") & (kind != left_out)].copy()
        hl.pp.harmony_integrate(reference, "batch", store_model=True)
        hl.tl.map_embedding(query, reference, key="batch", basis="X_pca")
        hl.tl.transfer_labels(query, reference, "cell_type")
        unknown = (query.obs["cell_type_transferred"] == "unknown").to_numpy()
        new = (query.obs["cell_type"] == "B").to_numpy()
        assert unknown[new].mean() >= wanted if left_out else unknown.mean() <= wanted
        assert unknown[~new].mean() <= 0.1


def test_transfer__says_what_is_missing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)
        query, reference = split()
    for change, message in (
        (lambda q, r: q.obs.pop("harmony_distance"), "map_embedding"),
        (lambda q, r: r.uns.pop("harmony_model"), "holds no model"),
        (lambda q, r: r.obs.insert(0, "x", pd.Series("unknown", r.obs_names)), "rename it"),
    ):
        q, r = query.copy(), reference.copy()
        change(q, r)
        with pytest.raises(InvalidInput, match=message):
            hl.tl.transfer_labels(q, r, "x" if "x" in r.obs else "cell_type")
    with pytest.raises(InvalidInput, match="n_neighbors=0"):
        hl.tl.transfer_labels(query, reference, "cell_type", n_neighbors=0)
    with pytest.raises(InvalidInput, match="beyond"):
        hl.tl.transfer_labels(query, reference, "cell_type", beyond=1.5)


def test_doubt__takes_off_what_a_whole_batch_is_further_out() -> None:
    rng = np.random.default_rng(0)
    distance, label = rng.gamma(20, 1, 4000), np.arange(4000) % 2
    distance[label == 1] *= 3
    calibration = calibrate(distance, label, 2)
    batch = np.repeat([0, 1], 2000)
    moved = np.where(batch == 1, 2.5, 1.0) * distance
    for each in (0, 1):
        assert (doubt(calibration, moved, label, batch)[batch == each] > 1).mean() == pytest.approx(
            0.05, abs=0.015
        )


def test_cluster_distance__is_mahalanobis_and_leaves_small_clusters_out() -> None:
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(3000, 2)) * [2, 1]
    code = np.r_[np.zeros(2997, int), 1, 1, 1]
    found = cluster_distance(Z, code, np.array([[4.0, 0.0], [0.0, 40.0]]))
    assert found[0] == pytest.approx(2, abs=0.1)
    assert np.isnan(found[1])


def test_cluster_confidence__is_large_for_a_type_that_was_left_out() -> None:
    names = sorted(
        hl.datasets.simulate(n_cells=2400, n_batches=4, n_types=4).obs["cell_type"].unique()
    )
    query, reference = split(names[2])
    found = hl.tl.cluster_confidence(query, reference, "cell_type", basis="X_pca")
    assert max(found, key=lambda name: found[name]) == names[2]
