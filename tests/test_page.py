"""The report: one page that needs nothing else, whatever the file says its levels are called."""

from __future__ import annotations

import os
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from browser import Browser, find
from click.testing import CliRunner
from test_pl import sweep

from harmonypy_lite import datasets, metrics, pp, write_report
from harmonypy_lite.cli import program
from harmonypy_lite.errors import InvalidInput, MissingExtra
from harmonypy_lite.page import contents, words

ATTACK = "<script>alert(1)</script>"
QUOTES = """donor "a" & 'b'"""


class Page(HTMLParser):
    """What is on a page: elements with their attributes, and the texts inside some of them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "path", "use", "image", "rect"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if data.strip():
            self.texts.append((tuple(self._open), " ".join(data.split())))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self):
        return " ".join(text for inside, text in self.texts if "style" not in inside)


@pytest.fixture(scope="module")
def adata():
    made = datasets.simulate(n_cells=500, n_batches=3)
    names = dict(
        zip(sorted(set(made.obs["batch"].astype(str))), [ATTACK, "$x^", "plain"], strict=True)
    )
    made.obs[QUOTES] = made.obs["batch"].astype(str).map(names)
    made.obs["cell_type"] = made.obs["cell_type"].astype(str).str.replace("0", f"'\"{ATTACK}")
    pp.harmony_integrate(made, QUOTES, theta={QUOTES: 3.0}, protect="cell_type")
    return made


@pytest.fixture(scope="module")
def path(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(
        adata, path, label_key="cell_type", sweep=sweep(), source=ATTACK, command=f"x {ATTACK}",
        layout="pca",
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def html(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_page__asks_the_network_for_nothing(html, page):
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href", "action", "srcset"):
                assert value.startswith(("#", "data:")), (tag, value[:80])
    assert "@import" not in html
    assert {url[4:5] for url in re.findall(r"url\(.", html)} == {"#"}
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_page__escapes_what_comes_from_the_file(html, page):
    assert "<script" not in html
    assert "onerror" not in html
    shown = page.text()
    assert QUOTES in shown
    assert f"Harmony integration of {ATTACK}" in shown
    assert f"x {ATTACK}" in shown
    names = [text for inside, text in page.texts if "svg" in inside and text.startswith("<scr")]
    assert names, "the legend holds the level"
    labels = [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg]
    assert any(f"coloured by {QUOTES}" in label and ATTACK in label for label in labels)


def test_page__has_a_text_for_each_picture_and_heads_for_each_table(html, page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(pictures) == len(page.all("svg")) == len(page.all("figure")) == 10
    assert all(len(svg["aria-label"]) > 40 for svg in pictures)
    tables = re.findall(r"<table>.*?</table>", html, flags=re.DOTALL)
    assert len(tables) == 5
    for table in tables:
        inside = Page(table)
        assert len(inside.all("caption")) == 1
        assert all(th.get("scope") for th in inside.all("th"))
        heads = Page(table[: table.index("</thead>")]).all("th")
        assert len(heads) >= 2
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = {ref[1:-1] for ref in re.findall(r'(?<=href=)"#[^"]+"', html)}
    assert {name.lstrip("#") for name in pointed} <= set(ids)


def test_page__tells_what_was_done_and_found(adata, page):
    shown, record = page.text(), adata.uns["harmony"]
    assert "500 cells in 20 dimensions (X_pca) were corrected" in shown
    assert "Correct, with theta 2; single seeds recommend 1 to 2." in shown
    table = metrics.score(adata, QUOTES, "cell_type")
    for metric in ("cilisi", "clisi", "nmi"):
        pair = words.values_of(table, QUOTES, metric, "X_pca", "X_pca_harmony")
        name = words.METRICS[metric][0]
        assert re.search(rf"{name} .{{0,60}}\? {words.number(pair[0])} ", shown), metric
    for name, version in record["versions"].items():
        assert f"{name} {version}" in shown
    assert f"{QUOTES}: 3" in shown
    assert "Cramer's V" in shown


def test_page__is_the_same_twice_and_leaves_the_adata_as_it_was(adata, tmp_path):
    obs, uns = list(adata.obs), list(adata.uns)
    for name in ("a.html", "b.html"):
        write_report(adata, tmp_path / name, layout="pca")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (list(adata.obs), list(adata.uns)) == (obs, uns)
    text = Page((tmp_path / "a.html").read_text(encoding="utf-8")).text()
    assert "Without cell types this is all that can be said of biology." in text
    call = "harmonypy_lite.pp.harmony_integrate(adata, "
    assert call + repr(QUOTES) + ", theta=" in text


def test_page__of_a_sweep_alone(tmp_path):
    from anndata import AnnData

    path = tmp_path / "sweep.html"
    given = sweep(verdict="no correction needed", recommended=None, interval=None)
    write_report(AnnData(shape=(400, 0)), path, sweep=given, source="pbmc.h5ad")
    page = Page(path.read_text(encoding="utf-8"))
    assert "No correction needed." in page.text()
    assert "4 values of theta were compared on 400 cells." in page.text()
    assert len(page.all("svg")) == 1


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("report.pdf", {}, "ends in .html"),
        ("absent/report.html", {}, "does not exist"),
        ("report.html", {"label_key": "typ"}, "no obs column 'typ'"),
        ("report.html", {"layout": "tsne"}, "'umap' or 'pca'"),
        ("there.html", {}, "exists already"),
    ],
)
def test_page__is_refused_before_work(adata, tmp_path, monkeypatch, name, given, said):
    (tmp_path / "there.html").write_text("mine")
    monkeypatch.setattr(contents, "page_of", None)  # would fail if it was called
    with pytest.raises(InvalidInput, match=said):
        write_report(adata, tmp_path / name, **given)
    assert (tmp_path / "there.html").read_text() == "mine"


def test_page__names_the_extra_when_jinja2_is_absent(adata, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"harmonypy-lite\[report\]"):
        write_report(adata, tmp_path / "report.html")


def test_sample__of_many_cells_is_said(adata, monkeypatch, tmp_path):
    monkeypatch.setattr(contents, "MOST_CELLS", 200)
    run = contents.Run.of(adata, "cell_type")
    assert run.cells.n_obs == 200
    share = adata.obs[QUOTES].value_counts(normalize=True)
    mine = run.cells.obs[QUOTES].value_counts(normalize=True)
    assert (share - mine).abs().max() < 0.02
    write_report(adata, tmp_path / "report.html", layout="pca")
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text()
    assert "Scores and pictures look at 200 of 500 cells" in text


def scores(before, after, error=0.0, **more):
    given = {"batch_key": "b", "raw": np.nan, "standard_error": error}
    rows = [
        {"embedding": e, "metric": m, "kind": k, "calibrated": v, **given}
        for e, values in (("before", before), ("after", after))
        for m, k, v in zip(("ilisi", "clisi"), ("batch", "biology"), values, strict=True)
    ]
    return words.verdict(pd.DataFrame(rows), ["b"], "before", "after", **more)


@pytest.mark.parametrize(
    ("before", "after", "headline", "tone"),
    [
        ((0.1, 1.0), (0.9, 0.99), "Batches are mixed, and biology stayed.", "good"),
        ((0.1, 1.0), (0.5, 0.99), "Batches are partly mixed, and biology stayed.", "mixed"),
        ((0.1, 1.0), (0.2, 0.99), "Batches are still apart, and biology stayed.", "bad"),
        ((0.1, 1.0), (0.9, 0.8), "Batches are mixed, but biology was lost.", "bad"),
    ],
)
def test_verdict__follows_from_mixing_and_biology(before, after, headline, tone):
    found = scores(before, after)
    assert (found.headline, found.tone) == (headline, tone)
    assert f"rose from {before[0]:.2f} to {after[0]:.2f}" in found.sentences[0]
    assert f"{after[1]:.2f}" in found.sentences[1]


def test_verdict__believes_a_loss_of_two_standard_errors():
    pairs = (0.1, 1.0), (0.9, 0.8)
    assert scores(*pairs, error=0.06).tone == "bad"
    assert scores(*pairs, error=0.08).tone == "good"


def test_verdict__heeds_the_alarm():
    found = scores((0.1, 1.0), (0.9, 1.0), alarm="Over-correction in 1 clusters.")
    assert found.tone == "bad"
    assert found.headline == "Batches are mixed, but structure was lost."
    assert found.sentences[-1] == "Over-correction in 1 clusters."


@pytest.fixture(scope="module")
def browser():
    found = find()
    if found is None:
        pytest.skip("no chromium is installed: the page is not looked at in a browser")
    opened = Browser(found)
    yield opened
    opened.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_browser__shows_the_whole_page_and_has_nothing_to_say(browser, path, width, dark):
    browser.said.clear()
    browser.asked.clear()
    browser.open(path, width=width, dark=dark)
    assert browser.said == []
    assert {url for url in browser.asked if not url.startswith("data:")} == {path.as_uri()}
    assert browser.value("document.documentElement.scrollWidth") <= width
    drawn = browser.value(
        "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect())"
        ".map(r => [r.left, r.right, r.height])"
    )
    assert len(drawn) == 10
    for left, right, height in drawn:
        assert left >= 0
        assert right <= width
        assert height > 60
    ground, ink = (
        sum(map(int, re.findall(r"\d+", browser.value(f"getComputedStyle(document.body).{name}"))))
        for name in ("backgroundColor", "color")
    )
    assert (ground < ink) == dark
    text = browser.value("getComputedStyle(document.querySelector('svg text')).fill")
    assert (sum(map(int, re.findall(r"\d+", text))) > 380) == dark, "pictures follow the theme"


def test_browser__loads_the_images_inside_pictures(browser, path):
    browser.open(path, width=1280)
    assert browser.value("document.images.length") == 0  # they are parts of the SVG
    script = """Promise.all([...document.querySelectorAll('svg image')].map(
        i => createImageBitmap(new Blob([Uint8Array.from(atob(
            i.href.baseVal.split(',')[1]), c => c.charCodeAt(0))])).then(b => b.width)))"""
    found = browser.call(
        "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
    )
    widths = found["result"]["value"]
    assert len(widths) >= 6
    assert min(widths) > 0
    assert max(widths) > 300


def test_integrate__writes_the_report(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("harmonypy_lite.page.of_files.LAYOUT", "pca")
    shutil.copy(repository / "data" / "simulated_donors.h5ad", tmp_path / "cells.h5ad")
    words_ = ["integrate", str(tmp_path / "cells.h5ad"), "--key", "donor", "--label", "cell_type"]
    words_ += ["--report", str(tmp_path / "report.html")]
    done = CliRunner().invoke(program, words_, prog_name="harmonypy-lite")
    assert done.exit_code == 0, done.output
    assert f"report      {tmp_path / 'report.html'}" in done.stdout
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text()
    assert "Harmony integration of cells.h5ad" in text
    assert f"harmonypy-lite {' '.join(words_)}" in text
    refused = CliRunner().invoke(program, [*words_, "-o", str(tmp_path / "other.h5ad")])
    assert refused.exit_code == 2
    assert "report.html exists already" in refused.stderr
    assert not (tmp_path / "other.h5ad").exists()


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_reports_of_files__use_the_colours_that_the_file_has(tmp_path, monkeypatch, suffix):
    if suffix == "zarr":
        pytest.importorskip("zarr")
    for module in ("of_files", "of_sweep"):
        monkeypatch.setattr(f"harmonypy_lite.page.{module}.LAYOUT", "pca")
    cells = datasets.simulate(400, n_dims=8, batch_strength=5.0)
    cells.obs["batch"] = cells.obs["batch"].astype("category")
    cells.uns["batch_colors"] = ["#13579b", "#cafe42", "#55aa11"]
    path = tmp_path / f"cells.{suffix}"
    getattr(cells, f"write_{suffix}")(path)
    file, pages = str(path), [tmp_path / "a.html", tmp_path / "b.html"]
    sweep_of = ["--values", "0,2", "--seeds", "1", "--splits", "0"]
    for words_ in (["integrate"], ["sweep", *sweep_of]):
        page = pages.pop(0)
        given = [*words_, file, "-k", "batch", "--report", str(page)]
        done = CliRunner().invoke(program, given)
        assert done.exit_code == 0, done.output
        for colour in cells.uns["batch_colors"]:
            assert colour in page.read_text(encoding="utf-8")


def test_integrate__of_one_batch_has_nothing_to_report(repository, tmp_path):
    cells = datasets.simulate(n_cells=60)
    cells.obs["batch"] = "one"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    page = str(tmp_path / "report.html")
    given = ["integrate", str(tmp_path / "cells.h5ad"), "-k", "batch", "--report", page]
    done = CliRunner().invoke(program, given)
    assert done.exit_code == 0, done.output
    assert f"nothing to report: {page} is not written" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["cells.h5ad", "cells_harmony.h5ad"]


def test_sweep__writes_the_report_with_a_run_of_what_it_recommends(tmp_path, monkeypatch):
    monkeypatch.setattr("harmonypy_lite.page.of_sweep.LAYOUT", "pca")
    source = tmp_path / "cells.h5ad"
    datasets.simulate(400, n_dims=8, batch_strength=5.0).write_h5ad(source)
    given = ["sweep", str(source), "-k", "batch", "--values", "0,2", "--seeds", "1"]
    given += ["--splits", "0", "--sigma", "0.2", "--report", str(tmp_path / "sweep.html")]
    done = CliRunner().invoke(program, given, prog_name="harmonypy-lite")
    assert done.exit_code == 0, done.output
    assert f"Written: {tmp_path / 'sweep.html'}" in done.stdout
    text = Page((tmp_path / "sweep.html").read_text(encoding="utf-8")).text()
    assert re.search(r"Correct, with theta \d; all seeds agree\. .* sigma 0\.2 ", text)
    assert "harmonypy-lite sweep" in text
    again = CliRunner().invoke(program, given)
    assert again.exit_code == 2
    assert "sweep.html exists already" in again.stderr


def test_integrate__refuses_labels_without_a_report_and_absent_ones(repository, tmp_path):
    source = str(repository / "data" / "simulated_donors.h5ad")
    out = ["-o", str(tmp_path / "out.h5ad")]
    given = ["integrate", source, "--key", "donor", "--label", "typ", *out]
    done = CliRunner().invoke(program, given)
    assert done.exit_code == 2
    assert "give --report FILE.html too" in done.stderr
    done = CliRunner().invoke(program, [*given, "--report", str(tmp_path / "r.html")])
    assert done.exit_code == 2
    assert "There is no obs column 'typ'" in done.stderr
    assert os.listdir(tmp_path) == []
