"""Machine code on the disk: never that of other sources, whatever file they are in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from harmonypy_lite import errors
from harmonypy_lite.kernels import cache

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")

INNER = """
from harmonypy_lite.kernels.jit import inlined, kernel
CONSTANT = 1
@inlined
def small(x):
    return x + 1
@kernel
def other(x):
    return x + 1
"""
OUTER = """
from harmonypy_lite.kernels.inner import CONSTANT, other, small
from harmonypy_lite.kernels.jit import kernel
@kernel
def outer(x):
    return x + 100 * small(0) + 10 * other(0) + CONSTANT
"""
PROGRAM = """
import sys
from harmonypy_lite.kernels.outer import outer
x = eval(sys.argv[1])
print(outer(x), sum(outer.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the kernels' folder in a package that has two small ones only."""
    found = tmp_path / "harmonypy_lite" / "kernels"
    found.mkdir(parents=True)
    for name in ("__init__.py", "jit.py", "cache.py"):
        shutil.copy(Path(cache.__file__).with_name(name), found)
    shutil.copy(errors.__file__, found.parent)
    (found.parent / "__init__.py").touch()
    (found / "inner.py").write_text(INNER)
    (found / "outer.py").write_text(OUTER)
    return found


def told(package: Path, *words: str) -> str:
    """Return what a program prints that imports this package, and keeps no cache elsewhere."""
    home = str(package.parents[1])
    env = {**os.environ, "PYTHONPATH": home}
    env.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-B", "-c", *words]
    how = {"env": env, "cwd": home, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run(package: Path) -> Callable[[str], tuple[str, bool]]:
    """Return the function that calls `outer` in a process: the result, and if it was cached."""

    def call(x: str = "0") -> tuple[str, bool]:
        result, hits = told(package, PROGRAM, x).split()
        return result, hits == "1"

    return call


def change(file: Path, old: str, new: str) -> None:
    """Write another text of the same length and time, as an upgrade may."""
    text, times = file.read_text(), file.stat()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("def small(x):\n    return x + 1", "def small(x):\n    return x + 2", "211"),
        ("def other(x):\n    return x + 1", "def other(x):\n    return x + 2", "121"),
        ("CONSTANT = 1", "CONSTANT = 2", "112"),
    ],
    ids=["inlined function", "kernel", "constant"],
)
def test_cached_code__is_not_used_when_what_it_was_made_of_has_changed_in_another_file(
    package: Path, run: Callable, old: str, new: str, wanted: str
) -> None:
    assert [run(), run()] == [("111", False), ("111", True)]
    change(package / "inner.py", old, new)
    assert [run(), run()] == [(wanted, False), (wanted, True)]


def test_cached_code__of_other_sources_beside_an_index_of_these_is_not_used(
    package: Path, run: Callable
) -> None:
    run()
    [code] = (package / "__pycache__").glob("outer.outer-*.nbc")
    before = code.read_bytes()
    change(package / "inner.py", "CONSTANT = 1", "CONSTANT = 2")
    run()
    code.write_bytes(before)
    assert [run(), run()] == [("112", False), ("112", True)]


def test_cached_code__for_other_types_is_not_used(package: Path, run: Callable) -> None:
    run("0")
    run("0.5")
    one, two = sorted((package / "__pycache__").glob("outer.outer-*.nbc"))
    integers = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(integers)
    assert run("0.5") == ("111.5", False)
    assert run("0.5") == ("111.5", True)


def test_sources__are_all_files_of_kernels_by_name_and_text(package: Path) -> None:
    program = "from harmonypy_lite.kernels.cache import SOURCES; print(SOURCES)"
    seen = [told(package, program)]
    (package / "third.py").touch()
    seen.append(told(package, program))
    (package / "third.py").rename(package / "fourth.py")
    seen.append(told(package, program))
    assert len({*seen, cache.SOURCES + "\n"}) == 4
    (package / "notes.txt").touch()
    assert told(package, program) == seen[-1]
