"""The six calibration checks on real cells, and where a metric that passes simulated ones fails.

Check 1 to 3: the batches are drawn at random, then moved apart; what is known is the truth about
mixing. Check 4 to 6: the cells and batches as they are.
"""

from __future__ import annotations

import numpy as np
import pytest
from checks import (
    BATCH,
    BIOLOGY,
    NESTED,
    SEEDS,
    SHIFTS,
    STEADY,
    changed_worlds,
    half_of,
    scores,
)
from worlds import World, frozen, labelled, moved

from harmonypy_lite.metrics.suite import METRICS

SETS = ("sc_mixology_5batch", "symphony_pbmcs_1200", "pancreas_hormone2cell")


@pytest.fixture(scope="module", params=SETS)
def real(request, real_data):
    cells, batch, label = labelled(real_data(request.param))
    return World(frozen(cells.astype(np.float64)), batch, label)


@pytest.fixture(scope="module")
def falling(real):
    """Return the batch metrics, raw and calibrated: (seeds, shifts, 2)."""
    table = {name: np.full((len(SEEDS), len(SHIFTS), 2), np.nan) for name in BATCH}
    for seed in SEEDS:
        pre = moved(real, seed, SHIFTS[-1]).embedding
        for place, shift in enumerate(SHIFTS):
            for name, score in scores(moved(real, seed, shift), BATCH, pre).items():
                table[name][seed, place] = score[:2]
    return table


@pytest.mark.parametrize("name", ["ilisi", "cilisi", "pcr_comparison"])
def test_check_1__no_batch_effect_scores_about_one(falling, name):
    calibrated = falling[name][:, 0, 1]
    assert abs(calibrated.mean() - 1) < 0.03
    assert np.abs(calibrated - 1).max() < 0.1


@pytest.mark.parametrize("name", ["bras", "silhouette_batch"])
def test_check_1__silhouettes_fail_it_by_a_tenth_where_labels_are_small(falling, name):
    # the mean of |s| over few cells is not 0; the simulated worlds have 60 and more per group
    assert falling[name][:, 0, 0].min() > 0.85
    assert np.isnan(falling[name][0, 0]).sum() == 0


@pytest.mark.parametrize("name", ["kbet", "kbet_per_label"])
def test_check_1__kbet_accepts_95_of_100(falling, name):
    assert falling[name][:, 0, 0].mean() == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize(
    "name", [name for name in BATCH if name not in ("bras", "silhouette_batch")]
)
def test_check_2__batches_far_apart_score_nothing(falling, name):
    assert falling[name][:, -1, 1].max() <= 0.02


def test_check_2__raw_cilisi_fails_it_in_labels_smaller_than_its_neighbourhood(real, falling):
    smallest = min(np.unique(real.label, return_counts=True)[1])
    raw = falling["cilisi"][:, -1, 0]
    assert (raw.min() > 0.1) == (smallest < 31)


def test_check_2__bras_fails_it_by_the_cells_that_are_alone_in_their_batch(real, falling):
    # such a cell scores 1, as its silhouette is 0 by definition
    for seed in SEEDS:
        batch, shares = moved(real, seed, 0.0).batch, []
        for name in set(real.label):
            sizes = np.unique(batch[real.label == name], return_counts=True)[1]
            if 1 < len(sizes) < sizes.sum():
                shares.append(np.sum(sizes == 1) / sizes.sum())
        assert falling["bras"][seed, -1, 0] <= 0.02 + np.mean(shares)


@pytest.mark.parametrize("name", STEADY)
def test_check_3__a_larger_shift_always_scores_less(real, falling, name):
    found = falling[name][:, :, 0]
    # half a sd moves BRAS no more than the three cells of symphony's smallest label may
    few = name == "bras" and min(np.unique(real.label, return_counts=True)[1]) < 10
    steps = np.diff(found, axis=1)
    assert (steps[:, 0] < (0.001 if few else 0)).all()
    assert steps[:, 0].mean() < 0
    # at 4 sd a median may be 1 and every cell rejected already
    done = name in ("ilisi", "kbet", "kbet_per_label")
    assert (steps[:, 1:-1] < 0).all()
    assert (steps[:, -1] <= 0).all() if done else (steps[:, -1] < 0).all()


def test_check_3__silhouette_batch_hardly_falls_up_to_one_sd(falling):
    found, of_cilisi = (falling[name][:, :, 0] for name in ("silhouette_batch", "cilisi"))
    assert np.ptp(found[:, :3], axis=1).max() < 0.05
    assert np.ptp(of_cilisi[:, :3], axis=1).min() > np.ptp(found[:, :3], axis=1).max()
    assert (np.diff(found[:, 2:], axis=1) < 0).all()


def test_check_3__batches_mixed_in_pairs_score_below_what_silhouette_batch_says(real):
    for seed in SEEDS:
        found = scores(moved(real, seed, 8.0, nested=True), NESTED)
        assert max(found[name].calibrated for name in NESTED[:3]) < 0.6
        assert found["silhouette_batch"].raw > 0.8


@pytest.fixture(scope="module", params=["shuffled labels", "random embedding"])
def nothing(request, real):
    """Return calibrated biology metrics without biology (seeds, metrics), and standard errors."""
    rows = []
    for seed in SEEDS:
        cells, batch, label = real
        rng = np.random.default_rng(seed)
        if request.param == "shuffled labels":
            label = rng.permutation(label)
        else:
            cells = rng.normal(size=cells.shape)
        found = scores(World(frozen(cells), batch, frozen(label)), BIOLOGY)
        rows.append([found[name][1:] for name in BIOLOGY])
    return dict(zip(BIOLOGY, np.array(rows).transpose(1, 2, 0), strict=True))


@pytest.mark.parametrize("name", BIOLOGY)
def test_check_4__without_biology_the_calibrated_scores_are_about_zero(nothing, name):
    calibrated, error = nothing[name]
    assert abs(calibrated.mean()) < 0.04
    # ten shuffles are the sample of the null: one more lies within some of their deviations
    deviation = np.nan_to_num(error) * np.sqrt(10)
    assert (np.abs(calibrated) <= 0.04 + 4 * deviation).all()


def test_check_4__a_random_embedding_isolates_no_label_and_keeps_no_structure(real):
    names = ("isolated_labels", "structure_overlap", "structure_concordance")
    rows = []
    for seed in SEEDS:
        noise = np.random.default_rng(seed).normal(size=real.embedding.shape)
        found = scores(World(frozen(noise), *real[1:]), names, real.embedding)
        rows.append([found[name].calibrated for name in names])
    isolated, *structure = np.transpose(rows)
    assert abs(isolated.mean()) < 0.03
    assert np.abs(isolated).max() < 0.15  # a label of a dozen cells, as in symphony, scatters
    assert np.abs(structure).max() < 0.04


def test_check_5__raw_scores_do_not_depend_on_what_means_nothing(real):
    names = [*BATCH, *BIOLOGY, "isolated_labels", "structure_overlap", "structure_concordance"]
    pre = moved(real, 0, 1.0).embedding + 0.1 * real.embedding[:, ::-1]
    expected = scores(real, names, pre)
    assert 0 < expected["structure_concordance"].raw < 0.95
    for change, other, before in changed_worlds(real, pre):
        found = scores(World(*map(frozen, other)), names, frozen(before))
        for name in names:
            assert found[name].raw == pytest.approx(expected[name].raw, abs=1e-6), (change, name)


def test_check_5__threads_change_no_bit(real):
    one, three = (scores(real, list(METRICS), n_jobs=n) for n in (1, 3))
    np.testing.assert_equal(one, three)


@pytest.mark.parametrize("name", ["cell_lines_9478", "kang_ifnb_pbmc"])
def test_check_6__half_the_cells_score_about_the_same(name, real_data):
    given = labelled(real_data(name))
    steady = ("bras", "graph_connectivity", "pcr_comparison", "silhouette_batch")
    allowed = dict.fromkeys((*steady, "clisi", "silhouette_label"), 0.02)
    # inside a label, half the cells are a neighbourhood twice as wide; k-means has other optima
    allowed |= {"ilisi": 0.04, "cilisi": 0.07, "nmi": 0.07, "ari": 0.07}
    pre = given.embedding * np.linspace(2, 1, given.embedding.shape[1], dtype=np.float32)
    whole = scores(given, allowed, pre)
    for seed in SEEDS:
        half = half_of(given, seed)
        part = scores(World(*(frozen(column[half]) for column in given)), allowed, pre[half])
        for metric, most in allowed.items():
            assert abs(part[metric].raw - whole[metric].raw) <= most, (metric, seed)
