"""Files damaged at random: done, or refused in words; no crash, no trace, no other file written.

A hundred mutants in the usual run, always the same; HARMONYPY_LITE_MUTANTS=2000 makes so many more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import mutants
import numpy as np
import pytest
from files import sha256, small_file
from systems import linux

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams

MORE = int(os.environ.get("HARMONYPY_LITE_MUTANTS", "0"))
SHARES = {"h5ad": 0.6, "zarr": 0.15, "model": 0.15, "message": 0.1}
FAST = HarmonyParams(max_iter_harmony=1, n_clusters=2)


@linux("forks a child for each mutant, and limits its memory")
@pytest.mark.parametrize("kind", mutants.KINDS)
def test_mutants__are_done_or_refused_with_the_place(kind: str, tmp_path: Path) -> None:
    if kind == "zarr":
        pytest.importorskip("zarr")
    n = round(SHARES[kind] * (100 + MORE))
    words = [sys.executable, "-W", "ignore", mutants.__file__, str(tmp_path), kind, "0", str(n)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60 + 60 * n)
    assert done.returncode == 0, done.stderr
    *wrong, last = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    print(kind, last)
    assert not wrong
    assert last["mutants"] == n
    assert n / 10 < last["refused"] < n  # mutations that never harm, or always, would show nothing
    assert last["HDF5 hangs"] <= n / 50


def aliased(path: Path, how: str, outside: Path) -> None:
    """Let the place of the result be the embedding that is read, or an array of another file."""
    with h5py.File(path, "r+") as file:
        obsm = file["obsm"]
        if how == "soft":
            obsm["X_pca_harmony"] = h5py.SoftLink("/obsm/X_pca")
        elif how == "hard":
            obsm["X_pca_harmony"] = obsm["X_pca"]
        elif how == "external":
            obsm["X_pca_harmony"] = h5py.ExternalLink(str(outside), "/obsm/X_pca")
        elif how == "storage":
            obsm.create_dataset("X_pca_harmony", (90, 6), "f4", external=[(str(outside), 0, 2160)])
        else:
            layout = h5py.VirtualLayout((90, 6), "f4")
            layout[:] = h5py.VirtualSource(str(outside), "obsm/X_pca", (90, 6))
            obsm.create_virtual_dataset("X_pca_harmony", layout)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("how", ["soft", "hard", "external", "storage", "virtual"])
def test_old_result__that_is_another_array_is_replaced_and_not_written_into(
    tmp_path: Path, how: str, in_place: bool
) -> None:
    path, outside = small_file(tmp_path / "cells.h5ad"), small_file(tmp_path / "other.h5ad")
    aliased(path, how, outside)
    before = sha256(outside)
    with h5py.File(path) as file:
        embedding = file["obsm/X_pca"][:]
    done = integrate_file(path, "donor", params=FAST, overwrite=True, in_place=in_place)
    with h5py.File(done.path) as file:
        np.testing.assert_array_equal(file["obsm/X_pca"][:], embedding)
        assert not np.array_equal(file["obsm/X_pca_harmony"][:], embedding)
    assert sha256(outside) == before


@pytest.mark.parametrize("name", ["obsm", "uns"])
@pytest.mark.parametrize("in_place", [False, True])
def test_group__in_another_file_is_refused(tmp_path: Path, name: str, in_place: bool) -> None:
    path, outside = small_file(tmp_path / "cells.h5ad"), small_file(tmp_path / "other.h5ad")
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(outside), name)
    before = sha256(path), sha256(outside)
    with pytest.raises(InvalidInput, match=f"{name} in .*cells.h5ad is a link into another file"):
        integrate_file(path, "donor", params=FAST, in_place=in_place)
    assert (sha256(path), sha256(outside)) == before


def test_cells__claimed_beyond_the_size_of_the_file_are_refused(tmp_path: Path) -> None:
    path = small_file(tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        for name in ("obs/_index", "obs/donor/codes", "obsm/X_pca"):
            part = file[name]
            if isinstance(part, h5py.Group):  # how anndata 0.13 writes the texts of pandas 3
                kind, tail = h5py.string_dtype(), ()
                attributes = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
            else:
                kind, tail, attributes = part.dtype, part.shape[1:], dict(part.attrs)
            del file[name]
            made = file.create_dataset(name, (2**33, *tail), kind, chunks=(1000, *tail))
            made.attrs.update(attributes)
    with pytest.raises(InvalidInput, match=r"cells\.h5ad claims 8589934592 cells"):
        integrate_file(path, "donor", params=FAST)
