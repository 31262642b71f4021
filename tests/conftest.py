"""Where tests find the real data sets; the one place that skips a test for lack of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent


# programs that tests start elsewhere find the package that is tested here, installed or not
_home = Path(importlib.util.find_spec("harmonypy_lite").origin).parent.parent
_given = os.environ.get("PYTHONPATH")  # an empty entry would be the current folder
os.environ["PYTHONPATH"] = os.pathsep.join([str(_home), _given] if _given else [str(_home)])

# for `pytest --hypothesis-profile=nightly tests/test_properties.py`
settings.register_profile("nightly", max_examples=5000)

SIBLING = REPOSITORY.parent / "shared" / "data"
REAL_SETS = (
    "cell_lines_2370",
    "cell_lines_9478",
    "codex_spleen_158k",
    "cytof_shaham_8files",
    "glioblastoma_lemur_5000",
    "immune_union_57k",
    "kang_ifnb_pbmc",
    "pancreas_hormone2cell",
    "pbmc_3500_harmonypy",
    "ra_synovium_5265",
    "sc_mixology_5batch",
    "sim_tran2020_simul1",
    "sim_tran2020_simul3",
    "sim_tran2020_simul5",
    "snatac_T_lisi_8078",
    "symphony_pbmcs_1200",
)


@pytest.fixture(params=["single", "half"])
def numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Hold affinities in single precision, as of few cells, and then in halves, as of many."""
    if request.param == "half":
        monkeypatch.setattr("harmonypy_lite.method.form._MANY", 0)
    return str(request.param)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_path() -> Callable[[str], Path]:
    """Return the function that finds a real data set by its name without `.h5ad`."""

    def find(name: str) -> Path:
        if name not in REAL_SETS:
            raise KeyError(f"{name!r} is no real data set; there are {', '.join(REAL_SETS)}")
        from harmonypy_lite import datasets

        path = (datasets.folder() or SIBLING) / f"{name}.h5ad"
        if not path.is_file():
            pytest.skip(
                f"real data set {name}.h5ad is absent: set HARMONYPY_LITE_DATA to the folder that "
                "holds it, or put it into ../shared/data"
            )
        return path

    return find


@pytest.fixture(scope="session")
def real_data(real_path: Callable[[str], Path]) -> Callable:
    """Return the function that reads a real data set; each call gives a copy of its own."""
    import anndata

    read = lru_cache(maxsize=3)(anndata.read_h5ad)  # the largest take hundreds of MB

    def load(name: str) -> anndata.AnnData:
        return read(real_path(name)).copy()

    return load
