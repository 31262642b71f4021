"""The examples in the package's own text run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import harmonypy_lite

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(harmonypy_lite.__path__, "harmonypy_lite.")
    if not module.name.endswith("__main__")
)
#: What examples need beyond the package's own needs.
OPTIONAL = {"harmonypy_lite.lazy": "dask"}
ROOMS = ("pp", "tl", "pl", "datasets")


def public_callables() -> list[tuple[str, object]]:
    """Functions and classes that a user can reach by name, errors left out."""
    found = {name: getattr(harmonypy_lite, name) for name in harmonypy_lite.__all__}
    for room in ROOMS:
        module = found.get(room)
        names = getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]
        for name in names if module is not None else ():
            thing = getattr(module, name)
            if inspect.isfunction(thing) and thing.__module__.startswith(module.__name__):
                found[f"{room}.{name}"] = thing
    return [
        (name, thing)
        for name, thing in sorted(found.items())
        if inspect.isfunction(thing)
        or (inspect.isclass(thing) and not issubclass(thing, Exception))
    ]


@pytest.mark.parametrize("name", MODULES)
def test_examples__run_and_print_what_they_say(name: str) -> None:
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    ("name", "thing"), public_callables(), ids=lambda x: x if isinstance(x, str) else ""
)
def test_public_names__each_have_an_example(name: str, thing: object) -> None:
    assert "\n>>> " in (inspect.getdoc(thing) or ""), name
