"""Every metric against what scib-metrics 0.5.10 answered (tests/oracles)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from worlds import frozen

from harmonypy_lite import metrics
from harmonypy_lite.errors import HarmonyWarning

STORED = Path(__file__).parents[1] / "oracles" / "scib_metrics_0.5.10.npz"


class Case:
    """One stored world and its answers."""

    def __init__(self, shift):
        with np.load(STORED) as stored:
            names = [name for name in stored if name.startswith(f"{shift}/")]
            vars(self).update({name.split("/")[1]: frozen(stored[name]) for name in names})


@pytest.fixture(params=["0", "2"])
def case(request):
    return Case(request.param)


def test_lisi__equals_scib_metrics_per_cell_and_in_the_score(case):
    table = metrics.find_neighbors(case.cells, 89)
    np.testing.assert_allclose(metrics.lisi(table, case.batch), case.lisi_batch, atol=1e-4)
    np.testing.assert_allclose(metrics.lisi(table, case.label), case.lisi_label, atol=1e-4)
    assert metrics.ilisi(table, case.batch) == pytest.approx(float(case.ilisi), abs=1e-5)
    assert metrics.clisi(table, case.label) == pytest.approx(float(case.clisi), abs=1e-5)


@pytest.mark.parametrize("name", ["bras", "isolated_labels"])
def test_batches_in_labels__equal_scib_metrics(case, name):
    value = getattr(metrics, name)(case.cells, case.batch, case.label)
    assert value == pytest.approx(float(getattr(case, name)), abs=1e-5)


def test_silhouettes__equal_scib_metrics(case):
    value = metrics.silhouette_label(case.cells, case.label)
    assert value == pytest.approx(float(case.silhouette_label), abs=1e-5)
    with pytest.warns(HarmonyWarning, match="use bras"):
        value = metrics.silhouette_batch(case.cells, case.batch, case.label)
    # theirs is Euclidean in float32 without centring
    assert value == pytest.approx(float(case.silhouette_batch), abs=2e-5)


def test_pcr_comparison__equals_scib_metrics(case):
    value = metrics.pcr_comparison(case.pre, case.cells, case.batch)
    assert value == pytest.approx(float(case.pcr_comparison), abs=1e-5)


def test_graph_connectivity__equals_scib_metrics_when_directed(case):
    value = metrics.graph_connectivity(case.cells, case.label, mode="directed")
    assert value == pytest.approx(float(case.connectivity_directed), abs=1e-14)


def test_kbet__equals_scib_metrics(case):
    test = metrics.kbet_test(case.cells, case.batch)
    assert abs(test.acceptance - float(case.kbet)) <= 2 / len(case.cells)
    np.testing.assert_allclose(test.statistic, case.kbet_statistic, rtol=1e-4)
    np.testing.assert_allclose(test.p_value, case.kbet_p_value, atol=1e-5)
