"""The metrics once more, slow and literal: what the fast ones are held to."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from scipy.stats import chi2
from sklearn.metrics.pairwise import cosine_distances


def slow_lisi(distances, codes_of_neighbors, perplexity):
    """Solve entropy(beta) = log(perplexity) to the last bit by plain bisection over log beta."""
    away = distances - distances.min()
    low, high = -400.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        p = np.exp(-np.exp(middle) * away)
        p /= p.sum()
        entropy = -np.sum(p[p > 0] * np.log(p[p > 0]))
        low, high = (middle, high) if entropy > np.log(perplexity) else (low, middle)
    return 1 / sum(p[codes_of_neighbors == code].sum() ** 2 for code in set(codes_of_neighbors))


def slow_cilisi(cells, batch, label, k_most):
    out = np.full(len(cells), np.nan)
    for name in set(label):
        inside = np.flatnonzero(label == name)
        n_batches = len(set(batch[inside]))
        if len(inside) < 10 or n_batches < 2:
            continue
        distances = cdist(cells[inside], cells[inside])
        k = min(k_most, len(inside) - 1)
        for i, cell in enumerate(inside):
            order = np.argsort(distances[i], kind="stable")
            order = order[order != i][:k]
            value = slow_lisi(distances[i][order], batch[inside][order], k)
            out[cell] = (value - 1) / (n_batches - 1)
    return out


def naive_bras(cells, batch, label):
    scores = []
    for name in sorted(set(label)):
        inside = np.flatnonzero(label == name)
        own = batch[inside]
        if not 1 < len(set(own)) < len(inside):
            continue
        distances = cosine_distances(cells[inside].astype(np.float64))
        values = []
        for i in range(len(inside)):
            mine = own == own[i]
            b = distances[i][~mine].mean()
            mine[i] = False
            if not mine.any():
                values.append(1.0)
                continue
            a = distances[i][mine].mean()
            values.append(1 - abs(b - a) / max(a, b))
        scores.append(np.mean(values))
    return np.mean(scores)


def anova_of_components(cells, batch):
    """Weigh the R² of each principal component by its variance."""
    centred = cells.astype(np.float64) - cells.astype(np.float64).mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left * singular
    design = (batch[:, None] == np.unique(batch)).astype(float)
    fitted = design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    total = (scores**2).sum(axis=0)
    r2 = 1 - ((scores - fitted) ** 2).sum(axis=0) / total
    return float(r2 @ singular**2 / np.sum(singular**2))


def naive_connectivity(indices, label, connection):
    n_cells, k = indices.shape
    rows = np.repeat(np.arange(n_cells), k)
    graph = csr_array((np.ones(n_cells * k), (rows, indices.ravel())), shape=(n_cells, n_cells))
    shares = []
    for name in set(label):
        inside = np.flatnonzero(label == name)
        component = connected_components(graph[inside][:, inside], connection=connection)[1]
        shares.append(np.bincount(component).max() / len(component))
    return np.mean(shares)


def naive_kbet(indices, batch):
    """Return chi-square and p of every cell."""
    k, names = indices.shape[1], sorted(set(batch))
    shares = {name: np.mean(batch == name) for name in names}
    around = batch[indices]
    statistic = sum(
        ((around == name).sum(axis=1) - k * shares[name]) ** 2 / (k * shares[name])
        for name in names
    )
    return statistic, chi2.sf(statistic, len(names) - 1)
