"""The hand-built guide of SVI: the same conjugate factors as CAVI, fitted by stochastic gradients."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.table import Table
from pyrozoo.math.linear_algebra import safe_cholesky
from pyrozoo.models.gaussian_mixture.cavi import Solver
from pyrozoo.models.gaussian_mixture.model import sample_components
from pyrozoo.models.gaussian_mixture.posterior import Posterior

STEPS = 5
"""CAVI iterations before the first gradient."""


class Guide:
    """q(weights) Dirichlet, q(covariance) inverse Wishart, q(mean | covariance) normal; the assignment is enumerated.

    Weights, means and covariances have parameters for where they are and, apart, for how sure that is.

    Args:
        posterior: The model given the whole table, or a minibatch that stands for it; starting values are a few
            updates of CAVI from a random start (torch's global generator).
    """

    streams = True

    def __init__(self, posterior: Posterior):
        self.posterior, self.model = posterior, posterior.model
        q = posterior.prior.at(Solver(posterior).after(STEPS))
        each = (posterior.data.total_rows or posterior.rows) / posterior.rows  # so many rows is one of these
        weights = q.weights.log_mean[0].softmax(-1)
        degrees, size = q.covariance.degrees[0], q.covariance.scale[0] / q.covariance.degrees[0][..., None, None]
        factor = safe_cholesky(size, "a covariance")
        positive = constraints.positive
        self.start = {
            "weights_mean": (weights, constraints.simplex),
            "weights_total": (weights.new_tensor(each * posterior.rows), positive),
            "location": (q.state.mean[0] + posterior.prior.location, constraints.real),
            "precision": (each * q.state.precision[0], positive),
            "degrees": (each * (degrees - (q.size - 1)), positive),
            "size": (factor, constraints.lower_cholesky) if self.model.matrices else (size[..., 0, 0], positive),
        }

    def __call__(self, data: Table) -> None:
        """Sample the global sites."""
        q = {name: pyro.param(name, value, constraint=where) for name, (value, where) in self.start.items()}
        # A mean may run into its boundary; a Dirichlet's parameters must stay positive.
        eps = torch.finfo(data.values.dtype).eps
        pyro.sample("weights", dist.Dirichlet(q["weights_mean"].clamp(min=eps) * q["weights_total"]))
        degrees, size = q["degrees"], q["size"]
        if self.model.matrices:
            spread = (degrees + (data.shape[1] - 1))[..., None, None] * (size @ size.mT)
        else:
            spread = degrees * size
        sample_components(self.model, q["location"], q["precision"], degrees, spread)
