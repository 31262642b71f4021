"""The figure of the score table: everything in it is drawn, and nothing else."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Circle

from harmonypy_lite import pl
from harmonypy_lite.errors import InvalidInput, MissingExtra


def table(n_embeddings=2, batch_keys=("donor",)):
    metrics = {"ilisi": "batch", "bras": "batch", "clisi": "biology", "isolated_labels": "biology"}
    metrics |= {"scib": "total", "robust": "total"}
    rng, rows = np.random.default_rng(0), []
    for key in batch_keys:
        for i in range(n_embeddings):
            for name, kind in metrics.items():
                raw, calibrated = 0.9 * rng.random(2)
                if name == "isolated_labels":
                    raw = calibrated = np.nan
                if name == "scib":
                    raw, calibrated = 0.987654, np.nan
                if name == "robust":
                    raw, calibrated = np.nan, (i + 1) / 100
                rows.append((f"X_{i}", key, name, kind, raw, calibrated))
    columns = ["embedding", "batch_key", "metric", "kind", "raw", "calibrated"]
    return pd.DataFrame(rows, columns=columns)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("n_embeddings", [2, 10])
@pytest.mark.parametrize("values", ["raw", "calibrated"])
def test_scores__draws_a_circle_per_value_and_writes_it(n_embeddings, values):
    given = table(n_embeddings)
    figure = pl.scores(given, values=values)
    circles = [p for p in figure.axes[0].patches if isinstance(p, Circle)]
    assert len(circles) == 3 * n_embeddings
    written = texts(figure)
    for number in given[given.kind != "total"][values].dropna():
        assert f"{number:.2f}" in written
    assert written.count("0.99") == n_embeddings
    assert f"{n_embeddings / 100:.2f}" in written
    assert any("Not computed" in text and "Isolated labels" in text for text in written)


def test_scores__puts_the_best_total_first():
    names = [text for text in texts(pl.scores(table(10))) if text.startswith("X_")]
    assert names == [f"X_{i}" for i in reversed(range(10))]


def test_scores__stays_inside_its_figure(tmp_path):
    figure = pl.scores(table(10), title="Ten of them")
    figure.savefig(tmp_path / "scores.png", dpi=60)
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01


def test_scores__marks_a_value_that_one_embedding_lacks():
    given = table()
    given.loc[(given.embedding == "X_0") & (given.metric == "bras"), "raw"] = np.nan
    given.loc[(given.embedding == "X_1") & (given.metric == "bras"), "raw"] = -0.004
    written = texts(pl.scores(given))
    assert written.count("\N{EN DASH}") == 1
    assert "0.00" in written


def test_scores__asks_which_batch_column():
    given = table(batch_keys=("donor", "plate"))
    with pytest.raises(InvalidInput, match=r"\['donor', 'plate'\]; choose one as batch_key"):
        pl.scores(given)
    assert len(pl.scores(given, batch_key="plate").axes) == 1
    with pytest.raises(InvalidInput, match="batch_key 'lane'"):
        pl.scores(given, batch_key="lane")
    with pytest.raises(InvalidInput, match="is empty"):
        pl.scores(given[:0])


def test_scores__names_the_extra_when_matplotlib_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"harmonypy-lite\[plot\]"):
        pl.scores(table())
