"""What the calibration checks of simulated and of real cells have in common."""

from __future__ import annotations

import numpy as np
from worlds import World

from harmonypy_lite.metrics.inputs import as_categories
from harmonypy_lite.metrics.suite import Cells, Question, Settings, measure

SEEDS = range(20)
SHIFTS = (0.0, 0.5, 1.0, 2.0, 4.0, 40.0)
BATCH = ("ilisi", "cilisi", "bras", "pcr_comparison", "graph_connectivity", "kbet")
BATCH += ("kbet_per_label", "silhouette_batch")
STEADY = ("ilisi", "cilisi", "bras", "pcr_comparison", "kbet", "kbet_per_label")
BIOLOGY = ("clisi", "nmi", "ari", "silhouette_label")
NESTED = ("cilisi", "bras", "ilisi", "silhouette_batch")


def scores(given, names, pre=None, **settings):
    """Measure `names` on one world: {name: Calibrated}."""
    batches = as_categories(given.batch, len(given.batch), "batch")
    labels = as_categories(given.label, len(given.label), "label")
    cells = Cells(given.embedding, Settings(**settings), labels)
    pre = given.embedding if pre is None else pre
    question = Question(cells, batches, cells, batches, pre)
    results = {name: measure(question, name) for name in names}
    assert all(result.score is not None for result in results.values()), results
    return {name: result.score for name, result in results.items()}


def half_of(given, seed):
    """Return half of the cells of every batch and label, ascending."""
    strata = np.unique(np.char.add(given.batch, given.label), return_inverse=True)[1]
    order = np.lexsort((np.random.default_rng(seed).random(len(strata)), strata))
    return np.sort(order[::2])


def changed_worlds(given, pre):
    """Yield what must not change a score: (name of the change, world, its pre)."""
    cells, batch, label = given
    rng = np.random.default_rng(0)
    order = rng.permutation(len(cells))
    yield "cell order", World(cells[order], batch[order], label[order]), pre[order]
    rename = {name: f"{'z9M-a'[i % 5]}{i}" for i, name in enumerate(sorted(set(label)))}
    again = np.array([rename[name] for name in label])
    yield "names", World(cells, np.char.add("x", batch)[:], again), pre
    yield "reversed names", World(cells, np.array([name[::-1] for name in batch]), again), pre
    rotation = np.linalg.qr(rng.normal(size=(cells.shape[1],) * 2))[0]
    yield "rotation", World(cells @ rotation, batch, label), pre @ rotation
    for factor in (1e-3, 0.7, 1e3):
        yield f"scale {factor}", World(cells * factor, batch, label), pre / factor
