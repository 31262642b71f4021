"""Every metric against what scib-metrics 0.5.10 answered (tests/oracles)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from worlds import frozen, labelled

from harmonypy_lite import metrics
from harmonypy_lite.errors import HarmonyWarning, NotApplicable

STORED = Path(__file__).parents[1] / "oracles" / "scib_metrics_0.5.10.npz"


REAL = ("sc_mixology_5batch", "symphony_pbmcs_1200", "pancreas_hormone2cell")


class Case:
    """One stored world, or a real set, and its answers."""

    def __init__(self, name, real_data):
        with np.load(STORED) as stored:
            names = [key for key in stored if key.startswith(f"{name}/")]
            vars(self).update({key.split("/")[1]: frozen(stored[key]) for key in names})
        if name in REAL:
            self.cells, self.batch, self.label = labelled(real_data(name))
            self.pre, self.post = self.cells, self.cells[:, 5:]
        else:
            self.post = self.cells


@pytest.fixture(scope="module", params=["0", "2", *REAL])
def case(request, real_data):
    return Case(request.param, real_data)


def test_lisi__equals_scib_metrics_per_cell_and_in_the_score(case):
    table = metrics.find_neighbors(case.cells, 89)
    np.testing.assert_allclose(metrics.lisi(table, case.batch), case.lisi_batch, atol=1e-4)
    np.testing.assert_allclose(metrics.lisi(table, case.label), case.lisi_label, atol=1e-4)
    assert metrics.ilisi(table, case.batch) == pytest.approx(float(case.ilisi), abs=1e-5)
    assert metrics.clisi(table, case.label) == pytest.approx(float(case.clisi), abs=1e-5)


def test_bras__equals_scib_metrics(case):
    values = metrics.bras_per_cell(case.cells, case.batch, case.label)
    means = pd.Series(values).groupby(case.label).mean()
    assert means.mean() == pytest.approx(float(case.bras), abs=1e-5)


def test_isolated_labels__equal_scib_metrics_where_there_are_any(case):
    batches = pd.Series(case.batch).groupby(case.label).nunique()
    if batches.min() < len(set(case.batch)):
        value = metrics.isolated_labels(case.cells, case.batch, case.label)
        assert value == pytest.approx(float(case.isolated_labels), abs=1e-5)
    else:
        with pytest.raises(NotApplicable):
            metrics.isolated_labels(case.cells, case.batch, case.label)


def test_silhouettes__equal_scib_metrics(case):
    value = metrics.silhouette_label(case.cells, case.label)
    assert value == pytest.approx(float(case.silhouette_label), abs=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)
        value = metrics.silhouette_batch(case.cells, case.batch, case.label)
    # theirs is Euclidean in float32 without centring
    assert value == pytest.approx(float(case.silhouette_batch), abs=2e-5)


def test_pcr_comparison__equals_scib_metrics(case):
    value = metrics.pcr_comparison(case.pre, case.post, case.batch)
    assert value == pytest.approx(float(case.pcr_comparison), abs=1e-5)


def test_graph_connectivity__equals_scib_metrics_when_directed(case):
    value = metrics.graph_connectivity(case.cells, case.label, mode="directed")
    assert value == pytest.approx(float(case.connectivity_directed), abs=1e-14)


def test_kbet__equals_scib_metrics(case):
    test = metrics.kbet_test(case.cells, case.batch)
    assert abs(test.acceptance - float(case.kbet)) <= 2 / len(case.cells)
    np.testing.assert_allclose(test.statistic, case.kbet_statistic, rtol=1e-4)
    np.testing.assert_allclose(test.p_value, case.kbet_p_value, atol=1e-5)
