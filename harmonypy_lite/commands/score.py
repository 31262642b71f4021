"""`harmonypy-lite score`: how well batches mix in embeddings of a file, what biology is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harmonypy_lite.options import (
    INPUT,
    LIMITS,
    OUTPUT,
    SectionedCommand,
    in_options,
    json_option,
    option,
    output_option,
    overwrite_option,
    quiet_option,
)
from harmonypy_lite.program import bars_wanted, plain_warnings, unwinding_signals, verbosity


@click.command(cls=SectionedCommand)
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
@option(
    "--sample",
    section=LIMITS,
    type=int,
    metavar="CELLS",
    help="Look at this many cells, stratified by batches and labels; by default at all.",
)
@output_option("Write the table to a .csv or .json file.")
@option(
    "--plot",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the table to a picture (.png, .pdf or .svg).",
)
@overwrite_option("Replace a table or picture that is there already.")
@option("--seed", section=LIMITS, type=int, default=0, show_default=True, help="Seed.")
@option("-j", "--n-jobs", section=LIMITS, type=int, help="Number of threads; by default all cores.")
@json_option("Print the table as JSON.")
@quiet_option
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
    from harmonypy_lite.files.output import check_free
    from harmonypy_lite.report import scores_text

    given["label_key"] = given.pop("label")
    overwrite, show = given.pop("overwrite"), bars_wanted(quiet=quiet)
    with unwinding_signals(), plain_warnings(None):
        from harmonypy_lite.metrics.score import score_file, target_files

        files = target_files(given["output"], given["plot"], batches)
        for name in files:
            check_free(name, overwrite=overwrite)
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
