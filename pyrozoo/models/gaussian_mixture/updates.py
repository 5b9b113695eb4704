"""What Gibbs, EM and CAVI say of the conditionals; of matrices in tables without holes, which are drawn, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.updates import Block, Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.math import designs
from pyrozoo.models.gaussian_mixture.conjugate import Components
from pyrozoo.models.gaussian_mixture.likelihood import Layout


def nodes(solver: Any, state: Any) -> list[Values]:
    """Return points of q(weights) and q(mean, covariance)."""
    q = solver.prior.at(state)
    covariance, precision = q.covariance, q.state.precision[0].sqrt()
    matrices = designs.inverse_wishart(covariance.degrees, covariance.scale)[:, 0]
    root, mean = torch.linalg.cholesky(matrices), q.state.mean[0]
    if q.model.covariance_type in ("tied", "spherical"):
        root = root.unsqueeze(1 if q.model.matrices else 2)
    if q.model.matrices:
        both = designs.scaled(matrices, mean, root / precision.unsqueeze(-1))
    else:
        matrices, mean = designs.scaled(matrices[..., 0, 0], mean.unsqueeze(-1), root / precision[..., None, None])
        both = matrices, mean.squeeze(-1)
    return [
        {"weights": designs.sticks(q.weights.on, q.weights.rest)[:, 0]},
        {"covariance": both[0], "mean": both[1] + q.location},
    ]


def parameters(solver: Any, values: Values) -> Components:
    """Return the distribution of weights, means and covariances given assignments, of a table without holes."""
    layout, prior = solver.posterior.layout, solver.posterior.prior
    one = torch.nn.functional.one_hot(values["assignment"], solver.model.num_components).to(layout.values)
    return prior.given(layout.sums(one[:, layout.order].mT @ layout.design(slice(None)).T))


def assignment(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return log p(z_i = k | x_i)."""
    known = solver.posterior.known({site: values[site] for site in ("weights", "mean", "covariance")})
    return [solver.posterior.layout.by_row(known, lambda logits: logits).mT]


def holes(model: Any) -> bool:
    """Return whether missing cells are drawn, or have a q: of matrices."""
    return bool(model.matrices)


UPDATES = (Update("assignment", ("gibbs", "em"), assignment, (Layout.by_row,)),)
BLOCKS = (Block(("weights", "mean", "covariance"), "gibbs", parameters, complete=holes),)
STEPS = (Step("em", complete=holes), Step("cavi", nodes=nodes, complete=holes))
