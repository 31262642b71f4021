"""AnnData, scikit-learn, harmonypy's call and the program are one method: the same bytes."""

from __future__ import annotations

import doctest
import subprocess
import sys
from functools import cache

import anndata
import numpy as np
import pandas as pd
import pytest

import harmonypy_lite
from harmonypy_lite import Harmony, run_harmony
from harmonypy_lite.pp import harmony_integrate

N, D = 3000, 12
KEYS = ["donor", "chemistry"]


@cache
def cells():
    """Return an embedding that takes several iterations, and its batches."""
    draws = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "donor": np.array(["anna", "bea", "carl"])[draws.choice(3, N, p=[0.6, 0.3, 0.1])],
            "chemistry": np.where(draws.random(N) < 0.3, "v2", "v3"),
        },
        index=[f"cell{i}" for i in range(N)],
    )
    centres, shifts = 5 * draws.normal(size=(6, D)), 2 * draws.normal(size=(3, 6, D))
    kind = draws.integers(0, 6, N)
    Z = centres[kind] + shifts[pd.factorize(obs["donor"], sort=True)[0], kind]
    Z = (Z + draws.normal(size=(N, D))).astype(np.float32)
    Z.flags.writeable = False
    return Z, obs


def through_pp(Z, obs, n_jobs=1):
    adata = anndata.AnnData(obs=obs, obsm={"X_pca": Z})
    harmony_integrate(adata, KEYS, n_jobs=n_jobs)
    return adata.obsm["X_pca_harmony"]


def through_the_estimator(Z, obs, n_jobs=1):
    return Harmony(n_jobs=n_jobs).fit_transform(Z, obs[KEYS])


def through_run_harmony(Z, obs, n_jobs=1):
    return run_harmony(Z, obs, KEYS, ncores=n_jobs).Z_corr


DOORS = [through_pp, through_the_estimator, through_run_harmony]


@cache
def wanted():
    Z, obs = cells()
    return through_pp(Z, obs)


def same(found):
    assert found.dtype == np.float32
    assert found.shape == (N, D)
    return found.tobytes() == wanted().tobytes()


def test_front_doors__the_example_is_one_that_moves():
    Z, obs = cells()
    found = run_harmony(Z, obs, KEYS)
    assert len(found.kmeans_rounds) >= 2
    assert abs(found.Z_corr - Z).max() > 1


@pytest.mark.parametrize("n_jobs", [1, 2, 4])
@pytest.mark.parametrize("door", DOORS)
def test_front_doors__give_the_same_bytes_for_any_number_of_threads(door, n_jobs):
    assert same(door(*cells(), n_jobs))


def test_front_doors__the_program_gives_the_same_bytes(tmp_path):
    Z, obs = cells()
    anndata.AnnData(obs=obs, obsm={"X_pca": Z}).write_h5ad(tmp_path / "in.h5ad")
    words = ["integrate", "in.h5ad", "-o", "out.h5ad", "--n-jobs", "2"]
    keys = [word for key in KEYS for word in ("--key", key)]
    subprocess.run(
        [sys.executable, "-m", "harmonypy_lite", *words, *keys], cwd=tmp_path, check=True
    )
    assert same(anndata.read_h5ad(tmp_path / "out.h5ad").obsm["X_pca_harmony"])


def test_front_doors__give_the_same_bytes_for_the_pooled_flavour(tmp_path):
    Z, obs = cells()
    adata = anndata.AnnData(obs=obs, obsm={"X_pca": Z})
    adata.write_h5ad(tmp_path / "in.h5ad")
    harmony_integrate(adata, KEYS, flavor="pooled", n_jobs=1)
    found = adata.obsm["X_pca_harmony"]
    assert abs(found - wanted()).max() > 1e-3
    model = Harmony(flavor="pooled", n_jobs=2, memory="lean")
    assert model.fit_transform(Z, obs[KEYS]).tobytes() == found.tobytes()
    assert model.transform(Z).tobytes() == found.tobytes()
    words = ["integrate", "in.h5ad", "-o", "out.h5ad", "--flavor", "pooled", "--start", "auto"]
    keys = [word for key in KEYS for word in ("--key", key)]
    subprocess.run(
        [sys.executable, "-m", "harmonypy_lite", *words, *keys], cwd=tmp_path, check=True
    )
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert written.obsm["X_pca_harmony"].tobytes() == found.tobytes()
    assert written.uns["harmony"]["parameters"]["start"] == "auto"


def memory_map(Z, path):
    np.save(path / "Z.npy", Z)
    return np.load(path / "Z.npy", mmap_mode="r")


FORMS = {
    "float64": lambda Z, path: Z.astype(np.float64),
    "Fortran order": lambda Z, path: np.asfortranarray(Z),
    "float64, Fortran order": lambda Z, path: np.asfortranarray(Z, dtype=np.float64),
    "a view with strides": lambda Z, path: np.repeat(np.repeat(Z, 2, axis=0), 3, axis=1)[::2, ::3],
    "a reversed view": lambda Z, path: Z[::-1].copy()[::-1],
    "a memory map": memory_map,
    "other byte order": lambda Z, path: Z.astype(">f4"),
    "objects": lambda Z, path: Z.astype(object),
    "a data frame": lambda Z, path: pd.DataFrame(Z, columns=[f"PC{i}" for i in range(D)]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("door", DOORS)
def test_front_doors__the_form_of_the_embedding_changes_nothing(door, form, tmp_path):
    Z, obs = cells()
    given = FORMS[form](Z, tmp_path)
    if isinstance(given, pd.DataFrame):
        given.index = obs.index  # AnnData asks for it
    if isinstance(given, np.ndarray):
        given.flags.writeable = False
    kept = given.copy()
    assert same(door(given, obs))
    np.testing.assert_array_equal(np.asarray(given), np.asarray(kept))


def test_front_doors__lean_memory_changes_nothing():
    Z, obs = cells()
    harmony = Harmony(memory="lean")
    assert same(harmony.fit_transform(Z, obs[KEYS]))
    assert same(harmony.transform(Z))


@pytest.mark.parametrize("door", DOORS)
def test_front_doors__the_result_is_the_callers_own(door):
    Z, obs = cells()
    found = door(Z, obs)
    assert found.flags.writeable
    assert not np.shares_memory(found, Z)


IMPORTS = """
import sys
before = set(sys.modules)
import harmonypy_lite
heavy = {"scanpy", "anndata", "sklearn", "dask", "matplotlib", "pandas", "numba", "numpy", "scipy"}
assert not heavy & (set(sys.modules) - before), sorted(heavy & set(sys.modules))
assert "Harmony" in dir(harmonypy_lite)
assert not heavy & (set(sys.modules) - before)
harmonypy_lite.run_harmony
assert "sklearn" not in sys.modules
harmonypy_lite.Harmony
assert "sklearn" in sys.modules
assert "anndata" not in sys.modules
"""


def test_package__its_help_shows_the_calls_and_an_example_that_runs():
    found = doctest.testmod(harmonypy_lite)
    assert (found.attempted, found.failed) == (4, 0)
    for call in ("pp.harmony_integrate", "Harmony()", "run_harmony", "harmonypy-lite integrate"):
        assert call in harmonypy_lite.__doc__


def test_package__importing_it_loads_nothing_heavy():
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_package__every_public_name_is_there():
    assert set(harmonypy_lite.__all__) <= set(dir(harmonypy_lite))
    for name in dir(harmonypy_lite):
        assert getattr(harmonypy_lite, name) is not None
    named = [harmonypy_lite.Harmony, harmonypy_lite.run_harmony, harmonypy_lite.InvalidInput]
    assert [thing.__name__ for thing in named] == ["Harmony", "run_harmony", "InvalidInput"]
    errors = [n for n, thing in vars(harmonypy_lite.errors).items() if isinstance(thing, type)]
    assert set(errors) <= set(harmonypy_lite.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        harmonypy_lite.nothing  # noqa: B018
