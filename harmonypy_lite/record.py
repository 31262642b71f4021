"""The summary of a run in the types that .h5ad and zarr files can hold, for ``uns["harmony"]``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from harmonypy_lite.method.history import rose_little

#: Levels that are named; the record has all.
_NAMED = 5

_STOPPED = {
    "converged": "the objective settled",
    "objective rose": "the objective no longer fell",
    "max_iter_harmony": "all iterations were used before the objective settled",
}


def why_stopped(record: Mapping[str, Any]) -> str:
    """Return in plain words why the run of a record or summary stopped.

    Examples
    --------
    >>> why_stopped({"stopped": "converged"})
    'the objective settled'
    """
    stopped = str(record["stopped"])
    if stopped != "objective rose" or "objective" not in record:
        return _STOPPED.get(stopped, stopped)
    objective = [float(value) for value in record["objective"]]
    old, new = objective[-2:]
    if rose_little(objective):
        share = f"{100 * (new - old) / abs(old):.2g} %"
        return f"the objective settled (rose by {share}, as it may once batches are mixed)"
    return f"the objective rose from {old:,.6g} to {new:,.6g}; the last correction is kept"


def caveats(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a record holds of covariates, clusters and levels without correction, in words.

    Examples
    --------
    >>> caveats({"n_clusters": 9, "idle_clusters": [4], "idle_share": 0.125})
    [('Corrects nothing', '1 of 9 clusters, with 12.5 % of the cells')]
    """
    said = [("Left out", str(reason)) for reason in record.get("dropped_covariates", ())]
    n_clusters = int(record.get("n_clusters", 0))
    idle = len(record.get("idle_clusters", ()))
    if idle:
        share = f"{100 * float(record['idle_share']):.1f} % of the cells"
        said.append(("Corrects nothing", f"{idle} of {n_clusters:,} clusters, with {share}"))
    names, clusters, shares = (
        list(record.get(name, ())) for name in ("pruned_levels", "pruned_clusters", "pruned_share")
    )
    order = sorted(range(len(names)), key=lambda i: (-shares[i], -clusters[i]))
    parts = [
        f"{names[i]} in {int(clusters[i])} of {n_clusters:,} clusters "
        f"({100 * float(shares[i]):.2g} % of its cells)"
        for i in order[:_NAMED]
    ]
    if parts:
        more = f" and {len(names) - _NAMED} more levels" if len(names) > _NAMED else ""
        said.append(("Levels not corrected", ", ".join(parts) + more))
    return said


def uns_record(summary: Mapping[str, Any], *, basis: str, adjusted_basis: str) -> dict[str, Any]:
    """Return the summary as nested dicts of texts, numbers and arrays.

    A value of None is left out (anndata < 0.12 cannot read it), and what was given per covariate
    becomes two parallel arrays or JSON text: a covariate may be named ``a/b``, which no file can
    hold as a key. The time it took is left out, so that the same run gives the same file.

    Examples
    --------
    >>> record = uns_record({"covariates": {"donor": 3}, "objective": [9.5, 9.1]},
    ...                     basis="X_pca", adjusted_basis="X_pca_harmony")
    >>> record["covariates"].tolist(), record["n_levels"].tolist()
    (['donor'], [3])
    """
    record: dict[str, Any] = {"basis": basis, "adjusted_basis": adjusted_basis}
    for name, value in summary.items():
        if name == "covariates":
            record["covariates"] = np.array(list(value), dtype=object)
            record["n_levels"] = np.array(list(value.values()), dtype=np.int64)
        elif name == "dropped_covariates":
            reasons = [f"{covariate}: {reason}" for covariate, reason in value.items()]
            record[name] = np.array(reasons, dtype=object)
        elif name == "confounding":
            pairs = [(f"{p} ~ {b}", v) for p, by in value.items() for b, v in by.items()]
            record[name] = np.array([pair for pair, _ in pairs], dtype=object)
            record["cramers_v"] = np.array([v for _, v in pairs], dtype=np.float64)
        elif name == "pruned_levels":
            levels = [(f"{c}={b}", each) for c, by in value.items() for b, each in by.items()]
            record[name] = np.array([level for level, _ in levels], dtype=object)
            record["pruned_clusters"] = np.array([e["clusters"] for _, e in levels], np.int64)
            record["pruned_share"] = np.array([e["share"] for _, e in levels], np.float64)
        elif isinstance(value, Mapping):
            record[name] = {k: _plain(v) for k, v in value.items() if v is not None}
        elif value is not None and name != "seconds":
            record[name] = _plain(value)
    return record


def storable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts without the values of None that older anndata cannot read."""
    return {
        name: storable(value) if isinstance(value, Mapping) else _plain(value)
        for name, value in tree.items()
        if value is not None
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, str | bool | int | float | np.generic):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "iufb":
        return array if array.size else array.astype(np.float64)
    if array.dtype.kind in "UO" and all(isinstance(v, str) for v in array.ravel()):
        return array.astype(object)
    return json.dumps(value, default=str)
