"""The one place that knows numba's options.

Kernels are serial and release the GIL; threads are the caller's business. That keeps results
independent of the number of threads, compiles fast, and composes with Dask and joblib.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from harmonypy_lite.kernels.cache import SOURCES, KernelCache

F = TypeVar("F", bound=Callable[..., Any])

# Sums and maxima may be vectorised, products contracted to fused multiply-adds. NaN never enters a
# kernel: input is checked to be finite, and no kernel divides by zero.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp", "nnan"}


def kernel(function: F) -> F:
    """Compile `function` to serial machine code that releases the GIL, cached on disk if possible.

    A read-only installation without any writable cache folder compiles in memory instead, and so
    does one whose cache folder becomes full or closed later.
    """
    made: Any = numba.njit(nogil=True, fastmath=_FASTMATH, error_model="numpy")(function)
    if SOURCES is not None and hasattr(made, "enable_caching"):  # not if numba is disabled
        with contextlib.suppress(RuntimeError):  # there is no folder that it may be written to
            made._cache = KernelCache(function)  # as its `enable_caching` does
    return cast(F, made)


def inlined(function: F) -> F:
    """Compile a small function that other kernels call; it is never cached by itself."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    return cast(F, numba.njit(inline="always", **options)(function))
