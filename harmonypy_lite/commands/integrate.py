"""`harmonypy-lite integrate`: files in, files with the corrected embedding out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.options import (
    INPUT,
    OUTPUT,
    SIZE,
    SectionedCommand,
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
    from harmonypy_lite.io import FileResult
    from harmonypy_lite.params import HarmonyParams

_FILE_OPTIONS = ("in_place", "overwrite", "missing", "preprocess", "layer", "protect", "memory")
_MODEL_OPTIONS = ("save_model", "save_genes")
_SCRATCH_OPTIONS = ("scratch", "resume")


@click.command(cls=SectionedCommand)
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
    help="Layer with the counts for --preprocess and --save-genes; by default X.",
)
@output_option(
    "The new file, for several inputs a folder; by default NAME_harmony.h5ad beside the input."
)
@option(
    "-i",
    "--in-place",
    section=OUTPUT,
    is_flag=True,
    help="Add the result to the input (replaced in one step when the result is complete).",
)
@overwrite_option("Replace an output file, or a result in the file, that is there already.")
@option(
    "--adjusted-basis",
    section=OUTPUT,
    default="X_pca_harmony",
    show_default=True,
    metavar="NAME",
    help="Key of obsm for the result.",
)
@report_option("Write a page with verdict, scores and pictures of before and after, for a browser.")
@option(
    "-l",
    "--label",
    section=OUTPUT,
    metavar="COLUMN",
    help="Column of cell types, for the report only.",
)
@option(
    "--save-model",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what the run learned to a new .h5 file, by which `map` places new cells.",
)
@option(
    "--save-genes",
    section=OUTPUT,
    is_flag=True,
    help="Keep in the model how the PCA was made of the genes, so that counts can be placed.",
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
@json_option("Print the summary as JSON.")
@quiet_option
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
      harmonypy-lite integrate pbmc.h5ad --key donor --label cell_type --report report.html
      harmonypy-lite integrate big.h5ad --key sample --memory 2G --scratch /disk --in-place
    """  # noqa: D301
    started, show = time.perf_counter(), bars_wanted(quiet=quiet)
    how = {n: given.pop(n) for n in (*_FILE_OPTIONS, *_MODEL_OPTIONS, *_SCRATCH_OPTIONS)}
    names = {n: given.pop(n) for n in ("basis", "adjusted_basis")}
    out, report, label = (given.pop(n) for n in ("output", "report", "label"))
    params = params_from(given)
    if plan:
        folder = how["scratch"] or _folder_of_output(files[0], out)
        _print_plan(files, keys, params, as_json, names["basis"], how, folder)
        return
    page = _page(report, label, files, how["overwrite"])
    program = Program.running()
    program.writes = True

    from harmonypy_lite.progress import progress_bar

    with unwinding_signals(), progress_bar(show) as progress, plain_warnings(progress) as said:
        from harmonypy_lite.io import integrate_files

        done = integrate_files(
            files,
            keys,
            out=out,
            params=params,
            progress=progress,
            on_written=program.note_written,
            **how,
            **names,
        )
        if page is not None:
            page(done, **names)
    seconds = time.perf_counter() - started
    if as_json:
        times = {"seconds_compiling": done[0].seconds_compiling, "seconds_with_files": seconds}
        print_json(_as_json(files, done) | names | times | {"warnings": said})
    elif not quiet:
        from harmonypy_lite.report import summary_text

        click.echo(summary_text(done, seconds=seconds, **names))
        if report is not None and report.is_file():
            click.echo(f"{'report':<11} {report}")


def _page(
    report: Path | None, label: str | None, files: Sequence[Path], overwrite: bool
) -> Callable[..., None] | None:
    """Return what writes the report once the results are there; what would stop it is found now."""
    if report is None:
        if label is not None:
            raise InvalidInput(f"--label {label} is for the report: give --report FILE.html too.")
        return None
    from harmonypy_lite.page import of_files

    of_files.check_file_report(report, files, label, overwrite=overwrite)

    def write(done: Sequence[FileResult], **names: str) -> None:
        if not done[0].summary["objective"]:
            warn(f"Nothing was corrected, so there is nothing to report: {report} is not written.")
            return
        of_files.write_file_report(
            [each.path for each in done],
            done[0].summary,
            report,
            label_key=label,
            command=Program.running().typed(),
            source=", ".join(path.name for path in files),
            overwrite=overwrite,
            **names,
        )

    return write


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


def _folder_of_output(source: Path, out: Path | None) -> Path:
    if out is None:
        return source.resolve().parent
    return out if out.is_dir() else out.resolve().parent


def _print_plan(
    files: Sequence[Path],
    keys: Sequence[str],
    params: HarmonyParams,
    as_json: bool,
    basis: str,
    how: dict[str, Any],
    folder: Path,
) -> None:
    from harmonypy_lite.io import plan_files
    from harmonypy_lite.report import plan_dict, plan_text

    if not folder.is_dir():
        raise InvalidInput(
            f"The folder {folder}, for scratch files, does not exist: make it first."
        )
    memory, missing = how["memory"], how["missing"]
    load, choice = plan_files(
        files, keys, basis=basis, params=params, missing=missing, memory=memory
    )
    if as_json:
        print_json(plan_dict(load, choice))
    else:
        click.echo(plan_text(load, choice, folder))
