"""Harmony batch integration for single-cell embeddings: fast, deterministic, streaming.

Which call for which data
-------------------------
- an AnnData: ``pp.harmony_integrate(adata, "donor")``, then ``metrics.score(adata, "donor")``
- an array of cells x dimensions: ``Harmony().fit_transform(X, batch)``, as in scikit-learn
- which theta, and whether to correct at all: ``tl.sweep_theta(adata, "donor")``
- a call of harmonypy: ``run_harmony(X, obs, "donor").Z_corr``
- an .h5ad file: ``harmonypy-lite integrate FILE --key donor`` on the command line

``datasets`` simulates and loads data, ``pl`` draws, and ``write_report`` makes a page of HTML of
what a run did. All calls share the parameters of ``HarmonyParams`` and give the same bytes for the
same seed.

Examples
--------
>>> import harmonypy_lite as hl
>>> adata = hl.datasets.simulate(n_cells=600)
>>> hl.pp.harmony_integrate(adata, "batch")
>>> adata.obsm["X_pca_harmony"].shape
(600, 20)
"""
# Names are imported when they are first used, so that importing the package costs nothing.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harmonypy_lite._version import __version__

if TYPE_CHECKING:
    from harmonypy_lite import datasets, metrics, pl, pp, tl
    from harmonypy_lite.compat import run_harmony
    from harmonypy_lite.errors import (
        HarmonyWarning,
        InvalidInput,
        LeftOutWarning,
        MissingExtra,
        NotApplicable,
        NotConvergedWarning,
        NumericalError,
        ObjectiveRoseWarning,
        UncorrectedWarning,
    )
    from harmonypy_lite.estimator import Harmony
    from harmonypy_lite.io import integrate_file, integrate_files
    from harmonypy_lite.mapped_files import map_file
    from harmonypy_lite.model import HarmonyModel
    from harmonypy_lite.page import write_report
    from harmonypy_lite.params import HarmonyParams

__all__ = [
    "Harmony",
    "HarmonyModel",
    "HarmonyParams",
    "HarmonyWarning",
    "InvalidInput",
    "LeftOutWarning",
    "MissingExtra",
    "NotApplicable",
    "NotConvergedWarning",
    "NumericalError",
    "ObjectiveRoseWarning",
    "UncorrectedWarning",
    "__version__",
    "datasets",
    "integrate_file",
    "integrate_files",
    "map_file",
    "metrics",
    "pl",
    "pp",
    "run_harmony",
    "tl",
    "write_report",
]

_HOME = {
    "Harmony": "estimator",
    "HarmonyModel": "model",
    "HarmonyParams": "params",
    "HarmonyWarning": "errors",
    "InvalidInput": "errors",
    "MissingExtra": "errors",
    "NotApplicable": "errors",
    "NotConvergedWarning": "errors",
    "ObjectiveRoseWarning": "errors",
    "UncorrectedWarning": "errors",
    "LeftOutWarning": "errors",
    "NumericalError": "errors",
    "integrate_file": "io",
    "integrate_files": "io",
    "map_file": "mapped_files",
    "run_harmony": "compat",
    "write_report": "page",
}
_MODULES = ("datasets", "metrics", "pl", "pp", "tl")


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
