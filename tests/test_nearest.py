"""The nearest cells of a reference, against all distances in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.nearest import nearest


@pytest.mark.parametrize(
    ("n", "k", "scale"), [(40, 40, 1), (63, 5, 1), (5000, 15, 1e25), (300, 1, 1e-25)]
)
def test_nearest__finds_what_all_distances_find(n: int, k: int, scale: float) -> None:
    rng = np.random.default_rng(n)
    reference, cells = rng.normal(size=(n, 7)) + 3, rng.normal(size=(600, 7)) + 3
    found, apart = nearest(cells * scale, reference * scale, k)
    distance = np.linalg.norm(cells[:, None] - reference, axis=2)
    wanted = np.sort(distance, axis=1)[:, :k]
    found_distance = np.take_along_axis(distance, found, axis=1)
    np.testing.assert_allclose(
        apart / apart.max(), found_distance / found_distance.max(), atol=1e-3
    )
    assert all(len(set(row)) == k for row in found.tolist())
    np.testing.assert_allclose(np.sort(found_distance, axis=1), wanted, rtol=1e-4)


def test_nearest__takes_cells_that_are_all_the_same() -> None:
    found, apart = nearest(np.ones((3, 2)), np.ones((9, 2)), 4)
    assert all(len(set(row)) == 4 for row in found.tolist())
    assert not apart.any()


def test_nearest__tells_cells_apart_that_are_far_from_the_origin() -> None:
    rng = np.random.default_rng(0)
    reference, cells = rng.normal(size=(300, 7)), rng.normal(size=(50, 7))
    far, near = (nearest(cells + at, reference + at, 5)[0] for at in (1e5, 0))
    np.testing.assert_array_equal(np.sort(far), np.sort(near))
