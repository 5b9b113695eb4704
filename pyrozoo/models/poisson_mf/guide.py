"""The hand-built guide of SVI: the same Gamma factors as CAVI, fitted by stochastic gradients."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf.cavi import Solver
from pyrozoo.models.poisson_mf.posterior import Posterior


class Guide:
    """q(theta), q(eta) Gamma, and q(xi), q(omega) Gamma when the model is hierarchical.

    Each factor is parametrised by its mean and its shape: the mean moves where the data pull it without waiting for the
    shape to follow. A minibatch of rows touches the parameters of its own rows only.

    Args:
        posterior: The model given all of the data; starting values are one update of CAVI from a random start (torch's
            global generator), which puts means at the scale of the data.
    """

    def __init__(self, posterior: Posterior):
        solver = Solver(posterior)
        self.total_rows = posterior.data.shape[0]
        factors = solver.factors(solver.after(1)).items()
        self.start = {site: (q.mean[0], q.concentration[0].expand_as(q.mean[0])) for site, q in factors}

    def __call__(self, data: Triplets) -> None:
        """Sample the global sites."""
        rows = pyro.plate("row", self.total_rows, subsample=data.rows, dim=-1)
        columns = pyro.plate("column", data.shape[1], dim=-1)
        tiny = torch.finfo(data.values.dtype).tiny
        for site, (mean, shape) in self.start.items():
            mean = pyro.param(f"{site}_mean", mean, constraint=constraints.positive)
            shape = pyro.param(f"{site}_shape", shape, constraint=constraints.positive)
            if site.startswith("row"):
                mean, shape = mean[data.rows], shape[data.rows]
            q: Any = dist.Gamma(shape, shape / mean.clamp(min=tiny))
            with rows if site.startswith("row") else columns:
                pyro.sample(site, q.to_event(1) if mean.ndim > 1 else q)
