"""Silhouettes and isolated labels against scikit-learn; sampling and its standard error."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples
from worlds import frozen, world

from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotApplicable
from harmonypy_lite.metrics import silhouette as module
from harmonypy_lite.metrics.silhouette import (
    isolated_labels,
    silhouette_batch,
    silhouette_label,
    silhouettes,
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 1e-5)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_silhouettes__equal_sklearn(dtype, tolerance, offset):
    cells, _, label = world(n_cells=2600, shift=1.0)
    label = label.astype("U9")
    label[0] = "singleton"
    cells = frozen((cells + offset).astype(dtype))
    ours = silhouettes(cells, frozen(label))
    theirs = silhouette_samples(cells.astype(np.float64), label)
    np.testing.assert_allclose(ours.values, theirs, rtol=0, atol=tolerance)
    assert ours.values[0] == 0
    assert silhouette_label(cells, label) == pytest.approx((theirs.mean() + 1) / 2, abs=tolerance)
    assert ours.score().standard_error == 0


def test_silhouettes__are_zero_among_identical_cells():
    cells = frozen(np.ones((60, 3)))
    assert (silhouettes(cells, ["a", "b"] * 30).values == 0).all()
    assert silhouette_label(cells, ["a", "b"] * 30) == 0.5


def test_silhouettes__count_no_distance_of_a_cell_to_itself():
    rng = np.random.default_rng(0)
    pairs = np.repeat(rng.normal(size=(30, 4)) * 100, 2, axis=0) + rng.normal(size=(60, 4)) * 5
    cells, label = frozen(pairs.astype(np.float32)), np.repeat(np.arange(30), 2)
    expected = silhouette_samples(cells.astype(np.float64), label)
    np.testing.assert_allclose(silhouettes(cells, label).values, expected, atol=1e-5)


def test_silhouettes__give_the_same_bytes_for_any_number_of_threads():
    cells, _, label = world(n_cells=1000)
    one, three = (silhouettes(cells, label, n_jobs=n).values.tobytes() for n in (1, 3))
    assert one == three


def test_sampled_silhouettes__are_those_of_all_cells_with_an_honest_error(monkeypatch):
    cells, _, label = world(n_cells=2000, apart=3.0)
    truth = silhouettes(cells, label)
    monkeypatch.setattr(module, "ALL_CELLS_UP_TO", 1000)
    monkeypatch.setattr(module, "SAMPLE", 400)
    monkeypatch.setattr(module, "SAMPLE_PER_LABEL", 50)
    scaled = []
    for seed in range(40):
        sample = silhouettes(cells, label, seed=seed)
        np.testing.assert_allclose(sample.values, truth.values[sample.cells], atol=1e-12)
        estimate = sample.score()
        scaled.append((estimate.value - truth.score().value) / estimate.standard_error)
    assert 380 <= len(sample.cells) <= 420
    assert abs(np.mean(scaled)) < 0.6
    assert 0.7 < np.std(scaled) < 1.4


def test_silhouette_batch__weighs_a_sample_by_the_sizes_of_the_batches(monkeypatch):
    cells, batch, _ = world(n_cells=3000, shift=3.0)
    cells = frozen(cells * np.where(batch == "donor_d", 3.0, 1.0)[:, None])
    label = ["one"] * 3000
    with pytest.warns(HarmonyWarning, match="use bras"):
        truth = silhouette_batch(cells, batch, label)
    monkeypatch.setattr(module, "ALL_CELLS_UP_TO", 1000)
    monkeypatch.setattr(module, "SAMPLE", 600)  # donor_d: 60 of 600 by its share, but 200
    with pytest.warns(HarmonyWarning, match="use bras"):
        assert silhouette_batch(cells, batch, label) == pytest.approx(truth, abs=0.01)


def test_isolated_labels__averages_the_labels_of_the_fewest_batches():
    cells, batch, label = world(n_cells=600)
    label = label.astype("U9")
    label[batch == "donor_d"] = "only_d"
    label[(batch == "donor_c") & (label == "T")] = "only_c"
    half = (silhouette_samples(cells, label) + 1) / 2
    expected = np.mean([half[label == "only_d"].mean(), half[label == "only_c"].mean()])
    assert isolated_labels(cells, batch, label) == pytest.approx(expected, abs=1e-8)
    measured = silhouettes(cells, label)
    assert isolated_labels(measured, batch, label) == pytest.approx(expected, abs=1e-8)
    with pytest.raises(InvalidInput, match="measured for other labels"):
        isolated_labels(measured, batch, batch)


def test_isolated_labels__is_not_applicable_when_all_batches_have_all_labels():
    cells, batch, label = world(n_cells=600)
    with pytest.raises(NotApplicable, match="every category of label is in all 4 batches"):
        isolated_labels(cells, batch, label)


def test_silhouette_batch__equals_sklearn_inside_labels_and_warns():
    cells, batch, label = world(n_cells=600, shift=2.0)
    label = label.astype("U9")
    label[batch == "donor_a"] = "one_batch"
    label[[np.flatnonzero(batch == name)[0] for name in ("donor_b", "donor_c")]] = "pair"
    expected = []
    for name in set(label) - {"one_batch", "pair"}:
        inside = label == name
        expected.append(1 - np.abs(silhouette_samples(cells[inside], batch[inside])).mean())
    with (
        pytest.warns(HarmonyWarning, match="use bras"),
        pytest.warns(HarmonyWarning, match="leaves out 2 of 7 .*: one_batch, pair"),
    ):
        value = silhouette_batch(cells, batch, frozen(label))
    assert value == pytest.approx(np.mean(expected), abs=1e-8)


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (["a"] * 50, NotApplicable, "label has only 'a'"),
        (np.array(["a", None] * 25, object), InvalidInput, "label is missing for 25 of 50 cells"),
        (["a", "b"] * 20, InvalidInput, "40 values for 50 cells"),
    ],
)
def test_silhouettes__refuse_labels_without_an_answer(label, error, message):
    with pytest.raises(error, match=message):
        silhouette_label(world(n_cells=50).embedding, label)
