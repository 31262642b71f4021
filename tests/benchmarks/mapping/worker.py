"""Map queries and carry labels over with one program; print seconds and memory as JSON.

    worker.py PROGRAM FOLDER SEED SET     batches of a set, results to FOLDER
    worker.py PROGRAM FOLDER SEED         FOLDER's reference.h5ad and query.h5ad

Runs in any environment that has the program: it imports nothing of the tests.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
from splits import splits

warnings.simplefilter("ignore")
REPEATS = 5


def resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


class Peak:
    """Peak of resident memory above where it began, sampled."""

    def __enter__(self) -> Peak:
        self.start = self.most = resident()
        self._on = True
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while self._on:
            self.most = max(self.most, resident())
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()
        self.bytes = max(self.most, resident()) - self.start


def symphony(reference: anndata.AnnData, query: anndata.AnnData, seed: int) -> Callable[[], None]:
    import symphonypy as sp

    key = "batch"
    if reference.obs["batch"].nunique() < 2:  # its own way without Harmony hardly maps at all
        key = "half"
        halves = np.random.default_rng(seed).integers(0, 2, reference.n_obs)
        reference.obs[key] = np.array(["a", "b"], object)[halves]
    sp.pp.harmony_integrate(reference, key=key, verbose=False, random_seed=seed)

    def run() -> None:
        sp.tl.map_embedding(query, reference, key="batch", use_genes_column=None)
        sp.tl.transfer_labels_kNN(query, reference, "cell_type", query_labels="found")

    return run


def symphony_of_15(reference: anndata.AnnData, query: anndata.AnnData) -> np.ndarray:
    import symphonypy as sp

    sp.tl.transfer_labels_kNN(query, reference, "cell_type", query_labels="of_15", n_neighbors=15)
    return query.obs["of_15"].to_numpy(str)


def lite(
    reference: anndata.AnnData, query: anndata.AnnData, seed: int, *, unknown: bool = False
) -> Callable[[], None]:
    import harmonypy_lite as hl

    hl.pp.harmony_integrate(reference, "batch", store_model=True, save_genes=True, rng=seed)

    def run() -> None:
        hl.tl.map_embedding(query, reference, key="batch", levels="new")
        hl.tl.transfer_labels(query, reference, "cell_type", unknown=unknown)
        query.obs["found"] = query.obs["cell_type_transferred"]

    return run


PREPARE = {"symphonypy": symphony, "harmonypy_lite": lite}


def timed(run: Callable[[], None]) -> list[float]:
    """Return the seconds of several runs after a first one."""
    run()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def one_set(program: str, folder: Path, seed: int, name: str) -> None:
    seconds = {}
    for query_name, reference, query in splits(name):
        seconds[query_name] = {}
        if program == "harmonypy_lite":  # symphonypy has no such answer
            run = lite(reference, query, seed, unknown=True)
            seconds[query_name]["unknown"] = timed(run)
        seconds[query_name]["task"] = timed(PREPARE[program](reference, query, seed))
        more = {"of_15": symphony_of_15(reference, query)} if program == "symphonypy" else {}
        np.savez(
            folder / f"{program}_{seed}_{len(seconds) - 1}.npz",
            reference=np.asarray(reference.obsm["X_pca_harmony"]),
            query=np.asarray(query.obsm["X_pca_harmony"]),
            found=query.obs["found"].to_numpy(str),
            **more,
        )
    print(json.dumps(seconds))


def one_query(program: str, folder: Path, seed: int) -> None:
    reference, query = (anndata.read_h5ad(folder / f"{n}.h5ad") for n in ("reference", "query"))
    prepare = PREPARE[program]
    prepare(reference.copy(), query[:200].copy(), seed)()  # compile, import
    run = prepare(reference, query, seed)
    with Peak() as peak:
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "bytes": peak.bytes}))


if __name__ == "__main__":
    if len(sys.argv) == 5:
        one_set(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        one_query(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
