"""A verdict card: the answer in a sentence, and the lines that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, overload

Level = Literal["pass", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")
COLOURS: Mapping[str, str] = {"pass": "#1a7f37", "warn": "#9a6700", "fail": "#cf222e"}

MOST_SHOWN = 7
"""Lines of a card below its answer; the rest is folded away."""

ORDER = ("status", "R-hat", "ESS", "divergences", "reference", "means", "spread", "intervals", "exact", "k-hat", "ELBO",
         "held out", "baseline", "coverage", "predictive checks", "prior", "LOO", "time", "labels", "E-BFMI",
         "uncertainty")  # fmt: skip
"""What lines are about, in the order of a card: the most important first."""

FATAL = frozenset({"status", "R-hat", "divergences", "means", "held out"})
"""What a line must be about for its failure to be the fit's: others name what not to use the fit for."""


@dataclass(frozen=True)
class Line:
    """One line of a verdict.

    Attributes:
        level: pass, warn or fail.
        about: What is judged, in a word or two.
        sentence: Why.
    """

    level: Level
    about: str
    sentence: str


def overall(lines: Sequence[Line]) -> Level:
    """Return the level of a fit: fail where it cannot be used at all, warn where not for everything."""
    if any(line.level == "fail" and line.about in FATAL for line in lines):
        return "fail"
    return "pass" if all(line.level == "pass" for line in lines) else "warn"


def worst(lines: Sequence[Line]) -> Level:
    """Return the worst level of some lines."""
    return max((line.level for line in lines), key=LEVELS.index, default="pass")


@dataclass(frozen=True)
class Card(Sequence[Line]):
    """The verdict on a fit: the answer in a sentence, and the lines that it rests on.

    Attributes:
        answer: Whether to believe the fit, for what, at what price.
        lines: All of them, the most important first.
    """

    answer: str
    lines: tuple[Line, ...]

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Line]: ...
    def __getitem__(self, index: int | slice) -> Line | Sequence[Line]:
        return self.lines[index]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def level(self) -> Level:
        """The level of the fit."""
        return overall(self.lines)

    @property
    def shown(self) -> tuple[Line, ...]:
        """The lines that are shown at once: what does not pass comes first."""
        return tuple(sorted(self.lines, key=lambda line: -LEVELS.index(line.level))[:MOST_SHOWN])

    @property
    def folded(self) -> tuple[Line, ...]:
        """The lines that are folded away."""
        return tuple(sorted(self.lines, key=lambda line: -LEVELS.index(line.level))[MOST_SHOWN:])

    def __str__(self) -> str:
        return "\n".join([self.answer, *(f"  {line.level:<4}  {line.about}: {line.sentence}" for line in self.shown)])

    def _repr_html_(self) -> str:
        more = f"<details><summary>{len(self.folded)} more</summary>{_listed(self.folded)}</details>"
        return f"<p><b>{escape(self.answer)}</b></p>{_listed(self.shown)}{more if self.folded else ''}"


def _listed(lines: Sequence[Line]) -> str:
    rows = "".join(
        f'<li><span style="color: {COLOURS[line.level]}">{line.level}</span> {escape(line.about)}: '
        f"{escape(line.sentence)}</li>" for line in lines
    )  # fmt: skip
    return f"<ul>{rows}</ul>"


def listed(words: Sequence[str], most: int = 3) -> str:
    """Return words as a list to be read: at most so many, and how many more."""
    words = list(words) if len(words) <= most else [*words[: most - 1], f"{len(words) - most + 1} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def named(text: Any) -> list[str]:
    """Return names that a figure holds, separated by commas."""
    return [name for name in str(text).split(", ") if name]


def sds(value: float) -> str:
    """Return a distance in sds, as far as it says anything."""
    return f"{abs(value):.2f}" if abs(value) < 1000 else "more than 1000"
