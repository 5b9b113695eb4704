"""Iterated conditional modes: the baseline for the most probable labelling."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrozoo.models.potts_grid import gibbs


class Solver(gibbs.Solver, kind="point", monotone=True):
    """Gibbs sampling without chance: pixels take their most probable label given their neighbours, colour by colour.

    Besag 1986, Journal of the Royal Statistical Society B 48.

    The first restart begins at the image itself, missing pixels at random; the others have a tenth of its pixels
    replaced at random. Ends where no change of a single pixel is better, which may be far from the best labelling.

    Raises:
        NotApplicable: The coupling forbids pairs, and single changes may be unable to leave what is forbidden.
    """

    REPLACED = 0.1
    stuck = "icm", "and single changes may be unable to leave what is forbidden; max_product can"

    def init(self, chains: int) -> gibbs.State:
        """Start from the image."""
        label = self.posterior.initial(chains)["label"]
        share = torch.full((chains, 1, 1), self.REPLACED, dtype=self.data.values.dtype, device=label.device)
        share[0] = 0.0
        kept = self.data.observed & (torch.rand(label.shape, dtype=share.dtype, device=label.device) >= share)
        return gibbs.State(torch.where(kept, self.data.filled.long(), label))

    def choose(self, logits: Tensor) -> Tensor:
        """Take the best labels given their neighbours."""
        return logits.argmax(-1)
