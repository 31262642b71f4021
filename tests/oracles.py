"""harmonypy, run beside this package on the same cells: what both found, and how they differ.

harmonypy is GPL-3: it is called here, nothing of it is copied.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harmonypy_lite.errors import HarmonyWarning
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

#: Folder of `pip install --target FOLDER harmonypy==0.0.10`.
OLD = "HARMONYPY_0_0_10"

_OLD_RUN = """
import sys
import numpy as np, pandas as pd
sys.path.insert(0, sys.argv[1])
import harmonypy
given = np.load(sys.argv[2], allow_pickle=False)
frame = pd.DataFrame({"batch": given["batch"]})
found = []
for seed in given["seeds"]:
    # theta=None means 1 there; blocks and clusters are 0.05 and N / 30 as here
    run = harmonypy.run_harmony(
        given["Z"], frame, "batch", theta=[2.0], random_state=int(seed), verbose=False
    )
    Z = run.Z_corr
    found.append((Z if Z.shape == given["Z"].shape else Z.T, run.objective_harmony[-1]))
np.savez(sys.argv[3], Z=np.stack([Z for Z, _ in found]), objective=[x for _, x in found])
"""


class Run(NamedTuple):
    """One corrected embedding and its last objective, in units of 2000 / N."""

    Z: np.ndarray
    objective: float


def ours(
    Z: np.ndarray, frame: pd.DataFrame, seeds: Iterable[int], flavor: str = "harmony2"
) -> list[Run]:
    """Run this package with its defaults."""
    runs = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HarmonyWarning)
            result = integrate_embedding(Z, frame, HarmonyParams(flavor=flavor, rng=seed))
        runs.append(Run(result.embedding, result.summary["objective"][-1]))
    return runs


def harmonypy_2(Z: np.ndarray, frame: pd.DataFrame, seeds: Iterable[int]) -> list[Run]:
    """Run harmonypy 2.1 with its defaults."""
    import harmonypy

    runs = []
    for seed in seeds:
        run = harmonypy.run_harmony(Z, frame, list(frame.columns), random_state=seed, verbose=False)
        runs.append(Run(np.asarray(run.Z_corr).reshape(Z.shape), run.objective_harmony[-1]))
    return runs


def harmonypy_0(
    Z: np.ndarray, frame: pd.DataFrame, seeds: Sequence[int], folder: str | os.PathLike
) -> list[Run]:
    """Run harmonypy 0.0.10, in a process of its own, because the two have one name."""
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch, "given.npz"), Path(scratch, "found.npz")
        batch = frame.iloc[:, 0].astype(str).to_numpy().astype(str)
        np.savez(given, Z=Z.astype(np.float64), batch=batch, seeds=np.array(list(seeds)))
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _OLD_RUN, str(folder), str(given), str(found)],
            check=True,
            capture_output=True,
        )
        with np.load(found) as result:
            scale = 2000 / len(Z)
            return [
                Run(z, float(objective) * scale)
                for z, objective in zip(result["Z"], result["objective"], strict=True)
            ]


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the (d,) correlation of each component of two embeddings."""
    a, b = (x - x.mean(axis=0, dtype=np.float64) for x in (a, b))
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


def batch_lisi(Z: np.ndarray, batch: pd.Series, most_cells: int = 2000) -> float:
    """Return the median LISI of the batch over a sample of cells, by harmonypy's own LISI."""
    import harmonypy

    cells = np.arange(len(Z))
    if len(Z) > most_cells:
        cells = np.random.default_rng(0).choice(len(Z), most_cells, replace=False)
    frame = pd.DataFrame({"batch": batch.astype(str).to_numpy()[cells]})
    return float(np.median(harmonypy.compute_lisi(Z[cells], frame, ["batch"])))


@dataclass(frozen=True)
class Comparison:
    """Two sets of runs of the same cells."""

    within: np.ndarray  # (pairs, d) correlations of pairs of the other package's runs
    own: np.ndarray  # (pairs, d) of pairs of our runs
    across: np.ndarray  # (pairs, d) of one of ours and one of theirs
    objective_ours: np.ndarray
    objective_theirs: np.ndarray
    lisi_ours: np.ndarray
    lisi_theirs: np.ndarray
    lisi_before: float

    def objective_holds(self, slack: float = 0.01) -> bool:
        """Whether our typical run ends within their range of objectives, or below."""
        worst = self.objective_theirs.max()
        return bool(np.median(self.objective_ours) <= worst + slack * abs(worst))

    def lisi_holds(self, slack: float = 0.01) -> bool:
        """Whether batches mix no less than theirs do, but for their spread between seeds."""
        spread = np.ptp(self.lisi_theirs)
        return bool(np.median(self.lisi_ours) >= np.median(self.lisi_theirs) - spread - slack)

    def correlation_holds(self, slack: float = 0.005) -> bool:
        """Whether we are as near to them as they are to themselves under another seed."""
        mean = self.across.mean() >= self.within.mean() - slack
        least = np.median(self.across.min(axis=1)) >= np.min(self.within.min(axis=1)) - 4 * slack
        return bool(mean and least)


def compare(
    Z: np.ndarray, batch: pd.Series, our_runs: Sequence[Run], their_runs: Sequence[Run]
) -> Comparison:
    """Put the runs side by side; a single run of theirs serves as its own range."""

    def pairs(runs: Sequence[Run]) -> np.ndarray:
        found = [correlations(a.Z, b.Z) for a, b in itertools.combinations(runs, 2)]
        return np.array(found) if found else np.ones((1, Z.shape[1]))

    return Comparison(
        within=pairs(their_runs),
        own=pairs(our_runs),
        across=np.array([correlations(a.Z, b.Z) for a in our_runs for b in their_runs]),
        objective_ours=np.array([run.objective for run in our_runs]),
        objective_theirs=np.array([run.objective for run in their_runs]),
        lisi_ours=np.array([batch_lisi(run.Z, batch) for run in our_runs]),
        lisi_theirs=np.array([batch_lisi(run.Z, batch) for run in their_runs]),
        lisi_before=batch_lisi(Z, batch),
    )
