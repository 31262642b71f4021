"""Files that are integrated on disk: the same output as in memory; killed runs; several files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import twin
from click.testing import CliRunner, Result
from files import anndata_06_file, anndata_07_file, sha256, small_adata, small_file
from systems import posix

from harmonypy_lite import scratch
from harmonypy_lite.cells import arrangement
from harmonypy_lite.cli import program
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.io import integrate_file, integrate_files, plan_files
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

FAST = HarmonyParams(max_iter_harmony=2, n_clusters=3, early_stop=False)
MODES = ("fast", "lean", "scratch")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_file(tmp_path / "cells.h5ad")


def result_of(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["obsm/X_pca_harmony"][...]


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def call(*words: Any) -> Result:
    return CliRunner().invoke(program, [str(word) for word in words])


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_modes__write_the_same_file(
    tmp_path: Path, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrangement, "CHUNK", 20)
    path = small_file(tmp_path / "a.h5ad", compression=compression)
    written = set()
    for mode in MODES:
        done = integrate_file(
            path, ["donor", "chemistry"], params=FAST, memory=mode, overwrite=True
        )
        assert (done.choice.mode, done.choice.asked, done.resumed) == (mode, True, False)
        written.add(sha256(done.path))
    assert len(written) == 1
    assert entries(tmp_path) == ["a.h5ad", "a_harmony.h5ad"]


@pytest.mark.parametrize("make", [anndata_06_file, anndata_07_file])
def test_scratch__reads_old_layouts(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "old.h5ad")
    wanted = result_of(
        integrate_file(path, ["donor", "chemistry"], params=FAST, memory="fast").path
    )
    done = integrate_file(
        path, ["donor", "chemistry"], params=FAST, memory="scratch", out=tmp_path / "out.h5ad"
    )
    assert result_of(done.path).tobytes() == wanted.tobytes()


def test_scratch__missing_values_and_one_batch_are_handled_as_in_memory(tmp_path: Path) -> None:
    adata = small_adata()
    adata.obs["part"] = pd.Categorical(["x", None, "y"] * 30)
    adata.obs["one"] = "same"
    adata.write_h5ad(tmp_path / "a.h5ad")
    for mode in ("fast", "scratch"):
        with pytest.raises(InvalidInput, match="missing values in 30 of 90 cells"):
            integrate_file(tmp_path / "a.h5ad", "part", memory=mode, overwrite=True)
        how: dict[str, Any] = {"memory": mode, "overwrite": True, "params": FAST}
        done = integrate_file(tmp_path / "a.h5ad", "part", missing="level", **how)
        assert done.summary["covariates"] == {"part": 3}
        with (
            pytest.warns(HarmonyWarning, match="nothing to correct"),
            pytest.warns(HarmonyWarning, match="left out"),
        ):
            done = integrate_file(tmp_path / "a.h5ad", "one", **how)
        np.testing.assert_array_equal(result_of(done.path), adata.obsm["X_pca"])
    assert entries(tmp_path) == ["a.h5ad", "a_harmony.h5ad"]


def test_memory__decides_and_the_summary_says_so(path: Path) -> None:
    done = call("integrate", path, "-k", "donor", "--n-clusters", 3, "--memory", "1G", "--json")
    told = json.loads(done.stdout)
    assert told["memory"]["mode"] == "fast"
    assert told["memory"]["allowed"] == 2**30
    words = ["integrate", path, "-k", "donor", "--n-clusters", 3, "--overwrite"]
    done = call(*words, "--memory", "100M")
    assert done.exit_code == 0, done.output
    assert "the cells in scratch files; about 48" in done.stdout
    assert "of 104.9 MB allowed" in done.stdout
    done = call(*words, "--memory", "much")
    assert done.exit_code == 2
    assert "give a size, such as 2G" in done.stderr
    done = call(*words)
    assert "the cells and their affinities in memory; about " in done.stdout


def test_plan__says_what_is_needed_and_does_nothing(path: Path, tmp_path: Path) -> None:
    done = call("integrate", path, "-k", "donor", "--plan")
    assert done.exit_code == 0, done.output
    for said in ["90 cells x 6, 3 levels, 3 clusters", "fast", "lean", "scratch", "chosen"]:
        assert said in done.stdout
    assert f"Scratch files would go to {tmp_path.resolve()}, which has " in done.stdout
    done = call("integrate", path, "-k", "donor", "--plan", "--scratch", tmp_path / "absent")
    assert (done.exit_code, "absent, for scratch files, does not exist" in done.stderr) == (2, True)
    told = json.loads(call("integrate", path, "-k", "donor", "--plan", "--json").stdout)
    assert (told["n_cells"], told["n_levels"], told["mode"]) == (90, 3, "fast")
    assert told["modes"]["scratch"]["scratch"] > 90 * 6 * 8
    assert entries(tmp_path) == ["cells.h5ad"]
    load, choice = plan_files([path], "donor", memory="lean")
    assert (load.n_dims, choice.mode) == (6, "lean")
    assert call("integrate", path, "-k", "dono", "--plan").exit_code == 2


def test_scratch__too_little_space_is_found_before_the_work(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    free = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _folder: free)
    with pytest.raises(InvalidInput, match="Not enough space"):
        integrate_file(path, "donor", memory="scratch", scratch=tmp_path / "disk")
    monkeypatch.undo()
    with pytest.raises(InvalidInput, match="does not exist or cannot be written"):
        integrate_file(path, "donor", memory="scratch", scratch=tmp_path / "absent")
    assert entries(tmp_path) == ["cells.h5ad", "disk"]
    assert entries(tmp_path / "disk") == []


def test_scratch__ctrl_c_while_files_are_removed_leaves_none_and_says_what_is_there(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = shutil.rmtree, []

    def rmtree(folder: Path, **how: Any) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(folder, **how)

    monkeypatch.setattr(scratch.shutil, "rmtree", rmtree)
    done = call("integrate", path, "-k", "donor", "--n-clusters", 3, "--memory", "scratch")
    assert done.exit_code == 130
    assert f"Interrupted. {tmp_path / 'cells_harmony.h5ad'} is complete." in done.stderr
    assert entries(tmp_path) == ["cells.h5ad", "cells_harmony.h5ad"]


# Several files.


def split_files(folder: Path) -> tuple[list[Path], anndata.AnnData]:
    """Write the cells of one object to three files of uneven size and different encodings."""
    adata = small_adata(200)
    adata.obs["lane"] = np.arange(200) % 3
    parts = [adata[:30].copy(), adata[30:150].copy(), adata[150:].copy()]
    parts[1].obs["donor"] = parts[1].obs["donor"].astype(str)
    parts[2].obsm["X_pca"] = parts[2].obsm["X_pca"].astype(np.float64)
    paths = [folder / f"{i}.h5ad" for i in range(3)]
    for part, path in zip(parts, paths, strict=True):
        part.write_h5ad(path)
    return paths, adata


@pytest.mark.parametrize("memory", MODES)
@pytest.mark.parametrize("key", ["donor", "lane", "chemistry"])
def test_several_files__are_integrated_as_one(tmp_path: Path, memory: str, key: str) -> None:
    paths, adata = split_files(tmp_path)
    wanted = integrate_embedding(adata.obsm["X_pca"], adata.obs[[key]], FAST).embedding
    done = integrate_files(paths, key, params=FAST, memory=memory)
    found = [result_of(each.path) for each in done]
    assert [len(each) for each in found] == [30, 120, 50]
    assert np.concatenate(found).tobytes() == wanted.tobytes()
    assert [each.path.name for each in done] == [f"{i}_harmony.h5ad" for i in range(3)]
    assert anndata.read_h5ad(done[1].path).uns["harmony"]["n_cells"] == 200


def test_several_files__go_into_a_folder_or_are_refused(tmp_path: Path) -> None:
    paths, _ = split_files(tmp_path)
    (tmp_path / "out").mkdir()
    words = ["integrate", *paths, "-k", "donor", "--n-clusters", 3]
    done = call(*words, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["input"] == [str(path) for path in paths]
    assert entries(tmp_path / "out") == [f"{i}_harmony.h5ad" for i in range(3)]
    done = call(*words, "-i")
    assert done.stdout.count("obsm['X_pca_harmony'] in") == 3
    for more, said in [
        (["-o", tmp_path / "x.h5ad"], "is no folder"),
        (["--preprocess"], "works on one file"),
        ([paths[0]], "given twice"),
    ]:
        refused = call(*words, *more)
        assert refused.exit_code == 2, more
        assert said in refused.stderr
    with h5py.File(paths[1], "r+") as file:
        narrow = file["obsm/X_pca"][:, :4]
        del file["obsm/X_pca"]
        file["obsm/X_pca"] = narrow
    refused = call(*words, "-o", tmp_path / "out", "--overwrite")
    assert "different numbers of dimensions" in refused.stderr


# Runs that are killed.


def large_file(path: Path, n: int = 60_000) -> Path:
    """Write enough cells for a run of some seconds."""
    Z, frame = twin.simulated(n, 20, "crossed")
    frame.index = frame.index.astype(str)
    anndata.AnnData(obs=frame, obsm={"X_pca": np.array(Z)}).write_h5ad(path)
    return path


SLOW = ["--n-clusters", "50", "--max-iter-harmony", "5", "--no-early-stop", "-j", "1"]


def _heed_signals() -> None:
    """Undo what nohup and & leave to a child: signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def started(path: Path, *how: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "harmonypy_lite", "integrate", str(path), "-k", "batch"]
    return subprocess.Popen(
        [*words, "-k", "chemistry", *SLOW, "--memory", "scratch", *how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_signals,
    )


def scratch_of(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name.startswith(".harmonypy-lite-")]


def wait_for(process: subprocess.Popen, folder: Path, n_bytes: int) -> None:
    """Wait until a run has written so many bytes of answers."""
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        for held in scratch_of(folder):
            answers = held / "answers"
            if answers.exists() and answers.stat().st_size >= n_bytes:
                return
        time.sleep(0.005)
    raise AssertionError(process.communicate())


@posix("a child that heeds signals")
def test_kill__is_resumed_to_the_same_bytes_and_a_changed_input_is_not(tmp_path: Path) -> None:
    path = large_file(tmp_path / "a.h5ad")
    process = started(path, "-o", str(tmp_path / "wanted.h5ad"))
    process.communicate(timeout=120)
    assert process.returncode == 0
    for n_bytes in (100_000, 900_000):
        process = started(path, "-o", str(tmp_path / "out.h5ad"), "--resume")
        wait_for(process, tmp_path, n_bytes)
        process.kill()
        process.communicate()
        assert len(scratch_of(tmp_path)) == 1
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    process = started(path, "-o", str(tmp_path / "out.h5ad"), "--resume")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "other input files (or they were changed since)" in errors
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    process = started(path, "-o", str(tmp_path / "out.h5ad"), "--resume", "--theta", "3")
    assert "had other parameters" in process.communicate(timeout=60)[1]
    process = started(path, "-o", str(tmp_path / "out.h5ad"), "--resume", "-v")
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "a killed run was resumed" in said
    assert sha256(tmp_path / "out.h5ad") == sha256(tmp_path / "wanted.h5ad")
    known = int(errors.split(" answers were known")[0].split()[-1])
    assert known > 20, "the run began anew"
    assert entries(tmp_path) == ["a.h5ad", "out.h5ad", "wanted.h5ad"]


@posix("signals to a child")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals__remove_the_scratch_files(tmp_path: Path, number: int) -> None:
    path = large_file(tmp_path / "a.h5ad")
    process = started(path)
    wait_for(process, tmp_path, 100_000)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signal.Signals(number)]
    assert entries(tmp_path) == ["a.h5ad"]


@posix("additions in place")
def test_kill__of_an_addition_in_place_is_resumed_to_the_same_file(tmp_path: Path) -> None:
    path, plain = large_file(tmp_path / "a.h5ad"), tmp_path / "plain.h5ad"
    shutil.copyfile(path, plain)
    process = started(plain, "-i")
    process.communicate(timeout=120)
    assert process.returncode == 0
    before, size = sha256(path), path.stat().st_size
    moments = ["answers", "adding", "answers", "adding", "adding"]
    for moment in moments:
        process = started(path, "-i", "--resume")
        if moment == "answers":
            wait_for(process, tmp_path, 200_000)
        while moment == "adding" and path.stat().st_size == size and process.poll() is None:
            pass
        process.kill()
        process.communicate()
        with h5py.File(path) as file:
            assert "X_pca_harmony" not in file["obsm"]
        assert len(scratch_of(tmp_path)) == 1
    process = started(path, "-i", "--resume")
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "a killed run was resumed" in said
    assert sha256(path) == sha256(plain) != before
    assert entries(tmp_path) == ["a.h5ad", "plain.h5ad"]
