"""The program `harmonypy-lite`: its commands put together.

Nothing heavy is imported before a command runs, so that the help answers at once.
"""

from __future__ import annotations

import click

from harmonypy_lite._version import __version__
from harmonypy_lite.commands.fed import fed
from harmonypy_lite.commands.info import info
from harmonypy_lite.commands.integrate import integrate
from harmonypy_lite.commands.map_cells import map_cells
from harmonypy_lite.commands.score import score
from harmonypy_lite.commands.sweep import sweep
from harmonypy_lite.program import Program, verbosity

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


for command in (integrate, info, map_cells, score, fed, sweep):
    program.add_command(command)


def main() -> None:
    """Run the program; the entry point of the installed command."""
    program(prog_name="harmonypy-lite")
