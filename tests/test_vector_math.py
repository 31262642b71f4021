from __future__ import annotations

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from harmonypy_lite.kernels import halves, jit, lanes, vectors
from harmonypy_lite.kernels.vector_math import log32


@numba.njit(fastmath=jit._FASTMATH, error_model="numpy")
def _exp(x: np.ndarray, out: np.ndarray) -> None:
    lanes.exp_row(x, 0, np.float32(0.0), out, 0)


@numba.njit(fastmath=jit._FASTMATH, error_model="numpy")
def _log(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.size):
        out[i] = log32(x[i])


def computed(x: np.ndarray) -> np.ndarray:
    """exp(x), for any number of entries: a row has a vector of them at least."""
    row = np.resize(x, max(x.size, vectors.LANES))[None]
    out = np.empty_like(row)
    _exp(row, out)
    return out[0, : x.size]


def halved(x: np.ndarray) -> np.ndarray:
    """exp(x) in 16 bits."""
    row = np.resize(x, max(x.size, vectors.LANES))[None]
    out = np.empty(row.shape, np.uint16)
    _exp(row, out)
    return out[0, : x.size]


def ulps(x: np.ndarray) -> np.ndarray:
    """Error of exp in units of the last place of the true value."""
    exact = np.exp(x.astype(np.float64))
    return np.abs(computed(x) - exact) / np.spacing(exact.astype(np.float32))


def test_exp__in_halves_is_the_nearest_of_eleven_bits() -> None:
    x = np.append(np.linspace(-44.3, 0, 400_001), [-1e-8, -1e-7, -0.0]).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(halves.from_half(halved(x)) / exact - 1).max() < 2.0**-11 * 1.001
    np.testing.assert_array_equal(halved(x), halves.to_half(computed(x)))
    assert (halved(x[-3:]) == 65535).all()


def test_exp__in_halves_ends_at_the_smallest() -> None:
    x = np.array([-44.4, -50, -87, -1e3, -1e30, -np.inf], np.float32)
    assert (halved(x) <= 1).all()


def test_halves__come_back_from_single_precision() -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(halves.to_half(halves.from_half(every)), every)
    assert (np.diff(halves.from_half(every)) > 0).all()


@pytest.mark.parametrize(("low", "high"), [(-20, 0), (-1, 0), (-1e-3, 0)])
def test_exp__is_within_two_units_in_the_last_place(low: float, high: float) -> None:
    x = np.linspace(low, high, 400_001).astype(np.float32)
    assert ulps(x).max() < 2


def test_exp__of_zero_is_one() -> None:
    np.testing.assert_array_equal(computed(np.array([0.0, -0.0], np.float32)), 1)


def test_exp__is_clipped_outside_its_range() -> None:
    x = np.array([-88, -1e4, -1e38, -np.inf], np.float32)
    found = computed(x)
    assert (found == found[0]).all()
    assert 0 < found[0] <= 1.7e-38


def test_log__is_within_two_units_in_the_last_place_of_its_scale() -> None:
    x = np.exp(np.linspace(-87, 88, 400_001)).astype(np.float32)
    out, exact = np.empty_like(x), np.log(x.astype(np.float64))
    _log(x, out)
    # near 1 the logarithm goes through zero: there the error is one of the number itself
    assert np.max(np.abs(out - exact) / np.maximum(np.abs(exact), 1e-3)) < 2.5e-7


def test_exp__is_the_same_for_vectors_and_remainders() -> None:
    x = np.linspace(-30, 0, 67).astype(np.float32)
    whole = computed(x)
    single = np.concatenate([computed(x[i : i + 1]) for i in range(x.size)])
    np.testing.assert_array_equal(whole, single)


def test_exp__and_the_kernels_work_without_a_compiler() -> None:
    code = """
import numpy as np, pandas as pd
from harmonypy_lite.kernels.vector_math import log32
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding
for x in np.linspace(0.01, 100, 501).astype(np.float32):
    assert abs(log32(x) - np.log(np.float64(x))) < 1e-6, x
rng = np.random.default_rng(0)
Z, frame = rng.normal(size=(60, 3)), pd.DataFrame({"batch": ["a", "b"] * 30})
for flavor in ("harmony2", "harmony1"):
    params = HarmonyParams(
        flavor=flavor, n_clusters=3, max_iter_harmony=1, max_iter_clustering=1, early_stop=False,
        n_jobs=1, block_proportion=0.5,
    )
    print(integrate_embedding(Z, frame, params).embedding.astype(float).sum())
"""
    sums = []
    for disable in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "NUMBA_DISABLE_JIT": disable},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-2000:]
        sums.append([float(x) for x in run.stdout.split()])
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-4)


@pytest.mark.parametrize(("low", "high"), [(-87, -20), (0, 88)])
def test_exp__is_within_five_units_to_the_ends_of_its_range(low: float, high: float) -> None:
    assert ulps(np.linspace(low, high, 400_001).astype(np.float32)).max() < 5
