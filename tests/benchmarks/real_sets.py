"""What the comparisons on real sets share: their command line, their cells, their table."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from harmonypy_lite import datasets
from harmonypy_lite.errors import HarmonyWarning, NotConvergedWarning

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def arguments(text: str, names: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser that takes names of sets, by default these, and where the table goes."""
    parser = argparse.ArgumentParser(description=text.split("\n")[0])
    parser.add_argument("names", nargs="*", default=names, help="real sets, by file name")
    parser.add_argument("--output", type=Path)
    return parser


def cells_of(name: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the PCA (N, d) and the levels of ``SET`` or ``SET:KEY,KEY``."""
    file, _, keys = name.partition(":")
    folder = datasets.folder() or REPOSITORY.parent / "shared" / "data"
    data = anndata.read_h5ad(folder / f"{file}.h5ad", backed="r")
    Z = np.asarray(data.obsm["X_pca"][:], np.float32)
    return Z, data.obs[keys.split(",") if keys else ["batch"]].astype(str)


def write_table(
    options: argparse.Namespace, header: str, row: Callable[[str], Sequence[str]]
) -> None:
    """Write a markdown table, a row for each name as it is ready."""
    warnings.simplefilter("ignore", HarmonyWarning)
    warnings.simplefilter("ignore", NotConvergedWarning)
    out = options.output.open("w") if options.output else sys.stdout
    print(header, file=out)
    print("|---" * (header.count("|") - 1) + "|", file=out, flush=True)
    for name in options.names:
        cells = [name.replace(":", ", "), *row(name)]
        print("| " + " | ".join(cells) + " |", file=out, flush=True)
