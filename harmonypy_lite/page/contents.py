"""What a page on a run holds: facts, scores, pictures, parameters, in the order they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.lookup import check_basis
from harmonypy_lite.metrics.columns import Columns, read_columns
from harmonypy_lite.metrics.sampling import stratified
from harmonypy_lite.metrics.score import score
from harmonypy_lite.metrics.suite import METRICS, ON_REQUEST
from harmonypy_lite.page import drawings, words
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.pl.convergence import record_of
from harmonypy_lite.pl.layout import Layout
from harmonypy_lite.record import caveats, why_stopped
from harmonypy_lite.tl import diagnose

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from harmonypy_lite.theta.results import Sweep

#: Cells that scores and pictures look at.
MOST_CELLS = 20_000


@dataclass(frozen=True)
class Run:
    """A run of Harmony and its cells, checked.

    Attributes
    ----------
    cells
        All cells, or a stratified sample.
    record
        Of the run, from ``uns["harmony"]``.
    keys, label_key
        The batch columns that were integrated, and the column of cell types.
    before, after
        Keys of obsm.
    n_cells
        Of the run.
    """

    cells: AnnData
    record: Mapping[str, Any]
    keys: list[str]
    label_key: str | None
    before: str
    after: str
    n_cells: int

    @classmethod
    def of(cls, adata: AnnData, label_key: str | None) -> Run:
        """Check the AnnData of a run; take a sample where there are many cells."""
        record = record_of(adata)
        keys = [str(key) for key in record["covariates"]]
        before, after = str(record["basis"]), str(record["adjusted_basis"])
        columns = read_columns(adata.obs, keys, label_key)
        for basis in (before, after):
            check_basis(basis, adata.obsm.keys())
        chosen = sample_of(columns, adata.n_obs)
        cells = _parts_of(adata, [*keys, *([label_key] if label_key else [])], (before, after))
        cells = cells if chosen is None else cells[chosen].copy()
        return cls(cells, record, keys, label_key, before, after, int(record["n_cells"]))


def _parts_of(adata: AnnData, columns: list[str], bases: tuple[str, str]) -> AnnData:
    """Return an AnnData of what is drawn, so that nothing is written to the user's."""
    from anndata import AnnData as Cells

    colours = {
        f"{c}_colors": adata.uns[f"{c}_colors"] for c in columns if f"{c}_colors" in adata.uns
    }
    obsm = {basis: np.asarray(adata.obsm[basis]) for basis in bases}
    return Cells(obs=adata.obs[columns].copy(), obsm=obsm, uns=colours)


def sample_of(columns: Columns, n_cells: int) -> np.ndarray | None:
    """Return the cells that represent all, or None where all can be looked at."""
    if n_cells <= MOST_CELLS:
        return None
    return stratified(columns.strata(), MOST_CELLS, seed=0)


def page_of(
    run: Run,
    sweep: Sweep | None,
    *,
    command: str | None,
    source: str,
    layout: Layout,
    n_jobs: int | None,
) -> dict[str, Any]:
    """Return what the template needs for a run, and the sweep that it follows from."""
    table = _scores(run, n_jobs)
    how: Any = {"basis": run.before, "adjusted_basis": run.after, "label_key": run.label_key}
    diagnosis = diagnose(run.cells, run.keys, **how, n_jobs=n_jobs, missing="level")
    alarm = diagnosis.reason if diagnosis.alarm else None
    return {
        "heading": f"Harmony integration of {source}",
        "done": _done(run),
        "sampled": _sampled(run),
        "verdict": words.verdict(table, run.keys, run.before, run.after, alarm),
        "facts": _facts(run),
        "scores": [_score_table(table, key, run) for key in run.keys],
        "pictures": drawings.of_run(run, diagnosis, table, layout),
        "sweep": None if sweep is None else drawings.of_sweep(sweep),
        "command": command or _call(run),
        "language": "bash" if command else "Python",
        "parameters": _parameters(run.record),
        "versions": _versions(run.record["versions"]),
        "confounding": _confounding(run.record),
        "limits": {"mixed": words.MIXED, "apart": words.APART, "loss": words.LOSS},
    }


def page_of_sweep(
    sweep: Sweep, n_cells: int, *, command: str | None, source: str
) -> dict[str, Any]:
    """Return what the template needs for a sweep after which nothing was integrated."""
    n = len(sweep.table)
    return {
        "heading": f"Harmony sweep of {source}",
        "done": f"{n} values of {sweep.vary} were compared on {n_cells:,} cells.",
        "sampled": "",
        "verdict": None,
        "facts": [],
        "scores": [],
        "pictures": [],
        "sweep": drawings.of_sweep(sweep),
        "command": command or "",
        "language": "bash",
        "parameters": [(name, _plain(value), "") for name, value in sweep.parameters.items()],
        "versions": _versions(sweep.versions),
        "confounding": [],
        "limits": {},
    }


def _versions(versions: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted((str(name), str(version)) for name, version in versions.items())


def _scores(run: Run, n_jobs: int | None) -> pd.DataFrame:
    names = [name for name in METRICS if name not in ON_REQUEST]
    return score(
        run.cells,
        run.keys,
        run.label_key,
        [run.before, run.after],
        run.before,
        metrics=names,
        n_jobs=n_jobs,
    )


def _done(run: Run) -> str:
    record = run.record
    levels = [
        f"{key} ({int(n):,} levels)" for key, n in zip(run.keys, record["n_levels"], strict=True)
    ]
    n = int(record["iterations"])
    return (
        f"{run.n_cells:,} cells in {int(record['n_dims'])} dimensions ({run.before}) were "
        f"corrected for {' and '.join(levels)} in {n} iteration{'s' * (n != 1)}; the result is "
        f"{run.after}."
    )


def _sampled(run: Run) -> str:
    if run.cells.n_obs == run.n_cells:
        return ""
    return (
        f"Scores and pictures look at {run.cells.n_obs:,} of {run.n_cells:,} cells, drawn at "
        "random so that each combination of batch and type has its share."
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    record, objective = run.record, run.record["objective"]
    levels = zip(run.keys, record["n_levels"], strict=True)
    return [
        ("Cells", f"{run.n_cells:,}"),
        *((f"Levels of {key}", f"{int(n):,}") for key, n in levels),
        ("Clusters", f"{int(record['n_clusters']):,}"),
        ("Iterations", f"{int(record['iterations'])}"),
        ("Objective", f"{words.number(objective[0], 1)} → {words.number(objective[-1], 1)}"),
        ("Stopped because", why_stopped(record)),
        *caveats(record),
    ]


def _score_table(table: pd.DataFrame, key: str, run: Run) -> dict[str, Any]:
    own = table[table["batch_key"] == key]
    groups = []
    for kind, title in (("batch", "Mixing"), ("biology", "Biology"), ("total", "Totals")):
        rows = [
            _score_row(table, key, metric, run)
            for metric in dict.fromkeys(own.loc[own["kind"] == kind, "metric"])
        ]
        groups.append({"title": title, "rows": [row for row in rows if row is not None]})
    missing = own[own["raw"].isna() & own["calibrated"].isna() & (own["kind"] != "total")]
    reasons: dict[str, list[str]] = {}
    for row in missing.drop_duplicates("metric").to_dict(orient="records"):
        reasons.setdefault(str(row["reason"]), []).append(words.METRICS[row["metric"]][0])
    return {
        "key": key,
        "groups": [group for group in groups if group["rows"]],
        "missing": [(", ".join(names), reason) for reason, names in reasons.items()],
    }


def _score_row(table: pd.DataFrame, key: str, metric: str, run: Run) -> dict[str, Any] | None:
    pair = words.values_of(table, key, metric, run.before, run.after)
    if pair is None:
        return None
    own = table[(table["batch_key"] == key) & (table["metric"] == metric)]
    errors = own.set_index("embedding")["standard_error"]
    name, question = words.METRICS[metric]
    before, after = pair
    change = words.number(after - before)
    return {
        "name": name,
        "question": question,
        "before": words.number(before),
        "after": words.number(after),
        "errors": [_error(errors[run.before]), _error(errors[run.after])],
        "change": change if change.startswith(("\N{MINUS SIGN}", "0.00")) else f"+{change}",
        "places": [round(100 * float(np.clip(value, 0, 1)), 1) for value in pair],
    }


def _error(value: float) -> str:
    return f"± {words.number(value, 3)}" if value == value and value >= 0.0005 else ""


def _parameters(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return each parameter with its value and meaning."""
    given = _given(record)
    rows = []
    for parameter in fields(HarmonyParams):
        rows.append(
            (
                parameter.name,
                _plain(given.get(parameter.name)),
                parameter.metadata["meaning"].replace("`", ""),
            )
        )
    return rows


def _given(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as they were given: the record has those of each level as JSON."""
    given = dict(record["parameters"])
    for name, value in given.items():
        if isinstance(value, str) and value.startswith("{"):
            given[name] = json.loads(value)
        elif isinstance(value, np.ndarray | np.generic):
            given[name] = value.tolist()
    return given


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, np.ndarray | list | tuple):
        entries = [_plain(each) for each in np.asarray(value).ravel().tolist()]
        more = f" and {len(entries) - 12} more" if len(entries) > 12 else ""
        return ", ".join(entries[:12]) + more
    return f"{value:g}" if isinstance(value, float) else str(value)


def _confounding(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = zip(record.get("confounding", ()), record.get("cramers_v", ()), strict=True)
    return [(str(pair), words.number(float(v))) for pair, v in pairs]


def _call(run: Run) -> str:
    """Return the call in Python, with the parameters that are not the defaults."""
    defaults = HarmonyParams().resolved()
    named = [
        f"{name}={value!r}"
        for name, value in _given(run.record).items()
        if value is not None and value != getattr(defaults, name)
    ]
    key = repr(run.keys[0] if len(run.keys) == 1 else run.keys)
    if (run.before, run.after) != ("X_pca", "X_pca_harmony"):
        named = [f"basis={run.before!r}", f"adjusted_basis={run.after!r}", *named]
    return f"harmonypy_lite.pp.harmony_integrate({', '.join(['adata', key, *named])})"
