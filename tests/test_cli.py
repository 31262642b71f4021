"""The program: options, texts, exit codes, and what it imports."""

from __future__ import annotations

import json
import shlex
import shutil
import warnings
from dataclasses import fields
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from files import N_CELLS, small_adata, small_file

from harmonypy_lite import run
from harmonypy_lite.budget import Choice
from harmonypy_lite.cli import program
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.io import FileResult
from harmonypy_lite.options import in_options, option_name, params_from
from harmonypy_lite.params import HarmonyParams, describe
from harmonypy_lite.report import summary_text
from harmonypy_lite.run import integrate_embedding

FAST = ("--max-iter-harmony", "2", "--n-clusters", "3")
HEAVY = {"anndata", "scanpy", "sklearn", "dask", "matplotlib", "zarr"}


@pytest.fixture
def path(tmp_path):
    return small_file(tmp_path / "cells.h5ad")


def call(*words):
    return CliRunner().invoke(program, [str(w) for w in words])


def integrate(path, *words):
    return call("integrate", path, "--key", "donor", *FAST, *words)


def test_integrate__prints_a_summary_and_writes_beside_the_input(path, tmp_path):
    done = integrate(path)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    for said in ["90 x 6 components of X_pca", "donor (3 levels)", "stopped:", "time", " s ("]:
        assert said in done.stdout
    out = tmp_path / "cells_harmony.h5ad"
    assert f"obsm['X_pca_harmony'] in {out}" in done.stdout
    wanted = integrate_embedding(
        small_adata().obsm["X_pca"],
        small_adata().obs[["donor"]],
        HarmonyParams(max_iter_harmony=2, n_clusters=3),
    )
    np.testing.assert_array_equal(anndata.read_h5ad(out).obsm["X_pca_harmony"], wanted.embedding)


def test_readme__the_first_command_runs_twice_and_leaves_the_clone_clean(tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    text = (root / "README.md").read_text(encoding="utf-8")
    line = next(found for found in text.splitlines() if found.startswith("pip install . &&"))
    words = shlex.split(line.split("&&")[1])
    assert words.pop(0) == "harmonypy-lite"
    (tmp_path / "data").mkdir()
    shutil.copy(root / "data" / "simulated_donors.h5ad", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        done = call(*words)
        assert done.exit_code == 0, done.output
        assert done.stderr == "", "a newcomer's first run is no place for a warning"
    new = {p.name for p in tmp_path.rglob("*") if p.is_file()} - {"simulated_donors.h5ad"}
    ignored = (root / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert new
    assert {f"/{name}" for name in new} <= set(ignored)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (9.1, "the objective settled (rose by 1.1 %, as it may once batches are mixed)"),
        (9.6, "the objective rose from 9 to 9.6; the last correction is kept"),
    ],
)
def test_summary__a_rising_objective_is_explained(path, new, said):
    summary = {
        "covariates": {"donor": 3},
        "objective": [20.0, 9.0, new],
        "iterations": 1,
        "stopped": "objective rose",
        "n_cells": 90,
        "n_dims": 6,
        "dropped_covariates": {},
        "n_clusters": 3,
        "seconds": 1.0,
    }
    done = FileResult(path, summary, Choice("lean", 10**8, 10**9, False))
    text = summary_text([done], basis="a", adjusted_basis="b", seconds=1.0)
    assert f"stopped: {said}\n" in text


def test_integrate__json_is_for_machines(path):
    done = integrate(path, "--json", "--key", "chemistry", "--adjusted-basis", "new")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["n_cells"] == N_CELLS
    assert told["covariates"] == {"donor": 3, "chemistry": 2}
    assert told["input"] == str(path)
    assert told["output"] == str(path.with_name("cells_harmony.h5ad"))
    assert told["adjusted_basis"] == "new"
    assert told["parameters"]["max_iter_harmony"] == 2
    assert told["warnings"] == []
    assert told["seconds_with_files"] >= told["seconds"] >= 0


def test_integrate__quiet_says_nothing(path):
    done = integrate(path, "--quiet")
    assert (done.exit_code, done.output) == (0, "")


def test_integrate__warnings_are_plain_lines_and_part_of_the_json(path, monkeypatch):
    def warn(*args, **more):
        warnings.warn("two donors have one cell", HarmonyWarning, stacklevel=2)
        warnings.warn("not for users", UserWarning, stacklevel=2)
        return integrate_embedding(*args, **more)

    monkeypatch.setattr(run, "integrate_embedding", warn)
    done = integrate(path, "--json")
    assert done.stderr == "Warning: two donors have one cell\n"
    assert json.loads(done.stdout)["warnings"] == ["two donors have one cell"]
    assert "not for users" in integrate(path, "--overwrite", "-v").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["integrate"], "Missing argument 'FILE"),
        (["integrate", "{path}"], "Missing option '-k' / '--key'"),
        (["integrate", "{path}", "-k", "donor,chemistry"], "--key donor --key chemistry"),
        (["integrate", "{path}", "-k", "donor", "-o", "h.csv"], "h.csv does not end in .h5ad"),
        (["integrate", "{path}", "-k", "Donor"], "Did you mean 'donor'? obs has: donor, chemistry"),
        (["integrate", "{path}", "-k", "donor", "--basis", "Xpca"], "Did you mean 'X_pca'"),
        (["integrate", "absent.h5ad", "-k", "donor"], "There is no file absent.h5ad"),
        (["integrate", "{path}", "-k", "donor", "--theta", "-1"], "--theta -1.0: give a finite"),
        (["integrate", "{path}", "-k", "donor", "--theta", "2,x"], "'x' is no number"),
        (["integrate", "{path}", "-k", "donor", "--theta", "1,donor=2"], "names for all numbers"),
        (["integrate", "{path}", "-k", "donor", "--tau", "x"], "'x' is no number"),
        (["integrate", "{path}", "-k", "donor", "--flavor", "x"], "'harmony2', 'harmony1'"),
        (["integrate", "{path}", "-k", "donor", "--n-clusters", "0"], "--n-clusters 0: give"),
        (["integrate", "{path}", "-k", "donor", "-o", "{path}"], "use --in-place"),
        (["integrate", "{path}", "-k", "donor", "-i", "-o", "x"], "choose one"),
        (["integrate", "{path}", "-k", "donor", "--layer", "counts"], "--preprocess only"),
        (["integrate", "{path}", "-k", "donor", "-i", "--adjusted-basis", "a/b"], "without '/'"),
        (["integrate", "{path}", "-k", "donor", "--cluster", "3"], "No such option"),
        (["info", "absent.h5ad"], "There is no file absent.h5ad"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_use__is_one_paragraph_and_code_2(path, words, said):
    done = call(*(word.format(path=path) for word in words))
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list(path.parent.iterdir()) == [path]


def test_failure__is_one_paragraph_and_code_1(path, monkeypatch):
    for error, said in [
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError("step 3"), "step 3"),
        (TypeError("odd"), "TypeError: odd"),
    ]:

        def fail(*_args, error=error, **_more):
            raise error

        monkeypatch.setattr(run, "integrate_embedding", fail)
        done = integrate(path)
        assert done.exit_code == 1
        assert said in done.stderr
        assert "Nothing was written." in done.stderr
        assert "Traceback" not in done.output
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("way", ["-vv", "variable"])
def test_failure__shows_its_traceback_when_asked(path, way, monkeypatch):
    if way == "variable":
        monkeypatch.setenv("HARMONYPY_LITE_DEBUG", "1")
    done = call("integrate", path, "-k", "nix", *(["-vv"] if way == "-vv" else []))
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: There is no obs column 'nix'")
    monkeypatch.delenv("HARMONYPY_LITE_DEBUG", raising=False)
    assert "Traceback" not in call("integrate", path, "-k", "nix").stderr


def test_verbose__may_stand_before_or_after_the_command(path):
    for words in (["-v", "integrate"], ["integrate", "-v"]):
        done = call(*words, path, "-k", "donor", *FAST, "--overwrite")
        assert f"wrote {path.with_name('cells_harmony.h5ad')}" in done.stderr
    assert integrate(path, "--overwrite").stderr == ""


def test_options__are_the_fields_of_the_dataclass():
    told = call("integrate", "--help").output
    by_name = {p.name: p for p in program.commands["integrate"].params}
    for parameter in fields(HarmonyParams):
        assert option_name(parameter.name) in by_name[parameter.name].opts
        if parameter.name == "memory":
            continue  # a file may also be held on disk, so the option has more to say
        first_words = " ".join(parameter.metadata["meaning"].replace("`", "").split()[:4])
        assert first_words in " ".join(told.split())


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, HarmonyParams()),
        ({"theta": ("2",)}, HarmonyParams(theta=2.0)),
        ({"theta": ("4,2",)}, HarmonyParams(theta=[4.0, 2.0])),
        ({"theta": ("4", "2")}, HarmonyParams(theta=[4.0, 2.0])),
        ({"theta": ("a=4,b=2",)}, HarmonyParams(theta={"a": 4.0, "b": 2.0})),
        ({"theta": ("a=4", "b=2")}, HarmonyParams(theta={"a": 4.0, "b": 2.0})),
        ({"theta": ("a=1,2,3,b=4",)}, HarmonyParams(theta={"a": [1.0, 2.0, 3.0], "b": 4.0})),
        ({"theta": ("a=b=4",)}, HarmonyParams(theta={"a=b": 4.0})),
        ({"ridge_lambda": ("0.5",)}, HarmonyParams(ridge_lambda=0.5)),
        ({"sigma": ("0.1,0.2",)}, HarmonyParams(sigma=[0.1, 0.2])),
        ({"batch_prune_threshold": "none"}, HarmonyParams(batch_prune_threshold=None)),
        ({"early_stop": False}, HarmonyParams(early_stop=False)),
    ],
)
def test_params_from__reads_numbers_lists_and_names(given, wanted):
    assert params_from(given) == wanted


def test_params_from__names_the_option_that_is_wrong():
    with pytest.raises(InvalidInput, match=r"^--sigma 'a=1': 'a=1' is no number"):
        params_from({"sigma": ("a=1",)})


def test_in_options__turns_arguments_into_options():
    for text, wanted in [
        ("n_jobs=0: give", "--n-jobs 0: give"),
        ("pass missing='level' to", "pass --missing level to"),
        ("(levels='known'), or max_missing=0.2", "(--levels known), or --max-missing=0.2"),
        ("raise max_iter_harmony.", "raise --max-iter-harmony."),
        ("obs['my_n_jobs_x'] and --n-jobs", "obs['my_n_jobs_x'] and --n-jobs"),
    ]:
        assert in_options(text) == wanted


def test_options__reach_the_core(path, monkeypatch):
    seen = {}

    def record(embedding, batches, params, **more):
        seen.update(params=params, keys=list(batches.covariates))
        return integrate_embedding(embedding, batches, HarmonyParams(n_clusters=2))

    monkeypatch.setattr(run, "integrate_embedding", record)
    words = "--theta donor=4,chemistry=1 --sigma 0.2 --no-early-stop --seed 5 -j 1 --missing level"
    done = integrate(path, "-k", "chemistry", *words.split(), "--batch-prune-threshold", "none")
    assert done.exit_code == 0, done.output
    assert seen["keys"] == ["donor", "chemistry"]
    assert seen["params"] == HarmonyParams(
        theta={"donor": 4.0, "chemistry": 1.0},
        sigma=0.2,
        early_stop=False,
        rng=5,
        n_jobs=1,
        batch_prune_threshold=None,
        max_iter_harmony=2,
        n_clusters=3,
    )


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_none__may_be_written_as_in_python(path, word):
    done = integrate(path, "--batch-prune-threshold", word, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parameters"]["batch_prune_threshold"] is None


def test_none__is_spelled_as_its_reader_writes_it():
    assert "(harmony2); none keeps all" in " ".join(call("integrate", "--help").output.split())
    assert "(`harmony2`); `None` keeps all" in describe()


def test_integrate__takes_the_option_that_score_has_for_the_key(path):
    assert call("integrate", path, "--batch", "donor", "-b", "chemistry", *FAST).exit_code == 0
    keys = anndata.read_h5ad(path.with_name("cells_harmony.h5ad")).uns["harmony"]["covariates"]
    assert list(keys) == ["donor", "chemistry"]


def test_integrate__a_pca_that_is_there_already_is_not_made_again_unasked(path):
    refused = integrate(path, "--preprocess")
    assert refused.exit_code == 2
    assert (
        "holds obsm['X_pca'] and varm['PCs'] already: --overwrite replaces them" in refused.stderr
    )
    assert "without --preprocess the PCA in the file is integrated" in refused.stderr
    assert "--adjusted-basis" not in refused.stderr
    assert integrate(path).exit_code == 0  # the advice helps
    assert integrate(path, "--preprocess", "--overwrite").exit_code == 0


def test_integrate__a_result_that_is_there_already_may_have_another_name(path):
    assert integrate(path, "-i").exit_code == 0
    refused = integrate(path, "-i")
    assert "--adjusted-basis NAME writes the result under another name" in refused.stderr
    assert "--preprocess" not in refused.stderr
    assert integrate(path, "-i", "--adjusted-basis", "other").exit_code == 0


def test_info__proposes_to_score_what_was_integrated(path):
    assert integrate(path, "-k", "chemistry", "-i").exit_code == 0
    told = call("info", path).stdout
    assert "obsm['X_pca_harmony'] is the result of an integration for donor, chemistry." in told
    (line,) = (line for line in told.splitlines() if line.startswith("Next: "))
    words = shlex.split(line.removeprefix("Next: ").partition(" (")[0])
    assert words == ["harmonypy-lite", "score", *f"{path} --batch donor --batch chemistry".split()]
    assert call(*words[1:]).exit_code == 0
    assert json.loads(call("info", path, "--json").stdout)["earlier_run"] == {
        "basis": "X_pca",
        "adjusted_basis": "X_pca_harmony",
        "keys": ["donor", "chemistry"],
    }


def test_info__proposes_a_score_for_results_of_other_names_and_programs(path):
    with h5py.File(path, "r+") as file:
        file.copy("obsm/X_pca", file["obsm"], "X_pca_harmony")
    told = call("info", path).stdout
    assert "obsm['X_pca_harmony'] is the result of an integration." in told
    assert f"Next: harmonypy-lite score {path} --batch donor (" in told
    assert integrate(path, "-i", "--adjusted-basis", "mixed").exit_code == 0
    told = call("info", path).stdout
    assert f"score {path} --batch donor --embedding X_pca --embedding mixed --pre X_pca (" in told
    with h5py.File(path, "r+") as file:
        del file["obsm/mixed"], file["obsm/X_pca_harmony"]
    assert f"Next: harmonypy-lite integrate {path} --key donor" in call("info", path).stdout


def test_integrate__protected_columns_are_reported(path):
    adata = small_adata()
    adata.obs["sex"] = (adata.obs["donor"] == "carl").map({True: "m", False: "f"})
    adata.write_h5ad(path)
    done = integrate(path, "--protect", "sex", "--protect", "chemistry")
    assert done.exit_code == 0
    assert "sex: Cramer's V 0.99 with donor" in done.stdout
    assert "chemistry: Cramer's V 0." in done.stdout
    assert done.stderr.startswith(
        "Warning: 'sex' is fully confounded with the batch column 'donor'"
    )
    assert len(done.stderr.splitlines()) == 1
    for words, said in [(["--protect", "donor"], "both a key"), (["--protect", "x"], "column 'x'")]:
        refused = integrate(path, *words, "--overwrite")
        assert refused.exit_code == 2
        assert said in refused.stderr


def test_integrate__nothing_to_correct_is_said(path):
    adata = small_adata()
    adata.obs["one"] = "x"
    adata.write_h5ad(path)
    done = call("integrate", path, "-k", "one", "--adjusted-basis", "new")
    assert done.exit_code == 0
    assert "nothing to correct: the embedding is unchanged" in done.stdout
    assert "one: it has only one level" in done.stdout
    out = anndata.read_h5ad(path.with_name("cells_harmony.h5ad"))
    np.testing.assert_array_equal(out.obsm["new"], out.obsm["X_pca"])


def test_integrate__a_file_without_pca_says_how_to_make_one(tmp_path):
    adata = small_adata()
    del adata.obsm["X_pca"], adata.varm["PCs"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    done = integrate(tmp_path / "a.h5ad")
    assert done.exit_code == 2
    for said in ["obsm is empty", "scanpy.pp.pca(adata)", "--preprocess does these steps"]:
        assert said in done.stderr
    done = integrate(tmp_path / "a.h5ad", "--preprocess")
    assert done.exit_code == 0, done.output
    assert "90 x 39 components of X_pca" in done.stdout


def test_info__lists_columns_and_embeddings(path):
    with h5py.File(path, "r+") as file:
        codes = file["obs/donor/codes"][...]
        codes[:7] = -1
        file["obs/donor/codes"][...] = codes
    done = call("info", path)
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["donor", "categorical", "3", "7", "likely", "batch", "key"] in rows
    assert ["chemistry", "categorical", "2", "0", "likely", "batch", "key"] in rows
    assert ["depth", "float", "90", "0"] in rows
    assert ["X_pca", "90", "x", "6", "dense", "float32"] in rows
    assert "X: 90 x 40, csr sparse, float32" in done.stdout
    assert f"Next: harmonypy-lite integrate {path} --key donor" in done.stdout


def test_info__json_is_for_machines(path):
    told = json.loads(call("info", path, "--json").stdout)
    assert told["n_cells"] == N_CELLS
    assert told["X"] == {"kind": "csr sparse", "shape": [90, 40], "dtype": "float32"}
    assert told["obs"][0] == {
        "name": "donor",
        "kind": "categorical",
        "n_levels": 3,
        "n_missing": 0,
        "likely_batch_key": True,
    }
    assert told["obsm"]["X_pca"]["shape"] == [90, 6]


def test_info__cell_names_and_constant_columns_are_pointed_out(tmp_path):
    adata = small_adata()
    adata.obs["barcode"] = adata.obs_names
    adata.obs["sample"] = "only"
    adata.write_h5ad(tmp_path / "a.h5ad")
    lines = call("info", tmp_path / "a.h5ad").stdout.splitlines()
    assert any(line.startswith("  barcode ") and line.endswith("one per cell") for line in lines)
    assert any(line.startswith("  sample ") and "nothing to integrate" in line for line in lines)


def test_info__a_file_without_columns_and_embeddings_works(tmp_path):
    anndata.AnnData(np.ones((4, 3), np.float32)).write_h5ad(tmp_path / "a.h5ad")
    done = call("info", tmp_path / "a.h5ad")
    assert "obs: no columns" in done.stdout
    assert "obsm: empty (integrate --preprocess makes a PCA)" in done.stdout
    assert "Next:" not in done.stdout


def test_help__keeps_the_lines_of_the_examples():
    lines = call("integrate", "--help").output.splitlines()
    assert "    harmonypy-lite integrate pbmc.h5ad --key donor" in lines
    assert "    harmonypy-lite info FILE.h5ad" in call("--help").output.splitlines()


@pytest.mark.parametrize("words", [[], ["info"], ["integrate"]])
def test_help__names_commands_and_options(words):
    done = call(*words, "--help")
    assert done.exit_code == 0
    assert "Usage:" in done.output
    wanted = {"": "Commands:", "info": "--json", "integrate": "Iterations and threads:"}
    assert wanted["".join(words)] in done.output


def test_integrate__default_output_in_a_closed_folder_names_the_remedy(path, monkeypatch):
    from harmonypy_lite.files import output

    monkeypatch.setattr(output.os, "access", lambda p, _mode: p != path.parent)
    done = integrate(path)
    assert done.exit_code == 2
    assert "choose another place with -o FILE" in done.stderr


def test_interrupt__gives_130_and_says_that_nothing_was_written(path, monkeypatch):
    def interrupt(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "integrate_embedding", interrupt)
    done = integrate(path)
    assert done.exit_code == 130
    assert done.stderr.strip() == "Interrupted. Nothing was written."


@pytest.mark.parametrize("words", [["info"], ["score", "-b", "donor", "-e", "X_pca"]])
def test_interrupt__of_what_only_reads_says_just_that(path, monkeypatch, words):
    from harmonypy_lite.files import stores

    def interrupt(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(stores.H5adStore, "__init__", interrupt)
    integrate(path.with_name("absent.h5ad"))  # an earlier command leaves nothing behind
    done = call(words[0], path, *words[1:])
    assert done.exit_code == 130
    assert done.stderr.strip() == "Interrupted."


def test_integrate__copies_of_one_file_can_be_made_side_by_side(path, tmp_path):
    assert integrate(path).exit_code == 0
    shutil.copyfile(path, tmp_path / "second.h5ad")
    assert integrate(tmp_path / "second.h5ad").exit_code == 0
    names = {"cells.h5ad", "cells_harmony.h5ad", "second.h5ad", "second_harmony.h5ad"}
    assert {p.name for p in tmp_path.iterdir()} == names
