from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.method.history import History


def history(**changes: object) -> History:
    arguments = {
        "tol_harmony": 1e-2,
        "tol_clustering": 1e-3,
        "max_iter_harmony": 3,
        "early_stop": True,
    }
    return History(**{**arguments, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_rounds__are_not_compared_before_the_fifth(n: int) -> None:
    h = history(rounds=[[5.0] * n])
    assert not h.rounds_settled()


def test_rounds__settle_when_sums_of_three_agree() -> None:
    # sums of rounds 2 to 4 and 3 to 5: they differ by round 2 less round 5
    for fifth, settled in ((100.0, True), (99.75, True), (99.65, False), (100.35, False)):
        h = history(rounds=[[200.0, 100.0, 100.0, 100.0, fifth]])
        assert h.rounds_settled() == settled, fifth


def test_rounds__look_at_the_last_ones_of_the_last_iteration() -> None:
    falling = list(np.linspace(200, 100, 10))
    assert not history(rounds=[[1.0] * 9, falling]).rounds_settled()
    assert history(rounds=[falling, [*falling, *[100.0] * 4]]).rounds_settled()


def test_rounds__of_negative_objectives_settle_too() -> None:
    assert history(rounds=[[0.0, -100.0, -100.0, -100.0, -100.2]]).rounds_settled()
    assert not history(rounds=[[0.0, -100.0, -100.0, -100.0, -100.4]]).rounds_settled()


def test_rounds__never_settle_with_a_tolerance_of_zero() -> None:
    assert not history(tol_clustering=0.0, rounds=[[5.0] * 30]).rounds_settled()


@pytest.mark.parametrize(
    ("old", "new", "stopped"),
    [
        (100.0, 98.9, ""),
        (100.0, 99.1, "converged"),
        (100.0, 100.0, "converged"),
        (100.0, 100.5, "objective rose"),
        (-100.0, -101.1, ""),
        (-100.0, -100.9, "converged"),
        (-100.0, -99.0, "objective rose"),
        (1.0, -1.0, ""),
        (0.0, 0.0, "max_iter_harmony?"),
    ],
)
def test_iteration__is_the_last_when_the_objective_hardly_fell(
    old: float, new: float, stopped: str
) -> None:
    h = history(start=old, rounds=[[7.0, new]])
    assert h.objective == [old, new]
    if stopped.endswith("?"):  # 0 is not less than 0: the run goes on
        stopped = ""
    assert h.reason_to_stop() == (stopped or None)
    assert h.stopped == "", "a question changes nothing"


def test_iteration__is_the_last_when_all_are_used() -> None:
    h = history(start=100.0, rounds=[[50.0], [20.0]])
    assert h.reason_to_stop() is None
    h.rounds.append([5.0])
    assert h.reason_to_stop() == "max_iter_harmony"


def test_iteration__that_settles_as_the_last_one_has_converged() -> None:
    h = history(start=100.0, rounds=[[50.0], [20.0], [20.0]])
    assert h.reason_to_stop() == "converged"


def test_iteration__goes_on_without_early_stop() -> None:
    h = history(early_stop=False, start=100.0, rounds=[[100.0], [100.0]])
    assert h.reason_to_stop() is None
    h.rounds.append([200.0])
    assert h.reason_to_stop() == "max_iter_harmony"
