"""Kill runs that write into their input, at random moments; look at the file; resume.

    python tests/benchmarks/kill_in_place.py --folder DIR [--cells 200000] [--kills 20]

Half of the kills come at any moment of the run, half after the file began to grow. After each the
file must open with all that it held, and hold the whole result or nothing of it; the resumed run
must end with the bytes of one that nobody killed. Ends with an error if that is not so.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from bench_memory import make_input


def started(path: Path) -> subprocess.Popen:
    """Start the run that is to be killed, or resumed."""
    words = ["integrate", path, "-k", "donor", "--memory", "scratch", "-i", "--resume", "-q"]
    return subprocess.Popen([sys.executable, "-m", "harmonypy_lite", *map(str, words)])


def contents(path: Path) -> dict[str, str]:
    """Return a digest of each part of a file, by its name."""
    found: dict[str, str] = {}

    def see(name: str, part: h5py.Group | h5py.Dataset) -> None:
        own = hashlib.sha256(repr(sorted((k, str(v)) for k, v in part.attrs.items())).encode())
        if isinstance(part, h5py.Dataset):
            values = np.asarray(part[()])
            text = repr(values.tolist()).encode()
            own.update(values.tobytes() if values.dtype != object else text)
        found[name] = own.hexdigest()

    with h5py.File(path) as file:
        file.visititems(see)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait(process: subprocess.Popen, path: Path, size: int, moment: float, *, growing: bool) -> None:
    """Wait for the moment of the kill."""
    if growing:
        while process.poll() is None and path.stat().st_size == size:
            pass
    end = time.perf_counter() + moment
    while process.poll() is None and time.perf_counter() < end:
        time.sleep(min(0.001, moment))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    source, path = given.folder / "kills.h5ad", given.folder / "kills_copy.h5ad"
    make_input(source, given.cells)
    shutil.copyfile(source, path)
    before, size = contents(source), source.stat().st_size
    began = time.perf_counter()
    if started(path).wait():
        raise SystemExit("the run that nobody killed failed")
    took, wanted, after = time.perf_counter() - began, digest(path), contents(path)
    draws = random.Random(0)
    outcomes = {"old": 0, "new": 0, "resumed": 0}
    for i in range(given.kills):
        shutil.copyfile(source, path)
        process = started(path)
        growing = i % 2 == 1
        moment = draws.uniform(0, 0.1 if growing else took)
        wait(process, path, size, moment, growing=growing)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = contents(path)  # it opens
        if found not in (before, after):
            raise SystemExit(f"kill {i} ({moment:.3f} s, {growing=}): parts are lost or not whole")
        outcomes["new" if found == after else "old"] += 1
        if found == before:
            outcomes["resumed"] += started(path).wait() == 0
            if digest(path) != wanted:
                raise SystemExit(f"kill {i} ({moment:.3f} s, {growing=}): other bytes")
        for left in given.folder.glob(".harmonypy-lite-*"):
            shutil.rmtree(left)
    print(f"{given.cells:,} cells, {took:.1f} s undisturbed, {given.kills} kills: {outcomes}")
    for each in (source, path):
        each.unlink()


if __name__ == "__main__":
    main()
