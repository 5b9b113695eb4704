"""The Pyro program of my_model and the functions of its draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.data.table import Table

# FILL imports: what your lines need beside these

MOST_DRAWS = 200
"""Posterior draws behind what is said of single rows and cells."""


@dataclass(frozen=True)
class MyModel(Model):
    r"""The model my_model.

    FILL story: how data come about, a line per site: name, distribution, dimensions; what a missing cell is; a source

    Attributes:
        FILL attributes: a line per field, with its range

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    ...  # FILL fields: a line per hyper-parameter, `name: type`; defaults stand in conf/model/my_model.yaml only

    sites: ClassVar[Mapping[str, tuple[str, ...]]] = {
        ...  # FILL sites: "site": ("dimension", ...), a line per global site; local latent variables are none
    }
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        # FILL invariant_dims: "name": ("dimension", ...), a line per quantity that no relabelling changes
    }
    observed_site: ClassVar[str] = "cells"
    container: ClassVar[type] = Table
    unit: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        """Refuse wrong fields."""
        ...  # FILL validation: raise SettingError(f"model.FIELD is {value!r}; it must be ...") for a field out of range

    def __call__(self, data: Table) -> None:
        """Run the program; the rows may be a minibatch."""
        like, (N, D) = data.values, data.shape
        columns = pyro.plate("column", D, dim=-1)
        ...  # FILL globals: pyro.sample of every global site, tensors made by like.new_tensor
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-2):
            ...  # FILL local: pyro.sample of the row's latent variable, infer={"enumerate": "parallel"}, [N, 1]
            with columns:
                ...  # FILL likelihood: `likelihood = dist....` of a cell given the row's variable, [N, D]
                pyro.sample("cells", likelihood.mask(data.observed), obs=data.filled)

    def check(self, data: Table) -> None:
        """Raise DataError, naming the cell or column, unless the model can use the data."""
        if not isinstance(data, Table):
            raise DataError(f"my_model needs a table (rows by columns), not {type(data).__name__}")
        data.checked().refuse_empty_columns()
        for part in (data, *([data.test] if data.test is not None else [])):
            ...  # FILL refuse: part.refuse(WHERE, "is ...; ... is needed"), WHERE [N, D] bool, false where missing

    def initial(self, data: Table, chains: int) -> Draws:
        """Return random starting values, site -> [chains, *event]."""
        like, D = data.values, data.shape[1]
        return {
            ...  # FILL initial: "site": dispersed values, from torch's global generator, [chains, *event]
        }

    def pointwise_log_likelihood(self, draws: Draws, data: Table) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_i | draw) of every row, its latent variable summed out."""
        return log_joint_of_rows(draws, data).logsumexp(-1)

    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Fix what the likelihood leaves free, toward the reference draws when given."""
        return draws  # FILL canonical: relabel, flip or turn every draw; a model without symmetry returns the draws

    def invariants(self, draws: Draws, data: Table, log_likelihood: Tensor | None = None) -> Draws:
        """Return quantities that no relabelling changes, [chain, draw, ...]."""
        found = {"log_likelihood": self.log_likelihood(draws, data) if log_likelihood is None else log_likelihood}
        ...  # FILL invariants: found |= {"name": value}, functions of sites [chain, draw, *event]
        return found

    def checks(self, values: Tensor, data: Table) -> Draws:
        """Return statistics by which the data are compared with data simulated from a fit, name -> [...]."""
        seen = values.where(data.observed, torch.nan)
        ...  # FILL checks: return {"name": a statistic of the cells that are seen}, what a wrong model gets wrong

    def predict(self, draws: Draws, data: Table) -> Prediction:
        """Predict the hidden entries from the observed entries of the same row."""
        hidden = data.hidden
        if hidden is None:
            raise ValueError("the table hides no entries")
        draws, x = thinned(draws), hidden.values
        unique, position = hidden.rows.unique(return_inverse=True)
        share = log_joint_of_rows(draws, data.batch(unique)).softmax(-1)[0, :, position]
        # share: p(z_i = k | observed entries of the row, draw), [draw, entry, values]
        with seeded(0):  # a query of one fit always answers the same
            uniform = torch.rand_like(x)
        ...  # FILL predict: mean, lower, upper, log_density, pit, each [entry], as Prediction explains them
        return Prediction(mean, lower, upper, log_density, pit)


def thinned(draws: Draws) -> Draws:
    """Return some of the draws of all chains, evenly chosen, [1, draw, *event]."""
    flat = {site: value.flatten(0, 1) for site, value in draws.items()}
    total = len(next(iter(flat.values())))
    keep = torch.linspace(0, total - 1, min(total, MOST_DRAWS)).round().long()
    return {site: value[keep].unsqueeze(0) for site, value in flat.items()}


def log_joint_of_rows(draws: Draws, data: Table) -> Float[Tensor, "chain draw N values"]:
    """Return log p(x_i, z_i = k | draw) of every row and every value k of its latent variable."""
    ...  # FILL log_joint_of_rows: matrix products [..., D] x [D, N] of site and data; missing cells add 0
