"""Two runs on one file at once: one of them is refused, and nothing of the other is harmed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import filelock
import pytest
import sites
from click.testing import CliRunner
from files import sha256, small_adata, small_file, snapshot
from systems import posix

from harmonypy_lite import io, map_file
from harmonypy_lite.cli import program
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated.plan import Plan
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
import sys
import {module} as module
real = module.{step}
def slow(*args, **more):
    print("running", flush=True)
    sys.stdin.readline()
    return real(*args, **more)
module.{step} = slow
from harmonypy_lite.cli import main
sys.argv[1:] = {words!r}
main()
"""


@pytest.fixture
def slowly() -> Any:
    """Start the program in a process that waits before it takes a step of a module."""
    started = []

    def start(module: str, step: str, *words: str | Path) -> subprocess.Popen:
        code = SLOW_RUN.format(module=module, step=step, words=[str(word) for word in words])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([sys.executable, "-c", code], text=True, **pipes))
        assert started[-1].stdout.readline() == "running\n", started[-1].stderr.read()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def slow_run(path: Path, slowly: Callable) -> Callable:
    """Start a process that integrates `path`, and waits before it writes."""
    words = ("integrate", path, "-k", "donor", "--max-iter-harmony", "1", "--n-clusters", "3")
    return lambda *how: slowly("harmonypy_lite.io", "write_results", *words, *how)


def finished(process: subprocess.Popen) -> None:
    _, errors = process.communicate("go\n", timeout=60)
    assert process.returncode == 0, errors


def refused(*words: str | Path) -> None:
    done = CliRunner().invoke(program, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"Error: {BUSY}")


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
    finished(first)
    made = path if how.get("in_place") else tmp_path / "cells_harmony.h5ad"
    assert "obsm/X_pca_harmony" in snapshot(made)
    assert entries(tmp_path) == sorted({"cells.h5ad", made.name})


def test_second_run__into_another_file_is_done(
    path: Path, tmp_path: Path, slow_run: Callable
) -> None:
    first = slow_run()
    other = integrate(path, out=tmp_path / "other.h5ad").path
    finished(first)
    assert sha256(other) != sha256(path)
    assert entries(tmp_path) == ["cells.h5ad", "cells_harmony.h5ad", "other.h5ad"]


def test_lock__of_a_killed_run_locks_nothing(
    path: Path, tmp_path: Path, slow_run: Callable
) -> None:
    first = slow_run()
    assert ".cells_harmony.h5ad.lock" in entries(tmp_path)
    first.kill()
    first.communicate()
    integrate(path)
    assert entries(tmp_path) == ["cells.h5ad", "cells_harmony.h5ad"]


@pytest.fixture
def model(path: Path) -> Path:
    found = path.with_name("model.h5")
    integrate(path, out=path.with_name("first.h5ad"), save_model=found)
    return found


@pytest.mark.parametrize("ends", ["done", "killed"])
def test_second_map__is_refused_and_the_first_is_done(
    path: Path, model: Path, tmp_path: Path, slowly: Callable, ends: str
) -> None:
    out = tmp_path / "mapped.h5ad"
    words = ("map", path, "-m", model, "--basis", "X_pca", "-o", out)
    before = entries(tmp_path)
    first = slowly("harmonypy_lite.mapped_files", "map_record", *words)
    refused(*words)
    refused(*words, "--overwrite")
    refused("integrate", path, "-k", "donor", "-o", out)
    with pytest.raises(InvalidInput, match=BUSY):
        map_file(path, model, basis="X_pca", out=out)
    if ends == "done":
        finished(first)
    else:
        first.kill()
        first.communicate()
        for left in tmp_path.glob(".harmonypy-lite-*"):  # its scratch files
            shutil.rmtree(left)
        map_file(path, model, basis="X_pca", out=out)
    assert "obsm/X_pca_harmony" in snapshot(out)
    assert entries(tmp_path) == sorted([*before, out.name])


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a federated run that is over, beside its sites."""
    folder = tmp_path_factory.mktemp("sites") / "run"
    sites.run(sites.make(folder.parent, 240, 4), folder, Plan("harmony", sites.SITES, "donor"))
    return folder


@pytest.mark.parametrize("how", ["new", "in place"])
def test_second_apply__is_refused_and_the_first_is_done(
    over: Path, tmp_path: Path, slowly: Callable, how: str
) -> None:
    own = Path(shutil.copy(over.with_name("A.h5ad"), tmp_path))
    private = ("--site", "A", "--private", over.with_name(f"private-{over.name}-A"))
    target = ("-i",) if how == "in place" else ("-o", tmp_path / "out.h5ad")
    words = ("fed", "apply", over, own, *private, *target)
    first = slowly("harmonypy_lite.federated.steps", "apply", *words)
    refused(*words)
    refused(*words, "--overwrite")
    finished(first)
    made = own if how == "in place" else tmp_path / "out.h5ad"
    assert "obsm/X_pca_harmony" in snapshot(made)
    assert entries(tmp_path) == sorted({own.name, made.name})


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


@posix("open files that are removed")
def test_lock__that_was_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    import fcntl

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


@posix("flock")
def test_take_back__leaves_an_append_that_is_at_work_alone(path: Path) -> None:
    import fcntl

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


def test_claims__are_made_in_one_order_so_that_of_two_runs_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    @contextlib.contextmanager
    def noted(lock: Path, _busy: str) -> Iterator[None]:
        taken.append(lock.name)
        yield

    monkeypatch.setattr(claim, "locked", noted)
    targets = [output.Target(tmp_path, tmp_path / name, name, None) for name in ("b", "a")]
    with claim.claimed(targets), claim.claimed(targets[::-1]):
        assert taken == [".a.lock", ".b.lock"] * 2
