"""Write the page: check first, then collect, draw, fill the template."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonypy_lite.calls import checked_call, refuse_other_than_adata
from harmonypy_lite.errors import InvalidInput, MissingExtra
from harmonypy_lite.files.output import check_free
from harmonypy_lite.page import contents
from harmonypy_lite.pl.canvas import figure_class
from harmonypy_lite.pl.layout import Layout, layout_name

if TYPE_CHECKING:
    from anndata import AnnData

    from harmonypy_lite.theta.results import Sweep


@checked_call(refuse=refuse_other_than_adata)
def write_report(
    adata: AnnData,
    path: str | os.PathLike[str],
    *,
    label_key: str | None = None,
    sweep: Sweep | None = None,
    command: str | None = None,
    source: str | None = None,
    layout: Layout = "auto",
    n_jobs: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write one self-contained HTML page on an integration: verdict, scores, pictures, parameters.

    The page needs no network and holds no script. More than 20,000 cells are represented by a
    sample that holds each combination of batch and label in its share; the page says so. The same
    input gives the same bytes.

    Parameters
    ----------
    adata
        An integrated AnnData, with the record in ``uns["harmony"]``; nothing in it is changed. Its
        own colours (``uns["KEY_colors"]``) are used.
    path
        The page, ``NAME.html``.
    label_key
        Column of ``obs`` with cell types; without it biology is judged by neighbours kept.
    sweep
        What `tl.sweep_theta` returned: its verdict comes first, with the trade-off. With it the
        AnnData may be without a run, and the page tells of the sweep alone.
    command
        What repeats the run; by default the call in Python.
    source
        Where the cells are from, for the heading; such as the name of a file.
    layout
        Of the pictures of cells: "umap", "pca" or "auto", see `pl.before_after`.
    n_jobs
        Threads; by default all cores.
    overwrite
        Replace a page that is there already.

    Raises
    ------
    InvalidInput
        Before any work: no record of a run, columns or embeddings that are not there, a path that
        does not end in .html, or that exists.
    MissingExtra
        Without jinja2 or matplotlib.

    Examples
    --------
    >>> import tempfile
    >>> from harmonypy_lite import datasets, pp
    >>> adata = datasets.simulate(n_cells=300)
    >>> pp.harmony_integrate(adata, "batch")
    >>> path = Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(adata, path, label_key="cell_type", layout="pca")
    >>> path.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    target = check_report(path, overwrite=overwrite)
    layout_name(adata.n_obs, layout)
    name = source or "an AnnData"
    if sweep is not None and "harmony" not in adata.uns:
        page = contents.page_of_sweep(sweep, adata.n_obs, command=command, source=name)
    else:
        run = contents.Run.of(adata, label_key)
        how: Any = {"command": command, "source": name, "layout": layout, "n_jobs": n_jobs}
        page = contents.page_of(run, sweep, **how)
    target.write_text(filled(page), encoding="utf-8")


def check_report(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the path of a page that can be written, before the work.

    Raises
    ------
    InvalidInput
        It does not end in .html, exists, or cannot be written.
    MissingExtra
        Without jinja2 or matplotlib.
    """
    shown = Path(path).expanduser()
    if shown.suffix.lower() not in (".html", ".htm"):
        raise InvalidInput(f"The report {shown} is a page of HTML: give a name that ends in .html.")
    check_free(shown, overwrite=overwrite)
    figure_class()
    _template()
    return shown


def filled(page: Mapping[str, Any]) -> str:
    """Return the HTML of a page; everything but the pictures is escaped."""
    return str(_template().render(page))


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtra(
            "The report needs jinja2 and matplotlib: pip install 'harmonypy-lite[report]'."
        ) from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text)
