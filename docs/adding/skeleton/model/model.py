"""The model my_model: its settings and its Pyro program."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.symmetry import NONE, Relabel, Rotate, Symmetry
from pyrozoo.core.settings import between, not_negative, one_of, positive, whole
from pyrozoo.data.table import Table

# FILL imports: what your lines need beside these


@dataclass(frozen=True)
class MyModel(Model):
    r"""The model my_model.

    FILL story: how data come about, a line per site: name, distribution, dimensions; what a missing cell is; a source

    Attributes:
        FILL attributes: a line per field that says what it is
    """

    ...  # FILL fields: a line per hyper-parameter, `name: type = RANGE()`; defaults stand in conf/model/my_model.yaml

    @property
    def symmetry(self) -> Symmetry:
        """What the likelihood leaves free."""
        return NONE  # FILL symmetry: return Relabel("dimension", weight="site") or Rotate("dimension"); else as it is

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
