"""Whole programs: the first run ever on a machine, and the command line against a script."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from speed import workloads
from speed.session import Session
from speed.worker import Job

#: What a user of harmonypy writes to do what `harmonypy-lite integrate` does.
SCRIPT = """
import sys
import anndata, harmonypy
source, target, key, iterations, rounds, threads = sys.argv[1:]
adata = anndata.read_h5ad(source)
done = harmonypy.run_harmony(
    adata.obsm["X_pca"], adata.obs, key, max_iter_harmony=int(iterations),
    max_iter_kmeans=int(rounds), epsilon_harmony=-float("inf"), epsilon_cluster=-float("inf"),
    verbose=False, ncores=int(threads),
)
adata.obsm["X_pca_harmony"] = done.Z_corr.astype("float32")
adata.write_h5ad(target)
"""


def first_call(session: Session, name: str) -> dict[str, Any]:
    """Run a small set without warm-up, with an empty cache of compiled code and with a full one.

    Seconds are those of the whole process. The two take turns; each cold run has a cache of its
    own, which the warm run after it finds full.
    """
    workload = workloads.make(name, session.folder, session.data)
    job = Job(
        "lite",
        session.threads,
        warm_up=False,
        embedding=str(workload.embedding),
        cells=str(workload.cells),
        n_clusters=session.n_clusters,
        iterations=session.iterations,
        rounds=session.rounds,
    )
    runs: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(session.repeats):
        with tempfile.TemporaryDirectory(dir=session.folder) as cache:
            for kind, walls in runs.items():
                result = session.run(job, Path(cache))
                if "wall" not in result:
                    return {"name": name, "failed": result.get("failed", str(result))}
                walls.append(result["wall"])
                print(f"first call, {kind}: {walls[-1]:.2f} s", file=sys.stderr, flush=True)
    medians = {kind: statistics.median(walls) for kind, walls in runs.items()}
    return {
        "name": name,
        "runs": runs,
        **medians,
        "compiling": medians["cold"] - medians["warm"],
    }


def whole_command(session: Session, source: Path, key: str) -> dict[str, Any]:
    """Time `harmonypy-lite integrate FILE` against a script; once each before, unmeasured."""
    if not source.exists():
        return {"file": source.name, "failed": "the file is not there: give its folder with --data"}
    target = session.folder / "out.h5ad"
    amount = [str(session.iterations), str(session.rounds)]
    commands = {
        "harmonypy-lite integrate": [
            *(sys.executable, "-m", "harmonypy_lite", "integrate", str(source), "--key", key),
            *("--output", str(target), "--overwrite", "--quiet", "--no-early-stop"),
            *("--max-iter-harmony", amount[0], "--max-iter-clustering", amount[1]),
            *("--tol-clustering", "0", "--n-jobs", str(session.threads)),
        ],
        "anndata + harmonypy": [
            *(sys.executable, "-c", SCRIPT, str(source), str(target), key, *amount),
            str(session.threads),
        ],
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(session.repeats + 1):
        for name, command in commands.items():
            target.unlink(missing_ok=True)
            result = _timed(command, session)
            if "failed" in result:
                return {"file": source.name, "failed": f"{name}: {result['failed']}"}
            if turn:  # the first fills the caches: files, byte code, compiled kernels
                runs[name].append(result)
                print(f"{name}: {result['seconds']:.2f} s", file=sys.stderr, flush=True)
    target.unlink(missing_ok=True)
    medians = {n: statistics.median(r["seconds"] for r in each) for n, each in runs.items()}
    return {
        "file": source.name,
        "runs": runs,
        "seconds": medians,
        "ratio": medians["anndata + harmonypy"] / medians["harmonypy-lite integrate"],
        "imports_scanpy": _imports_scanpy(session, source, key),
    }


def _timed(command: list[str], session: Session) -> dict[str, Any]:
    environment = session.environment(session.threads)
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environment, cwd=session.folder, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": said[-1]}
    return {"seconds": seconds}


def _imports_scanpy(session: Session, source: Path, key: str) -> bool:
    """Whether `harmonypy-lite integrate` loads scanpy."""
    program = (
        "import sys\n"
        "from harmonypy_lite.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('scanpy' in sys.modules, file=sys.stderr)\n"
    )
    target = session.folder / "out.h5ad"
    arguments = ["integrate", str(source), "-k", key, "-o", str(target), "-q"]
    arguments += ["--max-iter-harmony", "1", "--no-early-stop"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=session.environment(session.threads),
        cwd=session.folder,
        capture_output=True,
        text=True,
    )
    target.unlink(missing_ok=True)
    return done.stderr.strip().endswith("True")
