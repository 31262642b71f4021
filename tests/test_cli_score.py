"""`harmonypy-lite score`: the table of `metrics.score_file`, printed, written and drawn."""

from __future__ import annotations

import importlib
import json
import re
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from harmonypy_lite.cli import program
from harmonypy_lite.metrics import score_file
from harmonypy_lite.report import scores_text


@pytest.fixture(scope="module")
def integrated(tmp_path_factory, repository):
    out = tmp_path_factory.mktemp("score") / "integrated.h5ad"
    source = repository / "data" / "simulated_donors.h5ad"
    args = ["integrate", str(source), "--key", "donor", "--key", "chemistry", "-o", str(out), "-q"]
    assert CliRunner().invoke(program, args, prog_name="harmonypy-lite").exit_code == 0
    return out


def run(*args):
    return CliRunner().invoke(program, ["score", *map(str, args)], prog_name="harmonypy-lite")


def test_score__prints_writes_and_draws_the_table(integrated, tmp_path):
    csv, png = tmp_path / "scores.csv", tmp_path / "scores.png"
    done = run(integrated, "-b", "donor", "-l", "cell_type", "-o", csv, "--plot", png)
    assert done.exit_code == 0, done.output
    expected = score_file(integrated, ["donor"], "cell_type")
    written = pd.read_csv(csv)
    assert written["metric"].tolist() == expected["metric"].tolist()
    assert written["raw"].tolist() == pytest.approx(expected["raw"].tolist(), nan_ok=True)
    assert png.read_bytes().startswith(b"\x89PNG")
    mixed = expected.set_index(["embedding", "metric"]).loc[
        ("X_pca_harmony", "ilisi"), "calibrated"
    ]
    line = next(x for x in done.stdout.splitlines() if x.split()[:1] == ["ilisi"])
    assert line.split()[-1] == f"{mixed:.3f}"


def test_score__tells_that_integration_mixed_the_batches(integrated):
    done = run(integrated, "-b", "donor", "-b", "chemistry", "--json")
    table = pd.DataFrame(json.loads(done.stdout)).set_index(["batch_key", "embedding", "metric"])
    for key in ("donor", "chemistry"):
        before = table.loc[(key, "X_pca", "ilisi"), "calibrated"]
        after = table.loc[(key, "X_pca_harmony", "ilisi"), "calibrated"]
        assert before < 0.5 < 0.9 < after


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-b", "donr"], "donr"),
        (["-b", "donor", "-l", "types"], "types"),
        (["-b", "donor", "-e", "X_scvi"], "X_scvi"),
        (["-b", "donor", "-o", "scores.txt"], ".csv or .json"),
        (["-b", "donor", "--plot", "x.tif"], "x.tif cannot be drawn.*end in .png, .pdf, .svg"),
        (["-b", "donor", "--plot", "x"], "must end in .png, .pdf, .svg"),
        (["-b", "donor", "-o", "absent/x.csv"], "folder of the output absent/x.csv does not exist"),
        (["-b", "donor,chemistry"], "--key donor --key chemistry"),
        (
            ["-b", "donor", "-l", "donor"],
            "'donor' is both a batch column and the label.* as --label",
        ),
    ],
)
def test_score__refuses_what_is_not_there(integrated, args, said):
    done = run(integrated, *args)
    assert done.exit_code == 2
    assert re.search(said, done.stderr), done.stderr
    assert done.stdout == ""


def test_score__replaces_files_only_when_told_to_and_says_what_it_wrote(integrated, tmp_path):
    csv, png = tmp_path / "s.csv", tmp_path / "s.png"
    words = [integrated, "-k", "donor", "-k", "chemistry", "-e", "X_pca", "-o", csv, "--plot", png]
    done = run(*words)
    assert done.exit_code == 0, done.output
    files = [csv, tmp_path / "s_donor.png", tmp_path / "s_chemistry.png"]
    assert done.stdout.splitlines()[-1] == f"Written: {', '.join(map(str, files))}"
    assert sorted(tmp_path.iterdir()) == sorted(files)
    csv.write_text("mine")
    refused = run(*words)
    assert refused.exit_code == 2
    assert f"{csv} exists already: --overwrite replaces it" in refused.stderr
    csv.unlink()
    refused = run(*words)
    assert f"{files[1]} exists already" in refused.stderr
    assert not csv.exists()
    assert run(*words, "--overwrite").exit_code == 0
    assert csv.exists()


def test_score__says_once_what_it_lacks_labels_for(integrated):
    done = run(integrated, "-b", "donor")
    text = " ".join(done.stdout.split())
    assert text.count("needs labels (--label)") == 1
    assert "Not scored: cilisi, bras, graph_connectivity, clisi" in text
    assert "Not scored: scib, robust: no biology metric could be computed" in text
    named = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert "cilisi" not in named
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_score__tells_how_many_cells_had_a_label(integrated, tmp_path):
    adata = anndata.read_h5ad(integrated)
    adata.obs["known"] = adata.obs["cell_type"].astype(object).where(np.arange(adata.n_obs) % 4 > 0)
    path = tmp_path / "some.h5ad"
    adata.write_h5ad(path)
    n, of = int(adata.obs["known"].notna().sum()), adata.n_obs
    done = run(path, "-b", "donor", "-l", "known", "-e", "X_pca")
    said = f"  Metrics that need labels are of {n:,} of {of:,} cells, which have one."
    assert done.stdout.splitlines()[-1] == said
    assert "need labels" not in run(path, "-b", "donor", "-l", "cell_type", "-e", "X_pca").stdout


def test_score__says_of_which_embedding_a_reason_is(integrated):
    words = ["-b", "donor", "-e", "X_pca_harmony", "-e", "X_pca", "--pre", "X_pca_harmony"]
    text = " ".join(run(integrated, *words).stdout.split())
    assert "pcr_comparison of X_pca: batches explain more variance after" in text


def test_scores_text__says_that_neighbours_are_approximate(integrated):
    exact, near = (
        scores_text(score_file(integrated, "donor", metrics=["ilisi"], search=search))
        for search in ("exact", "pynndescent")
    )
    assert "pynndescent" not in exact
    assert near.endswith("Neighbours among all cells are approximate (pynndescent).")


def test_score__looks_at_a_sample_when_told_to_and_says_so(integrated, tmp_path):
    done = run(
        integrated, "-b", "donor", "-l", "cell_type", "--sample", "300", "-e", "X_pca", "--json"
    )
    table = pd.DataFrame(json.loads(done.stdout)).set_index("metric")
    n_cells = table.loc["bras", "n_cells"]
    assert table.loc["ilisi", "n_cells"] == 300 < n_cells
    assert table.loc["ilisi", "reason"] == f"Of a stratified sample: 300 of {n_cells:,} cells."
    assert table.loc["bras", "reason"] == ""
    refused = run(integrated, "-b", "donor", "--sample", "0")
    assert refused.exit_code == 2
    assert "sample must be a whole number >= 1" in refused.stderr


def test_score__without_matplotlib_a_picture_is_refused_before_the_work(
    integrated, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    module = importlib.import_module("harmonypy_lite.metrics.score")
    monkeypatch.setattr(module, "score_file", None)  # would fail if it was called
    done = run(integrated, "-b", "donor", "--plot", tmp_path / "s.png")
    assert done.exit_code == 1
    assert "harmonypy-lite[plot]" in done.stderr
