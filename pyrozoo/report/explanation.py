"""What a page that derives updates says: numbers traced to where they come from, site by site, and checks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pyrozoo.program.conditionals.held import AGREE
from pyrozoo.report.html import number


@dataclass(frozen=True)
class Traced:
    """One parameter of one element: "27 = 2 from the prior + 25 from counts (50 cells)".

    Attributes:
        element: Which it is.
        parameter: Its name.
        value: It.
        parts: What it is made of, in words.
        built: What the hand-built solver says; empty: nothing.
        same: Whether both are one; None: there is nothing to compare.
    """

    element: str
    parameter: str
    value: str
    parts: str
    built: str = ""
    same: bool | None = None

    @property
    def said(self) -> str:
        """The whole of it: "27 = 2 from the prior + 25 from 50 cells of counts"."""
        if self.parameter == "mode":
            return f"{self.value}, {self.parts}"
        return f"log p + const = {self.parts} {self.value}" if self.parameter == "p" else f"{self.value} = {self.parts}"


@dataclass(frozen=True)
class Section:
    """What is said of one site.

    Attributes:
        site: The site.
        sentence: What its conditional is.
        formulas: In mathematics.
        traced: Numbers of its first elements.
        lines: Where the hand-built solver computes it, and how: place -> source.
        check: What the comparison says; empty: there is none.
        same: Whether the hand-built update is the derived one; None: there is none.
    """

    site: str
    sentence: str
    formulas: list[str] = field(default_factory=list)
    traced: list[Traced] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)
    check: str = ""
    same: bool | None = None


@dataclass(frozen=True)
class Check:
    """One thing that must hold of the whole method.

    Attributes:
        said: What.
        found: What was found.
        same: Whether it holds; None: it is only told.
    """

    said: str
    found: str
    same: bool | None = None


@dataclass(frozen=True)
class Explanation:
    """The page, and what it says.

    Attributes:
        title: Its title.
        answer: What the check says, in a sentence.
        sections: Site by site.
        checks: Of the whole method.
        html: The page.
    """

    title: str
    answer: str
    sections: list[Section]
    checks: list[Check]
    html: str

    @property
    def same(self) -> bool:
        """Whether every hand-built update is the derived one, and all checks hold."""
        every: list[Section | Check] = [*self.sections, *self.checks]
        return all(each.same is not False for each in every)

    def _repr_html_(self) -> str:
        return self.html

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.answer}", *(f"  {each.site}: {each.sentence}" for each in self.sections)]
        lines += [f"  {check.said}: {check.found}" for check in self.checks]
        return "\n".join(lines)


def compared(traced: Traced, value: Tensor, other: Tensor | None) -> Traced:
    """Return what is traced with what the hand-built solver says; None: nothing."""
    if other is None:
        return traced
    room = AGREE * float(value.abs().amax())
    same = bool(torch.allclose(value, other, rtol=AGREE, atol=room))
    return replace(traced, built=written(other), same=same)


def flat(value: Tensor, batch: tuple[int, ...], place: int) -> Tensor:
    """Return one element's part of [*batch, ...]."""
    rest = value.shape[len(batch) :]
    return value.expand((*batch, *rest)).reshape((math.prod(batch), *rest))[place]


def written(value: Tensor) -> str:
    """Return a number, a vector or a matrix in words."""
    if value.ndim == 0 or value.numel() == 1:
        return number(float(value.reshape(())))
    if value.ndim == 1:
        return "(" + ", ".join(number(float(each)) for each in value) + ")"
    return "[" + "; ".join(", ".join(number(float(each)) for each in row) for row in value) + "]"
