from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonypy_lite.design import Design, design_from_columns, design_from_parts, design_like
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.levels import MISSING_LEVEL


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def crossed() -> pd.DataFrame:
    return frame(donor=["c", "a", "b", "a", "b"] * 6, sex=list("mfffm") * 3 + list("fmmff") * 3)


def test_design__numbers_levels_through_in_sorted_order() -> None:
    design = design_from_columns(crossed())
    assert design.covariates == ("donor", "sex")
    assert design.levels == (("a", "b", "c"), ("f", "m"))
    assert design.offsets.tolist() == [0, 3, 5]
    assert design.codes.dtype == np.int32
    assert design.codes[:3].tolist() == [[2, 4], [0, 3], [1, 3]]
    assert design.level_size.tolist() == [12, 12, 6, 18, 12]
    np.testing.assert_allclose(design.level_share, np.array([12, 12, 6, 18, 12]) / 30)
    assert (design.n_cells, design.n_levels) == (30, 5)
    assert design.level_slices() == [slice(0, 3), slice(3, 5)]


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    columns=st.lists(
        st.lists(st.sampled_from("abcdef"), min_size=40, max_size=40), min_size=1, max_size=3
    )
)
@pytest.mark.filterwarnings("ignore::harmonypy_lite.errors.HarmonyWarning")
def test_design__counts_and_codes_agree_with_the_names(columns: list[list[str]]) -> None:
    given_ = pd.DataFrame({f"c{i}": column for i, column in enumerate(columns)})
    design = design_from_columns(given_)
    assert set(design.covariates) | set(design.dropped) == set(given_.columns)
    assert design.given == tuple(given_.columns)
    for c, (name, levels) in enumerate(zip(design.covariates, design.levels, strict=True)):
        names = np.array(levels)[design.codes[:, c] - design.offsets[c]]
        assert names.tolist() == given_[name].tolist()
        sizes = design.level_size[design.level_slices()[c]]
        assert (
            dict(zip(levels, sizes.tolist(), strict=True)) == given_[name].value_counts().to_dict()
        )


def test_design__drops_unused_categories() -> None:
    column = pd.Categorical(["b", "d"] * 10, categories=["a", "b", "c", "d"])
    design = design_from_columns(frame(batch=column))
    assert design.levels == (("b", "d"),)
    assert design.codes.ravel().tolist() == [0, 1] * 10


def test_design__keeps_the_order_of_categories() -> None:
    column = pd.Categorical(["late", "early"] * 10, categories=["late", "early"], ordered=True)
    assert design_from_columns(frame(batch=column)).levels == (("late", "early"),)


@pytest.mark.parametrize("categorical", [True, False])
def test_missing__is_the_last_level(categorical: bool) -> None:
    column = pd.Series(["b", None, "a", "b"] * 6, dtype="category" if categorical else object)
    design = design_from_columns(frame(batch=column), missing="level")
    assert design.levels == (("a", "b", MISSING_LEVEL),)
    assert design.codes[:4, 0].tolist() == [1, 2, 0, 1]
    with pytest.raises(InvalidInput, match=r"6 of 24 cells.*missing='level'"):
        design_from_columns(frame(batch=column))


def test_categories__that_are_equal_as_text_are_one_level() -> None:
    column = pd.Categorical([1, "1", "b", "1"] * 5, categories=["b", 1, "x", "1"])
    design = design_from_columns(frame(batch=column))
    assert design.levels == (("b", "1"),)
    assert design.codes.ravel().tolist() == [1, 1, 0, 1] * 5
    assert design_like(frame(batch=["1", "b"]), design).codes.ravel().tolist() == [1, 0]


def test_columns__that_are_equal_as_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="named twice"):
        design_from_columns(pd.DataFrame({1: ["a", "b"] * 10, "1": list("aabb") * 5}))


@pytest.mark.parametrize("categorical", [True, False])
@pytest.mark.parametrize("other", [None, "a"])
def test_missing__is_never_mixed_with_a_level_of_its_name(
    categorical: bool, other: str | None
) -> None:
    dtype: Any = "category" if categorical else object
    column = pd.Series([MISSING_LEVEL, "b", other, "a"] * 5, dtype=dtype)
    with pytest.raises(InvalidInput, match=r"'batch' has a level .*'\(missing\)'.*rename it"):
        design_from_columns(frame(batch=column), missing="level")
    known = design_from_columns(frame(batch=column.fillna("b")))
    assert known.levels == ((MISSING_LEVEL, "a", "b"),)
    with pytest.raises(InvalidInput, match="rename it"):
        design_like(frame(batch=column), known, missing="level")


def test_missing__is_one_of_two_words() -> None:
    with pytest.raises(InvalidInput, match="missing='drop'"):
        design_from_columns(crossed(), missing="drop")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, [2, 2, 2, 2, 2]),
        ([3], [3, 3, 3, 3, 3]),
        ([1, 4], [1, 1, 1, 4, 4]),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        ({"donor": 1, "sex": [7, 8]}, [1, 1, 1, 7, 8]),
        ({"sex": 0, "donor": [1, 2, 3]}, [1, 2, 3, 0, 0]),
        (np.float32(0.5), [0.5] * 5),
    ],
)
def test_per_level__spreads(value: Any, expected: list[float]) -> None:
    assert design_from_columns(crossed()).per_level("theta", value).tolist() == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2, 3], "theta has 3 values, for 2 covariates .donor, sex. with 5 levels in all: "),
        ([1] * 6, r"give one number for all, one per covariate \(2\), or one per level \(5\)\."),
        ({"donor": 1}, r"names \['donor'\], the covariates are \['donor', 'sex'\]"),
        ({"donor": 1, "sex": 1, "age": 1}, "names .*age"),
        ({"donor": [1, 2], "sex": 1}, r"theta\['donor'\] has 2 values, 'donor' has 3 levels"),
    ],
)
def test_per_level__refuses_other_lengths(value: Any, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        design_from_columns(crossed()).per_level("theta", value)


def with_dropped() -> Design:
    given_ = crossed()
    given_.insert(0, "lab", "one")
    given_.insert(2, "name", given_["donor"].str.upper())
    with pytest.warns(HarmonyWarning, match="left out"):
        return design_from_columns(given_)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([9, 1, 9, 4], [1, 1, 1, 4, 4]),
        ([9, 1, 2, 3, 9, 9, 9, 4, 5], [1, 2, 3, 4, 5]),
        ([1, 4], [1, 1, 1, 4, 4]),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        ({"lab": 9, "donor": 1, "name": 9, "sex": 4}, [1, 1, 1, 4, 4]),
    ],
)
def test_per_level__leaves_out_what_was_meant_for_dropped_covariates(
    value: Any, expected: list[float]
) -> None:
    design = with_dropped()
    assert design.given == ("lab", "donor", "name", "sex")
    assert design.dropped == {
        "lab": "it has only one level (one)",
        "name": "it divides the cells just as 'donor' does",
    }
    assert design.per_level("theta", value).tolist() == expected


def test_same_partition__is_recognised_in_any_coding_but_not_a_finer_one() -> None:
    given_ = frame(
        a=["x", "y", "z"] * 10, b=[3, 1, 2] * 10, c=["x", "y", "z", "x"] * 7 + ["y", "z"]
    )
    with pytest.warns(HarmonyWarning, match="'b' is left out"):
        design = design_from_columns(given_)
    assert design.covariates == ("a", "c")


@pytest.mark.parametrize(
    ("n", "levels", "refused"), [(10, 10, False), (11, 6, True), (12, 6, False)]
)
@pytest.mark.filterwarnings("ignore:.*fewer than 5 cells")
def test_cell_names__are_a_level_for_more_than_half_of_the_cells(
    n: int, levels: int, refused: bool
) -> None:
    column = [f"cell{i % levels}" for i in range(n)]
    if refused:
        with pytest.raises(InvalidInput, match="look like cell names"):
            design_from_columns(frame(batch=column))
    else:
        assert design_from_columns(frame(batch=column)).n_levels == levels


def test_per_level__one_covariate_is_told_each_choice_once() -> None:
    said = (
        r"^theta has 3 values, for 1 covariate \(batch\) with 2 levels: give one number for all, "
    )
    with pytest.raises(InvalidInput, match=said + r"or one per level \(2\)\.$"):
        design_from_columns(frame(batch=["a", "b"] * 10)).per_level("theta", [1, 2, 3])


@pytest.mark.parametrize(
    "column", [np.arange(30) / 7, np.arange(30), pd.Categorical(np.arange(30) / 7)]
)
def test_numbers__as_batches_are_told_from_cell_names(column: Any) -> None:
    said = (
        "'depth' has 30 levels in 30 cells .* look like numbers, such as a measurement.*pandas.cut"
    )
    with pytest.raises(InvalidInput, match=said):
        design_from_columns(frame(depth=column))


def test_take__keeps_the_levels() -> None:
    design = design_from_columns(crossed())
    part = design.take(np.array([0, 1, 1]))
    assert part.codes.tolist() == [[2, 4], [0, 3], [0, 3]]
    assert part.level_size.tolist() == [2, 0, 1, 2, 1]
    assert part.levels == design.levels


def test_design_like__codes_other_cells_in_the_same_levels() -> None:
    design = design_from_columns(crossed())
    other = design_like(frame(sex=["m", "f"], donor=["b", "c"]), design)
    assert other.codes.tolist() == [[1, 4], [2, 3]]
    assert other.levels == design.levels
    with pytest.raises(InvalidInput, match=r"'donor' has 1 level\(s\) .* \(zz\); it saw a, b, c"):
        design_like(frame(sex=["m"], donor=["zz"]), design)
    assert design_like(crossed(), design).codes.tolist() == design.codes.tolist()


def _cut(frame: pd.DataFrame, n: int) -> list[pd.DataFrame]:
    return [frame.iloc[a : a + n] for a in range(0, len(frame), n)]


@pytest.mark.parametrize("missing", ["refuse", "level"])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_design_from_parts__is_the_design_of_the_whole(missing: str, n: int) -> None:
    draws = np.random.default_rng(0)
    number = draws.integers(0, 12, 300)
    frame = pd.DataFrame(
        {
            "text": np.array(list("qwertyuiopas"))[number],
            "number": number % 11 * 10,
            "float": (number % 5) / 4,
            "categories": pd.Categorical(number % 7, categories=[3, 6, 99, 0, 1, 2, 5, 4]),
            "nullable": pd.array(number % 3, dtype="Int64"),
            "boolean": number % 2 == 0,
            "mixed": np.array([1, "1", "b", 2.5], dtype=object)[number % 4],
            "same": np.array(list("ASDFGHJKLQWE"))[number],
            "constant": "x",
        }
    )
    if missing == "level":
        frame.loc[frame.index % 50 == 3, ["text", "float", "categories", "nullable"]] = None
        frame = frame.astype({"text": object})
        frame.loc[frame["text"].isna(), "text"] = np.nan
    with pytest.warns(HarmonyWarning, match="left out") as said:
        whole = design_from_columns(frame, missing=missing)
    store = np.empty((300, frame.shape[1]), np.int32)
    with pytest.warns(HarmonyWarning, match="left out") as said_again:
        parts = design_from_parts(_cut(frame, n), list(frame), store, missing=missing)
    assert [str(w.message) for w in said] == [str(w.message) for w in said_again]
    assert not isinstance(parts.codes, np.ndarray)
    np.testing.assert_array_equal(parts.codes[0:300], whole.codes)
    assert parts.codes.shape == whole.codes.shape
    assert parts.n_cells == 300
    np.testing.assert_array_equal(parts.level_size, whole.level_size)
    for name in ("covariates", "levels", "dropped", "dropped_levels", "given"):
        assert getattr(parts, name) == getattr(whole, name), name


def test_design_from_parts__refuses_what_the_whole_refuses() -> None:
    frame = pd.DataFrame({"cell": [f"c{i}" for i in range(100)], "batch": ["a", None] * 50})

    def design(name: str) -> Design:
        return design_from_parts(_cut(frame, 9), [name], np.empty((100, 1), np.int32))

    with pytest.raises(InvalidInput, match="missing values in 50 of 100 cells"):
        design("batch")
    with pytest.raises(InvalidInput, match="look like cell names"):
        design("cell")


def test_design_from_parts__categories_of_parts_are_joined_in_order_of_appearance() -> None:
    parts = [
        pd.DataFrame({"donor": pd.Categorical(["z", "b"] * 5, categories=["z", "b"])}),
        pd.DataFrame({"donor": pd.Categorical(["a", "b"] * 5, categories=["b", "a"])}),
    ]
    design = design_from_parts(parts, ["donor"], np.empty((20, 1), np.int32))
    assert design.levels == (("z", "b", "a"),)
    assert design.codes[8:12].ravel().tolist() == [0, 1, 2, 1]
    assert design.level_size.tolist() == [5, 10, 5]
