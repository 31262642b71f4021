"""Results added to a file in place: kills at any moment, layouts, and what HDF5 makes of it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from files import anndata_06_file, changes, sha256, small_adata, small_file, snapshot
from systems import posix

from harmonypy_lite.files import appending
from harmonypy_lite.files.appending import NotAppendable, append, note, rehearse, take_back
from harmonypy_lite.files.stores import H5adStore, NewParts
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams

pytestmark = posix("writing to places of files; elsewhere a copy is made")

FAST = HarmonyParams(max_iter_harmony=2, n_clusters=3)
RESULT = "X_pca_harmony"
RECORD = {"adjusted_basis": RESULT, "texts": np.array(["a", "longer"], object), "deep": {"n": 3}}


def parts(value: float = 0.5, n: int = 90) -> NewParts:
    return NewParts({RESULT: np.full((n, 6), value, np.float32)}, uns={"harmony": RECORD})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_file(tmp_path / "cells.h5ad")


def test_append__changes_nothing_but_the_superblock_before_the_old_end(path: Path) -> None:
    before, old = snapshot(path), path.read_bytes()
    H5adStore.append(path, parts())
    new = path.read_bytes()
    differs = [i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
    assert set(differs) <= set(range(40, 96))
    added = changes(before, snapshot(path))
    assert {"obsm/X_pca_harmony", "uns/harmony", "uns/harmony/deep/n"} <= added
    assert all(name.startswith(("obsm/X_pca_harmony", "uns/harmony")) for name in added)
    found = anndata.read_h5ad(path)
    assert found.obsm[RESULT].tolist() == np.full((90, 6), 0.5).tolist()
    assert found.uns["harmony"]["texts"].tolist() == ["a", "longer"]


def test_append__again_and_other_programs_go_on_with_the_file(path: Path) -> None:
    for value in range(5):
        H5adStore.append(path, parts(value))
    with h5py.File(path, "r+") as file:  # HDF5 itself changes the same groups
        file["obsm/mine"] = np.arange(90.0)[:, None]
        file["obsm/mine"].attrs.update(file["obsm/X_pca"].attrs)
        del file["uns/notes"]
        file["obsm/X_pca"][0] = 7
    H5adStore.append(path, parts(9))
    found = anndata.read_h5ad(path)
    assert (found.obsm[RESULT] == 9).all()
    assert (found.obsm["X_pca"][0] == 7).all()
    assert found.obsm["mine"].shape == (90, 1)
    assert "notes" not in found.uns
    found.write_h5ad(path.with_name("copy.h5ad"))


def test_append__keeps_links_and_attributes_of_all_kinds(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["obsm/soft"] = h5py.SoftLink("/obsm/X_pca")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
        file["uns/same"] = file["obsm/X_pca"]
        file["uns"].attrs["texts"] = np.array(["one", "two"], dtype=object)
        file["uns"].attrs["reference"] = file["X"].ref
        file["obsm"].attrs["empty"] = h5py.Empty("f4")
        for i in range(30):  # more members than one node of the group's tree holds
            file[f"obsm/member{i:03}"] = np.full((90, 1), float(i))
    H5adStore.append(path, parts())
    with h5py.File(path) as file:
        assert isinstance(file["obsm"].get("soft", getlink=True), h5py.SoftLink)
        assert file.get("elsewhere", getlink=True).filename == "other.h5"
        assert file["uns/same"] == file["obsm/X_pca"] == file["obsm/soft"]
        assert file["uns"].attrs["texts"].tolist() == ["one", "two"]
        assert file[file["uns"].attrs["reference"]] == file["X"]
        assert isinstance(file["obsm"].attrs["empty"], h5py.Empty)
        assert [file[f"obsm/member{i:03}"][0, 0] for i in range(30)] == list(range(30))


@pytest.mark.parametrize("name", ["kang_ifnb_pbmc", "pbmc_3500_harmonypy"])
def test_append__to_a_real_file_leaves_all_else(real_path: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / "real.h5ad"
    path.write_bytes(real_path(name).read_bytes())
    before = snapshot(path)
    with h5py.File(path) as file:
        n = file["obsm/X_pca"].shape[0] if "obsm/X_pca" in file else 5
    H5adStore.append(path, parts(n=n))
    difference = changes(before, snapshot(path))
    assert all(name.startswith(("obsm/X_pca_harmony", "uns/harmony")) for name in difference)


def latest(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_group("obsm")


def with_user_block(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_group("obsm")


@pytest.mark.parametrize("make", [latest, with_user_block, anndata_06_file])
def test_append__other_layouts_are_told_before_anything_is_written(
    tmp_path: Path, make: Any
) -> None:
    path = tmp_path / "a.h5ad"
    make(path)
    before = sha256(path)
    for rehearsal in (True, False):
        with pytest.raises(NotAppendable):
            H5adStore.append(path, parts(), rehearse=rehearsal)
        assert sha256(path) == before


def test_in_place__other_layouts_are_copied(tmp_path: Path) -> None:
    path = anndata_06_file(tmp_path / "old.h5ad")
    inode = path.stat().st_ino
    integrate_file(path, "donor", params=FAST, in_place=True)
    assert path.stat().st_ino != inode
    with h5py.File(path) as file:
        assert file["obsm/X_pca_harmony"].shape == (90, 6)
    path = small_file(tmp_path / "new.h5ad")
    inode = path.stat().st_ino
    integrate_file(path, "donor", params=FAST, in_place=True)
    assert path.stat().st_ino == inode


def test_rehearse__writes_nothing(path: Path) -> None:
    before, stamp = sha256(path), path.stat()
    H5adStore.append(path, parts(), rehearse=True)
    assert sha256(path) == before
    assert path.stat().st_mtime_ns == stamp.st_mtime_ns


def test_check__what_would_go_astray_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, stamp = sha256(path), path.stat()
    real = appending._link_members
    monkeypatch.setattr(appending, "_link_members", lambda o, n, w: real(o, n, [*w, "X_pca"]))
    with pytest.raises(NotAppendable, match="members of obsm went astray"):
        H5adStore.append(path, parts())
    monkeypatch.undo()

    def elsewhere(self: Any, root: int, end: int) -> bytes:
        return turned(self, root + 8, end)

    turned = appending._Superblock.turned
    monkeypatch.setattr(appending._Superblock, "turned", elsewhere)
    with pytest.raises(NotAppendable, match="would not find its parts"):
        H5adStore.append(path, parts())
    assert sha256(path) == before
    assert path.stat().st_mtime_ns == stamp.st_mtime_ns


def test_append__a_file_that_is_open_elsewhere_is_refused(path: Path) -> None:
    before = sha256(path)
    with h5py.File(path, "r"), pytest.raises(OSError, match="open in another program"):
        H5adStore.append(path, parts())
    assert sha256(path) == before


def test_take_back__only_what_a_killed_append_left(path: Path) -> None:
    noted, before = note(path), sha256(path)
    with open(path, "ab") as file:
        file.write(b"half a result")
    take_back(path, noted)
    assert sha256(path) == before
    assert path.stat().st_mtime_ns == noted["date"]
    H5adStore.append(path, parts())
    complete = sha256(path)
    take_back(path, noted)  # it is not undone
    assert sha256(path) == complete


WRITER = """
import sys
from pathlib import Path
import h5py, numpy as np
from harmonypy_lite.files.elements import Rows
from harmonypy_lite.files.stores import H5adStore, NewParts
path, value = Path(sys.argv[1]), float(sys.argv[2])
print("ready", flush=True)
while True:
    value += 1
    rows = (np.full((500, 50), value, np.float32) for _ in range(40))
    parts = NewParts({"X_pca_harmony": Rows((20_000, 50), np.dtype(np.float32), rows)},
                     uns={"harmony": {"adjusted_basis": "x", "value": value}})
    H5adStore.append(path, parts)
    print(value, flush=True)
"""


def test_kill__at_twenty_random_moments_leaves_the_old_result_or_the_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "cells.h5ad"
    adata = small_adata(20_000)
    adata.write_h5ad(path)
    with h5py.File(path) as file:
        X = file["X/data"][...].tobytes()
    draws, value, torn = random.Random(0), 0.0, 0
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(value)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(draws.uniform(0.0, 0.15))
            process.kill()
            said = [float(line) for line in process.stdout.read().split()]
        done = max([value, *said])
        with open(path, "rb") as raw:
            end = appending._Superblock.read(raw.fileno()).end
        torn += path.stat().st_size > end
        with h5py.File(path) as file:
            assert file["X/data"][...].tobytes() == X
            assert file["obsm/X_pca"].shape == (20_000, 6)
            if "X_pca_harmony" not in file["obsm"]:
                assert done == 0
                continue
            found = np.unique(file["obsm/X_pca_harmony"][...])
            assert found.size == 1
            assert found[0] in (done, done + 1)  # the last may be complete and not said
            assert file["uns/harmony/value"][()] == found[0]
            value = float(found[0])
        assert anndata.read_h5ad(path).n_obs == 20_000
    assert value > 3
    assert torn > 3, "no kill fell into an addition"


def test_append__and_rehearse_hear_what_write_raises(path: Path) -> None:
    before = sha256(path)

    def full(_root: Any) -> None:
        raise OSError("No space left on device")

    for work in (append, rehearse):
        with pytest.raises(OSError, match="No space left"):
            work(path, full, ["obsm/x"])
        assert sha256(path) == before
