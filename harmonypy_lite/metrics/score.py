"""One table of scores for the embeddings of an AnnData, or of an .h5ad file.

The only file of this package that knows AnnData: it reads columns and embeddings, checks them
before any work, and lays out what `suite` and `totals` return.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.stores import open_store
from harmonypy_lite.lookup import check_basis, check_columns, key_list
from harmonypy_lite.metrics.inputs import Categories, as_categories, as_embedding
from harmonypy_lite.metrics.lisi import Variant
from harmonypy_lite.metrics.neighbors import Method
from harmonypy_lite.metrics.suite import (
    METRICS,
    ON_REQUEST,
    STRUCTURE,
    Cells,
    Question,
    Settings,
    measure,
)
from harmonypy_lite.metrics.totals import totals

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

COLUMNS = (
    "embedding",
    "batch_key",
    "metric",
    "kind",
    "raw",
    "calibrated",
    "standard_error",
    "n_cells",
    "reason",
)


def score(
    adata: AnnData,
    batch_key: str | Sequence[str],
    label_key: str | None = None,
    embeddings: str | Sequence[str] = ("X_pca", "X_pca_harmony"),
    pre: str | None = "X_pca",
    *,
    metrics: Sequence[str] | Literal["default", "all"] = "default",
    perplexity: int = 30,
    variant: Variant = "scib",
    clustering: Literal["kmeans", "leiden"] = "kmeans",
    search: Method = "auto",
    seed: int = 0,
    n_jobs: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Score embeddings for the mixing of batches and the biology that is left.

    Parameters
    ----------
    adata
        Annotated cells; nothing in it is changed.
    batch_key
        Column of ``adata.obs``, or several: each is scored by itself.
    label_key
        Column of cell types. Cells without a label are left out of the metrics that need labels,
        and counted in the table. Without labels those metrics are listed as missing.
    embeddings
        Key of ``adata.obsm``, or several.
    pre
        The embedding before integration, for PCR comparison and structure preservation. None: there
        is none, and these are listed as missing.
    metrics
        "default"; "all", with kBET and batch silhouette, and structure preservation also where
        there are labels; or any of ilisi, cilisi, bras, pcr_comparison, graph_connectivity, kbet,
        kbet_per_label, silhouette_batch, clisi, nmi, ari, silhouette_label, isolated_labels,
        structure_overlap, structure_concordance.
    perplexity, variant
        Of LISI; see `lisi`.
    clustering
        Of NMI and ARI; see `nmi_ari`.
    search
        Of the neighbours among all cells; see `find_neighbors`. Inside labels (CiLISI, kBET per
        label) and batches (structure preservation) the search is always "auto".
    seed
        Of everything that is drawn: shuffles, samples, k-means.
    n_jobs
        Threads; the scores do not depend on them where the search is exact.
    progress
        Show a bar.

    Returns
    -------
    pandas.DataFrame
        One row per embedding, batch column and metric: ``embedding, batch_key, metric, kind``
        (batch, biology, total), ``raw, calibrated, standard_error`` (of the calibrated value),
        ``n_cells``, the cells it was asked of, and ``reason``, which says why a value is missing
        or how it was come by. Totals are rows too: ``scib`` has a raw value, ``robust`` a
        calibrated one. ``attrs`` holds the settings, with the search that was used.

    Raises
    ------
    InvalidInput
        Keys that do not exist, missing batches, embeddings that are not finite, settings that are
        none; before any work. What only one metric cannot use becomes its ``reason``.
    MissingExtra
        ``clustering="leiden"`` without igraph.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> adata = anndata.AnnData(obsm={"X_pca": cells}, shape=(200, 0))
    >>> adata.obs["donor"] = ["a", "b"] * 100
    >>> table = score(adata, "donor", embeddings=["X_pca"], metrics=["ilisi"])
    >>> table.metric.tolist()
    ['ilisi', 'scib', 'robust']
    """
    import pandas as pd
    from tqdm import tqdm

    if not hasattr(adata, "obsm"):
        raise InvalidInput(f"adata must be an AnnData; got {type(adata).__name__}. See score_file.")
    settings = Settings(perplexity, variant, clustering, search, seed, n_jobs)
    settings = settings.checked(adata.n_obs)
    columns = _read_columns(adata, batch_key, label_key)
    names = _metric_names(metrics, with_labels=label_key is not None)
    wanted = _embedding_names(embeddings)
    before = _before(pre, names)
    points = {key: _read_embedding(adata, key) for key in dict.fromkeys([*before, *wanted])}
    rows: list[tuple[Any, ...]] = []
    with tqdm(
        total=len(wanted) * len(columns.batches) * len(names), disable=not progress, unit="metric"
    ) as bar:
        for key in wanted:
            for batch, question in _questions(
                points[key], points[before[0]] if before else None, columns, settings
            ):
                results = []
                for name in names:
                    bar.set_description(f"{key}: {name}")
                    results.append(measure(question, name))
                    bar.update()
                rows += _rows(key, batch, question, results)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs = {"pre": pre, "label_key": label_key, **settings._asdict()}
    return table


def score_file(
    path: str | Path,
    batch_key: str | Sequence[str],
    label_key: str | None = None,
    embeddings: str | Sequence[str] = ("X_pca", "X_pca_harmony"),
    pre: str | None = "X_pca",
    *,
    output: str | Path | None = None,
    plot: str | Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Score embeddings of an .h5ad file, of which only the named columns are read.

    Parameters
    ----------
    path
        The file; it is not changed.
    batch_key, label_key, embeddings, pre
        See `score`.
    output
        Write the table to this file: .csv, or .json with one record per row.
    plot
        Draw `pl.scores` to this file; with several batch columns, one file each, its name before
        the ending.
    **options
        See `score`.

    Raises
    ------
    InvalidInput
        As `score`, a file that does not exist, or an `output` or `plot` that cannot be written;
        before any work.
    MissingExtra
        `plot` without matplotlib.

    Examples
    --------
    >>> import anndata, numpy as np, tempfile
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> adata = anndata.AnnData(obsm={"X_pca": cells}, shape=(200, 0))
    >>> adata.obs["donor"] = ["a", "b"] * 100
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     adata.write_h5ad(f"{folder}/cells.h5ad")
    ...     table = score_file(f"{folder}/cells.h5ad", "donor", embeddings=["X_pca"])
    >>> float(table.raw[table.metric == "ilisi"].item()) > 0.8
    True
    """
    if output is not None and Path(output).suffix not in (".csv", ".json"):
        raise InvalidInput(f"output must end in .csv or .json; got {str(output)!r}.")
    keys = key_list(batch_key, name="batch_key")
    _check_targets(output, plot, keys)
    names = _metric_names(options.get("metrics", "default"), with_labels=label_key is not None)
    parts = [*_before(pre, names), *_embedding_names(embeddings)]
    adata = _read_parts(Path(path), [*keys, *([label_key] if label_key else [])], parts)
    table = score(adata, batch_key, label_key, embeddings, pre, **options)
    if output is not None:
        _write(table, Path(output))
    if plot is not None:
        _draw(table, Path(plot))
    return table


def _check_targets(
    output: str | Path | None, plot: str | Path | None, batch_keys: list[str]
) -> None:
    """Refuse files that could not be written once the work is done."""
    if plot is not None:
        from harmonypy_lite.pl import figure_files

        figure_files(Path(plot), batch_keys)
    for path in (output, plot):
        if path is not None and not Path(path).parent.is_dir():
            raise InvalidInput(f"there is no folder {str(Path(path).parent)!r} to write to.")


def _write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".json":
        table.to_json(path, orient="records", indent=1)
    else:
        table.to_csv(path, index=False)


def _draw(table: pd.DataFrame, path: Path) -> None:
    from harmonypy_lite.pl import figure_files, scores

    for key, name in figure_files(path, table["batch_key"]).items():
        scores(table, batch_key=key).savefig(name, dpi=200)


class _Columns(NamedTuple):
    batches: dict[str, Categories]
    labels: Categories | None  # of the labelled cells only
    labelled: NDArray[np.bool_]  # (N,)


def _read_columns(
    adata: AnnData, batch_key: str | Sequence[str], label_key: str | None
) -> _Columns:
    import pandas as pd

    keys = key_list(batch_key, name="batch_key")
    _refuse_same_column(keys, label_key)
    check_columns(keys, adata.obs.columns)
    batches = {key: as_categories(adata.obs[key], adata.n_obs, f"obs[{key!r}]") for key in keys}
    for key, column in batches.items():
        _refuse_one_batch(key, column)
        _refuse_barcodes(column)
    if label_key is None:
        return _Columns(batches, None, np.zeros(adata.n_obs, np.bool_))
    check_columns(key_list([label_key], name="label_key"), adata.obs.columns)
    labelled = pd.notna(adata.obs[label_key]).to_numpy()
    if not labelled.any():
        raise InvalidInput(f"obs[{label_key!r}] is missing for every cell; leave label_key out.")
    known = adata.obs[label_key][labelled]
    labels = as_categories(known, int(labelled.sum()), f"obs[{label_key!r}]")
    _refuse_barcodes(labels)
    return _Columns(batches, labels, labelled)


def _refuse_same_column(keys: Sequence[str], label_key: str | None) -> None:
    if label_key in keys:
        raise InvalidInput(
            f"{label_key!r} is both a batch column and the label: batches should mix and labels "
            "stay apart, so one column cannot be scored as both. Give the column of cell types as "
            "label_key, or leave it out."
        )


def _refuse_one_batch(key: str, column: Categories) -> None:
    if column.n == 1:
        raise InvalidInput(
            f"obs[{key!r}] has only one level ({column.names[0]}): how well batches mix cannot be "
            "scored with one batch. Give a column that tells batches apart."
        )


def _refuse_barcodes(column: Categories) -> None:
    n_cells = len(column.codes)
    if column.n > max(2, n_cells // 2):
        raise InvalidInput(
            f"{column.what} has {column.n} levels for {n_cells} cells; a column of batches or "
            "labels has few. Was a column of barcodes meant to be the index?"
        )


def _embedding_names(embeddings: str | Sequence[str]) -> list[str]:
    """Return each name once, or raise InvalidInput where there is none."""
    names = [embeddings] if isinstance(embeddings, str) else list(dict.fromkeys(embeddings))
    if not names:
        raise InvalidInput("embeddings is empty; name at least one of obsm.")
    return names


def _before(pre: str | None, names: list[str]) -> list[str]:
    """Return the name of the embedding before integration, if there is one and it is needed."""
    return [pre] if pre is not None and any(METRICS[n].needs == "pre" for n in names) else []


def _read_embedding(adata: AnnData, key: str) -> NDArray[np.floating]:
    check_basis(key, adata.obsm.keys())
    return as_embedding(adata.obsm[key], f"obsm[{key!r}]")


def _metric_names(
    metrics: Sequence[str] | Literal["default", "all"], *, with_labels: bool
) -> list[str]:
    if metrics == "all":
        return list(METRICS)
    if metrics == "default":
        left_out = ON_REQUEST + (STRUCTURE if with_labels else ())
        return [name for name in METRICS if name not in left_out]
    names = [metrics] if isinstance(metrics, str) else list(dict.fromkeys(metrics))
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        asked = f"there is no metric {unknown[0]!r}" if unknown else "metrics is empty"
        raise InvalidInput(f"{asked}; give 'default', 'all', or some of {', '.join(METRICS)}.")
    return names


def _questions(
    points: NDArray[np.floating],
    pre: NDArray[np.floating] | None,
    columns: _Columns,
    settings: Settings,
) -> Iterator[tuple[str, Question]]:
    """Yield one question per batch column; neighbours and silhouettes are shared among them."""
    every = bool(columns.labelled.all())
    cells = Cells(points, settings, columns.labels if every else None)
    labelled = None
    if columns.labels is not None:
        labelled = cells if every else Cells(points[columns.labelled], settings, columns.labels)
    for key, batches in columns.batches.items():
        known = batches.only(columns.labelled) if labelled is not None else None
        yield key, Question(cells, batches, labelled, known, pre)


def _rows(key: str, batch: str, question: Question, results: list[Any]) -> list[tuple[Any, ...]]:
    nothing = (np.nan, np.nan, np.nan)
    n_cells = len(question.cells.points)
    n_labelled = len(question.labelled.points) if question.labelled is not None else 0
    rows = []
    for result in results:
        used = n_labelled if METRICS[result.metric].needs == "labels" else n_cells
        values = result.score or nothing
        rows.append((key, batch, result.metric, result.kind, *values, used, result.reason))
    for found in totals(results):
        raw, calibrated = (np.nan, found.value) if found.name == "robust" else (found.value, np.nan)
        rows.append(
            (key, batch, found.name, "total", raw, calibrated, np.nan, n_cells, found.reason)
        )
    return rows


def _read_parts(path: Path, columns: list[str], embeddings: list[str]) -> AnnData:
    """Read columns of obs and embeddings of obsm from an .h5ad file, and nothing else."""
    import pandas as pd
    from anndata import AnnData

    with open_store(path) as store:
        check_columns(columns, store.columns())
        for name in embeddings:
            check_basis(name, store.embeddings())
        obs = store.obs(columns)
        arrays = {name: store.embedding(name) for name in dict.fromkeys(embeddings)}
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    return AnnData(obs=obs, obsm=arrays)
