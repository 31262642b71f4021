"""The results as a markdown page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from speed import figures
from speed.contenders import CONTENDERS
from speed.figures import Row

Results = dict[str, Any]  # what `bench_speed.py` writes as JSON

EXPLANATION = """\
Every number is a median over fresh processes that took turns (A B C A B C ...). A process loads the
data, calls the program on a small part of it (imports and compiling are over then), then on all of
it (*first call*), and is timed in the next such calls. The first is when the system finds the
memory: seconds per GB in a virtual machine, a tenth of that elsewhere. All programs do the same
number of iterations and rounds, with the same number of threads; early stopping is off.

- *faster*: harmonypy's median over this one's; likewise, in brackets, of the first call.
- *CPUs*: CPU seconds per second.
- *above input*: peak resident memory during the call minus what was resident before it, with the
  input loaded. Results count, in whatever type and number the program returns them.
- *own objective*: what the program reports; in square brackets, its formula is another one.
  Turns have seeds of their own: the range of an objective or a LISI is the noise of the seed.
- *objective anew*: Harmony's objective of new clusters on the result, one function for all, on at
  most 20,000 cells; lower is better. *LISI*: median of harmonypy's `compute_lisi` on at most 5,000
  cells; batch: higher is better mixed; type: 1 is best. The first line is the input itself.
- *floor*: what the arithmetic of one iteration takes at the speed of this machine: three products
  of 2 N K d operations (similarities, ridge sums, correction), each at the best of BLAS and the
  package's kernel on arrays in the cache, and N K exponentials; all threads at work."""


def page(results: Results) -> str:
    """Return the whole page."""
    parts = [
        "# Speed and memory",
        _machine(results),
        EXPLANATION,
        "## Figures",
        _table(["figure", "value", "aim"], list(key_figures(results))),
    ]
    for comparison in results["sets"]:
        levels = " x ".join(map(str, comparison["n_levels"]))
        shape = f"{comparison['n_cells']:,} cells x {comparison['n_dims']}, {levels} levels"
        parts += [f"## {comparison['name']}: {shape} ({comparison['origin']})"]
        parts += [_comparison(comparison), _floor(comparison)]
    parts += [_absent(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(results: Results) -> str:
    machine, settings = results["machine"], results["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{results['date']}. {machine['cpu']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['system']}; load when the session began {machine['load']:.1f}.\n"
        f"{settings['threads']} threads, K = {settings['n_clusters']}, {settings['iterations']} "
        f"iterations of {settings['rounds']} rounds, {settings['repeats']} turns.\n{versions}."
    )


def _comparison(comparison: figures.Comparison) -> str:
    given = {name: [value] for name, value in comparison["input_scores"].items()}
    lisi = [name for name in given if name.startswith("lisi_")]
    header = ["program", "seconds (min-max)", "faster", "first call", "s per iteration"]
    header += ["iterations", "CPUs", "above input", "bytes per cell"]
    header += [
        "own objective",
        "objective anew",
        *(f"LISI {n.removeprefix('lisi_')}" for n in lisi),
    ]
    first = ["input", *[""] * 9, *_scores(given, lisi)]
    lines = [[*_cells(row), *_scores(row.scores, lisi)] for row in figures.rows(comparison)]
    notes = [
        f"{CONTENDERS[contender].label}: {runs[-1].get('unavailable') or runs[-1].get('failed')}."
        for contender, runs in comparison["runs"].items()
        if runs and "seconds" not in runs[-1]
    ]
    same = figures.same_bytes(comparison)
    if same is not None:
        word = "the same" if same else "**not the same**"
        notes.append(f"The results of harmonypy_lite with any memory and threads: {word} bytes.")
    return "\n\n".join([_table(header, [first, *lines]), *notes])


def _cells(row: Row) -> list[str]:
    contender = CONTENDERS[row.contender]
    own = _range(row.objective, ".2f")
    rounds = "" if not row.rounds else f" x {'/'.join(map(str, sorted(set(row.rounds))))}"
    return [
        contender.label,
        f"{row.seconds:.3f} ({row.least:.3f}-{row.most:.3f})",
        _number(row.faster, ".2f"),
        f"{row.first:.3f} ({_number(row.first_faster, '.2f')})",
        _number(row.per_iteration, ".4f"),
        "?" if row.iterations is None else f"{row.iterations}{rounds}",
        f"{row.cpus:.2f}",
        f"{row.peak / 1e6:,.0f} MB",
        f"{row.bytes_per_cell:,.0f}",
        own if contender.objective_as_ours or not own else f"[{own}]",
    ]


def _scores(scores: dict[str, Any], lisi: list[str]) -> list[str]:
    return [
        _range(scores["objective_anew"], ".2f"),
        *(_range(scores[name], ".3f") for name in lisi),
    ]


def _floor(comparison: figures.Comparison) -> str:
    floor = comparison["floor"]
    if "seconds" not in floor:
        return f"Floor: {floor.get('failed', 'not measured')}."
    rates = "; ".join(
        f"{product} {by['blas']:.0f} by BLAS, {by['package']:.0f} by the package"
        for product, by in floor["gflops"].items()
    )
    seconds = floor["seconds"]
    ratios = (
        (CONTENDERS[row.contender].label, figures.over_floor(comparison, row.contender))
        for row in figures.rows(comparison)
        if not CONTENDERS[row.contender].one_thread
    )
    over = ", ".join(f"{label} {ratio:.2f}" for label, ratio in ratios if ratio is not None)
    return (
        f"Floor of one iteration: {seconds['iteration']:.4f} s = products "
        f"{seconds['products']:.4f} + exponentials {seconds['exponentials']:.4f} "
        f"(GFLOP/s: {rates}; {floor['exponentials'] / 1e9:.2f} exponentials per ns). "
        f"Times the floor: {over}."
    )


def key_figures(results: Results) -> Iterator[list[str]]:
    """Yield name, value and aim of the figures that the sets of this session allow."""
    by_name = {each["name"]: each for each in results["sets"]}
    for name, contender, aim in (
        ("pbmc", "lite", "1"),
        ("200k-120", "lite", "10"),
        ("1M-20", "lite", "12"),
        ("1M-20", "lite-lean", "7"),
        ("1M-120x870", "lite", "8"),
    ):
        row = figures.row(by_name.get(name), contender)
        if row is not None and row.faster is not None:
            label = CONTENDERS[contender].label
            yield [f"{name}, {label}: times as fast as harmonypy", f"{row.faster:.2f}", f">= {aim}"]
    yield from _against_brisc(by_name.get("1M-20"))
    for name, contender, aim in (("1M-20", "lite", "650"), ("1M-20", "lite-lean", "250")):
        row = figures.row(by_name.get(name), contender)
        if row is not None:
            what = f"{name}, {CONTENDERS[contender].label}: bytes per cell above the input"
            yield [what, f"{row.bytes_per_cell:.0f}", f"<= {aim}"]
    yield from _growth(results["sets"])
    yield from _commands(results)


def _against_brisc(comparison: figures.Comparison | None) -> Iterator[list[str]]:
    ours, theirs = figures.row(comparison, "lite"), figures.row(comparison, "brisc")
    if ours is None or theirs is None or not ours.per_iteration or not theirs.per_iteration:
        return
    ratio = theirs.per_iteration / ours.per_iteration
    yield ["1M-20: times as fast as brisc, per iteration", f"{ratio:.2f}", ">= 6"]


def _growth(sets: list[figures.Comparison]) -> Iterator[list[str]]:
    for each in sets:
        floor, threads = figures.over_floor(each), figures.speed_of_threads(each)
        aims = ("<= 1.8", ">= 1.85") if each["name"] == "1M-20" else ("", "")
        if floor is not None:
            yield [f"{each['name']}: times the floor", f"{floor:.2f}", aims[0]]
        if threads is not None:
            yield [f"{each['name']}: 1 thread to all, times as fast", f"{threads:.2f}", aims[1]]
    for contender in ("lite", "harmonypy"):
        label, aim = CONTENDERS[contender].label, "<= 1.03" if contender == "lite" else ""
        exponent = figures.exponent_in_cells(sets, contender)
        if exponent is not None:
            yield [f"{label}: exponent of seconds in cells", f"{exponent:.3f}", aim]
        levels = figures.growth_in_levels(sets, contender)
        if levels is not None:
            fewest, most = levels["levels"]
            what = f"{label}: more time from {fewest} to {most} levels, {levels['n_cells']:,} cells"
            aim = "<= 25 %" if contender == "lite" else ""
            yield [what, f"{100 * levels['ratio'] - 100:.0f} %", aim]


def _commands(results: Results) -> Iterator[list[str]]:
    first, whole = results.get("first_call"), results.get("whole_command")
    if first is not None:
        what = f"first run ever ({first['name']}), above a warm one"
        value = first.get("failed") or (
            f"{first['compiling']:.1f} s ({first['cold']:.1f} against {first['warm']:.1f})"
        )
        yield [what, value, "<= 12 s"]
    if whole is not None:
        what = f"whole command on {whole['file']}: times as fast as anndata + harmonypy"
        value = whole.get("failed")
        if value is None:
            seconds = whole["seconds"].values()
            value = f"{whole['ratio']:.2f} ({' against '.join(f'{s:.2f} s' for s in seconds)}"
            value += f"; scanpy {'is' if whole['imports_scanpy'] else 'not'} imported)"
        yield [what, value, ">= 1"]


def _absent(results: Results) -> str:
    lines = [
        f"- {CONTENDERS[name].label}: {found.get('unavailable') or found.get('failed')}"
        for name, found in results["contenders"].items()
        if "version" not in found
    ]
    return "\n".join(["## Not taking part", "", *lines]) if lines else ""


def _range(values: list[float], form: str) -> str:
    if not values:
        return ""
    low, middle, high = (
        format(value, form) for value in (min(values), statistics.median(values), max(values))
    )
    return middle if low == high else f"{middle} ({low}-{high})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))
