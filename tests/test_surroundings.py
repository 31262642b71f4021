"""Odd surroundings: environment variables, no home, caches, forks, threads, clocks, small disks.

Each run is a process of its own, and must end with the bytes of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd
import pytest
from files import sha256, small_file
from systems import posix

from harmonypy_lite import scratch
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

FAST = HarmonyParams(max_iter_harmony=2, n_clusters=5, n_jobs=2)

# The text of a program is that of a function, so that this process gets the wanted bytes from it.
PROGRAM = """
import hashlib
import numpy as np
import pandas as pd
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding
FAST = HarmonyParams(max_iter_harmony=2, n_clusters=5, n_jobs=2)
def digest(seed=0):
    Z = np.random.default_rng(seed).normal(size=(600, 8)).astype(np.float32)
    batch = pd.DataFrame({"batch": np.arange(600) % 3})
    return hashlib.sha256(integrate_embedding(Z, batch, FAST).embedding.tobytes()).hexdigest()
"""


def digest(seed: int = 0) -> str:
    Z = np.random.default_rng(seed).normal(size=(600, 8)).astype(np.float32)
    batch = pd.DataFrame({"batch": np.arange(600) % 3})
    return hashlib.sha256(integrate_embedding(Z, batch, FAST).embedding.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def wanted() -> str:
    return digest()


def told(code: str = "print(digest())", before: Sequence[str] = (), **env: str | None) -> str:
    """Run `code` after the program in a process with a changed environment; None removes."""
    changed = {**os.environ, **{name: value for name, value in env.items() if value is not None}}
    for name in (name for name, value in env.items() if value is None):
        changed.pop(name, None)
    command = [*before, sys.executable, "-W", "ignore", "-c", PROGRAM + code]
    how: dict[str, Any] = {"env": changed, "cwd": "/"}  # not beside the package
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


THREADS_OF_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ODD_THREADS = ["0", "-3", "10000", "abc", "1.5", ""]


@pytest.mark.parametrize("value", ODD_THREADS)
def test_threads_of_blas__set_oddly_change_no_byte(wanted: str, value: str) -> None:
    assert told(**dict.fromkeys(THREADS_OF_BLAS, value)) == wanted


@pytest.mark.parametrize("value", ["10000", "abc", "1.5", ""])
def test_variables_of_numba__set_oddly_change_no_byte(wanted: str, value: str) -> None:
    assert told(NUMBA_NUM_THREADS=value, NUMBA_THREADING_LAYER=value or "none") == wanted


def program(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harmonypy_lite", *words]
    how: dict[str, Any] = {"env": {**os.environ, **env}, "cwd": folder}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **how)


INTEGRATE = ("integrate", "cells.h5ad", "-k", "donor", "--max-iter-harmony", "1")


@pytest.mark.parametrize("names", [THREADS_OF_BLAS, ("NUMBA_NUM_THREADS",)])
@pytest.mark.parametrize("value", ODD_THREADS)
def test_threads__set_oddly_trouble_no_user_of_the_program(
    tmp_path: Path, names: Sequence[str], value: str
) -> None:
    path = small_file(tmp_path / "cells.h5ad")
    done = program(tmp_path, *INTEGRATE, **dict.fromkeys(names, value))
    refused = "NUMBA_NUM_THREADS" in names and value in ("0", "-3")
    assert done.returncode == (2 if refused else 0), done.stderr
    assert path.with_name("cells_harmony.h5ad").exists() is not refused
    said = f"Error: numba, which compiles the kernels, does not start .*NUMBA_NUM_THREADS={value}"
    assert re.match(said, done.stderr) if refused else done.stderr == ""
    assert "--n-jobs alone" in done.stderr if refused else "stopped" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("score", "cells.h5ad", "-k", "donor"),
        ("sweep", "cells.h5ad", "-k", "donor"),
        ("map", "cells.h5ad", "-m", "absent.h5", "-k", "donor"),
        ("fed", "local", "absent", "cells.h5ad", "--site", "A"),
    ],
    ids=lambda words: words[0],
)
def test_numba__that_does_not_start_is_told_by_every_command(
    tmp_path: Path, words: Sequence[str]
) -> None:
    small_file(tmp_path / "cells.h5ad")
    done = program(tmp_path, *words, NUMBA_NUM_THREADS="0")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: numba, which compiles the kernels, does not start")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cells.h5ad"]


@pytest.mark.parametrize(
    "call",
    [
        "run_harmony(Z, obs, 'donor')",
        "Harmony().fit_transform(Z, obs)",
        "pp.harmony_integrate(adata, 'donor')",
        "tl.sweep_theta(adata, 'donor')",
        "metrics.score(adata, 'donor', embeddings=['X_pca'])",
        "integrate_file('cells.h5ad', 'donor')",
        "HarmonyModel.load('absent.h5')",
    ],
    ids=lambda call: call.split("(")[0],
)
def test_numba__that_does_not_start_is_told_by_every_call(tmp_path: Path, call: str) -> None:
    small_file(tmp_path / "cells.h5ad")
    code = f"""
import anndata, numpy as np, pandas as pd, harmonypy_lite as hl
obs = pd.DataFrame({{"donor": ["a", "b"] * 45}}, index=[str(i) for i in range(90)])
Z = np.random.default_rng(0).normal(size=(90, 6))
adata = anndata.AnnData(obs=obs, obsm={{"X_pca": Z}})
for _ in range(2):
    try: hl.{call}
    except hl.InvalidInput as error: print(error)
"""
    how: dict[str, Any] = {"env": {**os.environ, "NUMBA_NUM_THREADS": "0"}, "cwd": tmp_path}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, **how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("does not start (Number of threads specified must be > 0)") == 2


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "tr_TR.UTF-8"},  # where "I" is not the capital of "i"
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "xx_YY", "TZ": "Nowhere/Atall"},
        {"TZ": "Pacific/Apia", "LC_NUMERIC": "de_DE.UTF-8"},
    ],
    ids=lambda env: " ".join(env.values()),
)
def test_locale_and_zone__change_no_byte(wanted: str, env: dict[str, str]) -> None:
    code = "import locale\ntry: locale.setlocale(locale.LC_ALL, '')\nexcept locale.Error: pass\n"
    assert told(code + "print(digest())", **env) == wanted


def test_clock__that_goes_back_and_far_ahead_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_file(tmp_path / "cells.h5ad")
    params = HarmonyParams(max_iter_harmony=2, n_clusters=3)
    wanted = sha256(integrate_file(path, "donor", params=params, memory="scratch").path)
    clock = iter([2**40, 0.0] * 10_000)
    monkeypatch.setattr("time.time", lambda: next(clock))
    os.utime(path, (2**33, 2**33))  # in the year 2242
    out = tmp_path / "again.h5ad"
    assert (
        sha256(integrate_file(path, "donor", params=params, out=out, memory="scratch").path)
        == wanted
    )


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("home", [None, "/dev/null/home"])
def test_home__is_not_needed(wanted: str, home: str | None, tmp_path: Path) -> None:
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "USER", "LOGNAME")
    env = {**dict.fromkeys(names), "HOME": home}
    path = small_file(tmp_path / "cells.h5ad")
    code = "from harmonypy_lite.io import integrate_file\n"
    code += f"integrate_file({str(path)!r}, 'donor', params=FAST)\nprint(digest())"
    assert told(code, **env) == wanted
    assert path.with_name("cells_harmony.h5ad").exists()


@pytest.fixture
def closed_package(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a copy of the package that nobody may write to."""
    import harmonypy_lite

    home, source = tmp_path / "closed", Path(harmonypy_lite.__file__).parent
    shutil.copytree(source, home / "harmonypy_lite", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [home, *(each for each in home.rglob("*") if each.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield home
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_read_only_install__without_any_cache_works(wanted: str, closed_package: Path) -> None:
    closed: list[str] = []
    if os.getuid() == 0:  # root may write everywhere, unless that is taken from it
        if not shutil.which("setpriv"):
            pytest.skip("root writes everywhere: run this as a user, or install setpriv")
        closed = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
    env = {"NUMBA_CACHE_DIR": None, "HOME": "/dev/null/home", "XDG_CACHE_HOME": None}
    code = "from harmonypy_lite.kernels import lisi, rows, sums\n"
    code += "found = [v for m in (lisi, rows, sums) for v in vars(m).values()]\n"
    code += "made = [each for each in found if hasattr(each, '_cache')]\n"
    code += "assert {v._cache.cache_path for v in made} == {None}, 'there is a cache'\n"
    code += "print(digest())"
    assert told(code, closed, PYTHONPATH=str(closed_package), **env) == wanted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk in memory of a given size, which takes root."""
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("a small disk can be mounted by root only")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_full_disk__of_the_kernel_cache_stops_no_run(wanted: str, small_disk: Callable) -> None:
    assert told(NUMBA_CACHE_DIR=str(small_disk("64k") / "cache")) == wanted


def test_full_disk__during_the_run_leaves_the_input_and_no_trace(
    small_disk: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_disk("2m")
    path = small_file(folder / "cells.h5ad")
    before = sha256(path)
    with contextlib.suppress(OSError), open(folder / "others", "wb", buffering=0) as others:
        while others.write(b"x" * 4096):
            pass
    monkeypatch.setattr("harmonypy_lite.io.output.check_space", lambda *_: 0)
    monkeypatch.setattr(scratch, "_check_space", lambda *_: None)
    for how in ({}, {"in_place": True}, {"memory": "scratch"}):
        with pytest.raises(OSError, match=r"No space left|[Uu]nable to|write failed"):
            integrate_file(path, "donor", params=FAST, **how)
        assert sorted(entry.name for entry in folder.iterdir()) == ["cells.h5ad", "others"]
        assert sha256(path) == before


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes__started_after_a_run_give_the_same_bytes(wanted: str, method: str) -> None:
    # a child that is spawned does not know this file, but it knows eval
    child = f"(lambda space: exec({PROGRAM!r}, space) or space['digest']())({{}})"
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(eval, [child] * 2, timeout=200)) == [wanted] * 2


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib__gives_the_same_bytes(wanted: str, backend: str) -> None:
    code = "import joblib\n"
    code += f"run = joblib.Parallel(n_jobs=2, backend={backend!r})\n"
    code += "print(*set(run(joblib.delayed(digest)() for _ in range(3))))"
    assert told(code) == wanted


def test_python_threads__at_once_give_the_bytes_of_one_after_the_other() -> None:
    alone = [digest(seed) for seed in range(4)]
    meeting = threading.Barrier(4, timeout=60)

    def run(seed: int) -> list[str]:
        meeting.wait()
        return [digest(seed) for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [[each] * 3 for each in alone]


@posix("fork")
def test_fork__while_a_run_is_at_work_gives_the_same_bytes(wanted: str) -> None:
    """A child that is forked from a run's progress callback has none of its threads."""
    code = """
import os
seen = []
def fork(_):
    if not seen:
        seen.append(os.fork())
        if seen[0] == 0:
            os.write(1, digest().encode()); os._exit(0)
Z = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
integrate_embedding(Z, pd.DataFrame({"batch": np.arange(600) % 3}), FAST, progress=fork)
assert os.waitpid(seen[0], 0)[1] == 0
"""
    assert told(code) == wanted
