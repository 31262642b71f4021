"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import pytest


@pytest.fixture(scope="session")
def real_path():
    """Return the path of a real data set by its name (without .h5ad)."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HARMONYPY_LITE_DATA", default))

    def path(name: str) -> Path:
        found = folder / f"{name}.h5ad"
        if not found.exists():
            pytest.skip(f"real data set {name} is not at {folder}")
        return found

    return path


@pytest.fixture(scope="session")
def real_data(real_path):
    """Return a real data set by its name as AnnData."""
    return lambda name: anndata.read_h5ad(real_path(name))
