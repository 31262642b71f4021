from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest
from files import small_file

from harmonypy_lite.compilation import compile_clock


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_compile_clock__counts_what_is_compiled_and_nothing_else():
    @numba.njit
    def twice(x):
        return 2 * x

    with compile_clock() as seconds:
        assert seconds() == 0
        twice(1)
        first = seconds()
        assert first > 0
        twice(2)
    twice(1.5)  # compiled anew, after the clock was put away
    assert seconds() == first


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_summary__says_that_the_first_run_compiles_and_that_the_next_does_not(tmp_path):
    path = small_file(tmp_path / "cells.h5ad")
    words = [sys.executable, "-m", "harmonypy_lite", "integrate", str(path), "-k", "donor"]
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    told = [
        subprocess.run(
            [*words, "-o", str(tmp_path / f"{run}.h5ad"), "--max-iter-harmony", "1"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for run in ("first", "second")
    ]
    assert "of it compiling, on the first run only" in told[0]
    assert "compiling" not in told[1]
