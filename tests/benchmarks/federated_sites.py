"""Four sites in processes of their own, over files: the same coordinates as pooled, and the bytes.

    python tests/benchmarks/federated_sites.py [--cells 4000] [--dims 20] [--min-mass 5 10]

One of the sites is killed (SIGKILL) in the middle and started again. Then messages are tampered
with, and the run is repeated, in one process, with clusters withheld.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sites

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import message as messages
from harmonypy_lite.federated import steps
from harmonypy_lite.federated.exchange import Exchange

FED = [sys.executable, "-m", "harmonypy_lite", "fed"]


def fed(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FED, *map(str, args)], capture_output=True, text=True, check=False)


def start(*args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*FED, *map(str, args), "--quiet", "--wait", "120"])


def run(world: sites.World, folder: Path) -> float:
    """Let four processes and one that combines finish a run; return the seconds it took."""
    began = time.perf_counter()
    everyone = [word for name in sites.SITES for word in ("--site", name)]
    done = fed("init", folder, *everyone, "--key", "donor", "--masks")
    assert done.returncode == 0, done.stderr

    def local(name: str) -> subprocess.Popen[bytes]:
        at = world.at(name, folder)
        where = ["--private", at.folder, "--secrets", at.secrets]
        return start("local", folder, at.file, "--site", name, *where, "-j", "1")

    processes = {name: local(name) for name in sites.SITES}
    center = start("combine", folder)
    while not (folder / "C-0016.fed").exists():
        time.sleep(0.02)
    processes["C"].send_signal(signal.SIGKILL)
    assert processes["C"].wait() == -signal.SIGKILL
    processes["C"] = local("C")
    for process in (*processes.values(), center):
        assert process.wait() == 0
    return time.perf_counter() - began


def bytes_sent(folder: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Return the bytes of each site's messages, in the start and per iteration, by site."""
    exchange, before, after = Exchange(folder), Counter[str](), Counter[str]()
    n_iterations = 0
    for step in range(1, exchange.latest() + 1):
        asked = exchange.combined(step - 1)
        assert asked is not None
        ask = asked.facts.get("ask")
        n_iterations += ask == "regress"
        iterating = ask in ("assign", "round", "regress", "correct")
        for name in sites.SITES:
            path = exchange.site_path(name, step)
            if path.exists():
                (after if iterating else before)[name] += path.stat().st_size
    return dict(before), {name: n / n_iterations for name, n in after.items()}


def refusals(finished: Path, scratch: Path) -> list[tuple[str, str]]:
    """Return what `combine` says to each kind of message that is not the one that is due."""
    last = 16

    def halfway(name: str) -> Path:
        def later(_: str, names: list[str]) -> list[str]:
            found = {n: re.fullmatch(r"(\w+)-(\d{4})\.fed", n) for n in names}
            return [n for n, m in found.items() if m and int(m[2]) > last - (m[1] == "combined")]

        shutil.copytree(finished, scratch / name, ignore=later)
        return scratch / name

    def tampered(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(bytes(data))

    def instead(name: str, path: Path) -> None:
        shutil.copy(path.with_name(name), path)

    def foreign(path: Path) -> None:
        sent = messages.read(path)
        messages.write(path, messages.Message(**vars(sent) | {"run": "0" * 32}))

    due = f"B-{last:04d}.fed"
    work = {
        "one bit changed": tampered,
        "the message before it": partial(instead, f"B-{last - 1:04d}.fed"),
        "a message of another site": partial(instead, f"C-{last:04d}.fed"),
        "a message of another run": foreign,
    }
    found = []
    for name, change in work.items():
        folder = halfway(name.replace(" ", "-"))
        change(folder / due)
        try:
            steps.combine(folder)
        except InvalidInput as error:
            found.append((name, str(error).replace(f"{folder}/", "")))
        else:
            raise AssertionError(f"{name} was taken")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--dims", type=int, default=20)
    parser.add_argument("--min-mass", type=float, nargs="*", default=[5.0, 10.0])
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    world = sites.make(scratch, given.cells, given.dims)
    sizes = {name: int((world.site == name).sum()) for name in sites.SITES}
    print(f"{given.cells} cells x {given.dims}, cells of each site: {sizes}")

    seconds = run(world, scratch / "run")
    exchange = Exchange(scratch / "run")
    found = sites.applied(world, scratch / "run")
    Y = sites.centroids_of(scratch / "run")
    wanted, outcome = sites.pooled(world, exchange.plan, Y)
    print(
        f"K = {len(Y)}, {len(outcome.history.rounds)} iterations, {exchange.latest()} exchanges, "
        f"{seconds:.0f} s with site C killed and started again"
    )
    print(
        f"largest difference from the pooled run: {np.abs(found - wanted).max():.2g} "
        f"(the correction moves cells by {np.abs(wanted - world.Z).max():.2g} at most)"
    )

    before, each = bytes_sent(scratch / "run")
    print("| site | bytes sent for the start | per iteration |\n|---|---|---|")
    for name in sites.SITES:
        print(f"| {name} | {before[name]:,} | {each[name]:,.0f} |")

    for least in given.min_mass:
        folder = scratch / f"least-{least:g}"
        sites.run(world, folder, replace(exchange.plan, min_mass=least, masks=False))
        small = sites.applied(world, folder)
        alike, _ = sites.pooled(world, exchange.plan, sites.centroids_of(folder))
        usual = np.linalg.norm(alike - world.Z, axis=1).mean()
        moved = np.linalg.norm(small - alike, axis=1) / usual
        print(
            f"--min-mass {least:g}: cells end elsewhere than in the pooled run by "
            f"{np.median(moved):.2g} (median) and {moved.max():.2g} (largest) of the mean "
            "correction"
        )

    print("| put in place of a site's message | combine says |\n|---|---|")
    for name, said in refusals(scratch / "run", scratch):
        print(f"| {name} | {said} |")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
