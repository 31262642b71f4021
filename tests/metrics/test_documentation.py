"""The text of the metrics: complete, and with examples that run."""

from __future__ import annotations

import inspect
import pkgutil

import pytest

from harmonypy_lite import metrics

MODULES = sorted(m.name for m in pkgutil.iter_modules(metrics.__path__, "harmonypy_lite.metrics."))
FUNCTIONS = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]
SCORES = [name for name in FUNCTIONS if not name.endswith(("_per_cell", "_test", "_of_labels"))]
SCORES = [name for name in SCORES if name not in ("score", "score_file", "find_neighbors")]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions__each_have_an_example(name):
    assert "\n>>> " in inspect.getdoc(getattr(metrics, name))


@pytest.mark.parametrize("name", SCORES)
def test_scores__each_name_their_parameters_and_source(name):
    function = getattr(metrics, name)
    text = inspect.getdoc(function)
    assert "References\n----------" in text
    for parameter in inspect.signature(function).parameters:
        named = [line for line in text.splitlines() if not line.startswith(" ")]
        assert any(parameter in line.replace(":", ",").split(", ") for line in named) or any(
            parameter in line.split(" :")[0].split(", ") for line in named
        ), parameter
