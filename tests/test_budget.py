"""Which way to hold the cells is chosen, and from what."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from systems import linux

from harmonypy_lite import budget
from harmonypy_lite.budget import Load, available_memory, choose, parse_size, release_freed
from harmonypy_lite.datasets import simulate
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.io import plan_files
from harmonypy_lite.params import HarmonyParams

MILLION = Load(1_000_000, 50, 100, 20, 1, 2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2G", 2**31),
        ("2g", 2**31),
        ("1.5 GiB", 3 * 2**29),
        ("10K", 10240),
        (7, 7),
        ("3TB", 3 << 40),
    ],
)
def test_parse_size__reads_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "2X", "-1G", "G", "fastest", "0", "1e9", True])
def test_parse_size__refuses_what_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="give a size, such as 2G"):
        parse_size(text)


def test_choose__takes_the_fastest_way_that_fits() -> None:
    needed = {mode: MILLION.memory(mode) for mode in budget.MODES}
    assert needed["fast"] > needed["lean"] > needed["scratch"]
    for mode, size in needed.items():
        found = choose(MILLION, size)
        assert (found.mode, found.needed, found.allowed, found.asked) == (mode, size, size, False)
    assert choose(MILLION, needed["lean"] - 1).mode == "scratch"
    assert choose(MILLION, 1).mode == "scratch"
    assert choose(MILLION, 1, may_stream=False).mode == "lean"
    assert choose(MILLION, "fast").asked


def test_choose__takes_half_of_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_memory", lambda: 2 * MILLION.memory("lean"))
    assert choose(MILLION).mode == "lean"
    assert choose(MILLION).allowed == MILLION.memory("lean")


def test_load__counts_affinities_and_combinations_of_levels() -> None:
    halves = replace(MILLION, affinity_bytes=2)
    assert MILLION.memory("fast") - halves.memory("fast") == 200 * 10**6
    assert MILLION.memory("lean") == halves.memory("lean")
    crossed = replace(MILLION, n_combinations=1000)
    for mode in budget.MODES:
        assert crossed.memory(mode) - MILLION.memory(mode) == 3 * 8 * 100 * 1000


def test_load__counts_no_more_tables_than_threads_may_hold() -> None:
    few, many = (replace(MILLION, n_combinations=10**5, n_threads=n) for n in (4, 64))
    sums = 8 * 100 * (20 * 50 + 10**5)  # six threads' sums fit
    assert many.memory("fast") - few.memory("fast") == (budget.MOST_TABLES // sums - 4) * sums


@pytest.mark.parametrize(("theta", "needed"), [(2.0, 2), (40.0, 4)])
def test_plan__knows_levels_combinations_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theta: float, needed: int
) -> None:
    monkeypatch.setattr("harmonypy_lite.method.form._MANY", 0)
    cells = simulate(n_cells=300, n_batches=3)
    cells.obs["half"] = np.where(cells.obs["batch"] == cells.obs["batch"].iloc[0], "a", "b")
    cells.write_h5ad(tmp_path / "a.h5ad")
    params = HarmonyParams(theta=theta)
    load, _ = plan_files([tmp_path / "a.h5ad"], ["batch", "half"], params=params)
    assert (load.n_levels, load.n_combinations, load.affinity_bytes) == (5, 3, needed)
    load, _ = plan_files([tmp_path / "a.h5ad"], "batch", params=params)
    assert (load.n_levels, load.n_combinations, load.affinity_bytes) == (3, 0, needed)


def test_load__memory_on_disk_does_not_grow_with_the_cells() -> None:
    more = Load(100_000_000, 50, 100, 20, 1, 2)
    assert more.memory("scratch") == MILLION.memory("scratch") < 700 * 10**6
    assert more.memory("lean") > 50 * MILLION.memory("lean") / 2
    assert more.disk("scratch") > 4e10 > 5e8 > MILLION.disk("scratch") > 4e8
    assert more.disk("lean") == 0
    assert more.seconds("scratch") == pytest.approx(100 * MILLION.seconds("scratch"))


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_available_memory__hears_the_limits_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    group(proc, cgroup="0::/outer/inner\n")
    group(root)
    assert budget._of_containers(proc, root) == []
    stat = "anon 5\ninactive_file 300\nactive_file 7\n"
    inner = root / "outer" / "inner"
    group(inner, memory__max="max\n", memory__current="900", memory__stat=stat)
    assert budget._of_containers(proc, root) == []
    group(root / "outer", memory__max="1000\n", memory__current="900", memory__stat=stat)
    assert budget._of_containers(proc, root) == [400]
    group(inner, memory__max="200")
    assert budget._of_containers(proc, root) == [0, 400]
    (proc / "cgroup").write_bytes(b"0::/outer/no\xfftext\n")
    assert budget._of_containers(proc, root) == [400]
    monkeypatch.setattr(budget, "_of_containers", lambda: [0, 400])
    assert available_memory() == 1


def test_available_memory__hears_the_first_version_of_control_groups(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    group(proc, cgroup="9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    group(
        root / "memory",  # in a container its own group is mounted at the root
        memory__limit_in_bytes="5000",
        memory__usage_in_bytes="4500",
        memory__stat="total_inactive_file 250\n",
    )
    assert budget._of_containers(proc, root) == [750]
    group(root / "memory", memory__limit_in_bytes="9223372036854771712")
    assert budget._of_containers(proc, root) == []


def test_available_memory__is_that_of_the_machine_at_most() -> None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("this system has no /proc/meminfo")
    found = re.search(r"MemTotal:\s+(\d+)", meminfo.read_text())
    assert found is not None
    assert 0 < available_memory() <= int(found[1]) * 1024


@linux("/proc")
def test_release_freed__gives_freed_memory_back():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1])

    pieces = [bytearray(100_000) for _ in range(300)]  # too small to be mapped by themselves
    last = bytearray(100_000)  # what lies behind them, so that the heap cannot just shrink
    del pieces
    before = resident()
    release_freed()
    assert before - resident() > 5000  # pages, of 7300
    assert len(last) == 100_000
