"""The site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``; nothing is fetched."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from pairfree import __version__

project = "pairfree"
author = "the pairfree authors"
copyright = "the pairfree authors, Apache-2.0"  # the name is Sphinx's
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "pairfree_math",
    "pairfree_reference",
]
exclude_patterns = [
    "_build",
    "results_preface.md",
    "choosing_frame.md",
]  # the head of results.md, which benchmarks/make_results.py writes, and what benchmarks/auto.py fills

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints = (
    "none"  # signatures stay short enough to be read; the docstring names each type in words
)
add_module_names = False
python_maximum_signature_line_length = 80

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "pairfree"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "results": []}
html_theme_options = {
    "github_url": "https://github.com/pairfree/pairfree",
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
