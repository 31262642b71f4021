"""Where tests find the real data sets, and the one place that skips a test without them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SIBLING = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_path() -> Callable[[str], Path]:
    """Return the function that finds a real data set by its name without `.h5ad`."""

    def find(name: str) -> Path:
        path = Path(os.environ.get("HARMONYPY_LITE_DATA", SIBLING)) / f"{name}.h5ad"
        if not path.is_file():
            pytest.skip(f"real data set {name}.h5ad is absent: set HARMONYPY_LITE_DATA")
        return path

    return find
