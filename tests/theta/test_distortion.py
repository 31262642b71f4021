"""How unevenly distances inside batches changed."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import world

from harmonypy_lite.metrics.inputs import as_categories
from harmonypy_lite.theta.distortion import stretch, unevenness
from harmonypy_lite.theta.measure import Probe


@pytest.fixture(scope="module")
def probe():
    given = world(1, 2.0, n_cells=400)
    return Probe(given.embedding, np.arange(400), as_categories(given.batch, 400, "batch"), 1.0)


def test_stretch__of_batches_that_move_as_a_whole_is_none(probe):
    moved = probe.Z + 5.0 * np.eye(4, probe.Z.shape[1])[probe.batches.codes]
    assert np.nanmax(np.abs(stretch(probe, moved, 0))) < 1e-12
    assert np.nanstd(stretch(probe, 3 * probe.Z, 0)) < 1e-12
    assert np.nanmean(stretch(probe, 3 * probe.Z, 0)) == pytest.approx(np.log(3))


def test_stretch__looks_at_the_far_half_of_the_pairs(probe):
    assert np.isnan(stretch(probe, probe.Z, 0)).mean() == pytest.approx(0.5, abs=0.01)


def test_unevenness__is_where_one_type_was_drawn_onto_another(probe):
    _, code = np.unique(world(1, 2.0, n_cells=400).label, return_inverse=True)
    moved = probe.Z.copy()
    away = moved[code == 1].mean(axis=0) - moved[code == 0].mean(axis=0)
    moved[code == 0] += away
    found = unevenness(stretch(probe, moved, 0), code, 5)
    # distances from type 0 became those from type 1, to type 1 nearly none
    assert found[0] > 0.2
    assert found[1] > 0.2
    assert found[2:].max() < found[:2].min()


def test_stretch__of_cells_that_fell_together_is_a_number(probe):
    assert np.isfinite(np.nanmin(stretch(probe, np.zeros_like(probe.Z), 0)))


def test_stretch__looks_at_partners_that_the_seed_says(probe):
    moved = probe.Z**3
    one, again, other = (stretch(probe, moved, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.nanmax(np.abs(one - other)) > 0
