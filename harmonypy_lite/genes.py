"""From counts to the embedding of a run: the genes, how they were scaled, and the loadings.

Cells x genes is never dense as a whole: rows pass through memory a few thousand at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.tables import Array
from harmonypy_lite.threads import Workers

log = logging.getLogger("harmonypy_lite")

#: Rows that are made dense together.
_ROWS = 1024
#: A projection that differs from the stored embedding by more than this share of it is another one.
_SAME = 0.01
_FIELDS = ("mean", "sd", "loadings", "offset")


@dataclass(frozen=True)
class GeneSpace:
    """How the embedding was made of the genes.

    Attributes
    ----------
    names
        The G genes that have loadings.
    mean, sd
        (G,) taken off each gene, and divided by.
    loadings
        (G, d).
    offset
        (d,) mean of the projected cells, taken off.
    target_sum
        Counts that each cell is scaled to before log(1 + x); None: the values come normalised.
    clip
        Largest scaled value, or None.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    loadings: np.ndarray
    offset: np.ndarray
    target_sum: float | None
    clip: float | None

    def header(self) -> dict[str, Any]:
        """Return everything that is no array."""
        return {"names": list(self.names), "target_sum": self.target_sum, "clip": self.clip}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays."""
        return {f"gene_{name}": np.asarray(getattr(self, name), np.float32) for name in _FIELDS}

    def scaled(self, values: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Scale values (n, g) of the genes at the places `own` (g,), in place."""
        values -= self.mean[own]
        values /= self.sd[own]
        return values if self.clip is None else np.clip(values, -self.clip, self.clip, out=values)

    def project(self, rows: Any, places: Places) -> np.ndarray:
        """Return the embedding (n, d) of cells x genes (n, all genes), dense or sparse.

        Genes that the cells lack stand at their mean, which says nothing.
        """
        loadings = self.loadings[places.own]
        Z = np.empty((rows.shape[0], loadings.shape[1]), np.float32)
        with Workers(1):  # the bytes of a product may depend on the threads of BLAS
            for part in _parts(len(Z)):
                values = normalised(rows[part], places.columns, self.target_sum)
                Z[part] = self.scaled(values, places.own) @ loadings - self.offset
        return Z


@dataclass(frozen=True)
class Places:
    """Which columns of some cells are which genes of the space."""

    columns: np.ndarray  # (g,) columns of the cells
    own: np.ndarray  # (g,) places among the genes of the space
    n_genes: int

    @property
    def missing(self) -> float:
        """Share of the genes of the space that the cells lack."""
        return 1.0 - self.own.size / self.n_genes


def match_genes(names: Sequence[Any], space: GeneSpace, max_missing: float) -> Places:
    """Find the genes of the space among those of some cells, by name.

    Raises
    ------
    InvalidInput
        For more missing genes than `max_missing` (a share), or a gene that is there twice.

    Examples
    --------
    >>> g = np.ones(2)
    >>> space = GeneSpace(("CD3E", "MS4A1"), g, g, np.ones((2, 1)), np.zeros(1), None, None)
    >>> match_genes(["MS4A1", "LYZ", "CD3E"], space, 0.2).columns
    array([2, 0])
    """
    column: dict[str, int] = {}
    twice = set()
    for i, name in enumerate(map(str, names)):
        if column.setdefault(name, i) != i:
            twice.add(name)
    twice &= set(space.names)
    if twice:
        raise InvalidInput(
            f"{len(twice)} gene(s) of the model are there twice ({', '.join(sorted(twice)[:5])}): "
            "make the names unique (adata.var_names_make_unique() renames the second ones)."
        )
    own = [i for i, name in enumerate(space.names) if name in column]
    places = Places(
        np.array([column[space.names[i]] for i in own], np.int64),
        np.array(own, np.int64),
        len(space.names),
    )
    share = f"{places.missing:.1%} of the {places.n_genes:,} genes of the model are missing"
    if places.missing > max_missing:
        lacking = sorted(set(space.names) - set(column))
        raise InvalidInput(
            f"{share} in the query (such as {', '.join(lacking[:3])}; the query has "
            f"{', '.join(list(column)[:3])}): more than max_missing={max_missing:g}. Are the genes "
            "named alike, as symbols or as Ensembl identifiers?"
        )
    log.info("%s in the query", share)
    return places


def normalised(rows: Any, columns: np.ndarray, target_sum: float | None) -> np.ndarray:
    """Return log(1 + x target_sum / depth) of some columns, dense; x itself without a target."""
    import scipy.sparse

    sparse = scipy.sparse.issparse(rows)
    some = rows.tocsr()[:, columns].toarray() if sparse else np.asarray(rows).take(columns, axis=1)
    # products are rounded by the layout
    values = np.ascontiguousarray(some, np.float32)
    if target_sum is None:
        return values
    depth = np.asarray(rows.sum(axis=1, dtype=np.float64)).reshape(-1, 1)
    values *= (target_sum / np.where(depth > 0, depth, 1.0)).astype(np.float32)
    return np.log1p(values, out=values)


def learn_genes(
    names: Sequence[Any],
    rows: Callable[[slice], Any],
    embedding: np.ndarray,
    loadings: np.ndarray,
) -> GeneSpace:
    """Find how an embedding was made, and prove it by making it again.

    Parameters
    ----------
    names
        All genes.
    rows
        Gives some rows of the cells x genes: counts, what the PCA was made of, or what was
        scaled for it.
    embedding
        (N, d) what was made of all of them.
    loadings
        (genes, d), 0 for genes that were not used.

    Raises
    ------
    InvalidInput
        None of scanpy's ways (depth of 10,000 or of the median, scaled or not, clipped at 10 or
        not) gives the embedding.
    """
    used = np.flatnonzero(loadings.any(axis=1))
    n = len(embedding)
    best: tuple[float, GeneSpace | None] = (np.inf, None)
    targets: list[float | None] = [None]
    if are_counts(rows(slice(0, min(_ROWS, n)))):
        depth = [np.asarray(rows(part).sum(axis=1, dtype=np.float64)).ravel() for part in _parts(n)]
        median = float(np.median(np.concatenate(depth)))
        targets = [1e4, median]
    for target in targets:
        mean, sd = _moments(rows, n, used, target)
        for deviation, clip in ((np.ones_like(sd), None), (sd, 10.0), (sd, None)):
            space = GeneSpace(
                tuple(str(names[int(i)]) for i in used),
                mean,
                np.where(deviation > 0, deviation, 1.0),
                loadings[used].astype(np.float64),
                np.zeros(embedding.shape[1]),
                target,
                clip,
            )
            space, error = _centred(space, rows, embedding, used)
            if error < best[0]:
                best = (error, space)
    error, found = best
    if found is None or error > _SAME:
        raise InvalidInput(
            f"The embedding is not what PCA makes of these values with varm['PCs'] (they differ by "
            f"{error:.0%}): give the layer with the counts or the values of the PCA, or keep the "
            "model without genes and project new cells yourself."
        )
    return genes_of(found.header(), found.arrays())  # as it will be read again


def _parts(n: int) -> list[slice]:
    return [slice(a, min(a + _ROWS, n)) for a in range(0, n, _ROWS)]


def _moments(
    rows: Callable[[slice], Any], n: int, used: np.ndarray, target: float | None
) -> tuple[np.ndarray, np.ndarray]:
    total, square = np.zeros(used.size), np.zeros(used.size)
    for part in _parts(n):
        values = normalised(rows(part), used, target).astype(np.float64)
        total += values.sum(axis=0)
        square += (values**2).sum(axis=0)
    mean = total / n
    return mean, np.sqrt(np.maximum(square - n * mean**2, 0) / max(n - 1, 1))


def _centred(
    space: GeneSpace, rows: Callable[[slice], Any], embedding: np.ndarray, used: np.ndarray
) -> tuple[GeneSpace, float]:
    """Return the space with the offset that fits, and how far its projection is off."""
    places = Places(used, np.arange(used.size), used.size)
    # every cell is looked at where clipping moves the mean; a sample shows what does not fit
    difference = [
        space.project(rows(part), places) - embedding[part] for part in _parts(len(embedding))
    ]
    apart = np.concatenate(difference).astype(np.float64)
    offset = apart.mean(axis=0)
    size = max(float(np.linalg.norm(embedding)), 1e-30)
    error = float(np.linalg.norm(apart - offset)) / size
    return replace(space, offset=offset), error


def gene_arrays(header: Any, n_dims: int) -> dict[str, Array]:
    """Check the header of a space, None for none; return what its arrays must be."""
    if header is None:
        return {}
    names = header.get("names") if isinstance(header, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise InvalidInput("the names of the genes are no list of texts")
    if len(set(names)) < len(names):
        raise InvalidInput("a gene is named twice")
    for number in (header.get("target_sum"), header.get("clip")):
        if number is not None and not (isinstance(number, float) and 0 < number < 1e30):
            raise InvalidInput(f"target_sum and clip must be positive, one is {number!r}")
    G = len(names)
    shapes = {"mean": (G,), "sd": (G,), "loadings": (G, n_dims), "offset": (n_dims,)}
    return {f"gene_{name}": Array("float32", shape) for name, shape in shapes.items()}


def genes_of(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> GeneSpace:
    """Return the space of a checked header and its arrays."""
    mean, sd, loadings, offset = (arrays[f"gene_{name}"] for name in _FIELDS)
    if (sd <= 0).any():
        raise InvalidInput("the deviations of the genes must be positive")
    target, clip = header.get("target_sum"), header.get("clip")
    return GeneSpace(tuple(header["names"]), mean, sd, loadings, offset, target, clip)


def are_counts(some: Any) -> bool:
    """Tell counts from other values, by some rows (n, genes)."""
    import scipy.sparse

    stored = np.asarray(some.data if scipy.sparse.issparse(some) else some)
    return bool((stored >= 0).all() and (stored == np.floor(stored)).all())


def check_values(some: Any, space: GeneSpace) -> None:
    """Refuse counts where the space takes normalised values, and the other way round.

    Examples
    --------
    >>> g = np.ones(1)
    >>> space = GeneSpace(("CD3E",), g, g, np.ones((1, 1)), np.zeros(1), 1e4, None)
    >>> check_values(np.array([[0.5]]), space)
    Traceback (most recent call last):
    harmonypy_lite.errors.InvalidInput: The query holds no counts, the model was made of counts: \
give the layer that holds them.
    """
    import scipy.sparse

    stored = np.asarray(some.data if scipy.sparse.issparse(some) else some).ravel()
    if stored.dtype.kind not in "iufb":
        raise InvalidInput(f"The query holds {stored.dtype} values: numbers are needed.")
    if not np.isfinite(stored).all():
        raise InvalidInput("The query has NaN or infinite values: fill them in.")
    counts = are_counts(some)
    if space.target_sum is not None and not counts:
        raise InvalidInput(
            "The query holds no counts, the model was made of counts: give the layer that holds "
            "them."
        )
    if space.target_sum is None and counts and stored.size and stored.max() > 30:
        raise InvalidInput(
            "The query holds counts, the model was made of normalised values: normalise them in "
            "the same way, or give the layer that holds them."
        )
