"""Mathematics on pages that fetch nothing: LaTeX as drawings that take the page's own colour."""

from __future__ import annotations

import io
import re
from functools import cache

from markupsafe import Markup, escape

SIZE = 14
"""Points."""


@cache
def drawn(tex: str) -> Markup:
    """Return a formula, in the LaTeX that Matplotlib knows, as inline SVG; its source is the drawing's label."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    buffer = io.BytesIO()
    math_to_image(f"${tex}$", buffer, prop=FontProperties(size=SIZE, math_fontfamily="cm"), dpi=96, format="svg")
    text = buffer.getvalue().decode("utf-8")
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    # Every drawing has glyphs of its own: two that share a page must not share their names.
    mark = f"m{abs(hash(tex)) % 10**9}"
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{mark}", svg)
    style = 'class="maths" role="img" fill="currentColor"'
    return Markup(svg.replace("<svg ", f'<svg {style} aria-label="{escape(tex)}" ', 1))


def name(text: str) -> str:
    """Return a name as upright LaTeX."""
    return r"\mathrm{" + text.replace("_", r"\ ") + "}"
