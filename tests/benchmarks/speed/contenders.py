"""How each program is called: the same numbers of clusters, iterations and rounds, and threads.

Imported under other interpreters too, which may have nothing but NumPy, pandas and the program.
Early stopping is off everywhere, each program in its own way.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Unavailable(Exception):
    """This program cannot take part; the text says why."""


@dataclass(frozen=True)
class Task:
    """What is to be done."""

    embedding: np.ndarray  # (N, d) float32
    batches: pd.DataFrame  # (N, C) categorical columns
    n_clusters: int
    iterations: int
    rounds: int
    threads: int
    seed: int


class Answer(NamedTuple):
    """What a program returns; None is what it does not tell."""

    embedding: np.ndarray  # (N, d)
    iterations: int | None
    rounds: list[int] | None
    objective: float | None  # by its own formula


class Contender(NamedTuple):
    """A program; `prepare` puts the input in its form, so that only the call itself is timed."""

    label: str
    package: str  # the distribution whose version is reported
    prepare: Callable[[Task], Callable[[], Answer]]
    one_thread: bool = False
    objective_as_ours: bool = False  # the same formula and scale
    needs: str = ""  # what older versions of the package have not


def harmonypy_lite(task: Task, memory: str = "fast") -> Callable[[], Answer]:
    from harmonypy_lite.params import HarmonyParams
    from harmonypy_lite.run import integrate_embedding

    known = HarmonyParams.__dataclass_fields__
    if "memory" not in known and memory != "fast":
        raise Unavailable(f"this version of harmonypy_lite has no memory={memory!r}")
    extra = {"memory": memory} if "memory" in known else {}
    params = HarmonyParams(
        n_clusters=task.n_clusters,
        max_iter_harmony=task.iterations,
        max_iter_clustering=task.rounds,
        tol_clustering=0.0,
        early_stop=False,
        rng=task.seed,
        n_jobs=task.threads,
        **extra,
    )

    def call() -> Answer:
        done = integrate_embedding(task.embedding, task.batches, params)
        summary = done.summary
        objective = float(summary["objective"][-1])
        return Answer(done.embedding, summary["iterations"], list(summary["rounds"]), objective)

    return call


def harmonypy_lite_lean(task: Task) -> Callable[[], Answer]:
    return harmonypy_lite(task, memory="lean")


def harmonypy(task: Task) -> Callable[[], Answer]:
    import harmonypy as program

    names = list(task.batches.columns)

    def call() -> Answer:
        done = program.run_harmony(
            task.embedding,
            task.batches,
            names,
            nclust=task.n_clusters,
            max_iter_harmony=task.iterations,
            max_iter_kmeans=task.rounds,
            epsilon_harmony=-math.inf,
            epsilon_cluster=-math.inf,
            verbose=False,
            random_state=task.seed,
            ncores=task.threads,
        )
        rounds = [int(n) for n in done.kmeans_rounds]
        return Answer(done.Z_corr, len(rounds), rounds, float(done.objective_harmony[-1]))

    return call


def brisc(task: Task) -> Callable[[], Answer]:
    if task.batches.shape[1] > 1:
        raise Unavailable("brisc takes one batch column")
    import polars
    from brisc import SingleCell
    from scipy.sparse import csr_array

    n = len(task.embedding)
    names = polars.Series("cell", np.arange(n)).cast(polars.String)
    batch = polars.Series("batch", task.batches.iloc[:, 0].cat.codes.to_numpy(np.int32))
    cells = SingleCell(
        X=csr_array((n, 1), dtype=np.float32),
        obs=polars.DataFrame([names, batch]),
        var=polars.DataFrame({"gene": ["gene"]}),
        obsm={"pca": task.embedding},
        num_threads=task.threads,
    )

    def call() -> Answer:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            done = cells.harmonize(
                QC_column=None,
                batch_column="batch",
                num_clusters=task.n_clusters,
                max_iterations=task.iterations,
                max_clustering_iterations=task.rounds,
                tolerance=math.nan,  # must be above 0; no change is below NaN
                seed=task.seed,
                verbose=True,
                num_threads=task.threads,
            )
        steps = re.findall(r"Completed ([\d,]+)\D.*?objective = ([-\d.]+)", said.getvalue())
        iterations = int(steps[-1][0].replace(",", "")) if steps else None
        rounds = None if iterations is None else [task.rounds] * iterations
        objective = float(steps[-1][1]) * 2000 / n if steps else None
        return Answer(done.obsm["harmony"], iterations, rounds, objective)

    return call


def scanpy(task: Task) -> Callable[[], Answer]:
    """Scanpy's own, which 1.12 has not yet (`scanpy.external` calls harmonypy).

    Its parameters differ by version; single precision is its fastest. It updates the centroids in
    every round and does not tell how many iterations it made.
    """
    import scanpy as program
    from anndata import AnnData

    function = program.pp.harmony_integrate
    known = inspect.signature(function).parameters
    wanted = {
        "dtype": np.float32,
        "n_clusters": task.n_clusters,
        "max_iter_harmony": task.iterations,
        "max_iter_clustering": task.rounds,
        "tol_harmony": -math.inf,
        "tol_clustering": -math.inf,
        "random_state": task.seed,
        "rng": task.seed,
    }
    options = {name: value for name, value in wanted.items() if name in known}
    adata = AnnData(obs=task.batches.set_axis(np.arange(len(task.batches)).astype(str)))
    adata.obsm["X_pca"] = task.embedding
    names: Any = list(task.batches.columns)

    def call() -> Answer:
        found = function(adata, names if len(names) > 1 else names[0], **options)
        if not isinstance(found, np.ndarray):
            found = next(adata.obsm[name] for name in adata.obsm if name != "X_pca")
        return Answer(found, None, None, None)

    return call


CONTENDERS = {
    "lite": Contender("harmonypy_lite", "harmonypy-lite", harmonypy_lite, False, True),
    "lite-lean": Contender(
        "harmonypy_lite, lean", "harmonypy-lite", harmonypy_lite_lean, False, True
    ),
    "lite-1": Contender("harmonypy_lite, 1 thread", "harmonypy-lite", harmonypy_lite, True, True),
    "harmonypy": Contender("harmonypy", "harmonypy", harmonypy, False, True),
    "brisc": Contender("brisc", "brisc", brisc),
    "scanpy": Contender("scanpy", "scanpy", scanpy, needs="pp.harmony_integrate"),
}


def version_of(name: str) -> str:
    """Return the version of a contender's package; raise `Unavailable` if it cannot be imported."""
    contender = CONTENDERS[name]
    module = contender.package.replace("-", "_")
    try:
        loaded = __import__(module)
    except ImportError as error:
        raise Unavailable(f"not installed ({error})") from None
    try:
        version = metadata.version(contender.package)
    except metadata.PackageNotFoundError:  # run from a checkout
        version = str(getattr(loaded, "__version__", "unknown"))
    try:
        if contender.needs:
            operator.attrgetter(contender.needs)(loaded)
    except AttributeError:
        raise Unavailable(f"{name} {version} has no {contender.needs}") from None
    return version
