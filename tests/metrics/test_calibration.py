"""The six calibration checks: every metric passes, or is named here as one that fails.

Worlds as in METRICS: 3,000 cells, 5 types, batches of .4, .3, .2 and .1, 20 dimensions.
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
from worlds import World, frozen, world

from harmonypy_lite.metrics.inputs import as_categories
from harmonypy_lite.metrics.suite import METRICS, Cells, Question, Settings, measure
from harmonypy_lite.metrics.totals import totals


@pytest.fixture(scope="module")
def falling():
    """Return the batch metrics, raw and calibrated: (seeds, shifts, 2)."""
    table = {name: np.full((len(SEEDS), len(SHIFTS), 2), np.nan) for name in BATCH}
    for seed in SEEDS:
        pre = world(seed, 40.0).embedding
        for place, shift in enumerate(SHIFTS):
            for name, score in scores(world(seed, shift), BATCH, pre).items():
                table[name][seed, place] = score[:2]
    return table


@pytest.mark.parametrize("name", [name for name in BATCH if not name.startswith("kbet")])
def test_check_1__no_batch_effect_scores_about_one(falling, name):
    calibrated = falling[name][:, 0, 1]
    assert abs(calibrated.mean() - 1) < 0.03
    assert np.abs(calibrated - 1).max() < 0.1


def test_check_1__raw_lisi_scores_fail_it(falling):
    assert falling["ilisi"][:, 0, 0].max() < 0.7
    assert falling["cilisi"][:, 0, 0].max() < 0.8


@pytest.mark.parametrize("name", ["kbet", "kbet_per_label"])
def test_check_1__kbet_accepts_95_of_100(falling, name):
    assert falling[name][:, 0, 0].mean() == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("name", [name for name in BATCH if name != "silhouette_batch"])
def test_check_2__batches_far_apart_score_nothing(falling, name):
    assert falling[name][:, -1, 1].max() <= 0.02


def test_check_2__silhouette_batch_fails_it(falling):
    assert falling["silhouette_batch"][:, -1, 0].min() > 0.05


def test_check_2__raw_graph_connectivity_fails_it(falling):
    assert falling["graph_connectivity"][:, -1, 0].min() > 0.3


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("name", [*STEADY, "silhouette_batch"])
def test_check_3__a_larger_shift_always_scores_less(falling, name, column):
    found = falling[name][:, :, column]
    # kBET at 4 sd may have rejected every cell already
    steps = found[:, :-1] if name == "kbet" else found
    assert (np.diff(steps, axis=1) < 0).all()
    assert (found[:, -1] < found[:, 0] / (5 if name == "silhouette_batch" else 10)).all()


def test_check_3__graph_connectivity_fails_it(falling):
    assert (falling["graph_connectivity"][:, :5, 0] > 0.99).all()


def test_check_3__batches_mixed_in_pairs_score_below_what_silhouette_batch_says():
    for seed in SEEDS:
        found = scores(world(seed, nested=True), NESTED)
        assert max(found[name].calibrated for name in NESTED[:3]) < 0.6
        assert found["silhouette_batch"].raw > 0.95  # why it is legacy


@pytest.fixture(scope="module", params=["shuffled labels", "random embedding"])
def nothing(request):
    """Return the biology metrics of worlds without biology, one row per seed."""
    rows = []
    for seed in SEEDS:
        cells, batch, label = world(seed)
        rng = np.random.default_rng(100 + seed)
        if request.param == "shuffled labels":
            label = rng.permutation(label)
        else:
            cells = rng.normal(size=cells.shape)
        found = scores(World(frozen(cells), batch, frozen(label)), BIOLOGY)
        rows.append([found[name] for name in BIOLOGY])
    return dict(zip(BIOLOGY, np.array(rows).transpose(1, 0, 2), strict=True))


@pytest.mark.parametrize("name", BIOLOGY)
def test_check_4__without_biology_the_calibrated_scores_are_about_zero(nothing, name):
    calibrated = nothing[name][:, 1]
    assert abs(calibrated.mean()) < 0.01
    assert np.abs(calibrated).max() < 0.04


def with_isolated(label, batch):
    """Give the type D to one batch only."""
    return frozen(np.where((label == "D") & (batch != "donor_b"), "T", label))


def test_check_4__a_random_embedding_isolates_no_label_and_keeps_no_structure():
    names = ("isolated_labels", "structure_overlap", "structure_concordance")
    rows = []
    for seed in SEEDS:
        cells, batch, label = world(seed)
        noise = frozen(np.random.default_rng(100 + seed).normal(size=cells.shape))
        found = scores(World(noise, batch, with_isolated(label, batch)), names, pre=cells)
        rows.append([found[name].calibrated for name in names])
    assert np.abs(np.mean(rows, axis=0)).max() < 0.01
    assert np.abs(rows).max() < 0.04


def test_check_4__raw_clisi_and_silhouette_fail_it(nothing):
    assert nothing["clisi"][:, 0].min() > 0.2
    assert nothing["silhouette_label"][:, 0].min() > 0.45


def test_check_4__a_random_embedding_mixes_perfectly_which_is_why_mixing_alone_is_no_total():
    cells, batch, label = world(0)
    noise = frozen(np.random.default_rng(1).normal(size=cells.shape))
    pre = world(0, 4.0).embedding
    found = scores(World(noise, batch, label), [*BATCH, *BIOLOGY], pre)
    assert min(found[name].calibrated for name in ("ilisi", "cilisi", "bras", "kbet")) > 0.9
    assert max(found[name].calibrated for name in BIOLOGY) < 0.05


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_check_5__raw_scores_do_not_depend_on_what_means_nothing(shift):
    cells, batch, label = world(3, shift)
    given, names = World(cells, batch, with_isolated(label, batch)), list(METRICS)
    pre = world(3, shift + 2).embedding + np.random.default_rng(1).normal(size=cells.shape)
    expected = scores(given, names, pre)
    assert 0 < expected["pcr_comparison"].raw < 1
    assert 0 < expected["structure_overlap"].raw < 1
    for change, other, before in changed_worlds(given, pre):
        found = scores(World(*map(frozen, other)), names, frozen(before))
        for name in names:
            assert found[name].raw == pytest.approx(expected[name].raw, abs=1e-6), (change, name)
            error = 6 * np.nan_to_num(expected[name].standard_error) + 1e-6
            assert found[name].calibrated == pytest.approx(expected[name].calibrated, abs=error), (
                change,
                name,
            )


def test_check_5__threads_change_no_bit():
    cells, batch, label = world(3, 1.0)
    given, pre = World(cells, batch, with_isolated(label, batch)), world(3, 2.0).embedding
    one, three = (scores(given, list(METRICS), pre, n_jobs=n) for n in (1, 3))
    np.testing.assert_equal(one, three)


def test_check_6__half_the_cells_score_about_the_same():
    steady = ("bras", "pcr_comparison", "graph_connectivity", "silhouette_batch", *BIOLOGY)
    allowed = dict.fromkeys(steady, 0.02)
    allowed |= {"ilisi": 0.04, "cilisi": 0.04}
    for seed in SEEDS:
        given = world(seed, 1.0)
        half = half_of(given, seed)
        pre = world(seed, 40.0).embedding
        whole = scores(given, allowed, pre)
        part = scores(World(*(frozen(column[half]) for column in given)), allowed, pre[half])
        for name, most in allowed.items():
            assert abs(part[name].raw - whole[name].raw) <= most, (name, seed)
        cells, batch, label = given
        isolated = World(cells, batch, with_isolated(label, batch))
        whole = scores(isolated, ["isolated_labels"])
        part = scores(World(*(frozen(column[half]) for column in isolated)), ["isolated_labels"])
        change = part["isolated_labels"].raw - whole["isolated_labels"].raw
        assert abs(change) <= 0.02, seed


def test_check_6__kbet_and_structure_fail_it():
    # a test of fewer neighbours has less power; 30 neighbours of half the cells lie farther away
    names = ("kbet", "kbet_per_label", "structure_overlap", "structure_concordance")
    changes = []
    for seed in SEEDS:
        given = world(seed, 1.0)
        noise = np.random.default_rng(seed).normal(size=given.embedding.shape)
        pre, half = frozen(given.embedding + noise), half_of(given, seed)
        whole = scores(given, names, pre)
        part = scores(World(*(frozen(column[half]) for column in given)), names, pre[half])
        changes.append([part[name].calibrated - whole[name].calibrated for name in names])
    largest = np.abs(changes).max(axis=0)
    assert (largest > 0.04).all()
    assert (largest < 0.25).all()
    assert (np.array(changes)[:, 2] > 0.1).all()


def test_totals__rank_a_good_integration_above_none_and_above_noise():
    pre = world(0, 4.0)
    good, noise = world(0, 0.5).embedding, np.random.default_rng(0).normal(size=(3000, 20))
    values = []
    for cells in (good, pre.embedding, frozen(noise)):
        cells_of = Cells(cells, Settings(), as_categories(pre.label, 3000, "label"))
        batches = as_categories(pre.batch, 3000, "batch")
        question = Question(cells_of, batches, cells_of, batches, pre.embedding)
        robust = totals(measure(question, name) for name in METRICS)[1]
        assert robust.name == "robust"
        assert robust.reason == ""
        values.append(robust.value)
    assert values[0] > 0.95
    assert values[0] > values[1] > values[2]
