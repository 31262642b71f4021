"""Two runs on one file at once: one of them is refused, and nothing of the other is harmed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import filelock
import pytest
from files import sha256, small_adata, small_file, snapshot

from harmonypy_lite import io
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import appending, claim, output
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams

FAST = HarmonyParams(max_iter_harmony=1, n_clusters=3)
BUSY = "Another run is writing"


def integrate(path: Path, **how: Any) -> Any:
    return integrate_file(path, "donor", params=FAST, **how)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_file(tmp_path / "cells.h5ad")


SLOW_RUN = """
import sys, time
from harmonypy_lite import io
real = io.write_results
def slow(*args, **more):
    print("running", flush=True)
    sys.stdin.readline()
    real(*args, **more)
io.write_results = slow
from harmonypy_lite.cli import main
sys.argv[1:] = ["integrate", *sys.argv[1:], "-k", "donor", "--max-iter-harmony", "1"]
main()
"""


@pytest.fixture
def slow_run(path: Path) -> Any:
    """Start a process that integrates `path`, and waits before it writes."""
    started = []

    def start(*how: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SLOW_RUN, str(path), "--n-clusters", "3", *how]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, **pipes))
        assert started[0].stdout.readline() == "running\n", started[0].stderr.read()
        return started[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [{}, {"in_place": True}, {"memory": "scratch"}])
def test_second_run__is_refused_and_the_first_is_done(
    path: Path, tmp_path: Path, slow_run: Callable, how: dict[str, Any]
) -> None:
    words = {"in_place": ["-i"], "memory": ["--memory", "scratch"]}
    first = slow_run(*(word for name in how for word in words[name]))
    with pytest.raises(InvalidInput, match=BUSY):
        integrate(path, **how)
    with pytest.raises(InvalidInput, match=BUSY):
        integrate(path, overwrite=True, **how)
    _, errors = first.communicate("go\n", timeout=60)
    assert first.returncode == 0, errors
    made = path if how.get("in_place") else tmp_path / "cells_harmony.h5ad"
    assert "obsm/X_pca_harmony" in snapshot(made)
    assert entries(tmp_path) == sorted({"cells.h5ad", made.name})


def test_second_run__into_another_file_is_done(
    path: Path, tmp_path: Path, slow_run: Callable
) -> None:
    first = slow_run()
    other = integrate(path, out=tmp_path / "other.h5ad").path
    first.communicate("go\n", timeout=60)
    assert sha256(other) != sha256(path)
    assert entries(tmp_path) == ["cells.h5ad", "cells_harmony.h5ad", "other.h5ad"]


def test_lock__of_a_killed_run_locks_nothing(
    path: Path, tmp_path: Path, slow_run: Callable
) -> None:
    first = slow_run()
    assert ".cells_harmony.h5ad.lock" in entries(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    integrate(path)
    assert entries(tmp_path) == ["cells.h5ad", "cells_harmony.h5ad"]


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_second_run__of_a_zarr_store_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    store = tmp_path / "cells.zarr"
    small_adata().write_zarr(store)
    [target] = output.plan_all([store], None, in_place=True)
    with claim.claimed([target]), pytest.raises(InvalidInput, match=BUSY):
        integrate(store, in_place=True)
    integrate(store, in_place=True)
    assert "X_pca_harmony" in anndata.read_zarr(store).obsm
    assert entries(tmp_path) == ["cells.zarr"]


def test_output__made_since_it_was_looked_for_is_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = io.claimed

    def later(targets: Any) -> Any:
        targets[0].path.write_text("of another run")
        return real(targets)

    monkeypatch.setattr(io, "claimed", later)
    with pytest.raises(InvalidInput, match="has just written"):
        integrate(path)
    assert (tmp_path / "cells_harmony.h5ad").read_text() == "of another run"
    assert entries(tmp_path) == ["cells.h5ad", "cells_harmony.h5ad"]


def test_lock__that_was_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with claim.locked(lock, "busy"):
        # as who came before it was removed, and takes it afterwards
        handle = os.open(lock, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with claim.locked(lock, "busy"):
        assert lock.stat().st_ino != os.fstat(handle).st_ino
        with pytest.raises(InvalidInput, match="busy"), claim.locked(lock, "busy"):
            raise AssertionError("two hold it")
    os.close(handle)


def test_file_system__without_locks_is_worked_on_without(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_args: Any, **_more: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    assert integrate(path).path.exists()


def test_take_back__leaves_an_append_that_is_at_work_alone(path: Path) -> None:
    noted = appending.note(path)
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        file.write(b"half of a new part")
        file.flush()
        with pytest.raises(OSError, match="open in another program"):
            appending.take_back(path, noted)
        assert path.stat().st_size == noted["size"] + 18
    appending.take_back(path, noted)
    assert path.stat().st_size == noted["size"]
