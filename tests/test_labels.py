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
from harmonypy_lite.method.shifts import shifts


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
    assert query.obs["cell_type_probability"].between(1 / 20, 1.0001).all()


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
        (lambda q, r: q.uns.pop("harmony_map"), "map_embedding"),
        (lambda q, r: r.uns.pop("harmony"), "integrate the reference"),
        (lambda q, r: r.obs.pop("batch"), "batch"),
        (lambda q, r: r.obsm.update(X_pca=r.obsm["X_pca"][:, 1:]), "in one PCA"),
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


def directions(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells of three types and four dimensions, of any length."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    Z = np.eye(4)[label] * 3 + rng.normal(size=(n, 4)) * [0.5, 1.0, 0.7, 0.3]
    return Z * rng.uniform(0.5, 2, (n, 1)), label


def whitened(Z: np.ndarray, own: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions of cells, and the types' means, in units of the spread inside types."""
    u, v = (X / np.linalg.norm(X, axis=1, keepdims=True) for X in (Z, own))
    means = {t: v[label == t].mean(axis=0) for t in sorted(set(label.tolist()))}
    inside = np.array([x - means[t] for x, t in zip(v, label.tolist(), strict=True)])
    spread = inside.T @ inside / (len(v) - len(means))
    spread = spread * (len(v) + 4 * np.eye(4)) / (len(v) + 4)  # drawn to the diagonal
    unit = np.linalg.cholesky(np.linalg.inv(spread))
    return u @ unit, np.array(list(means.values())) @ unit


def apart(x: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.array([min(np.linalg.norm(one - m) for m in centre) for one in x])


def test_doubt__is_the_distance_from_the_nearest_type_by_left_out_batches() -> None:
    Z, label = directions(900, 0)
    batch = np.arange(900) % 4
    near, ratio, far, moved = [], [], [], []
    for b in range(4):
        x, centre = whitened(Z[batch == b], Z[batch != b], label[batch != b])
        near.append(np.quantile(apart(x, centre), 0.25))
        ratio.append(np.quantile(apart(x, centre), 0.9) / near[-1])
        shift = shifts(x, centre)
        far.append(np.quantile(apart(x, centre + shift), 0.9))
        moved.append(np.linalg.norm(shift, axis=1).max())
    calibration = calibrate(Z, label, batch, 3, beyond=0.9)
    wanted = (np.median(near), max(ratio), max(far), max(moved))
    np.testing.assert_allclose(np.array(calibration[1:]), wanted, rtol=1e-9)
    new, of = directions(400, 1)
    both = np.arange(400) % 2
    new[both == 0] += 4 * np.eye(4)[of[both == 0]]
    new[both == 1, 3] += 0.4 * np.linalg.norm(new[both == 1], axis=1)
    found = doubt(calibration._replace(furthest=50.0), new, both)
    x, centre = whitened(new[both == 0], Z, label)
    length = apart(x, centre)
    quarter = np.quantile(length, 0.25)
    assert quarter <= np.median(near)
    np.testing.assert_allclose(found[both == 0], length / quarter / max(ratio), rtol=1e-9)
    x, centre = whitened(new[both == 1], Z, label)
    assert np.quantile(apart(x, centre), 0.25) > np.median(near)
    shift = shifts(x, centre, max(far), 50.0)
    wanted = apart(x, centre + shift) / max(far)
    np.testing.assert_allclose(found[both == 1], wanted, rtol=1e-9)


def test_calibrate__leaves_cells_out_where_no_batch_can_be() -> None:
    Z, label = directions(900, 2)
    found = calibrate(Z, label, label, 3), calibrate(Z, label, np.zeros(900, int), 3)
    assert found[0].ratio == found[1].ratio > 1
    assert found[0].furthest == found[1].furthest == np.inf
    for n in (15, 1):
        with pytest.raises(InvalidInput, match="unknown=False"):
            calibrate(Z[:n], label[:n], label[:n], 3)


def test_doubt__takes_off_what_a_whole_batch_moves_its_types() -> None:
    Z, label = directions(2000, 3)
    calibration = calibrate(Z, label, np.arange(2000) % 4, 3)
    new, _ = directions(2000, 4)
    batch = np.repeat([0, 1], 1000)
    new[1000:, 3] += 1.5 * np.linalg.norm(new[1000:], axis=1)
    lost = doubt(calibration, new, batch) > 1
    assert (doubt(calibration, new, np.zeros(2000, int)) > 1)[1000:].mean() > 0.5
    assert lost[:1000].mean() < 0.08
    assert lost[1000:].mean() < 0.08


def test_doubt__learns_what_a_batch_does_from_a_sample_of_its_cells() -> None:
    Z, label = directions(2000, 5)
    calibration = calibrate(Z, label, np.arange(2000) % 4, 3)._replace(furthest=np.inf)
    new, _ = directions(12_000, 6)
    new[:, 3] += 0.4 * np.linalg.norm(new, axis=1)
    all_cells = doubt(calibration, new, np.zeros(12_000, int))
    assert (all_cells > 1).mean() < 0.08
    some = np.linspace(0, 11_999, 5000).astype(int)
    np.testing.assert_allclose(
        doubt(calibration, new[some], np.zeros(5000, int)), all_cells[some], rtol=1e-9
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
