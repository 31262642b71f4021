"""BRAS in linear time against all pairs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from naive import naive_bras
from worlds import frozen, world

from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotApplicable
from harmonypy_lite.metrics import bras as package_function
from harmonypy_lite.metrics.bras import bras, bras_per_cell


@pytest.mark.parametrize("shift", [0.0, 2.0, 40.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bras__equals_all_pairs(shift, dtype):
    cells, batch, label = world(n_cells=500, shift=shift)
    label, cells = label.astype("U9"), cells.astype(dtype)
    label[batch == "donor_d"] = "only_d"
    label[[2, 3, 4]] = "three"
    expected = naive_bras(cells, batch, label)
    with pytest.warns(HarmonyWarning, match="leaves out 2 of 7 .* two batches: only_d, three"):
        value = bras(frozen(cells), batch, frozen(label))
    assert value == pytest.approx(expected, abs=1e-10)
    assert package_function is bras


def test_bras__equals_all_pairs_far_from_the_origin():
    cells, batch, label = world(n_cells=500, shift=2.0)
    far = frozen(cells + 50.0)
    assert bras(far, batch, label) == pytest.approx(naive_bras(far, batch, label), abs=1e-10)


def test_bras__puts_a_zero_row_at_distance_one():
    cells, batch, label = world(n_cells=300, shift=1.0)
    cells = cells.copy()
    cells[[0, 10, 20]] = 0
    assert bras(frozen(cells), batch, label) == pytest.approx(
        naive_bras(cells, batch, label), abs=1e-10
    )


def test_bras_per_cell__is_nan_only_where_a_label_has_no_two_batches():
    cells, batch, label = world(n_cells=400)
    label = label.astype("U9")
    label[batch == "donor_d"] = "only_d"
    values = bras_per_cell(cells, batch, frozen(label))
    np.testing.assert_array_equal(np.isnan(values), label == "only_d")


def test_bras__scores_identical_cells_as_mixed():
    cells = np.repeat([[1.0, 2.0, 3.3]], 40, axis=0)
    assert bras(frozen(cells), ["a", "b"] * 20, ["t"] * 40) == 1.0


def test_bras__gives_the_same_bytes_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(sys.modules["harmonypy_lite.metrics.bras"], "_ROWS", 100)
    cells, batch, label = world(n_cells=1000)
    one, three = (bras_per_cell(cells, batch, label, n_jobs=n).tobytes() for n in (1, 3))
    assert one == three


def test_bras__refuses_what_has_no_answer():
    cells, batch, label = world(n_cells=100)
    with pytest.raises(NotApplicable, match="several cells in two batches; label has none"):
        bras(cells, ["a"] * 100, label)
    with pytest.raises(NotApplicable, match="in two batches"):
        bras(cells, batch, batch)
    with pytest.raises(InvalidInput, match="batch is missing for 50 of 100 cells"):
        bras(cells, np.array([None, "x"] * 50, object), label)
