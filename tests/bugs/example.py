"""What is kept of an example, and how the examples are found."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import arviz as az
import numpy as np
import torch
from torch import Tensor


def numbers(values: object) -> Tensor:
    """Return numbers as a tensor of double precision."""
    return torch.tensor(values, dtype=torch.float64)


def censored(t: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Return times, those until which nothing was seen, and where that is so, as the BUGS language has them."""
    return {"t": torch.where(seen > 0, t, torch.nan), "last": torch.where(seen > 0, 1e4, t), "censored": 1 - seen}


def later(t: Tensor, seen: Tensor) -> Tensor:
    """Return times that were not seen, as they may be."""
    return torch.where(seen > 0, torch.nan, t + 1)


@dataclass(frozen=True)
class Example:
    """A program whose conditionals are known by hand.

    Attributes:
        program: The program, of tensors.
        data: Its arguments, by the names that they have in ``model``.
        families: Latent site -> family of its complete conditional; None: none of those that are looked for.
        why: Site without a family -> what its refusal must name: the site whose density is no such function of it, or
            a support that no family has.
        model: The model in the BUGS language; "": there is none.
        model_data: What ``model`` has instead of ``data``, where that differs; not a number: not seen.
        starts: Where its chains start, where they could not start anywhere.
        quantities: Of draws, site -> [*lead, *shape], those that the publication has a table of, [*lead].
        published: Quantity -> mean, standard deviation and Monte Carlo error of the mean there.
    """

    program: Callable[..., None]
    data: Mapping[str, Tensor]
    families: Mapping[str, str | None]
    why: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    model_data: Mapping[str, Tensor] = field(default_factory=dict)
    starts: Mapping[str, Tensor] = field(default_factory=dict)
    quantities: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = lambda draws: {}
    published: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    def run(self, _: object = None) -> None:
        """Run the program with its data."""
        self.program(*self.data.values())

    def row(self, name: str) -> str:
        """Return what is known of its conditionals as a row of the docs' table."""
        found = {
            family: [s for s, f in self.families.items() if f == family] for family in self.families.values() if family
        }
        with_family = "; ".join(f"{family}: {', '.join(f'`{s}`' for s in sites)}" for family, sites in found.items())
        without = ", ".join(f"`{site}` ({why})" for site, why in self.why.items())
        return f"| {name} | {with_family} | {without} |"

    def from_published(self, draws: Mapping[str, np.ndarray]) -> float | None:
        """Return by how many Monte Carlo errors draws of the quantities differ from the publication, at most.

        Its figures have four digits and a Monte Carlo error of their own. That of a standard deviation is taken to be
        the mean's by the root of 2, as of a normal quantity. None: it has no figures.
        """
        if not self.published:
            return None
        means = {name: (mean, math.hypot(error, rounding(mean))) for name, (mean, _, error) in self.published.items()}
        spreads = {
            name: (sd, math.hypot(error / 2**0.5, rounding(sd))) for name, (_, sd, error) in self.published.items()
        }
        return apart(draws, means, spreads)


def rounding(value: float) -> float:
    """Return the standard deviation of what four digits leave out of a number."""
    return 10 ** (math.floor(math.log10(abs(value))) - 3) / 12**0.5


Known = Mapping[str, tuple[float, float]]
"""Quantity -> a figure of it, and the error of that."""


def apart(draws: Mapping[str, np.ndarray], means: Known, spreads: Known) -> float:
    """Return by how many Monte Carlo errors means and standard deviations of draws differ from others, at most."""
    worst = 0.0
    for known, figure, method in ((means, np.mean, "mean"), (spreads, np.std, "sd")):
        for name, (there, error) in known.items():
            here = np.asarray(draws[name])
            worst = max(
                worst, abs(float(figure(here)) - there) / math.hypot(float(az.mcse(here, method=method)), error)
            )
    return worst


def examples(room: ModuleType) -> dict[str, Example]:
    """Return the examples of a folder by their names in its modules; ``example`` has the name of its module."""
    found = {}
    for module in pkgutil.iter_modules(room.__path__):
        members = vars(importlib.import_module(f"{room.__name__}.{module.name}"))
        each = {name: value for name, value in members.items() if isinstance(value, Example)}
        found.update({module.name if name == "example" else name.removesuffix("_model"): e for name, e in each.items()})
    return found
