"""The figure of the score table: everything in it is drawn, and nothing else."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
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


@pytest.mark.parametrize("metrics", [None, ["ilisi", "isolated_labels"]])
@pytest.mark.parametrize("name", ["X_", "SCANORAMA_WITH_HVG_AND_MMWW_", "i"])
def test_scores__stays_inside_its_figure(tmp_path, metrics, name):
    given = table(10)
    given["embedding"] = name + given["embedding"]
    given = given if metrics is None else given[given.metric.isin(metrics)]
    figure = pl.scores(given, title="Ten of them, in words that do not fit into one line " * 2)
    figure.savefig(tmp_path / "scores.png", dpi=60)
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01


@pytest.mark.parametrize(
    ("name", "key"), [("SCANORAMA_WITH_HVG_AND_MMWW_", "b"), ("", "the_donor_and_the_chemistry")]
)
def test_scores__leaves_room_for_the_names(tmp_path, name, key):
    given = table(2, [key])
    given["embedding"] = name + given["embedding"]
    figure = pl.scores(given)
    figure.savefig(tmp_path / "scores.png", dpi=60)
    starts = (f"{name}X_", f"{key}\n")
    names = [text for text in figure.axes[0].texts if text.get_text().startswith(starts)]
    circles = [p for p in figure.axes[0].patches if isinstance(p, Circle)]
    assert len(names) == 3
    for text in names:
        assert text.get_window_extent().x1 < min(c.get_window_extent().x0 for c in circles)


def test_scores__tells_what_is_drawn_and_what_a_total_lacks():
    given = table()
    given["reason"] = ""
    given.loc[given.metric == "scib", "reason"] = "without kbet_per_label, isolated_labels"
    written = texts(pl.scores(given, values="calibrated"))
    assert "donor\ncalibrated values" in written
    assert any("scIB is without kBET per label, Isolated labels." in text for text in written)
    given.loc[(given.metric == "robust") & (given.embedding == "X_0"), "reason"] = "without ari"
    given.loc[(given.metric == "robust") & (given.embedding == "X_1"), "reason"] = "without nmi"
    assert any("Robust lacks metrics for some" in text for text in texts(pl.scores(given)))


def luminance(colour):
    linear = np.array(to_rgb(colour))
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("total", [0.1, 0.46, 0.5, 0.6, 0.9])
def test_scores__writes_every_value_so_that_it_can_be_read(total):
    given = table(10)
    given.loc[given.metric == "scib", "raw"] = total
    ax = pl.scores(given).axes[0]
    shapes = [p for p in ax.patches if p.get_facecolor()[:3] != to_rgb("#f4f4f4")]
    numbers = [text for text in ax.texts if re.fullmatch(r"\d\.\d\d", text.get_text())]
    assert len(numbers) == len(shapes) == 50
    for shape, number in zip(shapes, numbers, strict=True):
        dark, light = sorted(luminance(c) for c in (shape.get_facecolor()[:3], number.get_color()))
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


def test_scores__draws_names_as_they_are_not_as_formulas():
    given = table(2, ["$b$"])
    given["embedding"] = "$" + given["embedding"] + "$"
    figure = pl.scores(given)
    drawn = [t for t in figure.axes[0].texts if "X_" in t.get_text() or "$b" in t.get_text()]
    assert len(drawn) == 3
    for text in drawn:
        whole = text.get_window_extent().width
        text.set_parse_math(False)
        text.set_text(text.get_text().replace("\\$", "$"))
        assert text.get_window_extent().width == pytest.approx(whole, rel=0.05)


def test_scores__tells_how_many_cells_had_a_label():
    given = table()
    given["n_cells"] = np.where(given.metric.isin(["clisi", "bras", "isolated_labels"]), 950, 1200)
    said = "Metrics that need labels are of 950 of 1,200 cells, which have one."
    assert said in " ".join(texts(pl.scores(given))[-1].split())
    for others in (0, 1200):  # no labels, or one for each
        given.loc[given.n_cells < 1200, "n_cells"] = others
        assert not any("need labels" in text for text in texts(pl.scores(given)))


def test_scores__says_that_they_are_of_a_sample():
    given = table()
    given["reason"] = np.where(
        given.metric == "ilisi",
        "Of a stratified sample: 50,000 of 2,000,000 cells. And more.",
        None,
    )
    said = "Of a stratified sample: 50,000 of 2,000,000 cells, but for BRAS and PCR comparison."
    assert said in " ".join(texts(pl.scores(given))[-1].split())
    given["reason"] = ""
    assert not any("sample" in text for text in texts(pl.scores(given)))


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
    with pytest.raises(InvalidInput, match="'raw' or 'calibrated'; got 'rank'"):
        pl.scores(given, batch_key="plate", values="rank")
    with pytest.raises(InvalidInput, match="two rows for one embedding"):
        pl.scores(pd.concat([table(), table()]))


def test_figure_files__are_refused_by_their_ending_before_work():
    assert pl.figure_files(Path("a.PDF"), ["donor"]) == {"donor": Path("a.PDF")}
    for name in ("scores", "scores.xlsx"):
        with pytest.raises(InvalidInput, match=f"{name} cannot be drawn"):
            pl.figure_files(Path(name), ["donor"])


def test_scores__names_the_extra_when_matplotlib_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"harmonypy-lite\[plot\]"):
        pl.scores(table())


def test_figures__show_themselves_in_a_notebook_without_pyplot():
    assert pl.scores(table())._repr_png_().startswith(b"\x89PNG")
