"""What a run could not do is in its record, printed, on the page, and warned of once."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import twin
from click.testing import CliRunner

from harmonypy_lite import pp, write_report
from harmonypy_lite.cli import program
from harmonypy_lite.errors import (
    HarmonyWarning,
    LeftOutWarning,
    NotConvergedWarning,
    ObjectiveRoseWarning,
    UncorrectedWarning,
)
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.record import why_stopped
from harmonypy_lite.run import Integration, integrate_embedding
from harmonypy_lite.shortfalls import shortfalls

pytestmark = pytest.mark.filterwarnings("default::harmonypy_lite.errors.HarmonyWarning")
#: One cluster a type, so that the type of one batch has a cluster of its own.
SHORT: dict[str, Any] = {"n_clusters": 2, "theta": 0, "sigma": 0.05, "n_jobs": 1}


def one_sided(n: int = 200) -> tuple[np.ndarray, pd.DataFrame]:
    """Return cells of two types, of which the second, of every fifth cell, is in batch a alone."""
    rng = np.random.default_rng(0)
    alone = np.arange(n) % 5 == 0
    Z = rng.normal(0, 0.2, (n, 4)) + np.where(alone[:, None], [5, 0, 0, 0], [0, 5, 0, 0])
    batch = np.where(alone | (np.arange(n) % 2 == 0), "a", "b")
    Z[batch == "b", 2] += 0.5
    return Z.astype(np.float32), pd.DataFrame({"batch": batch, "tissue": "lung"})


def heard(Z: np.ndarray, frame: pd.DataFrame, **given: Any) -> tuple[Integration, list[Any]]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        done = integrate_embedding(Z, frame, HarmonyParams(**given))
    return done, [each for each in said if issubclass(each.category, HarmonyWarning)]


def categories(said: list[Any]) -> list[type]:
    return [each.category for each in said]


def file_of(path: Path) -> Path:
    Z, frame = one_sided()
    frame.index = [f"cell{i}" for i in range(len(frame))]
    anndata.AnnData(obs=frame, obsm={"X_pca": Z}).write_h5ad(path)
    return path


def test_clusters__of_one_batch_are_told_and_left_alone() -> None:
    Z, frame = one_sided()
    done, said = heard(Z, frame[["batch"]], **SHORT)
    assert len(done.summary["idle_clusters"]) == 1
    assert done.summary["idle_share"] == pytest.approx(0.2, abs=1e-3)
    alone = np.arange(200) % 5 == 0
    np.testing.assert_allclose(done.embedding[alone], Z[alone], atol=1e-4)
    assert np.abs(done.embedding - Z)[~alone].max() > 1e-2
    pruned = done.summary["pruned_levels"]["batch"]
    assert {level: each["clusters"] for level, each in pruned.items()} == {"a": 1, "b": 1}
    assert pruned["a"]["share"] == pytest.approx(40 / 120, abs=1e-3)
    assert pruned["b"]["share"] < 1e-5
    assert categories(said) == [UncorrectedWarning]
    assert "1 of 2 clusters, with 20.0% of the cells" in str(said[0].message)
    assert "batch=a (33.3%)" in str(said[0].message)
    assert "batch=b" not in str(said[0].message)


def test_levels__below_the_threshold_are_counted_where_others_are_corrected() -> None:
    Z, frame = twin.simulated(400, 7, "many")
    done, said = heard(Z, frame, n_clusters=8, batch_prune_threshold=0.1, n_jobs=1)
    assert done.outcome is not None
    effects = done.outcome.effects
    found = done.summary["pruned_levels"]["batch"]
    names, idle = done.design.levels[0], effects.pruned.all(axis=1)
    assert 0 < effects.pruned.sum() < effects.pruned.size
    assert done.summary["idle_clusters"] == np.flatnonzero(idle).tolist()
    for name, pruned, O in zip(names, effects.pruned.T, done.outcome.O.T, strict=True):
        assert found.get(name, {"clusters": 0})["clusters"] == pruned.sum()
        if name in found:
            assert found[name]["share"] == pytest.approx(O[pruned].sum() / O.sum())
    assert categories(said).count(UncorrectedWarning) == 1


def test_levels__that_are_next_to_absent_are_recorded_without_a_warning() -> None:
    Z, frame = one_sided()
    frame["batch"] = np.resize(["a", "b", "c"], 200)
    frame.loc[np.arange(200) % 5 == 0, "batch"] = np.resize(["a", "b"], 40)
    done, said = heard(Z, frame[["batch"]], **SHORT)
    assert done.summary["pruned_levels"]["batch"]["c"]["clusters"] == 1
    assert done.summary["pruned_levels"]["batch"]["c"]["share"] < 1e-3
    assert not said


def test_nothing_short__leaves_nothing_to_tell() -> None:
    Z, frame = twin.simulated(400, 7)
    done, said = heard(Z, frame, n_clusters=4, n_jobs=1)
    assert not said
    assert done.outcome is not None
    wanted = {"pruned_levels": {}, "idle_clusters": [], "idle_share": 0.0}
    assert shortfalls(done.outcome, done.design) == wanted
    assert wanted.items() <= done.summary.items()


@pytest.mark.parametrize("early_stop", [True, False])
def test_objective__that_rises_is_warned_of_once_unless_it_is_not_watched(early_stop: bool) -> None:
    Z, frame = twin.simulated(400, 7)
    given: dict[str, Any] = {"theta": 50, "n_jobs": 1}
    done, said = heard(Z, frame, **given, max_iter_harmony=50, early_stop=True)
    last = len(done.summary["objective"]) - 1
    done, said = heard(Z, frame, **given, max_iter_harmony=last, early_stop=early_stop)
    old, new = done.summary["objective"][-2:]
    assert new > 1.05 * old > 0
    assert categories(said) == ([ObjectiveRoseWarning] if early_stop else [])
    if early_stop:
        assert done.summary["stopped"] == "objective rose"
        assert f"from {old:,.6g} to {new:,.6g}" in str(said[0].message)


def test_objective__that_rises_a_little_is_told_without_a_warning() -> None:
    Z, frame = twin.simulated(400, 7)
    given: dict[str, Any] = {"flavor": "harmony1", "tol_harmony": 0, "n_jobs": 1}
    done, said = heard(Z, frame, **given, max_iter_harmony=50)
    old, new = done.summary["objective"][-2:]
    assert old < new < 1.05 * old
    assert not said
    assert "as it may once batches are mixed" in why_stopped(done.summary)


def test_covariate__that_is_left_out_is_warned_of_in_its_category() -> None:
    Z, frame = one_sided()
    _, said = heard(Z, frame, **SHORT)
    assert categories(said) == [LeftOutWarning, UncorrectedWarning]
    assert "'tissue' is left out" in str(said[0].message)


@pytest.mark.parametrize("memory", ["fast", "lean", "scratch"])
def test_file__holds_it_and_it_is_warned_of_once_in_all_modes(memory: str, tmp_path: Path) -> None:
    path = file_of(tmp_path / "cells.h5ad")
    params = HarmonyParams(**SHORT, max_iter_harmony=1, tol_harmony=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", HarmonyWarning)
        done = integrate_file(path, ["batch", "tissue"], params=params, memory=memory)
    kinds = [c for c in categories(said) if c is not HarmonyWarning]  # of memory, in some folders
    assert sorted(kinds, key=lambda c: c.__name__) == [
        LeftOutWarning,
        NotConvergedWarning,
        UncorrectedWarning,
    ]
    record = anndata.read_h5ad(done.path).uns["harmony"]
    assert record["stopped"] == "max_iter_harmony"
    assert record["dropped_covariates"].tolist() == ["tissue: it has only one level (lung)"]
    assert record["pruned_levels"].tolist() == ["batch=a", "batch=b"]
    assert record["pruned_clusters"].tolist() == [1, 1]
    np.testing.assert_allclose(record["pruned_share"], [1 / 3, 0], atol=1e-3)
    assert len(record["idle_clusters"]) == 1
    assert record["idle_share"] == pytest.approx(0.2, abs=1e-3)


def program_on(path: Path, *more: str) -> Any:
    words = ["--n-clusters", "2", "--theta", "0", "--sigma", "0.05", "--n-jobs", "1", *more]
    keys = ["-k", "batch", "-k", "tissue"]
    done = CliRunner().invoke(program, ["integrate", str(path), *keys, *words])
    assert done.exit_code == 0, done.output
    return done


def test_program__prints_it_and_warns_once(tmp_path: Path) -> None:
    done = program_on(file_of(tmp_path / "cells.h5ad"))
    assert "left out    tissue: it has only one level (lung)\n" in done.stdout
    assert "idle        1 of 2 clusters, with 20.0 % of the cells\n" in done.stdout
    assert "uncorrected batch=a in 1 of 2 clusters (33 % of its cells), batch=b in" in done.stdout
    assert done.stderr.count("Warning: ") == 2
    assert done.stderr.count("Warning: Covariate 'tissue' is left out") == 1
    assert done.stderr.count("Warning: 1 of 2 clusters, with 20.0% of the cells") == 1


def test_program__has_it_in_its_json(tmp_path: Path) -> None:
    told = json.loads(program_on(file_of(tmp_path / "cells.h5ad"), "--json").stdout)
    assert told["dropped_covariates"] == {"tissue": "it has only one level (lung)"}
    assert told["pruned_levels"]["batch"]["a"]["clusters"] == 1
    assert len(told["idle_clusters"]) == 1
    assert len(told["warnings"]) == 2


def test_page__shows_it(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    adata = anndata.read_h5ad(file_of(tmp_path / "cells.h5ad"))
    with pytest.warns(UncorrectedWarning), pytest.warns(LeftOutWarning):
        pp.harmony_integrate(adata, ["batch", "tissue"], **SHORT)
    write_report(adata, tmp_path / "page.html", layout="pca")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<dt>Left out</dt><dd>tissue: it has only one level (lung)</dd>" in html
    assert "<dt>Corrects nothing</dt><dd>1 of 2 clusters, with 20.0 % of the cells</dd>" in html
    assert "<dt>Levels not corrected</dt><dd>batch=a in 1 of 2 clusters (33 %" in html


def test_dask__tells_of_it_too() -> None:
    dask_array = pytest.importorskip("dask.array")
    Z, frame = one_sided()
    plain = heard(Z, frame[["batch"]], **SHORT)[0].summary
    adata = anndata.AnnData(obs=frame.set_index(frame.index.astype(str)))
    adata.obsm["X_pca"] = dask_array.from_array(Z, chunks=(60, 4))
    with pytest.warns(UncorrectedWarning):
        pp.harmony_integrate(adata, "batch", **SHORT)
    record = adata.uns["harmony"]
    assert list(record["idle_clusters"]) == plain["idle_clusters"]
    assert record["idle_share"] == plain["idle_share"]
