"""Threads over independent pieces of work: how many, and BLAS held to one each.

Kernels release the GIL, so plain threads are enough. Results never depend on the number of threads
as long as the pieces do not: cut the work by size, never by `worker_count`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from harmonypy_lite.errors import InvalidInput

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


def worker_count(n_jobs: int | None = None) -> int:
    """Return the number of threads that `n_jobs` asks for.

    Parameters
    ----------
    n_jobs
        None or -1: every CPU this process may use (affinity and cgroup limits counted, as
        `joblib.cpu_count` does); -2: all but one, and so on; a positive number: itself.

    Raises
    ------
    InvalidInput
        For 0 and for anything that is not a whole number.

    Examples
    --------
    >>> worker_count(3)
    3
    """
    if n_jobs is not None and (isinstance(n_jobs, bool) or not hasattr(n_jobs, "__index__")):
        raise InvalidInput(f"n_jobs must be a whole number or None; got {n_jobs!r}.")
    if n_jobs == 0:
        raise InvalidInput("n_jobs=0 asks for no threads; use 1 or more, or -1 for every CPU.")
    if n_jobs is not None and n_jobs > 0:
        return int(n_jobs)
    from joblib import cpu_count

    return max(1, int(cpu_count()) + 1 + (-1 if n_jobs is None else int(n_jobs)))


class Workers:
    """A pool of threads that lives as long as a run; BLAS is held to one thread meanwhile.

    Parameters
    ----------
    n_jobs
        As in :func:`worker_count`.

    Examples
    --------
    >>> with Workers(2) as workers:
    ...     workers.map(abs, [-2, 3])
    [2, 3]
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self._n_jobs = n_jobs
        if n_jobs is not None:  # else they are counted when there is work for several
            self.count = worker_count(n_jobs)
        self._pool: ThreadPoolExecutor | None = None
        _single_blas.hold()
        self._open = True

    @cached_property
    def count(self) -> int:
        """Number of threads, with the caller's own."""
        return worker_count(self._n_jobs)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return ``[function(item) for item in items]``, in order; an error ends the work."""
        pieces = list(items)
        if len(pieces) <= 1 or self.count == 1:
            return [function(piece) for piece in pieces]
        self._pool = self._pool or ThreadPoolExecutor(self.count)
        # The caller takes pieces too: to wake one thread less is quicker, and where it is itself a
        # thread of the pool, none stands idle that waits for the others.
        found: list[Any] = [None] * len(pieces)
        left = iter(enumerate(pieces))
        own = itertools.chain([next(left)], left)

        def draw(some: Iterator[tuple[int, T]]) -> None:
            try:
                for place, piece in some:
                    found[place] = function(piece)
            finally:
                for _ in left:  # after an error, nobody begins another
                    pass

        helpers = [self._pool.submit(draw, left) for _ in range(min(self.count, len(pieces)) - 1)]
        try:
            draw(own)
        finally:
            started = [helper for helper in helpers if not helper.cancel()]
            wait(started)
        for helper in started:
            helper.result()
        return found

    def close(self) -> None:
        """End the threads and give BLAS its own back; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        _single_blas.release()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def map_threads(
    function: Callable[[T], R], items: Iterable[T], n_jobs: int | None = None
) -> list[R]:
    """Return ``[function(item) for item in items]``, in order, computed by `n_jobs` threads.

    BLAS runs on one thread inside each call, also when `n_jobs` is 1: a product's bytes may
    depend on the threads of BLAS. The first error ends the work and is raised.

    Examples
    --------
    >>> map_threads(abs, [-2, 3], n_jobs=2)
    [2, 3]
    """
    with Workers(n_jobs) as workers:
        return workers.map(function, items)


class _SingleBlas:
    """BLAS at one thread for as long as anyone holds it.

    The setting belongs to the process. Runs in several Python threads overlap in any order, so
    only the first to come sets it and only the last to leave puts it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._limits: Any = None

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._limits = _blas().limit(limits=1, user_api="blas")
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._limits.restore_original_limits()


_single_blas = _SingleBlas()


@cache
def _blas() -> ThreadpoolController:
    """Return the handle on NumPy's and SciPy's BLAS; looking for them takes 10 ms, so once."""
    import scipy.linalg  # noqa: F401  SciPy's own BLAS is found only once it is loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
