"""CiLISI against a slow twin, and on labels that have no answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from naive import slow_cilisi
from worlds import frozen, world

from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotApplicable
from harmonypy_lite.metrics.cilisi import cilisi, cilisi_per_cell


def test_cilisi__equals_a_slow_bisection():
    cells, batch, label = world(n_cells=260, shift=1.0)
    batch, label = batch.copy(), label.copy()
    batch[label == "T"] = np.resize(["donor_a", "donor_c"], np.sum(label == "T"))
    label[:12], label[12:17] = "s", "t"  # small, and too small
    ours = cilisi_per_cell(cells, batch, frozen(label))
    twin = slow_cilisi(cells, batch, label, 30)
    np.testing.assert_allclose(ours, twin, rtol=0, atol=1e-10)
    assert np.isnan(ours[12:17]).all()
    means = pd.Series(twin).groupby(label).mean()
    for average, expected in (("cell", np.nanmean(twin)), ("label", means.mean())):
        with pytest.warns(HarmonyWarning, match=r"out 1 of 7 .* 10 cells in two batches: t\."):
            value = cilisi(cells, batch, label, average=average)
        assert value == pytest.approx(expected, abs=1e-10)


def test_cilisi__is_not_applicable_without_a_shared_label():
    cells, batch, _ = world(n_cells=300)
    with pytest.raises(NotApplicable, match="needs a label with 10 cells in two batches"):
        cilisi(cells, batch, batch)


@pytest.mark.parametrize("perplexity", [1, 0, -3, 2.5, "30", True])
def test_cilisi__refuses_a_perplexity_that_is_none(perplexity):
    cells, batch, label = world(n_cells=300)
    with pytest.raises(InvalidInput, match="perplexity must be a whole number"):
        cilisi(cells, batch, label, perplexity=perplexity)
