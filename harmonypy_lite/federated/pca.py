"""One PCA of the cells of all sites, from sums: genes in common, their moments, one Gram matrix.

Each cell is scaled to the same number of counts, which needs no other cell, and log(1 + x) taken.
Genes are chosen by normalised dispersion as scanpy's flavour "seurat" does (Satija et al. 2015, doi
10.1038/nbt.3192). Loadings are the eigenvectors of the summed covariance of these genes: those of a
PCA of all cells together, up to sign and rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated.center import added
from harmonypy_lite.federated.exchange import Answer
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.plan import PcaChoices, Plan
from harmonypy_lite.federated.site import table_in
from harmonypy_lite.federated.sums import decoded, encoded

_ROWS = 1024
_BINS = 20
#: No log(1 + x) of ours is larger.
_MOST_LOG = 64.0


class PcaSite:
    """The counts of one site.

    Parameters
    ----------
    plan
        Of the run.
    X
        (n, G) counts, or what the plan says, sparse or dense.
    genes
        Names of the G genes.
    """

    def __init__(self, plan: Plan, X: Any, genes: list[str]) -> None:
        if len(set(genes)) < len(genes):
            raise InvalidInput("Some genes have the same name: make them unique first.")
        self._genes = genes
        self._X = normalised(X, plan.pca.target_sum)
        self._n_cells = 0
        self._common: list[int] = []
        self.loadings: np.ndarray | None = None
        self._made: np.ndarray | None = None

    def answer(self, heard: Message) -> Answer | None:
        """Return what a combined message asks for; None where it is the last."""
        ask = "genes" if heard.step == 0 else heard.facts.get("ask")
        work = {
            "genes": self._name,
            "sums": self._sum,
            "gram": self._gram,
            "finish": self._finish,
        }
        if ask not in work:
            raise InvalidInput(f"A combined message asks for {ask!r}, which is not known.")
        return work[str(ask)](heard)

    def result(self) -> np.ndarray:
        """Return the (n, k) float32 components of the site's cells; only after the last message."""
        assert self._made is not None
        return self._made

    def remember(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what the site needs to go on."""
        return {"n_cells": self._n_cells, "common": self._common}, {}

    def restore(self, facts: Mapping[str, Any], _arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what :meth:`remember` returned."""
        self._n_cells, self._common = int(facts["n_cells"]), list(facts["common"])

    def _name(self, _heard: Message) -> Answer:
        words = "names of the genes; number of cells"
        return Answer({"genes": self._genes, "n_cells": int(self._X.shape[0]), "words": words})

    def _sum(self, heard: Message) -> Answer:
        place = {gene: i for i, gene in enumerate(self._genes)}
        genes = _fact(heard, "genes", lambda each: _list_of(each, str) and set(each) <= set(place))
        own = self._X.shape[0]
        self._n_cells = _fact(heard, "n_cells", lambda n: type(n) is int and own <= n < 2**48)
        most = _fact(heard, "most", lambda x: isinstance(x, int | float) and 0 < x < math.inf)
        self._common = [place[gene] for gene in genes]
        X = self._X[:, self._common].expm1()
        first, second = np.asarray(X.sum(axis=0)).ravel(), np.asarray(X.multiply(X).sum(axis=0))
        N = self._n_cells
        return Answer(
            arrays={
                "first": encoded(first, N * most),
                "second": encoded(second.ravel(), N * most**2),
            },
            words={
                "first": "sum of the normalised counts of each gene",
                "second": "sum of their squares",
            },
        )

    def _gram(self, heard: Message) -> Answer:
        chosen = self._chosen(heard)
        X = self._X[:, chosen]
        first, gram = np.zeros(len(chosen)), np.zeros((len(chosen),) * 2)
        for a in range(0, X.shape[0], _ROWS):
            x = X[a : a + _ROWS].toarray()
            first += x.sum(axis=0)
            gram += x.T @ x
        N = self._n_cells
        upper = gram[np.triu_indices(len(chosen))]
        return Answer(
            arrays={
                "first": encoded(first, N * _MOST_LOG),
                "gram": encoded(upper, N * _MOST_LOG**2),
            },
            words={
                "first": "sum of log(1 + x) of each variable gene",
                "gram": "sum of the products of each two variable genes (upper triangle)",
            },
        )

    def _finish(self, heard: Message) -> None:
        chosen = self._chosen(heard)
        V = table_in(heard, "loadings", (len(chosen), None))
        mean, scale = (table_in(heard, name, (len(chosen),)) for name in ("mean", "deviation"))
        if not (scale > 0).all():
            raise InvalidInput(f"Combined message {heard.step}: deviation is not positive.")
        X = self._X[:, chosen]
        parts = [
            (((X[a : a + _ROWS].toarray() - mean) / scale) @ V).astype(np.float32)
            for a in range(0, X.shape[0], _ROWS)
        ]
        self._made = np.concatenate(parts)
        self.loadings = np.zeros((len(self._genes), V.shape[1]))
        self.loadings[chosen] = V

    def _chosen(self, heard: Message) -> list[int]:
        """Return the places, among this site's genes, of those that were chosen."""
        places = range(len(self._common))
        good = _fact(heard, "chosen", lambda each: _list_of(each, int) and set(each) <= set(places))
        return [self._common[i] for i in good]


def _list_of(found: Any, kind: type) -> bool:
    return isinstance(found, list) and len(found) > 0 and all(type(each) is kind for each in found)


def _fact(heard: Message, name: str, good: Callable[[Any], bool]) -> Any:
    """Return what a combined message says, if this site can use it."""
    found = heard.facts.get(name)
    if not good(found):
        raise InvalidInput(f"Combined message {heard.step} has no {name!r} for this site's genes.")
    return found


class PcaCenter:
    """Makes of a combined message, and of what all sites answer, the next combined message."""

    def __init__(self, plan: Plan) -> None:
        self._choices: PcaChoices = plan.pca

    def combine(self, before: Message, heard: Mapping[str, Message]) -> Answer:
        """Return the next question."""
        if before.step == 0:
            return self._take_names(heard)
        if before.facts["ask"] == "sums":
            return self._choose(before, heard)
        return self._solve(before, heard)

    def _take_names(self, heard: Mapping[str, Message]) -> Answer:
        try:
            names = [list(map(str, each.facts["genes"])) for each in heard.values()]
            N = sum(int(each.facts["n_cells"]) for each in heard.values())
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"A list of genes is missing or odd ({error}).") from None
        everywhere = set(names[0]).intersection(*names)
        if len(everywhere) < 3 or N < 3:
            raise InvalidInput(
                f"The sites have {len(everywhere)} genes in common and {N} cells: at least 3 of "
                "each are needed. Are the names of the genes of one kind (symbols, identifiers)?"
            )
        genes = [gene for gene in names[0] if gene in everywhere]
        most = self._choices.target_sum or math.exp(20)
        return Answer({"ask": "sums", "genes": genes, "n_cells": N, "most": most})

    def _choose(self, before: Message, heard: Mapping[str, Message]) -> Answer:
        N, most = int(before.facts["n_cells"]), float(before.facts["most"])
        G = len(before.facts["genes"])
        sums = added(heard, {"first": (G,), "second": (G,)})
        first, second = decoded(sums["first"], N * most), decoded(sums["second"], N * most**2)
        chosen = variable_genes(first / N, second / N, N, self._choices.n_genes)
        names = [before.facts["genes"][i] for i in chosen]
        return Answer({"ask": "gram", "chosen": chosen, "names": names, "n_cells": N})

    def _solve(self, before: Message, heard: Mapping[str, Message]) -> Answer:
        from scipy.linalg import eigh

        N, H = int(before.facts["n_cells"]), len(before.facts["chosen"])
        sums = added(heard, {"first": (H,), "gram": (H * (H + 1) // 2,)})
        mean = decoded(sums["first"], N * _MOST_LOG) / N
        covariance = np.zeros((H, H))
        covariance[np.triu_indices(H)] = decoded(sums["gram"], N * _MOST_LOG**2)
        covariance = covariance + np.triu(covariance, 1).T
        covariance = (covariance - N * np.outer(mean, mean)) / (N - 1)
        variance = np.diag(covariance)
        deviation = np.ones(H)
        if self._choices.scaled:
            deviation = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)
        covariance /= np.outer(deviation, deviation)
        k = min(self._choices.n_components, H - 1, N - 1)
        values, V = eigh(covariance, subset_by_index=[H - k, H - 1])
        V = V[:, ::-1] * np.sign(V[np.abs(V).argmax(axis=0), np.arange(k)])[::-1]
        facts = {"ask": "finish", "chosen": before.facts["chosen"], "n_cells": N, "stopped": "done"}
        arrays = {"loadings": V, "mean": mean, "deviation": deviation, "variance": values[::-1]}
        return Answer(facts, arrays)


def normalised(X: Any, target_sum: float | None) -> Any:
    """Return log(1 + x) of cells scaled to `target_sum` counts (n, G), a CSR array of float64."""
    from scipy.sparse import csr_array, diags_array

    X = csr_array(X, dtype=np.float64)
    if not np.isfinite(X.data).all() or (X.data < 0).any():
        raise InvalidInput("The counts hold negative numbers, or some that are not finite.")
    if target_sum is None:
        if X.data.size and X.data.max() > 20:
            raise InvalidInput(
                f"The values reach {X.data.max():g}, too large for logarithms of counts: give the "
                "plan a target sum, so that counts are normalised."
            )
        return X
    total = np.asarray(X.sum(axis=1)).ravel()
    return (diags_array(target_sum / np.where(total > 0, total, 1.0)) @ X).log1p().tocsr()


def variable_genes(mean: np.ndarray, square: np.ndarray, n_cells: int, number: int) -> list[int]:
    """Return the places, ascending, of the genes whose dispersion stands out most.

    The dispersion, variance / mean, is compared in units of its spread with that of the genes of
    similar mean; a gene that is alone in its bin counts as one unit above.

    Parameters
    ----------
    mean, square
        (G,) means of the normalised counts, and of their squares.
    n_cells
        N.
    number
        How many genes are wanted.
    """
    import pandas as pd

    variance = np.maximum(square - mean**2, 0.0) * n_cells / (n_cells - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.log(variance / np.where(mean > 0, mean, 1e-12))
    dispersion[~np.isfinite(dispersion)] = np.nan
    frame = pd.DataFrame({"bin": pd.cut(np.log1p(mean), bins=_BINS), "dispersion": dispersion})
    bins = frame.groupby("bin", observed=True)["dispersion"]
    center, spread = bins.transform("mean").to_numpy(), bins.transform("std").to_numpy()
    alone = np.isnan(spread)
    center, spread = np.where(alone, 0.0, center), np.where(alone, center, spread)
    score = np.nan_to_num((dispersion - center) / spread, nan=-np.inf)
    best = np.argsort(-score, kind="stable")[: min(number, int((variance > 0).sum()))]
    return sorted(map(int, best))
