"""What is known of the posterior of my_model: the likelihood, checks, predictions. All else is the program's."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.table import Table
from pyrozoo.models.my_model.model import MyModel

# FILL imports: what your lines need beside these

MOST_DRAWS = 200
"""Posterior draws behind what is said of single rows and cells."""


class Posterior(HandBuilt):
    """The model my_model given a table."""

    model: MyModel
    data: Table
    observed = "cells"
    unit = "row"
    wants = "a table (rows by columns)"
    sites: ClassVar = {
        ...  # FILL sites: "site": ("dimension", ...), a line per global site; local latent variables are none
    }

    @cached_property
    def seen(self) -> Float[Tensor, "N D"]:
        """1 where a cell is observed, 0 where it is missing."""
        return self.data.observed.to(self.data.values.dtype)

    def logits(self, values: Values) -> Float[Tensor, "*any N values"]:
        """Return log p(x_i, z_i = k | values) of every row and every value k of its latent variable.

        Args:
            values: Site -> [..., *event]: with axes [chain, draw] in front, or [chain] of a solver's state.
        """
        ...  # FILL logits: matrix products [..., D] x [D, N] of sites and data; missing cells add 0

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_i | draw) of every row, its latent variable summed out."""
        return self.logits(draws).logsumexp(-1)

    def check(self) -> None:
        """Raise DataError, naming cell or column, unless the model can use the data, and new rows beside them."""
        super().check()
        for part in self.data.with_new_rows:
            ...  # FILL refuse: part.refuse(WHERE, "is ...; ... is needed"), WHERE [N, D] bool, false where missing

    def checks(self, replica: Tensor) -> Values:
        """Return statistics by which the data are compared with data simulated from a fit, name -> [...]."""
        seen = replica.where(self.data.observed, torch.nan)
        ...  # FILL checks: return {"name": a statistic of the cells that are seen}, what a wrong model gets wrong

    def predict(self, draws: Values) -> Prediction:
        """Predict the hidden entries from the observed entries of the same row."""
        hidden, draws = self.hidden, Draws(draws).some(MOST_DRAWS).flat()
        rows, position = hidden.rows.unique(return_inverse=True)
        share = self.on(self.data.batch(rows)).logits(draws).softmax(-1)[:, position]
        # share: p(z_i = k | observed entries of the row, draw), [draw, entry, values]
        ...  # FILL predict: return Prediction.of_levels(...), .of_counts(...) or Prediction(...) of hidden.values
