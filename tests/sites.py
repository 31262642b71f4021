"""Four sites that hold some batches each, in files, and the run that they should agree with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import twin

from harmonypy_lite.design import design_from_columns
from harmonypy_lite.federated import steps
from harmonypy_lite.federated.attendance import AtSite, Progress
from harmonypy_lite.federated.exchange import Exchange
from harmonypy_lite.federated.plan import Plan
from harmonypy_lite.federated.start import NARROW, WIDE
from harmonypy_lite.files import output
from harmonypy_lite.method import blocks, loop
from harmonypy_lite.method.rules import setting_for
from harmonypy_lite.run import _hold
from harmonypy_lite.threads import Workers

SITES = ("A", "B", "C", "D")


@dataclass(frozen=True)
class World:
    """Cells (N, d) and their donors, in the order of the sites, and one file for each site."""

    folder: Path
    Z: np.ndarray
    donor: np.ndarray
    site: np.ndarray

    def at(self, name: str, run: Path, **how: Any) -> AtSite:
        """Return a site, with a private folder for each run."""
        private = self.folder / f"private-{run.name}-{name}"
        secrets = run / f"secrets-{name}.json"
        how = {"secrets": secrets if secrets.exists() else None, "n_jobs": 1} | how
        return AtSite(name, self.folder / f"{name}.h5ad", private, **how)


def make(folder: Path, n: int = 1500, d: int = 8) -> World:
    """Deal the batches of simulated cells out to the sites."""
    Z, frame = twin.simulated(n, d, "many")
    donors = sorted(frame["batch"].unique())
    owner = {donor: SITES[i % len(SITES)] for i, donor in enumerate(donors)}
    site = frame["batch"].map(owner).to_numpy()
    order = np.argsort(site, kind="stable")
    world = World(folder, twin.frozen(Z[order]), frame["batch"].to_numpy()[order], site[order])
    for name in SITES:
        own = world.site == name
        names = [f"{name}-{i}" for i in range(own.sum())]
        obs = pd.DataFrame({"donor": world.donor[own], "lab": "one"}, index=names)
        cells = anndata.AnnData(obs=obs, obsm={"X_pca": world.Z[own]})
        cells.write_h5ad(folder / f"{name}.h5ad")
    return world


def run(world: World, folder: Path, plan: Plan) -> Progress:
    """Let all sites take turns until the run is over."""
    steps.init(folder, plan)
    return go_on(world, folder)


def go_on(world: World, folder: Path) -> Progress:
    while True:
        for name in SITES:
            steps.local(folder, world.at(name, folder))
        done = steps.combine(folder)
        if done.stopped:
            return done


def applied(world: World, folder: Path) -> np.ndarray:
    """Return the corrected cells (N, d) of all sites, from the files that they write."""
    found = []
    for name in SITES:
        at = world.at(name, folder)
        out = folder / f"{name}-out.h5ad"
        steps.apply(folder, at, output.plan(at.file, out))
        found.append(anndata.read_h5ad(out).obsm["X_pca_harmony"])
    return np.concatenate(found)


def pooled(world: World, plan: Plan, Y: np.ndarray) -> tuple[np.ndarray, loop.Outcome]:
    """Return what one holder of all cells finds, from the same centroids, with the same blocks."""
    design = design_from_columns(pd.DataFrame({"donor": world.donor}))
    setting = setting_for(plan.params, design)
    seed = int(np.random.default_rng(plan.params.rng).integers(2**63))
    assert blocks.number_of_blocks(plan.params.block_proportion, len(world.Z)) > 1
    with Workers(1) as workers:
        cells = _hold(world.Z, design, setting, None, seed, workers, keep=True)
        outcome = loop.integrate(cells, setting, Y)
        return cells.result(), outcome


def centroids_of(folder: Path) -> np.ndarray:
    """Return the centroids that the run started from."""
    first = Exchange(folder).combined(2 + WIDE + NARROW)
    assert first is not None
    assert first.facts["ask"] == "assign"
    return first.arrays["centroids"]
