"""The hand-built guide of SVI: the same Dirichlet factors as CAVI, fitted by stochastic gradients."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.data.documents import Documents
from pyrozoo.models.topics import guide_logistic
from pyrozoo.models.topics.cavi import Solver
from pyrozoo.models.topics.posterior import Posterior


class Guide:
    """q(theta_d) and q(beta_k) Dirichlet.

    Each factor is parametrised by its mean and its total: the mean moves where the data pull it without waiting for the
    total to follow. A minibatch of documents touches the parameters of its own documents only.

    Args:
        posterior: The model given all of the data; starting values are one update of CAVI. With correlated topics
            there is another guide (``guide_logistic``).
    """

    def __new__(cls, posterior: Posterior) -> Any:
        """Make the guide for the model's prior."""
        return guide_logistic.Guide(posterior) if posterior.model.correlated else super().__new__(cls)

    def __init__(self, posterior: Posterior):
        state = Solver(posterior).after(1)
        self.total_rows, self.start = posterior.data.shape[0], {}
        for site, shape in (("topic_words", state.words[0].mT), ("document_topics", state.gamma[0])):
            total = shape.sum(-1, keepdim=True)
            self.start[site] = (shape / total, total)

    def __call__(self, data: Documents) -> None:
        """Sample the global sites."""
        eps = torch.finfo(data.values.dtype).eps
        plates = {
            "topic_words": pyro.plate("topic", len(self.start["topic_words"][0]), dim=-1),
            "document_topics": pyro.plate("row", self.total_rows, subsample=data.rows, dim=-1),
        }
        for site, (mean, total) in self.start.items():
            mean = pyro.param(f"{site}_mean", mean, constraint=constraints.simplex)
            total = pyro.param(f"{site}_total", total, constraint=constraints.positive)
            if site == "document_topics":
                mean, total = mean[data.rows], total[data.rows]
            with plates[site]:
                pyro.sample(site, dist.Dirichlet(mean.clamp(min=eps) * total))
