"""Map one query with one program; prints seconds and peak memory as JSON, writes the result.

Runs in any environment that has the program: it imports nothing of the tests.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
import warnings
from pathlib import Path

import anndata
import numpy as np

warnings.simplefilter("ignore")


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


def symphony(reference, query):
    import symphonypy as sp

    several = reference.obs["batch"].nunique() > 1
    if several:
        sp.pp.harmony_integrate(reference, key="batch", verbose=False)
    else:
        reference.obsm["X_pca_harmony"] = reference.obsm["X_pca"]
    return lambda: sp.tl.map_embedding(
        query, reference, key="batch", use_genes_column=None, K=None if several else 100
    )


def lite(reference, query):
    import harmonypy_lite as hl

    hl.pp.harmony_integrate(reference, "batch", store_model=True, save_genes=True)
    return lambda: hl.tl.map_embedding(query, reference, key="batch", levels="new")


def main() -> None:
    program, folder = sys.argv[1], Path(sys.argv[2])
    reference, query = (anndata.read_h5ad(folder / f"{n}.h5ad") for n in ("reference", "query"))
    prepare = {"symphonypy": symphony, "harmonypy_lite": lite}[program]
    run = prepare(reference, query)
    small = query[:200].copy()
    prepare(reference.copy(), small)()  # compile, import
    times = []
    with Peak() as peak:
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    for each, name in ((reference, "reference"), (query, "query")):
        np.save(folder / f"{program}_{name}.npy", np.asarray(each.obsm["X_pca_harmony"]))
    print(json.dumps({"seconds": min(times), "bytes": peak.bytes}))


main()
