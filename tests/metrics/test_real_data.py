"""The metrics on real cells: every oracle of the simulated ones, and within their range."""

from __future__ import annotations

import warnings

import harmonypy
import numpy as np
import pandas as pd
import pytest
from naive import (
    anova_of_components,
    naive_bras,
    naive_connectivity,
    naive_kbet,
    slow_cilisi,
    slow_lisi,
)
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_samples,
)
from worlds import World, frozen, labelled

from harmonypy_lite import metrics
from harmonypy_lite.errors import HarmonyWarning, NotApplicable
from harmonypy_lite.metrics.kmeans import kmeans

LABELLED = (
    "cell_lines_2370",
    "pancreas_hormone2cell",
    "ra_synovium_5265",
    "sc_mixology_5batch",
    "sim_tran2020_simul1",
    "symphony_pbmcs_1200",
)


@pytest.fixture(scope="module", params=LABELLED)
def real(request, real_data):
    """Return the labelled cells in float64, at most 3,000 of them."""
    given = labelled(real_data(request.param))
    step = -(-len(given.batch) // 3000)
    cells, batch, label = (frozen(column[::step].copy()) for column in given)
    return World(frozen(cells.astype(np.float64)), batch, label)


@pytest.fixture(scope="module")
def near(real):
    return metrics.find_neighbors(real.embedding, 90)


def test_neighbors__are_those_of_all_distances(real, near):
    rows = np.arange(0, len(real.batch), 7)
    away = np.linalg.norm(real.embedding[rows, None] - real.embedding, axis=2)
    away[np.arange(len(rows)), rows] = np.inf
    np.testing.assert_allclose(near.distances[rows], np.sort(away, axis=1)[:, :90], rtol=1e-10)


def test_lisi__equals_harmonypy(real, near):
    columns = pd.DataFrame({"batch": real.batch, "label": real.label})
    theirs = harmonypy.compute_lisi(real.embedding.copy(), columns, list(columns), perplexity=30)
    ours = metrics.lisi(near, columns, variant="harmonypy")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


def test_lisi__solves_the_entropy_equation(real, near):
    cells = np.arange(0, len(real.batch), 23)
    values = metrics.lisi(near, real.batch)[cells]
    for value, cell in zip(values, cells, strict=True):
        batches = real.batch[near.indices[cell, :89]]
        assert value == pytest.approx(slow_lisi(near.distances[cell, :89], batches, 30), abs=1e-7)


def test_cilisi__equals_a_slow_bisection(real):
    some = np.arange(0, len(real.batch), -(-len(real.batch) // 500))
    cells, batch, label = (column[some] for column in real)
    ours = metrics.cilisi_per_cell(cells, batch, label)
    np.testing.assert_allclose(ours, slow_cilisi(cells, batch, label, 30), rtol=0, atol=1e-10)


def test_bras__equals_all_pairs(real):
    values = metrics.bras_per_cell(*real)
    means = pd.Series(values).groupby(real.label).mean()
    assert means.mean() == pytest.approx(naive_bras(*real), abs=1e-10)


def test_silhouettes__equal_sklearn(real):
    theirs = silhouette_samples(real.embedding, real.label)
    ours = metrics.silhouettes(real.embedding, real.label)
    np.testing.assert_allclose(ours.values, theirs, rtol=0, atol=1e-8)
    half = pd.Series((theirs + 1) / 2)
    assert metrics.silhouette_label(ours, real.label) == pytest.approx(half.mean(), abs=1e-8)
    batches = pd.Series(real.batch).groupby(real.label).nunique()
    if batches.min() == len(set(real.batch)):
        with pytest.raises(NotApplicable):
            metrics.isolated_labels(ours, real.batch, real.label)
    else:
        of_label = half.groupby(real.label).mean()
        expected = of_label[batches == batches.min()].mean()
        value = metrics.isolated_labels(ours, real.batch, real.label)
        assert value == pytest.approx(expected, abs=1e-8)


def test_single_precision__is_good_to_five_digits(real):
    cells = real.embedding.astype(np.float32)
    expected = silhouette_samples(cells.astype(np.float64), real.label)
    ours = metrics.silhouettes(cells, real.label).values
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_pcr__equals_an_anova_of_the_components(real):
    expected = anova_of_components(real.embedding, real.batch)
    assert metrics.pcr(real.embedding, real.batch) == pytest.approx(expected, abs=1e-10)
    means = pd.DataFrame(real.embedding).groupby(real.batch).transform("mean").to_numpy()
    nearer = frozen(real.embedding - 0.7 * means)
    left = anova_of_components(nearer, real.batch)
    value = metrics.pcr_comparison(real.embedding, nearer, real.batch)
    assert value == pytest.approx((expected - left) / expected, abs=1e-9)
    assert 0 < value < 1


@pytest.mark.parametrize(("mode", "connection"), [("undirected", "weak"), ("directed", "strong")])
def test_graph_connectivity__equals_scipy(real, near, mode, connection):
    expected = naive_connectivity(near.others(14).indices, real.label, connection)
    value = metrics.graph_connectivity(near, real.label, mode=mode)
    assert value == pytest.approx(expected, abs=1e-14)


def test_kbet__equals_scipy(real, near):
    statistic, p_value = naive_kbet(near.others(49).indices, real.batch)
    test = metrics.kbet_test(near, real.batch)
    np.testing.assert_allclose(test.statistic, statistic, rtol=1e-10)
    np.testing.assert_allclose(test.p_value, p_value, rtol=0, atol=1e-10)
    assert test.acceptance == np.mean(p_value >= 0.05)


def test_nmi_and_ari__equal_sklearn(real):
    clusters = kmeans(real.embedding, len(set(real.label)))
    found = metrics.nmi_ari(real.embedding, real.label)
    nmi = normalized_mutual_info_score(real.label, clusters, average_method="arithmetic")
    assert found.nmi == pytest.approx(nmi, abs=1e-12)
    assert found.ari == pytest.approx(adjusted_rand_score(real.label, clusters), abs=1e-12)


@pytest.mark.parametrize("name", LABELLED)
def test_score__stays_in_range_or_says_why_not(name, real_path):
    table = metrics.score_file(real_path(name), "batch", "cell_type", ["X_pca"], metrics="all")
    missing = table.raw.isna() & table.calibrated.isna()
    assert (table[missing].reason.str.len() > 0).all()
    assert not missing[table.metric.isin(["ilisi", "cilisi", "bras", "clisi", "nmi"])].any()
    raw = table.raw.dropna()
    assert raw.between(-0.05, 1 + 1e-9).all()
    assert table.calibrated.dropna().between(-0.5, 1.2).all()


def test_scores__need_labels_only_where_they_use_them(real_data):
    adata = real_data("immune_union_57k")[::20].copy()
    adata.obs.loc[adata.obs_names[::9], "cell_type_partial"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", HarmonyWarning)
        table = metrics.score(adata, "batch", "cell_type_partial", ["X_pca"]).set_index("metric")
    known = int(adata.obs["cell_type_partial"].notna().sum())
    assert 0 < known < adata.n_obs
    assert table.loc["ilisi", "n_cells"] == table.loc["pcr_comparison", "n_cells"] == adata.n_obs
    assert table.loc["clisi", "n_cells"] == table.loc["bras", "n_cells"] == known
