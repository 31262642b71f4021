"""How much of a run went into compiling kernels, which only the first run on a machine does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def compile_clock() -> Iterator[Callable[[], float]]:
    """Give a function that tells the seconds that numba has compiled for since.

    Kernels that come from numba's cache on the disk take none. Threads compile one after another.

    Examples
    --------
    >>> with compile_clock() as seconds:
    ...     pass
    >>> seconds()
    0.0
    """
    from numba.core import event

    clock = event.TimingListener()
    with event.install_listener("numba:compile", clock):
        yield lambda: float(clock.duration) if clock.done else 0.0
