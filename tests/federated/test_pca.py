"""One PCA from the sums of all sites, against scanpy on all cells together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import message as messages
from harmonypy_lite.federated import steps
from harmonypy_lite.federated.attendance import AtSite
from harmonypy_lite.federated.exchange import Exchange
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.plan import PcaChoices, Plan
from harmonypy_lite.files import output

GENES = [f"gene{i}" for i in range(150)]


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def counts() -> anndata.AnnData:
    draws = np.random.default_rng(3)
    kind = draws.integers(0, 4, 260)
    rate = draws.gamma(1.0, 1.0, (4, 150)) * np.exp(draws.normal(0, 1.5, 150))
    X = draws.poisson(rate[kind] * draws.uniform(0.5, 2, (260, 1))).astype(np.float32)
    names = pd.DataFrame(index=[f"c{i}" for i in range(260)])
    return anndata.AnnData(scipy.sparse.csr_matrix(X), obs=names, var=pd.DataFrame(index=GENES))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("masks", [False, True])
def test_pca__is_that_of_all_cells_together(scaled: bool, masks: bool, tmp_path: Path) -> None:
    whole = counts()
    draws = np.random.default_rng(0)
    parts = {"A": whole[:90], "B": whole[90:110], "C": whole[110:]}
    files = {}
    for name, part in parts.items():
        # each site has its genes in another order, and one of its own
        own = part[:, draws.permutation(150)].copy()
        extra = anndata.AnnData(np.ones((own.n_obs, 1), np.float32), obs=own.obs)
        extra.var_names = [f"only {name}"]
        both = anndata.concat([own, extra], axis=1, merge="first")
        # what only one site measured must not change how deep a cell counts as: leave it empty
        both.X = scipy.sparse.csr_matrix(both.X)
        both.X[:, -1] = 0
        files[name] = tmp_path / f"{name}.h5ad"
        both.write_h5ad(files[name])
    choices = PcaChoices(n_genes=60, n_components=6, scaled=scaled)
    run = tmp_path / "run"
    steps.init(run, Plan("pca", ("A", "B", "C"), pca=choices, masks=masks))
    at = {
        name: AtSite(name, files[name], secrets=run / f"secrets-{name}.json" if masks else None)
        for name in files
    }
    while not steps.combine(run).stopped:
        for name in files:
            steps.local(run, at[name])
    found = []
    for name in files:
        steps.apply(run, at[name], output.plan(files[name], None, in_place=True))
        found.append(anndata.read_h5ad(files[name]))
    wanted = pooled(whole, scaled)
    third = Exchange(run).combined(2)
    assert third is not None
    assert set(third.facts["names"]) == set(wanted.var_names)
    ours, theirs = np.concatenate([each.obsm["X_pca"] for each in found]), wanted.obsm["X_pca"]
    sign = np.sign((ours * theirs).sum(axis=0))
    assert np.abs(ours * sign - theirs).max() < 1e-4 * theirs.std()
    loadings = pd.DataFrame(found[0].varm["PCs"], index=found[0].var_names)
    there = loadings.loc[wanted.var_names].to_numpy() * sign
    assert np.abs(there - wanted.varm["PCs"]).max() < 1e-4
    assert not loadings.loc["only A"].any()


def pooled(whole: anndata.AnnData, scaled: bool) -> anndata.AnnData:
    cells = whole.copy()
    cells.X = cells.X.astype(np.float64)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=60, flavor="seurat")
    cells = cells[:, cells.var["highly_variable"]].copy()
    cells.X = cells.X.toarray()
    if scaled:
        sc.pp.scale(cells)
    sc.pp.pca(cells, n_comps=6, svd_solver="covariance_eigh")
    return cells


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"n_genes": 0}, "n_genes"),
        ({"n_components": True}, "n_components"),
        ({"target_sum": -1}, "target_sum"),
        ({"target_sum": float("nan")}, "target_sum"),
    ],
)
def test_plan__refuses(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Plan("pca", ("A", "B"), pca=PcaChoices(**how))


def test_local__refuses_counts_where_logarithms_are_due(tmp_path: Path) -> None:
    cells = counts()
    cells.X = cells.X * 10
    cells.write_h5ad(tmp_path / "A.h5ad")
    steps.init(tmp_path / "run", Plan("pca", ("A", "B"), pca=PcaChoices(target_sum=None)))
    with pytest.raises(InvalidInput, match="too large for logarithms"):
        steps.local(tmp_path / "run", AtSite("A", tmp_path / "A.h5ad"))


@pytest.mark.parametrize(
    ("step", "changed", "said"),
    [
        (1, {"genes": ["nobody's"]}, "'genes'"),
        (1, {"genes": []}, "'genes'"),
        (1, {"genes": 3}, "'genes'"),
        (1, {"n_cells": 1}, "'n_cells'"),
        (1, {"most": "much"}, "'most'"),
        (1, {"ask": "gram", "chosen": [0]}, "'chosen'"),
        (2, {"chosen": [150]}, "'chosen'"),
        (2, {"chosen": [-1]}, "'chosen'"),
        (2, {"chosen": [0.5]}, "'chosen'"),
        (3, {"chosen": [0]}, "'loadings'"),
        (3, {"deviation": 0.0}, "not positive"),
        (3, {"mean": float("nan")}, "not finite"),
    ],
)
def test_site__refuses_what_it_cannot_use(
    step: int, changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    run, whole = tmp_path / "run", counts()
    steps.init(run, Plan("pca", ("A", "B"), pca=PcaChoices(n_genes=20, n_components=3)))
    at = {}
    for name, part in {"A": whole[:90], "B": whole[90:]}.items():
        part.copy().write_h5ad(tmp_path / f"{name}.h5ad")
        at[name] = AtSite(name, tmp_path / f"{name}.h5ad")
    for _ in range(step):
        for site in at.values():
            steps.local(run, site)
        steps.combine(run)
    path = run / f"combined-{step:04d}.fed"
    sent = messages.read(path)
    arrays = {n: np.full_like(a, changed[n]) if n in changed else a for n, a in sent.arrays.items()}
    facts = dict(sent.facts) | {n: v for n, v in changed.items() if n not in arrays}
    forged = Message(**vars(sent) | {"facts": facts, "arrays": arrays, "digest": ""})
    messages.write(path, forged)
    target = output.plan(at["A"].file, tmp_path / "out.h5ad")
    with pytest.raises(InvalidInput, match=said):
        steps.apply(run, at["A"], target)
