"""Runs one contender, or the floor, in a process of its own: `python -m speed.worker JOB RESULT`.

JOB is a JSON file with the fields of `Job`, RESULT the JSON file to be written. Runs under the
interpreters of other contenders too, so nothing is imported here that they may not have.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

    from speed.contenders import Answer, Task

#: Cells of the call that comes before the timed one.
WARM_UP = 3000
#: Calls that are timed after the first at full size: for so many seconds, at most so many.
ENOUGH_SECONDS, ENOUGH_CALLS = 1.0, 5


@dataclass(frozen=True)
class Job:
    """What a process is asked for."""

    contender: str  # or "floor"
    threads: int
    probe: bool = False  # only say whether the contender is there
    warm_up: bool = True
    embedding: str = ""  # .npy, (N, d) float32
    cells: str = ""  # .npz: names and codes of the covariates, rows to be returned
    n_clusters: int = 0
    iterations: int = 0
    rounds: int = 0
    seed: int = 0
    rows_to: str = ""  # where the corrected rows go; empty: nowhere


def main() -> None:
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(_run(job)))


def _run(job: Job) -> dict[str, Any]:
    if job.contender == "floor":
        from speed import floor

        n_dims = np.load(job.embedding, mmap_mode="r").shape[1]
        return floor.measure(job.n_clusters, n_dims, job.threads)
    from speed.contenders import Unavailable, version_of

    try:
        if job.probe:
            version = version_of(job.contender)
            return {"version": version, "python": platform.python_version()}
        return _integrate(job)
    except Unavailable as reason:
        return {"unavailable": str(reason)}


def _integrate(job: Job) -> dict[str, Any]:
    from speed.contenders import CONTENDERS, Task

    embedding, batches, rows = _load(job)
    prepare = CONTENDERS[job.contender].prepare
    task = Task(
        *(embedding, batches, job.n_clusters, job.iterations, job.rounds, job.threads, job.seed)
    )
    began = time.perf_counter()
    if job.warm_up:
        prepare(_small(task))()
    warm_up = time.perf_counter() - began
    call = prepare(task)
    before = Memory.start()
    answer, *timed = _timed(call)
    peak, first = before.peak_above(), timed[0]
    calls = [] if job.warm_up else [timed]
    while job.warm_up and sum(s for s, _ in calls) < ENOUGH_SECONDS and len(calls) < ENOUGH_CALLS:
        del answer
        answer, *timed = _timed(call)
        calls.append(timed)
    seconds, cpu = np.transpose(calls).tolist()
    few = np.ascontiguousarray(answer.embedding[rows], np.float32)
    if job.rows_to:
        np.save(job.rows_to, few)
    return {
        "seconds": float(np.median(seconds)),
        "first_seconds": first,
        "calls": seconds,
        "cpu_seconds": float(np.median(cpu)),  # of a call, all threads together
        "warm_up": warm_up,
        "peak_above_input": peak,
        "memory_from": before.source,
        "iterations": answer.iterations,
        "rounds": answer.rounds,
        "objective": answer.objective,
        "sha256": hashlib.sha256(few).hexdigest(),
    }


def _timed(call: Callable[[], Answer]) -> tuple[Answer, float, float]:
    """Return what a call returns, its seconds, and those of the CPU."""
    began, cpu_began = time.perf_counter(), time.process_time()
    answer = call()
    return answer, time.perf_counter() - began, time.process_time() - cpu_began


def _small(task: Task) -> Task:
    """Return the same task on few cells and two iterations."""
    n = len(task.embedding)
    some = np.linspace(0, n - 1, min(WARM_UP, n), dtype=np.int64)
    batches = {
        str(name): pd.Categorical(column.iloc[some].astype(str))
        for name, column in task.batches.items()
    }
    return replace(
        task,
        embedding=task.embedding[some],
        batches=pd.DataFrame(batches),
        n_clusters=max(1, min(task.n_clusters, len(some) // 30)),
        iterations=2,
    )


def _load(job: Job) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    embedding = np.load(job.embedding)
    with np.load(job.cells) as cells:
        columns = {
            str(name): pd.Categorical.from_codes(codes, [f"{name}_{i:04d}" for i in range(n)])
            for name, codes, n in zip(
                cells["names"], cells["codes"], cells["n_levels"], strict=True
            )
        }
        return embedding, pd.DataFrame(columns), cells["rows"]


class Memory:
    """Peak resident memory of this process above what it held at `start`.

    Linux resets the recorded peak on request. Elsewhere the growth of the peak of the whole process
    stands in, which is too little where the warm-up, or the starting process, held more.
    """

    def __init__(self, source: str, base: int) -> None:
        self.source, self._base = source, base

    @classmethod
    def start(cls) -> Memory:
        gc.collect()
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed goes back to the system
            Path("/proc/self/clear_refs").write_text("5")
            return cls("VmHWM", _status("VmRSS"))
        except (OSError, AttributeError):
            return cls("ru_maxrss", _max_rss())

    def peak_above(self) -> int:
        now = _status("VmHWM") if self.source == "VmHWM" else _max_rss()
        return now - self._base


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"no {field}")


def _max_rss() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
