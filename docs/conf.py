"""How the site is built: `sphinx-build -W docs docs/_build/html` after `pip install ".[docs]"`."""

from pathlib import Path

import harmonypy_lite

HERE = Path(__file__).resolve().parent

project = "harmonypy_lite"
author = "The harmonypy_lite developers"
copyright = f"2026, {author}"
release = version = harmonypy_lite.__version__

extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",  # formulas also show without a network
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "sphinx_book_theme"
html_title = "harmonypy_lite"
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2}
html_context = {"default_mode": "auto"}  # else the theme complains on the first visit

# The notebooks keep their outputs, which tests/tutorials/run_notebooks.py holds to be current.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "colon_fence", "linkify"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings have them in words
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
templates_path = ["_templates"]


def _copy_tutorials() -> None:
    """Sphinx reads below its own folder only."""
    place = HERE / "tutorials"
    place.mkdir(exist_ok=True)
    for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
        text = notebook.read_text(encoding="utf-8")  # its links are those of the repository
        (place / notebook.name).write_text(text.replace("](../docs/", "](../"), encoding="utf-8")


_copy_tutorials()
