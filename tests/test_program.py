"""The program as a process of its own: what it imports, terminals, pipes, signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import anndata
import pytest
from files import small_file
from systems import posix

from harmonypy_lite._version import __version__
from harmonypy_lite.program import bars_wanted

FAST = ("--max-iter-harmony", "2", "--n-clusters", "3")
HEAVY = {"anndata", "scanpy", "sklearn", "dask", "matplotlib", "zarr"}


@pytest.fixture
def path(tmp_path):
    return small_file(tmp_path / "cells.h5ad")


def python(*words, **how):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, **how
    )


def loaded_after(code):
    """Return the top-level modules that a fresh Python has after `code`."""
    told = python("-c", f"{code}\nimport sys; print('MODULES', *sys.modules)")
    assert told.returncode == 0, told.stderr
    return {name.split(".")[0] for name in told.stdout.split("MODULES")[1].split()}


def test_program__as_a_module_and_by_its_version():
    told = python("-m", "harmonypy_lite", "--version")
    assert told.stdout == f"harmonypy-lite, version {__version__}\n"


def test_import__loads_nothing_heavy():
    heavy = HEAVY | {"numba", "pandas", "h5py", "scipy"}
    assert not heavy & loaded_after("import harmonypy_lite")


def test_help__loads_nothing_heavy():
    code = "import contextlib\nfrom harmonypy_lite.cli import program\n"
    code += "with contextlib.suppress(SystemExit): program(['integrate', '--help'])"
    loaded = loaded_after(code)
    assert not (HEAVY | {"numba", "pandas", "h5py", "scipy", "tqdm"}) & loaded
    assert "click" in loaded


def test_integrate__loads_neither_scanpy_nor_anndata(path):
    code = "import contextlib\nfrom harmonypy_lite.cli import program\n"
    words = ["integrate", str(path), "-k", "donor", *FAST]
    loaded = loaded_after(code + f"with contextlib.suppress(SystemExit): program({words})")
    assert path.with_name("cells_harmony.h5ad").exists()
    assert not HEAVY & loaded


def on_a_terminal(words):
    """Run the program with a terminal as stderr; return the exit code, stdout and stderr."""
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "harmonypy_lite", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=False)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += piece
    os.close(ours)
    return done.returncode, done.stdout, shown.decode()


@posix("a terminal")
def test_terminal__shows_a_progress_bar_there_and_nowhere_else(path):
    words = ["integrate", path, "-k", "donor", *FAST, "--overwrite"]
    code, out, shown = on_a_terminal(words)
    assert code == 0
    assert "Harmony: iteration 1 of at most 2, round 1" in shown
    assert "iteration" not in out.splitlines()[0]
    assert on_a_terminal([*words, "-q"]) == (0, "", "")
    assert python("-m", "harmonypy_lite", *map(str, words)).stderr == ""


@posix("a shell with head")
def test_pipe__that_closes_early_gives_no_traceback(path):
    command = f"{sys.executable} -m harmonypy_lite info '{path}' --json | head -c 1"
    told = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert told.stdout == "{"
    assert told.stderr == ""


def test_integrate__real_file_by_the_installed_program(real_path, tmp_path):
    source = real_path("pbmc_3500_harmonypy")
    out = tmp_path / "out dir" / "pbmc.h5ad"
    out.parent.mkdir()
    words = ["integrate", str(source), "--key", "batch", "-o", str(out), "--json", *FAST]
    told = python("-m", "harmonypy_lite", *words)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["n_cells"] == 3500
    assert anndata.read_h5ad(out).obsm["X_pca_harmony"].shape == (3500, 30)


def test_bars__are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert bars_wanted(quiet=False)
    assert not bars_wanted(quiet=True)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert not bars_wanted(quiet=False)
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert not bars_wanted(quiet=False)


NOTEBOOK = """
import sys, types
kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: kernel)
for name in ("ipykernel", "ipykernel.zmqshell"):  # by which tqdm knows a notebook
    sys.modules[name] = types.ModuleType(name)
sys.modules["ipywidgets"] = None
from harmonypy_lite.progress import progress_bar
with progress_bar(True):
    pass
"""


def test_bar__in_a_notebook_without_widgets_is_no_warning():
    # tqdm swallows its warning where it is an error, so look for what is shown
    command = [sys.executable, "-W", "always", "-c", NOTEBOOK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "IProgress" not in done.stderr
