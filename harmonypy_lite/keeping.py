"""The model of a run on an AnnData, made and kept where the user asked for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.embedding import as_embedding, is_dask
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.output import check_free
from harmonypy_lite.genes import GeneSpace, learn_genes
from harmonypy_lite.lazy import LazyIntegration, partitions
from harmonypy_lite.model import HarmonyModel, model_of
from harmonypy_lite.params import HarmonyParams

if TYPE_CHECKING:
    from anndata import AnnData

    from harmonypy_lite.run import Integration

#: Key of uns under which a run keeps its model.
MODEL_KEY = "harmony_model"
#: The model that was made last and a copy of what it was made of, by which it is known again:
#: several queries are placed beside one reference, and to make its model takes longer than to look.
_LAST: list[tuple[Mapping[str, np.ndarray], HarmonyModel]] = []


class Keeping:
    """What is to be kept of a run; checked before it, made after it.

    Parameters
    ----------
    adata
        The cells.
    basis
        Key of obsm with the embedding.
    path
        A new file for the model, or None.
    in_uns
        Whether the model is kept in ``adata.uns``.
    genes
        Whether counts can be placed by it: from X, or from the layer that is named.
    """

    def __init__(
        self,
        adata: AnnData,
        basis: str,
        path: str | os.PathLike[str] | None,
        in_uns: bool,
        genes: bool | str,
    ) -> None:
        self._adata, self._basis, self._in_uns = adata, basis, in_uns
        self._path = None if path is None else Path(path).expanduser()
        self.asked = in_uns or path is not None
        if genes and not self.asked:
            raise InvalidInput(
                "save_genes is of no use without a model: give save_model='m.h5' or "
                "store_model=True as well."
            )
        if self._path is not None:
            check_free(self._path)
        self._genes = genes_of_adata(adata, basis, genes) if genes else None

    def keep(
        self,
        done: Integration | LazyIntegration,
        embedding: Any,
        params: HarmonyParams,
        more: Mapping[str, Any],
    ) -> None:
        """Make the model of a run that is done, and keep it."""
        if not self.asked:
            return

        def rows() -> Iterable[np.ndarray]:
            return partitions(embedding) if is_dask(embedding) else [as_embedding(embedding)]

        summary = {**done.summary, **more, "basis": self._basis}
        model = model_of(done.replay, done.design, params, summary, rows)
        model = replace(model, genes=self._genes)
        if self._path is not None:
            model.save(self._path)
        if self._in_uns:
            self._adata.uns[MODEL_KEY] = model.to_uns()


def genes_of_adata(adata: AnnData, basis: str, genes: bool | str) -> GeneSpace:
    """Return how the embedding was made of the genes in X, or in the layer that `genes` names."""
    layer = genes if isinstance(genes, str) else None
    if "PCs" not in adata.varm:
        raise InvalidInput(
            "There are no loadings varm['PCs'], by which genes become the embedding: make it with "
            "scanpy.pp.pca, or leave save_genes out."
        )
    if layer is not None and layer not in adata.layers:
        raise InvalidInput(f"There is no layer {layer!r}; there are {list(adata.layers)}.")
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise InvalidInput("X is empty: give the layer that holds the counts, save_genes='counts'.")
    embedding = np.asarray(as_embedding(np.asarray(adata.obsm[basis])))
    loadings = np.asarray(adata.varm["PCs"], np.float64)
    if loadings.shape[1] != embedding.shape[1]:
        raise InvalidInput(
            f"varm['PCs'] has {loadings.shape[1]} components, obsm[{basis!r}] "
            f"{embedding.shape[1]}: they are not of one PCA."
        )
    return learn_genes(adata.var_names, lambda part: values[part], embedding, loadings)


def model_in(uns: Mapping[str, Any]) -> HarmonyModel:
    """Return the model that a run kept in ``adata.uns``."""
    if MODEL_KEY not in uns:
        raise InvalidInput(
            f"This AnnData holds no model (uns[{MODEL_KEY!r}]): integrate it with "
            "pp.harmony_integrate(adata, key, store_model=True)."
        )
    stored = uns[MODEL_KEY]
    if not isinstance(stored, Mapping):
        return HarmonyModel.from_uns(stored)
    for before, model in _LAST:
        if _equal(stored, before):
            return model
    copied = {name: np.array(value) for name, value in stored.items()}
    model = HarmonyModel.from_uns(copied)
    _LAST[:] = [(copied, model)]
    return model


def _equal(stored: Mapping[str, Any], before: Mapping[str, np.ndarray]) -> bool:
    return stored.keys() == before.keys() and all(
        np.asarray(stored[name]).dtype == array.dtype and np.array_equal(stored[name], array)
        for name, array in before.items()
    )
