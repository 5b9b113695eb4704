"""Gibbs sampling with all chains in one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrozoo.contracts.solver import Info
from pyrozoo.models.zip_mixture import cavi
from pyrozoo.models.zip_mixture.cellwise import Assigned, Cellwise
from pyrozoo.models.zip_mixture.em import OverdispersedState, PointSolver, State, log_prior
from pyrozoo.models.zip_mixture.likelihood import Sums, natural_weights, zero_is_on
from pyrozoo.models.zip_mixture.posterior import Posterior

ROUNDS = 3
"""Rounds of a sweep. Rows between two components change sides slowly: one round leaves draws too much alike."""

SHORTEST = 4.0
"""A slide has standard deviation e^-u, on the logarithm, with u uniform up to this: some suit any posterior."""


@dataclasses.dataclass(frozen=True)
class AssignedRows:
    """Rows of which a draw has said the component, in shards or not.

    Attributes:
        posterior: The rows.
        component: Of each, [C, N].
        components: K.
    """

    posterior: Posterior
    component: Int[Tensor, "C N"]
    components: int

    def log_likelihood(self, on: Tensor, rate: Tensor, size: Tensor | None) -> Float[Tensor, "C K D"]:
        """Return log p(x | z) of each component and column (see ``Assigned.log_likelihood``)."""
        return self._total(lambda rows: rows.log_likelihood(on, rate, size))

    def draw(self, on: Tensor, rate: Tensor, size: Tensor | None) -> Sums:
        """Draw what is hidden; return the sums (see ``Assigned.draw``)."""
        return self._total(lambda rows: rows.draw(on, rate, size))

    def _total(self, function: Callable[[Assigned], Any]) -> Any:
        return self.posterior.total(
            lambda part, z: function(Assigned(part.layout, z.T, self.components)), self.component
        )  # fmt: skip


class Solver(PointSolver, kind="samples", objective="log_joint", state=State, by_row=(), graph=True):
    """Blocked Gibbs: z with b summed out, then b | z, then the parameters (van Dyk and Park 2008, JASA 103).

    Between z and b, a Metropolis step slides omega and lambda against each other, b summed out: where rates are small
    most zeros could be either on or off, and b would tie the two to where they are. The objective is log p(X, Theta)
    of the state before the sweep, z and b summed out.

    Negative binomial counts get their Gamma factors g (Zhou and Carin 2015, IEEE PAMI 37, section 2), given which rates
    are conjugate. Since g ties rates and sizes to where they are, both move by Metropolis steps with b and g summed out
    before they are drawn.
    """

    def step(self, state: State) -> tuple[State, Info]:
        """Do one sweep; return the log joint of the argument."""
        prior = log_prior(self.model, state)
        new, evidence = self.round(state)
        for _ in range(ROUNDS - 1):
            new, _ = self.round(new)
        return new, Info(evidence + prior)

    def round(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Draw z, b and the parameters once; return log p(X | Theta) of the argument, too."""
        # z_i | x, Theta: p(z_i = k) prop. to pi_k prod_{d observed} p(x_id | k)
        if isinstance(self.posterior.layout, Cellwise):
            return self.cellwise_round(state)

        def expected(part: Posterior) -> tuple[Tensor, Tensor, Tensor]:
            return part.layout.expected_statistics(part.layout.given(vars(state)), sample=True)

        sums, counts, evidence = self.posterior.total(expected)
        return self.draw_parameters(self.slid(state, sums), sums, counts), evidence

    def cellwise_round(self, state: State) -> tuple[State, Float[Tensor, C]]:
        """Do the same where z must be known row by row."""

        def assign(part: Posterior) -> tuple[Tensor, Tensor]:
            z, evidence = part.layout.assign(part.layout.given(vars(state)))
            return z.T, evidence

        z, evidence = self.posterior.over_rows(assign)
        assigned = AssignedRows(self.posterior, z, self.model.num_components)
        moved = self.walked(self.slid(state, assigned), assigned)
        return self.draw_given(moved, assigned.draw(moved.on_prob, moved.rate, vars(moved).get("size"))), evidence

    def slid(self, state: State, sums: Float[Tensor, "C K F"] | AssignedRows) -> State:
        """Move omega up and lambda down by one factor, or the other way round, given z; their product stays.

        The move has Jacobian 1, and is proposed as often as its opposite.
        """
        scale = torch.exp(-SHORTEST * torch.rand_like(state.rate))
        factor = (scale * torch.randn_like(state.rate)).exp()
        on, rate = state.on_prob * factor, state.rate / factor
        possible = (on < 1) & (rate > 0)
        size = vars(state).get("size")
        new = self.log_density(sums, torch.where(possible, on, 0.5), torch.where(possible, rate, 1.0), size)
        gain = new - self.log_density(sums, state.on_prob, state.rate, size)
        taken = possible & (torch.rand_like(rate).log() < gain)
        moved = {"on_prob": torch.where(taken, on, state.on_prob), "rate": torch.where(taken, rate, state.rate)}
        return dataclasses.replace(state, **moved)

    def walked(self, state: State, assigned: AssignedRows) -> State:
        """Move rates and sizes of negative binomials on the scale of logarithms given z, b and g summed out."""
        if not isinstance(state, OverdispersedState):
            return state
        for name in ("rate", "size"):
            old = getattr(state, name)
            new = old * (torch.exp(-SHORTEST * torch.rand_like(old)) * torch.randn_like(old)).exp()
            proposed = dataclasses.replace(state, **{name: new})
            gain = new.log() - old.log()  # the Jacobian of the logarithm
            for sign, at in ((1, proposed), (-1, state)):
                gain = gain + sign * self.log_density(assigned, at.on_prob, at.rate, at.size)
            taken = (new > 0) & new.isfinite() & (torch.rand_like(old).log() < gain)
            state = dataclasses.replace(state, **{name: torch.where(taken, new, old)})
        return state

    def log_density(
        self, sums: Float[Tensor, "C K F"] | AssignedRows, on: Float[Tensor, "C K D"], rate: Float[Tensor, "C K D"],
        size: Float[Tensor, "C K D"] | None = None,
    ) -> Float[Tensor, "C K D"]:  # fmt: skip
        """Return log p(omega, lambda, r | z, X) of each component and column, but for a constant."""
        m, log_on, log_off, log_rate = self.model, on.log(), torch.log1p(-on), rate.log()
        if isinstance(sums, AssignedRows):
            likelihood = sums.log_likelihood(on, rate, size)
        else:
            weights = natural_weights(log_rate, rate, log_on, log_off, self.posterior.layout.reference)
            likelihood = (weights * sums).unflatten(-1, (3, -1)).sum(-2)
        if size is not None:
            likelihood = likelihood + (m.size_shape - 1) * size.log() - m.size_rate * size
        beta = (m.on_prob_alpha - 1) * log_on + (m.on_prob_beta - 1) * log_off
        return likelihood + beta + (m.rate_shape - 1) * log_rate - m.rate_rate * rate

    def draw_parameters(self, state: State, sums: Float[Tensor, "C K F"], counts: Float[Tensor, "C K"]) -> State:
        """Draw b given z, then the parameters given both."""
        total, positive, zero = sums.chunk(3, -1)
        phi = zero_is_on(state.on_prob.log(), state.rate, torch.log1p(-state.on_prob))
        # Only the number of b = 1 among the zeros of a component matters, and it is Binomial(n0_kd, phi_kd).
        on = positive + torch.binomial(zero.round(), phi)
        return self.draw_given(state, Sums(counts, total, on, positive + zero, on))

    def draw_given(self, state: State, sums: Sums) -> State:
        """Draw weights, probabilities and rates given everything else."""
        return dataclasses.replace(state, **cavi.State.given(self.posterior, sums).q.sample())
