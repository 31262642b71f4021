"""LISI against harmonypy, against a slow twin, and on inputs that have no answer."""

from __future__ import annotations

import sys

import harmonypy
import numpy as np
import pandas as pd
import pytest
from naive import slow_lisi
from worlds import frozen, world

from harmonypy_lite.errors import InvalidInput, NotApplicable
from harmonypy_lite.metrics.lisi import clisi, ilisi, lisi
from harmonypy_lite.metrics.neighbors import Neighbors, find_neighbors

module = sys.modules["harmonypy_lite.metrics.lisi"]  # the package's attribute is the function


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_lisi__equals_harmonypy(shift):
    cells, batch, label = world(shift=shift, n_cells=600)
    columns = pd.DataFrame({"batch": batch, "label": label})
    theirs = harmonypy.compute_lisi(cells.copy(), columns, ["batch", "label"], perplexity=30)
    ours = lisi(cells, columns, variant="harmonypy")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(ours[:, 0], lisi(cells, batch, variant="harmonypy"))
    assert np.abs(lisi(cells, columns) - theirs).max() > 1e-6  # 89 neighbours are not 90


def test_lisi__solves_the_entropy_equation():
    cells, batch, _ = world(n_cells=200, shift=1.0)
    table = find_neighbors(cells, 89)
    exact = [
        slow_lisi(d, batch[i], 30) for d, i in zip(table.distances, table.indices, strict=True)
    ]
    np.testing.assert_allclose(lisi(table, batch), exact, rtol=0, atol=1e-8)


def test_lisi__reaches_tight_weights_when_the_tolerance_is_tight(monkeypatch):
    monkeypatch.setitem(module.TOLERANCE, "scib", 1e-13)
    cells, batch, _ = world(n_cells=150, shift=1.0)
    table = find_neighbors(cells, 89)
    exact = [
        slow_lisi(d, batch[i], 30) for d, i in zip(table.distances, table.indices, strict=True)
    ]
    np.testing.assert_allclose(lisi(table, batch), exact, rtol=0, atol=1e-10)


def test_lisi__equals_r_on_real_data(real_data):
    adata = real_data("snatac_T_lisi_8078")
    ours = lisi(adata.obsm["X_embedding64"], adata.obs[["sample", "RNA_state_abbr"]])
    difference = np.abs(ours - adata.obs[["R_lisi_sample", "R_lisi_RNA_state_abbr"]].to_numpy())
    # R stops at an entropy error of 1e-5
    assert difference.max() < 1e-4
    assert np.median(difference) < 1e-5


def test_scores__scale_the_median():
    cells, batch, label = world(n_cells=500, shift=2.0)
    table = find_neighbors(cells, 89)
    assert ilisi(table, batch) == pytest.approx((np.median(lisi(table, batch)) - 1) / 3, abs=1e-15)
    assert clisi(table, label) == pytest.approx((5 - np.median(lisi(table, label))) / 4, abs=1e-15)
    assert ilisi(cells, batch) == ilisi(table, batch)


def test_lisi__is_finite_among_duplicates_and_far_cells():
    cells = world(n_cells=400).embedding.copy()
    cells[:150] = cells[0]
    cells[-1] = 1e9
    values = lisi(frozen(cells), np.arange(400) % 2)
    assert np.isfinite(values).all()
    assert (values >= 1).all()
    assert (values <= 2 + 1e-12).all()


def test_lisi__gives_the_same_bytes_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 100)
    cells, batch, _ = world(n_cells=1000)
    assert lisi(cells, batch, n_jobs=1).tobytes() == lisi(cells, batch, n_jobs=3).tobytes()


@pytest.mark.parametrize(
    ("function", "column", "error", "message"),
    [
        (ilisi, np.array([None, "a"] * 150, object), InvalidInput, "batch is missing for 150 of"),
        (ilisi, np.array([np.nan, 1.0] * 150), InvalidInput, r"rows \[0, 2, 4, 6, 8\]"),
        (clisi, np.array([np.nan, 1.0] * 150), InvalidInput, "label is missing for 150 of 300"),
        (ilisi, ["a"] * 300, NotApplicable, "batch has only 'a'"),
        (clisi, ["a"] * 300, NotApplicable, "label has only 'a'"),
        (ilisi, ["a", "b"] * 100, InvalidInput, "200 values for 300 cells"),
        (lisi, ["a", "b"] * 100, InvalidInput, "200 values for 300 cells"),
    ],
)
def test_scores__refuse_columns_without_an_answer(function, column, error, message):
    with pytest.raises(error, match=message):
        function(world(n_cells=300).embedding, column)


def test_lisi__refuses_a_perplexity_beyond_the_cells():
    cells, batch, _ = world(n_cells=89)
    with pytest.raises(InvalidInput, match="of 89 cells has 88: use a perplexity of at most 29"):
        lisi(cells, batch)
    assert lisi(cells, batch, perplexity=29).shape == (89,)
    with pytest.raises(InvalidInput, match="use a perplexity of at most 29"):
        lisi(cells[:88], batch[:88], variant="harmonypy")
    assert lisi(cells[:88], batch[:88], variant="harmonypy", perplexity=29).shape == (88,)
    with pytest.raises(InvalidInput, match="each of 5 cells has 4: there are too few"):
        lisi(cells[:5], batch[:5])
    with pytest.raises(InvalidInput, match="89 other cells per cell are needed, 20 are held"):
        lisi(find_neighbors(cells, 20), batch)
    with pytest.raises(InvalidInput, match="'harmonypy'; got 'R'"):
        lisi(cells, batch, variant="R")


def test_lisi__drops_unused_categories_and_the_cell_itself():
    cells, batch, _ = world(n_cells=300)
    column = pd.Categorical(batch, categories=[*sorted(set(batch)), "never", "seen"])
    assert ilisi(cells, column) == ilisi(cells, batch)
    table = find_neighbors(cells, 89)
    own = np.arange(300)[:, None]
    with_self = Neighbors(
        np.hstack([own, table.indices]), np.hstack([0.0 * own, table.distances]), True
    )
    assert ilisi(with_self, batch) == ilisi(table, batch)


@pytest.mark.parametrize("scale", [1e-170, 1e-30, 1e30, 1e150])
def test_lisi__ignores_the_scale(scale):
    cells, batch, _ = world(n_cells=300, shift=1.0)
    np.testing.assert_allclose(lisi(cells * scale, batch), lisi(cells, batch), rtol=0, atol=1e-6)


def test_lisi__survives_cells_far_from_the_usual_distance():
    cells, batch, _ = world(n_cells=400, shift=1.0)
    stretched = cells.copy()
    stretched[:100] = 1e6 + 1e4 * cells[:100]
    stretched[100:200] = -1e3 + 1e-4 * cells[100:200]
    for part in (slice(0, 100), slice(100, 200)):
        alone = lisi(cells[part], batch[part])
        np.testing.assert_allclose(lisi(frozen(stretched), batch)[part], alone, rtol=0, atol=1e-6)


def test_lisi__refuses_columns_of_other_cells():
    cells, batch, _ = world(n_cells=300)
    names = pd.Index([f"cell{i}" for i in range(300)])
    frame, column = pd.DataFrame(cells, index=names), pd.Series(batch, index=names)
    assert ilisi(frame, column) == ilisi(cells, batch)
    with pytest.raises(InvalidInput, match="in different orders"):
        ilisi(frame, column[::-1])
