"""Sphinx: the chapters as a site that needs no network."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

project = html_title = "Mask R-CNN you can read"
author = "the mrcnn-np developers"
extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_show_sourcelink = False
html_favicon = "_static/icon.svg"
exclude_patterns = ["_build", "_data", "text", "exercises", "README.md", "**.ipynb_checkpoints"]
myst_enable_extensions = ["dollarmath", "amsmath"]
nb_execution_mode = "off"  # the committed outputs are the outputs
html_context = {"default_mode": "auto"}
html_theme_options = {"navbar_persistent": [], "use_download_button": False, "home_page_in_toc": True}
mathjax_path = "vendor/tex-svg.js"  # one file, no fonts from elsewhere
napoleon_google_docstring = False
autodoc_typehints = "none"


def _copy_mathematics(app: Any) -> None:
    """Copy the one file that draws formulas out of the package that carries it."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    assert spec is not None and spec.submodule_search_locations is not None
    found = next(Path(spec.submodule_search_locations[0]).rglob("tex-svg.js"))
    target = Path(app.outdir) / "_static" / "vendor"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(found, target)


def setup(app: Any) -> None:
    """Register the hook."""
    app.connect("builder-inited", _copy_mathematics)
