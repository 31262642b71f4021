from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.params import HarmonyParams, describe, documented

FIELDS = {f.name: f for f in dataclasses.fields(HarmonyParams)}


def test_params__are_scanpys_names_and_defaults() -> None:
    # as the papers and harmonypy 2.1 have them
    assert {name: field.default for name, field in FIELDS.items()} == {
        "flavor": "harmony2",
        "start": None,
        "n_clusters": None,
        "theta": 2.0,
        "sigma": 0.1,
        "tau": 0.0,
        "alpha": 0.2,
        "ridge_lambda": None,
        "batch_prune_threshold": 1e-5,
        "block_proportion": 0.05,
        "sync": "exact",
        "max_iter_harmony": 10,
        "max_iter_clustering": None,
        "tol_harmony": None,
        "tol_clustering": None,
        "early_stop": True,
        "rng": 0,
        "n_jobs": None,
        "memory": "fast",
    }


@pytest.mark.parametrize(
    ("flavor", "start", "rounds", "outer", "inner"),
    [
        ("harmony2", "kmeans", 4, 1e-2, 1e-3),
        ("harmony1", "kmeans", 20, 1e-4, 1e-5),
        ("pooled", "auto", 4, 1e-2, 1e-3),
    ],
)
def test_resolved__fills_in_what_the_flavour_decides(
    flavor: str, start: str, rounds: int, outer: float, inner: float
) -> None:
    params = HarmonyParams(flavor=flavor).resolved()
    assert params.start == start
    assert params.max_iter_clustering == rounds
    assert (params.tol_harmony, params.tol_clustering) == (outer, inner)
    given = HarmonyParams(
        flavor=flavor,
        start="centred",
        max_iter_clustering=7,
        tol_harmony=0.0,
        tol_clustering=0,
    )
    assert given.resolved() == given


@pytest.mark.parametrize(
    ("n_cells", "K"),
    [
        (1, 1),
        (2, 1),
        (44, 1),
        (46, 2),
        (300, 10),
        (2984, 99),
        (2990, 100),
        (3000, 100),
        (10**7, 100),
    ],
)
def test_clusters_for__is_a_thirtieth_of_the_cells_between_1_and_100(n_cells: int, K: int) -> None:
    assert HarmonyParams().clusters_for(n_cells) == K


def test_clusters_for__takes_the_number_given() -> None:
    assert HarmonyParams(n_clusters=7).clusters_for(7) == 7
    assert type(HarmonyParams(n_clusters=np.int16(7)).clusters_for(8)) is int
    with pytest.raises(InvalidInput, match=r"n_clusters=8 .* 7 cells: give at most 7"):
        HarmonyParams(n_clusters=8).clusters_for(7)


def test_params__cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HarmonyParams().theta = 3  # type: ignore[misc]


@pytest.mark.parametrize("value", [[1, 2.5], (1, 2.5), np.array([1, 2.5]), pd.Series([1, 2.5])])
def test_params__compare_and_hash_with_any_kind_of_list(value: Any) -> None:
    params = HarmonyParams(theta=value, sigma=value, ridge_lambda=value)
    assert params.theta == params.sigma == params.ridge_lambda == (1, 2.5)
    same = HarmonyParams(theta=(1, 2.5), sigma=(1, 2.5), ridge_lambda=(1, 2.5))
    assert params == same
    assert hash(params) == hash(same)
    assert params != HarmonyParams(theta=(1, 2))


def test_params__do_not_change_with_what_they_were_given() -> None:
    numbers, names = [1.0, 2.0], {"donor": np.ones(2)}
    params = HarmonyParams(theta=numbers, ridge_lambda=names)
    numbers[0] = names["donor"][0] = -1.0
    names["lab"] = np.ones(1)
    assert params.theta == (1.0, 2.0)
    assert params.ridge_lambda == {"donor": (1.0, 1.0)}


BAD: dict[str, list[Any]] = {
    "start": ["k-means", "", 2, ["kmeans"], True],
    "flavor": ["harmony3", "", None, 2, ["harmony1"], np.array(["harmony1", "harmony2"])],
    "n_clusters": [0, -1, 2.0, "3", True, [3], float("nan")],
    "theta": [
        -1,
        -0.1,
        1.1e12,
        10**400,
        [1, 1e13],
        {"batch": 1e13},
        float("nan"),
        float("inf"),
        "2",
        None,
        True,
        [],
        [1, -1],
        [[1]],
        [None],
    ],
    "sigma": [
        0,
        -1,
        9e-7,
        1.1e6,
        [0.1, 1e-7],
        float("nan"),
        float("inf"),
        "x",
        None,
        [],
        [0.1, 0],
        {"a": 1},
        [[0.1]],
    ],
    "tau": [-1, float("nan"), float("inf"), 10**400, None, [1.0], "1"],
    "alpha": [0, -1, 9e-9, float("nan"), None, [0.2]],
    "ridge_lambda": [0, -1, 9e-9, {"a": 1e-9}, float("inf"), [1, 0], {"batch": 0}, "1", []],
    "batch_prune_threshold": [-1e-9, 1.1, float("nan"), [0.1], "x"],
    "block_proportion": [0, -0.1, 1.01, float("nan"), None],
    "sync": ["batches", None, True],
    "max_iter_harmony": [0, -1, 1.5, None, True, "3"],
    "max_iter_clustering": [0, -1, 1.5, "4"],
    "tol_harmony": [-1e-9, float("nan"), "x", [1]],
    "tol_clustering": [-1e-9, float("inf"), "x"],
    "early_stop": [1, 0, None, "yes"],
    "rng": [-1, 1.5, None, "0", True, [1]],
    "n_jobs": [0, 1.5, "2", True],
    "memory": ["slow", None, True],
}
GOOD: dict[str, list[Any]] = {
    "flavor": ["harmony1", "harmony2", "pooled"],
    "start": [None, "kmeans", "centred", "auto"],
    "n_clusters": [1, np.int64(5), np.uint8(5), None],
    "theta": [
        0,
        1,
        2.5,
        1e12,
        np.float32(1),
        np.array(2),
        [0, 1],
        (1.0, 2),
        np.ones(3),
        {"a": [1, 2]},
    ],
    "sigma": [1, 0.1, 1e-6, 1e6, np.float16(0.5), [0.1, 1], np.ones(2)],
    "tau": [0, 5, np.float32(2)],
    "alpha": [1e-8, 1, 10],
    "ridge_lambda": [None, 1e-8, 1, [1, 2], {"a": 1, "b": [1, 2]}],
    "batch_prune_threshold": [None, 0, 1, 1e-5],
    "block_proportion": [1e-9, 0.5, 1],
    "sync": ["exact", "batch"],
    "max_iter_harmony": [1, np.int32(50)],
    "max_iter_clustering": [1, 100],
    "tol_harmony": [0, 1e-9, 1],
    "tol_clustering": [0, 1e-9],
    "early_stop": [True, False, np.bool_(True)],
    "rng": [0, 2**63, np.random.default_rng(0), np.uint32(3)],
    "n_jobs": [1, -1, -2, 64, np.int64(2)],
    "memory": ["fast", "lean"],
}


@pytest.mark.parametrize("value", [{"batch": -1}, {"batch": "x"}, {"a": [1, None]}, 1j, b"1"])
def test_theta__of_other_kinds_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^theta"):
        HarmonyParams(theta=value)


def test_lists__cover_all_parameters() -> None:
    assert set(BAD) == set(GOOD) == set(FIELDS)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_value__that_makes_no_sense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        HarmonyParams(**{name: value})
    text = str(caught.value)
    assert text.startswith(name)
    assert any(word in text for word in ("give", "choose")), text


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GOOD.items() for v in values])
def test_value__that_makes_sense_is_taken(name: str, value: Any) -> None:
    taken = getattr(HarmonyParams(**{name: value}), name)
    if isinstance(value, dict):
        assert {key: np.array(v).tolist() for key, v in taken.items()} == value
    elif isinstance(value, list | tuple | np.ndarray):
        assert np.array(taken).tolist() == np.array(value).tolist()
    else:
        assert taken is value


def test_message__says_what_was_given_and_what_is_needed() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"^sigma=-1: give a finite number of at least 1e-06 and at most 1e\+06\.$",
    ):
        HarmonyParams(sigma=-1)
    with pytest.raises(InvalidInput, match=r"^alpha=0: give a finite number of at least 1e-08\.$"):
        HarmonyParams(alpha=0)
    with pytest.raises(InvalidInput, match=r"^n_clusters=0: give a whole number of at least 1\.$"):
        HarmonyParams(n_clusters=0)
    with pytest.raises(
        InvalidInput, match=r"^block_proportion=2: give a finite number above 0 and at most 1\.$"
    ):
        HarmonyParams(block_proportion=2)


def test_describe__has_one_sentence_for_each_parameter() -> None:
    text = describe()
    for name, field in FIELDS.items():
        assert f"{name} : default {field.default!r}" in text
        meaning = field.metadata["meaning"]
        assert meaning in text
        assert meaning.endswith(".")
        assert meaning.count(". ") == 0, f"{name}: one sentence"


def test_describe__says_where_a_parameter_has_no_effect() -> None:
    assert "`harmony1` does not use it" in FIELDS["alpha"].metadata["meaning"]
    assert "after round 5" in FIELDS["tol_clustering"].metadata["meaning"]


def test_documented__fills_the_place_with_its_indent() -> None:
    def function() -> None:
        """Do it.

        Parameters
        ----------
        {parameters}

        Returns
        -------
        """

    # Without the common indent, which Python 3.13 takes off by itself: a wrong one would stay.
    text = inspect.cleandoc(documented(function).__doc__ or "")
    assert "{parameters}" not in text
    for name in FIELDS:
        assert f"\n{name} : default" in text
    assert "\nReturns" in text
