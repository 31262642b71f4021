"""The kernels of the metrics on inputs small enough to run without compilation as well."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import frozen

from harmonypy_lite.kernels import (
    distances,
    groups,
    kbet,
    knn,
    lisi,
    marks,
    nearest,
    overlap,
    strips,
)
from harmonypy_lite.kernels.jit import kernel


def empty(n_cells, k):
    return knn.Found(
        np.full((n_cells, k), -1), np.full((n_cells, k), np.nan), np.zeros(n_cells, bool)
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("m", [1, 5, 40])
def test_cut_back__leaves_the_smallest_in_front(rng, m):
    values, places = rng.integers(0, 9, 40).astype(np.float32), np.arange(40)
    before = values.copy()
    largest = strips.cut_back(values, places, 40, m)
    assert sorted(values[:m]) == sorted(before)[:m]
    assert largest == max(values[:m])
    np.testing.assert_array_equal(before[places], values)


@pytest.mark.parametrize(("m", "own"), [(8, 10**6), (8, 60), (40, 10**6)])
def test_search__keeps_what_a_sort_keeps(rng, m, own):
    points = rng.integers(-2, 3, (5 * strips.LANES - 7, 3)).astype(np.float32)  # many ties
    x = frozen(points[60 : 60 + 67] + np.float32(0.25))
    columns, half_norm = strips.as_strips(frozen(points))
    room = strips.room_for(m, len(columns))
    room = room._replace(block=room.block[: 2 * len(room.length)])  # two strips at a time
    values, places = np.empty((len(x), m), np.float32), np.empty((len(x), m), np.int32)
    strips.search(strips.as_rows(x), columns, own, m, room, values, places)
    surrogate = half_norm - x @ points.T
    if own < len(points):
        surrogate[np.arange(len(x)), own + np.arange(len(x))] = np.inf
    assert all(len(set(row)) == m for row in places.tolist())
    found = np.sort(np.take_along_axis(surrogate, places, axis=1), axis=1)
    np.testing.assert_allclose(found, np.sort(surrogate, axis=1)[:, :m], atol=1e-5)
    np.testing.assert_allclose(np.sort(values, axis=1), found, atol=1e-5)


def test_marks__are_the_bits_of_a_comparison(rng):
    X = rng.normal(size=(2, marks.MARKED + 5)).astype(np.float32)
    wanted = np.flatnonzero(X[1, 5:] < 0.5)

    @kernel
    def walk(X, found):
        left, n = marks.below(X, 1, 5, np.float32(0.5)), 0
        found[-1] = marks.count(left)
        while left != np.uint64(0):
            found[n] = marks.first_mark(left)
            n += 1
            left = marks.without_first(left)

    found = np.full(marks.MARKED + 1, -1)
    walk(frozen(X), found)
    np.testing.assert_array_equal(found[: wanted.size], wanted)
    assert (found[wanted.size : -1] == -1).all()
    assert found[-1] == wanted.size


@pytest.mark.parametrize(("rounding", "certified"), [(0.0, True), (1e3, False)])
def test_refine__sorts_measures_and_doubts(rng, rounding, certified):
    points = frozen(rng.normal(size=(30, 3)))
    half_norm = (points**2).sum(axis=1) / 2
    surrogate = half_norm - points @ points.T
    np.fill_diagonal(surrogate, np.inf)
    places = np.argsort(surrogate, axis=1)[:, 9::-1].astype(np.int32).copy()
    values = np.take_along_axis(surrogate, places, axis=1).astype(np.float32)
    found = empty(30, 4)
    knn.refine(points, 0, 10, half_norm, rounding, values, places, found)
    exact = empty(30, 4)
    knn.nearest_by_differences(points, np.arange(30), exact)
    np.testing.assert_array_equal(found.indices, exact.indices)
    np.testing.assert_allclose(found.distances, exact.distances, rtol=1e-14)
    assert (found.certified == certified).all()
    assert exact.certified.all()


def test_nearest_by_differences__takes_the_lowest_number_of_a_tie():
    found = empty(4, 2)
    knn.nearest_by_differences(frozen(np.zeros((4, 1))), np.arange(4), found)
    assert found.indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_surrogate_to_distance__never_roots_a_negative(rng):
    points = rng.normal(size=(5, 3))
    half_norm = (points**2).sum(axis=1) / 2
    block = half_norm - points @ points.T
    block[np.diag_indices(5)] = -half_norm - 1e-9
    expected = np.linalg.norm(points[:, None] - points, axis=2)
    distances.surrogate_to_distance(half_norm, block)
    np.testing.assert_allclose(block, expected, atol=1e-7)


@pytest.mark.parametrize("perplexity", [3, 8])
def test_inverse_simpson__reaches_the_perplexity(rng, perplexity):
    neighbors = np.tile(np.arange(8), (6, 1))
    away = frozen(np.sort(rng.random((6, 8)), axis=1))
    own_level, one_level = np.arange(8), np.zeros(8, int)
    out = np.empty((6, 2))
    codes = np.stack([own_level, one_level], axis=1)
    lisi.inverse_simpson(neighbors, away, codes, 8, np.log(perplexity), 1.0, 1e-12, out)
    weights = np.empty(8)
    lisi.fit_weights(away[0], np.log(perplexity), 1.0, 1e-12, weights)
    p = weights / weights.sum()
    assert np.exp(-np.sum(p * np.log(p))) == pytest.approx(perplexity)
    assert out[0, 0] == pytest.approx(1 / np.sum(p**2))
    np.testing.assert_allclose(out[:, 1], 1.0)


def test_batch_chi_square__follows_pearson():
    out = np.empty(2)
    codes, shares = np.array([0, 0, 1]), np.array([0.75, 0.25])
    kbet.batch_chi_square(np.array([[0, 1, 0, 1], [2, 2, 2, 0]]), codes, shares, out)
    np.testing.assert_allclose(out, [1 / 3 + 1, 4 / 3 + 4])


def test_count_shared__counts_each_common_cell_once():
    out = np.empty(2, np.int64)
    first, second = np.array([[1, 3, 5], [0, 2, 4]]), np.array([[3, 4, 5], [1, 3, 5]])
    overlap.count_shared(first, second, out)
    assert out.tolist() == [2, 0]


def test_group_sums__are_those_of_numpy(rng):
    points, codes = frozen(rng.normal(size=(9, 2))), np.array([0, 1, 2] * 3)
    sums, squares = np.zeros((3, 2)), np.zeros(2)
    groups.add_centred_rows(points, np.array([1.0, 2.0]), codes, sums, squares)
    np.testing.assert_allclose(sums[1], (points[1::3] - [1, 2]).sum(axis=0))
    np.testing.assert_allclose(squares, ((points - [1, 2]) ** 2).sum(axis=0))
    units = np.zeros((3, 2))
    groups.add_unit_rows(np.vstack([points, [[0.0, 0.0]]]), np.append(codes, 0), units)
    expected = points / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(units[0], expected[::3].sum(axis=0))


def test_batch_silhouettes__are_one_for_lone_and_identical_cells():
    points = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    codes, sizes = np.array([0, 0, 1, 2]), np.array([2, 1, 1])
    sums = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    out = np.empty(4)
    others = sums.sum(axis=0) - sums
    groups.batch_silhouettes(points, codes, sums, sizes, others, 4 - sizes, out)
    # cells 0 and 1: a = 0 to each other, b = (0 + 1) / 2 to the same point and to the zero row
    np.testing.assert_allclose(out, [0.0, 0.0, 1.0, 1.0])


def test_assign_nearest__adds_cells_to_the_first_of_the_nearest_centres(rng):
    points, centres = frozen(rng.normal(size=(40, 3))), rng.normal(size=(4, 3))
    centres[3] = centres[1]  # never the first of equals
    found, sums, sizes = np.full(40, -1, np.int32), np.ones((4, 3)), np.full(4, 5)
    half_norm = frozen((centres**2).sum(axis=1) / 2)
    nearest.assign_nearest(points, frozen(points @ centres.T), half_norm, found, sums, sizes)
    expected = ((points[:, None] - centres[None, :3]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(sizes - 5, np.bincount(expected, minlength=4))
    for k in range(4):
        np.testing.assert_allclose(sums[k] - 1, points[expected == k].sum(axis=0), atol=1e-12)
