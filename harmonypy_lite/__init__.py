"""Harmony batch integration for single-cell embeddings: fast, deterministic, streaming.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harmonypy_lite._version import __version__

if TYPE_CHECKING:
    from harmonypy_lite import datasets, metrics, pl, pp
    from harmonypy_lite.compat import run_harmony
    from harmonypy_lite.errors import (
        HarmonyWarning,
        InvalidInput,
        MissingExtra,
        NotApplicable,
        NotConvergedWarning,
        NumericalError,
    )
    from harmonypy_lite.estimator import Harmony
    from harmonypy_lite.io import integrate_file, integrate_files
    from harmonypy_lite.params import HarmonyParams

__all__ = [
    "Harmony",
    "HarmonyParams",
    "HarmonyWarning",
    "InvalidInput",
    "MissingExtra",
    "NotApplicable",
    "NotConvergedWarning",
    "NumericalError",
    "__version__",
    "datasets",
    "integrate_file",
    "integrate_files",
    "metrics",
    "pl",
    "pp",
    "run_harmony",
]

_HOME = {
    "Harmony": "estimator",
    "HarmonyParams": "params",
    "HarmonyWarning": "errors",
    "InvalidInput": "errors",
    "MissingExtra": "errors",
    "NotApplicable": "errors",
    "NotConvergedWarning": "errors",
    "NumericalError": "errors",
    "integrate_file": "io",
    "integrate_files": "io",
    "run_harmony": "compat",
}
_MODULES = ("datasets", "metrics", "pl", "pp")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
