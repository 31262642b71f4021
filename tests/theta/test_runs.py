"""Runs that share a start, and what is measured of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from worlds import world

from harmonypy_lite.design import design_from_columns
from harmonypy_lite.metrics.inputs import as_categories
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding
from harmonypy_lite.theta.measure import Probe, sample_of, simpson, spread
from harmonypy_lite.theta.runs import Runs
from harmonypy_lite.threads import Workers

VARIED = [
    {"theta": 0.0},
    {"theta": 8.0},
    {"theta": 2.0, "sigma": 0.2},
    {"theta": 2.0, "n_clusters": 5},
    {"alpha": 1.0},
    {"flavor": "harmony1"},
    {"flavor": "pooled"},
    {"start": "centred"},
    {"start": "auto", "theta": 1.0},
    {"theta": 200.0},
]


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_runs__each_gives_the_bytes_of_a_run_of_its_own(memory):
    given = world(3, 3.0, n_cells=600)
    frame = pd.DataFrame({"batch": given.batch})
    with Workers(2) as workers:
        runs = Runs(given.embedding, design_from_columns(frame), 5, workers, keep=memory == "fast")
        for values in [*VARIED, VARIED[0]]:
            found = runs.run(HarmonyParams(**values, memory=memory))
            alone = integrate_embedding(
                given.embedding, frame, HarmonyParams(**values, rng=5, memory=memory)
            )
            assert np.array_equal(found.embedding, alone.embedding), values
            assert found.outcome.history.objective == alone.outcome.history.objective


def test_simpson__equals_the_definition_on_a_table_by_hand():
    codes = np.array([0, 0, 1, 2], np.int32)
    near = np.array([[1, 2], [0, 2], [0, 1], [2, 0]], np.int32)
    assert simpson(near, codes, 3).tolist() == [2.0, 2.0, 1.0, 2.0]


def test_spread__is_the_pooled_standard_deviation_times_root_d():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 900, 4000)  # small groups must not look tight
    cells = rng.normal(size=(4000, 9)) * 2 + 100 * groups[:, None]
    assert spread(cells, groups) == pytest.approx(6.0, rel=0.02)


def test_sample__holds_each_batch_in_its_share_and_small_ones_whole():
    batches = as_categories(np.repeat(["a", "b", "c"], [6000, 3000, 20]), 9020, "batch")
    places = sample_of(batches, 900, np.random.default_rng(1))
    sizes = np.bincount(batches.codes[places])
    assert sizes.tolist() == [599, 300, 20]
    assert (np.diff(places) > 0).all()
    assert len(sample_of(batches, 10**6, np.random.default_rng(1))) == 9020


def test_probe__counts_kept_neighbours_as_a_loop_over_batches_does():
    given = world(1, 2.0, n_cells=400)
    moved = np.random.default_rng(2).normal(size=given.embedding.shape) * 3 + given.embedding
    batches = as_categories(given.batch, 400, "batch")
    probe = Probe(given.embedding, np.arange(400), batches, 2.0)
    expected = np.full(400, np.nan)
    for level in range(4):
        own = np.flatnonzero(batches.codes == level)
        k = min(15, (len(own) - 1) // 3)
        near = []
        for points in (given.embedding[own], moved[own]):
            away = np.square(points[:, None] - points[None]).sum(axis=2)
            near.append(np.argsort(away, axis=1)[:, 1 : k + 1])
        expected[own] = [len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)]
    assert probe.kept(moved) == pytest.approx(expected)
    found = probe.measure(moved)
    assert found.structure == pytest.approx(expected.mean())
    away = np.linalg.norm(moved - given.embedding, axis=1) / 2.0
    assert found.displacement == pytest.approx(np.median(away))
    assert np.isnan(found.clisi)


def test_probe__mixing_of_dealt_batches_is_as_expected_and_of_batches_apart_is_one():
    near, far = world(1, 0.0, n_cells=1000), world(1, 60.0, n_cells=1000)
    for given, claim in ((near, "lot"), (far, "apart")):
        probe = Probe(
            given.embedding, np.arange(1000), as_categories(given.batch, 1000, "batch"), 1.0
        )
        mean, sd = probe.expected
        mixing = probe.before.mixing
        if claim == "lot":
            assert abs(mixing - mean) < 5 * sd
        else:
            assert mixing == pytest.approx(1.0)
