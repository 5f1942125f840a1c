"""Equations as MathML, which browsers show by themselves: pages read the same offline."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def show_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Put an equation into a line of text."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def show_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Put an equation onto lines of its own; wide ones scroll."""
    latex = node.astext().replace("{aligned}", "{align*}")  # the same, under a name that is known
    if r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    self.body.append(f'<div class="equation">{convert(latex, display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer; ``html_math_renderer`` in conf.py chooses it."""
    app.add_html_math_renderer("mathml", (show_inline, None), (show_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
