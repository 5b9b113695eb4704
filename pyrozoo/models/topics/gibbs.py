"""Gibbs sampling of latent Dirichlet allocation, all chains in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts.solver import Info, PointSolver
from pyrozoo.core.settings import Settings, whole
from pyrozoo.models.topics import gibbs_logistic
from pyrozoo.models.topics.dirichlet import above_zero
from pyrozoo.models.topics.likelihood import pointwise
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.sweeps import draw


@dataclass(frozen=True)
class Options(Settings):
    """What the solver can be told.

    Attributes:
        sweeps: Collapsed sweeps in each step; of the correlated topic model, over the logits.
    """

    prefix = "solver."
    sweeps: int = whole(0)


@dataclass(frozen=True)
class State:
    """The sites."""

    topic_words: Float[Tensor, "C K V"]
    document_topics: Float[Tensor, "C D K"]


class Solver(PointSolver, kind="samples", objective="log_joint", state=State):
    """Partially collapsed Gibbs (Griffiths and Steyvers 2004, PNAS 101; van Dyk and Park 2008, JASA 103).

    A step draws which topic each token is from given theta and beta, z_i = k prop. to theta_dk beta_kv; goes
    ``sweeps`` times through all tokens with theta and beta summed out, z_i = k prop. to (N_dk + alpha_k)(N_kv + b) /
    (N_k + V b), counts without the token; and draws theta_d ~ Dirichlet(alpha + N_d) and beta_k ~ Dirichlet(b + N_k).
    Each leaves the posterior as it is. Where there is no kernel (``PYROZOO_KERNELS=off``, a card) there are no sweeps.
    The objective is log p(words, theta, beta) of the state before the step, z summed out. The correlated topic model
    has a sampler of its own (``gibbs_logistic``).

    Raises:
        SettingError: A setting out of range.
    """

    def __new__(cls, posterior: Posterior, sweeps: int = 5) -> Any:
        """Make the sampler for the model's prior."""
        if cls is Solver and posterior.model.correlated:
            return gibbs_logistic.Solver(posterior, Options(sweeps).sweeps)
        return super().__new__(cls)

    def __init__(self, posterior: Posterior, sweeps: int = 5):
        super().__init__(posterior)
        self.options = Options(sweeps)

    def step(self, state: State) -> tuple[State, Info]:
        """Draw z, theta, beta in turn; return the log joint of the argument."""
        m, data, theta = self.model, self.data, state.document_topics
        alpha, b = m.alpha(theta), m.word_concentration
        objective = pointwise(theta, state.topic_words, data).sum(-1) + self.log_prior(state)
        beta = state.topic_words.mT.contiguous()
        of_documents, of_words = draw(theta, beta, data, self.options.sweeps, alpha, b)
        shapes = self.conditionals(of_documents, of_words)
        new = State(*(above_zero(shape) for shape in shapes))
        predictive = partial(self._predictive, *shapes) if data.hidden is not None else None
        return new, Info(objective, predictive=predictive)

    def conditionals(
        self, of_documents: Float[Tensor, "C D K"], of_words: Float[Tensor, "C V K"]
    ) -> tuple[Float[Tensor, "C K V"], Float[Tensor, "C D K"]]:
        """Return the Dirichlet parameters of beta and of theta given how many tokens of each are from which topic."""
        return self.model.word_concentration + of_words.mT, self.model.alpha(of_documents) + of_documents

    def log_prior(self, state: State) -> Float[Tensor, C]:
        """Return log p(theta, beta)."""
        m, total = self.model, 0.0
        both = (state.topic_words, m.word_concentration), (state.document_topics, m.alpha(state.topic_words))
        for value, shape in both:
            prior = torch.as_tensor(shape, dtype=value.dtype, device=value.device).expand(value.shape[-1])
            total = total + Dirichlet(prior, validate_args=False).log_prob(value).sum(-1)
        return torch.as_tensor(total)

    def _predictive(self, words: Float[Tensor, "C K V"], documents: Float[Tensor, "C D K"]) -> tuple[Tensor, ...]:
        """Return the probability of each hidden token given z: of means, of theta and beta, which are independent."""
        means = {
            "topic_words": words / words.sum(-1, keepdim=True),
            "document_topics": documents / documents.sum(-1, keepdim=True),
        }
        return (self.posterior.hidden_probabilities(means),)
