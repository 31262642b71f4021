"""Time the metrics beside scib-metrics 0.5.10 and harmonypy 2.1.0; print medians and ratios.

``python tests/benchmarks/bench_metrics.py [--case NAME ...] [--repeats 3] [--scib-python PYTHON]``
``python tests/benchmarks/bench_metrics.py --parts 100000 [--part NAME ...]`` times the default set
of scib-metrics metric by metric, for sizes at which the whole takes too long.

Each measurement is a process of its own and the sides take turns, so that a busy machine slows
both. "cold" counts from the first line of the process, imports and neighbours included, with
compiled caches present; "warm" is the second call in the same process. Seconds of CPU tell whether
the machine was busy with something else. scib-metrics pins jax, so
its interpreter may be another one (``--scib-python``).
"""

from __future__ import annotations

import time

START = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402


def cells(n_cells, seed=0, n_types=10, n_batches=8, dims=50):
    """Return (pre, post, batch, label): float32 embeddings as scanpy makes them."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(2, 0.3, dims)
    label = rng.integers(0, n_types, n_cells)
    batch = rng.integers(0, n_batches, n_cells)
    inside = rng.normal(size=(n_types, dims))[label] * 1.5 * spread
    inside += rng.normal(size=(n_cells, dims)) * spread
    shift = rng.normal(size=(n_batches, dims))[batch]
    pre, post = (inside + strength * shift for strength in (1.0, 0.2))
    return pre.astype(np.float32), post.astype(np.float32), batch.astype(str), label.astype(str)


def annotated(n_cells):
    import anndata
    import pandas as pd

    pre, post, batch, label = cells(n_cells)
    obs = pd.DataFrame({"batch": batch, "label": label}, index=np.arange(n_cells).astype(str))
    return anndata.AnnData(obs=obs.astype("category"), obsm={"X_pca": pre, "X_post": post})


def our_set(n_cells) -> Callable[[], object]:
    from harmonypy_lite.metrics.score import score

    adata = annotated(n_cells)
    return lambda: score(adata, "batch", "label", embeddings=["X_post"])


def scib_set(n_cells) -> Callable[[], object]:
    import anndata
    from scib_metrics.benchmark import BatchCorrection, Benchmarker

    adata = annotated(n_cells)
    full = anndata.AnnData(adata.obsm["X_pca"], obs=adata.obs, obsm=dict(adata.obsm))

    def run() -> object:
        benchmarker = Benchmarker(
            full,
            "batch",
            "label",
            ["X_post"],
            batch_correction_metrics=BatchCorrection(kbet_per_label=False),
            pre_integrated_embedding_obsm_key="X_pca",
            n_jobs=2,
            progress_bar=False,
        )
        benchmarker.benchmark()
        return benchmarker.get_results(min_max_scale=False)

    return run


def our_lisi(n_cells) -> Callable[[], object]:
    import pandas as pd

    from harmonypy_lite.metrics import lisi

    _, post, batch, label = cells(n_cells)
    columns = pd.DataFrame({"batch": batch, "label": label})
    return lambda: lisi(post, columns, variant="harmonypy")


def harmonypy_lisi(n_cells) -> Callable[[], object]:
    import harmonypy
    import pandas as pd

    _, post, batch, label = cells(n_cells)
    columns = pd.DataFrame({"batch": batch, "label": label})
    return lambda: harmonypy.compute_lisi(post, columns, ["batch", "label"], perplexity=30)


def our_bras(n_cells) -> Callable[[], object]:
    from harmonypy_lite.metrics import bras

    _, post, batch, label = cells(n_cells)
    return lambda: bras(post, batch, label)


def our_pcr(n_cells) -> Callable[[], object]:
    from harmonypy_lite.metrics import pcr_comparison

    pre, post, batch, _ = cells(n_cells)
    return lambda: pcr_comparison(pre, post, batch)


CASES = {
    "set_20k": (20_000, {"ours": our_set, "scib": scib_set}, "cold >= 10x, warm >= 5x"),
    "lisi_20k": (20_000, {"ours": our_lisi, "harmonypy": harmonypy_lisi}, "warm >= 15x"),
    "bras_1m": (1_000_000, {"ours": our_bras}, "warm <= 3 s"),
    "pcr_1m": (1_000_000, {"ours": our_pcr}, "warm <= 3 s"),
    "set_100k": (100_000, {"ours": our_set, "scib": scib_set}, "warm >= 8x, peak <= 2 GB"),
}


def scib_parts(n_cells) -> dict[str, Callable[[], object]]:
    """Return what the Benchmarker's default set consists of, kBET per label left out.

    What follows the search is given exact neighbours, so that each part can be timed by itself.
    """
    import scib_metrics as theirs
    from scib_metrics.nearest_neighbors import NeighborsResults, pynndescent

    from harmonypy_lite.metrics import find_neighbors

    pre, post, batch, label = cells(n_cells)
    exact = find_neighbors(post, 89)
    own = np.arange(n_cells)[:, None]
    indices = np.hstack([own, exact.indices])
    near = NeighborsResults(indices=indices, distances=np.hstack([0.0 * own, exact.distances]))
    few = near.subset_neighbors(n=15)
    return {
        "neighbors": lambda: pynndescent(post, n_neighbors=90, random_state=0, n_jobs=2),
        "ilisi": lambda: theirs.ilisi_knn(near, batch),
        "clisi": lambda: theirs.clisi_knn(near, label),
        "graph_connectivity": lambda: theirs.graph_connectivity(few, label),
        "pcr_comparison": lambda: theirs.pcr_comparison(pre, post, batch, categorical=True),
        "nmi_ari": lambda: theirs.nmi_ari_cluster_labels_kmeans(post, label),
        "bras": lambda: theirs.bras(post, label, batch),
        "silhouette_label": lambda: theirs.silhouette_label(post, label),
        "isolated_labels": lambda: theirs.isolated_labels(post, label, batch),
    }


def time_parts(n_cells, wanted):
    """Print the first and the second time of each part, as soon as it is known."""
    warnings.simplefilter("ignore")
    parts = scib_parts(n_cells)
    for name in wanted or parts:
        for turn in ("first", "second"):
            start, began = time.perf_counter(), time.process_time()
            parts[name]()
            wall, cpu = time.perf_counter() - start, time.process_time() - began
            print(f"{name:20s} {turn:6s} {wall:8.2f} s, of CPU {cpu:8.2f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"scib-metrics at {n_cells:,} cells: peak {peak:.2f} GB")


def work(case, side):
    """Run one side of one case in this process and print its figures as JSON."""
    warnings.simplefilter("ignore")
    n_cells, sides, _ = CASES[case]
    run = sides[side](n_cells)
    start, cpu = time.perf_counter(), time.process_time()
    run()
    cold, cold_cpu = time.perf_counter() - START, time.process_time()
    if side != "harmonypy":  # its LISI is slow, and compiles nothing: the first time is any time
        start, cpu = time.perf_counter(), cold_cpu
        run()
    warm = time.perf_counter() - start
    warm_cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    seconds = {"cold": cold, "warm": warm, "cold_cpu": cold_cpu, "warm_cpu": warm_cpu}
    print(json.dumps(seconds | {"peak_gb": peak}))


def measure(case, repeats, interpreters):
    """Let the sides take turns and return each side's median figures."""
    sides = list(CASES[case][1])
    found = {side: [] for side in sides}
    for _ in range(repeats):
        for side in sides:
            command = [interpreters.get(side, sys.executable), __file__, "--worker", case, side]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{case} {side} failed:\n{done.stderr[-2000:]}")
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for side, runs in found.items()
    }


def main():
    """Measure the chosen cases and print one line per side and one ratio per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scib-python", default=sys.executable)
    parser.add_argument("--worker", nargs=2)
    parser.add_argument("--parts", type=int, metavar="CELLS")
    parser.add_argument("--part", nargs="*")
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
        return
    if arguments.parts:
        time_parts(arguments.parts, arguments.part)
        return
    for case in arguments.case:
        figures = measure(case, arguments.repeats, {"scib": arguments.scib_python})
        print(f"{case}: target {CASES[case][2]}")
        for side, values in figures.items():
            print(
                f"  {side:10s} cold {values['cold']:8.2f} s   warm {values['warm']:8.2f} s   "
                f"of CPU {values['cold_cpu']:8.2f} and {values['warm_cpu']:8.2f} s   "
                f"peak {values['peak_gb']:.2f} GB"
            )
        for side in [side for side in figures if side != "ours"]:
            ratio = {key: figures[side][key] / value for key, value in figures["ours"].items()}
            print(
                f"  {side} / ours: cold {ratio['cold']:.1f}x, warm {ratio['warm']:.1f}x; "
                f"of CPU {ratio['cold_cpu']:.1f}x and {ratio['warm_cpu']:.1f}x"
            )


if __name__ == "__main__":
    main()
