"""The page on an integration of files: of a file larger than memory only a sample is read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.files.inputs import Inputs, open_inputs
from harmonypy_lite.lookup import check_columns
from harmonypy_lite.metrics.columns import read_columns
from harmonypy_lite.page.contents import sample_of
from harmonypy_lite.page.report import check_report, write_report
from harmonypy_lite.pl.layout import Layout
from harmonypy_lite.record import uns_record

if TYPE_CHECKING:
    import pandas as pd

#: Of the pictures of cells.
LAYOUT: Layout = "auto"
_ROWS = 2**16  # that are read at a time


def check_file_report(
    path: str | os.PathLike[str],
    sources: Sequence[Path],
    label_key: str | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse before the work a page that cannot be written, or a column of labels that is absent.

    Raises
    ------
    InvalidInput
        As `check_report`, and for a column that one of the files lacks.
    MissingExtra
        Without jinja2 or matplotlib.
    """
    check_report(path, overwrite=overwrite)
    if label_key is not None:
        with open_inputs(sources) as inputs:
            for store in inputs.stores:
                check_columns([label_key], store.columns())


def write_file_report(
    results: Sequence[Path],
    summary: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    basis: str,
    adjusted_basis: str,
    label_key: str | None,
    command: str,
    source: str,
    overwrite: bool,
) -> None:
    """Write the page on files that were integrated together; see `write_report`."""
    from anndata import AnnData

    keys = list(summary["covariates"])
    with open_inputs(results) as inputs:
        columns = [*keys, *([label_key] if label_key else [])]
        obs = inputs.obs(columns)
        # of several files the first decides: levels it does not have get our own colours
        colours = inputs.stores[0].colours(columns)
        levels_for_missing(obs, keys)  # a run that refuses them had none
        chosen = sample_of(read_columns(obs, keys, label_key), len(obs))
        bases = (basis, adjusted_basis)
        obsm = {name: _rows(inputs, name, chosen) for name in bases}
    obs = (obs if chosen is None else obs.iloc[chosen]).reset_index(drop=True)
    obs.index = obs.index.astype(str)
    record = uns_record(summary, basis=basis, adjusted_basis=adjusted_basis)
    cells = AnnData(obs=obs, obsm=obsm, uns={**colours, "harmony": record})
    how: Any = {"command": command, "source": source, "layout": LAYOUT, "overwrite": overwrite}
    write_report(cells, path, label_key=label_key, **how)


def levels_for_missing(obs: pd.DataFrame, keys: Sequence[str]) -> None:
    """Make cells without a value a level of their own, as the run did."""
    for key in keys:
        if obs[key].isna().any():
            obs[key] = obs[key].astype(object).where(obs[key].notna(), "missing").astype(str)


def _rows(inputs: Inputs, basis: str, chosen: np.ndarray | None) -> np.ndarray:
    """Return all rows of an embedding, or those of some cells, ascending."""
    stored = inputs.embedding(basis)
    n_cells = stored.shape[0]
    if chosen is None:
        return np.asarray(stored[0:n_cells])
    parts = []
    for start in range(0, n_cells, _ROWS):
        stop = min(start + _ROWS, n_cells)
        first, last = np.searchsorted(chosen, (start, stop))
        if first < last:
            parts.append(stored[start:stop][chosen[first:last] - start])
    return np.concatenate(parts)
