"""The options of the command line: made from the fields of HarmonyParams, grouped in the help."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.params import HarmonyParams

INPUT, OUTPUT, METHOD, LIMITS = "Input", "Output", "Method", "Iterations and threads"
SIZE = "Large files"
MESSAGES = "Messages"
_LIMITS = {"max_iter_harmony", "max_iter_clustering", "tol_harmony", "tol_clustering"}
_LIMITS |= {"early_stop", "rng", "n_jobs"}
_EXTRA_NAMES = {"rng": "--seed", "n_jobs": "-j"}


class SectionedOption(click.Option):
    """An option that the help shows under a heading."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings, in the order of the code."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options per heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            entry = parameter.get_help_record(ctx)
            if entry is not None and isinstance(parameter, click.Option):
                section = getattr(parameter, "section", MESSAGES)  # --help is click's own
                sections.setdefault(section, []).append(entry)
        for heading, entries in sections.items():
            with formatter.section(heading):
                formatter.write_dl(entries, col_max=26)


def option(*names: str, section: str, **kwargs: Any) -> Callable[[Any], Any]:
    """Declare an option under a heading of the help."""
    return click.option(*names, cls=SectionedOption, section=section, **kwargs)


#: Options that several commands have.
quiet_option = option(
    "-q", "--quiet", section=MESSAGES, is_flag=True, help="Print nothing but warnings."
)


def json_option(text: str) -> Callable[[Any], Any]:
    """Return --json, which `text` explains."""
    return option("--json", "as_json", section=MESSAGES, is_flag=True, help=text)


def output_option(text: str) -> Callable[[Any], Any]:
    """Return --output, which `text` explains."""
    kind = click.Path(path_type=Path)
    return option("-o", "--output", section=OUTPUT, type=kind, metavar="FILE", help=text)


def overwrite_option(text: str) -> Callable[[Any], Any]:
    """Return --overwrite, which `text` explains."""
    return option("--overwrite", section=OUTPUT, is_flag=True, help=text)


def report_option(text: str) -> Callable[[Any], Any]:
    """Return --report, which `text` explains."""
    kind = click.Path(path_type=Path)
    return option("--report", section=OUTPUT, type=kind, metavar="FILE.html", help=text)


def print_json(tree: Mapping[str, Any]) -> None:
    """Print a summary for machines."""
    click.echo(json.dumps(tree, indent=2, ensure_ascii=False))


class Number(click.ParamType):
    """A number, or the word none."""

    name = "NUMBER"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return a float, or the word itself, which stands for None."""
        if not isinstance(value, str):
            return value
        if value.lower() == "none":
            return "none"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is no number.", param, ctx)


def _parameter_option(parameter: Any) -> Callable[[Any], Any]:
    meta, name = parameter.metadata, parameter.name
    flag = option_name(name)
    names = [flag] + ([_EXTRA_NAMES[name]] if name in _EXTRA_NAMES else [])
    text = _help_text(meta.get("option", meta["meaning"]))
    if parameter.default is not None and meta["kind"] != "bool":
        text += f"  [default: {parameter.default:g}]" if _is_number(parameter.default) else ""
        text += f"  [default: {parameter.default}]" if isinstance(parameter.default, str) else ""
    section = LIMITS if name in _LIMITS else METHOD
    kinds: Mapping[str, dict[str, Any]] = {
        "choice": {"type": click.Choice(meta.get("choices", ()))},
        "int": {"type": int, "metavar": "N"},
        "seed": {"type": int, "metavar": "N"},
        "float": {"type": Number()},
        "per level": {"multiple": True, "metavar": "NUMBERS"},
        "per cluster": {"multiple": True, "metavar": "NUMBERS"},
        "bool": {},
    }
    if meta["kind"] == "bool":
        names = [f"{flag}/--no-{flag.removeprefix('--')}"]
    return option(*names, name, section=section, help=text, default=None, **kinds[meta["kind"]])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _help_text(meaning: str) -> str:
    """Turn `some_parameter` into --some-parameter, `None` into none; drop the quotes of others."""
    names = {parameter.name for parameter in fields(HarmonyParams)}

    def shown(match: re.Match[str]) -> str:
        word = "none" if match[1] == "None" else match[1]  # as in other options
        return option_name(word) if word in names else word

    return re.sub(r"`([^`]+)`", shown, meaning)


def option_name(parameter: str) -> str:
    """Return the option of a parameter: ``max_iter_harmony`` -> ``--max-iter-harmony``."""
    return "--" + parameter.replace("_", "-")


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each field of HarmonyParams.

    But not `memory`: files may also be held on disk, so that option has more to say there.
    """
    for parameter in reversed(fields(HarmonyParams)):
        if parameter.name == "memory":
            continue
        command = _parameter_option(parameter)(command)
    return command


def params_from(given: Mapping[str, Any]) -> HarmonyParams:
    """Return the parameters from the values of the options; absent ones keep their default.

    Examples
    --------
    >>> params_from({"theta": ("donor=4,chemistry=1",), "rng": None}).theta
    {'donor': 4.0, 'chemistry': 1.0}
    """
    values: dict[str, Any] = {}
    for parameter in fields(HarmonyParams):
        value = given.get(parameter.name)
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            value = numbers(parameter.name, value, named=parameter.metadata["kind"] == "per level")
        values[parameter.name] = None if value == "none" else value
    return HarmonyParams(**values)


def in_options(message: str) -> str:
    """Put a message of the package, which names arguments of Python, into words of the program.

    Examples
    --------
    >>> in_options("tau=-1.0: give a finite number, or raise max_iter_harmony.")
    '--tau -1.0: give a finite number, or raise --max-iter-harmony.'
    """
    names = [parameter.name for parameter in fields(HarmonyParams)]
    long = [name for name in [*names, "in_place", "adjusted_basis", "max_missing"] if "_" in name]
    message = message.replace("label_key", "--label")
    message = re.sub(rf"^({'|'.join(names)})=", lambda m: f"{option_name(m[1])} ", message)
    message = re.sub(r"\b(missing|levels)='(\w+)'", r"--\1 \2", message)
    return re.sub(rf"(?<![\w-])({'|'.join(long)})\b", lambda m: option_name(m[1]), message)


def numbers(name: str, texts: tuple[str, ...], *, named: bool) -> Any:
    """Read ``2``, ``4,2`` (in the order of the keys) or ``donor=4,chemistry=2``.

    An option that is given several times counts as one list. ``donor=1,2,3`` gives donor one
    value per level.

    Examples
    --------
    >>> numbers("theta", ("4", "2"), named=True)
    [4.0, 2.0]
    >>> numbers("theta", ("donor=4",), named=True)
    {'donor': 4.0}
    """
    flat: list[float] = []
    by_name: dict[str, list[float]] = {}
    for text in texts:
        current = flat
        for part in text.split(","):
            covariate, equals, number = part.rpartition("=")
            if equals and named:
                current = by_name.setdefault(covariate.strip(), [])
            current.append(_number(name, text, number if named else part))
    if flat and by_name:
        raise InvalidInput(
            f"{option_name(name)} {' '.join(texts)}: give names for all numbers or for none."
        )
    if by_name:
        return {covariate: v[0] if len(v) == 1 else v for covariate, v in by_name.items()}
    return flat[0] if len(flat) == 1 else flat


def _number(name: str, text: str, part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise InvalidInput(
            f"{option_name(name)} {text!r}: {part.strip()!r} is no number. Give one (2), one per "
            "--key (4,2)" + (", or by name (donor=4,chemistry=2)." if name != "sigma" else ".")
        ) from None
