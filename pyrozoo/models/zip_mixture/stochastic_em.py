"""Online EM on minibatches of rows: nothing is kept of a row once it has been seen."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.minibatches import Minibatch, Options, minibatches, toward
from pyrozoo.contracts.solver import Info
from pyrozoo.models.zip_mixture import em
from pyrozoo.models.zip_mixture.em import log_prior
from pyrozoo.models.zip_mixture.likelihood import Parameters, Sums
from pyrozoo.models.zip_mixture.posterior import Posterior


@dataclass(frozen=True)
class State(em.State):
    """The point, the sums over all rows as far as they are known (``Sums``), and how many minibatches were seen."""

    counts: Float[Tensor, "C K"]
    total: Float[Tensor, "C K D"]
    on: Float[Tensor, "C K D"]
    seen: Float[Tensor, "C K D"]
    exposed: Float[Tensor, "C K D"]
    minibatches: Float[Tensor, C]


@dataclass(frozen=True)
class OverdispersedState(State, em.OverdispersedState):
    """The same with what the M-step of sizes needs."""

    factors: Float[Tensor, "C K D"]
    log_factors: Float[Tensor, "C K D"]


class Solver(em.Solver, objective="log_joint_estimate", of="result", monotone=False, state=State, streams=True):
    """Online EM for the MAP (Cappe and Moulines 2009, J. R. Stat. Soc. B 71, section 2.2; minibatches, and a prior).

    A step is one pass over the rows in minibatches. For each, the E-step at the point that it meets says what the sums
    over all rows would be if all rows were like these; the sums move toward that, S <- (1 - rho) S + rho N / B sum over
    the batch, with rho = (t + delay)^-forgetting at minibatch t = 1, 2, ...; and the M-step is EM's, given S. It begins
    with the sums that are expected of rows which are as the starting point says. Beside the data, which it reads batch
    by batch, it needs memory for the parameters, as much again for the sums, and one minibatch.

    The objective is the sum of the minibatches' log p(x | Theta), each at the point that it met, with log p(Theta) at
    the end of the pass: an estimate of log p(X, Theta) that lags behind it by a pass, and need not rise.

    Settings are those of ``Options``.

    Raises:
        SettingError: A setting out of range, or a hyper-parameter below 1, for which there is no mode.
    """

    def __init__(self, posterior: Posterior, batch_size: int = 1000, delay: float = 1.0, forgetting: float = 0.6):
        super().__init__(posterior)
        self.options = Options(batch_size, delay, forgetting)
        self.state_class = OverdispersedState if self.model.overdispersed else State

    def init(self, chains: int) -> State:
        """Return random starting points (``Posterior.start``), and the sums that they expect."""
        start = self.posterior.start(chains)
        counts = self.posterior.rows * start["weights"]
        seen = counts.unsqueeze(-1).expand_as(start["rate"]).clone()
        on = seen * start["on_prob"]
        exposed = on * self.posterior.mean_exposure
        more = {}
        if self.model.overdispersed:
            more = {"factors": on.clone(), "log_factors": on * (torch.digamma(start["size"]) - start["size"].log())}
        sums = Sums(counts, exposed * start["rate"], on, seen, exposed, **more)
        return self.state_class(**start, **_parts(sums), minibatches=counts.new_zeros(chains))

    def step(self, state: Any) -> tuple[State, Info]:
        """Pass over all rows in a random order of minibatches; return the estimate of log p(X, Theta)."""
        evidence = state.minibatches.new_zeros(len(state.minibatches))
        for batch in minibatches(self.posterior, self.options.batch_size):
            state, part = self.see(state, batch)
            evidence = evidence + part
        return state, Info(evidence + log_prior(self.model, state))

    def see(self, state: State, batch: Minibatch) -> tuple[State, Float[Tensor, C]]:
        """Move the sums, and the point with them; return log p of the minibatch."""
        known, rho = Parameters.of(vars(state)), self.options.weight(state.minibatches)
        (found, evidence), scale = batch.total(lambda part: part.layout.expect(known))
        parts = {name: toward(getattr(state, name), scale * new, rho) for name, new in _parts(found).items()}
        sites = self.maximise(state, Sums(**parts))
        return replace(state, **sites, **parts, minibatches=state.minibatches + 1), evidence


def _parts(sums: Sums) -> dict[str, Tensor]:
    """Return the sums by name, those that there are."""
    return {each.name: part for each in fields(sums) if (part := getattr(sums, each.name)) is not None}
