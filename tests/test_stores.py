"""Reading: every encoding of obs and obsm, and every file that is no .h5ad file."""

from __future__ import annotations

import gzip
import shutil

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from files import N_CELLS, add_column, anndata_06_file, anndata_07_file, small_adata, small_file
from systems import posix

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.stores import open_store


def column(path, name):
    with open_store(path) as store:
        return store.obs([name])[name]


def test_open_store__reads_columns_as_anndata_does(tmp_path):
    path = small_file(tmp_path / "a.h5ad")
    with open_store(path) as store:
        assert store.columns() == ["donor", "chemistry", "depth"]
        found = store.obs(["depth", "donor", "chemistry"])
    wanted = anndata.read_h5ad(path).obs
    assert list(found.columns) == ["depth", "donor", "chemistry"]
    for name in found:
        assert found[name].tolist() == wanted[name].tolist()
    assert isinstance(found["donor"].dtype, pd.CategoricalDtype)


@pytest.mark.parametrize("make", [anndata_06_file, anndata_07_file])
def test_open_store__reads_the_layouts_of_old_anndata(tmp_path, make):
    path = make(tmp_path / "old.h5ad")
    wanted = small_adata()
    assert column(path, "donor").tolist() == wanted.obs["donor"].tolist()
    assert column(path, "chemistry").tolist() == wanted.obs["chemistry"].tolist()
    with open_store(path) as store:
        assert store.n_cells == N_CELLS
        np.testing.assert_array_equal(store.embedding("X_pca"), wanted.obsm["X_pca"])
        kinds = {c.name: (c.kind, c.n_levels) for c in store.contents().columns}
        assert store.contents().embeddings["X_pca"].shape == (N_CELLS, 6)
    assert kinds["donor"] == ("categorical", 3)
    assert kinds["chemistry"] == ("string", 2)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.array([1, None, 3] * 30, dtype="Int64"), "integer"),
        (pd.array([True, None, False] * 30, dtype="boolean"), "boolean"),
        (pd.Categorical(["x", None, "y"] * 30), "categorical"),
        (pd.Categorical([1, None, 2] * 30), "categorical"),
        (np.array([0.5, np.nan, 2.0] * 30), "float"),
    ],
)
def test_obs__missing_values_are_missing_in_every_encoding(tmp_path, values, kind):
    adata = small_adata()
    adata.obs["new"] = values
    adata.write_h5ad(tmp_path / "a.h5ad")
    found = column(tmp_path / "a.h5ad", "new")
    assert found.isna().tolist() == pd.Series(values).isna().tolist()
    assert found.dropna().tolist() == pd.Series(values).dropna().tolist()
    with open_store(tmp_path / "a.h5ad") as store:
        described = store.contents().columns[-1]
    assert (described.kind, described.n_levels, described.n_missing) == (kind, 2, 30)


def test_obs__nullable_texts_keep_their_missing_values(tmp_path):
    path = small_file(tmp_path / "a.h5ad")

    def write(obs, name):
        group = obs.create_group(name)
        group.attrs.update({"encoding-type": "nullable-string-array", "encoding-version": "0.1.0"})
        group.create_dataset("values", data=["x", "", "y"] * 30, dtype=h5py.string_dtype())
        group["mask"] = np.array([False, True, False] * 30)

    add_column(path, "new", write)
    found = column(path, "new")
    assert found.isna().tolist() == [False, True, False] * 30
    assert found.dropna().tolist() == ["x", "y"] * 30


@pytest.mark.parametrize("values", [np.arange(N_CELLS) % 2 == 0, np.arange(N_CELLS) % 3])
def test_obs__plain_arrays_come_back_as_they_are(tmp_path, values):
    adata = small_adata()
    adata.obs["new"] = values
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert column(tmp_path / "a.h5ad", "new").dtype == values.dtype
    assert column(tmp_path / "a.h5ad", "new").tolist() == values.tolist()


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.string_dtype(length=12), "S4"])
def test_obs__texts_come_back_as_str_however_they_are_stored(tmp_path, dtype):
    path = small_file(tmp_path / "a.h5ad")
    words = ["été", "v2", ""] * 30 if dtype != "S4" else ["v1", "v2", ""] * 30
    stored = np.array([w.encode() for w in words], dtype=dtype)
    add_column(path, "new", lambda obs, name: obs.create_dataset(name, data=stored))
    assert column(path, "new").tolist() == words
    with open_store(path) as store:
        assert (store.contents().columns[-1].kind, store.n_cells) == ("string", N_CELLS)


def test_obs__unused_categories_count_no_level(tmp_path):
    adata = small_adata()
    adata.obs["new"] = pd.Categorical(["x", "y"] * 45, categories=["w", "x", "y", "z"])
    adata.write_h5ad(tmp_path / "a.h5ad")  # anndata drops unused ones from subsets only
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert len(file["obs/new/categories"]) == 4
    with open_store(tmp_path / "a.h5ad") as store:
        assert store.contents().columns[-1].n_levels == 2


def test_obs__duplicate_cell_names_are_no_obstacle(tmp_path):
    adata = small_adata()
    adata.obs_names = ["same"] * N_CELLS
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert len(column(tmp_path / "a.h5ad", "donor")) == N_CELLS


def test_obs__a_column_named_with_a_slash_is_found(tmp_path):
    path = small_file(tmp_path / "a.h5ad")
    add_column(path, "a/b", lambda obs, name: obs.__setitem__(name, np.arange(N_CELLS) % 4))
    assert column(path, "a/b").nunique() == 4


def test_obs__an_unknown_encoding_goes_to_anndata_and_fails_with_a_remedy(tmp_path):
    path = small_file(tmp_path / "a.h5ad")

    def write(obs, name):
        obs.create_group(name).attrs.update({"encoding-type": "new", "encoding-version": "9"})

    add_column(path, "new", write)
    with pytest.raises(InvalidInput, match=r"obs\['new'\].*'new'.*store the column as text"):
        column(path, "new")


def test_obs__an_unknown_column_lists_those_that_exist(tmp_path):
    path = small_file(tmp_path / "a.h5ad")
    with pytest.raises(InvalidInput, match=r"Did you mean 'donor'.*donor, chemistry, depth"):
        column(path, "Donr")


def test_obs__damage_is_named(tmp_path):
    path = small_file(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        codes = file["obs/donor/codes"][...]
        codes[5] = 99
        file["obs/donor/codes"][...] = codes
    with pytest.raises(InvalidInput, match=r"obs\['donor'\] is damaged.*to 99.*3 categories"):
        column(path, "donor")
    with h5py.File(path, "r+") as file:
        del file["obs/donor"]
    with pytest.raises(InvalidInput, match="damaged: obs should hold 'donor'"):
        column(path, "donor")


@pytest.mark.parametrize("part", ["obs", "obsm"])
def test_store__lengths_that_differ_from_the_index_are_refused(tmp_path, part):
    path = small_file(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        if part == "obs":
            del file["obs/depth"]
            file["obs/depth"] = np.zeros(4)
        else:
            del file["obsm/X_pca"]
            file["obsm/X_pca"] = np.zeros((4, 2))
    read = (lambda s: s.obs(["depth"])) if part == "obs" else (lambda s: s.embedding("X_pca"))
    with open_store(path) as store, pytest.raises(InvalidInput, match="4 rows, but obs has 90"):
        read(store)


def test_embedding__a_data_frame_becomes_an_array(tmp_path):
    adata = small_adata()
    wanted = np.random.default_rng(0).normal(size=(N_CELLS, 2))
    adata.obsm["frame"] = pd.DataFrame(wanted, index=adata.obs_names, columns=["b", "a"])
    adata.write_h5ad(tmp_path / "a.h5ad")
    with open_store(tmp_path / "a.h5ad") as store:
        np.testing.assert_array_equal(store.embedding("frame"), wanted)
        assert store.contents().embeddings["frame"].shape == (N_CELLS, 2)


def test_embedding__what_is_no_dense_matrix_is_refused_with_a_remedy(tmp_path):
    adata = small_adata()
    adata.obsm["sparse"] = scipy.sparse.csr_matrix(adata.obsm["X_pca"])
    adata.obsm["words"] = pd.DataFrame({"a": ["x"] * N_CELLS}, index=adata.obs_names)
    adata.obsm["cube"] = np.zeros((N_CELLS, 2, 2))
    adata.write_h5ad(tmp_path / "a.h5ad")
    with open_store(tmp_path / "a.h5ad") as store:
        with pytest.raises(InvalidInput, match=r"obsm\['sparse'\] is sparse.*toarray"):
            store.embedding("sparse")
        with pytest.raises(InvalidInput, match="no numbers"):
            store.embedding("words")
        with pytest.raises(InvalidInput, match="two dimensions"):
            store.embedding("cube")
        with pytest.raises(InvalidInput, match="obsm has: X_pca, cube, sparse, words"):
            store.embedding("X_umap")


def test_embedding__a_file_without_obsm_says_how_to_make_a_pca(tmp_path):
    anndata.AnnData(np.ones((4, 3), np.float32)).write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["obsm"], file["uns"]
    with open_store(tmp_path / "a.h5ad") as store:
        assert store.contents().embeddings == {}
        with pytest.raises(InvalidInput, match=r"obsm is empty.*scanpy\.pp\.pca.*--preprocess"):
            store.embedding("X_pca")


def test_open_store__a_file_that_cannot_be_used_says_why_and_what_to_do(tmp_path):
    good = small_file(tmp_path / "good.h5ad")
    text = tmp_path / "text.h5ad"
    text.write_text("cell,donor\n" * 100)
    short = tmp_path / "short.h5ad"
    short.write_bytes(good.read_bytes()[:-5000])
    (tmp_path / "empty.h5ad").touch()
    packed = tmp_path / "packed.h5ad.gz"
    packed.write_bytes(gzip.compress(good.read_bytes()))
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    for name, said in {
        "text.h5ad": "no HDF5 file.*write_h5ad",
        "short.h5ad": "cut off.*download it again",
        "empty.h5ad": "empty.*download it again",
        "packed.h5ad.gz": "gunzip",
        "store.zarr": "zarr store without obs",
        ".": "is a folder",
        "goood.h5ad": "no file.*Did you mean .*good.h5ad",
    }.items():
        with pytest.raises(InvalidInput, match=said) as error, open_store(tmp_path / name):
            pass
        assert str(tmp_path / name) in str(error.value)


def test_open_store__other_hdf5_files_are_recognised(tmp_path):
    for name, members, said in [
        ("a.h5mu", ["mod/rna/X", "obs/x"], "MuData"),
        ("a.h5", ["matrix/barcodes"], "read_10x_h5"),
        ("old.h5", ["GRCh38/barcodes"], "read_10x_h5"),
        ("b.h5", ["table"], "without obs.*table"),
    ]:
        with h5py.File(tmp_path / name, "w") as file:
            for member in members:
                file[member] = np.zeros(2)
        with pytest.raises(InvalidInput, match=said), open_store(tmp_path / name):
            pass


@posix("flock")
def test_open_store__a_file_that_is_being_written_is_refused(tmp_path):
    import fcntl

    path = small_file(tmp_path / "a.h5ad")
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as HDF5 does in a program that writes
        with pytest.raises(InvalidInput, match="another program has it open"), open_store(path):
            pass


def test_open_store__a_file_system_without_locks_is_told_from_a_locked_file(tmp_path, monkeypatch):
    def refuse(*_args):
        raise OSError(38, "unable to lock file, errno = 38, error message = 'not implemented'")

    path = small_file(tmp_path / "a.h5ad")
    monkeypatch.setattr(h5py, "File", refuse)
    with (
        pytest.raises(InvalidInput, match="HDF5_USE_FILE_LOCKING=FALSE"),
        open_store(path),
    ):
        pass


def test_open_store__never_reads_the_matrix(tmp_path):
    path = small_file(tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(path, "r") as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    with open(path, "r+b") as handle:
        handle.seek(chunk.byte_offset)
        handle.write(b"\xff" * chunk.size)
    with h5py.File(path, "r") as file, pytest.raises(OSError, match="read"):
        file["X/data"][...]  # the damage is real
    with open_store(path) as store:
        assert store.contents().x.shape == (N_CELLS, 40)
        assert store.embedding("X_pca").shape == (N_CELLS, 6)
        assert store.obs(["donor"]).shape == (N_CELLS, 1)
        with pytest.raises(InvalidInput, match=r"X in .*damaged"):
            store.counts(None)


def test_open_store__an_embedding_with_damaged_bytes_is_refused(tmp_path):
    path = small_file(tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(path, "r") as file:
        chunk = file["obsm/X_pca"].id.get_chunk_info(0)
    with open(path, "r+b") as handle:
        handle.seek(chunk.byte_offset)
        handle.write(b"\xff" * chunk.size)
    with open_store(path) as store, pytest.raises(InvalidInput, match=r"obsm\['X_pca'\].*damaged"):
        store.embedding("X_pca")


def test_open_store__reads_real_files_as_anndata_does(real_path, tmp_path):
    path = shutil.copyfile(real_path("sim_tran2020_simul5"), tmp_path / "größe und raum.h5ad")
    wanted = anndata.read_h5ad(path)
    with open_store(path) as store:
        assert store.obs(["batch"])["batch"].tolist() == wanted.obs["batch"].tolist()
        np.testing.assert_array_equal(store.embedding("X_pca"), wanted.obsm["X_pca"])
