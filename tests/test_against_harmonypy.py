"""Real cells against harmonypy: as near to it, as low and as mixed as it is under other seeds.

`harmony2` against harmonypy 2.1 and, where HARMONYPY_0_0_10 names its folder, `harmony1` against
harmonypy 0.0.10; `harmony1` also against results of R. All sets: tests/benchmarks.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import oracles
import pytest

SETS = ("pbmc_3500_harmonypy", "cell_lines_2370", "sc_mixology_5batch", "sim_tran2020_simul1")
SEEDS = range(3)


def assert_holds(c: oracles.Comparison) -> None:
    assert c.objective_holds(), (c.objective_ours, c.objective_theirs)
    assert c.lisi_holds(), (c.lisi_ours, c.lisi_theirs)
    assert c.correlation_holds(), (c.across.mean(), c.within.mean())
    assert c.lisi_ours.min() > c.lisi_before, "nothing was mixed"


@pytest.mark.parametrize("name", [*SETS, "symphony_pbmcs_1200"])
def test_harmony2__is_within_harmonypys_own_spread(name: str, real_data: Callable) -> None:
    pytest.importorskip("harmonypy", minversion="2.1")
    data = real_data(name)
    Z, frame = data.obsm["X_pca"], data.obs[["batch"]]
    theirs = oracles.harmonypy_2(Z, frame, SEEDS)
    c = oracles.compare(Z, frame["batch"], oracles.ours(Z, frame, SEEDS), theirs)
    assert_holds(c)


@pytest.mark.parametrize("name", ["sc_mixology_5batch", "sim_tran2020_simul1"])
def test_harmony1__is_within_old_harmonypys_own_spread(name: str, real_data: Callable) -> None:
    folder = os.environ.get(oracles.OLD)
    if not folder:
        pytest.skip(f"set {oracles.OLD} to a folder with harmonypy 0.0.10")
    data = real_data(name)
    Z, frame = data.obsm["X_pca"], data.obs[["batch"]]
    theirs = oracles.harmonypy_0(Z, frame, SEEDS, folder)
    c = oracles.compare(Z, frame["batch"], oracles.ours(Z, frame, SEEDS, "harmony1"), theirs)
    assert_holds(c)


@pytest.mark.parametrize(
    ("name", "covariates", "least"),
    [
        ("pbmc_3500_harmonypy", ["batch"], 0.998),
        ("ra_synovium_5265", ["batch", "sample"], 0.995),
    ],
)
def test_harmony1__is_near_the_result_of_r(
    name: str, covariates: list[str], least: float, real_data: Callable
) -> None:
    data = real_data(name)
    wanted = np.asarray(data.obsm["X_pca_harmony_R"])
    (run,) = oracles.ours(data.obsm["X_pca"], data.obs[covariates], [0], "harmony1")
    found = oracles.correlations(run.Z, wanted)
    before = oracles.correlations(np.asarray(data.obsm["X_pca"]), wanted)
    assert found.mean() > least
    assert found.mean() > before.mean()


def test_another_theta__would_be_noticed(real_data: Callable) -> None:
    # the comparison can fail: half the penalty is outside of harmonypy's own spread
    pytest.importorskip("harmonypy", minversion="2.1")
    from harmonypy_lite.params import HarmonyParams
    from harmonypy_lite.run import integrate_embedding

    data = real_data("pbmc_3500_harmonypy")
    Z, frame = data.obsm["X_pca"], data.obs[["batch"]]
    theirs = oracles.harmonypy_2(Z, frame, SEEDS)
    weak = integrate_embedding(Z, frame, HarmonyParams(theta=1))
    runs = [oracles.Run(weak.embedding, weak.summary["objective"][-1])]
    c = oracles.compare(Z, frame["batch"], runs, theirs)
    assert not (c.lisi_holds() and c.correlation_holds())
