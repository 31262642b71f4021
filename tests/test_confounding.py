"""Cramer's V against scipy, and where it must be 0 and 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from harmonypy_lite.confounding import cramers_v, warn_of_confounding
from harmonypy_lite.errors import HarmonyWarning, InvalidInput


@pytest.mark.parametrize(("n_one", "n_other"), [(2, 2), (3, 7), (12, 2)])
def test_cramers_v__is_scipys_chi2_with_bergsmas_correction(n_one, n_other):
    draws = np.random.default_rng(n_one)
    one = pd.Series(draws.integers(0, n_one, 400))
    other = pd.Series((one + draws.integers(0, n_other, 400) * (draws.random(400) < 0.6)) % n_other)
    table = pd.crosstab(one, other).to_numpy()
    r, c = table.shape
    plain = association(table, method="cramer") ** 2 * (min(r, c) - 1)
    less = max(0, plain - (r - 1) * (c - 1) / 399)
    wanted = np.sqrt(less / min(r - (r - 1) ** 2 / 399 - 1, c - (c - 1) ** 2 / 399 - 1))
    assert cramers_v(one, other) == pytest.approx(wanted, rel=1e-12)
    assert cramers_v(other, one.astype(str).astype("category")) == pytest.approx(wanted, rel=1e-12)


def test_cramers_v__is_0_for_a_balanced_and_1_for_a_nested_design():
    donor = pd.Series(["a", "b", "c", "d"] * 30)
    assert cramers_v(donor, pd.Series(np.repeat(["x", "y", "z"], 40))) == pytest.approx(0, abs=1e-9)
    assert cramers_v(donor, donor.map({"a": 1, "b": 1, "c": 2, "d": 2})) == pytest.approx(
        np.sqrt((1 - 3 / 119) / (1 - 1 / 119))
    )
    assert cramers_v(donor, donor) == pytest.approx(1)


def test_cramers_v__many_levels_by_chance_are_not_confounded():
    draws = np.random.default_rng(1)
    donor, clone = pd.Series(draws.integers(0, 3, 1000)), pd.Series(draws.integers(0, 300, 1000))
    assert cramers_v(donor, clone) < 0.2
    found = warn_of_confounding(pd.DataFrame({"donor": donor}), pd.DataFrame({"clone": clone}))
    assert found["clone"]["donor"] < 0.2
    assert cramers_v(donor, pd.Series(np.arange(1000))) == 0


def test_warn_of_confounding__what_follows_is_fully_confounded_whatever_the_number_of_levels():
    donor = pd.DataFrame({"donor": np.arange(60) % 20})
    sex = pd.DataFrame({"sex": donor["donor"] % 2})
    with pytest.warns(HarmonyWarning, match="'sex' is fully confounded"):
        found = warn_of_confounding(donor, sex)
    assert found["sex"]["donor"] < 0.99


@pytest.mark.parametrize(
    "values", [np.linspace(0, 1, 60), [f"cell{i}" for i in range(60)], np.arange(60) // 1.5 / 7]
)
def test_warn_of_confounding__values_that_form_no_groups_are_refused(values):
    batches = pd.DataFrame({"donor": np.arange(60) % 3})
    with pytest.raises(InvalidInput, match="'score' is not categorical"):
        warn_of_confounding(batches, pd.DataFrame({"score": values}))


def test_cramers_v__leaves_cells_without_a_value_out():
    one = pd.Series(["a", "b", None, "a", "b", "a"])
    other = pd.Series(["x", "y", "x", "x", "y", None])
    assert cramers_v(one, other) == pytest.approx(1)


def test_warn_of_confounding__is_silent_for_weak_ones_and_skips_constant_batches():
    draws = np.random.default_rng(0)
    batches = pd.DataFrame({"batch": draws.integers(0, 3, 300), "lab": "one"})
    kept = pd.DataFrame({"type": draws.integers(0, 4, 300)})
    found = warn_of_confounding(batches, kept)
    assert list(found) == ["type"]
    assert list(found["type"]) == ["batch"]
    assert found["type"]["batch"] < 0.2
    with pytest.raises(InvalidInput, match="no association"):
        cramers_v(kept["type"], batches["lab"])
