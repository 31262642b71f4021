"""Cells found again by their coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.recognition import KnownCells, digests


@pytest.mark.parametrize(
    "values",
    [
        lambda draws: draws.normal(size=(20_000, 5)),
        lambda draws: draws.integers(-9, 9, (20_000, 8)).astype(float),
        lambda draws: np.eye(150) * 2.0,
        lambda draws: np.arange(20_000.0)[:, None],
        lambda draws: draws.choice([-2.0, 2.0], (300_000, 40)),
        lambda draws: 2.0 ** np.arange(-100, 100)[:, None] * [1, -1],
    ],
)
def test_digests__differ_where_single_precision_differs(values):
    Z = np.unique(values(np.random.default_rng(0)).astype(np.float32), axis=0)
    assert len(np.unique(digests(Z))) == len(Z)


def test_digests__do_not_depend_on_type_order_or_the_rows_around():
    Z = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32)
    Z.flags.writeable = False
    wanted = digests(Z)
    np.testing.assert_array_equal(digests(Z.astype(np.float64)), wanted)
    np.testing.assert_array_equal(digests(np.asfortranarray(Z)), wanted)
    np.testing.assert_array_equal(digests(Z[8190:8200]), wanted[8190:8200])
    np.testing.assert_array_equal(digests(np.array([[0.0, 1]])), digests(np.array([[-0.0, 1]])))


def test_known_cells__levels_are_part_of_a_cell_where_given():
    Z = np.random.default_rng(0).normal(size=(50, 3))
    codes = np.column_stack([np.arange(50) % 3, 3 + np.arange(50) % 2])
    known = KnownCells(Z, codes)
    some = np.array([9, 4, 30])
    np.testing.assert_array_equal(known.find(digests(Z[some])), some)
    np.testing.assert_array_equal(known.find(digests(Z[some]), codes[some]), some)
    other = codes[some].copy()
    other[1, 1] = 7 - other[1, 1]
    np.testing.assert_array_equal(known.find(digests(Z[some]), other), [9, -1, 30])
