"""NMI, ARI and structure preservation."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from worlds import frozen, world

from harmonypy_lite.errors import HarmonyWarning, InvalidInput, MissingExtra, NotApplicable
from harmonypy_lite.metrics.clusters import agreement, nmi_ari
from harmonypy_lite.metrics.kmeans import TOLERANCE, kmeans, lloyd, own_order, spread
from harmonypy_lite.metrics.structure import structure_preservation

COMMON = [0, 1, 2, 3, 4] * 40
HALF_ALIKE = [COMMON + [0, 1, 2] * 30, COMMON + [3, 2, 2, 1, 1, 0] * 15]
TRIVIAL = [([0] * 9, [0] * 9), (range(9), range(9)), ([0] * 9, range(9)), ([0, 1], [0, 0])]
BY_CHANCE = [[0, 0, 1, 1], [0, 1, 0, 1]]
A_NUMBER_MISSING = [[0, 0, 3, 3, 1], [2, 2, 0, 0, 0]]


@pytest.mark.parametrize("pair", [HALF_ALIKE, *TRIVIAL, BY_CHANCE, A_NUMBER_MISSING])
def test_agreement__equals_sklearn(pair):
    one, two = map(np.array, pair)
    found = agreement(frozen(one), frozen(two))
    expected = normalized_mutual_info_score(one, two, average_method="arithmetic")
    assert found.nmi == pytest.approx(expected, abs=1e-12)
    assert found.ari == pytest.approx(adjusted_rand_score(one, two), abs=1e-12)
    assert 0 <= found.nmi <= 1


def test_agreement__counts_more_pairs_than_32_bits_hold():
    one = np.random.default_rng(0).integers(0, 3, 200_000)
    two = np.where(np.arange(len(one)) % 10 == 0, 0, one)
    assert agreement(one, two).ari == pytest.approx(adjusted_rand_score(one, two), abs=1e-12)


def within(cells, clusters):
    """Return the sum of squared distances to the means of the clusters."""
    levels = [cells[clusters == c] for c in np.unique(clusters)]
    return sum(((level - level.mean(axis=0)) ** 2).sum() for level in levels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("apart", "k", "most"), [(4.0, 5, 1e-4), (0.0, 8, 0.01)])
def test_kmeans__is_as_good_as_sklearn_with_ten_starts(dtype, apart, k, most):
    cells = world(n_cells=800, apart=apart).embedding + 100.0
    clusters = kmeans(frozen(cells.astype(dtype)), k)
    theirs = KMeans(k, n_init=10, random_state=3).fit(cells)
    assert len(set(clusters)) == k
    assert within(cells, clusters) <= theirs.inertia_ * (1 + most)


def test_kmeans__ends_where_sklearn_ends_from_the_same_centres():
    cells = world(n_cells=800, apart=2.0).embedding
    cells = cells - cells.mean(axis=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        centres = cells[rng.choice(len(cells), 6, replace=False)]
        enough = TOLERANCE * float(np.mean(cells.var(axis=0)))
        between, clusters = lloyd(cells, centres, enough)
        theirs = KMeans(6, init=centres, n_init=1, algorithm="lloyd").fit(cells)
        np.testing.assert_array_equal(clusters, theirs.labels_)
        assert (cells**2).sum() - between == pytest.approx(within(cells, clusters), rel=1e-10)


def test_kmeans__starts_far_apart_find_small_clusters():
    # two of 300 cells, far away: even draws would miss them in most of the runs
    cells = np.random.default_rng(0).normal(size=(300, 4))
    cells[:2] += 50.0
    for seed in range(5):
        clusters = spread(cells, 2, np.random.default_rng(seed))
        assert np.ptp(clusters[:, 0]) > 40


def test_kmeans__gives_the_same_clusters_for_any_number_of_threads():
    cells = world(n_cells=1200, apart=2.0).embedding.astype(np.float32)
    np.testing.assert_array_equal(kmeans(cells, 9, n_jobs=1), kmeans(cells, 9, n_jobs=3))


def overlapping():
    """Cells whose clusters are a matter of where one starts."""
    return world(n_cells=900, apart=3.0).embedding


def shuffles_and_rotations(cells):
    """Yield other orders of the cells, each with an embedding turned or not."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        order = rng.permutation(len(cells))
        yield order, cells[order]
        rotation = np.linalg.qr(rng.normal(size=(cells.shape[1],) * 2))[0]
        yield order, (cells[order].astype(np.float64) @ rotation).astype(cells.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kmeans__does_not_depend_on_the_order_of_the_cells_or_a_rotation(dtype):
    cells = frozen(overlapping().astype(dtype))
    clusters = kmeans(cells, 12)
    assert agreement(clusters, kmeans(cells, 12, seed=1)).ari < 0.99  # there are other answers
    for order, other in shuffles_and_rotations(cells):
        np.testing.assert_array_equal(kmeans(other, 12), clusters[order])


def test_own_order__is_the_same_where_many_cells_are_equally_far_from_the_mean():
    far = np.random.default_rng(0).normal(size=(100, 3))
    far /= np.linalg.norm(far, axis=1)[:, None]
    cells = frozen(np.vstack([far, -far / 2, -far / 2]))
    expected = cells[own_order(cells)]
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), [0.5] * 200 + [1.0] * 100)
    for order, other in shuffles_and_rotations(cells):
        np.testing.assert_array_equal(cells[order][own_order(other)], expected)


def test_own_order__survives_cells_that_are_all_alike_and_sizes_without_squares():
    alike = own_order(np.ones((3, 2), np.float32))
    assert sorted(alike) == [0, 1, 2]
    for scale in (1e-300, 1e300):
        away = np.array([[3.0], [-1.0], [0.0], [-2.2]]) * scale
        assert own_order(away).tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("clustering", ["kmeans", "leiden"])
def test_nmi_ari__does_not_depend_on_the_order_of_the_cells_or_a_rotation(clustering):
    cells, label = frozen(overlapping().astype(np.float32)), world(n_cells=900).label
    found = nmi_ari(cells, label, clustering=clustering)
    assert nmi_ari(cells, label, clustering=clustering, seed=1) != found
    for order, other in shuffles_and_rotations(cells):
        assert nmi_ari(frozen(other), label[order], clustering=clustering) == found


@pytest.mark.parametrize("clustering", ["kmeans", "leiden"])
def test_nmi_ari__finds_separated_types_and_nothing_in_shuffled_labels(clustering):
    cells, _, label = world(n_cells=900)
    found = nmi_ari(cells, label, clustering=clustering)
    assert found.nmi > 0.99
    assert found.ari > 0.99
    shuffled = nmi_ari(cells, np.random.default_rng(0).permutation(label), clustering=clustering)
    assert shuffled.nmi < 0.04
    assert abs(shuffled.ari) < 0.02


def test_leiden__does_not_depend_on_the_random_state_of_igraph():
    cells, _, label = world(n_cells=500, apart=3.0)
    random.seed(1)
    one = nmi_ari(cells, label, clustering="leiden", seed=4)
    random.seed(2)
    assert nmi_ari(cells, label, clustering="leiden", seed=4) == one


def test_leiden__names_the_extra_when_igraph_is_absent(monkeypatch):
    cells, _, label = world(n_cells=60)
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(MissingExtra, match=r"harmonypy-lite\[leiden\]"):
        nmi_ari(cells, label, clustering="leiden")


def test_nmi_ari__survives_fewer_points_than_clusters():
    cells = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)
    found = nmi_ari(frozen(cells), np.repeat(list("abcd"), 10))
    assert 0 < found.nmi < 1


def test_nmi_ari__refuses_what_has_no_answer():
    cells, _, label = world(n_cells=60)
    with pytest.raises(NotApplicable, match="label has only 'a'"):
        nmi_ari(cells, ["a"] * 60)
    with pytest.raises(InvalidInput, match="'leiden'; got 'dbscan'"):
        nmi_ari(cells, label, clustering="dbscan")


def naive_overlap(one, two, batch, k):
    out = np.full(len(one), np.nan)
    for name in set(batch):
        cells = np.flatnonzero(batch == name)
        if len(cells) <= 2 * k:
            continue
        near = []
        for part in (one[cells], two[cells]):
            distances = cdist(part, part)
            np.fill_diagonal(distances, np.inf)
            near.append(np.argsort(distances, axis=1)[:, :k])
        out[cells] = [len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)]
    return out


def test_structure__equals_a_naive_overlap():
    one, batch, _ = world(n_cells=500, shift=1.0)
    two = one + np.random.default_rng(1).normal(size=one.shape)
    with pytest.warns(HarmonyWarning, match=r"leaves out 1 of 4 .* more than 60 cells: donor_d\."):
        found = structure_preservation(one, frozen(two), batch)
    expected = naive_overlap(one, two, batch, 30)
    np.testing.assert_allclose(found.per_cell, expected, atol=1e-15, equal_nan=True)
    assert found.overlap == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_structure__is_one_for_a_rotation_and_chance_for_noise():
    one, batch, _ = world(n_cells=1500, shift=2.0)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    kept = structure_preservation(one, one @ rotation * 3 + 1, batch)
    assert kept.overlap == pytest.approx(1.0, abs=1e-3)
    assert kept.concordance > 0.8
    noise = np.random.default_rng(1).normal(size=one.shape)
    lost = structure_preservation(one, noise, batch)
    assert lost.overlap == pytest.approx(lost.overlap_null, abs=0.01)
    assert abs(lost.concordance) < 0.02


def test_structure__refuses_what_has_no_answer():
    cells, batch, _ = world(n_cells=100)
    with pytest.raises(NotApplicable, match="no category of batch has more than 60 cells"):
        structure_preservation(cells, cells, batch)
    with pytest.raises(InvalidInput, match="pre has 100 cells and post 99"):
        structure_preservation(cells, cells[1:], batch)
