"""The posterior mode by alternating ridge regressions, every restart in one batch."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from pyrozoo.models.gaussian_mf import gibbs, point
from pyrozoo.models.gaussian_mf.point import SIDES, Conditional, NormalWishart, Point


class Solver(gibbs.Solver, kind="point", monotone=True):
    """MAP by coordinate ascent: each block goes to its mode given the others, where Gibbs draws it.

    Rows and columns are ridge regressions (alternating least squares; Zhou et al. 2008, AAIM). No rating sees what rows
    and columns trade between them, which is all but their product. Taking turns they creep there, where priors are weak
    or learned; so the trade goes to its mode at once (``point.traded``), and what means of factors trade with offsets
    (``point.slide``). The objective is log p(ratings, all sites), which no update lowers.
    """

    spread: ClassVar[float] = 0.0

    def chosen(self, conditional: Conditional, what: str) -> Float[Tensor, "L C n"]:
        """Return the mode."""
        return conditional.mode(what)

    def noise(self, rss: Float[Tensor, C]) -> Float[Tensor, C]:
        """Return the mode of s^2."""
        shape, scale = self.noise_posterior(rss)
        return scale / (shape + 1)

    def unseen(self, state: Point) -> Point:
        """Move along what no rating sees to the mode."""
        state = super().unseen(state)
        if self.model.offsets and not self.model.hierarchical:
            for side in SIDES:
                state = point.slide(self.model, self.posterior, state, side, self.spread)
        return point.traded(self.model, self.posterior, state)

    def hyper(self, found: NormalWishart) -> tuple[Tensor, Tensor]:
        """Return the joint mode."""
        return found.mode()
