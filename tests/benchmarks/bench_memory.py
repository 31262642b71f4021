"""Time, memory and disk of files that are larger than memory, and of Dask.

    python tests/benchmarks/bench_memory.py --cells 1000000 --cells 4000000 --folder DIR

Each run is the installed command in a process of its own; the figure of memory is the largest
resident set that the system saw of that process. The input is simulated into DIR once: 50
dimensions, 20 batches, 30 types. `--dask` adds a LocalCluster of two workers and the time of one
barrier (with few cells, 5,000, nearly all of that is waiting). Results are printed as JSON lines;
`--output` appends them to a file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

D, BATCHES, TYPES = 50, 20, 30


def make_input(path: Path, n: int) -> None:
    """Write `n` simulated cells as anndata does, some at a time."""
    draws = np.random.default_rng(0)
    kind = draws.normal(0, 3, (TYPES, D)).astype(np.float32)
    batch = draws.normal(0, 1, (BATCHES, D)).astype(np.float32)
    both = draws.normal(0, 0.4, (BATCHES, TYPES, D)).astype(np.float32)
    text = h5py.string_dtype()
    made = path.with_suffix(".partial")
    with h5py.File(made, "w") as file:
        mark(file, "anndata", "0.1.0")
        for name, columns in (("obs", ["donor"]), ("var", [])):
            group = mark(file.create_group(name), "dataframe", "0.2.0")
            group.attrs["_index"] = "_index"
            group.attrs["column-order"] = np.array(columns, dtype=object if columns else float)
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            mark(file.create_group(name), "dict", "0.1.0")
        mark(file.create_dataset("var/_index", (0,), text), "string-array", "0.2.0")
        index = mark(file.create_dataset("obs/_index", (n,), text), "string-array", "0.2.0")
        donor = mark(file.create_group("obs/donor"), "categorical", "0.2.0")
        donor.attrs["ordered"] = False
        names = np.array([f"donor{i:02}" for i in range(BATCHES)], dtype=object)
        categories = donor.create_dataset("categories", data=names, dtype=text)
        mark(categories, "string-array", "0.2.0")
        codes = mark(donor.create_dataset("codes", (n,), np.int8), "array", "0.2.0")
        Z = mark(file.create_dataset("obsm/X_pca", (n, D), np.float32), "array", "0.2.0")
        for a in range(0, n, 200_000):
            rows = slice(a, min(a + 200_000, n))
            size = rows.stop - a
            b = draws.integers(0, BATCHES, size)
            t = (draws.random(size) ** 2 * TYPES).astype(int)
            Z[rows] = draws.standard_normal((size, D), np.float32) + kind[t] + batch[b] + both[b, t]
            codes[rows] = b
            index[rows] = [f"cell{i}" for i in range(a, rows.stop)]
    made.rename(path)


def mark(part: Any, kind: str, version: str) -> Any:
    """Give a part the attributes by which anndata knows it."""
    part.attrs["encoding-type"], part.attrs["encoding-version"] = kind, version
    return part


def digest(path: Path) -> str:
    """Return a digest of the result in a file."""
    found = hashlib.sha256()
    with h5py.File(path) as file:
        Z = file["obsm/X_pca_harmony"]
        for a in range(0, len(Z), 500_000):
            found.update(Z[a : a + 500_000].tobytes())
    return found.hexdigest()[:16]


def measured(source: Path, out: Path, mode: str) -> dict[str, Any]:
    """Integrate with the command line; return what it took."""
    words = ["integrate", source, "-k", "donor", "--memory", mode, "-o", out, "--overwrite"]
    words += ["--scratch", out.parent, "--json"]
    command = [sys.executable, "-m", "harmonypy_lite", *map(str, words)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    told = json.loads(said)
    return {
        "n_cells": told["n_cells"],
        "mode": mode,
        "seconds": round(time.perf_counter() - began, 2),
        "seconds_of_the_method": told["seconds"],
        # on a machine that others use, too, more to be relied on than the time that passed
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "iterations": told["iterations"],
        "peak_MB": round(usage.ru_maxrss / 1000, 1),
        "digest": digest(out),
    }


def measured_dask(source: Path, sync: str) -> dict[str, Any]:
    """Integrate a Dask array on two workers; return the time of the barriers, too."""
    import dask.array as da
    import pandas as pd
    from distributed import LocalCluster

    from harmonypy_lite.cells.on_dask import DaskCells
    from harmonypy_lite.design import design_from_columns
    from harmonypy_lite.lazy import integrate_lazy
    from harmonypy_lite.method.passes import Reassign, Turn
    from harmonypy_lite.params import HarmonyParams

    with h5py.File(source) as file:
        Z, codes = file["obsm/X_pca"][...], file["obs/donor/codes"][...]
    seconds: list[float] = []
    real = DaskCells._ask

    def ask(self: DaskCells, function: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        answer = real(self, function, *arguments)
        if any(isinstance(each, Reassign | Turn) for each in arguments):
            seconds.append(time.perf_counter() - began)
        return answer

    DaskCells._ask = ask  # type: ignore[method-assign]
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster,
        cluster.get_client(),
    ):
        array = da.from_array(Z, chunks=(len(Z) // 7 + 1, D))
        design = design_from_columns(pd.DataFrame({"donor": codes}))
        began = time.perf_counter()
        found = integrate_lazy(array, design, HarmonyParams(sync=sync))
        took = time.perf_counter() - began
        result = found.embedding.compute()
    DaskCells._ask = real  # type: ignore[method-assign]
    return {
        "n_cells": len(Z),
        "mode": f"dask, 2 workers, {sync}",
        "seconds": round(took, 2),
        "iterations": found.summary["iterations"],
        "barriers": len(seconds),
        "ms_per_barrier": round(1000 * float(np.median(seconds)), 1),
        "digest": hashlib.sha256(result.tobytes()).hexdigest()[:16],
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, action="append", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--modes", default="scratch,fast,lean")
    parser.add_argument("--dask", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warm = given.folder / "warm.h5ad"
    make_input(warm, 5000)  # compiles the kernels
    for mode in ("scratch", "fast"):
        measured(warm, warm.with_name("warm_out.h5ad"), mode)
    for n in given.cells:
        source = given.folder / f"cells{n}.h5ad"
        if not source.exists():
            make_input(source, n)
        out = given.folder / f"cells{n}_out.h5ad"
        syncs = ["exact", "batch"] if given.dask else []
        for mode in [*filter(None, given.modes.split(",")), *syncs]:
            found = measured_dask(source, mode) if mode in syncs else measured(source, out, mode)
            print(json.dumps(found), flush=True)
            if given.output:
                with given.output.open("a") as file:
                    file.write(json.dumps(found) + "\n")
        out.unlink(missing_ok=True)
    for name in ("warm.h5ad", "warm_out.h5ad"):
        (given.folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
