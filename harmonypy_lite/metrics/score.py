"""One table of scores for the embeddings of an AnnData, or of an .h5ad file.

The only file of this package that knows AnnData: it reads columns and embeddings, checks them
before any work, and lays out what `suite` and `totals` return.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.output import check_free
from harmonypy_lite.files.stores import open_store
from harmonypy_lite.lookup import check_basis, check_columns, key_list
from harmonypy_lite.metrics.columns import Columns, read_columns
from harmonypy_lite.metrics.inputs import as_embedding, whole_number
from harmonypy_lite.metrics.lisi import Variant
from harmonypy_lite.metrics.neighbors import Method
from harmonypy_lite.metrics.rows import rows_of
from harmonypy_lite.metrics.sampling import SAMPLE, stratified, take
from harmonypy_lite.metrics.suite import (
    METRICS,
    ON_REQUEST,
    STRUCTURE,
    SUMS,
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
    sample: int | None = None,
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
    sample
        Cells to look at, stratified by batch columns and labels; the reasons say so. BRAS and PCR
        comparison take all cells. None: every cell, but 50,000 where an embedding is a Dask array.
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
    columns = read_columns(adata.obs, batch_key, label_key)
    names = _metric_names(metrics, with_labels=label_key is not None)
    wanted = _embedding_names(embeddings)
    before = _before(pre, names)
    points = {key: _read_embedding(adata, key) for key in dict.fromkeys([*before, *wanted])}
    cells = _sampled_cells(points, columns, sample, seed)
    settings = settings.checked(adata.n_obs if cells is None else len(cells))
    rows: list[tuple[Any, ...]] = []
    with tqdm(
        total=len(wanted) * len(columns.batches) * len(names), disable=not progress, unit="metric"
    ) as bar:
        for key in wanted:
            old = points[before[0]] if before else None
            for batch, question in _questions(key, points[key], old, columns, settings, cells):
                results = []
                for name in names:
                    bar.set_description(f"{key}: {name}")
                    results.append(measure(question, name))
                    bar.update()
                rows += _rows(key, batch, question, results)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs = {"pre": pre, "label_key": label_key, "sample": sample, **settings._asdict()}
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
    keys = key_list(batch_key, name="batch_key")
    for target in target_files(output, plot, keys):
        check_free(target, overwrite=True)
    names = _metric_names(options.get("metrics", "default"), with_labels=label_key is not None)
    parts = [*_before(pre, names), *_embedding_names(embeddings)]
    adata = read_parts(Path(path), [*keys, *([label_key] if label_key else [])], parts)
    table = score(adata, batch_key, label_key, embeddings, pre, **options)
    if output is not None:
        _write(table, Path(output))
    if plot is not None:
        _draw(table, Path(plot))
    return table


def target_files(
    output: str | Path | None, plot: str | Path | None, batch_keys: Sequence[str]
) -> list[Path]:
    """Return what will be written; refuse endings that no table or figure has.

    Examples
    --------
    >>> [str(path) for path in target_files("a.csv", None, ["donor"])]
    ['a.csv']
    """
    files = [] if output is None else [Path(output)]
    if files and files[0].suffix not in (".csv", ".json"):
        raise InvalidInput(f"output must end in .csv or .json; got {str(output)!r}.")
    if plot is not None:
        from harmonypy_lite.pl import figure_files

        files += figure_files(Path(plot), batch_keys).values()
    return files


def _write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".json":
        table.to_json(path, orient="records", indent=1)
    else:
        table.to_csv(path, index=False)


def _draw(table: pd.DataFrame, path: Path) -> None:
    from harmonypy_lite.pl import figure_files, scores

    for key, name in figure_files(path, table["batch_key"]).items():
        scores(table, batch_key=key).savefig(name, dpi=200)


def _embedding_names(embeddings: str | Sequence[str]) -> list[str]:
    """Return each name once, or raise InvalidInput where there is none."""
    names = [embeddings] if isinstance(embeddings, str) else list(dict.fromkeys(embeddings))
    if not names:
        raise InvalidInput("embeddings is empty; name at least one of obsm.")
    return names


def _before(pre: str | None, names: list[str]) -> list[str]:
    """Return the name of the embedding before integration, if there is one and it is needed."""
    return [pre] if pre is not None and any(METRICS[n].needs == "pre" for n in names) else []


def _read_embedding(adata: AnnData, key: str) -> Any:
    """Return an array that was looked through, or a Dask array, which is when it is computed."""
    check_basis(key, adata.obsm.keys())
    found, what = adata.obsm[key], f"obsm[{key!r}]"
    if is_dask(found):
        rows_of(found, what)
        return found
    return as_embedding(found, what)


def _sampled_cells(
    points: dict[str, Any], columns: Columns, sample: int | None, seed: int
) -> NDArray[np.int64] | None:
    """Return the cells to look at, ascending; None for all of them in memory."""
    n_cells = len(columns.labelled)
    lazy = any(is_dask(each) for each in points.values())
    n = min(n_cells, SAMPLE if sample is None else whole_number("sample", sample, 1))
    if not lazy and (sample is None or n == n_cells):
        return None
    return stratified(columns.strata(), n, whole_number("seed", seed, 0))


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
    key: str,
    points: Any,
    pre: Any,
    columns: Columns,
    settings: Settings,
    sampled: NDArray[np.int64] | None = None,
) -> Iterator[tuple[str, Question]]:
    """Yield one question per batch column; neighbours and silhouettes are shared among them.

    With `sampled` cells the question is about them, and has the one about all cells beside it.
    """
    whole: dict[str, Question] = {}
    if sampled is not None:
        whole = dict(_questions(key, points, pre, columns, settings))
        points = take(points, sampled, f"obsm[{key!r}]")
        pre = None if pre is None else take(pre, sampled, "pre")
        columns = columns.only(sampled)
    every = bool(columns.labelled.all())
    cells = Cells(points, settings, columns.labels if every else None)
    labelled = None
    if columns.labels is not None:
        known = points if every else points[np.flatnonzero(columns.labelled)]
        labelled = cells if every else Cells(known, settings, columns.labels)
    for name, batches in columns.batches.items():
        own = batches.only(columns.labelled) if labelled is not None else None
        yield name, Question(cells, batches, labelled, own, pre, whole.get(name))


def _rows(key: str, batch: str, question: Question, results: list[Any]) -> list[tuple[Any, ...]]:
    nothing = (np.nan, np.nan, np.nan)
    n_cells = question.cells.n
    rows = []
    for result in results:
        of = question.sums if result.metric in SUMS else question
        used = of.cells.n
        if METRICS[result.metric].needs == "labels":
            used = of.labelled.n if of.labelled is not None else 0
        values = result.score or nothing
        rows.append((key, batch, result.metric, result.kind, *values, used, result.reason))
    for found in totals(results):
        raw, calibrated = (np.nan, found.value) if found.name == "robust" else (found.value, np.nan)
        rows.append(
            (key, batch, found.name, "total", raw, calibrated, np.nan, n_cells, found.reason)
        )
    return rows


def read_parts(path: Path, columns: list[str], embeddings: list[str]) -> AnnData:
    """Read columns of obs with their colours, embeddings of obsm, and nothing else."""
    import pandas as pd
    from anndata import AnnData

    with open_store(path) as store:
        check_columns(columns, store.columns())
        for name in embeddings:
            check_basis(name, store.embeddings())
        obs = store.obs(columns)
        arrays = {name: store.embedding(name) for name in dict.fromkeys(embeddings)}
        colours = store.colours(columns)
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    return AnnData(obs=obs, obsm=arrays, uns=colours)
