"""What a run fell short of: levels and clusters left uncorrected, an objective that rose far.

A result is never silent on it: it stands in the summary (and so in `uns`, the printed lines and the
report), and what touches more than a few cells is warned of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harmonypy_lite.design import Design
from harmonypy_lite.errors import (
    NotConvergedWarning,
    ObjectiveRoseWarning,
    UncorrectedWarning,
    warn,
)
from harmonypy_lite.method.history import rose_little
from harmonypy_lite.method.loop import Outcome
from harmonypy_lite.params import HarmonyParams

#: Share of the cells, or of a level's, from which on it is worth a warning. The default threshold
#: of pruning cannot leave out more in all of its 100 clusters together.
_WORTH_A_WARNING = 1e-3


def shortfalls(outcome: Outcome, design: Design) -> dict[str, Any]:
    """Return what the last correction left out, in plain numbers.

    `pruned_levels` has, by covariate and level, in how many `clusters` the level was left out of
    the regression, and which `share` of its cells they hold; `idle_clusters` those whose regression
    no level entered, such as those that hold one batch alone, and `idle_share` the share of the
    cells there.
    """
    O, pruned = outcome.O, outcome.effects.pruned
    clusters = pruned.sum(axis=0)
    share = np.where(pruned, O, 0.0).sum(axis=0) / np.maximum(design.level_size, 1)
    found: dict[str, dict[str, dict[str, float]]] = {}
    slices = zip(design.covariates, design.levels, design.level_slices(), strict=True)
    for covariate, names, levels in slices:
        for name, n, part in zip(names, clusters[levels], share[levels], strict=True):
            if n:
                of_covariate = found.setdefault(covariate, {})
                of_covariate[name] = {"clusters": int(n), "share": float(part)}
    idle = pruned.all(axis=1)
    n_cells = O[:, design.level_slices()[0]].sum(axis=1)
    return {
        "pruned_levels": found,
        "idle_clusters": [int(k) for k in np.flatnonzero(idle)],
        "idle_share": float(n_cells[idle].sum() / n_cells.sum()),
    }


def warn_of_shortfalls(outcome: Outcome, design: Design, params: HarmonyParams) -> None:
    """Warn, once for each kind, of what the run fell short of."""
    _warn_of_objective(outcome, params)
    found = shortfalls(outcome, design)
    idle, n_clusters = found["idle_clusters"], len(outcome.O)
    touched = {
        f"{covariate}={level}": each["share"]
        for covariate, levels in found["pruned_levels"].items()
        for level, each in levels.items()
        if each["share"] > _WORTH_A_WARNING
    }
    if not touched:
        return
    said = [f"{name} ({share:.1%})" for name, share in sorted(touched.items(), key=lambda x: -x[1])]
    more = f" and {len(said) - 5} more" if len(said) > 5 else ""
    alone = (
        f"{len(idle)} of {n_clusters} clusters, with {found['idle_share']:.1%} of the cells, hold "
        "too few levels to correct anything. "
        if idle
        else ""
    )
    warn(
        f"{alone}Cells that were not corrected, because their level was left out where they are: "
        f"{', '.join(said[:5])}{more}. If these should have mixed, try a larger theta, "
        "start='centred', or a smaller batch_prune_threshold.",
        UncorrectedWarning,
    )


def _warn_of_objective(outcome: Outcome, params: HarmonyParams) -> None:
    history = outcome.history
    if not params.early_stop:  # the caller does not want to hear when to stop
        return
    if history.stopped == "max_iter_harmony":
        warn(
            f"The objective had not settled after {params.max_iter_harmony} iterations: see it in "
            "the summary, or raise max_iter_harmony.",
            NotConvergedWarning,
        )
    elif history.stopped == "objective rose" and not rose_little(history.objective):
        start, old, new = history.objective[0], *history.objective[-2:]
        warn(
            f"The objective rose in the last iteration, from {old:,.6g} to {new:,.6g}, and the run "
            "ended there; its correction is kept. A small rise is usual once batches are mixed; "
            f"this one is large beside the {max(start - old, 0):,.6g} that it had fallen by. "
            "Look at the objective in the summary, and try a smaller theta.",
            ObjectiveRoseWarning,
        )
