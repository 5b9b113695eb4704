"""Labels that can be drawn whatever letters they have, parts as percentages, and numbers of things in words."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from matplotlib.font_manager import findfont, fontManager, get_font

LONGEST = 22
"""Letters of a label."""

FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Source Han Sans", "IPAexGothic", "IPAGothic",
    "TakaoGothic", "VL Gothic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Hiragino Sans",
    "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Meiryo", "MS Gothic", "Microsoft YaHei", "Malgun Gothic",
    "Arial Unicode MS", "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai", "Unifont",
)  # fmt: skip
"""Fonts for letters that matplotlib's own lacks; those that a machine has are used."""

LACKING = "□"
"""What stands for letters that no font has."""


@cache
def _fonts(fallbacks: tuple[str, ...]) -> tuple[list[str], frozenset[int]]:
    """Return the fonts that are there, matplotlib's own first, and the letters that they have."""
    installed = {font.name for font in fontManager.ttflist}
    names = ["DejaVu Sans", *(name for name in fallbacks if name in installed)]
    return names, frozenset().union(*(get_font(findfont(name)).get_charmap() for name in names))


def families() -> list[str]:
    """Return the fonts to write labels in."""
    return _fonts(FALLBACKS)[0]


def drawable(text: str, place: int, what: str = "column") -> str:
    """Return a label on one line, cut to a length, with letters that can be drawn.

    A label of which nothing can be drawn is called by its place. Dollars stay dollars: between two of them matplotlib
    sets formulas.
    """
    letters = _fonts(FALLBACKS)[1]
    printable = (each for each in " ".join(text.split()) if each.isprintable())
    drawn = "".join(each if ord(each) in letters else LACKING for each in printable)
    if not drawn or (LACKING in drawn and not any(map(str.isalnum, drawn))):
        drawn = f"{LACKING} {what} {place}" if drawn else f"{what} {place}"
    width = np.cumsum([2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in drawn])
    if width[-1] > LONGEST:
        drawn = drawn[: int((width < LONGEST).sum())].rstrip() + "…"
    return drawn.replace("$", r"\$")


def percent(part: float) -> str:
    """Return a part as a percentage with two digits."""
    if part <= 0:
        return "0%"
    if part < 0.000095:
        return "<0.01%"
    return f"{part:.0%}" if part >= 0.0995 else f"{part:.1%}" if part >= 0.00995 else f"{part:.2%}"


def counted(count: int, word: str, words: str | None = None, *, of: int | None = None) -> str:
    """Return how many all of them are: "the one row", "all 7 rows"; or some of more: "the 2 largest of 7 rows"."""
    if of is not None and count < of:
        return f"the {count} largest of {of} {words or word + 's'}"
    return f"the one {word}" if count == 1 else f"all {count} {words or word + 's'}"


def on_one_line(label: object, most: int) -> str:
    """Return a label on one line, cut to a length."""
    line = "".join(each for each in " ".join(str(label).split()) if each.isprintable())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def short(label: object, most: int = 18) -> str:
    """Return a label cut to a length, in the letters of matplotlib's own font.

    Dollars stay dollars, and a leading underscore does not hide it from legends.
    """
    letters = _fonts(())[1]
    drawn = "".join(each if ord(each) in letters else LACKING for each in on_one_line(label, most))
    return (" " if drawn.startswith("_") else "") + drawn.replace("$", r"\$")
