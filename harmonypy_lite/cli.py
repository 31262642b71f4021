"""The program `harmonypy-lite`: options to parameters, the call that a notebook makes, a summary.

Nothing heavy is imported before a command runs, so that the help answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harmonypy_lite._version import __version__
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.options import (
    INPUT,
    MESSAGES,
    OUTPUT,
    SectionedCommand,
    in_options,
    option,
    parameter_options,
    params_from,
)

if TYPE_CHECKING:
    from harmonypy_lite.progress import Bar


class Terminated(BaseException):
    """The process was asked to end by a signal other than Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Program(click.Group):
    """The group of commands; turns every failure into one paragraph and an exit code.

    0 done, 2 wrong use or input, 1 failure, 130 Ctrl-C, 128 + n ended by signal n.
    """

    debug = False  # -vv was given: a failure shows its traceback
    written: Path | None = None  # the output, once it is complete

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; click's own texts and codes for wrong use are kept."""
        self.debug = bool(os.environ.get("HARMONYPY_LITE_DEBUG"))
        self.written = None
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Terminated as error:
            self._fail(f"Ended by signal {error.number}. {self._outcome()}", 128 + error.number)
        except (KeyboardInterrupt, click.Abort):
            self._fail(f"Interrupted. {self._outcome()}", 130)
        except InvalidInput as error:
            self._fail(f"Error: {in_options(str(error))}", 2)
        except Exception as error:
            self._fail(f"Error: {_failure(error)} {self._outcome()}", 1)
        sys.exit(code if isinstance(code, int) else 0)

    def _outcome(self) -> str:
        return f"{self.written} is complete." if self.written else "Nothing was written."

    def _fail(self, message: str, code: int) -> NoReturn:
        if self.debug:
            traceback.print_exc()
        say(message)
        sys.exit(code)


def _failure(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory."
    known = isinstance(error, OSError | ArithmeticError | ImportError | RuntimeError)
    said = str(error) if known and str(error) else f"{type(error).__name__}: {error}"
    return f"{said.rstrip('.')} (-vv shows where)."


def say(message: str) -> None:
    """Print a message to stderr, wrapped where a person reads it."""
    if sys.stderr.isatty():
        width = min(shutil.get_terminal_size().columns, 100)
        message = textwrap.fill(message, width, break_long_words=False, break_on_hyphens=False)
    click.echo(message, err=True)


def _set_verbosity(ctx: click.Context, _parameter: Any, times: int) -> None:
    """Let -v stand before or after the name of the command."""
    times = max(times, ctx.meta.get("harmonypy_lite.verbosity", 0))
    ctx.meta["harmonypy_lite.verbosity"] = times
    program.debug = program.debug or times > 1
    log = logging.getLogger("harmonypy_lite")
    if times == 0 or ctx.find_root().meta.get("harmonypy_lite.logging"):
        return
    handler = logging.StreamHandler()
    old = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if times == 1 else logging.DEBUG)
    ctx.find_root().meta["harmonypy_lite.logging"] = True

    def restore() -> None:
        log.removeHandler(handler)
        log.setLevel(old)

    ctx.find_root().call_on_close(restore)


def verbosity(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add -v to a command."""
    return option(
        "-v",
        "--verbose",
        section=MESSAGES,
        count=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Say more; -vv also shows the traceback of an error.",
    )(command)


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


_FILE_OPTIONS = ("in_place", "overwrite", "missing", "preprocess", "layer", "protect")


@program.command(cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "-k",
    "--key",
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
@option(
    "-o",
    "--output",
    section=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The new file; by default NAME_harmony.h5ad beside the input.",
)
@option(
    "-i",
    "--in-place",
    section=OUTPUT,
    is_flag=True,
    help="Add the result to the input (replaced in one step when the result is complete).",
)
@option(
    "--overwrite",
    section=OUTPUT,
    is_flag=True,
    help="Replace an output file, or a result in the file, that is there already.",
)
@option(
    "--adjusted-basis",
    section=OUTPUT,
    default="X_pca_harmony",
    show_default=True,
    metavar="NAME",
    help="Key of obsm for the result.",
)
@parameter_options
@option("--json", "as_json", section=MESSAGES, is_flag=True, help="Print the summary as JSON.")
@option("-q", "--quiet", section=MESSAGES, is_flag=True, help="Print nothing but warnings.")
@verbosity
def integrate(file: Path, keys: tuple[str, ...], as_json: bool, quiet: bool, **given: Any) -> None:
    """Integrate the embedding of an .h5ad file.

    Only the batch columns and the embedding are read. The output is a copy of the file with
    obsm['X_pca_harmony'] and the record uns['harmony'] added; it is complete or absent.

    --theta, --sigma and --ridge-lambda take one number (2), one per key (4,2), or numbers by name
    (donor=4,chemistry=2).

    \b
    Examples
      harmonypy-lite integrate pbmc.h5ad --key donor
      harmonypy-lite integrate pbmc.h5ad --key donor --key chemistry --theta donor=2,chemistry=1
      harmonypy-lite integrate raw.h5ad --key sample --preprocess -o integrated.h5ad
    """  # noqa: D301
    started = time.perf_counter()
    files = {n: given.pop(n) for n in _FILE_OPTIONS}
    names = {n: given.pop(n) for n in ("basis", "adjusted_basis")}
    out = given.pop("output")
    params = params_from(given)

    from harmonypy_lite.io import integrate_file
    from harmonypy_lite.progress import progress_bar

    show = sys.stderr.isatty() and not quiet
    with _signals(), progress_bar(show) as progress, _plain_warnings(progress) as said:
        done = integrate_file(
            file, keys, out=out, params=params, progress=progress, **files, **names
        )
    program.written = done.path
    seconds = time.perf_counter() - started
    if as_json:
        where = {"input": str(file), "output": str(done.path)}
        extra = {"seconds_with_files": seconds, "warnings": said}
        _print_json(where | names | done.summary | extra)
    elif not quiet:
        from harmonypy_lite.report import summary_text

        click.echo(summary_text(done.summary, output=done.path, seconds=seconds, **names))


@program.command(cls=SectionedCommand)
@click.argument("file", type=click.Path(path_type=Path))
@option("--json", "as_json", section=MESSAGES, is_flag=True, help="Print it as JSON.")
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


def _print_json(tree: dict[str, Any]) -> None:
    click.echo(json.dumps(tree, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, as Ctrl-C does, so that temporary files go."""

    def end(number: int, _frame: Any) -> NoReturn:
        raise Terminated(number)

    old = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is None:
            continue
        with contextlib.suppress(ValueError):  # outside the main thread
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it ignored
                old[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _plain_warnings(progress: Bar | None) -> Iterator[list[str]]:
    """Show the package's warnings as lines without file names, and collect their texts.

    Warnings of other packages are about their insides; -v shows them.
    """
    said: list[str] = []

    def show(message: Any, *_rest: Any, **_more: Any) -> None:
        if progress is not None:
            progress.clear()
        said.append(in_options(str(message)))
        say(f"Warning: {said[-1]}")

    with warnings.catch_warnings():
        log = logging.getLogger("harmonypy_lite")
        warnings.simplefilter("default" if log.isEnabledFor(logging.INFO) else "ignore")
        warnings.simplefilter("always", HarmonyWarning)
        warnings.showwarning = show
        yield said


def main() -> None:
    """Run the program; the entry point of the installed command."""
    program(prog_name="harmonypy-lite")
