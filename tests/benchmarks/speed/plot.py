"""The results as a figure: seconds over cells, how much faster, and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speed import figures
from speed.contenders import CONTENDERS

#: Okabe and Ito's colours: told apart by everyone.
_COLOURS = {
    "lite": "#D55E00",
    "lite-lean": "#E69F00",
    "lite-1": "#CC79A7",
    "harmonypy": "#0072B2",
    "brisc": "#009E73",
    "scanpy": "#56B4E9",
}
_MARKERS = {"lite": "o", "lite-lean": "s", "lite-1": "v", "harmonypy": "D", "brisc": "^"}


def save(results: dict[str, Any], path: Path) -> None:
    """Draw `results` into the file `path`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sets = results["sets"]
    height = max(3.6, 0.55 * len(sets) + 1.6)
    figure, axes = plt.subplots(
        1, 3, figsize=(14, height), layout="constrained", width_ratios=[1.1, 1, 1]
    )
    _seconds(axes[0], sets)
    _faster(axes[1], sets)
    _memory(axes[2], sets)
    handles = [
        plt.Line2D([], [], color=_COLOURS[name], marker=_MARKERS.get(name, "x"), label=label)
        for name, (label, *_) in CONTENDERS.items()
        if any(figures.row(each, name) for each in sets)
    ]
    handles.append(plt.Line2D([], [], color="0.4", linestyle="--", label="floor of the arithmetic"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    settings, machine = results["settings"], results["machine"]
    figure.suptitle(
        f"{machine['cpu']}, {settings['threads']} threads; {settings['iterations']} iterations of "
        f"{settings['rounds']} rounds, K = {settings['n_clusters']}; median of "
        f"{settings['repeats']}",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _seconds(axis: Any, sets: list[figures.Comparison]) -> None:
    """Seconds over cells: a line through simulated sets of fewest levels, other sets apart."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    simulated = [each for each in sets if each["origin"] == "simulated"]
    base = min((each["n_levels"] for each in simulated), default=None)
    line = [each for each in simulated if each["n_levels"] == base]
    line.sort(key=lambda each: each["n_cells"])
    for name in CONTENDERS:
        style = {"color": _COLOURS[name], "marker": _MARKERS.get(name, "x"), "markersize": 5}
        points = [(e["n_cells"], r.seconds) for e in line if (r := figures.row(e, name))]
        if points:
            axis.plot(*zip(*points, strict=True), **style)
        rest = [e for e in sets if e not in line]
        points = [(e["n_cells"], r.seconds) for e in rest if (r := figures.row(e, name))]
        if points:
            axis.plot(*zip(*points, strict=True), linestyle="none", markerfacecolor="none", **style)
    floor = [
        (each["n_cells"], each["floor"]["seconds"]["iteration"] * found.iterations)
        for each in line
        if "seconds" in each["floor"] and (found := figures.row(each, "lite")) and found.iterations
    ]
    if floor:
        axis.plot(*zip(*floor, strict=True), color="0.4", linestyle="--")
    axis.set(xscale="log", yscale="log", xlabel="cells", ylabel="seconds")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    levels = "" if base is None else f"filled: simulated, {base[0]} levels; open: other sets"
    axis.set_title(levels, fontsize=9)
    axis.grid(alpha=0.25)


def _faster(axis: Any, sets: list[figures.Comparison]) -> None:
    _by_set(axis, sets, lambda found: found.faster)
    axis.axvline(1, color=_COLOURS["harmonypy"], linewidth=1)
    axis.set(xlabel="times as fast as harmonypy", xlim=(0, None))


def _memory(axis: Any, sets: list[figures.Comparison]) -> None:
    _by_set(axis, sets, lambda found: found.bytes_per_cell)
    axis.set(xlabel="peak memory above the input, bytes per cell", yticklabels=[], xlim=(0, None))


def _by_set(axis: Any, sets: list[figures.Comparison], value: Any) -> None:
    """One line for each set, one mark for each contender."""
    for name in CONTENDERS:
        points = [
            (value(found), place)
            for place, each in enumerate(sets)
            if (found := figures.row(each, name)) and value(found) is not None
        ]
        if points:
            marker = _MARKERS.get(name, "x")
            axis.plot(
                *zip(*points, strict=True), color=_COLOURS[name], marker=marker, linestyle="none"
            )
    axis.set_yticks(range(len(sets)), [each["name"] for each in sets])
    axis.set_ylim(len(sets) - 0.5, -0.5)
    axis.grid(axis="both", alpha=0.25)
