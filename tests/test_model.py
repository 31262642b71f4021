"""A kept model gives the run's bytes again; a file that was tampered with is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from harmonypy_lite import Harmony, HarmonyModel
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.model import model_of

RNG = np.random.default_rng(3)
N = 600
ROWS_OF_VERSION_1 = [[1.1062045, 0.7316741], [0.6599483, 0.2411211]]
BATCH = np.array(["a", "b", "c"])[RNG.integers(0, 3, N)]
X = RNG.normal(size=(N, 6)).astype(np.float32)
X[:, 0] += 3 * (BATCH == "b")
X[N // 2 :, 1] += 8
X.flags.writeable = False


@pytest.fixture(scope="module")
def fitted() -> Harmony:
    return Harmony(n_clusters=6).fit(X, BATCH)


@pytest.fixture(scope="module")
def path(fitted: Harmony, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted.save(tmp_path_factory.mktemp("model") / "m.h5", X)


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("options", [{}, {"flavor": "harmony1"}, {"flavor": "pooled"}])
def test_model__gives_training_cells_back_to_the_byte_in_any_order(options, tmp_path) -> None:
    second = np.array(["u", "v"])[np.arange(N) % 2]
    batch = np.column_stack([BATCH, second])
    harmony = Harmony(n_clusters=6, **options)
    Z = harmony.fit_transform(X, batch)
    model = HarmonyModel.load(harmony.save(tmp_path / "m.h5", X))
    order = np.random.default_rng(0).permutation(N)[:400]
    again = model.transform(X[order], batch[order], levels="known", place=order)
    np.testing.assert_array_equal(again, Z[order])


def test_model__through_uns_is_the_same(fitted, path) -> None:
    model = HarmonyModel.load(path)
    again = HarmonyModel.from_uns(model.to_uns())
    assert json.loads(again.to_uns()["header"]) == json.loads(model.to_uns()["header"])
    for name, array in model._arrays().items():
        np.testing.assert_array_equal(again._arrays()[name], array)


def test_reference__sums_are_those_of_the_assignments(fitted, path) -> None:
    model = HarmonyModel.load(path)
    R = fitted._replay.assignments(X, fitted._design).astype(np.float64)
    Z = fitted.transform(X, BATCH).astype(np.float64)
    np.testing.assert_allclose(model.reference.size, R.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model.reference.corrected_sum, R.T @ Z, rtol=1e-4, atol=1e-3)
    k = int(R.sum(axis=0).argmax())
    w = np.where(R[:, k] >= 0.01, R[:, k], 0)
    wanted = np.cov(X.T, aweights=w, bias=True)
    np.testing.assert_allclose(model.reference.covariance[k], wanted, atol=1e-4)


def test_model__has_the_same_bytes_however_the_cells_come(fitted) -> None:
    run = fitted._replay, fitted._design, fitted._params, {}
    whole, parts = model_of(*run, lambda: [X]), model_of(*run, lambda: np.array_split(X, 7))
    assert whole.summary == parts.summary
    for name, array in whole._arrays().items():
        np.testing.assert_array_equal(parts._arrays()[name], array)


def test_save__refuses_other_cells_and_existing_files(fitted, path) -> None:
    with pytest.raises(InvalidInput, match="same order"):
        fitted.save(path.with_name("other.h5"), X[::-1])
    with pytest.raises(InvalidInput, match="exists already"):
        fitted.save(path, X)


def test_model__of_one_batch_has_clusters_and_moves_nothing(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)
        harmony = Harmony(n_clusters=3).fit(X, ["a"] * N)
    model = HarmonyModel.load(harmony.save(tmp_path / "m.h5", X))
    assert model.reference.size.sum() == pytest.approx(N)
    np.testing.assert_array_equal(model.transform(X, ["a"] * N, levels="known"), X)
    np.testing.assert_allclose(model.transform(X, ["q"] * N), X, atol=0.1)


def header(file: h5py.File) -> dict:
    return json.loads(file["header"][()].tobytes())


def put(file: h5py.File, name: str, **how) -> None:
    del file[name]
    file.create_dataset(name, **how)


def retext(file: h5py.File, **changes) -> None:
    text = json.dumps(header(file) | changes).encode()
    put(file, "header", data=np.frombuffer(text, np.uint8))


def with_nan(file: h5py.File) -> None:
    file["effects"][0, 0, 0, 0] = np.nan


def linked(file: h5py.File) -> None:
    del file["theta"]
    file["theta"] = h5py.ExternalLink("elsewhere.h5", "theta")


def external(file: h5py.File) -> None:
    del file["theta"]
    file.create_dataset("theta", (3,), "f8", external=[("/etc/hostname", 0, 24)])


def bomb(file: h5py.File) -> None:
    retext(file, n_steps=10**4)
    for name in ("centroids", "log_tilt", "effects"):
        shape = (10**4, *file[name].shape[1:])
        put(file, name, shape=shape, dtype="f4", chunks=True, compression="gzip")


DAMAGE = {
    "is no model": lambda file: retext(file, format="something"),
    "upgrade": lambda file: retext(file, version=99),
    "n_clusters is": lambda file: retext(file, n_clusters=10**9),
    "must be float32": lambda file: put(file, "effects", data=np.zeros((2, 2), np.float32)),
    "plain bytes": bomb,
    "NaN": with_nan,
    "a link": linked,
    "in the file itself": external,
    "no JSON": lambda file: put(file, "header", data=np.zeros(7, np.uint8)),
    "name one thing twice": lambda file: retext(file, levels=[["a", "a", "c"]]),
    "lists of texts": lambda file: retext(file, levels=[["a", 2, "c"]]),
    "number of blocks": lambda file: retext(
        file, params=header(file)["params"] | {"block_proportion": 0.5}
    ),
    "add up": lambda file: retext(file, n_cells=N + 1),
    "params are not": lambda file: retext(file, params={"gamma": 1}),
    "sigma must be": lambda file: put(file, "sigma", data=np.full(6, -1.0)),
    "affinities are 'DOUBLE'": lambda file: retext(file, affinities="DOUBLE"),
    "affinities are \\['HALF'\\]": lambda file: retext(file, affinities=["HALF"]),
    "block_seed": lambda file: retext(file, block_seed=-1),
}


@pytest.mark.parametrize("message", list(DAMAGE))
def test_load__refuses_what_was_tampered_with(message, path, tmp_path) -> None:
    broken = Path(shutil.copy(path, tmp_path / "broken.h5"))
    with h5py.File(broken, "r+") as file:
        DAMAGE[message](file)
    with pytest.raises(InvalidInput, match=message):
        HarmonyModel.load(broken)


def test_load__refuses_a_file_cut_short(path, tmp_path) -> None:
    broken = tmp_path / "broken.h5"
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) - 8, 100):
        broken.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match="damaged"):
            HarmonyModel.load(broken)


def test_load__reads_version_1_for_ever() -> None:
    model = HarmonyModel.load(Path(__file__).parent / "data" / "model_version_1.h5")
    cells = np.random.default_rng(0).normal(size=(40, 2))
    cells[::2] += 1
    found = model.transform(cells, ["a", "b"] * 20, levels="known", place=np.arange(40))
    np.testing.assert_allclose(found[:2], ROWS_OF_VERSION_1, rtol=1e-4)
    assert model.levels == {"batch": ("a", "b")}
