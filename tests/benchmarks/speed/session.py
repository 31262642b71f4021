"""Who runs when: contenders take turns, round by round, each in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speed import floor, quality, workloads
from speed.contenders import CONTENDERS
from speed.worker import Job
from speed.workloads import Workload

BENCHMARKS = Path(__file__).resolve().parent.parent
REPOSITORY = BENCHMARKS.parent.parent
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass
class Session:
    """Settings of a session, and the one way to start a process in it."""

    folder: Path  # scratch
    threads: int
    repeats: int
    n_clusters: int
    iterations: int
    rounds: int
    contenders: list[str]
    pythons: dict[str, str] = field(default_factory=dict)
    data: Path | None = None
    timeout: float = 3600.0

    def threads_of(self, contender: str) -> int:
        known = CONTENDERS.get(contender)
        return 1 if known is not None and known.one_thread else self.threads

    def environment(self, threads: int, cache: Path | None = None) -> dict[str, str]:
        """Return the variables of a process; `cache` is where numba keeps what it compiled."""
        paths = [str(BENCHMARKS), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "NUMBA_CACHE_DIR": str(cache or self.folder / "numba-cache"),
        }

    def run(self, job: Job, cache: Path | None = None) -> dict[str, Any]:
        """Run a job in a new process; return what it found, or `failed` and why."""
        python = self.pythons.get(job.contender, sys.executable)
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            ask, answer = Path(place, "job.json"), Path(place, "result.json")
            ask.write_text(json.dumps(asdict(job)))
            began = time.perf_counter()
            try:
                done = subprocess.run(
                    [python, "-m", "speed.worker", str(ask), str(answer)],
                    env=self.environment(job.threads, cache),
                    cwd=place,
                    capture_output=True,
                    text=True,
                    timeout=self.timeout,
                )
            except subprocess.TimeoutExpired:
                return {"failed": f"not done after {self.timeout:g} s"}
            wall = time.perf_counter() - began
            if done.returncode or not answer.exists():
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                return {"failed": said[-1], "stderr": done.stderr[-4000:]}
            return {**json.loads(answer.read_text()), "wall": wall}

    def probe(self) -> dict[str, dict[str, Any]]:
        """Return each contender's version, or why it cannot take part."""
        return {n: self.run(Job(n, self.threads, probe=True)) for n in self.contenders}


def compare(session: Session, name: str, present: list[str]) -> dict[str, Any]:
    """Run the contenders on one set, turn by turn, and the floor in each turn.

    The turn is the seed: what results differ by between turns is the noise of the seed.
    """
    workload = workloads.make(name, session.folder, session.data)
    runs: dict[str, list[dict[str, Any]]] = {contender: [] for contender in present}
    floors: list[dict[str, Any]] = []
    scored: dict[str, dict[str, float | None]] = {}
    given = quality.score(workload, session.n_clusters, None)
    for turn in range(session.repeats):
        floors.append(session.run(_floor_job(session, workload)))
        for contender in present:
            if runs[contender] and "seconds" not in runs[contender][-1]:
                continue  # it failed in the last turn
            result = session.run(_job(session, workload, contender, seed=turn))
            _tell(f"{name} {turn + 1}/{session.repeats} {contender}", result)
            if "seconds" in result:
                rows = session.folder / "rows.npy"
                same = result["sha256"]
                scored[same] = scored.get(same) or quality.score(workload, session.n_clusters, rows)
                result["scores"] = scored[same]
                rows.unlink()
            runs[contender].append(result)
    workload.embedding.unlink()
    workload.cells.unlink()
    return {
        "name": name,
        "origin": workload.origin,
        "n_cells": workload.n_cells,
        "n_dims": workload.n_dims,
        "n_levels": list(workload.n_levels),
        "runs": runs,
        "floor": _best_floor(floors, workload, session),
        "input_scores": given,
    }


def _job(session: Session, workload: Workload, contender: str, seed: int) -> Job:
    return Job(
        contender,
        session.threads_of(contender),
        embedding=str(workload.embedding),
        cells=str(workload.cells),
        n_clusters=session.n_clusters,
        iterations=session.iterations,
        rounds=session.rounds,
        seed=seed,
        rows_to=str(session.folder / "rows.npy"),
    )


def _floor_job(session: Session, workload: Workload) -> Job:
    return Job(
        "floor",
        session.threads,
        embedding=str(workload.embedding),
        n_clusters=session.n_clusters,
    )


def _best_floor(
    found: list[dict[str, Any]], workload: Workload, session: Session
) -> dict[str, Any]:
    """Take the best rate of all turns for each product."""
    good = [each for each in found if "gflops" in each]
    if not good:
        return found[-1]
    gflops = {
        product: {kind: max(each["gflops"][product][kind] for each in good) for kind in by}
        for product, by in good[0]["gflops"].items()
    }
    rates = {"gflops": gflops, "exponentials": max(each["exponentials"] for each in good)}
    shape = (workload.n_cells, session.n_clusters, workload.n_dims)
    return {**rates, "seconds": floor.seconds(rates, *shape)}


def _tell(what: str, result: dict[str, Any]) -> None:
    if "seconds" in result:
        said = f"{result['seconds']:.3f} s, {result['peak_above_input'] / 1e6:.0f} MB"
    else:
        said = result.get("unavailable") or result.get("failed") or "no result"
    print(f"{what}: {said}", file=sys.stderr, flush=True)
