"""`harmonypy-lite sweep`: several values of theta from one start, and which of them to take."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.options import (
    INPUT,
    METHOD,
    SectionedCommand,
    in_options,
    json_option,
    option,
    output_option,
    overwrite_option,
    parameter_options,
    params_from,
    print_json,
    quiet_option,
    report_option,
)
from harmonypy_lite.program import (
    Program,
    bars_wanted,
    plain_warnings,
    unwinding_signals,
    verbosity,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from harmonypy_lite.theta.results import Sweep

_TEXTS = ("flavor", "start")


@click.command(cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "-k",
    "--key",
    "-b",
    "--batch",
    "keys",
    section=INPUT,
    multiple=True,
    required=True,
    metavar="COLUMN",
    help="Column of obs that tells batches apart; give it again for more columns.",
)
@option(
    "-l",
    "--label",
    section=INPUT,
    metavar="COLUMN",
    help="Column of obs with cell types, to see what biology is left; does not enter the rule.",
)
@option(
    "--basis",
    section=INPUT,
    default="X_pca",
    show_default=True,
    metavar="NAME",
    help="Key of obsm with the embedding.",
)
@option(
    "--missing",
    section=INPUT,
    type=click.Choice(["refuse", "level"]),
    default="refuse",
    show_default=True,
    help="Cells without a value in a key: refuse them, or make them a level of their own.",
)
@option(
    "--vary",
    section=METHOD,
    type=click.Choice(["theta", "sigma", "n_clusters", "alpha", "flavor", "start"]),
    default="theta",
    show_default=True,
    help="The parameter to vary.",
)
@option(
    "--values",
    section=METHOD,
    metavar="VALUES",
    help="Its values, such as 0,1,2,4; by default 0,0.25,0.5,1,2,4,8 for theta.",
)
@option(
    "--seeds",
    "n_seeds",
    section=METHOD,
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Starts; the interval is what single ones recommend.",
)
@option(
    "--splits",
    "n_splits",
    section=METHOD,
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Runs over random batches, beside the run that is looked at.",
)
@output_option("Write the table to a .csv file, or everything to a .json file.")
@report_option(
    "Write a page with the verdict, the trade-off, and what the recommended value does, for a "
    "browser."
)
@overwrite_option("Replace an output file that is there already.")
@parameter_options
@json_option("Print everything as JSON.")
@quiet_option
@verbosity
def sweep(
    file: Path,
    keys: tuple[str, ...],
    output: Path | None,
    report: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Run several values of theta and say which to take, and why.

    All values start from the same clusters. For each: how well batches mix, what is left of the
    structure inside them, how far cells moved. The verdict is a value with its interval over
    seeds, that no correction is needed, or that batch and biology cannot be told apart.

    \b
    Examples
      harmonypy-lite sweep pbmc.h5ad --key donor --label cell_type -o sweep.csv
      harmonypy-lite sweep pbmc.h5ad --key donor --label cell_type --report sweep.html
      harmonypy-lite sweep pbmc.h5ad --key donor --vary sigma --values 0.05,0.1,0.2
    """  # noqa: D301
    from harmonypy_lite.files.output import check_free

    if output is not None:
        if output.suffix not in (".csv", ".json"):
            raise InvalidInput(f"--output must end in .csv or .json; got {str(output)!r}.")
        check_free(output, overwrite=overwrite)
    if report is not None:
        from harmonypy_lite.page import check_report

        check_report(report, overwrite=overwrite)
    show = bars_wanted(quiet=quiet)
    with unwinding_signals(), plain_warnings(None):
        adata, found, run = _swept(file, list(keys), show, **given)
        if report is not None:
            _write_report(adata, found, run, report, file.name, overwrite)
    if output is not None:
        _write(found, output)
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        click.echo(in_options(sweep_text(found)))
        written = [str(path) for path in (output, report) if path is not None]
        if written:
            click.echo(f"\nWritten: {', '.join(written)}")


def _write_report(
    adata: AnnData, found: Sweep, run: dict[str, Any], report: Path, source: str, overwrite: bool
) -> None:
    from harmonypy_lite.page.of_sweep import write_sweep_report

    how: Any = {"command": Program.running().typed(), "source": source, "overwrite": overwrite}
    write_sweep_report(adata, found, report, run, **how)


def _swept(
    file: Path, keys: list[str], show: bool, **given: Any
) -> tuple[AnnData, Sweep, dict[str, Any]]:
    """Return the cells that were read, the sweep, and the arguments that all its runs had."""
    from tqdm import tqdm

    from harmonypy_lite.cases import checked_values
    from harmonypy_lite.metrics.score import read_parts
    from harmonypy_lite.tl import THETAS, sweep_theta

    vary, texts, label = (given.pop(name) for name in ("vary", "values", "label"))
    basis, missing = given.pop("basis"), given.pop("missing")
    counts = {name: given.pop(name) for name in ("n_seeds", "n_splits")}
    values = _numbers(vary, texts) if texts is not None else THETAS if vary == "theta" else None
    values = checked_values(vary, values)
    params = params_from(given)
    # only what was given, so that a parameter that is varied as well is refused
    named = {
        entry.name: getattr(params, entry.name)
        for entry in fields(params)
        if given.get(entry.name) not in (None, ())
    }
    adata = read_parts(file, [*keys, *([label] if label else [])], [basis])
    run = {"key": keys, "label_key": label, "basis": basis, "missing": missing, **named}
    total = len(values) * counts["n_seeds"]
    with tqdm(total=total, disable=not show, unit="run", leave=False) as bar:
        found = sweep_theta(
            adata, vary=vary, values=values, progress=lambda step: bar.update(), **counts, **run
        )
    return adata, found, run


def _numbers(vary: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(",")]
    if vary in _TEXTS:
        return parts
    try:
        return [int(part) if vary == "n_clusters" else float(part) for part in parts]
    except ValueError:
        raise InvalidInput(f"--values {text!r}: give numbers, such as 0.5,1,2.") from None


def _write(found: Sweep, path: Path) -> None:
    if path.suffix == ".json":
        text = json.dumps(found.to_dict(), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    else:
        found.table.to_csv(path, index=False)


def sweep_text(found: Sweep) -> str:
    """Return a sweep for people: the table, the verdict, its reason and its rule."""
    shown = found.table.drop(columns=["mixing_se", "structure_se", "seconds"])
    shown = shown.dropna(axis=1, how="all").rename(columns={"value": found.vary})
    shown["pareto"] = shown["pareto"].map({True: "*", False: ""})
    lines = [shown.to_string(index=False, float_format=lambda number: f"{number:.4g}"), ""]
    lines.append(f"input: mixing {found.before['mixing']:.3f}; with shuffled batches it would be "
                 f"{found.before['mixing_expected']:.3f}")  # fmt: skip
    if found.null is not None:
        moved = sum(found.null.displacement) / len(found.null.displacement)
        lines.append(
            f"random batches: cells move {moved:.1%} of the spread within clusters, really "
            f"{found.null.real_displacement:.1%}"
        )
    lines.append(f"verdict: {found.verdict}")
    if found.recommended is not None and found.interval is not None:
        low, high = found.interval
        seeds = f"single seeds: {low} to {high}" if low != high else "all seeds agree"
        lines[-1] += f" with {found.vary} {found.recommended} ({seeds})"
    return "\n".join([*lines, found.reason, f"Rule: {found.rule}"])
