"""How much memory a run may take, what each way to hold the cells needs, and which one fits.

The figures per cell were measured (``tests/benchmarks/bench_memory.py``); those of time belong to
one kind of processor and are meant as an order of magnitude.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harmonypy_lite.errors import InvalidInput

#: Ways to hold the cells, from the fastest to the smallest.
MODES = ("fast", "lean", "scratch")
#: Share of the available memory that a run takes when nothing is said.
SHARE = 0.5

#: Bytes of tables that the threads may hold together; further threads do without.
MOST_TABLES = 512 * 2**20

_MB = 2**20
_PROGRAM = 300 * _MB  # Python, its packages, compiled kernels
_BATCHES = 160 * _MB  # input and result on their way through memory, five batches of 32 MB
_PER_CELL = 50  # places, levels and groups, beside the numbers of the cell itself
_PER_COVARIATE = 20
_N_BLOCKS = 20
_ITERATIONS = 5
_SECONDS_PER_PRODUCT = 4e-10  # one cell, one cluster, one dimension, one iteration, one thread
_SLOWER = {"fast": 1.0, "lean": 1.25, "scratch": 1.5}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Load:
    """The sizes that decide what a run needs.

    Attributes
    ----------
    n_cells, n_dims, n_clusters, n_levels, n_covariates, n_threads
        N, d, K, B, C, and threads.
    item_bytes
        Bytes of a number of the input.
    affinity_bytes
        Bytes of an affinity that is kept.
    n_combinations
        Combinations of the levels of several covariates that occur; 0 for one covariate.
    """

    n_cells: int
    n_dims: int
    n_clusters: int
    n_levels: int
    n_covariates: int
    n_threads: int
    item_bytes: int = 4
    affinity_bytes: int = 4
    n_combinations: int = 0

    def memory(self, mode: str) -> int:
        """Return the bytes that the process needs at its peak."""
        level = 8 * self.n_clusters * self.n_levels
        sums = level * self.n_dims + 8 * self.n_clusters * self.n_combinations
        threads = min(self.n_threads, max(1, MOST_TABLES // max(sums, 1)))
        tables = sums * (threads + 1) + level * (self.n_dims + 2 * _N_BLOCKS)
        if mode == "scratch":
            return _PROGRAM + _BATCHES + tables
        cell = (self.item_bytes + 4) * self.n_dims + _PER_CELL + _PER_COVARIATE * self.n_covariates
        if mode == "fast":
            cell += self.affinity_bytes * self.n_clusters
        return _PROGRAM + tables + self.n_cells * cell

    def disk(self, mode: str) -> int:
        """Return the bytes of scratch files; the result, 4 N d more, is in no mode counted here."""
        if mode != "scratch":
            return 0
        answers = _ITERATIONS * 5 * _N_BLOCKS * 8 * self.n_clusters * self.n_levels
        return self.n_cells * (8 * self.n_dims + 4 * self.n_covariates) + answers + 16 * _MB

    def seconds(self, mode: str) -> float:
        """Return about how long five iterations take on a processor of 2024, without reading."""
        products = self.n_cells * self.n_clusters * self.n_dims * _ITERATIONS
        return products * _SECONDS_PER_PRODUCT * _SLOWER[mode] / self.n_threads


@dataclass(frozen=True)
class Choice:
    """How the cells are held, and why.

    Attributes
    ----------
    mode
        One of `MODES`.
    needed, allowed
        Bytes of memory.
    asked
        Whether `mode` was asked for, whatever is allowed.
    """

    mode: str
    needed: int
    allowed: int
    asked: bool


def choose(load: Load, memory: str | int | None = None, *, may_stream: bool = True) -> Choice:
    """Return the fastest way to hold the cells that fits, or the one that `memory` names.

    Parameters
    ----------
    load
        The sizes of the run.
    memory
        Bytes, a text such as ``"2G"``, the name of a mode, or None for half of what is available.
    may_stream
        Whether the cells can be read in parts; if not, "lean" is the smallest way.

    Examples
    --------
    >>> load = Load(1_000_000, 50, 100, 20, 1, 2)
    >>> [choose(load, memory).mode for memory in ("2G", "800M", "700M", "lean")]
    ['fast', 'lean', 'scratch', 'lean']
    """
    if memory in MODES:
        mode = str(memory)
        return Choice(mode, load.memory(mode), available_memory(), True)
    allowed = int(available_memory() * SHARE) if memory is None else parse_size(memory)
    modes = MODES if may_stream else MODES[:-1]
    mode = next((m for m in modes if load.memory(m) <= allowed), modes[-1])
    return Choice(mode, load.memory(mode), allowed, False)


def parse_size(size: str | int) -> int:
    """Return the bytes of ``2G``, ``700M`` or a plain number.

    Examples
    --------
    >>> parse_size("1.5G"), parse_size("700 MB"), parse_size(10)
    (1610612736, 734003200, 10)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", str(size).strip().upper())
    if isinstance(size, bool) or found is None or float(found[1]) == 0:
        raise InvalidInput(
            f"memory={size!r}: give a size, such as 2G or 700M, or one of {', '.join(MODES)}."
        )
    return int(float(found[1]) * _UNITS[found[2]])


def available_memory() -> int:
    """Return the bytes that this process may still take: of the machine, and of its container.

    Memory that only caches files counts as available.
    """
    return max(min([_of_machine(), *_of_containers()]), 1)


def _of_machine() -> int:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
        if all(name in getattr(os, "sysconf_names", ()) for name in names):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return 4 * 2**30  # Windows does not say without a package for it
    kilobytes = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(kilobytes[1]) * 1024 if kilobytes else 4 * 2**30


def _of_containers(proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> list:
    """Return what is left under each limit of the control groups that this process is in."""
    try:
        lines = (proc / "cgroup").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    left: list[int] = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            left += _left(root, path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left += _left(root / "memory", path, names)
    return left


def _left(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Yield limit - usage + cached files for a group and all groups that it is in."""
    folder = root / path.lstrip("/")
    # in a container, its own group is mounted as the root, whatever its path says
    for group in (folder, *folder.parents):
        if root not in (group, *group.parents):
            return
        try:
            limit = (group / names[0]).read_text().strip()
            used = int((group / names[1]).read_text())
            cached = re.search(rf"^{names[2]} (\d+)", (group / "memory.stat").read_text(), re.M)
        except (OSError, ValueError):
            continue
        if limit != "max" and int(limit) < 2**60:
            yield max(int(limit) - used + (int(cached[1]) if cached else 0), 0)


def release_freed() -> None:
    """Give freed memory back to the system; glibc keeps some of it, for as long as it likes.

    Examples
    --------
    >>> release_freed()
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)
