"""`harmonypy-lite fed`: sites that cannot share cells exchange files of sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harmonypy_lite.options import (
    INPUT,
    OUTPUT,
    SectionedCommand,
    json_option,
    option,
    output_option,
    overwrite_option,
    parameter_options,
    params_from,
    print_json,
    quiet_option,
)
from harmonypy_lite.program import Program, plain_warnings, unwinding_signals, verbosity
from harmonypy_lite.record import why_stopped

if TYPE_CHECKING:
    from harmonypy_lite.federated.attendance import AtSite, Progress

_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_FILE = click.argument("file", type=click.Path(path_type=Path))
_SITES = option(
    "--site",
    "sites",
    section=INPUT,
    multiple=True,
    required=True,
    metavar="NAME",
    help="Name of a site; give it again for each site.",
)
_MASKS = option(
    "--masks",
    section=INPUT,
    is_flag=True,
    help="Mask the sums; writes secrets-SITE.json for each site, which only that site should get.",
)
_WAIT = option(
    "--wait",
    section=INPUT,
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for each message that is not there yet.",
)


def _site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what tells who the site is."""
    path = click.Path(path_type=Path)
    for each in (
        option("--layer", section=INPUT, metavar="NAME", help="Layer with the counts, for a PCA."),
        option("-j", "--n-jobs", section=INPUT, type=int, metavar="N", help="Number of threads."),
        option(
            "--secrets",
            section=INPUT,
            type=path,
            metavar="FILE",
            help="The site's secrets.",
        ),
        option(
            "--private",
            section=INPUT,
            type=path,
            metavar="DIR",
            help="Folder for what does not leave the site; by default beside the file.",
        ),
        option("--site", "name", section=INPUT, required=True, metavar="NAME", help="This site."),
    ):
        command = each(command)
    return command


@click.group()
def fed() -> None:
    """Integrate cells that may not leave the sites that hold them.

    Sites exchange messages, files in a FOLDER that any transport may carry. A message holds sums
    over the cells of a site, never a cell. This is no anonymity: sums of few cells, and many
    sums of the same cells, can say something of single ones.

    \b
    Once, anywhere     harmonypy-lite fed init FOLDER --site A --site B --key donor
    Each site          harmonypy-lite fed local FOLDER a.h5ad --site A
    Once all did       harmonypy-lite fed combine FOLDER
    (repeat the two until they say that the run is over)
    Each site          harmonypy-lite fed apply FOLDER a.h5ad --site A
    A shared PCA       harmonypy-lite fed pca FOLDER --site A --site B
    """  # noqa: D301


@fed.command(cls=SectionedCommand)
@_FOLDER
@_SITES
@option("-k", "--key", section=INPUT, required=True, metavar="COLUMN", help="Column with batches.")
@option("--basis", section=INPUT, default="X_pca", show_default=True, help="Key of obsm.")
@option(
    "--min-mass",
    section=INPUT,
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="CELLS",
    help="A site says nothing of clusters in which it has less; changes the result a little.",
)
@_MASKS
@parameter_options
@quiet_option
@verbosity
def init(
    folder: Path,
    sites: tuple[str, ...],
    key: str,
    basis: str,
    min_mass: float,
    masks: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Begin a run: write its plan into FOLDER, for all sites.

    The embedding of all sites must have one basis, such as that of `fed pca`; batches must be
    nested in sites.
    """
    from harmonypy_lite.federated.plan import Plan
    from harmonypy_lite.federated.steps import init as begin

    plan = Plan("harmony", sites, key, basis, params_from(given), min_mass, masks)
    _say_written(begin(folder, plan), quiet)


@fed.command(cls=SectionedCommand)
@_FOLDER
@_SITES
@option("--n-genes", section=INPUT, default=2000, show_default=True, help="Variable genes.")
@option("--n-components", section=INPUT, default=50, show_default=True, help="Dimensions.")
@option(
    "--target-sum",
    section=INPUT,
    default="10000",
    show_default=True,
    metavar="NUMBER",
    help="Counts to which each cell is scaled before log(1 + x); none: X is normalised already.",
)
@option(
    "--scale/--no-scale",
    section=INPUT,
    default=True,
    help="Whether genes are divided by their standard deviations.",
)
@_MASKS
@quiet_option
@verbosity
def pca(
    folder: Path,
    sites: tuple[str, ...],
    n_genes: int,
    n_components: int,
    target_sum: str,
    scale: bool,
    masks: bool,
    quiet: bool,
) -> None:
    """Begin a run that makes one PCA of all sites' cells; local, combine and apply do it."""
    from harmonypy_lite.errors import InvalidInput
    from harmonypy_lite.federated.plan import PcaChoices, Plan
    from harmonypy_lite.federated.steps import init as begin

    try:
        target = None if target_sum.lower() == "none" else float(target_sum)
    except ValueError:
        raise InvalidInput(f"--target-sum {target_sum!r}: give a number, or none.") from None
    choices = PcaChoices(n_genes, n_components, target, scale)
    _say_written(begin(folder, Plan("pca", sites, masks=masks, pca=choices)), quiet)


@fed.command(cls=SectionedCommand)
@_FOLDER
@_FILE
@_site_options
@_WAIT
@json_option("Print where the run stands as JSON.")
@quiet_option
@verbosity
def local(folder: Path, file: Path, wait: float, as_json: bool, quiet: bool, **given: Any) -> None:
    """Do a site's share: answer the messages in FOLDER from the cells in FILE.

    Goes on until it has to wait for another message. May be repeated and killed at any time. What
    was sent is listed, in words, in sent.txt in the private folder.
    """
    with unwinding_signals(), plain_warnings(None):
        from harmonypy_lite.federated.steps import local as work

        done = work(folder, _at(file, given), wait=wait)
    _say(done, as_json, quiet)


@fed.command(cls=SectionedCommand)
@_FOLDER
@_WAIT
@json_option("Print where the run stands as JSON.")
@quiet_option
@verbosity
def combine(folder: Path, wait: float, as_json: bool, quiet: bool) -> None:
    """Add up the messages of all sites in FOLDER into the next combined one."""
    with unwinding_signals(), plain_warnings(None):
        from harmonypy_lite.federated.steps import combine as work

        done = work(folder, wait=wait)
    _say(done, as_json, quiet)


@fed.command(cls=SectionedCommand)
@_FOLDER
@_FILE
@_site_options
@output_option("The new file; by default NAME_harmony.h5ad beside the input.")
@option("-i", "--in-place", section=OUTPUT, is_flag=True, help="Add the result to FILE.")
@overwrite_option("Replace an output file, or a result in the file, that is there already.")
@option(
    "--name",
    "result",
    section=OUTPUT,
    metavar="NAME",
    help="Key of obsm for the result; by default X_pca_harmony, or X_pca for a PCA.",
)
@json_option("Print where the run stands as JSON.")
@quiet_option
@verbosity
def apply(
    folder: Path,
    file: Path,
    output: Path | None,
    in_place: bool,
    overwrite: bool,
    result: str | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Write the result into a site's own file, once the run is over."""
    program = Program.running()
    program.writes = True

    from harmonypy_lite.files.claim import claimed
    from harmonypy_lite.files.output import plan
    from harmonypy_lite.files.readable import check_readable

    check_readable(file)
    target = plan(file, output, in_place=in_place, overwrite=overwrite)
    with unwinding_signals(), plain_warnings(None), claimed([target]):
        from harmonypy_lite.federated.steps import apply as work

        done = work(folder, _at(file, given), target, name=result, overwrite=overwrite)
    program.written = done.written[0]
    _say(done, as_json, quiet)


def _at(file: Path, given: dict[str, Any]) -> AtSite:
    from harmonypy_lite.federated.attendance import AtSite

    return AtSite(file=file, **given)


def _say_written(paths: list[Path], quiet: bool) -> None:
    if not quiet:
        for path in paths:
            click.echo(f"wrote {path}")


def _say(done: Progress, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(
            {
                "message": done.step,
                "written": [str(path) for path in done.written],
                "waiting_for": list(done.waiting_for),
                "stopped": done.stopped,
            }
        )
    elif not quiet:
        for path in done.written:
            click.echo(f"wrote {path}")
        if done.stopped:
            why = why_stopped({"stopped": done.stopped})
            click.echo(f"The run is over after message {done.step}: {why}.")
        elif done.waiting_for == ("combined",):
            click.echo(f"Waiting for combined message {done.step + 1}: `fed combine` makes it.")
        else:
            click.echo(f"Waiting for message {done.step + 1} of {', '.join(done.waiting_for)}.")
