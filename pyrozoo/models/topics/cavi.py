"""Coordinate ascent variational inference of latent Dirichlet allocation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts import solver
from pyrozoo.contracts.solver import Info
from pyrozoo.core.settings import whole
from pyrozoo.models.topics.dirichlet import best_shape, best_shapes
from pyrozoo.models.topics.likelihood import WordFactors, fit_documents
from pyrozoo.models.topics.posterior import Posterior
from pyrozoo.models.topics.start import Start, estimated, started

FIRST_STEPS = 20
"""Updates of q(theta) in which documents find their topics given those that a run starts from."""


@dataclass(frozen=True)
class Options(Start):
    """What the solver can be told, beside how it starts.

    Attributes:
        local_steps: Updates of q(theta) in each step.
    """

    local_steps: int = whole()


@dataclass(frozen=True)
class State:
    """q(theta_d) = Dirichlet(gamma_d) and q(beta_k) = Dirichlet(lambda_k), of each restart; lambda word by word."""

    gamma: Float[Tensor, "C D K"]
    words: Float[Tensor, "C V K"]


@dataclass(frozen=True)
class EstimatedState(State):
    """The same with alpha and b."""

    alpha: Float[Tensor, "C K"]
    concentration: Float[Tensor, C]


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=("gamma",)):
    """CAVI for LDA (Blei, Ng and Jordan 2003, section 5; q(beta): Hoffman, Blei and Bach 2010, NIPS 23).

    q(z) = phi prop. to exp(E log theta_dk + E log beta_kv); gamma_dk = alpha_k + sum_v n_dv phi_dvk, ``local_steps``
    times; lambda_kv = b + sum_d n_dv phi_dvk. The objective is the ELBO of the state before the step with q(z) at its
    optimum: log N_d! - sum_v log n_dv! + sum_v n_dv log sum_k exp(E log theta_dk + E log beta_kv) - KL(theta) -
    KL(beta). With ``empirical_bayes`` alpha and b are then set where the bound is largest, by Newton's method (Minka
    2000, Estimating a Dirichlet distribution). Other settings are those of ``Options``.

    Raises:
        NotApplicable: The prior is not Dirichlet.
        SettingError: A setting out of range.
    """

    def __init__(
        self, posterior: Posterior, start: str = "gibbs", sweeps: int = 50, empirical_bayes: bool = False,
        local_steps: int = 1,
    ):  # fmt: skip
        super().__init__(posterior)
        posterior.needs("dirichlet", "cavi")
        self.options = Options(start, sweeps, empirical_bayes, local_steps)
        self.state_class = EstimatedState if empirical_bayes else State

    def init(self, chains: int) -> State:
        """Return lambda from where the options say, and gamma that fits it."""
        K, (alpha, b) = self.model.num_topics, self.model.concentrations(self.data.values, chains)
        words = b[:, None, None] + started(self.posterior, self.options, chains)
        factors = WordFactors.of(words)

        def rows(part: Posterior) -> tuple[Tensor, Any]:
            gamma = alpha.unsqueeze(1) + (part.data.lengths / K)[:, None]
            return fit_documents(gamma, factors, alpha, part.data, steps=FIRST_STEPS, of_words=False).gamma, ()

        return self.state(self.posterior.over_rows(rows)[0], words, alpha, b)

    def state(self, gamma: Tensor, words: Tensor, alpha: Tensor, b: Tensor) -> Any:
        """Return a state: with alpha and b where they are estimated."""
        return EstimatedState(gamma, words, alpha, b) if self.options.empirical_bayes else State(gamma, words)

    def concentrations(self, state: Any) -> tuple[Tensor, Tensor]:
        """Return alpha and b of each chain: of the state, or the model's."""
        if isinstance(state, EstimatedState):
            return state.alpha, state.concentration
        return self.model.concentrations(self.data.values, len(state.words))

    def step(self, state: State) -> tuple[State, Info]:
        """Update q(z), q(theta) and q(beta), and alpha and b if they are estimated; return the ELBO of the argument."""
        words, (alpha, b) = WordFactors.of(state.words), self.concentrations(state)
        objective = -words.gap(b)
        if self.options.empirical_bayes:
            _, V, K = state.words.shape
            b = best_shape(b, words.psi / (V * K), V)

        def update(part: Posterior, gamma: Tensor) -> tuple[Tensor, Any]:
            found = fit_documents(gamma, words, alpha, part.data, steps=self.options.local_steps)
            return found.gamma, (found.of_words, found.bound, found.logs)

        gamma, (of_words, bound, logs) = self.posterior.over_rows(update, state.gamma)
        if self.options.empirical_bayes:
            alpha = best_shapes(alpha, logs / self.posterior.rows)
        return self.state(gamma, b[:, None, None] + of_words, alpha, b), Info(objective + bound)

    def answer(self, state: State) -> solver.Answer:
        """Return q, what it says of hidden tokens in closed form, and the model with alpha and b as they were found."""
        q = {"topic_words": Dirichlet(state.words.mT), "document_topics": Dirichlet(state.gamma)}
        known = partial(self.posterior.of_means, state.gamma[0], state.words[0])
        model = estimated(self.model, state) if self.options.empirical_bayes and len(state.gamma) == 1 else None
        return solver.Answer(
            q=solver.Independent(q),
            expectations=self.posterior.means(state.gamma, state.words),
            model=model,
            prediction=known,
        )
