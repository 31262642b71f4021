"""PCR against an ANOVA of every principal component."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from naive import anova_of_components
from worlds import frozen, world

from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotApplicable
from harmonypy_lite.metrics.pcr import pcr, pcr_comparison


@pytest.mark.parametrize("shift", [0.0, 2.0, 40.0])
def test_pcr__equals_an_anova_of_the_components(shift):
    cells, batch, _ = world(n_cells=700, shift=shift)
    far = frozen(cells + 1e4)
    assert pcr(cells, batch) == pytest.approx(anova_of_components(cells, batch), abs=1e-10)
    assert pcr(far, batch) == pytest.approx(pcr(cells, batch), abs=1e-10)
    half = frozen(cells.astype(np.float32))
    assert pcr(half, batch) == pytest.approx(anova_of_components(half, batch), abs=1e-10)


def test_pcr__takes_numbers_as_categories():
    cells, batch, _ = world(n_cells=300, shift=2.0)
    numbers = np.unique(batch, return_inverse=True)[1]
    assert pcr(cells, frozen(numbers * 10.5)) == pcr(cells, batch)


def test_pcr_comparison__is_the_share_removed_and_never_negative():
    before, batch, _ = world(n_cells=400, shift=4.0)
    after = world(n_cells=400, shift=1.0).embedding
    expected = (pcr(before, batch) - pcr(after, batch)) / pcr(before, batch)
    assert pcr_comparison(before, after, batch) == pytest.approx(expected, abs=1e-15)
    with pytest.warns(HarmonyWarning, match="more variance after"):
        assert pcr_comparison(after, before, batch) == 0.0


def test_pcr__gives_the_same_bytes_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(sys.modules["harmonypy_lite.metrics.pcr"], "_ROWS", 100)
    cells, batch, _ = world(n_cells=1000, shift=1.0)
    assert pcr(cells, batch, n_jobs=1) == pcr(cells, batch, n_jobs=3)


def test_pcr__ignores_constant_columns():
    cells, batch, _ = world(n_cells=300, shift=2.0)
    padded = frozen(np.hstack([cells, np.full((300, 2), 7.3)]))
    assert pcr(padded, batch) == pytest.approx(pcr(cells, batch), abs=1e-12)


def test_pcr__refuses_what_has_no_answer():
    cells, batch, _ = world(n_cells=100)
    with pytest.raises(NotApplicable, match="batch has only 'a'"):
        pcr(cells, ["a"] * 100)
    with pytest.raises(NotApplicable, match="at the same point"):
        pcr(np.full((100, 3), 0.1), batch)
    same = np.tile([[0.0], [1.0]], (50, 1))
    with pytest.raises(NotApplicable, match="nothing to remove"):
        pcr_comparison(same, cells, np.repeat(["a", "b"], 50))
    with pytest.raises(InvalidInput, match="pre has 100 cells and post 99"):
        pcr_comparison(cells, cells[1:], batch)
