"""The rule on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.theta import verdict
from harmonypy_lite.theta.null import holm
from harmonypy_lite.theta.verdict import Evidence, best, decide, pareto


def evidence(mixing, structure, before=1.1, expected=2.8, sd=0.01, default=0):
    return Evidence(np.array(mixing), np.array(structure), before, expected, sd, default)


def test_decide__crosses_a_flat_stretch_that_a_larger_value_leaves():
    # the splatter sets: nothing up to 2, then at 4 nearly all that there is
    found = decide(evidence([1.01, 1.02, 1.85, 1.85], [0.99, 0.98, 0.93, 0.91], 1.0, 2.0))
    assert (found.verdict, found.place) == ("correct", 2)


def test_decide__stops_before_a_step_at_a_bad_exchange_rate():
    # measured with half of the types missing: the last steps erase types
    found = decide(evidence([1.74, 1.87, 2.05, 2.48], [0.961, 0.967, 0.941, 0.827], 1.43, 2.83))
    assert (found.verdict, found.place) == ("correct", 1)


def test_decide__mixing_beyond_chance_gains_nothing():
    assert best(evidence([2.8, 3.4], [0.95, 0.93], expected=2.8)) == 0


def test_decide__says_that_no_correction_is_needed():
    found = decide(evidence([2.83, 2.85], [0.93, 0.93], 2.79, 2.8))
    assert (found.verdict, found.place) == ("no correction needed", None)
    many = decide(evidence([2.79], [0.99], before=2.6, sd=0.2))  # few cells: within the shuffles
    assert many.verdict == "no correction needed"


@pytest.mark.parametrize(
    ("mixing", "structure"),
    [([1.0, 1.01], [1.0, 1.0]), ([1.05, 1.6], [0.5, 0.3])],
    ids=["nothing moves", "each gain tears"],
)
def test_decide__says_that_batch_and_biology_cannot_be_told_apart(mixing, structure):
    found = decide(evidence(mixing, structure, before=1.0))
    assert (found.verdict, found.place) == ("cannot be told apart", None)


def test_decide__structure_that_random_batches_cost_as_well_is_no_loss():
    given = evidence([1.5], [0.70], before=1.3)
    assert decide(given).verdict == "cannot be told apart"
    assert decide(given, noise=0.71).verdict == "correct"


def test_best__of_equal_values_is_the_one_next_to_the_default():
    equal = [2.0, 2.0005, 2.0], [0.95, 0.951, 0.95]
    assert [best(evidence(*equal, default=place)) for place in (0, 1, 2)] == [0, 1, 2]
    clearly = [2.0, 2.0, 2.4], [0.95, 0.95, 0.95]
    assert best(evidence(*clearly, default=0)) == 2


def test_pareto__equals_the_definition_pair_by_pair():
    rng = np.random.default_rng(0)
    mixing, structure = rng.integers(0, 5, (2, 30)).astype(float)
    for i, on_front in enumerate(pareto(mixing, structure)):
        beaten = any(
            mixing[j] >= mixing[i]
            and structure[j] >= structure[i]
            and (mixing[j], structure[j]) != (mixing[i], structure[i])
            for j in range(30)
        )
        assert on_front == (not beaten)


def test_holm__equals_the_step_down_by_hand():
    assert holm(np.array([0.04, 0.01, np.nan, 0.03])) == pytest.approx(
        [0.06, 0.03, np.nan, 0.06], nan_ok=True
    )


def test_rule__names_the_numbers_in_force():
    text = verdict.rule()
    for number in (verdict.RATE, verdict.TIE, verdict.BELIEVED):
        assert f"{number:g}" in text
