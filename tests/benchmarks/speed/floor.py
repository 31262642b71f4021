"""The least time that the algorithm's arithmetic takes on this machine.

What one iteration cannot do without, for N cells, d dimensions and K clusters: three products of
2 N K d operations (similarities of cells to centroids; sums of the ridge regression; what is
subtracted from the cells) and N K exponentials. All rounds of an iteration share the similarities.
Rates are measured on arrays that stay in the cache, with all threads at work: memory traffic, the
sums of the rounds and whatever a program does besides are not in the floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from harmonypy_lite.kernels.jit import kernel
from harmonypy_lite.kernels.lanes import exp_row
from harmonypy_lite.kernels.product import LANES, multiply, multiply_transposed

#: Cells in one product.
CHUNKS = (256, 512, 1024)
#: Exponentials in one array: 16 KB.
IN_CACHE = 4096
_SECONDS, _TIMES = 0.05, 3

Products = dict[str, Callable[[], object]]


@kernel
def _exponentials(x, times, out):
    """out_i = exp(x_i - r), again and again."""
    for r in range(times):
        exp_row(x, 0, np.float32(r) * np.float32(1e-3), out, 0)


def measure(n_clusters: int, n_dims: int, threads: int) -> dict[str, Any]:
    """Return GFLOP/s of each product, by BLAS and by the package, and exponentials per second."""
    from threadpoolctl import threadpool_limits

    flop = 2 * n_clusters * n_dims
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        rates: dict[str, dict[str, float]] = {}
        for chunk in CHUNKS:
            for kind, make in (("blas", _by_blas), ("package", _by_package)):
                for product in make(chunk, n_clusters, n_dims):
                    calls = [make(chunk, n_clusters, n_dims)[product] for _ in range(threads)]
                    rate = _per_second(pool, calls) * chunk * flop / 1e9
                    best = rates.setdefault(product, {})
                    best[kind] = max(best.get(kind, 0.0), rate)
        exponentials = _per_second(pool, [_exponential_call() for _ in range(threads)])
    return {"gflops": rates, "exponentials": exponentials * IN_CACHE * 100}


def seconds(rates: dict[str, Any], n_cells: int, n_clusters: int, n_dims: int) -> dict[str, float]:
    """Return the floor of one iteration."""
    flop = 2 * n_cells * n_clusters * n_dims
    products = sum(flop / (1e9 * max(by.values())) for by in rates["gflops"].values())
    exponentials = n_cells * n_clusters / rates["exponentials"]
    return {
        "products": products,
        "exponentials": exponentials,
        "iteration": products + exponentials,
    }


def _by_blas(n: int, K: int, d: int) -> Products:
    u, Yt, R, W = _random(n, d), _random(d, K), _random(n, K), _random(K, d)
    similarities, moments, moved = (np.empty(s, np.float32) for s in ((n, K), (K, d), (n, d)))
    return {
        "similarity": lambda: np.dot(u, Yt, similarities),
        "ridge": lambda: np.dot(R.T, u, moments),
        "correction": lambda: np.dot(R, W, moved),
    }


def _by_package(n: int, K: int, d: int) -> Products:
    """As the package calls its own kernels: widths are filled up with zeros."""
    K_wide, d_wide = (-(-width // LANES) * LANES for width in (K, d))
    u, Yt, R, W = _random(n, d), _random(d, K_wide), _random(n, K_wide), _random(K, d_wide)
    similarities, moments, moved = (
        np.empty(shape, np.float32) for shape in ((n, K_wide), (d, K_wide), (n, d_wide))
    )
    return {
        "similarity": lambda: multiply(u, Yt, similarities),
        "ridge": lambda: multiply_transposed(u, R, moments),
        "correction": lambda: multiply(R, W, moved),
    }


def _exponential_call() -> Callable[[], object]:
    x, out = -10 * np.abs(_random(1, IN_CACHE)), np.empty((1, IN_CACHE), np.float32)
    return lambda: _exponentials(x, 100, out)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _per_second(pool: ThreadPoolExecutor, calls: list[Callable[[], object]]) -> float:
    """Return calls per second of all threads together, the best of a few tries."""
    for call in calls:
        call()  # compiled and in the cache

    def count(call: Callable[[], object]) -> float:
        done, began = 0, time.perf_counter()
        while (now := time.perf_counter()) - began < _SECONDS:
            for _ in range(20):
                call()
            done += 20
        return done / (now - began)

    return max(sum(pool.map(count, calls)) for _ in range(_TIMES))
