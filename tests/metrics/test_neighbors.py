"""The neighbour table: what a search must find, and what a table may not hold."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import anndata
import numpy as np
import pytest
import scanpy as sc
from scipy.spatial.distance import cdist
from worlds import frozen, world

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.metrics.neighbors import (
    EXACT_UP_TO,
    Neighbors,
    find_neighbors,
    method_for,
)


def naive(embedding, k):
    distances = cdist(embedding.astype(float), embedding.astype(float))
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(distances, indices, axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_cells", [2, 65, 2500])
def test_exact_search__finds_what_all_distances_say(n_cells, dtype):
    cells = frozen(world(n_cells=n_cells).embedding.astype(dtype))
    k = min(90, n_cells - 1)
    found = find_neighbors(cells, k, method="exact")
    indices, distances = naive(cells, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    assert found.method == "exact"
    assert not found.includes_self


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_exact_search__resolves_ties_by_the_lowest_cell_number(offset):
    grid = frozen(np.random.default_rng(0).integers(0, 3, (1200, 3)) + offset)
    np.testing.assert_array_equal(find_neighbors(grid, 40).indices, naive(grid, 40)[0])


def test_exact_search__survives_an_outlier_that_ruins_float32_products():
    cells = world(n_cells=500).embedding.copy()
    cells[7] += 1e6
    found = find_neighbors(frozen(cells), 20)
    np.testing.assert_array_equal(found.indices, naive(cells, 20)[0])


@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e30, 1e150])
def test_exact_search__ignores_the_scale(scale):
    cells = world(n_cells=300).embedding
    found = find_neighbors(frozen(cells * scale), 20)
    np.testing.assert_array_equal(found.indices, naive(cells, 20)[0])
    np.testing.assert_allclose(found.distances / scale, naive(cells, 20)[1], rtol=1e-10)


def test_exact_search__gives_the_same_bytes_for_any_number_of_threads():
    cells = world(n_cells=1500).embedding
    one, three = find_neighbors(cells, 30, n_jobs=1), find_neighbors(cells, 30, n_jobs=3)
    assert one.indices.tobytes() == three.indices.tobytes()
    assert one.distances.tobytes() == three.distances.tobytes()


def test_method_for__is_exact_up_to_a_size():
    assert method_for(EXACT_UP_TO) == "exact"
    assert method_for(EXACT_UP_TO + 1) == "pynndescent"
    assert method_for(10**9, "exact") == "exact"


def test_pynndescent__finds_nearly_all_and_says_its_name():
    # centred and scaled first: as given, float32 would hold three digits of it
    cells = frozen(1e4 * (world(n_cells=1500).embedding + 1e4))
    found = find_neighbors(cells, 30, method="pynndescent")
    exact = find_neighbors(cells, 30)
    off = np.abs(found.distances / exact.distances - 1)
    assert np.quantile(off, 0.99) < 1e-6
    pairs = zip(found.indices, exact.indices, strict=True)
    assert np.mean([len(np.intersect1d(a, b)) / 30 for a, b in pairs]) > 0.999
    assert found.method == "pynndescent"


def test_pynndescent__rows_that_it_could_not_fill_are_searched_exactly(monkeypatch):
    cells = world(n_cells=200).embedding
    exact = find_neighbors(cells, 10)
    indices = np.hstack([np.arange(200)[:, None], exact.indices])
    distances = np.hstack([np.zeros((200, 1)), exact.distances])
    indices[[3, 50], 4:], distances[[3, 50], 4:] = -1, np.inf

    class Failing:
        neighbor_graph = indices, distances

        def __init__(self, points, **arguments):
            assert points.dtype == np.float32
            assert arguments["n_neighbors"] == 11

    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Failing))
    found = find_neighbors(cells, 10, method="pynndescent")
    np.testing.assert_array_equal(found.indices, exact.indices)
    np.testing.assert_allclose(found.distances, exact.distances, rtol=1e-12)


def test_from_scanpy__holds_one_cell_less_than_scanpy_was_asked_for():
    cells = world(n_cells=400).embedding
    adata = anndata.AnnData(obsm={"X": cells.copy()}, shape=(400, 0))
    sc.pp.neighbors(adata, 15, use_rep="X", method="gauss", transformer="sklearn")
    read = Neighbors.from_scanpy(adata.obsp["distances"])
    assert read.indices.shape == (400, 14)
    np.testing.assert_array_equal(read.indices, find_neighbors(cells, 14).indices)


def test_from_scanpy__refuses_rows_of_different_length():
    from scipy.sparse import csr_array

    with pytest.raises(InvalidInput, match="between 1 and 2 cells per row"):
        Neighbors.from_scanpy(csr_array([[0, 1, 2], [1, 0, 0], [2, 0, 0.0]]))


def test_others__drops_the_cell_itself_wherever_it_stands():
    indices = frozen(np.array([[0, 1, 2], [2, 1, 0], [0, 1, 3], [3, 2, 1]]))
    distances = frozen(np.array([[0, 1, 2.0], [0, 0, 2], [0, 0, 1], [0, 2, 3]]))
    others = Neighbors(indices, distances, includes_self=True).others()
    assert others.indices.tolist() == [[1, 2], [2, 0], [0, 1], [2, 1]]
    assert others.distances.tolist() == [[1, 2], [0, 2], [0, 0], [2, 3]]
    assert not others.includes_self
    with pytest.raises(InvalidInput, match="3 other cells per cell are needed, 2 are held"):
        others.others(3)


@pytest.mark.parametrize(
    ("indices", "distances", "message"),
    [
        ([[1, -1], [0, 2], [0, 1]], [[1, 2.0]] * 3, r"rows \[0\] \(-1 marks"),
        ([[1, 3], [0, 2], [0, 1]], [[1, 2.0]] * 3, "outside 0..2"),
        ([[0, 1], [1, 2], [2, 1]], [[0, 2.0]] * 3, "3 cells are their own .* includes_self=True"),
        ([[1, 2], [0, 2], [0, 1]], [[1, np.nan]] * 3, "finite"),
        ([[1, 2], [0, 2], [0, 1]], [[1, np.inf]] * 3, "finite"),
        ([[1, 2], [0, 2], [0, 1]], [[2, 1.0]] * 3, "ascending"),
        ([[1, 2], [0, 2], [0, 1]], [[-1, 1.0]] * 3, ">= 0"),
        ([[1, 2, 0], [0, 2, 1], [0, 1, 2]], [[1, 2, 3.0]] * 3, "0 < k < cells"),
        ([[1.0, 2], [0, 2], [0, 1]], [[1, 2.0]] * 3, "integers"),
        ([[1, 2], [0, 2], [0, 1]], [[1.0]] * 3, "same shape"),
    ],
)
def test_neighbors__refuses_a_table_that_would_give_silent_numbers(indices, distances, message):
    with pytest.raises(InvalidInput, match=message):
        Neighbors(frozen(indices), frozen(distances))


@pytest.mark.parametrize(
    ("cells", "arguments", "message"),
    [
        (np.zeros((5, 2)), {"n_neighbors": 5}, "each has 4 others"),
        (np.zeros((5, 2)), {"n_neighbors": 0}, "n_neighbors must be a whole number >= 1"),
        (np.zeros((5, 2)), {"n_neighbors": 2.0}, "n_neighbors must be a whole number"),
        (np.zeros(5), {"n_neighbors": 2}, "cells x dimensions"),
        (np.array([[0.0], [np.nan], [1.0]]), {"n_neighbors": 1}, r"rows \[1\]"),
        (np.array([[0.0], [np.inf], [1.0]]), {"n_neighbors": 1}, r"rows \[1\]"),
        (np.array([["a"], ["b"], ["c"]]), {"n_neighbors": 1}, "must hold numbers"),
        (np.zeros((5, 2)), {"n_neighbors": 2, "method": "best"}, "'pynndescent'; got 'best'"),
    ],
)
def test_find_neighbors__refuses_what_it_cannot_search(cells, arguments, message):
    with pytest.raises(InvalidInput, match=message):
        find_neighbors(frozen(cells), **arguments)
