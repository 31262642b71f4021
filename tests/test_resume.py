"""A run that was killed goes on where it was, to the same bytes; scratch files come and go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import twin

from harmonypy_lite import scratch, stream
from harmonypy_lite.cells import arrangement
from harmonypy_lite.cells.journal import _decode, _encode
from harmonypy_lite.cells.on_disk import OnDiskCells
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.method.passes import Assigned, Moments
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding
from harmonypy_lite.scratch import file_system, scratch_folder

IDENTITY = {"paths": ["/a.h5ad"], "keys": ["donor"], "basis": "X_pca", "parameters": {"theta": 2}}


class Killed(BaseException):
    """Stands for a kill: nothing is cleaned up, what was written is there."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "CHUNK", 300)


class Case:
    """One run and its wanted result."""

    def __init__(self, flavor: str, layout: str, folder: Path) -> None:
        self.Z, frame = twin.simulated(900, 6, layout)
        self.params = HarmonyParams(
            flavor=flavor,
            n_clusters=7,
            max_iter_harmony=3,
            max_iter_clustering=2,
            early_stop=False,
            block_proportion=0.4,
            batch_prune_threshold=0.05,
            n_jobs=2,
        )
        self.design, self.folder = design_from_columns(frame), folder
        self.wanted = integrate_embedding(self.Z, frame, self.params).embedding.tobytes()

    def run(self) -> bytes:
        with stream.integrate_stream(
            self.Z, self.design, self.params, self.folder, n_rows=250, journal=True
        ) as done:
            return np.concatenate(list(done.batches)).tobytes()


def killed_at(monkeypatch: pytest.MonkeyPatch, n_passes: int) -> Any:
    """Let the backend die in its n-th pass, half done: some of the chunks are written."""
    real_run, real_store = OnDiskCells.run, OnDiskCells._store
    calls = {"run": 0, "store": 0}

    def run(self: OnDiskCells, *task: Any) -> Any:
        calls["run"] += 1
        answer = real_run(self, *task)
        if calls["run"] > n_passes:  # it worked, but nobody heard the answer
            raise Killed
        return answer

    def store(self: OnDiskCells, *what: Any) -> None:
        calls["store"] += 1
        if calls["run"] == n_passes + 1 and calls["store"] % 3 == 0:
            raise Killed
        real_store(self, *what)

    patch = pytest.MonkeyPatch()
    patch.setattr(OnDiskCells, "run", run)
    patch.setattr(OnDiskCells, "_store", store)
    return patch


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("layout", ["one", "three"])
@pytest.mark.parametrize("flavor", ["harmony2", "harmony1"])
def test_resume__gives_the_same_bytes_from_every_pass(
    flavor: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(flavor, layout, tmp_path / "once")
    case.folder.mkdir()
    passes = 0
    reads = []
    real_read = stream._read
    monkeypatch.setattr(stream, "_read", lambda *a: reads.append(1) or real_read(*a))
    while True:  # each run dies one or two passes after the place where it took up the work
        patch = killed_at(monkeypatch, 1 + passes % 2)
        try:
            found = case.run()
        except Killed:
            passes += 1
            continue
        finally:
            patch.undo()
        break
    assert found == case.wanted
    assert passes > 10
    assert len(reads) == 1, "the input is read once, whatever happens"


def test_resume__reads_again_after_a_restart_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("harmony2", "crossed", tmp_path)
    patch = killed_at(monkeypatch, 9)
    with pytest.raises(Killed):
        case.run()
    patch.undo()
    os.truncate(tmp_path / "cells.f32", 100)  # the machine lost what it had not written yet
    with open(tmp_path / "answers", "r+b") as answers:
        answers.seek(-5, os.SEEK_END)
        answers.write(b"12345")  # and the last record is damaged
    monkeypatch.setattr(scratch, "_boot", lambda: "another start of the machine")
    assert case.run() == case.wanted


def test_answers__come_back_with_their_values_and_their_place_in_memory() -> None:
    draws = np.random.default_rng(0)
    direction = draws.integers(-9, 9, (3, 4)).T
    one = Assigned(
        2, np.arange(3), draws.integers(0, 99, (3, 4)), 0.1, direction, draws.normal(size=2)
    )
    none = Assigned(0, np.arange(0), np.zeros((0, 4), np.int64), 0.0, None)
    moments = draws.normal(size=(4, 5, 6)).transpose(2, 0, 1)

    def same(found: Any, wanted: Any) -> None:
        assert type(found) is type(wanted)
        if wanted is None:
            return
        np.testing.assert_array_equal(found, wanted)
        if isinstance(wanted, np.ndarray):
            assert found.dtype == wanted.dtype
            assert found.strides == wanted.strides or not wanted.size

    answers: list[Any] = [
        one,
        none,
        Moments(moments, None, None),
        Moments(moments, moments, one[2]),
    ]
    for wanted in answers:
        found = _decode(_encode(wanted))
        for value, given in zip(found, wanted, strict=True):
            same(value, given)
    both = _decode(_encode([one, none]))
    assert [each.block for each in both] == [2, 0]
    same(both[0].direction, one.direction)
    same(_decode(_encode(None)), None)
    same(_decode(_encode(direction)), direction)


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_scratch_folder__is_gone_at_the_end(tmp_path: Path, error: type | None) -> None:
    def use() -> None:
        with scratch_folder(tmp_path, IDENTITY, 10, resume=False) as folder:
            assert folder.path.stat().st_mode & 0o777 == 0o700
            (folder.path / "cells").write_text("x")
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert entries(tmp_path) == []


def left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the scratch files of a killed run."""
    with monkeypatch.context() as patch:
        patch.setattr(scratch.shutil, "rmtree", lambda *_, **__: None)
        with scratch_folder(folder, IDENTITY, 10, resume=False) as made:
            (made.path / "cells").write_text("x")


def test_scratch_folder__is_taken_up_or_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch_folder(tmp_path, IDENTITY, 10, resume=True) as folder:
        assert not folder.resumed  # there is nothing: the run starts
    left_behind(tmp_path, monkeypatch)
    with scratch_folder(tmp_path, IDENTITY, 10, resume=True) as folder:
        assert folder.resumed
        assert (folder.path / "cells").read_text() == "x"
    left_behind(tmp_path, monkeypatch)
    with scratch_folder(tmp_path, IDENTITY, 10, resume=False) as folder:
        assert not folder.resumed
        assert not (folder.path / "cells").exists()


def test_scratch_folder__of_another_run_is_not_resumed_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(tmp_path, monkeypatch)
    other = IDENTITY | {"parameters": {"theta": 3}}
    with (
        pytest.raises(InvalidInput, match="had other parameters"),
        scratch_folder(tmp_path, other, 10, resume=True),
    ):
        raise AssertionError("another run was resumed")
    with scratch_folder(tmp_path, IDENTITY, 10, resume=True) as folder:
        assert folder.resumed


def test_scratch_folder__serves_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        scratch_folder(tmp_path, IDENTITY, 10, resume=False),
        pytest.raises(InvalidInput, match="Another run is at work"),
        scratch_folder(tmp_path, IDENTITY, 10, resume=False),
    ):
        raise AssertionError("two runs share a folder")
    assert entries(tmp_path) == []


def no_space(folder: Path) -> Iterator[None]:
    with scratch_folder(folder, IDENTITY, 2**60, resume=False):
        yield


def test_scratch_folder__too_little_space_and_no_folder_are_said_before_the_work(
    tmp_path: Path,
) -> None:
    with pytest.raises(InvalidInput, match=r"Not enough space for scratch files: .* TB"):
        next(no_space(tmp_path))
    assert entries(tmp_path) == []
    with pytest.raises(InvalidInput, match="does not exist or cannot be written"):
        next(no_space(tmp_path / "absent"))


def test_scratch_folder__in_memory_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts, folder = tmp_path / "mounts", tmp_path / "my files" / "deep"
    folder.mkdir(parents=True)
    at = str(tmp_path / "my files").replace(" ", "\\040")
    lines = ["/dev/a / ext4 rw 0 0", f"tmp {at} tmpfs rw,size=9 0 0", f"x {at}x xfs rw 0 0"]
    mounts.write_text("\n".join(lines))
    assert file_system(folder, mounts) == "tmpfs"
    assert file_system(tmp_path, mounts) == "ext4"
    mounts.write_text("\n".join([*lines, f"/dev/b {at} btrfs rw 0 0"]))
    assert file_system(folder, mounts) == "btrfs"
    mounts.write_bytes(b"x /no\xfftext xfs rw 0 0\n" + "\n".join(lines).encode())
    assert file_system(folder, mounts) == "tmpfs"
    monkeypatch.setattr(scratch, "file_system", lambda _folder: "tmpfs")
    said = r"is kept in memory \(tmpfs\): the 2.0 kB of scratch files count there"
    with (
        pytest.warns(HarmonyWarning, match=said),
        scratch_folder(tmp_path, IDENTITY, 2000, resume=False),
    ):
        pass
