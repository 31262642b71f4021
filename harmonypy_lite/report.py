"""What the command line prints: a run's summary and a file's contents, for people."""

from __future__ import annotations

import re
import shlex
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonypy_lite.files.output import human, size_of
from harmonypy_lite.record import caveats, uns_record, why_stopped

if TYPE_CHECKING:
    import pandas as pd

    from harmonypy_lite.budget import Choice, Load
    from harmonypy_lite.files.stores import Column, Contents
    from harmonypy_lite.io import FileResult

_BATCH_NAME = re.compile(
    r"batch|donor|sample|patient|subject|individual|library|lane|channel|plate|chip|pool|run|"
    r"chemistry|assay|tech|protocol|platform|study|dataset|data_?set|lab|site|cent(er|re)|"
    r"experiment|replicate|orig\.?_?ident|suspension",
    re.IGNORECASE,
)


def count(n: int, word: str) -> str:
    """Return ``1 level``, ``2 levels``, ``13,796 cells``."""
    return f"{n:,} {word}" + ("" if n == 1 else "s")


#: How the printed lines call what `record.caveats` calls at length.
_CAVEATS = {
    "Left out": "left out",
    "Corrects nothing": "idle",
    "Levels not corrected": "uncorrected",
}


def summary_text(
    done: Sequence[FileResult], *, basis: str, adjusted_basis: str, seconds: float
) -> str:
    """Return the lines that `integrate` prints at the end."""
    summary = done[0].summary
    levels = [f"{name} ({count(n, 'level')})" for name, n in summary["covariates"].items()]
    objective = summary["objective"]
    iterations = summary["iterations"]
    stopped = why_stopped(summary)
    record = uns_record(summary, basis=basis, adjusted_basis=adjusted_basis)
    lines = [
        ("cells", f"{summary['n_cells']:,} x {summary['n_dims']} components of {basis}"),
        ("batches", ", ".join(levels) or "none"),
        *((_CAVEATS[label], text) for label, text in caveats(record)),
    ]
    for name, by_batch in summary.get("confounding", {}).items():
        values = ", ".join(f"{v:.2f} with {batch}" for batch, v in by_batch.items())
        lines.append(("protected", f"{name}: Cramer's V {values}"))
    if iterations:
        lines.append(("clusters", f"{summary['n_clusters']:,}"))
        lines.append(("iterations", f"{iterations:,}; stopped: {stopped}"))
        lines.append(("objective", f"{objective[0]:,.6g} -> {objective[-1]:,.6g}"))
    else:
        lines.append(("result", f"{stopped}: the embedding is unchanged"))
    compiling = done[0].seconds_compiling
    first = f", {duration(compiling)} of it compiling, on the first run only"
    inside = f"with files {duration(seconds)}" + (first if compiling > 0.5 else "")
    lines.append(("time", f"{duration(summary['seconds'])} ({inside})"))
    lines.append(("memory", memory_text(done[0].choice, resumed=done[0].resumed)))
    for label, each in zip(["written", *[""] * len(done)], done, strict=False):
        size = human(size_of(each.path))
        lines.append((label, f"obsm[{adjusted_basis!r}] in {each.path} ({size})"))
    return "\n".join(f"{label:<11} {text}" for label, text in lines)


_MODES = {
    "fast": "the cells and their affinities in memory",
    "lean": "the cells in memory",
    "scratch": "the cells in scratch files",
}


def memory_text(choice: Choice, *, resumed: bool = False) -> str:
    """Say how the cells were held, and why."""
    why = "as asked" if choice.asked else f"of {human(choice.allowed)} allowed"
    text = f"{_MODES[choice.mode]}; about {human(choice.needed)} needed, {why}"
    return text + ("; a killed run was resumed" if resumed else "")


def plan_dict(load: Load, choice: Choice) -> dict[str, Any]:
    """Return what `integrate --plan --json` prints."""
    modes = {
        mode: {
            "memory": load.memory(mode),
            "scratch": load.disk(mode),
            "seconds": round(load.seconds(mode), 1),
        }
        for mode in _MODES
    }
    chosen = {"mode": choice.mode, "allowed": choice.allowed}
    return vars(load) | {"result": 4 * load.n_cells * load.n_dims, "modes": modes, **chosen}


def plan_text(load: Load, choice: Choice, folder: Path) -> str:
    """Return the lines that `integrate --plan` prints; `folder` would have the scratch files."""
    rows: list[tuple[str, ...]] = [("mode", "memory", "scratch files", "time", "")]
    for mode, text in _MODES.items():
        mark = "chosen: " if mode == choice.mode else ""
        time = "about " + duration(load.seconds(mode))
        disk = human(load.disk(mode)) if load.disk(mode) else "none"
        rows.append((mode, human(load.memory(mode)), disk, time, mark + text))
    free = human(shutil.disk_usage(folder).free)
    why = "asked for" if choice.asked else f"the fastest within {human(choice.allowed)}"
    return "\n".join(
        [
            f"{load.n_cells:,} cells x {load.n_dims}, {count(load.n_levels, 'level')}, "
            f"{count(load.n_clusters, 'cluster')}, {count(load.n_threads, 'thread')}",
            *_table(rows, right=(1, 2, 3)),
            f"The result takes {human(4 * load.n_cells * load.n_dims)}; {choice.mode} is {why}.",
            f"Scratch files would go to {folder}, which has {free} free.",
            "Times: five iterations on a processor of 2024; reading and writing come on top.",
        ]
    )


def duration(seconds: float) -> str:
    """Return ``0.8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def likely_batch_key(column: Column, n_cells: int) -> bool:
    """Guess from name and levels whether a column tells batches apart."""
    few = 2 <= column.n_levels <= max(2, n_cells // 10)
    return few and column.kind != "float" and _BATCH_NAME.search(column.name) is not None


def contents_dict(contents: Contents) -> dict[str, Any]:
    """Return what `info --json` prints."""
    return {
        "file": contents.path,
        "bytes": contents.n_bytes,
        "n_cells": contents.n_cells,
        "X": None if contents.x is None else vars(contents.x),
        "obs": [
            vars(column) | {"likely_batch_key": likely_batch_key(column, contents.n_cells)}
            for column in contents.columns
        ],
        "obsm": {name: vars(shape) for name, shape in contents.embeddings.items()},
        "earlier_run": None if contents.earlier is None else vars(contents.earlier),
    }


def contents_text(contents: Contents) -> str:
    """Return the lines that `info` prints."""
    lines = [f"{contents.path}: {count(contents.n_cells, 'cell')}, {human(contents.n_bytes)}"]
    x = contents.x
    if x is None or x.dtype == "none":
        lines.append("X: none")
    else:
        lines.append(f"X: {_size(x.shape)}, {x.kind}, {x.dtype}")
    lines += ["", *_columns_table(contents), ""]
    if contents.embeddings:
        rows: list[tuple[str, ...]] = [("obsm", "shape", "kind")]
        for name, s in contents.embeddings.items():
            rows.append((name, _size(s.shape), f"{s.kind} {s.dtype}".strip()))
        lines += _table(rows, right=())
    else:
        lines.append("obsm: empty (integrate --preprocess makes a PCA)")
    return "\n".join(lines + _next_step(contents))


def _next_step(contents: Contents) -> list[str]:
    """Return the command that makes sense now: to integrate, or to score what was integrated."""
    there = {column.name for column in contents.columns}
    keys = [c.name for c in contents.columns if likely_batch_key(c, contents.n_cells)][:1]
    earlier = contents.earlier
    if earlier is None:
        words = ["harmonypy-lite", "integrate", contents.path, *_each("--key", keys)]
        if "X_pca" not in contents.embeddings:
            words += ["--basis", "NAME"] if contents.embeddings else ["--preprocess"]
        return ["", f"Next: {shlex.join(words)}"] if keys else []
    keys = [key for key in earlier.keys if key in there] or keys
    said = f"obsm[{earlier.adjusted_basis!r}] is the result of an integration"
    said += f" for {', '.join(earlier.keys)}." if earlier.keys else "."
    words = ["harmonypy-lite", "score", contents.path, *_each("--batch", keys)]
    if earlier.adjusted_basis != "X_pca_harmony" or earlier.basis != "X_pca":
        words += _each("--embedding", [earlier.basis, earlier.adjusted_basis])
        words += ["--pre", earlier.basis]
    hint = "(--label COLUMN for cell types)"
    return ["", said, *([f"Next: {shlex.join(words)} {hint}"] if keys else [])]


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _columns_table(contents: Contents) -> list[str]:
    if not contents.columns:
        return ["obs: no columns (integration needs one that tells batches apart)"]
    rows: list[tuple[str, ...]] = [("obs", "kind", "levels", "missing", "")]
    for column in contents.columns:
        note = "likely batch key" if likely_batch_key(column, contents.n_cells) else ""
        if column.n_levels == contents.n_cells > 1 and column.kind != "float":
            note = "one per cell"
        if column.n_levels == 1:
            note = "one level: nothing to integrate"
        rows.append(
            (column.name, column.kind, f"{column.n_levels:,}", f"{column.n_missing:,}", note)
        )
    return _table(rows, right=(2, 3))


def _table(rows: list[tuple[str, ...]], *, right: tuple[int, ...]) -> list[str]:
    """Align the columns; entries stand two columns to the right of their heading."""
    heading, *entries = rows
    indented = [heading, *((f"  {first}", *rest) for first, *rest in entries)]
    widths = [max(map(len, column)) for column in zip(*indented, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in indented
    ]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def scores_text(table: pd.DataFrame) -> str:
    """Return the lines that `score` prints: one row per metric, one column per embedding."""
    from harmonypy_lite.pl.scores import labels_missing

    lines: list[str] = []
    names = list(dict.fromkeys(table["embedding"]))
    width = max(20, *(len(name) + 2 for name in names))
    for key in dict.fromkeys(table["batch_key"]):
        own = table[table["batch_key"] == key]
        known = own[own["raw"].notna() | own["calibrated"].notna()]
        lines += [
            "",
            f"Batches: {key} (calibrated but for scib; -o writes both, --plot draws raw values)",
            f"{'':24}" + "".join(f"{name:>{width}}" for name in names),
        ]
        for kind, rows in known.groupby("kind", sort=False):
            lines.append(f"{kind}")
            for metric, of_metric in rows.groupby("metric", sort=False):
                values = of_metric.set_index("embedding")
                cells = [
                    _score(values.loc[name]) if name in values.index else "-" for name in names
                ]
                lines.append(f"  {metric:22}" + "".join(f"{cell:>{width}}" for cell in cells))
        lines += ["", *_reasons(own, known), *(f"  {text}" for text in labels_missing(own))]
    if table.attrs.get("search") == "pynndescent":
        lines.append("  Neighbours among all cells are approximate (pynndescent).")
    return "\n".join(lines).strip("\n")


def _reasons(own: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """Return what is to be said of the scores, each text once: first of those that are missing."""
    lines: list[str] = []
    told = own[own["reason"].fillna("") != ""]
    missing = ~told["metric"].isin(known["metric"])
    for rows, mark in ((told[missing], "Not scored: "), (told[~missing], "")):
        for reason, of_reason in rows.groupby("reason", sort=False):
            names = list(dict.fromkeys(of_reason["metric"]))
            where = list(dict.fromkeys(of_reason["embedding"]))
            some = f" of {', '.join(where)}" if len(where) < own["embedding"].nunique() else ""
            text = f"{mark}{', '.join(names)}{some}: {reason}"
            lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")
    return lines


def _score(row: pd.Series) -> str:
    """Return the calibrated value, or the raw one where a metric has no other."""
    value = row["raw"] if row["calibrated"] != row["calibrated"] else row["calibrated"]
    return "-" if value != value else f"{value:.3f}"
