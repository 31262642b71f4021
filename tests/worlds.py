"""Simulated embeddings whose right answers are known; every array is read-only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHARES = (0.4, 0.3, 0.2, 0.1)


class World(NamedTuple):
    """Cells of several types from several batches."""

    embedding: np.ndarray
    batch: np.ndarray
    label: np.ndarray


def frozen(array):
    array = np.asarray(array)
    array.flags.writeable = False
    return array


def world(seed=0, shift=0.0, *, n_cells=3000, n_types=5, dims=20, nested=False, apart=12.0):
    """Types `apart` sd from each other in general; batches shifted by `shift` sd, or by pairs.

    The same seed gives the same cells for every shift. `nested`: four batches in two pairs, mixed
    within a pair, 8 sd between the pairs.
    """
    rng = np.random.default_rng(seed)
    label = rng.integers(0, n_types, n_cells)
    batch = rng.choice(4, n_cells, p=(0.25,) * 4 if nested else SHARES)
    centres = rng.normal(size=(n_types, dims))
    centres *= apart / np.sqrt(2 * dims)
    cells = centres[label] + rng.normal(size=(n_cells, dims))
    directions = np.linalg.qr(rng.normal(size=(dims, 4)))[0].T
    cells += 8.0 * directions[batch // 2] if nested else shift * directions[batch]
    names = np.array(["donor_a", "donor_b", "donor_c", "donor_d"])
    return World(frozen(cells), frozen(names[batch]), frozen(np.array(list("TBNMD"))[label % 5]))


def labelled(adata):
    """Return the labelled cells of a real set as they are stored."""
    known = adata.obs["cell_type"].notna().to_numpy()
    batch, label = (
        adata.obs[key][known].astype(str).to_numpy(str) for key in ("batch", "cell_type")
    )
    return World(frozen(adata.obsm["X_pca"][known]), frozen(batch), frozen(label))


def moved(given, seed, shift, *, nested=False):
    """Return a real set whose batches are drawn at random, then moved `shift` sd from each other.

    `nested`: four batches of equal size in two pairs, mixed within a pair, `shift` sd between them.
    The unit is the sd within labels, in 20 dimensions as in `world`: larger in more.
    """
    rng = np.random.default_rng(seed)
    cells, batch = given.embedding.astype(np.float64), rng.permutation(given.batch)
    if nested:
        batch = rng.permutation(np.resize(["donor_a", "donor_b", "donor_c", "donor_d"], len(cells)))
    _, label = np.unique(given.label, return_inverse=True)
    means = np.stack([cells[label == level].mean(axis=0) for level in range(label.max() + 1)])
    sd = np.sqrt(np.mean((cells - means[label]) ** 2) * cells.shape[1] / 20)
    names, code = np.unique(batch, return_inverse=True)
    directions = np.linalg.qr(rng.normal(size=(cells.shape[1], len(names))))[0].T
    place = code // 2 if nested else code
    return World(frozen(cells + shift * sd * directions[place]), frozen(batch), given.label)
