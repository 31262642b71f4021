"""The metrics on real cells: against other programs, and within their range."""

from __future__ import annotations

import harmonypy
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_samples
from worlds import frozen

from harmonypy_lite import metrics

LABELLED = (
    "cell_lines_2370",
    "pancreas_hormone2cell",
    "sc_mixology_5batch",
    "symphony_pbmcs_1200",
    "sim_tran2020_simul1",
)


@pytest.fixture(scope="module")
def cell_lines(real_data):
    adata = real_data("cell_lines_2370")
    columns = pd.DataFrame({key: adata.obs[key].astype(str) for key in ("batch", "cell_type")})
    return frozen(np.asarray(adata.obsm["X_pca"], np.float64)), columns


def test_lisi__equals_harmonypy_on_real_data(cell_lines):
    cells, columns = cell_lines
    theirs = harmonypy.compute_lisi(cells.copy(), columns, list(columns), perplexity=30)
    ours = metrics.lisi(cells, columns, variant="harmonypy")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


def test_silhouettes__equal_sklearn_on_real_data(cell_lines):
    cells, columns = cell_lines
    theirs = silhouette_samples(cells, columns["cell_type"])
    ours = metrics.silhouettes(cells, columns["cell_type"]).values
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", LABELLED)
def test_score__stays_in_range_or_says_why_not_on_real_data(name, real_path):
    table = metrics.score_file(real_path(name), "batch", "cell_type", ["X_pca"], metrics="all")
    missing = table.raw.isna() & table.calibrated.isna()
    assert (table[missing].reason.str.len() > 0).all()
    assert not missing[table.metric.isin(["ilisi", "cilisi", "bras", "clisi", "nmi"])].any()
    raw = table.raw.dropna()
    assert raw.between(-0.05, 1 + 1e-9).all()
    assert table.calibrated.dropna().between(-0.5, 1.2).all()
