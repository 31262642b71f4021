"""Full disks, kills and signals: the output is complete or absent, the input is never harmed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest
from files import N_CELLS, changes, sha256, small_file, snapshot
from systems import posix

from harmonypy_lite import run
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import elements, output
from harmonypy_lite.io import integrate_file
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

FAST = HarmonyParams(max_iter_harmony=2, n_clusters=3)
RESULT = "obsm/X_pca_harmony"


def integrate(path, **how):
    return integrate_file(path, "donor", params=FAST, **how)


@pytest.fixture
def path(tmp_path):
    return small_file(tmp_path / "cells.h5ad")


@pytest.fixture
def no_work(monkeypatch):
    """Let the test fail when the integration starts."""

    def started(*_args, **_more):
        raise AssertionError("the work started before the check")

    monkeypatch.setattr(run, "integrate_embedding", started)


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.endswith(".partial")]


@pytest.mark.usefixtures("no_work")
def test_disk__too_little_space_is_found_before_the_work(path, monkeypatch, tmp_path):
    free = shutil.disk_usage(tmp_path)._replace(free=path.stat().st_size)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _folder: free)
    with pytest.raises(InvalidInput, match=r"Not enough space.*free.*-o FILE"):
        integrate(path)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


@posix("ioctl")
def test_disk__blocks_are_shared_where_the_file_system_can(path, monkeypatch, tmp_path):
    import fcntl

    calls = []

    def share(new, request, old):
        calls.append(request)
        os.pwrite(new, os.pread(old, 10**8, 0), 0)

    monkeypatch.setattr(fcntl, "ioctl", share)
    free = shutil.disk_usage(tmp_path)._replace(free=(16 << 20) + N_CELLS * 6 * 4)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda _folder: free)
    monkeypatch.setattr(output.shutil, "copyfile", None)  # would fail if it was called
    assert RESULT in snapshot(integrate(path).path)
    assert calls == [0x40049409, 0x40049409]


@pytest.mark.parametrize(
    ("in_place", "where"),
    [
        *(
            (False, each)
            for each in ("copyfile", "write_array", "write_record", "fsync", "replace")
        ),
        *((True, each) for each in ("write_array", "write_record", "fsync")),
        pytest.param(True, "pwrite", marks=posix("additions in place")),
    ],
)
def test_failure__in_the_middle_of_writing_leaves_no_trace(
    path, monkeypatch, tmp_path, in_place, where
):
    holder = {"copyfile": output.shutil, "write_array": elements, "write_record": elements}
    real = getattr(holder.get(where, output.os), where)

    def full(*args, **more):
        if "(2, 2)" in str([getattr(a, "shape", "") for a in args]) or "text" in args[-1:]:
            return real(*args, **more)  # the rehearsal of an addition in place
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(holder.get(where, output.os), where, full)
    before = sha256(path)
    with pytest.raises(OSError, match="No space left"):
        integrate(path, in_place=in_place)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]
    assert sha256(path) == before


def test_failure__ctrl_c_in_the_middle_of_writing_leaves_no_trace(path, monkeypatch, tmp_path):
    def interrupt(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(elements, "write_record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        integrate(path)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


def test_failure__an_input_that_changes_during_the_run_is_not_mixed_up(path, monkeypatch, tmp_path):
    def change(*args, **more):
        small_file(path, compression="gzip")
        return integrate_embedding(*args, **more)

    monkeypatch.setattr(run, "integrate_embedding", change)
    with pytest.raises(RuntimeError, match="changed by another program"):
        integrate(path)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


SLOW_WRITER = """
import signal, sys, time
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # nohup and & let them be ignored
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
from harmonypy_lite.files import elements
real = elements.write_record
def slow(group, name, record):
    real(group, name, record)
    if "text" in record or name != "harmony":  # a rehearsal, or a part of the record
        return
    group.file.flush()
    print("writing", flush=True)
    time.sleep(60)
elements.write_record = slow
from harmonypy_lite.cli import main
sys.argv[1:] = ["integrate", *sys.argv[1:], "--max-iter-harmony", "1", "--n-clusters", "3"]
main()
"""


def killed_while_writing(path, number, *how):
    """Start the program on `path`, send it a signal in the middle of writing."""
    command = [sys.executable, "-c", SLOW_WRITER, str(path), "--key", "donor", *how]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "writing\n", process.stderr.read()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@posix("SIGKILL")
@pytest.mark.parametrize("in_place", [False, True])
def test_kill__in_the_middle_of_writing_harms_nothing(path, tmp_path, in_place):
    before, size = snapshot(path), path.stat().st_size
    code, _ = killed_while_writing(path, signal.SIGKILL, *(["-i"] if in_place else []))
    assert code == -signal.SIGKILL
    assert changes(before, snapshot(path)) == set()
    assert not (tmp_path / "cells_harmony.h5ad").exists()
    # the file was being written indeed
    assert (path.stat().st_size > size) == in_place
    assert len(leftovers(tmp_path)) == (not in_place)
    assert RESULT in snapshot(integrate(path, in_place=in_place).path)


@posix("signals to a child")
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("SIGINT", 130, "Interrupted. Nothing was written."),
        ("SIGTERM", 143, "Ended by signal 15. Nothing was written."),
        ("SIGHUP", 129, "Ended by signal 1. Nothing was written."),
    ],
)
def test_signals__remove_what_was_half_written(path, tmp_path, name, code, said):
    before = sha256(path)
    found, errors = killed_while_writing(path, getattr(signal, name))
    assert (found, errors.strip()) == (code, said)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]
    assert sha256(path) == before


def test_signals__the_old_handlers_come_back(path):
    from click.testing import CliRunner

    from harmonypy_lite.cli import program

    before = signal.getsignal(signal.SIGTERM)
    how = ["integrate", str(path), "-k", "donor", "--max-iter-harmony", "1"]
    assert CliRunner().invoke(program, how).exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is before
