"""`harmonypy-lite info`: what is in a file."""

from __future__ import annotations

from pathlib import Path

import click

from harmonypy_lite.options import SectionedCommand, json_option, print_json
from harmonypy_lite.program import verbosity


@click.command(cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@json_option("Print it as JSON.")
@verbosity
def info(file: Path, as_json: bool) -> None:
    """List what is in an .h5ad file, or what a model holds.

    Columns of obs with their levels and missing values, embeddings in obsm, the shape of X.
    Columns whose name and levels look like batches are marked.
    """
    if file.suffix == ".h5":
        from harmonypy_lite.model import HarmonyModel
        from harmonypy_lite.model_report import model_dict, model_text

        model = HarmonyModel.load(file)
        if as_json:
            print_json(model_dict(model))
        else:
            click.echo(model_text(model, str(file)))
        return
    from harmonypy_lite.files.stores import open_store
    from harmonypy_lite.report import contents_dict, contents_text

    with open_store(file) as store:
        contents = store.contents()
    if as_json:
        print_json(contents_dict(contents))
    else:
        click.echo(contents_text(contents))
