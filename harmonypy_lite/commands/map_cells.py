"""`harmonypy-lite map`: new cells placed beside a kept run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harmonypy_lite.options import (
    INPUT,
    OUTPUT,
    SectionedCommand,
    json_option,
    option,
    output_option,
    overwrite_option,
    print_json,
    quiet_option,
)
from harmonypy_lite.program import Program, plain_warnings, unwinding_signals, verbosity


@click.command("map", cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "-m",
    "--model",
    section=INPUT,
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The model that `integrate --save-model` wrote.",
)
@option(
    "-k",
    "--key",
    "-b",
    "--batch",
    "keys",
    section=INPUT,
    multiple=True,
    metavar="COLUMN",
    help="Column of obs that tells batches apart; without it all cells are one new batch.",
)
@option(
    "--levels",
    section=INPUT,
    type=click.Choice(["known", "new", "either"]),
    help="Whether the batches are the model's (known), others whatever their names (new), or the "
    "model's where it has them (either). By default new, if no name is the model's.",
)
@option(
    "--basis",
    section=INPUT,
    metavar="NAME",
    help="Key of obsm with the cells in the PCA of the model; by default the genes are projected.",
)
@option("--layer", section=INPUT, metavar="NAME", help="Layer with the counts; by default X.")
@option(
    "--max-missing",
    section=INPUT,
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Largest share of the model's genes that the cells may lack.",
)
@output_option("The new file; by default NAME_harmony.h5ad beside the input.")
@overwrite_option("Replace an output file that is there already.")
@option(
    "--adjusted-basis",
    section=OUTPUT,
    default="X_pca_harmony",
    show_default=True,
    metavar="NAME",
    help="Key of obsm for the result.",
)
@json_option("Print what was done as JSON.")
@quiet_option
@verbosity
def map_cells(
    file: Path, model: Path, keys: tuple[str, ...], as_json: bool, quiet: bool, **given: Any
) -> None:
    """Place the cells of a file beside those of a finished run, which stay where they are.

    \b
    Example
      harmonypy-lite integrate atlas.h5ad --key donor --save-model m.h5 --save-genes
      harmonypy-lite map query.h5ad --model m.h5 --key donor -o out.h5ad
    """  # noqa: D301
    program = Program.running()
    program.writes = True

    out = given.pop("output")
    with unwinding_signals(), plain_warnings(None) as said:
        from harmonypy_lite.mapped_files import map_file

        done = map_file(file, model, key=list(keys) or None, out=out, **given)
    program.written = done.path

    from harmonypy_lite.model_report import map_dict, map_text

    if as_json:
        print_json(map_dict(done) | {"warnings": said})
    elif not quiet:
        click.echo(map_text(done))
