"""Sphinx settings of the site: `./run python -m sphinx -W --keep-going docs build/site`.

Pages that lie elsewhere in the repository are brought in by `repository.py`. Nothing is fetched, nothing is executed.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from judgeq import __version__  # noqa: E402

project = "Judge Q"
copyright = "judgeq contributors, Apache-2.0"  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = [
    "repository",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "library",
]
exclude_patterns = ["_static"]

myst_enable_extensions = ["attrs_inline", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks are shown as they were saved
# The picture of a figure before its script, which is loaded from elsewhere.
nb_mime_priority_overrides = [("html", "image/png", 0)]
# A figure's data, beside its picture; lines of a notebook that are not Python.
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]

# Docstrings write names in single backquotes.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "Judge Q"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
_FONTS = {
    "font-stack": '-apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif',
    "font-stack--monospace": 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace',
    "font-stack--headings": 'Charter, "Iowan Old Style", Georgia, "Noto Serif", "Liberation Serif", serif',
}
# Paper, ink, blue and amber are those of the demo.
html_theme_options = {
    "light_css_variables": _FONTS
    | {
        "color-background-primary": "#fffefb",
        "color-background-secondary": "#faf7f0",
        "color-background-border": "#ddd6c8",
        "color-foreground-primary": "#1d1b17",
        "color-brand-primary": "#265a92",
        "color-brand-content": "#265a92",
        "color-brand-visited": "#6a4a86",
    },
    "dark_css_variables": {
        "color-background-primary": "#16181d",
        "color-background-secondary": "#0f1115",
        "color-background-border": "#3a3d45",
        "color-foreground-primary": "#f0ece3",
        "color-brand-primary": "#8fb4df",
        "color-brand-content": "#8fb4df",
        "color-brand-visited": "#c3a5dd",
    },
}
copybutton_exclude = ".linenos, .gp, .go"
