"""Coordinate ascent variational inference with conjugate factors."""

from __future__ import annotations

import torch

from pyrozoo.contracts import solver
from pyrozoo.models.gaussian_mixture.conjugate import Components, State
from pyrozoo.models.gaussian_mixture.likelihood import Sums
from pyrozoo.models.gaussian_mixture.posterior import Posterior


class Solver(solver.Solver, kind="variational", objective="elbo", monotone=True, state=State, by_row=()):
    """CAVI (Bishop 2006, section 10.2; sticks of a Dirichlet process: Blei and Jordan 2006, Bayesian Analysis 1).

    q(z, missing) q(weights) q(mean, covariance). With ``stick_breaking`` components are put in order of their size
    before sticks are updated, where that raises the bound (Kurihara, Welling and Teh 2007, IJCAI). The objective is
    the ELBO with q(z, missing) at its optimum for the state before the step.
    """

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        self.prior: Components = posterior.prior

    def init(self, chains: int) -> State:
        """Return factors after one E-step at random starting points."""
        known = self.posterior.known(self.posterior.start(chains))
        return self.given(self.posterior.total(lambda part: part.layout.expect(known))[0])

    def step(self, state: State) -> tuple[State, solver.Info]:
        """Update q(z, missing), then q of the sites; return the ELBO of the argument."""
        q = self.prior.at(state)
        known = q.known()
        sums, evidence = self.posterior.total(lambda part: part.layout.expect(known))
        return self.given(sums), solver.Info(evidence - q.divergence(self.prior))

    def given(self, sums: Sums) -> State:
        """Return the factors, given sums over the rows of each component."""
        if self.model.weight_prior == "stick_breaking":
            order, weights = sums.counts.argsort(-1, descending=True), self.prior.weights
            after, before = (
                weights.log_marginals(each).sum(-1) for each in (sums.counts.gather(1, order), sums.counts)
            )
            kept = torch.arange(order.shape[-1]).to(order)
            sums = sums.ordered(torch.where((after > before).unsqueeze(-1), order, kept))
        return self.prior.given(sums).state

    def answer(self, state: State) -> solver.Answer:
        """Return q."""
        return solver.Answer(q=self.prior.at(state))
