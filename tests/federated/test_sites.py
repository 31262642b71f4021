"""Sites that exchange sums, against one holder of all cells; kills, mix-ups and refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import sites
from click.testing import CliRunner

from harmonypy_lite.cli import program
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import message as messages
from harmonypy_lite.federated import start, steps
from harmonypy_lite.federated.exchange import Exchange
from harmonypy_lite.federated.plan import Plan
from harmonypy_lite.files import output
from harmonypy_lite.method import form
from harmonypy_lite.params import HarmonyParams

PARAMS = HarmonyParams(n_clusters=12, max_iter_harmony=2, early_stop=False)
STEPS_BEFORE = 2 + start.WIDE + start.NARROW


def plan(**how: Any) -> Plan:
    return Plan(**{"what": "harmony", "sites": sites.SITES, "key": "donor", "params": PARAMS} | how)


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # many small files: what is promised after a power failure is not tested here
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> sites.World:
    return sites.make(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def finished(world: sites.World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    sites.run(world, folder, plan())
    return folder


def test_sites__find_what_one_holder_of_all_cells_finds(world: sites.World, finished: Path) -> None:
    found = sites.applied(world, finished)
    wanted, outcome = sites.pooled(world, plan(), sites.centroids_of(finished))
    assert np.abs(found - wanted).max() < 1e-5
    assert np.abs(wanted - world.Z).max() > 0.1, "nothing was corrected: the case proves nothing"
    exchange = Exchange(finished)
    last = exchange.combined(exchange.latest())
    assert last is not None
    objective = [last.facts["start"], *(rounds[-1] for rounds in last.facts["rounds"])]
    np.testing.assert_allclose(objective, outcome.history.objective, rtol=1e-10)


def test_sites__that_hold_halves_find_what_one_holder_of_all_cells_finds(
    world: sites.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "_MANY", 0)
    sites.run(world, tmp_path / "run", plan())
    found = sites.applied(world, tmp_path / "run")
    wanted, _ = sites.pooled(world, plan(), sites.centroids_of(tmp_path / "run"))
    assert np.abs(found - wanted).max() < 1e-5


def test_sites__need_six_exchanges_per_iteration(finished: Path) -> None:
    exchange = Exchange(finished)
    asked = [exchange.combined(i).facts.get("ask") for i in range(exchange.latest() + 1)]  # type: ignore[union-attr]
    iteration = ["round"] * 4 + ["regress"]
    before = [None, "moments"] + ["lloyd"] * (start.WIDE + start.NARROW)
    assert asked == [*before, "assign", *iteration, "correct", *iteration, "finish"]


def test_start__is_the_same_for_one_holder(world: sites.World, finished: Path) -> None:
    N, K = len(world.Z), 12
    first, second = start.moments(world.Z)
    rngs = [np.random.default_rng([0, i]) for i in (0, 1)]
    C = start.candidates(first, second, N, start.n_candidates(K, N), rngs[0])
    for _ in range(start.WIDE):
        count, sums = start.nearest_sums(world.Z, C)
        C = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-300)
    Y = start.reduced(C, count, K, rngs[1])
    for _ in range(start.NARROW):
        sums = start.nearest_sums(world.Z, Y)[1]
        Y = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(sites.centroids_of(finished), Y, atol=1e-12)


def test_messages__hold_no_row_of_a_cell(world: sites.World, finished: Path) -> None:
    allowed = {"levels", "sizes", "n_dims", "unit", "words"}
    for path in finished.glob("[ABCD]-*.fed"):
        sent = messages.read(path)
        assert set(sent.facts) <= allowed
        n_cells = int((world.site == sent.sender).sum())
        for name, array in sent.arrays.items():
            assert n_cells not in array.shape, name
            assert array.dtype == np.int64, name
            assert sent.words[name]


def test_masks__change_no_bit_of_the_result_and_hide_the_sums(
    world: sites.World, finished: Path, tmp_path: Path
) -> None:
    sites.run(world, tmp_path / "masked", plan(masks=True))
    plain, masked = Exchange(finished), Exchange(tmp_path / "masked")
    for step in range(2, plain.latest() + 1):
        one, other = plain.combined(step), masked.combined(step)
        assert one is not None
        assert other is not None
        assert one.facts == other.facts
        for name, array in one.arrays.items():
            assert array.tobytes() == other.arrays[name].tobytes()
        for site in sites.SITES:
            seen, hidden = plain.from_site(site, step), masked.from_site(site, step)
            assert seen is not None
            assert hidden is not None
            for name, array in seen.arrays.items():
                assert np.mean(array == hidden.arrays[name]) < 0.01
                if array.size > 50:  # as large as noise is
                    assert np.median(np.abs(hidden.arrays[name].astype(float))) > 2.0**61


def test_masks__of_other_secrets_are_found_out(world: sites.World, tmp_path: Path) -> None:
    steps.init(tmp_path, plan(masks=True))
    path = tmp_path / "secrets-A.json"
    found = json.loads(path.read_text())
    found["secrets"]["B"] = "00" * 32
    path.write_text(json.dumps(found))
    for name in sites.SITES:
        steps.local(tmp_path, world.at(name, tmp_path))
    with pytest.raises(InvalidInput, match="A and B do not have the same secret"):
        steps.combine(tmp_path)
    with pytest.raises(InvalidInput, match="give the file of this site's secrets"):
        steps.local(tmp_path, world.at("A", tmp_path, secrets=None))
    with pytest.raises(InvalidInput, match="holds the secrets of site 'A'"):
        steps.local(tmp_path, world.at("B", tmp_path, secrets=path))


def test_masks__of_the_answers_to_two_questions_do_not_come_off_in_their_difference(
    world: sites.World, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    steps.init(folder, plan(masks=True))
    for _ in range(3):
        for name in sites.SITES:
            steps.local(folder, world.at(name, folder))
        steps.combine(folder)
    at, asked, sent = world.at("A", folder), folder / "combined-0003.fed", folder / "A-0004.fed"
    steps.local(folder, at)
    first = messages.read(sent).arrays
    question = messages.read(asked)
    table = {"centroids": question.arrays["centroids"][::-1].copy()}
    messages.write(asked, messages.Message(**vars(question) | {"arrays": table, "digest": ""}))
    sent.unlink()  # whoever carries the messages may do all this
    steps.local(folder, at)
    second = messages.read(sent).arrays
    assert list(second) == ["count", "sums"]
    for name, array in second.items():
        assert np.median(np.abs((array - first[name]).astype(float))) > 2.0**61


def forge(folder: Path, step: int, facts: dict[str, Any]) -> None:
    """Let whoever combines say something else."""
    path = folder / f"combined-{step:04d}.fed"
    message = messages.read(path)
    messages.write(path, messages.Message(**vars(message) | {"facts": facts, "digest": ""}))
    for later in folder.glob("*.fed"):
        if later.stem[-4:].isdigit() and int(later.stem[-4:]) > step:
            later.unlink()


@pytest.mark.parametrize(
    "ask", ["moments", "lloyd", "assign", "round", "regress", "correct", "finish", "cells", None]
)
def test_site__refuses_a_question_that_is_not_due(
    ask: str | None, world: sites.World, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    forge(folder, 1, {"ask": ask})
    at = world.at("A", folder)
    with pytest.raises(InvalidInput):
        steps.apply(folder, at, output.plan(at.file, tmp_path / "out.h5ad"))
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize(("what", "value"), [("sizes", [1]), ("levels", ["x"]), ("n_dims", 7)])
def test_site__refuses_a_census_that_says_something_else_of_it(
    what: str, value: Any, world: sites.World, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    facts = dict(messages.read(folder / "combined-0001.fed").facts)
    facts["census"][what] = value if what == "n_dims" else facts["census"][what] | {"A": value}
    if what != "n_dims":
        other = {"sizes": "levels", "levels": "sizes"}[what]
        facts["census"][other] |= {"A": facts["census"][other]["A"][:1]}
    forge(folder, 1, facts)
    with pytest.raises(InvalidInput, match="other numbers of site 'A' than it told"):
        steps.local(folder, world.at("A", folder))


def test_min_mass__withholds_small_clusters(world: sites.World, tmp_path: Path) -> None:
    least = 20.0
    done = sites.run(world, tmp_path / "run", plan(min_mass=least))
    exchange = Exchange(tmp_path / "run")
    seen = 0
    for path in exchange.folder.glob("[ABCD]-*.fed"):
        arrays = messages.read(path).arrays
        for name in {"n", "count"} & set(arrays):
            cells = arrays[name] / 2.0 ** (62 - np.ceil(np.log2(len(world.Z))))
            assert ((cells == 0) | (cells >= least)).all()
            seen += int((cells == 0).sum())
        if "kept" in arrays:
            silent = arrays["kept"] == 0
            assert not arrays["sums"][silent].any()
            assert not arrays["mass"][silent].any()
    assert seen > 0, "no cluster was small: the case proves nothing"
    assert done.stopped
    assert np.isfinite(sites.applied(world, tmp_path / "run")).all()


@pytest.mark.parametrize("state", ["kept", "lost"])
def test_site__that_was_killed_goes_on(
    state: str,
    world: sites.World,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / f"killed-{state}"
    shutil.copytree(finished, folder, ignore=lambda _, names: set(names) - {"plan.fed"})
    writes, write = [0], messages.write

    def dying(path: Path, *args: Any, **how: Any) -> str:
        writes[0] += 1
        if writes[0] % 17 == 0:
            raise KeyboardInterrupt
        return write(path, *args, **how)

    monkeypatch.setattr(messages, "write", dying)
    deaths = 0
    while True:
        try:
            done = sites.go_on(world, folder)
            break
        except KeyboardInterrupt:
            deaths += 1
            if state == "lost":
                shutil.rmtree(world.at("B", folder).folder, ignore_errors=True)
    assert deaths > 3
    assert done.stopped
    for path in finished.glob("*-00*.fed"):
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_steps__may_be_repeated(world: sites.World, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.glob("*.fed")}
    again = steps.local(finished, world.at("A", finished)), steps.combine(finished)
    assert [done.written for done in again] == [(), ()]
    assert {path: path.read_bytes() for path in finished.glob("*.fed")} == before


@pytest.fixture
def halfway(world: sites.World, finished: Path, tmp_path: Path) -> Path:
    """Return a run in which all sites have answered the first round, and nobody combined."""
    folder, last = tmp_path / "halfway", STEPS_BEFORE + 2

    def later(_folder: str, names: list[str]) -> list[str]:
        found = [re.fullmatch(r"(\w+)-(\d{4})\.fed", name) for name in names]
        return [
            name
            for name, match in zip(names, found, strict=True)
            if match and int(match[2]) > last - (match[1] == "combined")
        ]

    shutil.copytree(finished, folder, ignore=later)
    return folder


def refused(folder: Path, *said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        steps.combine(folder)
    for text in said:
        assert text in str(error.value)


def test_combine__refuses_a_message_that_was_changed(halfway: Path) -> None:
    path = halfway / f"B-{STEPS_BEFORE + 2:04d}.fed"
    data = path.read_bytes()
    for place in (len(data) // 2, len(data) - 40, 40):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(halfway, path.name, "changed or cut off")
    path.write_bytes(data[:-100])
    refused(halfway, path.name, "changed or cut off")
    path.write_bytes(data)
    assert steps.combine(halfway).written


def test_combine__refuses_a_message_that_is_repeated(halfway: Path) -> None:
    due, before = (halfway / f"B-{STEPS_BEFORE + 2 - i:04d}.fed" for i in (0, 1))
    shutil.copy(before, due)
    refused(halfway, due.name, "was repeated")


def test_combine__refuses_a_message_of_another_site(halfway: Path) -> None:
    path = halfway / f"B-{STEPS_BEFORE + 2:04d}.fed"
    shutil.copy(halfway / f"C-{STEPS_BEFORE + 2:04d}.fed", path)
    refused(halfway, path.name, "should be from 'B' and is from 'C'")


def test_combine__refuses_a_message_of_another_run(
    world: sites.World, halfway: Path, tmp_path: Path
) -> None:
    steps.init(tmp_path / "other", plan())
    steps.local(tmp_path / "other", world.at("B", tmp_path / "other"))
    path = halfway / f"B-{STEPS_BEFORE + 2:04d}.fed"
    shutil.copy(tmp_path / "other" / "B-0001.fed", path)
    refused(halfway, path.name, "another run")


def test_combine__refuses_a_message_of_an_earlier_attempt(halfway: Path) -> None:
    path = halfway / f"B-{STEPS_BEFORE + 2:04d}.fed"
    sent = messages.read(path)
    stale = {"combined": "0" * 64}
    messages.write(path, messages.Message(**vars(sent) | {"answers": stale, "digest": ""}))
    refused(halfway, path.name, "answers another message")


def test_combine__refuses_sums_of_another_shape(halfway: Path) -> None:
    path = halfway / f"B-{STEPS_BEFORE + 2:04d}.fed"
    sent = messages.read(path)
    for arrays in ({}, {"n": np.zeros(3, np.int64)}, {"n": np.zeros(12)}):
        messages.write(path, messages.Message(**vars(sent) | {"arrays": arrays}))
        refused(halfway, "site B", "asked for were")


def test_local__refuses_what_was_combined_without_it(
    world: sites.World, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "robbed"
    shutil.copytree(finished, folder)
    path = folder / "A-0003.fed"
    sent = messages.read(path)
    arrays = {name: array + 1 for name, array in sent.arrays.items()}
    messages.write(path, messages.Message(**vars(sent) | {"arrays": arrays}))
    with pytest.raises(InvalidInput, match=r"combined-0003\.fed did not add up .*A-0003\.fed"):
        steps.local(folder, world.at("A", folder))


def test_local__refuses_cells_that_changed(
    world: sites.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    steps.init(folder, plan())
    at = world.at("A", folder)
    steps.local(folder, at)
    cells = anndata.read_h5ad(at.file)
    cells.obsm["X_pca"] = cells.obsm["X_pca"] + np.float32(1)
    cells.write_h5ad(tmp_path / "A.h5ad")
    changed = type(at)(at.name, tmp_path / "A.h5ad", at.private)
    with pytest.raises(InvalidInput, match="has other cells"):
        steps.local(folder, changed)


def test_census__refuses_levels_that_sites_share(tmp_path: Path) -> None:
    world = sites.make(tmp_path, 300, 4)
    steps.init(tmp_path / "run", plan(key="lab"))
    for name in sites.SITES:
        steps.local(tmp_path / "run", world.at(name, tmp_path / "run"))
    refused(tmp_path / "run", "'one'", "at two sites, A and B", "chemistry")


def test_census__refuses_embeddings_of_different_widths(tmp_path: Path) -> None:
    world = sites.make(tmp_path, 300, 4)
    obs = pd.DataFrame({"donor": ["x", "y"] * 20}, index=[f"c{i}" for i in range(40)])
    odd = anndata.AnnData(obs=obs, obsm={"X_pca": np.random.default_rng(0).normal(size=(40, 5))})
    odd.write_h5ad(tmp_path / "C.h5ad")
    steps.init(tmp_path / "run", plan())
    for name in sites.SITES:
        steps.local(tmp_path / "run", world.at(name, tmp_path / "run"))
    refused(tmp_path / "run", "different numbers of dimensions", "C 5")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"sites": ("A",)}, "two or more"),
        ({"sites": ("A", "a")}, "a name of its own"),
        ({"sites": ("A", "../B")}, "cannot be called"),
        ({"sites": ("A", "combined")}, "cannot be called"),
        ({"min_mass": -1.0}, "min_mass"),
        ({"params": HarmonyParams(flavor="harmony1")}, "flavor='harmony2'"),
        ({"params": HarmonyParams(flavor="pooled")}, "flavor='harmony2'"),
        ({"params": HarmonyParams(max_iter_clustering=6)}, "at most 5"),
        ({"params": HarmonyParams(theta=[1, 2])}, "one number"),
        ({"params": HarmonyParams(rng=np.random.default_rng(0))}, "generator"),
    ],
)
def test_plan__refuses(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plan(**how)


def test_init__takes_a_new_folder_for_a_new_run(tmp_path: Path) -> None:
    steps.init(tmp_path, plan())
    with pytest.raises(InvalidInput, match="holds messages of a run already"):
        steps.init(tmp_path, plan())


def test_commands__go_from_plan_to_result(tmp_path: Path) -> None:
    world, folder = sites.make(tmp_path, 240, 4), tmp_path / "run"

    def fed(*args: Any) -> Any:
        found = CliRunner().invoke(program, ["fed", *map(str, args)], prog_name="harmonypy-lite")
        assert found.exit_code == 0, found.output
        return found.stdout

    everyone = [word for name in sites.SITES for word in ("--site", name)]
    how = ["--max-iter-harmony", 1, "--n-clusters", 5, "--quiet"]
    assert fed("init", folder, *everyone, "--key", "donor", *how) == ""
    assert Exchange(folder).plan.params.n_clusters == 5
    while True:
        for name in sites.SITES:
            said = fed("local", folder, world.at(name, folder).file, "--site", name, "-j", 1)
        done = json.loads(fed("combine", folder, "--json"))
        if done["stopped"]:
            break
        assert re.search(r"Waiting for combined message \d+: `fed combine` makes it", said)
    out = tmp_path / "out.h5ad"
    said = fed("apply", folder, tmp_path / "A.h5ad", "--site", "A", "-o", out)
    assert "The run is over" in said
    made = anndata.read_h5ad(out)
    assert made.obsm["X_pca_harmony"].shape == made.obsm["X_pca"].shape
    assert made.uns["harmony"]["site"] == "A"
    sent = (tmp_path / "A.fed-A" / "sent.txt").read_text()
    for path in folder.glob("A-*.fed"):
        for name in messages.read(path).arrays:
            assert re.search(rf"{path.name}: .*\n(  .*\n)*?  {name}, ", sent), (path, name)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("A.h5ad", "is not over: combined message 2 is due"),
        ("A1.h5ad", r"There is no file .*A1\.h5ad\. Did you mean .*A\.h5ad"),
    ],
    ids=["before the end", "a file that is not there"],
)
def test_apply__says_what_is_missing(tmp_path: Path, file: str, said: str) -> None:
    sites.make(tmp_path, 240, 4)
    steps.init(tmp_path / "run", plan())
    args = ["fed", "apply", str(tmp_path / "run"), str(tmp_path / file), "--site", "A", "-i"]
    found = CliRunner().invoke(program, args, prog_name="harmonypy-lite")
    assert found.exit_code == 2
    assert re.search(said, found.stderr)
