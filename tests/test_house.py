"""The rules of the house: who may import whom, and how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import harmonypy_lite

PACKAGE = Path(harmonypy_lite.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
TESTS = Path(__file__).resolve().parent
#: May have more than ten arguments: every parameter of a run, or another package's signature.
ENTRY_POINTS = {
    ("compat.py", "run_harmony"),
    ("datasets/simulated.py", "simulate"),
    ("estimator.py", "__init__"),
    ("io.py", "integrate_files"),
    ("mapped_files.py", "map_file"),
    ("metrics/score.py", "score"),
    ("pp.py", "harmony_integrate"),
    ("tl/theta.py", "diagnose"),
    ("tl/theta.py", "sweep_theta"),
}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / name).read_text())


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines after signature and docstring."""
    body = function.body[1 if ast.get_docstring(function) is not None else 0 :]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def imported(name: str) -> set[str]:
    """Top packages that a file imports anywhere, but not for type checkers alone."""
    module = tree(name)
    skipped = {
        node
        for test in ast.walk(module)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found: set[str] = set()
    for node in ast.walk(module):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("contract", ["floors", "method", "kernels", "metrics"])
def test_imports__keep_the_contract(contract: str) -> None:
    pytest.importorskip("importlinter")
    # In a process of its own: it switches off the loggers of the one that it runs in.
    code = (
        "import sys; from importlinter.cli import lint_imports\n"
        f"sys.exit(lint_imports(limit_to_contracts=({contract!r},), no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_floors__place_every_module() -> None:
    import tomllib

    with (TESTS.parent / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    named = {
        module.strip().removeprefix("harmonypy_lite.")
        for contract in contracts
        for line in contract.get("layers", contract.get("source_modules", []))
        for module in line.split(":")
    }
    places = {name.removesuffix(".py").replace("/", ".") for name in FILES}
    places = {place for place in places if not place.endswith("__init__")}
    unplaced = {p for p in places if p not in named and p.split(".")[0] not in named}
    assert unplaced <= {"__main__", "_version"}, "name the floor of these in pyproject.toml"


@pytest.mark.parametrize("name", [f for f in FILES if f.startswith("method/")])
def test_method__imports_numpy_and_scipy_only(name: str) -> None:
    allowed = {"numpy", "scipy", "harmonypy_lite", "__future__"}
    standard = {"collections", "dataclasses", "enum", "itertools", "math", "typing"}
    assert imported(name) <= allowed | standard


@pytest.mark.parametrize("name", ["params.py", "design.py"])
def test_parameters_and_design__import_no_heavy_package(name: str) -> None:
    heavy = {"numba", "dask", "h5py", "anndata", "scanpy", "sklearn", "matplotlib", "zarr"}
    assert not imported(name) & heavy


def test_numba__is_known_in_the_kernels_alone() -> None:
    users = {name for name in FILES if "numba" in imported(name)}
    others = {"run.py", "compilation.py"}  # its version, and how long it compiled for
    writers = ("__init__", "jit", "cache", "lanes", "marks", "vectors", "product")
    inside = {f"kernels/{name}.py" for name in writers}
    assert users <= inside | others


@pytest.mark.parametrize("name", FILES)
def test_file__has_no_parallel_loops(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.keyword):
            assert node.arg != "parallel", f"line {node.value.lineno}"
        elif isinstance(node, ast.Name | ast.Attribute):
            word = node.id if isinstance(node, ast.Name) else node.attr
            assert word != "prange", f"line {node.lineno}"
        elif isinstance(node, ast.Constant):
            assert node.value != "parallel", f"line {node.lineno}"


@pytest.mark.parametrize("name", FILES)
def test_file__says_what_is_in_it(name: str) -> None:
    stem = Path(name).stem
    assert stem not in {"utils", "util", "core", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize("name", FILES)
def test_file__is_400_lines_at_most(name: str) -> None:
    assert len((PACKAGE / name).read_text().splitlines()) <= 400


@pytest.mark.parametrize("name", FILES)
def test_functions__are_short_and_take_ten_arguments_at_most(name: str) -> None:
    longest = 60 if name.startswith("kernels/") else 40
    for function in functions(name):
        lines = body_lines(function)
        assert lines <= longest, f"{function.name}: {lines} lines"
        a = function.args
        given = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
        number = len(given) - (given[:1] in (["self"], ["cls"]))
        if (name, function.name) not in ENTRY_POINTS:
            assert number <= 10, f"{function.name}: {number} arguments"


def test_entry_points__exist() -> None:
    assert {(n, f.name) for n, _ in ENTRY_POINTS for f in functions(n)} >= ENTRY_POINTS


def is_library(name: str) -> bool:
    return not name.startswith("commands/") and name not in ("options.py", "program.py")


@pytest.mark.parametrize("name", [*filter(is_library, FILES)])
def test_library__never_prints(name: str) -> None:
    # what is left out is the command line
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "click.echo", "sys.stdout.write"), (
                f"line {node.lineno}"
            )


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.name)
def test_tests__say_thing_and_claim(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            thing, _, claim = node.name.removeprefix("test_").partition("__")
            assert thing, node.name
            assert claim, node.name


def test_readme__of_the_tests_names_tests_and_files_that_are_there() -> None:
    text = (TESTS / "README.md").read_text(encoding="utf-8")
    files = {path.name: path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}
    there = set(re.findall(r"^def (test_\w+)\(", "\n".join(files.values()), re.M))
    rows = {test.partition("__")[0].removeprefix("test_") for test in there}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 30
    assert named <= there
    assert set(re.findall(r"`(row_\w+)`", text)) - {"row_NN"} <= rows
    assert {Path(name).name for name in re.findall(r"`([\w/]*test_\w+\.py)`", text)} <= set(files)
    table = text.partition("### Inputs that broke other tools")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.M) == [str(row) for row in range(1, 28)]
