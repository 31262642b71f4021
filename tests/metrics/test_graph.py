"""Graph connectivity and kBET: what the neighbour table says about labels and batches."""

from __future__ import annotations

import numpy as np
import pytest
from naive import naive_connectivity, naive_kbet
from worlds import frozen, world

from harmonypy_lite.errors import InvalidInput, NotApplicable
from harmonypy_lite.metrics.connectivity import graph_connectivity
from harmonypy_lite.metrics.kbet import kbet, kbet_of_labels, kbet_per_label, kbet_test
from harmonypy_lite.metrics.neighbors import Neighbors, find_neighbors


@pytest.mark.parametrize(("mode", "connection"), [("undirected", "weak"), ("directed", "strong")])
@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_graph_connectivity__equals_components_label_by_label(mode, connection, shift):
    cells, _, label = world(n_cells=500, shift=shift, apart=4.0)
    table = find_neighbors(cells, 14)
    expected = naive_connectivity(table.indices, label, connection)
    assert graph_connectivity(table, label, mode=mode) == pytest.approx(expected, abs=1e-15)
    assert graph_connectivity(cells, label, mode=mode) == graph_connectivity(
        table, label, mode=mode
    )


def test_graph_connectivity__joins_cells_that_only_one_side_sees():
    table = Neighbors(np.array([[1], [0], [1], [2]]), np.ones((4, 1)))
    label = ["a", "a", "a", "a"]
    assert graph_connectivity(table, label, n_neighbors=1) == 1.0
    assert graph_connectivity(table, label, n_neighbors=1, mode="directed") == 0.5
    assert graph_connectivity(table, ["a", "b", "a", "b"], n_neighbors=1) == 0.5


def test_kbet__equals_scipy():
    cells, batch, _ = world(n_cells=600, shift=1.0)
    table = find_neighbors(cells, 49)
    statistic, p_value = naive_kbet(table.indices, batch)
    test = kbet_test(table, batch)
    np.testing.assert_allclose(test.statistic, statistic, rtol=1e-12)
    np.testing.assert_allclose(test.p_value, p_value, rtol=0, atol=1e-10)
    assert kbet(table, batch) == np.mean(p_value >= 0.05)
    assert kbet(cells, batch, alpha=0.2) == np.mean(p_value >= 0.2)


@pytest.mark.parametrize("n_cells", [200, 900, 8000])
def test_kbet_per_label__tests_each_label_by_itself(n_cells):
    cells, batch, label = world(n_cells=n_cells, shift=1.0)
    values = kbet_of_labels(cells, batch, label)
    for value, name in zip(values, sorted(set(label)), strict=True):
        inside = label == name
        k = {200: 10, 900: inside.sum() // 4 // 4, 8000: 70}[n_cells]
        expected = kbet(cells[inside], batch[inside], n_neighbors=int(k))
        assert value == pytest.approx(expected, abs=1e-15)
    assert kbet_per_label(cells, batch, label) == pytest.approx(np.mean(values), abs=1e-15)


def test_kbet_per_label__does_not_let_a_small_label_change_the_others():
    cells, batch, label = world(n_cells=900, shift=1.0)
    before = kbet_of_labels(cells, batch, label)
    extra = np.random.default_rng(1).normal(size=(12, cells.shape[1])) + 500
    cells = np.vstack([extra, cells])
    batch = np.concatenate([["donor_a", "donor_b"] * 6, batch])
    for name in ("AAA", "zzz"):
        with_small = kbet_of_labels(cells, batch, np.concatenate([[name] * 12, label]))
        rest = with_small[1:] if name == "AAA" else with_small[:-1]
        np.testing.assert_array_equal(rest, before)


def test_kbet_per_label__follows_the_component_rule():
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(300, 4)), rng.normal(size=(100, 4)) + 1000
    batch = np.array(["a", "b"])[rng.integers(0, 2, 400)]
    label = ["t"] * 400
    cells = np.vstack([near, far])
    k = 400 // 2 // 4
    expected = kbet(near, batch[:300], n_neighbors=k)  # 75 % of the cells; 100 < 3 k are left out
    assert kbet_per_label(cells, batch, label) == pytest.approx(expected, abs=1e-15)


def test_kbet_per_label__rejects_a_label_in_many_small_components():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(400, 3)) + np.repeat(np.arange(20), 20)[:, None] * 1e3
    batch = np.array(["a", "b"])[rng.integers(0, 2, 400)]
    graph = find_neighbors(cells, 10)
    assert kbet_of_labels(cells, batch, ["t"] * 400, neighbors=graph).tolist() == [0.0]


def test_kbet_per_label__leaves_small_and_single_batch_labels_out():
    cells, batch, label = world(n_cells=300)
    label = label.astype("U9")
    label[batch == "donor_d"] = "only_d"
    label[:9] = "tiny"
    values = dict(zip(sorted(set(label)), kbet_of_labels(cells, batch, label), strict=True))
    assert {name for name, value in values.items() if np.isnan(value)} == {"only_d", "tiny"}
    with pytest.raises(NotApplicable, match="10 cells in two batches"):
        kbet_per_label(cells, batch, batch)


def test_graph_metrics__refuse_what_has_no_answer():
    cells, _, label = world(n_cells=60)
    with pytest.raises(InvalidInput, match="label is missing for 30 of 60 cells"):
        graph_connectivity(cells, np.array([np.nan, "x"] * 30, object))
    with pytest.raises(InvalidInput, match="'directed'; got 'mutual'"):
        graph_connectivity(cells, label, mode="mutual")
    with pytest.raises(InvalidInput, match="14 other cells per cell are needed, 5 are held"):
        graph_connectivity(find_neighbors(cells, 5), label)
    with pytest.raises(NotApplicable, match="batch has only 'a'"):
        kbet(cells, ["a"] * 60)
    with pytest.raises(InvalidInput, match="alpha must be between 0 and 1; got 5"):
        kbet(cells, label, alpha=5)
    with pytest.raises(InvalidInput, match=r"14 other .* needed, 9 are held; there are 10 cells"):
        graph_connectivity(find_neighbors(cells[:10], 9), label[:10])
    assert graph_connectivity(frozen(cells), ["only"] * 60) == 1.0
