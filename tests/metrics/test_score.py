"""The table of scores of an AnnData or a file: what is in it, and what is refused."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from worlds import frozen, world

from harmonypy_lite import metrics
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.metrics.calibration import Calibrated
from harmonypy_lite.metrics.score import COLUMNS, score, score_file
from harmonypy_lite.metrics.suite import METRICS
from harmonypy_lite.metrics.totals import ROBUST, SCIB, total, totals

STORED = Path(__file__).parents[1] / "oracles" / "scib_metrics_0.5.10.npz"


def annotated(n_cells=600):
    before, after = world(1, 4.0, n_cells=n_cells), world(1, 0.5, n_cells=n_cells)
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical(before.batch, categories=[*sorted(set(before.batch)), "none"]),
            "chemistry": rng.choice(["v2", "v3"], n_cells),
            "cell_type": before.label.astype(object),
            "barcode": [f"cell{i}" for i in range(n_cells)],
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    obsm = {"X_pca": before.embedding.copy(), "X_pca_harmony": after.embedding.copy()}
    adata = anndata.AnnData(obs=obs, obsm=obsm)
    for value in adata.obsm.values():
        value.flags.writeable = False
    return adata


def value(table, metric, column="raw", embedding="X_pca_harmony", batch_key="donor"):
    rows = table[
        (table.metric == metric) & (table.embedding == embedding) & (table.batch_key == batch_key)
    ]
    assert len(rows) == 1
    return rows[column].item()


def test_score__holds_what_the_functions_on_arrays_return():
    adata = annotated()
    table = score(adata, "donor", "cell_type", metrics="all")
    cells, pre = adata.obsm["X_pca_harmony"], adata.obsm["X_pca"]
    batch, label = adata.obs["donor"], adata.obs["cell_type"]
    expected = {
        "ilisi": metrics.ilisi(cells, batch),
        "clisi": metrics.clisi(cells, label),
        "cilisi": metrics.cilisi(cells, batch, label),
        "bras": metrics.bras(cells, batch, label),
        "pcr_comparison": metrics.pcr_comparison(pre, cells, batch),
        "graph_connectivity": metrics.graph_connectivity(cells, label),
        "kbet": metrics.kbet(cells, batch),
        "kbet_per_label": metrics.kbet_per_label(cells, batch, label),
        "nmi": metrics.nmi_ari(cells, label).nmi,
        "ari": metrics.nmi_ari(cells, label).ari,
        "silhouette_label": metrics.silhouette_label(cells, label),
        "structure_overlap": metrics.structure_preservation(pre, cells, batch).overlap,
        "structure_concordance": metrics.structure_preservation(pre, cells, batch).concordance,
    }
    for name, number in expected.items():
        assert value(table, name) == pytest.approx(number, abs=1e-12), name
    assert tuple(table.columns) == COLUMNS
    assert list(table.embedding.unique()) == ["X_pca", "X_pca_harmony"]
    assert set(table.metric) == {*METRICS, "scib", "robust"}
    assert (table.n_cells == 600).all()
    assert "use bras" in value(table, "silhouette_batch", "reason")
    assert table.attrs["seed"] == 0
    assert table.attrs["search"] == "exact"


def test_score__says_why_a_value_is_missing_and_what_a_total_lacks():
    table = score(annotated(), "donor", "cell_type")
    assert np.isnan(value(table, "isolated_labels"))
    assert "every category of obs['cell_type'] is in all 4 batches" in value(
        table, "isolated_labels", "reason"
    )
    assert value(table, "scib", "reason") == "without kbet_per_label, isolated_labels"
    assert value(table, "robust", "reason") == ""
    assert value(table, "robust", "calibrated") > value(
        table, "robust", "calibrated", embedding="X_pca"
    )
    assert table[table.raw.isna() & table.calibrated.isna()].reason.str.len().min() > 0


def test_score__says_which_categories_were_left_out_and_which_are_isolated():
    adata = annotated()
    adata.obs["cell_type"] = np.where(
        adata.obs["donor"] == "donor_d", "only_d", adata.obs["cell_type"].astype(str)
    )
    table = score(adata, "donor", "cell_type", metrics="all")
    for name in ("cilisi", "bras", "kbet_per_label", "silhouette_batch"):
        assert "leaves out 1 of 6 categories of obs['cell_type']" in value(table, name, "reason")
        assert "only_d" in value(table, name, "reason")
    assert "fewest batches: only_d." in value(table, "isolated_labels", "reason")
    assert "compare with scIB" in value(table, "silhouette_label", "reason")


def test_score__says_when_silhouettes_are_estimated(monkeypatch):
    monkeypatch.setattr(sys.modules["harmonypy_lite.metrics.silhouette"], "ALL_CELLS_UP_TO", 100)
    monkeypatch.setattr(sys.modules["harmonypy_lite.metrics.silhouette"], "SAMPLE", 100)
    monkeypatch.setattr(sys.modules["harmonypy_lite.metrics.silhouette"], "SAMPLE_PER_LABEL", 10)
    table = score(annotated(), "donor", "cell_type", metrics=["silhouette_label"])
    assert "Estimated from" in value(table, "silhouette_label", "reason")
    assert "of 600 cells" in value(table, "silhouette_label", "reason")
    assert value(table, "silhouette_label", "standard_error") > 0


def test_score__calibrates_nothing_where_nearly_all_cells_are_of_one_batch():
    adata = annotated()
    adata.obs["donor"] = np.where(np.arange(600) < 1, "solo", "rest")
    table = score(adata, "donor", metrics=["ilisi"])
    assert value(table, "ilisi") == pytest.approx(0, abs=1e-9)
    assert np.isnan(value(table, "ilisi", "calibrated"))
    assert "nearly all cells are of one batch" in value(table, "ilisi", "reason")


def test_score__needs_an_embedding_before_integration_only_where_it_is_compared():
    adata = annotated()
    del adata.obsm["X_pca"]
    table = score(adata, "donor", "cell_type", ["X_pca_harmony"], metrics=["ilisi", "bras"])
    assert value(table, "ilisi") > 0
    table = score(adata, "donor", "cell_type", ["X_pca_harmony"], pre=None)
    assert "before integration (pre)" in value(table, "pcr_comparison", "reason")
    assert value(table, "robust", "reason") == "without pcr_comparison"
    with pytest.raises(InvalidInput, match=r"no embedding obsm\['X_pca'\]"):
        score(adata, "donor", embeddings=["X_pca_harmony"])


@pytest.mark.parametrize(
    "as_given",
    [np.float16, np.int64, scipy.sparse.csr_array, scipy.sparse.csc_matrix, pd.DataFrame],
)
def test_score__takes_embeddings_of_any_kind(as_given, tmp_path):
    adata = annotated(300)
    cells = np.rint(adata.obsm["X_pca"] * 64) / 4  # exact also in half precision
    if as_given in (np.float16, np.int64):
        given = np.rint(cells).astype(as_given)
        cells = given.astype(float)
    elif as_given is pd.DataFrame:
        given = pd.DataFrame(cells, index=adata.obs_names, columns=[f"PC{i}" for i in range(20)])
    else:
        given = as_given(cells)
    adata.obsm["X_pca"], adata.obsm["plain"] = given, cells
    names = {"embeddings": ["X_pca", "plain"], "metrics": ["ilisi", "bras", "pcr_comparison"]}
    adata.write_h5ad(tmp_path / "any.h5ad")
    tables = [score(adata, "donor", "cell_type", **names)]
    if scipy.sparse.issparse(given):
        with pytest.raises(InvalidInput, match=r"obsm\['X_pca'\] is sparse"):
            score_file(tmp_path / "any.h5ad", "donor", "cell_type", **names)
    else:
        tables += [score_file(tmp_path / "any.h5ad", "donor", "cell_type", **names)]
    for table in tables:
        for metric in names["metrics"]:
            found, expected = (value(table, metric, "raw", key) for key in names["embeddings"])
            assert found == pytest.approx(expected, abs=1e-6), metric


def test_score__says_what_it_needs_instead_of_a_file():
    with pytest.raises(InvalidInput, match=r"must be an AnnData; got str\. See score_file"):
        score("cells.h5ad", "donor")


def test_score__says_when_connectivity_cannot_be_calibrated():
    adata = annotated()
    adata.obs["copy"] = adata.obs["donor"].astype(str)
    table = score(adata, "donor", "copy", metrics=["graph_connectivity"])
    assert value(table, "graph_connectivity") > 0
    assert np.isnan(value(table, "graph_connectivity", "calibrated"))
    assert "no label is in two batches" in value(table, "graph_connectivity", "reason")


def test_score__works_without_labels_and_then_gives_no_total():
    table = score(annotated(), "donor")
    assert value(table, "ilisi") > 0
    assert value(table, "structure_overlap") > 0
    assert value(table, "bras", "reason") == "needs labels (label_key)"
    assert np.isnan(value(table, "robust", "calibrated"))
    assert "no biology metric" in value(table, "scib", "reason")


def test_score__leaves_cells_without_a_label_out_of_label_metrics_only():
    adata = annotated()
    adata.obs.loc[adata.obs_names[:100], "cell_type"] = None
    adata.obs.loc[adata.obs_names[100:110], "cell_type"] = np.nan
    table = score(adata, "donor", "cell_type")
    known = adata[110:]
    assert value(table, "clisi", "n_cells") == 490
    assert value(table, "ilisi", "n_cells") == 600
    assert value(table, "ilisi") == metrics.ilisi(adata.obsm["X_pca_harmony"], adata.obs["donor"])
    assert value(table, "clisi") == metrics.clisi(
        known.obsm["X_pca_harmony"], known.obs["cell_type"]
    )
    assert value(table, "bras") == metrics.bras(
        known.obsm["X_pca_harmony"], known.obs["donor"], known.obs["cell_type"]
    )


def test_score__scores_each_of_several_batch_columns_by_itself():
    adata = annotated()
    both = score(adata, ["donor", "chemistry"], "cell_type")
    for key in ("donor", "chemistry"):
        alone = score(adata, key, "cell_type")
        part = both[both.batch_key == key].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone, check_exact=True)


def test_score__is_the_same_for_any_number_of_threads_and_leaves_the_input_alone():
    adata = annotated()
    before = adata.copy()
    one, three = (score(adata, "donor", "cell_type", n_jobs=n) for n in (1, 3))
    pd.testing.assert_frame_equal(one, three, check_exact=True)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert adata.obsm.keys() == before.obsm.keys()


def test_score__lists_the_reason_when_there_are_too_few_cells():
    table = score(annotated(60), "donor", "cell_type")
    assert "each of 60 cells has 59: use a perplexity of at most 20" in value(
        table, "ilisi", "reason"
    )
    assert value(score(annotated(60), "donor", perplexity=15), "ilisi") > 0


def test_score__does_not_hide_the_warnings_of_other_libraries(monkeypatch):
    def warn(_):
        warnings.warn("from elsewhere", FutureWarning, stacklevel=1)
        return Calibrated(0.5, 0.5)

    monkeypatch.setitem(METRICS, "bras", METRICS["bras"]._replace(compute=warn))
    with pytest.warns(FutureWarning, match="from elsewhere"):
        table = score(annotated(120), "donor", "cell_type", metrics=["bras"])
    assert value(table, "bras") == 0.5
    assert value(table, "bras", "reason") == ""


def test_score__shows_progress_only_when_asked(capsys):
    score(annotated(120), "donor", metrics=["pcr_comparison"])
    assert capsys.readouterr() == ("", "")
    score(annotated(120), "donor", metrics=["pcr_comparison"], progress=True)
    assert "X_pca_harmony: pcr_comparison" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_key": "donr"}, "no obs column 'donr'. Did you mean 'donor'"),
        ({"batch_key": "donor", "label_key": "type"}, "no obs column 'type'"),
        ({"batch_key": []}, "give the name of a column of obs"),
        ({"batch_key": "barcode"}, "600 levels for 600 cells"),
        ({"batch_key": "donor", "label_key": "donor"}, "both a batch column and the label"),
        ({"batch_key": ["donor", "one"]}, r"obs\['one'\] has only one level \(x\)"),
        (
            {"batch_key": "donor", "embeddings": ["X_umap"]},
            r"no embedding obsm\['X_umap'\]; obsm has: X_pca",
        ),
        ({"batch_key": "donor", "pre": "X"}, r"no embedding obsm\['X'\]"),
        ({"batch_key": "donor", "metrics": ["lisi"]}, "no metric 'lisi'; give 'default'"),
        ({"batch_key": "donor", "metrics": []}, "metrics is empty; give 'default'"),
        ({"batch_key": "donor", "label_key": "barcode"}, r"obs\['barcode'\] has 600 levels"),
        ({"batch_key": "donor", "label_key": ["cell_type"]}, "label_key=.* name of a column"),
        ({"batch_key": None}, "batch_key is a NoneType"),
        ({"batch_key": "donor", "embeddings": []}, "embeddings is empty"),
        ({"batch_key": "donor", "clustering": "dbscan"}, "'leiden'; got 'dbscan'"),
        ({"batch_key": "donor", "seed": -1}, "seed must be a whole number >= 0"),
        ({"batch_key": "donor", "seed": None}, "seed must be a whole number"),
        ({"batch_key": "donor", "n_jobs": 0}, "n_jobs=0 asks for no threads"),
        ({"batch_key": "donor", "perplexity": 30.5}, "perplexity must be a whole number"),
        ({"batch_key": "donor", "variant": "R"}, "'harmonypy'; got 'R'"),
        ({"batch_key": "donor", "search": "faiss"}, "'pynndescent'; got 'faiss'"),
    ],
)
def test_score__refuses_before_any_work(arguments, message):
    adata = annotated()
    adata.obs["one"] = "x"
    with pytest.raises(InvalidInput, match=message):
        score(adata, **arguments)


def test_score__one_embedding_may_be_given_by_its_name(tmp_path):
    adata = annotated(120)
    table = score(adata, "donor", embeddings="X_pca", metrics=["pcr_comparison"])
    assert set(table["embedding"]) == {"X_pca"}
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = score_file(tmp_path / "a.h5ad", "donor", embeddings="X_pca", metrics=["pcr_comparison"])
    pd.testing.assert_frame_equal(again, table)


def test_score__refuses_missing_batches_and_broken_embeddings():
    adata = annotated()
    adata.obs["donor"] = adata.obs["donor"].where(np.arange(600) > 4)
    with pytest.raises(InvalidInput, match=r"obs\['donor'\] is missing for 5 of 600 cells"):
        score(adata, "donor")
    adata = annotated()
    broken = adata.obsm["X_pca"].copy()
    broken[17, 0] = np.nan
    adata.obsm["X_pca"] = broken
    with pytest.raises(InvalidInput, match=r"obsm\['X_pca'\] has NaN .* rows \[17\]"):
        score(adata, "donor")
    adata.obs["cell_type"] = None
    with pytest.raises(InvalidInput, match="is missing for every cell"):
        score(adata, "donor", "cell_type")


def test_score_file__reads_only_what_it_needs(tmp_path):
    adata = annotated()
    path = tmp_path / "a file.h5ad"
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:  # anything else would fail to be read
        file["obs/barcode"].attrs["encoding-type"] = "unreadable"
        file["obsm/broken"] = 1
        file["obsm/broken"].attrs["encoding-type"] = "unreadable"
    found = score_file(path, ["donor", "chemistry"], "cell_type", metrics=["bras", "ilisi"])
    expected = score(adata, ["donor", "chemistry"], "cell_type", metrics=["bras", "ilisi"])
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_score_file__writes_the_table_and_the_figure(tmp_path):
    path = tmp_path / "file.h5ad"
    annotated(120).write_h5ad(path)
    names = {"metrics": ["ilisi", "bras"], "embeddings": ["X_pca"]}
    files = [tmp_path / name for name in ("s.csv", "s.json", "one.png", "two.png")]
    one = score_file(path, "donor", "cell_type", **names, output=files[0], plot=files[2])
    two = score_file(path, ["donor", "chemistry"], **names, output=files[1], plot=files[3])
    pd.testing.assert_frame_equal(
        pd.read_csv(files[0], keep_default_na=True).fillna({"reason": ""}), one, check_dtype=False
    )
    assert len(pd.read_json(files[1])) == len(two)
    assert files[2].exists()
    assert {p.name for p in tmp_path.glob("two*")} == {"two_donor.png", "two_chemistry.png"}
    for given, message in (
        ({"output": "scores.xlsx"}, r"must end in \.csv or \.json; got 'scores\.xlsx'"),
        ({"plot": "scores.xlsx"}, r"scores\.xlsx cannot be drawn: .* end in \.png, \.pdf, \.svg"),
        ({"plot": "scores"}, "scores cannot be drawn: its name must end"),
        ({"output": tmp_path / "none" / "s.csv"}, "folder of the output .*none.* does not exist"),
        ({"plot": tmp_path / "none" / "s.png"}, "folder of the output .*none.* does not exist"),
        ({"metrics": ["lisi"]}, "no metric 'lisi'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            score_file(tmp_path / "absent.h5ad", "donor", **given)


def test_score_file__names_what_the_file_lacks(tmp_path):
    path = tmp_path / "file.h5ad"
    annotated(120).write_h5ad(path)
    with pytest.raises(InvalidInput, match="no obs column 'plate'; obs has"):
        score_file(path, "plate")
    with pytest.raises(InvalidInput, match=r"no embedding obsm\['X_scvi'\]; obsm has: X_pca"):
        score_file(path, "donor", embeddings=["X_scvi"])
    with pytest.raises(InvalidInput, match="no file"):
        score_file(tmp_path / "absent.h5ad", "donor")


def test_total_scib__is_that_of_the_benchmarker():
    with np.load(STORED) as stored:
        scores, expected = stored["total_scores"], stored["totals"]
    order = [
        "isolated_labels",
        "nmi",
        "ari",
        "silhouette_label",
        "clisi",
        "bras",
        "ilisi",
        "kbet_per_label",
        "graph_connectivity",
        "pcr_comparison",
    ]
    found = total("scib", SCIB, dict(zip(order, scores.tolist(), strict=True)))
    assert sorted(order) == sorted(SCIB)
    assert found.value == pytest.approx(expected[2], abs=1e-12)
    assert found.reason == ""


def test_total__never_stands_on_batch_metrics_alone():
    mixing = {name: 1.0 for name in ROBUST if METRICS[name].kind == "batch"}
    found = total("robust", ROBUST, mixing)
    assert np.isnan(found.value)
    assert found.reason == "no biology metric could be computed"
    assert all(np.isnan(each.value) for each in totals([]))


def test_score__sees_harmony_mix_real_donors(real_data):
    adata = real_data("pbmc_3500_harmonypy")
    embeddings = ["X_pca", "X_pca_harmony_R"]
    adata = anndata.AnnData(
        obs=adata.obs[["batch"]], obsm={key: frozen(adata.obsm[key]) for key in embeddings}
    )
    table = score(adata, "batch", embeddings=embeddings)
    before, after = (value(table, "ilisi", "raw", key, "batch") for key in embeddings)
    assert before < 0.25 < 0.5 < after
    assert value(table, "structure_overlap", "raw", "X_pca", "batch") == 1.0
    assert 0.3 < value(table, "structure_overlap", "raw", "X_pca_harmony_R", "batch") < 1


def test_score__sees_truth_in_mixed_cell_lines(real_data):
    adata = real_data("sc_mixology_5batch")
    table = score(adata, "batch", "cell_type", embeddings=["X_pca"])
    assert value(table, "clisi", "calibrated", "X_pca", "batch") > 0.95
    assert value(table, "robust", "reason", "X_pca", "batch") == ""
