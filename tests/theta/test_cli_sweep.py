"""`harmonypy-lite sweep`."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner

import harmonypy_lite as hl
from harmonypy_lite.cli import program


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "cells.h5ad"
    hl.datasets.simulate(400, n_dims=8, batch_strength=5.0).write_h5ad(path)
    return path


def run(*arguments, code=0):
    done = CliRunner().invoke(program, ["sweep", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def test_sweep_command__gives_what_the_call_gives(file):
    common = ("--key", "batch", "--label", "cell_type", "--seeds", "1", "--splits", "0")
    tree = json.loads(run(file, *common, "--values", "0,2", "--sigma", "0.2", "--json"))
    import anndata

    found = hl.tl.sweep_theta(
        anndata.read_h5ad(file), "batch", (0, 2), "cell_type", n_seeds=1, n_splits=0, sigma=0.2
    ).to_dict()
    for tree_ in (tree, found):
        for row in tree_["table"]:
            del row["seconds"]
    assert tree == found


def test_sweep_command__writes_tables_and_says_the_verdict(file, tmp_path):
    out = tmp_path / "sweep.csv"
    text = run(file, "--key", "batch", "--values", "0,2", "--seeds", "1", "-o", out)
    assert "verdict: correct with theta" in text
    assert "Rule:" in text
    assert pd.read_csv(out)["value"].tolist() == [0.0, 2.0]
    assert "--overwrite" in run(file, "--key", "batch", "-o", out, code=2)
    tree = tmp_path / "sweep.json"
    run(file, "--key", "batch", "--values", "2", "--seeds", "1", "--splits", "0", "-q", "-o", tree)
    assert json.loads(tree.read_text())["table"][0]["value"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--key", "nothing"), "no obs column 'nothing'"),
        (("--key", "batch", "--values", "a"), "give numbers"),
        (("--key", "batch", "--theta", "2"), "varied and given"),
        (("--key", "batch", "--vary", "sigma"), "list of values of sigma"),
        (("--key", "batch", "-o", "sweep.txt"), ".csv or .json"),
    ],
)
def test_sweep_command__refuses_with_a_reason(file, arguments, message):
    assert message in run(file, *arguments, code=2)
