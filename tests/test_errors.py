"""Warnings point at the line of the user, whichever door it went through."""

from __future__ import annotations

import ast
import inspect
import warnings
from pathlib import Path

import pandas as pd
import pytest
from files import small_adata
from sklearn.pipeline import make_pipeline

import harmonypy_lite
from harmonypy_lite import Harmony, HarmonyWarning, pp, run_harmony
from harmonypy_lite.io import integrate_file


def through_pp(adata):
    keys = ["donor", "lab"]
    pp.harmony_integrate(adata, keys, max_iter_harmony=1, tol_harmony=0, protect="sex")


def through_the_estimator(adata):
    Harmony(max_iter_harmony=1, tol_harmony=0).fit_transform(
        adata.obsm["X_pca"], adata.obs[["donor", "lab"]]
    )


def through_a_pipeline(adata):
    steps = make_pipeline(Harmony(max_iter_harmony=1, tol_harmony=0))
    steps.fit_transform(adata.obsm["X_pca"], adata.obs[["donor", "lab"]])


def through_run_harmony(adata):
    keys = ["donor", "lab"]
    run_harmony(adata.obsm["X_pca"], adata.obs, keys, max_iter_harmony=1, epsilon_harmony=0)


@pytest.mark.parametrize(
    "door", [through_pp, through_the_estimator, through_a_pipeline, through_run_harmony]
)
def test_warnings__point_at_the_line_of_the_user(door):
    adata = small_adata()
    adata.obs["lab"] = "one"
    adata.obs["sex"] = (adata.obs["donor"] == "carl").map({True: "m", False: "f"})
    adata.obsm["X_pca"][:4] = 0
    adata.obs["donor"] = pd.Categorical([*"abc", *adata.obs["donor"].astype(str)[3:]])
    adata.uns["harmony"] = {"of": "others"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        door(adata)
    lines, first = inspect.getsourcelines(door)
    for warning in said:
        assert issubclass(warning.category, HarmonyWarning)
        assert warning.filename == __file__, str(warning.message)
        assert first < warning.lineno < first + len(lines)
    texts = " ".join(str(warning.message) for warning in said)
    wanted = ["'lab' is left out", "fewer than 5 cells", "all zero", "not settled after 1"]
    wanted += ["'sex' is", "not from an earlier run"] if door is through_pp else []
    for text in wanted:
        assert text in texts


def test_warnings__of_a_file_point_at_the_line_of_the_user(tmp_path):
    adata = small_adata()
    adata.obs["lab"] = "one"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.warns(HarmonyWarning, match="'lab' is left out") as said:
        integrate_file(tmp_path / "cells.h5ad", ["donor", "lab"])
    assert {warning.filename for warning in said} == {__file__}


def test_warnings__are_given_in_one_place():
    package = Path(harmonypy_lite.__file__).parent
    for path in package.rglob("*.py"):
        if "metrics" in path.parts or path.name == "errors.py":
            continue  # metrics are called with arrays and warn of the call itself
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "warnings.warn", f"{path}:{node.lineno}"
