"""The frame of the program: exit codes, messages, verbosity, signals. It runs `commands`."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.options import MESSAGES, in_options, option

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
    writes = False  # the command makes an output file, so that its end says what became of it
    written: Path | None = None  # the output, once it is complete
    given: tuple[str, ...] = ()  # the words of the command line

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
        self.writes, self.written = False, None
        self.given = tuple(sys.argv[1:] if args is None else args)
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

    def note_written(self, paths: list[Path]) -> None:
        """Note that the outputs are complete."""
        self.written = paths[-1]

    def typed(self) -> str:
        """Return the command as it can be typed again."""
        return shlex.join(["harmonypy-lite", *self.given])

    @staticmethod
    def running() -> Program:
        """Return the program whose command is running."""
        root = click.get_current_context().find_root().command
        assert isinstance(root, Program)
        return root

    def _outcome(self) -> str:
        if not self.writes:
            return ""
        return f"{self.written} is complete." if self.written else "Nothing was written."

    def _fail(self, message: str, code: int) -> NoReturn:
        if self.debug:
            traceback.print_exc()
        say(message.rstrip())
        sys.exit(code)


def _failure(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory."
    known = isinstance(error, OSError | ArithmeticError | ImportError | RuntimeError)
    said = str(error) if known and str(error) else f"{type(error).__name__}: {error}"
    return f"{said.rstrip('.')} (-vv shows where)."


def bars_wanted(*, quiet: bool) -> bool:
    """Whether to show progress: on a terminal, unless tqdm's own TQDM_DISABLE says no."""
    return sys.stderr.isatty() and not quiet and not os.environ.get("TQDM_DISABLE")


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
    root = ctx.find_root().command
    if times > 1 and isinstance(root, Program):
        root.debug = True
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


@contextlib.contextmanager
def unwinding_signals() -> Iterator[None]:
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
def plain_warnings(progress: Bar | None) -> Iterator[list[str]]:
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
