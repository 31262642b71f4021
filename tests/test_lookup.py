"""Names of cells: which pairs of tables are matched by place, and which are refused."""

from __future__ import annotations

import pandas as pd
import pytest

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_columns, check_same_order, nearest


def named(*names):
    return pd.Series(range(len(names)), index=list(names))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (named("c0", "c1", "c2"), named("c1", "c2", "c3")),
        (named("c0", "c1", "c2"), named("c0", "c1", "x")),
        (named("c0", "c1", "c0"), named("c0", "c1", "c2")),
    ],
)
def test_check_same_order__names_that_overlap_but_differ_are_refused(one, other):
    with pytest.raises(InvalidInput, match="name different cells"):
        check_same_order(one, other)


def test_check_same_order__the_same_names_in_another_order_are_refused():
    with pytest.raises(InvalidInput, match="different orders"):
        check_same_order(named("c0", "c1"), named("c1", "c0"))


def test_check_same_order__other_names_and_numbers_are_matched_by_place():
    check_same_order(named("c0", "c1"), named("c0", "c1"))
    check_same_order(named("c0", "c1"), named("a", "b"))
    check_same_order(named("c0", "c1"), named("c1", "c2", "c3"))  # lengths are checked elsewhere
    check_same_order(named(0, 2), named(2, 5))
    check_same_order(named("c0", "c1"), named("c1", "c2").reset_index(drop=True))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Donor", "donor"),
        ("donr", "donor"),
        ("celltype", "cell_type"),
        ("batch", None),
        ("type", None),
        ("cell", None),
        ("donation", None),
    ],
)
def test_nearest__is_a_slip_of_the_pen_and_nothing_else(name, wanted):
    assert nearest(name, ["donor", "patient", "cell_type", "sex"]) == wanted


def test_check_columns__names_joined_by_commas_are_to_be_given_one_by_one():
    there = ["donor", "chemistry", "a,b"]
    said = (
        r"'donor' and 'chemistry' are there.*\['donor', 'chemistry'\].*--key donor --key chemistry"
    )
    for given in ("donor,chemistry", "donor, chemistry"):
        with pytest.raises(InvalidInput, match=said):
            check_columns([given], there)
    check_columns(["a,b"], there)
    with pytest.raises(InvalidInput, match="no obs column 'donor,lab'") as refused:
        check_columns(["donor,lab"], there)
    assert "one by one" not in str(refused.value)
