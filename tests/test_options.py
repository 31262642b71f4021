from __future__ import annotations

import click

from harmonypy_lite.options import parameter_options
from harmonypy_lite.params import describe


def test_seed__may_be_a_generator_in_python_only() -> None:
    parameters = click.command(parameter_options(lambda **given: None)).params
    (seed,) = (option for option in parameters if option.name == "rng")
    assert "generator" not in seed.help  # type: ignore[attr-defined]
    assert "a generator may be given instead" in describe()
