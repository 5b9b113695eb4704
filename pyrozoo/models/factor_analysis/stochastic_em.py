"""Online EM on minibatches of rows: nothing is kept of a row once it has been seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.minibatches import Minibatch, Options, minibatches, toward
from pyrozoo.contracts.solver import Info
from pyrozoo.models.factor_analysis import em
from pyrozoo.models.factor_analysis.likelihood import Columns, Moments
from pyrozoo.models.factor_analysis.posterior import Posterior


@dataclass(frozen=True)
class State(em.State):
    """The point, the sums over all rows as far as they are known (``Moments``), and how many minibatches were seen.

    ``squares`` and ``observations`` are those of the columns above their offset, known as well as the other sums: a
    residual variance is a difference of sums over the same rows.
    """

    groups: Float[Tensor, "C G A A"]
    cross: Float[Tensor, "C D A"]
    total: Float[Tensor, "C A A"]
    squares: Float[Tensor, "C D"]
    observations: Float[Tensor, "C D"]
    minibatches: Float[Tensor, C]


class Solver(em.Solver, objective="log_joint_estimate", of="result", monotone=False, state=State, streams=True):
    """Online EM for the MAP (Cappe and Moulines 2009, J. R. Stat. Soc. B 71, section 2.2; minibatches, and a prior).

    A step is one pass over the rows in minibatches. For each, the E-step at the point that it meets says what the sums
    over all rows would be if all rows were like these; the sums move toward that, S <- (1 - rho) S + rho N / B sum over
    the batch, with rho = (t + delay)^-forgetting at minibatch t = 1, 2, ...; and the M-step is EM's, given S, the
    parameter expansion included: what it makes of the factors it makes of their sums, too. It begins with the sums that
    are expected of rows which are as the starting point says. Beside the data, which it reads batch by batch, it needs
    memory for the parameters, the sums, and one minibatch.

    The objective is the sum of the minibatches' log p(x | Theta), each at the point that it met, with log p(Theta) at
    the end of the pass: an estimate of log p(X, Theta) that lags behind it by a pass, and need not rise.

    Settings are those of ``Options``.

    Raises:
        SettingError: A setting out of range.
    """

    def __init__(self, posterior: Posterior, batch_size: int = 1000, delay: float = 1.0, forgetting: float = 0.6):
        super().__init__(posterior)
        self.options = Options(batch_size, delay, forgetting)

    def init(self, chains: int) -> State:
        """Return random starting points (``Posterior.start``), and the sums that they expect."""
        start, layout = self.posterior.start(chains), self.layout
        beta, size = layout.coefficients(start), self.model.num_factors + 1
        eye, counts = torch.eye(size).to(beta), layout.observations
        groups = (counts[layout.firsts, None, None] * eye).expand(chains, -1, -1, -1).clone()
        cross, total = counts[:, None] * beta, (self.posterior.rows * eye).expand(chains, -1, -1).clone()
        squares = (counts * (beta.square().sum(-1) + start["noise_variance"])).double()
        seen, count = counts.expand(chains, -1).clone(), counts.new_zeros(chains)
        return State(
            **start, groups=groups, cross=cross, total=total, squares=squares, observations=seen, minibatches=count
        )

    def step(self, state: Any) -> tuple[State, Info]:
        """Pass over all rows in a random order of minibatches; return the estimate of log p(X, Theta)."""
        evidence = state.minibatches.new_zeros(len(state.minibatches))
        for batch in minibatches(self.posterior, self.options.batch_size):
            state, part = self.see(state, batch)
            evidence = evidence + part
        beta = self.layout.coefficients(vars(state))
        return state, Info(evidence + self.prior.log_density(beta, state.noise_variance))

    def see(self, state: State, batch: Minibatch) -> tuple[State, Float[Tensor, C]]:
        """Move the sums, and the point with them; return log p of the minibatch."""
        columns, rho = self.layout.known(vars(state)), self.options.weight(state.minibatches)
        found, scale = batch.total(lambda part: self._said(part, columns))
        evidence = found.pop("evidence")
        sums = {name: toward(getattr(state, name), scale * new, rho) for name, new in found.items()}
        of_rows, of_columns = ({name: sums[name] for name in names} for names in (OF_ROWS, OF_COLUMNS))
        sites, unturn = self.maximise(Moments(**of_rows, factors=None, evidence=evidence), **of_columns)
        turned = {
            "groups": unturn.mT.unsqueeze(1) @ sums["groups"].double() @ unturn.unsqueeze(1),
            "cross": sums["cross"].double() @ unturn,
            "total": unturn.mT @ sums["total"].double() @ unturn,
        }
        moved = {name: value.to(sums[name]) for name, value in turned.items()}
        return replace(state, **sites, **of_columns, **moved, minibatches=state.minibatches + 1), evidence

    def _said(self, part: Posterior, columns: Columns) -> dict[str, Any]:
        found, layout, chains = part.said(columns, self.layout), part.layout, len(columns.coefficients)
        of_columns = {name: getattr(layout, name).expand(chains, -1) for name in OF_COLUMNS}
        return {**{name: getattr(found, name) for name in (*OF_ROWS, "evidence")}, **of_columns}


OF_ROWS, OF_COLUMNS = ("groups", "cross", "total"), ("squares", "observations")
"""The sums that hold factors, and those that do not."""
