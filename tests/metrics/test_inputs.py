"""Columns and embeddings: what is accepted, in which order, and what is refused."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_array
from worlds import frozen, world

from harmonypy_lite import metrics
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.metrics.inputs import as_categories, as_embedding, as_labelled, warn_left_out


@pytest.mark.parametrize(
    "values",
    [
        ["b", "a", "b", "c"],
        np.array(["b", "a", "b", "c"]),
        np.array(["b", "a", "b", "c"], object),
        pd.Series(["b", "a", "b", "c"], index=[7, 7, 3, 1]),
        pd.Series(["b", "a", "b", "c"], dtype="string"),
        pd.Categorical(["b", "a", "b", "c"], categories=["c", "z", "b", "a"]),
        pd.Series(pd.Categorical(["b", "a", "b", "c"], categories=["x", "c", "b", "a"])),
    ],
)
def test_categories__are_sorted_counted_and_used(values):
    column = as_categories(values, 4, "batch")
    assert column.codes.tolist() == [1, 0, 1, 2]
    assert column.sizes.tolist() == [1, 2, 1]
    assert column.names.tolist() == ["a", "b", "c"]
    assert column.n == 3


def test_categories__take_numbers_booleans_and_mixtures():
    assert as_categories(np.array([2.5, 1.0, 2.5]), 3, "x").codes.tolist() == [1, 0, 1]
    assert as_categories([True, False, True], 3, "x").codes.tolist() == [1, 0, 1]
    assert as_categories(np.array([1, "a", 1], object), 3, "x").codes.tolist() == [0, 1, 0]


def test_only__drops_categories_that_no_kept_cell_has():
    column = as_categories(list("abcab"), 5, "batch").only(np.array([1, 2, 4]))
    assert column.codes.tolist() == [0, 1, 0]
    assert column.sizes.tolist() == [2, 1]
    assert column.names.tolist() == ["b", "c"]


def test_shuffled__keeps_the_counts_inside_every_group():
    rng = np.random.default_rng(0)
    batch = as_categories(rng.choice(["a", "b", "c"], 500, p=[0.6, 0.3, 0.1]), 500, "batch")
    label = as_categories(np.sort(rng.choice(["t", "u"], 500)), 500, "label")
    inside = batch.shuffled(np.random.default_rng(1), within=label)
    for level in range(2):
        cells = label.codes == level
        np.testing.assert_array_equal(
            np.bincount(inside[cells], minlength=3), np.bincount(batch.codes[cells], minlength=3)
        )
        assert np.mean(inside[cells] == batch.codes[cells]) < 0.65
    everywhere = batch.shuffled(np.random.default_rng(1))
    np.testing.assert_array_equal(np.bincount(everywhere), batch.sizes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, "a", np.nan], r"batch is missing for 2 of 3 cells, the first at rows \[0, 2\]"),
        (pd.Series(["a", pd.NA, "b"], dtype="string"), "batch is missing for 1 of 3"),
        (pd.Categorical(["a", None, "b"]), "batch is missing for 1 of 3"),
        (["a", "b"], "batch has 2 values for 3 cells"),
        (np.array([["a"], ["b"], ["c"]]), r"one value per cell; got shape \(3, 1\)"),
    ],
)
def test_categories__refuse_what_would_be_a_class_of_its_own(values, message):
    with pytest.raises(InvalidInput, match=message):
        as_categories(values, 3, "batch")


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint64, bool, object])
def test_embedding__casts_numbers_and_leaves_the_input_alone(dtype):
    given = frozen(np.asfortranarray(np.ones((4, 3), dtype)))
    cells = as_embedding(given)
    assert cells.dtype in (np.float32, np.float64)
    assert cells.flags.c_contiguous
    assert given.dtype == dtype
    float_cells = frozen(np.ones((4, 3), np.float32))
    assert as_embedding(float_cells) is float_cells
    assert as_embedding(pd.DataFrame(float_cells)).dtype == np.float32


def test_left_out__names_five_and_counts_the_others():
    column = as_categories(list("abcdefgh"), 8, "label")
    with pytest.warns(
        HarmonyWarning, match=r"out 7 of 8 .* which lack x: b, c, d, e, f and 2 more"
    ):
        warn_left_out("M", column, np.arange(8) == 0, "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_left_out("M", column, np.ones(8, bool), "x")


def test_embedding__takes_sparse_matrices():
    dense = np.arange(6.0).reshape(3, 2)
    for make in (csr_array, csc_matrix):
        np.testing.assert_array_equal(as_embedding(make(dense)), dense)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.ones((3, 2)) + 1j, "must hold numbers; got dtype complex"),
        (np.zeros((3, 2), "M8[s]"), "must hold numbers; got dtype datetime"),
        (np.full((3, 2), "1.5"), "must hold numbers; got dtype <U3"),
        (np.array([[1, "a"]], object), "must hold numbers"),
        (np.ma.masked_equal([[1.0, 2.0], [3.0, 4.0]], 4.0), "has masked values"),
        (anndata.AnnData(np.ones((3, 2))), r"such as adata.obsm\['X_pca'\]; got an AnnData"),
        (np.ones((0, 3)), r"got shape \(0, 3\)"),
    ],
)
def test_embedding__refuses_what_would_give_silent_numbers(embedding, message):
    with pytest.raises(InvalidInput, match=message):
        as_embedding(embedding)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-170, 1e-25, 1e25, 1e160])
def test_metrics__ignore_the_scale(scale, dtype):
    if scale in (1e-170, 1e160) and dtype == np.float32:
        scale = 1e-30 if scale < 1 else 1e30
    cells, batch, label = world(n_cells=400, shift=1.0)
    cells = cells.astype(dtype)
    far = frozen(cells * dtype(scale))
    for metric, columns in {
        metrics.bras: (batch, label),
        metrics.silhouette_label: (label,),
        metrics.pcr: (batch,),
        metrics.ilisi: (batch,),
        metrics.kbet: (batch,),
    }.items():
        assert metric(far, *columns) == pytest.approx(metric(cells, *columns), abs=1e-5), metric
    assert metrics.nmi_ari(far, label).nmi == pytest.approx(1.0)


def test_labelled__refuses_columns_in_another_order():
    cells, batch, label = world(n_cells=30)
    names = pd.Index([f"cell{i}" for i in range(30)])
    batch, label = pd.Series(batch, index=names), pd.Series(label, index=names)
    as_labelled(cells, batch, label)
    with pytest.raises(InvalidInput, match="in different orders"):
        as_labelled(cells, batch, label[::-1])
    with pytest.raises(InvalidInput, match="in different orders"):
        as_labelled(pd.DataFrame(cells, index=names[::-1]), batch, label)


def test_embedding__accepts_large_finite_values():
    assert as_embedding(np.full((3, 2), 1e308)).max() == 1e308
