"""Harmony as a scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from harmonypy_lite.batches import batch_columns, check_rows, columns_like
from harmonypy_lite.calls import checked_call, refuse_adata
from harmonypy_lite.design import Design, design_like
from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_same_order
from harmonypy_lite.model import HarmonyModel, model_of
from harmonypy_lite.params import HarmonyParams, PerLevel, documented
from harmonypy_lite.recognition import KnownCells, digests
from harmonypy_lite.run import Integration, integrate_embedding

if TYPE_CHECKING:
    from sklearn.utils import Tags


@documented
class Harmony(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Mix the batches of an embedding with Harmony.

    The second argument of :meth:`fit` and :meth:`fit_transform` is the batch of each cell; a
    Pipeline passes its ``y`` there. Cells are rows.

    Parameters
    ----------
    {parameters}
    missing : default 'refuse'
        Cells without a value in the batch: "refuse" them, or make them a "level" of their own.

    Attributes
    ----------
    n_features_in_ : number of dimensions d.
    feature_names_in_ : (d,) names of the dimensions, when X had names.
    covariates_ : names of the covariates in use; an array of one column is called "batch", one of
        several "batch1", "batch2" and so on.
    levels_ : for each covariate the names of its levels, B in all; sorted, those of a categorical
        column in the order of its categories.
    n_iter_ : number of iterations.
    stopped_ : why the run ended: "converged", "objective rose", "max_iter_harmony" or "nothing to
        correct"; with the last there are no clusters (K = 0).
    objective_ : (``n_iter_ + 1``,) objective at the start and after each iteration.
    cluster_centers_ : (K, d) unit centroids of the last clustering.
    cluster_sizes_ : (K,) cells in each cluster, in sums of soft assignments.
    composition_ : (K, B) cells of each level in each cluster, levels in the order of `levels_`.
    expected_ : (K, B) the same if every level were spread evenly over the clusters.
    summary_ : all of the run in plain numbers and texts, with parameters and versions.

    Examples
    --------
    >>> import numpy as np
    >>> from harmonypy_lite import Harmony
    >>> draws = np.random.default_rng(0)
    >>> batch = np.repeat(["a", "b"], 100)
    >>> X = draws.normal(size=(200, 5)) + (batch == "b")[:, None]
    >>> harmony = Harmony(n_clusters=5)
    >>> harmony.fit_transform(X, batch).shape
    (200, 5)
    >>> harmony.levels_
    (('a', 'b'),)
    """

    @checked_call()
    def __init__(
        self,
        *,
        flavor: str = "harmony2",
        start: str | None = None,
        n_clusters: int | None = None,
        theta: PerLevel = 2.0,
        sigma: float | Sequence[float] = 0.1,
        tau: float = 0.0,
        alpha: float = 0.2,
        ridge_lambda: PerLevel | None = None,
        batch_prune_threshold: float | None = 1e-5,
        block_proportion: float = 0.05,
        sync: str = "exact",
        max_iter_harmony: int = 10,
        max_iter_clustering: int | None = None,
        tol_harmony: float | None = None,
        tol_clustering: float | None = None,
        early_stop: bool = True,
        rng: int | np.random.Generator = 0,
        n_jobs: int | None = None,
        memory: str = "fast",
        missing: str = "refuse",
    ) -> None:
        self.flavor = flavor
        self.start = start
        self.n_clusters = n_clusters
        self.theta = theta
        self.sigma = sigma
        self.tau = tau
        self.alpha = alpha
        self.ridge_lambda = ridge_lambda
        self.batch_prune_threshold = batch_prune_threshold
        self.block_proportion = block_proportion
        self.sync = sync
        self.max_iter_harmony = max_iter_harmony
        self.max_iter_clustering = max_iter_clustering
        self.tol_harmony = tol_harmony
        self.tol_clustering = tol_clustering
        self.early_stop = early_stop
        self.rng = rng
        self.n_jobs = n_jobs
        self.memory = memory
        self.missing = missing

    def fit(self, X: Any, batch: Any = None, *, y: Any = None) -> Harmony:
        """Find the correction of `X`; arguments and errors are those of :meth:`fit_transform`.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> Harmony(n_clusters=2).fit(X, ["a", "b"] * 30).cluster_centers_.shape
        (2, 3)
        """
        self._fit(X, _one_of(batch, y))
        return self

    def fit_transform(self, X: Any, batch: Any = None, *, y: Any = None) -> np.ndarray:
        """Return the cells with their batches mixed.

        Parameters
        ----------
        X
            (N, d) cells x dimensions, an array or DataFrame; never changed.
        batch
            (N,) batch of each cell, or (N, C) one column for each of C covariates: an array,
            list, Series or DataFrame. Cells are matched by their place.
        y
            Another name for `batch`, for tools that pass the target by its name.

        Returns
        -------
        numpy.ndarray
            (N, d) float32, or what ``set_output`` asks for.

        Raises
        ------
        InvalidInput
            Before any work, for parameters, cells or batches that cannot be used.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> Harmony(n_clusters=2).fit_transform(X, ["a", "b"] * 30).dtype
        dtype('float32')
        """
        return self._fit(X, _one_of(batch, y))

    def transform(self, X: Any, batch: Any = None) -> np.ndarray:
        """Move cells as the cells of their batches were moved by the fit.

        Cells of the fit get the coordinates that `fit_transform` gave them. Where the fit had
        several cells with the same coordinates and levels, this takes `X` in the order of the fit.

        Parameters
        ----------
        X
            (n, d) cells x dimensions.
        batch
            (n,) or (n, C) as in :meth:`fit_transform`, with levels that the fit saw; for cells of
            the fit it may be left out.

        Returns
        -------
        numpy.ndarray
            (n, d) float32, or what ``set_output`` asks for.

        Raises
        ------
        InvalidInput
            For levels that the fit did not see, and for new cells without a batch.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> harmony = Harmony(n_clusters=2).fit(X, ["a", "b"] * 30)
        >>> harmony.transform(X[:2] + 0.1, ["b", "a"]).shape
        (2, 3)
        """
        check_is_fitted(self)
        Z = self._checked(X, reset=False)
        key = digests(Z)
        if batch is None:
            place = self._known.find(key)
            design = self._design_of_known(place)
        else:
            check_same_order(X, batch)
            design = design_like(
                columns_like(batch, self._names), self._design, missing=self.missing
            )
            check_rows(Z, design)
            place = self._known.find(key, design.codes)
        if self._replay is None:
            return Z.astype(np.float32)
        # a new cell's block is drawn by its coordinates: no result depends on the other cells
        return self._replay.correct(Z, design, np.where(place < 0, key, place.astype(np.uint64)))

    def model(self, X: Any) -> HarmonyModel:
        """Return what the fit learned, without its cells, which places new ones.

        Parameters
        ----------
        X
            (N, d) the cells of the fit, in its order: the estimator does not keep them, and their
            sums in each cluster are made when they are asked for.

        Raises
        ------
        InvalidInput
            For other cells.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> Harmony(n_clusters=2).fit(X, ["a", "b"] * 30).model(X).n_cells
        60
        """
        check_is_fitted(self)
        Z = self._checked(X, reset=False)
        if not self._known.are(Z):
            raise InvalidInput(
                "X is not what the fit was given: the model is made of the same cells in the same "
                "order."
            )
        return model_of(self._replay, self._design, self._params, self.summary_, lambda: [Z])

    def save(self, path: str | os.PathLike[str], X: Any, *, overwrite: bool = False) -> Path:
        """Write what the fit learned to an .h5 file, which `HarmonyModel.load` reads.

        Parameters
        ----------
        path
            The new file.
        X
            (N, d) the cells of the fit, as in :meth:`model`.
        overwrite
            Replace a file that is there already.

        Raises
        ------
        InvalidInput
            As :meth:`model`; and for a file that cannot be written.

        Examples
        --------
        >>> import numpy as np, pathlib, tempfile
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> harmony = Harmony(n_clusters=2).fit(X, ["a", "b"] * 30)
        >>> harmony.save(pathlib.Path(tempfile.mkdtemp()) / "model.h5", X).name
        'model.h5'
        """
        return self.model(X).save(path, overwrite=overwrite)

    def _fit(self, X: Any, batch: Any) -> np.ndarray:
        refuse_adata(X)
        params = HarmonyParams(**{p.name: getattr(self, p.name) for p in fields(HarmonyParams)})
        frame = batch_columns(batch)
        check_same_order(X, batch)
        Z = self._checked(X, reset=True)
        done = integrate_embedding(Z, frame, params, missing=self.missing, record=True)
        self._names, self._params = list(frame.columns), params
        self._known = KnownCells(Z, done.design.codes)
        self._design, self._replay = done.design, done.replay
        self._keep(done)
        return done.embedding

    def _keep(self, done: Integration) -> None:
        summary, outcome = done.summary, done.outcome
        self.summary_ = summary
        self.covariates_ = done.design.covariates
        self.levels_ = done.design.levels
        self.n_iter_ = summary["iterations"]
        self.stopped_ = summary["stopped"]
        self.objective_ = np.array(summary["objective"])
        self.cluster_sizes_ = np.array(summary["cluster_sizes"])
        none = np.zeros((0, done.design.n_levels))
        self.cluster_centers_ = np.zeros((0, self.n_features_in_)) if outcome is None else outcome.Y
        self.composition_ = none if outcome is None else outcome.O
        self.expected_ = none.copy() if outcome is None else outcome.E

    def _checked(self, X: Any, *, reset: bool) -> np.ndarray:
        if hasattr(X, "toarray") or np.ma.is_masked(X):
            as_embedding(X)  # refuses it; scikit-learn would look under the mask
        try:
            array = validate_data(self, X, reset=reset, ensure_all_finite=False)
        except (ValueError, OverflowError) as error:
            raise InvalidInput(str(error)) from None
        return as_embedding(array)

    def _design_of_known(self, place: np.ndarray) -> Design:
        new = np.flatnonzero(place < 0)
        if new.size:
            raise InvalidInput(
                f"{new.size} of {len(place)} cells (first: row {new[0]}) are not cells of the "
                "fit, or had several batches there: give the batch of each cell, "
                "transform(X, batch)."
            )
        return self._design.take(place)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _one_of(batch: Any, y: Any) -> Any:
    if batch is not None and y is not None:
        raise InvalidInput("Both batch and y were given: they are one argument by two names.")
    return y if batch is None else batch
