"""The program `harmonypy-lite`: options to parameters, the call that a notebook makes, a summary.

Nothing heavy is imported before a command runs, so that the help answers at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harmonypy_lite._version import __version__
from harmonypy_lite.options import (
    INPUT,
    LIMITS,
    MESSAGES,
    OUTPUT,
    SIZE,
    SectionedCommand,
    in_options,
    option,
    parameter_options,
    params_from,
)
from harmonypy_lite.program import Program, plain_warnings, unwinding_signals, verbosity

if TYPE_CHECKING:
    from harmonypy_lite.io import FileResult
    from harmonypy_lite.params import HarmonyParams

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Program, context_settings=_CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="harmonypy-lite")
@verbosity
def program() -> None:
    """Mix the batches of single-cell data with Harmony.

    \b
    Start with
      harmonypy-lite info FILE.h5ad
      harmonypy-lite integrate FILE.h5ad --key COLUMN
    """  # noqa: D301 - click wants the character \b itself


_quiet_option = option(
    "-q", "--quiet", section=MESSAGES, is_flag=True, help="Print nothing but warnings."
)


def _json_option(text: str) -> Callable[[Any], Any]:
    return option("--json", "as_json", section=MESSAGES, is_flag=True, help=text)


def _output_option(text: str) -> Callable[[Any], Any]:
    kind = click.Path(path_type=Path)
    return option("-o", "--output", section=OUTPUT, type=kind, metavar="FILE", help=text)


def _overwrite_option(text: str) -> Callable[[Any], Any]:
    return option("--overwrite", section=OUTPUT, is_flag=True, help=text)


_FILE_OPTIONS = ("in_place", "overwrite", "missing", "preprocess", "layer", "protect", "memory")
_SCRATCH_OPTIONS = ("scratch", "resume")


@program.command(cls=SectionedCommand)
@click.argument(
    "files", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FILE..."
)
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
    "--protect",
    section=INPUT,
    multiple=True,
    metavar="COLUMN",
    help="Biological column: report its confounding with the keys (Cramer's V), warn if large.",
)
@option(
    "--preprocess",
    section=INPUT,
    is_flag=True,
    help="Make the PCA first, with scanpy: normalise, log1p, variable genes per batch, PCA.",
)
@option(
    "--layer",
    section=INPUT,
    metavar="NAME",
    help="Layer with the counts for --preprocess; by default X.",
)
@_output_option(
    "The new file, for several inputs a folder; by default NAME_harmony.h5ad beside the input."
)
@option(
    "-i",
    "--in-place",
    section=OUTPUT,
    is_flag=True,
    help="Add the result to the input (replaced in one step when the result is complete).",
)
@_overwrite_option("Replace an output file, or a result in the file, that is there already.")
@option(
    "--adjusted-basis",
    section=OUTPUT,
    default="X_pca_harmony",
    show_default=True,
    metavar="NAME",
    help="Key of obsm for the result.",
)
@option(
    "--memory",
    section=SIZE,
    metavar="SIZE",
    help="Memory that the program may take, such as 2G; by default half of what is available. "
    "Decides whether the cells are held in memory (fast, lean) or on disk (scratch); these words "
    "ask for one. The result is the same to the byte.",
)
@option(
    "--scratch",
    section=SIZE,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for scratch files, on a disk rather than in memory; by default the output's.",
)
@option(
    "--resume",
    section=SIZE,
    is_flag=True,
    help="Go on where a run with scratch files was killed, if there was one.",
)
@option(
    "--plan",
    section=SIZE,
    is_flag=True,
    help="Say what memory, disk and time the run needs, and do nothing.",
)
@parameter_options
@_json_option("Print the summary as JSON.")
@_quiet_option
@verbosity
def integrate(
    files: tuple[Path, ...],
    keys: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    plan: bool,
    **given: Any,
) -> None:
    """Integrate the embedding of an .h5ad file, or of several together.

    Only the batch columns and the embedding are read. The output is a copy of the file with
    obsm['X_pca_harmony'] and the record uns['harmony'] added; it is complete or absent.

    Files may be larger than memory: the cells are then held in scratch files.

    --theta, --sigma and --ridge-lambda take one number (2), one per key (4,2), or numbers by name
    (donor=4,chemistry=2).

    \b
    Examples
      harmonypy-lite integrate pbmc.h5ad --key donor
      harmonypy-lite integrate pbmc.h5ad --key donor --key chemistry --theta donor=2,chemistry=1
      harmonypy-lite integrate raw.h5ad --key sample --preprocess -o integrated.h5ad
      harmonypy-lite integrate big.h5ad --key sample --memory 2G --scratch /disk --in-place
    """  # noqa: D301
    started = time.perf_counter()
    how = {n: given.pop(n) for n in (*_FILE_OPTIONS, *_SCRATCH_OPTIONS)}
    names = {n: given.pop(n) for n in ("basis", "adjusted_basis")}
    out = given.pop("output")
    params = params_from(given)
    if plan:
        _print_plan(files, keys, params, as_json, names["basis"], how)
        return
    program.writes = True

    from harmonypy_lite.io import integrate_files
    from harmonypy_lite.progress import progress_bar

    show = sys.stderr.isatty() and not quiet
    with unwinding_signals(), progress_bar(show) as progress, plain_warnings(progress) as said:
        done = integrate_files(
            files, keys, out=out, params=params, progress=progress, **how, **names
        )
    program.written = done[-1].path
    seconds = time.perf_counter() - started
    if as_json:
        times = {"seconds_compiling": done[0].seconds_compiling, "seconds_with_files": seconds}
        _print_json(_as_json(files, done) | names | times | {"warnings": said})
    elif not quiet:
        from harmonypy_lite.report import summary_text

        click.echo(summary_text(done, seconds=seconds, **names))


def _as_json(files: Sequence[Path], done: Sequence[FileResult]) -> dict[str, Any]:
    paths = [str(path) for path in files], [str(each.path) for each in done]
    one = len(files) == 1
    choice = done[0].choice
    return {
        "input": paths[0][0] if one else paths[0],
        "output": paths[1][0] if one else paths[1],
        "memory": {"mode": choice.mode, "needed": choice.needed, "allowed": choice.allowed},
        "resumed": done[0].resumed,
    } | done[0].summary


def _print_plan(
    files: Sequence[Path],
    keys: Sequence[str],
    params: HarmonyParams,
    as_json: bool,
    basis: str,
    how: dict[str, Any],
) -> None:
    from harmonypy_lite.io import plan_files
    from harmonypy_lite.report import plan_dict, plan_text

    memory, missing = how["memory"], how["missing"]
    load, choice = plan_files(
        files, keys, basis=basis, params=params, missing=missing, memory=memory
    )
    if as_json:
        _print_json(plan_dict(load, choice))
    else:
        click.echo(plan_text(load, choice))


@program.command(cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@_json_option("Print it as JSON.")
@verbosity
def info(file: Path, as_json: bool) -> None:
    """List what is in an .h5ad file.

    Columns of obs with their levels and missing values, embeddings in obsm, the shape of X.
    Columns whose name and levels look like batches are marked.
    """
    from harmonypy_lite.report import contents_dict, contents_text
    from harmonypy_lite.stores import open_store

    with open_store(file) as store:
        contents = store.contents()
    if as_json:
        _print_json(contents_dict(contents))
    else:
        click.echo(contents_text(contents))


@program.command(cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "-b",
    "--batch",
    "-k",
    "--key",
    "batches",
    section=INPUT,
    multiple=True,
    required=True,
    metavar="COLUMN",
    help="Column of obs with the batches; give it again to score several, each by itself.",
)
@option(
    "-l",
    "--label",
    section=INPUT,
    metavar="COLUMN",
    help="Column of obs with cell types; without it, only what needs none is scored.",
)
@option(
    "-e",
    "--embedding",
    "embeddings",
    section=INPUT,
    multiple=True,
    default=("X_pca", "X_pca_harmony"),
    show_default=True,
    metavar="NAME",
    help="Key of obsm to score; give it again for more.",
)
@option(
    "--pre",
    section=INPUT,
    default="X_pca",
    show_default=True,
    metavar="NAME",
    help="Key of obsm from before the integration, to compare with.",
)
@option(
    "--all", "everything", section=INPUT, is_flag=True, help="Also the slow and legacy metrics."
)
@_output_option("Write the table to a .csv or .json file.")
@option(
    "--plot",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the table to a picture (.png, .pdf or .svg).",
)
@_overwrite_option("Replace a table or picture that is there already.")
@option("--seed", section=LIMITS, type=int, default=0, show_default=True, help="Seed.")
@option("-j", "--n-jobs", section=LIMITS, type=int, help="Number of threads; by default all cores.")
@_json_option("Print the table as JSON.")
@_quiet_option
@verbosity
def score(
    file: Path,
    batches: tuple[str, ...],
    embeddings: tuple[str, ...],
    everything: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Score how well batches mix and how much biology is left.

    Reads only the columns and embeddings named. Values are calibrated: 1 is as good as shuffled
    batches (mixing) or perfect types (biology), 0 is none; raw values are in the files.

    \b
    Example
      harmonypy-lite score out.h5ad --batch donor --label cell_type -o scores.csv --plot scores.png
    """  # noqa: D301
    from harmonypy_lite.metrics.score import score_file
    from harmonypy_lite.output import check_free
    from harmonypy_lite.pl import figure_files
    from harmonypy_lite.report import scores_text

    given["label_key"] = given.pop("label")
    files = [] if given["output"] is None else [given["output"]]
    if given["plot"] is not None:
        files += figure_files(given["plot"], batches).values()
    overwrite = given.pop("overwrite")
    for name in files:
        check_free(name, overwrite=overwrite)
    show = sys.stderr.isatty() and not quiet
    with unwinding_signals(), plain_warnings(None):
        table = score_file(
            file,
            list(batches),
            embeddings=list(embeddings),
            metrics="all" if everything else "default",
            progress=show,
            **given,
        )
    if as_json:
        click.echo(table.to_json(orient="records", indent=1))
    elif not quiet:
        click.echo(in_options(scores_text(table)))
        if files:
            click.echo(f"\nWritten: {', '.join(map(str, files))}")


def _print_json(tree: dict[str, Any]) -> None:
    click.echo(json.dumps(tree, indent=2, ensure_ascii=False))


def main() -> None:
    """Run the program; the entry point of the installed command."""
    program(prog_name="harmonypy-lite")
