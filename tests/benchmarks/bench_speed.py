"""Speed and memory of this package, harmonypy, brisc and scanpy, in one session.

    python tests/benchmarks/bench_speed.py --output results \
        [--sizes pbmc 50k-20 1M-120x870 ...] [--repeats 3] [--threads 2] [--data FOLDER] \
        [--python brisc=PATH/TO/python --python scanpy=PATH/TO/python] [--quick]

Writes speed.md (tables), speed.json (every run, machine, versions) and speed.png. Needs
`pip install ".[bench]"`; brisc and recent scanpy need Python 3.12, so they may be run by another
interpreter. A full run takes tens of minutes on two cores; `--quick` goes through all code in two
minutes on tiny data, with numbers that mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
REPOSITORY = BENCHMARKS.parent.parent
sys.path[:0] = [str(BENCHMARKS), str(REPOSITORY)]

from speed import commands, plot, report, session, workloads  # noqa: E402
from speed.contenders import CONTENDERS  # noqa: E402

from harmonypy_lite import datasets  # noqa: E402

SIZES = (
    *("pbmc", "50k-20", "200k-20", "1M-20", "200k-120", "1M-120", "1M-870", "1M-120x870"),
    *("immune", "codex"),
)
QUICK_SIZES = ("2k-4", "2k-8", "4k-4", "2k-4x6")
PARTS = ("sets", "first-call", "command")


def main() -> None:
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        results = run(options, Path(scratch))
    write(results, options.output)
    if results["sets"]:
        plot.save(results, options.output / "speed.png")
    print(report.page(results))


def run(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run the session; keep what there is after each part in the output folder."""
    here = session.Session(
        scratch,
        options.threads,
        options.repeats,
        options.clusters,
        options.iterations,
        options.rounds,
        options.contenders,
        dict(options.python),
        options.data,
        options.timeout,
    )
    found = here.probe()
    results = {**_circumstances(options), "contenders": found, "sets": []}
    results["versions"] |= {
        CONTENDERS[name].package: each["version"]
        for name, each in found.items()
        if "version" in each
    }
    present = [name for name, each in found.items() if "version" in each]
    for name in options.sizes if "sets" in options.parts else ():
        try:
            results["sets"].append(session.compare(here, name, present))
        except FileNotFoundError as missing:
            print(f"{name} is left out: {missing}", file=sys.stderr)
        write(results, options.output)
    if "first-call" in options.parts:
        results["first_call"] = commands.first_call(here, options.first_call)
    if "command" in options.parts:
        source = (options.data or Path()) / "kang_ifnb_pbmc.h5ad"
        key = "batch"
        if options.quick:
            source, key = REPOSITORY / "data" / "simulated_donors.h5ad", "donor"
        results["whole_command"] = commands.whole_command(here, source, key)
    return results


def write(results: dict[str, Any], to: Path) -> None:
    """Write the table and the numbers."""
    (to / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (to / "speed.md").write_text(report.page(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sizes", nargs="+", metavar="SET", help="; ".join([*workloads.REAL, "or as 200k-120x9"]))
    add("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all by default")
    add("--repeats", type=int, help="turns; 3 by default")
    add("--threads", type=int, default=2)
    add("--clusters", type=int, help="K; 100 by default")
    add("--iterations", type=int, default=4)
    add("--rounds", type=int, default=4)
    add("--python", action="append", type=_assignment, default=[], metavar="CONTENDER=PATH")
    add("--data", type=Path, help="folder of the real sets; by default HARMONYPY_LITE_DATA")
    add("--scratch", type=Path, help="where a folder for the data is made; 0.5 GB per 1M cells")
    add("--timeout", type=float, default=3600.0, help="seconds that one process may take")
    add("--output", type=Path, default=BENCHMARKS / "results")
    add("--quick", action="store_true", help="tiny data, to see that everything works")
    options = parser.parse_args()
    quick = options.quick
    options.sizes = options.sizes or list(QUICK_SIZES if quick else SIZES)
    options.repeats = options.repeats or (1 if quick else 3)
    options.clusters = options.clusters or (20 if quick else 100)
    options.first_call = "2k-4" if quick else "5k-20"
    sibling = REPOSITORY.parent / "shared" / "data"
    options.data = options.data or datasets.folder() or (sibling if sibling.is_dir() else None)
    for name in options.sizes:
        if name not in workloads.REAL:
            try:
                workloads.simulated_shape(name)
            except ValueError as error:
                parser.error(str(error))
    return options


def _assignment(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator or name not in CONTENDERS or not Path(path).exists():
        raise argparse.ArgumentTypeError(f"{text!r}: give CONTENDER=PATH of an interpreter")
    return name, path


def _circumstances(options: argparse.Namespace) -> dict[str, Any]:
    settings = {
        "threads": options.threads,
        "repeats": options.repeats,
        "n_clusters": options.clusters,
        "iterations": options.iterations,
        "rounds": options.rounds,
    }
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("numpy", "scipy", "numba")}
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"date": date, "settings": settings, "machine": _machine(), "versions": versions}


def _machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    memory = "memory unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
