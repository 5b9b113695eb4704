"""The guide of SVI for correlated topics: independent factors, those of logits normal."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.documents import Documents
from pyrozoo.models.topics.laplace_em import Solver
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.program.inverse_wishart import CovarianceTransform

STEPS, SCALE = 10, 0.1
"""Steps of ``laplace_em`` that starting values are from, and the first scale of factors of mean and covariance."""


class Guide:
    """q(eta_d) normal with independent logits, q(beta_k) Dirichlet, q(mu) and q(Sigma) normal in free coordinates.

    A Dirichlet factor is parametrised by its mean and its total: the mean moves without waiting for the total. A
    minibatch of documents touches the parameters of its own documents only.

    Args:
        posterior: The model given all of the data; starting values are a few steps of ``laplace_em``.
    """

    def __init__(self, posterior: Posterior):
        solver = Solver(posterior)
        state = solver.after(STEPS)
        self.total_rows, words = posterior.data.shape[0], state.words[0].mT
        total = words.sum(-1, keepdim=True)
        self.words = words / total, total
        covariance = torch.linalg.inv(solver.full(state.mean, state.scale).precision)[0]
        self.start = {
            "logit_covariance": CovarianceTransform().inv(covariance), "logit_mean": state.mean[0],
            "document_logits": state.logits[0],
        }  # fmt: skip

    def normal(self, site: str, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and scale of a factor."""
        value = self.start[site]
        first = torch.full_like(value, scale)
        return pyro.param(f"{site}_mean", value), pyro.param(f"{site}_scale", first, constraint=constraints.positive)

    def __call__(self, data: Documents) -> None:
        """Sample the global sites."""
        mean = pyro.param("topic_words_mean", self.words[0], constraint=constraints.simplex)
        total = pyro.param("topic_words_total", self.words[1], constraint=constraints.positive)
        eps = torch.finfo(data.values.dtype).eps
        with pyro.plate("topic", len(mean), dim=-1):
            pyro.sample("topic_words", dist.Dirichlet(mean.clamp(min=eps) * total))
        free = dist.Normal(*self.normal("logit_covariance", SCALE)).to_event(1)
        pyro.sample("logit_covariance", dist.TransformedDistribution(free, [CovarianceTransform()]))
        pyro.sample("logit_mean", dist.Normal(*self.normal("logit_mean", SCALE)).to_event(1))
        at, scale = self.normal("document_logits", 0.5)
        with pyro.plate("row", self.total_rows, subsample=data.rows, dim=-1):
            pyro.sample("document_logits", dist.Normal(at[data.rows], scale[data.rows]).to_event(1))
