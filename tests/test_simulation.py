"""The simulator does what its arguments say, measured on what comes back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from harmonypy_lite.datasets import simulate


def rms_distance(points):
    """Root mean square distance over pairs of points, from SciPy's own list of pairs."""
    return np.sqrt(np.mean(pdist(np.asarray(points, dtype=np.float64), "sqeuclidean")))


def effect(adata):
    return adata.obsm["X_pca"].astype(np.float64) - adata.obsm["X_truth"]


def means(values, *columns):
    """Mean rows of `values` per combination of `columns`."""
    frame = pd.DataFrame(values).groupby([c.to_numpy() for c in columns], observed=True)
    return frame.mean().to_numpy()


def pairs(adata):
    """Cells per (batch, type)."""
    return pd.crosstab(adata.obs["batch"], adata.obs["cell_type"], dropna=False).to_numpy()


@pytest.mark.parametrize("kind", ["embedding", "counts"])
def test_rng__same_seed_same_bytes_and_other_seed_other_cells(kind):
    def run(rng):
        adata = simulate(2500, kind=kind, n_genes=60, composition_skew=1, rng=rng)
        data = adata.X.toarray() if kind == "counts" else adata.obsm["X_pca"]
        return data.tobytes(), adata.obsm["X_truth"].tobytes(), tuple(adata.obs["batch"])

    assert run(3) == run(3) == run(np.random.default_rng(3))
    for one, other in zip(run(3), run(4), strict=True):
        assert one != other


def test_rng__global_state_is_neither_read_nor_moved():
    np.random.seed(0)  # noqa: NPY002
    first = simulate(100).obsm["X_pca"]
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == after  # noqa: NPY002
    np.testing.assert_array_equal(simulate(100).obsm["X_pca"], first)


def test_strengths__leave_cells_and_truth_alone():
    weak = simulate(400, covariate="crossed", batch_strength=0.1)
    strong = simulate(
        400,
        covariate="crossed",
        batch_strength=9,
        type_strength=4,
        scale_strength=1,
        covariate_strength=8,
    )
    pd.testing.assert_frame_equal(weak.obs, strong.obs)
    np.testing.assert_array_equal(weak.obsm["X_truth"], strong.obsm["X_truth"])
    assert not np.allclose(weak.obsm["X_pca"], strong.obsm["X_pca"])


def test_truth__has_unit_noise_around_centres_at_the_set_distance():
    adata = simulate(40_000, n_types=6, n_dims=10, type_separation=7.5, rare_type=0.05)
    truth, types = adata.obsm["X_truth"], adata.obs["cell_type"]
    assert rms_distance(means(truth, types)) == pytest.approx(7.5, abs=0.05)
    for name in types.cat.categories:
        np.testing.assert_allclose(truth[types == name].std(axis=0), 1.0, atol=0.04)
    np.testing.assert_allclose(truth.mean(axis=0), 0.0, atol=0.03)


def test_truth__does_not_depend_on_batch():
    adata = simulate(30_000, batch_strength=9, type_strength=9, scale_strength=1)
    per_pair = means(adata.obsm["X_truth"], adata.obs["cell_type"], adata.obs["batch"])
    spread = per_pair.reshape(5, 3, 20).std(axis=1)
    assert spread.max() < 0.1  # 2,000 cells a pair: the standard error is 0.022


def test_strength_zero__leaves_the_truth_exactly():
    adata = simulate(
        3000, batch_strength=0, covariate="crossed", covariate_strength=0, composition_skew=1
    )
    np.testing.assert_array_equal(adata.obsm["X_pca"], adata.obsm["X_truth"])


@pytest.mark.parametrize(("strength", "n_batches"), [(0.5, 2), (3.0, 3), (12.0, 40)])
def test_batch_strength__is_the_distance_between_batches(strength, n_batches):
    adata = simulate(2000, n_batches=n_batches, batch_strength=strength, batch_size_skew=2)
    moved = effect(adata)
    assert rms_distance(means(moved, adata.obs["batch"])) == pytest.approx(strength, rel=1e-4)
    one_batch = moved[adata.obs["batch"] == adata.obs["batch"].iloc[0]]
    np.testing.assert_allclose(np.ptp(one_batch, axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-5)


def test_type_strength__is_the_distance_within_every_type():
    adata = simulate(2000, n_batches=4, batch_strength=0, type_strength=5)
    per_pair = means(effect(adata), adata.obs["cell_type"], adata.obs["batch"])
    per_pair = per_pair.reshape(5, 4, 20)
    for one_type in per_pair:
        assert rms_distance(one_type) == pytest.approx(5.0, rel=1e-4)
    assert rms_distance(per_pair[:, 0]) > 1.0  # types move differently in one batch


def test_scale_strength__is_the_difference_of_log_widths():
    adata = simulate(40_000, n_batches=2, batch_strength=0, scale_strength=1.2)
    for _, rows in adata.obs.groupby("cell_type", observed=True).indices.items():
        first = (adata.obs["batch"] == "batch_1").to_numpy()[rows]
        embedding = adata.obsm["X_pca"][rows]
        ratio = np.log(embedding[first].std(axis=0).mean() / embedding[~first].std(axis=0).mean())
        assert abs(ratio) == pytest.approx(1.2, abs=0.03)
        shift = embedding[first].mean(axis=0) - embedding[~first].mean(axis=0)
        assert np.abs(shift).max() < 0.15  # widths change, centres stay


def test_covariate_strength__is_the_distance_between_levels():
    adata = simulate(
        1800, batch_strength=2, covariate="crossed", n_levels=4, covariate_strength=6.0
    )
    per_pair = means(effect(adata), adata.obs["batch"], adata.obs["chemistry"])
    per_pair = per_pair.reshape(3, 4, 20)
    for one_batch in per_pair:
        assert rms_distance(one_batch) == pytest.approx(6.0, rel=1e-4)
    for one_level in per_pair.swapaxes(0, 1):
        assert rms_distance(one_level) == pytest.approx(2.0, rel=1e-4)


def test_counts_strength_zero__gives_the_batch_free_molecules():
    same = {"kind": "counts", "n_genes": 80, "rng": 2}
    free = simulate(3000, batch_strength=0, **same)
    twin = simulate(3000, batch_strength=0, covariate="crossed", covariate_strength=0, **same)
    moved = simulate(3000, batch_strength=4, **same)
    np.testing.assert_array_equal(free.X.toarray(), twin.X.toarray())
    free, moved = free.X.toarray()[-900:], moved.X.toarray()[-900:]  # drawn last
    assert 0.05 < np.mean(free != moved) < 0.5  # molecules are changed, not drawn anew
    assert np.corrcoef(free.ravel(), moved.ravel())[0, 1] > 0.8


def test_counts__have_like_depth_in_all_types():
    adata = simulate(2000, kind="counts", n_genes=400, type_separation=15, batch_strength=0)
    depth = means(np.asarray(adata.X.sum(axis=1)), adata.obs["cell_type"])
    np.testing.assert_allclose(depth, 0.8 * 400, rtol=0.25)


def test_counts__have_the_set_log_fold_changes_and_poisson_noise():
    strength, n_genes = 4.0, 300
    adata = simulate(
        20_000,
        kind="counts",
        n_types=1,
        n_batches=2,
        n_dims=1,
        n_genes=n_genes,
        batch_strength=strength,
    )
    counts = adata.X.toarray().astype(np.float64)
    first = (adata.obs["batch"] == "batch_1").to_numpy()
    often = counts.mean(axis=0) > 0.2
    folds = np.log(counts[first].mean(axis=0) / counts[~first].mean(axis=0))[often]
    # one unit of length is a log fold change of 0.15 per gene
    assert np.sqrt(np.mean(folds**2)) == pytest.approx(0.15 * strength, rel=0.15)
    # variance is mean + mean^2 times what depth (0.25) and one dimension (0.15) add
    mean, variance = counts[first].mean(axis=0)[often], counts[first].var(axis=0)[often]
    extra = np.median((variance - mean) / mean**2)
    assert extra == pytest.approx(0.25**2 + 0.15**2, abs=0.03)


@pytest.mark.parametrize("n_batches", [2, 7, 200])
def test_batch_size_skew__sets_the_ratio_of_sizes(n_batches):
    n_cells = 400 * n_batches
    sizes = pairs(simulate(n_cells, n_batches=n_batches, batch_size_skew=np.log(4))).sum(axis=1)
    assert sizes.sum() == n_cells
    assert sizes[0] / sizes[-1] == pytest.approx(4.0, rel=0.1)
    assert np.all(np.diff(sizes) <= 4)
    even = pairs(simulate(n_cells, n_batches=n_batches)).sum(axis=1)
    assert np.ptp(even) <= 5


def test_composition_skew__makes_compositions_differ():
    def distance(skew):
        table = pairs(simulate(6000, n_batches=4, composition_skew=skew))
        return np.ptp(table / table.sum(axis=1, keepdims=True), axis=0).max()

    assert distance(0) < 0.01
    assert distance(0) < distance(0.3) < distance(1.0)
    assert distance(1.0) > 0.15


@pytest.mark.parametrize(
    ("n_batches", "n_types", "share"),
    [(3, 5, 0.2), (3, 5, 0.66), (2, 6, 0.5), (40, 10, 0.5), (10, 3, 0.3), (1, 5, 0.0)],
)
def test_missing_types__empties_the_share_and_no_row_or_column(n_batches, n_types, share):
    table = pairs(simulate(8000, n_batches=n_batches, n_types=n_types, missing_types=share, rng=11))
    assert np.sum(table == 0) == round(share * table.size)
    assert table.sum(axis=0).min() > 0
    assert table.sum(axis=1).min() > 0


@pytest.mark.parametrize("n_cells", [200, 230, 500])
def test_few_cells__leave_no_batch_and_no_type_empty(n_cells):
    adata = simulate(n_cells, n_batches=200, n_types=8, rare_type=0.001, batch_size_skew=3)
    table = pairs(adata)
    assert table.sum() == n_cells
    assert table.sum(axis=0).min() > 0
    assert table.sum(axis=1).min() > 0


def test_few_cells__are_rounded_to_other_types_in_every_batch():
    totals = []
    for seed in range(10):  # 0.25 cells of the rare type a batch: never none, never one in each
        table = pairs(simulate(2000, n_batches=40, n_types=4, rare_type=0.005, rng=seed))
        assert np.ptp(table.sum(axis=1)) <= 2
        totals.append(table[:, -1].sum() - 10)  # 40 batches have 40 home pairs, 10 a type
    assert np.mean(totals) == pytest.approx(0.25 * 40, abs=3)
    assert min(totals) >= 1
    assert max(totals) <= 22


def test_rare_type__has_the_set_share():
    table = pairs(simulate(10_000, n_types=6, rare_type=0.02))
    share = table.sum(axis=0) / table.sum()
    assert share[-1] == pytest.approx(0.02, abs=0.001)
    np.testing.assert_allclose(share[:-1], 0.98 / 5, atol=0.001)


@pytest.mark.parametrize(("n_batches", "n_types"), [(4, 4), (3, 7), (7, 3)])
def test_confounded__one_means_that_batch_tells_type(n_batches, n_types):
    table = pairs(simulate(3000, n_batches=n_batches, n_types=n_types, confounded=1))
    assert np.sum(table > 0) == max(n_batches, n_types)
    half = pairs(simulate(3000, n_batches=n_batches, n_types=n_types, confounded=0.5))
    assert np.all(half > 0)
    np.testing.assert_array_equal(half[table > 0].min() > half[table == 0].max(), True)


def test_nested__gives_every_batch_one_level_and_every_level_batches():
    obs = simulate(600, n_batches=7, covariate="nested", n_levels=3).obs
    table = pd.crosstab(obs["batch"], obs["chemistry"]).to_numpy() > 0
    np.testing.assert_array_equal(table.sum(axis=1), 1)
    assert table.sum(axis=0).min() >= 2


def test_crossed__is_balanced_within_every_batch_and_type():
    obs = simulate(3000, covariate="crossed", n_levels=3, composition_skew=0.5).obs
    table = pd.crosstab([obs["batch"], obs["cell_type"]], obs["chemistry"]).to_numpy()
    assert np.ptp(table, axis=1).max() <= 1


def test_cells__come_in_no_order():
    codes = simulate(3000, n_batches=3).obs[["batch", "cell_type"]].apply(lambda c: c.cat.codes)
    position = np.arange(3000)
    for column in codes:
        assert abs(np.corrcoef(position, codes[column])[0, 1]) < 0.06
