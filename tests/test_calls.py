"""Calls that were meant for another function, or with another package's names."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from files import small_adata

from harmonypy_lite import Harmony, InvalidInput, calls, pp, run_harmony


def test_keywords__of_other_packages_are_told_by_their_name_here():
    adata = small_adata()
    for call, said in [
        (
            lambda: pp.harmony_integrate(adata, "donor", random_state=0),
            r"harmony_integrate\(\) takes no argument 'random_state': it is called 'rng' here",
        ),
        (lambda: pp.harmony_integrate(adata, "donor", seed=0), "'seed': it is called 'rng'"),
        (lambda: pp.harmony_integrate(adata, batch_key="donor"), "it is called 'key'"),
        (lambda: pp.harmony_integrate(adata, "donor", thetta=0), "Did you mean 'theta'"),
        (lambda: pp.harmony_integrate(adata, "donor", gpu=1), "'gpu'; it takes adata, key, "),
        (lambda: Harmony(random_state=0), r"^Harmony\(\) takes .*it is called 'rng' here"),
        (lambda: Harmony(nclust=3), "it is called 'n_clusters' here"),
        (lambda: run_harmony(adata.obsm["X_pca"], adata.obs, "donor", rng=0), "'random_state'"),
        (lambda: run_harmony(adata.obsm["X_pca"], adata.obs, "donor", n_jobs=1), "'ncores'"),
    ]:
        with pytest.raises(TypeError, match=said):
            call()


@pytest.mark.parametrize(
    ("theirs", "ours"), {v: k for k, v in calls.HARMONYPY_NAMES.items()}.items()
)
def test_keywords__each_name_of_harmonypy_leads_to_ours_and_back(theirs, ours):
    with pytest.raises(TypeError, match=rf"'{theirs}': it is called '{ours}'"):
        Harmony(**{theirs: 1})
    with pytest.raises(TypeError, match=rf"'{ours}': it is called '{theirs}'"):
        run_harmony(np.eye(3), pd.DataFrame(), "donor", **{ours: 1})


def test_harmony_integrate__says_what_takes_a_file_or_an_array(tmp_path):
    for given in ("cells.h5ad", tmp_path / "cells.h5ad"):
        with pytest.raises(InvalidInput, match=r"cells.h5ad', the name of a file: read it first"):
            pp.harmony_integrate(given, "donor")
    with pytest.raises(InvalidInput, match=r"adata is a ndarray.*Harmony\(\)\.fit_transform"):
        pp.harmony_integrate(np.eye(3), "donor")
    with pytest.raises(InvalidInput, match="the name of a file"):
        pp.harmony_integrate(adata="cells.h5ad", key="donor")
    with pytest.raises(InvalidInput, match="the name of a file"):
        pp.preprocess("cells.h5ad", "donor")


@pytest.mark.parametrize(
    "call",
    [
        lambda adata: run_harmony(adata, adata.obs, "donor"),
        lambda adata: run_harmony(adata, "donor"),
        lambda adata: run_harmony(data_mat=adata, meta_data=adata.obs, vars_use="donor"),
        lambda adata: Harmony().fit_transform(adata, adata.obs["donor"]),
        lambda adata: Harmony().fit(adata, "donor"),
    ],
)
def test_array_calls__say_what_takes_an_adata(call):
    adata = small_adata()
    assert isinstance(adata, anndata.AnnData)
    with pytest.raises(InvalidInput, match=r"use harmonypy_lite.pp.harmony_integrate\(adata, key"):
        call(adata)
