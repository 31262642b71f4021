"""Pictures: what is drawn is in the data, readable with 2 and 40 levels, and nothing leaks."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from harmonypy_lite import datasets, pl, pp
from harmonypy_lite.errors import InvalidInput, MissingExtra
from harmonypy_lite.pl.colours import PALETTE
from harmonypy_lite.theta.results import NullCalibration, Sweep


@pytest.fixture(scope="module")
def adata():
    made = datasets.simulate(n_cells=400)
    pp.harmony_integrate(made, "batch")
    made.obs["harmony_shift"] = np.linspace(0, 1, made.n_obs)
    return made


def sweep(**changes):
    values = [0.0, 1.0, 2.0, 8.0]
    table = pd.DataFrame({"value": values, "mixing": [1.1, 1.6, 1.9, 1.95]})
    table["structure"] = [0.99, 0.97, 0.95, 0.7]
    table["mixing_se"], table["structure_se"] = 0.02, 0.004
    for name in ("clisi", "nmi", "ari"):
        table[name] = np.nan
    table["displacement"], table["objective"] = [0.1, 0.2, 0.3, 0.9], 5.0
    table["iterations"], table["seconds"], table["pareto"] = 3, 0.1, [True, True, True, False]
    null = NullCalibration((0.01,), (0.02,), 0.3, 0.05, 1, 400, {})
    given = {
        "vary": "theta",
        "table": table,
        "before": {"mixing": 1.05, "structure": 1.0, "mixing_expected": 1.97},
        "null": null,
        "recommended": 2.0,
        "interval": (1.0, 2.0),
        "verdict": "correct",
        "reason": "Steps up to 2 gained more than they cost.",
        "rule": "The largest value whose last step was worth its cost.",
        "votes": (1.0, 2.0, 2.0),
        "parameters": {"flavor": "harmony2"},
        "versions": {"numpy": "2"},
    }
    return Sweep(**{**given, **changes})


def compositions(n_clusters, n_levels):
    cluster, level = (grid.ravel() for grid in np.indices((n_clusters, n_levels)))
    names = [f"donor number {i}" for i in level]
    before = np.where(cluster % n_levels == level, 50, 0)
    return pd.DataFrame(
        {"cluster": cluster, "level": names, "observed_before": before, "observed_after": 5}
    )


def every_picture(adata, n_levels):
    """Yield the Axes of each picture, with that many levels."""
    names = [f"a level with quite a long name {i}" for i in range(n_levels)]
    cells = AnnData(obs=pd.DataFrame({"level": np.resize(names, 400)}, index=adata.obs_names))
    cells.obs["harmony_shift"] = adata.obs["harmony_shift"].to_numpy()
    yield pl.embedding(adata.obsm["X_pca"][:, :2], cells.obs["level"], names=True)
    yield pl.displacement(cells, "level")
    yield pl.composition(compositions(30, n_levels))
    yield pl.convergence(adata)
    yield pl.tradeoff(sweep())


@pytest.mark.parametrize("n_levels", [2, 40])
def test_pictures__stay_inside_their_figure_and_their_names_apart(adata, n_levels):
    for ax in every_picture(adata, n_levels):
        figure = ax.figure
        figure.draw_without_rendering()
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        title = ax.get_title("left")
        assert min(box.x0, box.y0) >= -0.02, title
        assert box.x1 <= width + 0.02, title
        assert box.y1 <= height + 0.02, title
        boxes = [t.get_window_extent() for t in ax.get_yticklabels() if t.get_text()]
        for one, other in pairwise(boxes):
            assert not one.overlaps(other), title


def test_pictures__leave_nothing_open_in_pyplot_and_no_setting_changed(adata):
    import matplotlib
    from matplotlib import pyplot

    before, opened = dict(matplotlib.rcParams), pyplot.get_fignums()
    list(every_picture(adata, 3))
    pl.before_after(adata, "batch", layout="pca")
    assert pyplot.get_fignums() == opened
    assert dict(matplotlib.rcParams) == before


def test_pictures__are_drawn_on_the_axes_that_are_given(adata):
    from matplotlib.figure import Figure

    first, *rest = Figure().subplots(2, 3).ravel()
    assert pl.convergence(adata, ax=first) is first
    assert pl.displacement(adata, "batch", ax=rest[0]) is rest[0]
    assert pl.composition(compositions(3, 2), ax=rest[1]) is rest[1]
    assert pl.tradeoff(sweep(), ax=rest[2]) is rest[2]
    assert pl.embedding(np.zeros((2, 2)), ["a", "b"], ax=rest[3]) is rest[3]
    axes = Figure().subplots(1, 2, squeeze=False)
    assert pl.before_after(adata, "batch", axes=axes, layout="pca") is axes


def test_convergence__draws_terms_that_add_up_iterations_and_the_reason(adata):
    ax, record = pl.convergence(adata), adata.uns["harmony"]
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    terms = lines["distance"] + lines["entropy"] + lines["diversity"]
    np.testing.assert_allclose(lines["objective"], terms)
    np.testing.assert_array_equal(lines["entropy"], record["entropy_by_round"])
    ends = np.cumsum([0, *record["rounds"]])
    np.testing.assert_allclose(lines["objective"][ends], record["objective"])
    texts = [text.get_text() for text in ax.texts]
    assert [str(i + 1) for i in range(record["iterations"])] == texts[: record["iterations"]]
    assert ax.get_title("left").endswith("iterations: the objective settled")


@pytest.mark.parametrize(
    ("uns", "said"),
    [
        ({}, "no record of a run"),
        ({"harmony": {"objective_by_round": []}}, "nothing to correct"),
        ({"harmony": {"objective": [1.0], "rounds": [4]}}, "integrate again"),
        ({"harmony": {"objective_by_round": [1.0], "rounds": [4]}}, "integrate again"),
    ],
)
def test_convergence__says_what_is_missing(uns, said):
    with pytest.raises(InvalidInput, match=said):
        pl.convergence(AnnData(shape=(3, 0), uns=uns))


def test_tradeoff__rings_the_recommendation_and_shades_the_noise():
    ax = pl.tradeoff(sweep())
    (ring,) = (line for line in ax.lines if line.get_markersize() == 14)
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0.95, 1.9)
    points = [line for line in ax.lines if line.get_marker() in "os" and line is not ring]
    assert sorted(len(line.get_xdata()) for line in points) == [1, 2, 2]  # input, in, out
    (band,) = ax.patches
    assert band.get_extents().transformed(ax.transData.inverted()).x0 == pytest.approx(0.98)
    written = [text.get_text() for text in ax.texts]
    assert {"0", "1", "2", "8", "noise", "input", "shuffled batches"} <= set(written)
    assert ax.get_title("left") == "theta 2 is recommended"


def test_tradeoff__without_a_recommendation_rings_nothing():
    changes = {"recommended": None, "interval": None, "null": None}
    ax = pl.tradeoff(sweep(verdict="no correction needed", **changes))
    assert not [line for line in ax.lines if line.get_markersize() == 14]
    assert not ax.patches
    assert ax.get_title("left") == "No correction needed"


def test_composition__compares_with_what_chance_would_put_there():
    table = compositions(2, 2)
    image = pl.composition(table, when="before").images[0].get_array()
    wanted = np.log2([[51 / 26, 1 / 26], [1 / 26, 51 / 26]]).clip(-3, 3)
    np.testing.assert_allclose(image, wanted)
    assert not pl.composition(table).images[0].get_array().any()
    with pytest.raises(InvalidInput, match="it lacks observed_after"):
        pl.composition(table.drop(columns="observed_after"))


def test_displacement__puts_what_moved_most_on_top_and_says_what_it_leaves_out(adata):
    levels = [f"d{i:02d}" for i in range(50)]
    cells = AnnData(obs=pd.DataFrame({"donor": np.repeat(levels, 8)}, index=adata.obs_names))
    cells.obs["harmony_shift"] = adata.obs["harmony_shift"].to_numpy()
    ax = pl.displacement(cells, "donor")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [*levels[:20], *levels[30:]]
    assert "10 levels between are left out" in [text.get_text() for text in ax.texts]
    with pytest.raises(InvalidInput, match="harmony_shift"):
        pl.displacement(AnnData(obs=cells.obs[["donor"]]), "donor")


def test_before_after__uses_the_colours_of_scanpy(adata):
    adata.obs["batch"] = adata.obs["batch"].astype("category")
    n = len(adata.obs["batch"].cat.categories)
    adata.uns["batch_colors"] = ["#123456", *["#abcdef"] * (n - 1)]
    ax = pl.before_after(adata, "batch", layout="pca")[0, 0]
    assert ax.get_legend().legend_handles[0].get_color() == "#123456"
    adata.uns["batch_colors"] = ["#123456"]  # of an older, shorter column
    ax = pl.before_after(adata, "batch", layout="pca")[0, 0]
    assert ax.get_legend().legend_handles[0].get_color() == PALETTE[0]
    del adata.uns["batch_colors"]


def test_embedding__draws_every_cell_and_those_without_a_level_below():
    places = np.arange(8.0).reshape(4, 2)
    ax = pl.embedding(places, ["b", None, "a", float("nan")])
    drawn = np.asarray(ax.collections[0].get_offsets())
    assert {tuple(xy) for xy in drawn} == {tuple(xy) for xy in places}
    assert {tuple(xy) for xy in drawn[:2]} == {(2.0, 3.0), (6.0, 7.0)}
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b", "no value"]
    with pytest.raises(InvalidInput, match="one level for each"):
        pl.embedding(places, ["a"])


def test_names__are_drawn_as_they_are(tmp_path):
    names = ["$\\frac$", "a$b$c", "two\nlines", "<b>"]
    ax = pl.embedding(np.eye(4)[:, :2], names, names=True)
    ax.figure.savefig(tmp_path / "picture.png")  # a formula would not parse
    texts = {text.get_text() for text in ax.texts}
    assert texts == {r"\$\frac\$", r"a\$b\$c", "two lines", "<b>"}


def test_palette__keeps_colours_apart_for_any_eyes():
    # Vienot 1999, which the palette was not made with: how dichromats see linear RGB
    blind = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        "nobody": np.eye(3),
    }
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for eyes, seen in blind.items():
        f = np.cbrt(np.clip(linear @ np.transpose(seen), 1e-4, 1) @ xyz.T / xyz.sum(axis=1))
        x, y, z = f.T
        lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
        apart = np.linalg.norm(lab[:, None] - lab, axis=-1) + 1e9 * np.eye(len(lab))
        assert apart[:8, :8].min() > 12, eyes
        assert apart.min() > 3, eyes  # 2.3 can just be told apart
    assert lab[:, 0].min() > 35  # seen on black, by the last of them
    assert lab[:, 0].max() < 88  # ... and on white


@pytest.mark.parametrize("draw", [pl.convergence, lambda a: pl.displacement(a, "batch")])
def test_pictures__name_the_extra_when_matplotlib_is_absent(adata, draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"harmonypy-lite\[plot\]"):
        draw(adata)


def test_layout__is_umap_for_a_number_of_cells_that_it_takes_seconds_for(adata):
    from harmonypy_lite.pl.layout import layout_name, positions

    assert [layout_name(n, "auto") for n in (59, 60, 20_000, 20_001)] == [
        "pca",
        "umap",
        "umap",
        "pca",
    ]
    with pytest.raises(InvalidInput, match="'umap' or 'pca'; got 'tsne'"):
        layout_name(5, "tsne")
    one = positions(np.arange(3.0)[:, None])
    assert one.tolist() == [[0, 0], [1, 0], [2, 0]]
