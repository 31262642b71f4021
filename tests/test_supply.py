"""What is installed: lowest versions, and how to cite; the same everywhere."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import harmonypy_lite

TESTS = Path(__file__).parent
PROJECT = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]


def test_lowest_versions__are_those_of_pyproject() -> None:
    bounds = [re.match(r"([\w-]+)>=([\d.]+)", each) for each in PROJECT["dependencies"]]
    assert all(bounds), "a dependency without a lowest version"
    lines = (TESTS / "lowest.txt").read_text().splitlines()
    assert [f"{each[1]}=={each[2]}" for each in bounds] == lines[1:]


def test_citation__is_of_this_version() -> None:
    text = (TESTS.parent / "CITATION.cff").read_text()
    assert f"\nversion: {harmonypy_lite.__version__}\n" in text
    assert f"\nlicense: {PROJECT['license']}\n" in text
    assert "doi: 10.1038/s41592-019-0619-0" in text


def test_typed_example__uses_every_public_name() -> None:
    tree = ast.parse((TESTS / "typed_example.py").read_text())
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    public = {f"hl.{name}" for name in harmonypy_lite.__all__ if name != "__version__"}
    for name in ("pl", "tl"):
        public |= {f"hl.{name}.{each}" for each in getattr(harmonypy_lite, name).__all__}
    assert public - used <= {"hl.pl.FORMATS"}
