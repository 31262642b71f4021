"""The page on a sweep: its verdict, and what the recommended value does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harmonypy_lite.page.of_files import LAYOUT, levels_for_missing
from harmonypy_lite.page.report import write_report
from harmonypy_lite.pp import harmony_integrate

if TYPE_CHECKING:
    from anndata import AnnData

    from harmonypy_lite.theta.results import Sweep


def write_sweep_report(
    adata: AnnData,
    sweep: Sweep,
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    *,
    command: str,
    source: str,
    overwrite: bool,
) -> None:
    """Write the page on a sweep; with a recommendation, also on a run with it.

    Parameters
    ----------
    adata
        The cells; they are integrated in place.
    sweep
        What `tl.sweep_theta` returned for them.
    path, command, source, overwrite
        As in `write_report`.
    run
        The arguments of `tl.sweep_theta` that all runs had: key, label_key, basis, missing, and
        parameters.
    """
    how = dict(run)
    label_key, missing = how.pop("label_key"), how.pop("missing")
    if missing == "level":
        levels_for_missing(adata.obs, how["key"])
    if sweep.recommended is not None:
        how[sweep.vary] = sweep.recommended
        harmony_integrate(adata, **how, verbose=False)
    page: Any = {"command": command, "source": source, "layout": LAYOUT, "overwrite": overwrite}
    write_report(adata, path, label_key=label_key, sweep=sweep, **page)
