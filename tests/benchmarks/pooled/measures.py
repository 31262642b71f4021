"""What the study measures of an integrated embedding."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from harmonypy_lite.errors import NotApplicable
from harmonypy_lite.kernels.overlap import count_shared
from harmonypy_lite.metrics import calibration, find_neighbors, lisi, structure_preservation
from harmonypy_lite.metrics.inputs import as_categories

from .worlds import World

MEASURES = ("recovery", "lisi", "ilisi", "cilisi", "clisi", "accuracy", "kept", "null", "seconds")


def measured(world: World, Z_hat: np.ndarray) -> dict[str, float]:
    """Return the measures that the world allows."""
    n = len(world.Z)
    batch = world.frame.iloc[:, 0].astype(str).to_numpy()
    batches = as_categories(batch, n, "batch")
    neighbors = find_neighbors(Z_hat, min(90, n - 1))
    found = {
        "lisi": float(np.median(lisi(neighbors, batch))),
        "ilisi": calibration.ilisi(neighbors.others(min(89, n - 1)), batches).calibrated,
    }
    with suppress(NotApplicable):
        found["kept"] = structure_preservation(world.Z, Z_hat, batch, n_neighbors=15).overlap
    if world.truth is not None:
        found["recovery"] = shared_neighbors(world.truth, Z_hat, 30)
    if world.label is not None:
        labels = as_categories(world.label, n, "label")
        found["cilisi"] = calibration.cilisi(Z_hat, batches, labels).calibrated
        found["clisi"] = calibration.clisi(neighbors.others(min(89, n - 1)), labels).calibrated
        found["accuracy"] = cross_batch_accuracy(Z_hat, batch, world.label)
    return found


def shared_neighbors(one: np.ndarray, two: np.ndarray, k: int) -> float:
    """Mean share of the k nearest neighbours that two embeddings have in common."""
    first, second = (np.sort(find_neighbors(X, k).indices, axis=1) for X in (one, two))
    shared = np.empty(len(one), np.int64)
    count_shared(first, second, shared)
    return float(shared.mean() / k)


def cross_batch_accuracy(Z: np.ndarray, batch: np.ndarray, label: np.ndarray, k: int = 15) -> float:
    """Share of cells whose type most of their k nearest cells of *other* batches have.

    Of cells whose type other batches have; neighbours however far away, so that it is defined for
    embeddings that do not mix at all.
    """
    from sklearn.neighbors import NearestNeighbors

    names, codes = np.unique(label, return_inverse=True)
    right, total = 0, 0
    for level in np.unique(batch):
        own, other = np.flatnonzero(batch == level), np.flatnonzero(batch != level)
        own = own[np.isin(codes[own], codes[other])]
        if not own.size:
            continue
        search = NearestNeighbors(n_neighbors=min(k, len(other)), algorithm="brute").fit(Z[other])
        near = codes[other][search.kneighbors(Z[own], return_distance=False)]
        votes = np.stack([(near == c).sum(axis=1) for c in range(len(names))], axis=1)
        right += int((votes.argmax(axis=1) == codes[own]).sum())
        total += len(own)
    return right / total if total else float("nan")


def movement(world: World, integrate: Any, seed: int) -> float:
    """Root mean square movement with shuffled batches, in standard deviations inside types.

    Without labels, inside batches, which is an upper bound of the spread and so a lower one here.
    """
    rng = np.random.default_rng([seed, 77])
    frame = world.frame.iloc[rng.permutation(len(world.Z))].reset_index(drop=True)
    groups = world.label if world.label is not None else world.frame.iloc[:, 0].to_numpy()
    pairs = np.unique(np.char.add(groups.astype(str), world.frame.iloc[:, 0].astype(str)),
                      return_inverse=True)[1]  # fmt: skip
    inside = (
        world.Z
        - np.stack([world.Z[pairs == g].mean(axis=0) for g in range(pairs.max() + 1)])[pairs]
    )
    return float(np.sqrt(np.square(integrate(world.Z, frame) - world.Z).mean() / inside.var()))
