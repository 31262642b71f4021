"""Metrics of a stratified sample: of Dask arrays, and of any embedding on request."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from worlds import frozen, world

from harmonypy_lite import metrics
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.metrics import calibration, sampling
from harmonypy_lite.metrics.neighbors import find_neighbors

da = pytest.importorskip("dask.array")
CHUNKS = ((1, 900, 0, 299), 20)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLE", 400)
    monkeypatch.setattr(sys.modules["harmonypy_lite.metrics.score"], "SAMPLE", 400)


def lazily(array):
    return da.from_array(np.array(array), chunks=CHUNKS)


def annotated(n_cells=1200):
    before, after = world(1, 4.0, n_cells=n_cells), world(1, 0.5, n_cells=n_cells)
    obs = pd.DataFrame(
        {"donor": before.batch, "cell_type": before.label.astype(object)},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    obs.loc[obs.index[::7], "cell_type"] = None
    obsm = {"X_pca": np.array(before.embedding), "X_pca_harmony": np.array(after.embedding)}
    return anndata.AnnData(obs=obs, obsm=obsm)


def test_stratified__gives_every_combination_its_share():
    rng = np.random.default_rng(0)
    batch, label = rng.choice(3, 5000, p=[0.7, 0.29, 0.01]), rng.integers(0, 4, 5000)
    for seed in range(20):
        cells = sampling.stratified([frozen(batch), frozen(label)], 501, seed)
        assert len(np.unique(cells)) == 501
        assert (np.diff(cells) > 0).all()
        for b in range(3):
            for c in range(4):
                inside = (batch == b) & (label == c)
                assert abs(inside[cells].sum() - inside.sum() * 501 / 5000) < 1
    assert (sampling.stratified([batch], 5000, 0) == np.arange(5000)).all()


def test_stratified__takes_every_cell_as_often():
    batch = np.repeat([0, 1, 2], [30, 6, 4])
    drawn = [sampling.stratified([batch], 10, seed) for seed in range(4000)]
    often = np.bincount(np.concatenate(drawn), minlength=40) / 4000
    assert np.abs(often - 0.25).max() < 0.03


def test_score__of_a_dask_array_is_that_of_the_sample_and_says_so(small):
    adata = annotated()
    lazy = adata.copy()
    for key in adata.obsm:
        lazy.obsm[key] = lazily(adata.obsm[key])
    found = metrics.score(lazy, "donor", "cell_type", metrics="all").set_index(
        ["embedding", "metric"]
    )
    wanted = metrics.score(adata, "donor", "cell_type", metrics="all", sample=400).set_index(
        ["embedding", "metric"]
    )
    numbers = ["raw", "calibrated", "standard_error", "n_cells"]
    pd.testing.assert_frame_equal(found[numbers], wanted[numbers], check_exact=False, rtol=1e-9)
    assert found["reason"].tolist() == wanted["reason"].tolist()
    rows = found.loc["X_pca_harmony"]
    assert rows.loc["ilisi", "reason"] == "Of a stratified sample: 400 of 1,200 cells."
    assert rows.loc["ilisi", "n_cells"] == 400
    known = adata.obs["cell_type"].notna().to_numpy()
    cells, before = adata.obsm["X_pca_harmony"], adata.obsm["X_pca"]
    whole = metrics.pcr_comparison(before, cells, adata.obs["donor"])
    assert rows.loc["pcr_comparison", "raw"] == pytest.approx(whole, rel=1e-12)
    part = adata.obs[known]
    whole = metrics.bras(cells[known], part["donor"], part["cell_type"])
    assert rows.loc["bras", "raw"] == pytest.approx(whole, rel=1e-12)
    assert rows.loc["bras", "n_cells"] == known.sum()
    assert "sample" not in rows.loc["bras", "reason"] + rows.loc["pcr_comparison", "reason"]


def test_score__of_a_sample_is_near_that_of_all_cells():
    adata = annotated(3000)
    whole, part = (
        metrics.score(adata, "donor", "cell_type", sample=n).set_index(["embedding", "metric"])
        for n in (None, 1500)
    )
    for metric, most in {
        "clisi": 0.02,
        "nmi": 0.02,
        "silhouette_label": 0.02,
        "ilisi": 0.06,
    }.items():
        for key in ("X_pca", "X_pca_harmony"):
            change = part.loc[(key, metric), "raw"] - whole.loc[(key, metric), "raw"]
            assert abs(change) <= most, metric
    assert metrics.score(adata, "donor", metrics=["ilisi"], sample=9000).reason.iloc[0] == ""


def test_score__never_has_a_dask_array_in_memory_whole(small):
    seen = []

    def part(block):
        seen.append(len(block))
        return block

    adata = annotated()
    for key in adata.obsm:
        adata.obsm[key] = lazily(adata.obsm[key]).map_blocks(part, meta=np.empty((0, 0)))
    metrics.score(adata, "donor", "cell_type")
    assert max(seen) == 900


def test_score__takes_what_anndata_reads_lazily(small, tmp_path):
    pytest.importorskip("zarr")
    read_lazy = pytest.importorskip("anndata.experimental").read_lazy
    pytest.importorskip("xarray")
    adata = annotated()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_zarr(tmp_path / "a.zarr")
        lazy = read_lazy(tmp_path / "a.zarr")
        found = metrics.score(lazy, "donor", "cell_type")
    wanted = metrics.score(adata, "donor", "cell_type", sample=400)
    pd.testing.assert_frame_equal(found, wanted, check_exact=False, rtol=1e-9)


def test_score__turns_lazy_columns_into_memory_and_no_others(small):
    adata = annotated()

    class Lazy:
        """Of anndata's lazy obs: names of columns, and parts of it that can be read."""

        columns = (*adata.obs.columns, "unreadable")

        def __getitem__(self, names):
            assert names == ["donor", "cell_type"]
            return SimpleNamespace(to_memory=lambda: adata.obs[names])

    lazy = SimpleNamespace(obs=Lazy(), obsm=dict(adata.obsm), n_obs=1200)
    found = metrics.score(lazy, "donor", "cell_type", metrics=["ilisi", "bras"])
    wanted = metrics.score(adata, "donor", "cell_type", metrics=["ilisi", "bras"])
    pd.testing.assert_frame_equal(found, wanted)


def test_score__names_the_dask_array_that_is_broken(small):
    adata = annotated()
    adata.obsm["X_pca_harmony"][5, 1] = np.nan
    adata.obsm["X_pca_harmony"] = lazily(adata.obsm["X_pca_harmony"])
    with pytest.raises(InvalidInput, match=r"obsm\['X_pca_harmony'\] .* NaN or infinite values"):
        metrics.score(adata, "donor")
    adata.obsm["X_pca_harmony"] = adata.obsm["X_pca_harmony"].rechunk((600, 7))
    with pytest.raises(InvalidInput, match=r"obsm\['X_pca_harmony'\] .*rechunk\(\{1: -1\}\)"):
        metrics.score(adata, "donor")


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("ilisi", ("batch",)),
        ("clisi", ("label",)),
        ("cilisi", ("batch", "label")),
        ("graph_connectivity", ("label",)),
        ("kbet", ("batch",)),
        ("kbet_per_label", ("batch", "label")),
        ("nmi_ari", ("label",)),
        ("silhouette_label", ("label",)),
        ("silhouette_batch", ("batch", "label")),
        ("isolated_labels", ("batch", "label")),
        ("calibration.ilisi", ("batch",)),
        ("calibration.clisi", ("label",)),
        ("calibration.cilisi", ("batch", "label")),
        ("calibration.graph_connectivity", ("batch", "label")),
        ("calibration.silhouette_null", ("label",)),
    ],
)
def test_scores__of_a_dask_array_look_at_a_sample_and_warn(small, name, columns):
    cells, batch, label = world(n_cells=1200, shift=1.0)
    label = np.where((label == "D") & (batch != "donor_b"), "T", label)
    given = {"batch": batch, "label": label}
    own, _, short = name.rpartition(".")
    function = getattr(calibration if own else metrics, short)
    taken = sampling.stratified(
        [np.unique(given[c], return_inverse=True)[1] for c in columns], 400, 0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)
        wanted = function(cells[taken], *(given[c][taken] for c in columns))
    said = f"looks at a sample: 400 of 1,200 cells, stratified by {' and '.join(columns)}."
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = function(lazily(cells), *(given[c] for c in columns))
    assert found == pytest.approx(wanted, rel=1e-12, nan_ok=True)
    (of_sample,) = (w for w in told if said in str(w.message))
    assert issubclass(of_sample.category, HarmonyWarning)
    assert of_sample.filename == __file__


def test_structure__of_dask_arrays_is_that_of_the_sample(small):
    pre, batch, _ = world(n_cells=1200, shift=1.0)
    post = pre + np.random.default_rng(1).normal(size=pre.shape)
    taken = sampling.stratified([np.unique(batch, return_inverse=True)[1]], 400, 0)
    with pytest.warns(HarmonyWarning, match="donor_d"):  # fewer than 60 cells of the sample
        wanted = metrics.structure_preservation(pre[taken], post[taken], batch[taken])
    for one, two in ((lazily(pre), lazily(post)), (pre, lazily(post)), (lazily(pre), post)):
        with (
            pytest.warns(HarmonyWarning, match="donor_d"),
            pytest.warns(HarmonyWarning, match="400 of 1,200 cells, stratified by batch"),
        ):
            found = metrics.structure_preservation(one, two, batch)
        assert found[:3] == pytest.approx(wanted[:3], rel=1e-12)
        np.testing.assert_array_equal(found.per_cell[taken], wanted.per_cell)
        assert np.isnan(np.delete(found.per_cell, taken)).all()
    with pytest.raises(InvalidInput, match="pre has 1199 cells and post 1200"):
        metrics.structure_preservation(pre[1:], lazily(post), batch)


def test_small_dask_arrays__are_looked_at_whole_without_a_word():
    cells, batch, label = world(n_cells=1200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.ilisi(lazily(cells), batch) == metrics.ilisi(cells, batch)
        assert metrics.nmi_ari(lazily(cells), label) == metrics.nmi_ari(cells, label)


@pytest.mark.parametrize(
    "call",
    [
        lambda cells, batch, label: metrics.lisi(cells, batch),
        lambda cells, batch, label: metrics.cilisi_per_cell(cells, batch, label),
        lambda cells, batch, label: metrics.kbet_test(cells, batch),
        lambda cells, batch, label: metrics.kbet_of_labels(cells, batch, label),
        lambda cells, batch, label: metrics.silhouettes(cells, label),
        lambda cells, batch, label: find_neighbors(cells),
    ],
)
def test_values_per_cell__of_a_dask_array_are_refused_with_the_remedy(call):
    cells, batch, label = world(n_cells=1200)
    with pytest.raises(InvalidInput, match=r"is a Dask array, .* metrics\.score; .*\.compute\(\)"):
        call(lazily(cells), batch, label)


def test_neighbors__of_other_cells_are_refused():
    cells, batch, label = world(n_cells=300)
    other = find_neighbors(cells[:200], 49)
    said = "neighbors are of 200 cells and the embedding is of 300"
    with pytest.raises(InvalidInput, match=said):
        metrics.kbet_per_label(cells, batch, label, neighbors=other)
    with pytest.raises(InvalidInput, match=said):
        metrics.nmi_ari(cells, label, clustering="leiden", neighbors=other)
