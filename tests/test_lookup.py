"""Names of cells: which pairs of tables are matched by place, and which are refused."""

from __future__ import annotations

import pandas as pd
import pytest

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_same_order


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
