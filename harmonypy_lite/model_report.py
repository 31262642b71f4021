"""What the command line prints of models and of cells that were placed by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harmonypy_lite.files.output import human, size_of
from harmonypy_lite.report import count

if TYPE_CHECKING:
    from harmonypy_lite.mapped_files import MappedFile
    from harmonypy_lite.model import HarmonyModel


def model_dict(model: HarmonyModel) -> dict[str, Any]:
    """Return what `info --json` prints of a model."""
    return {
        "n_cells": model.n_cells,
        "n_dims": model.n_dims,
        "n_clusters": model.n_clusters,
        "iterations": len(model.replay.steps),
        "levels": {name: list(levels) for name, levels in model.levels.items()},
        "left_out": dict(model.design.dropped),
        "genes": None if model.genes is None else len(model.genes.names),
        "run": dict(model.summary),
    }


def model_text(model: HarmonyModel, path: str) -> str:
    """Say in words what a model holds and what it can do."""
    setting, summary = model.replay.setting, model.summary
    lines = [
        ("model", f"a finished run of Harmony, flavour {setting.params.flavor}; no cells"),
        (
            "made of",
            f"{model.n_cells:,} cells x {model.n_dims} of {summary.get('basis', 'an array')}",
        ),
    ]
    for name, levels in model.levels.items():
        shown = ", ".join(levels[:5]) + (" ..." if len(levels) > 5 else "")
        lines.append(("batches", f"{name}: {count(len(levels), 'level')} ({shown})"))
    lines += [("left out", f"{name}: {why}") for name, why in model.design.dropped.items()]
    lines.append(("clusters", f"{model.n_clusters:,}"))
    stopped = summary.get("stopped", "nothing to correct")
    lines.append(("iterations", f"{len(model.replay.steps):,}; stopped: {stopped}"))
    lines.append(("genes", _genes(model)))
    lines.append(
        ("use", "cells of these batches are moved as in the run, others are placed beside it:")
    )
    basis = "" if model.genes else f" --basis {summary.get('basis', 'NAME')}"
    lines.append(("", f"harmonypy-lite map QUERY.h5ad --model {path} --key COLUMN{basis}"))
    return "\n".join(f"{label:<11} {text}" for label, text in lines)


def _genes(model: HarmonyModel) -> str:
    genes = model.genes
    if genes is None:
        return "none: new cells must come in the same PCA"
    if genes.target_sum is None:
        made = "of normalised values"
    else:
        made = f"of counts, each cell scaled to {genes.target_sum:,.6g}, log(1 + x)"
    scaled = "" if (genes.sd == 1).all() else ", scaled"
    clip = "" if genes.clip is None else f" and clipped at {genes.clip:g}"
    return f"{len(genes.names):,}; the PCA was made {made}{scaled}{clip}"


def map_dict(done: MappedFile) -> dict[str, Any]:
    """Return what `map --json` prints."""
    keys = [str(key) for key in done.record["keys"]]
    same = {"same_cells": done.same_cells, "distance_quartiles": done.distance.tolist()}
    return {"output": str(done.path)} | done.record | {"keys": keys} | same


def map_text(done: MappedFile) -> str:
    """Say what was done with the cells."""
    record = done.record
    keys = ", ".join(record["keys"]) or "none given: all cells are one new batch"
    lines = [("batches", keys)]
    if done.same_cells:
        lines.append(("cells", "those that the model was made of: they get the run's coordinates"))
    if record["n_replayed"]:
        lines.append(("replayed", f"{record['n_replayed']:,} cells of batches of the model"))
    if record["n_mapped"]:
        lines.append(("placed", f"{record['n_mapped']:,} cells of new batches, all together"))
    if "missing_genes" in record:
        lines.append(("genes", f"{record['missing_genes']:.1%} of the model's are missing"))
    low, middle, high = done.distance
    lines.append(
        (
            "distance",
            f"from the model's clusters: median {middle:.1f} (quartiles {low:.1f}, {high:.1f})",
        )
    )
    size = human(size_of(done.path))
    lines.append(("written", f"obsm[{record['adjusted_basis']!r}] in {done.path} ({size})"))
    return "\n".join(f"{label:<11} {text}" for label, text in lines)
