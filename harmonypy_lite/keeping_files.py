"""The model of a run on files, written beside their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.execution import Done, Request
from harmonypy_lite.files.inputs import Inputs, open_inputs
from harmonypy_lite.files.output import check_free
from harmonypy_lite.files.stores import NewParts
from harmonypy_lite.genes import GeneSpace, learn_genes
from harmonypy_lite.model import model_of
from harmonypy_lite.placing import ROWS


@dataclass(frozen=True)
class FileModel:
    """The file that is asked for; None: no model.

    Attributes
    ----------
    path
        The new file.
    genes
        Whether counts are to be placed by it.
    layer
        Where the counts are; None: in X.
    overwrite
        Whether a file may be replaced.
    space
        How the embedding was made of the genes, once it is known.
    """

    path: Path | None
    genes: bool
    layer: str | None
    overwrite: bool = False
    space: GeneSpace | None = None

    def checked(self, sources: Sequence[Path]) -> FileModel:
        """Find what would stop the model from being written, before any work."""
        if self.path is None:
            if self.genes:
                raise InvalidInput("--save-genes is of no use without --save-model FILE.")
            return self
        check_free(self.path, overwrite=self.overwrite)
        if self.path.resolve() in sources:
            raise InvalidInput(f"The model {self.path} would replace an input: give another name.")
        if self.genes and len(sources) > 1:
            raise InvalidInput(
                "The genes are kept for one file only: leave --save-genes out with several."
            )
        return self

    def learn(self, inputs: Inputs, basis: str, made: NewParts | None = None) -> FileModel:
        """Find how the embedding was made of the genes, where that is asked for."""
        if not self.genes:
            return self
        store, made = inputs.stores[0], made or NewParts({})
        values = store.count_rows(self.layer)
        stored = made.obsm[basis] if made.obsm else store.embedding(basis)
        loadings = made.varm["PCs"] if made.varm else store.loadings()
        space = learn_genes(
            store.genes(),
            lambda part: values[part],
            np.asarray(stored),
            np.asarray(loadings, np.float64),
        )
        return replace(self, space=space)

    def keep(self, done: Done, made: NewParts, request: Request) -> None:
        """Make the model in one more look at the cells, and write it."""
        if self.path is None:
            return
        assert done.design is not None
        with open_inputs(list(request.paths)) as inputs:
            given = made.obsm.get(request.basis)
            embedding: Any = inputs.embedding(request.basis) if given is None else given

            def rows() -> Iterator[np.ndarray]:
                n = embedding.shape[0]
                parts = (embedding[a : min(a + ROWS, n)] for a in range(0, n, ROWS))
                return (np.require(as_embedding(Z), requirements=["C", "W"]) for Z in parts)

            summary = {**done.summary, "basis": request.basis}
            model = model_of(done.replay, done.design, request.params, summary, rows)
        replace(model, genes=self.space).save(self.path, overwrite=self.overwrite)
