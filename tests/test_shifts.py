"""How far a new batch moves each type: the rule cell by cell, and what was put in."""

from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.method.shifts import nearest_centre, shifts

CENTRE = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0], [0.0, 20.0, 0.0]])
EFFECT = np.array([0.0, 0.0, 6.0])


def cells(n: int, seed: int, effect: np.ndarray = EFFECT) -> np.ndarray:
    """A third of each type, all moved alike."""
    noise = np.random.default_rng(seed).normal(size=(n, 3))
    return CENTRE[np.arange(n) % 3] + effect + noise


def literal(x: np.ndarray, centre: np.ndarray, reach: float, furthest: float) -> np.ndarray:
    """The rule, cell by cell."""
    moved = np.zeros_like(centre)
    for phase in range(3) if np.isfinite(reach) else [2]:
        for _ in range(10):
            place, far = [], []
            for one in x:
                each = [np.linalg.norm(one - c) for c in centre + moved]
                place.append(int(np.argmin(each)))
                far.append(min(each))
            bar = np.quantile(np.square(far), [0.125, 0.25, 0.5]) ** 0.5
            limit = bar[1] if phase == 0 else max(reach, bar[0])
            limit = min(limit, bar[2]) if phase == 2 else limit
            own = [i for i in range(len(x)) if far[i] <= limit + 1e-12]
            common = np.mean([x[i] - centre[place[i]] for i in own], axis=0)
            new = []
            for t in range(len(centre)):
                mine = [x[i] - centre[t] for i in own if place[i] == t]
                shift = common
                if len(mine) >= 5:
                    shift = common + (np.mean(mine, axis=0) - common) * len(mine) / (len(mine) + 20)
                length = np.linalg.norm(shift)
                new.append(shift * min(1, furthest / length))
            if np.allclose(new, moved, rtol=0, atol=1e-6):
                break
            moved = np.array(new)
    return moved


@pytest.mark.parametrize("furthest", [np.inf, 5.0])
@pytest.mark.parametrize("reach", [np.inf, 3.0])
def test_shifts__follow_the_rule(reach: float, furthest: float) -> None:
    x = cells(150, 0)
    x[:12] += [9.0, 9.0, 30.0]
    x[:, 0] += 0.8 * (np.arange(150) % 3 == 1)
    found = shifts(x, CENTRE, reach, furthest)
    np.testing.assert_allclose(found, literal(x, CENTRE, reach, furthest), atol=1e-9)
    assert np.linalg.norm(found, axis=1).max() <= furthest * (1 + 1e-12)


@pytest.mark.parametrize("n_unknown", [0, 100, 450])
def test_shifts__find_the_batch_effect_beside_an_unknown_type(n_unknown: int) -> None:
    rng = np.random.default_rng(1)
    unknown = np.array([30.0, 30.0, 0.0]) + EFFECT + rng.normal(size=(n_unknown, 3))
    found = shifts(np.r_[cells(450, 2), unknown], CENTRE, reach=3.5)
    np.testing.assert_allclose(found, np.tile(EFFECT, (3, 1)), atol=0.5)


def test_shifts__of_types_differ_where_their_cells_do() -> None:
    x = cells(1500, 3)
    x[0::3, 1] -= 2
    found = shifts(x, CENTRE)
    np.testing.assert_allclose(found - EFFECT, [[0, -2, 0], [0, 0, 0], [0, 0, 0]], atol=0.25)


def test_shifts__of_types_without_cells_are_those_of_all() -> None:
    x = cells(600, 4)[np.arange(600) % 3 != 2]
    found = shifts(x, CENTRE)
    np.testing.assert_allclose(found[2], EFFECT, atol=0.3)


def test_shifts__are_no_longer_than_any_known() -> None:
    found = shifts(cells(300, 5), CENTRE, reach=3.5, furthest=5.0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 5.0)
    assert (found[:, 2] > 4.9).all()


def test_nearest_centre__is_what_all_distances_say() -> None:
    x = cells(90, 6)
    own, squared = nearest_centre(x, CENTRE)
    each = np.linalg.norm(x[:, None] - CENTRE, axis=2)
    np.testing.assert_array_equal(own, each.argmin(axis=1) == np.arange(3)[:, None])
    np.testing.assert_allclose(squared, each.min(axis=1) ** 2, rtol=1e-9)
    assert nearest_centre(CENTRE + 1e-9, CENTRE)[1].min() >= 0


def test_nearest_centre__of_two_that_are_equally_far_is_the_first() -> None:
    own, _ = nearest_centre(cells(90, 7), CENTRE[[1, 0, 0, 2]])
    assert not own[2].any()
    np.testing.assert_array_equal(own.sum(axis=0), 1)
