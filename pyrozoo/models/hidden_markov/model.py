"""The hidden Markov model: its hyper-parameters and its Pyro program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.contracts.symmetry import Relabel
from pyrozoo.core.draws import Values
from pyrozoo.core.settings import not_negative, one_of, positive, stated, whole
from pyrozoo.data.sequences import Sequences
from pyrozoo.math.markov_chains import log_evidence, simulate
from pyrozoo.math.moments import column_moments
from pyrozoo.models.hidden_markov.emissions import Emission
from pyrozoo.models.hidden_markov.kinds import emission_of
from pyrozoo.program.whole import Whole

UNKNOWN_LEVELS = 3
"""Levels of a simulation that says nothing of them."""


@dataclass(frozen=True)
class HiddenMarkov(Model):
    r"""Hidden Markov model.

    Story, for sequences s = 1..S, steps t = 1..T_s, columns d = 1..D, states k = 1..K::

        initial     pi     ~ Dirichlet(initial_concentration)                              [state]
        transition  A_k    ~ Dirichlet(transition_concentration + stay_concentration e_k)  [state, state]
        path        z_1    ~ Categorical(pi),  z_t ~ Categorical(A_{z_{t-1}})              [step]
        values      x_td   ~ emission of state z_t                                         [row, column]

    with one of these emissions::

        gaussian        variance v_kd ~ InvGamma(nu / 2, nu s_d^2 / 2), mean m_kd ~ N(l_d, v_kd / kappa),
                        x_td ~ N(m_kd, v_kd)
        full            covariance V_k ~ InverseWishart(nu + D - 1, nu diag(s^2)), mean m_k ~ N(l, V_k / kappa),
                        x_t ~ N(m_k, V_k)
        autoregressive  as gaussian, and slope b_kd ~ N(0, v_kd / (kappa s_d^2)),
                        x_td ~ N(m_kd + b_kd (x_{t-1,d} - l_d), v_kd)
        poisson         rate r_kd ~ Gamma(rate_shape, rate_shape / s_d), x_td ~ Poisson(r_kd)
        categorical     probability p_kd ~ Dirichlet(level_concentration), x_td ~ Categorical(p_kd)

    A missing value is summed out, and a step without a row (a gap in time) has all of them missing. Where an
    autoregressive emission lacks the value before (the first step, or after a hole), that is taken to be at l_d.
    Rabiner 1989, Proc. IEEE 77.

    Attributes:
        num_components: K, the number of hidden states.
        emission: What a state says of a step.
        initial_concentration: Dirichlet concentration of the first state.
        transition_concentration: The same of where a state leads.
        stay_concentration: How much more of it a state has for itself.
        location: l, one number or D; None: the means of the columns.
        scale: s, positive, one number or D; None: half the sds of the columns, of counts their means.
        mean_precision: kappa, positive: how many steps the prior of a mean is worth.
        degrees: nu, positive: how many steps the prior of a variance is worth.
        rate_shape: Gamma shape of the rates.
        level_concentration: Dirichlet concentration of the levels.
        num_levels: Levels of every column; None: as many as the data have.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    without_data: ClassVar[Mapping[str, float]] = {"location": 0.0, "scale": 1.0}

    num_components: int = whole()
    emission: str = one_of("gaussian", "full", "autoregressive", "poisson", "categorical")
    initial_concentration: float = positive()
    transition_concentration: float = positive()
    stay_concentration: float = not_negative()
    location: float | Sequence[float] | None = stated()
    scale: Any = positive(optional=True, many=True)
    mean_precision: float = positive()
    degrees: float = positive()
    rate_shape: float = positive()
    level_concentration: float = positive()
    num_levels: int | None = whole(2, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.location, list):
            object.__setattr__(self, "location", tuple(self.location))

    def from_data(self, data: Sequences) -> Mapping[str, Derived]:
        """Return l and s in the units of the columns."""
        mean, variance, _ = column_moments(data.values.double())
        sd = variance.where(variance > 1e-20 * mean.square(), 1.0).sqrt()
        counts = self.emission == "poisson"
        scale = mean.where(mean > 0, 1.0) if counts else sd / 2
        return {
            "location": Derived(tuple(mean.tolist()), "the columns' means", tuple(sd.tolist())),
            "scale": Derived(tuple(scale.tolist()), "the columns' means" if counts else "half the columns' sds"),
        }

    def given(self, data: Any) -> HiddenMarkov:
        """Return the model with what null leaves to the data filled in."""
        found = super().given(data)
        if self.num_levels is not None or self.emission != "categorical":
            return found
        if data is None or data.empty:
            return replace(found, num_levels=UNKNOWN_LEVELS)
        said = [part.values for part in data.with_new_rows]
        said += [part.hidden.values for part in data.with_new_rows if part.hidden is not None]
        return replace(found, num_levels=max(2, *(int(each.nan_to_num().max()) + 1 for each in said)))

    @property
    def symmetry(self) -> Relabel:
        """States can be exchanged."""
        return Relabel("state", lambda flat: emission_of(self).features_of(flat))

    def concentration(self, like: Tensor) -> tuple[Float[Tensor, K], Float[Tensor, "K K"]]:
        """Return the Dirichlet concentrations of the first state, and of the rows of the transition matrix."""
        K = self.num_components
        stay = self.stay_concentration * torch.eye(K, dtype=like.dtype, device=like.device)
        return like.new_full((K,), self.initial_concentration), self.transition_concentration + stay

    def __call__(self, data: Sequences) -> None:
        """Run the program, paths summed out by the forward algorithm. Sequences may be a minibatch."""
        first, rows = self.concentration(data.values)
        values = {
            "initial": pyro.sample("initial", dist.Dirichlet(first)),
            "transition": pyro.sample("transition", dist.Dirichlet(rows).to_event(1)),
        }
        emission, S = emission_of(self)(self, data), data.units
        values |= emission.sample()
        index = torch.arange(S, device=data.values.device)
        with pyro.plate("sequence", data.total_rows or S, subsample=index, dim=-1):
            pyro.sample("values", HiddenChains(emission, values), obs=data.filled)


class HiddenChains(Whole):
    """Sequences with their paths summed out, of which only the observed values count in ``log_prob``.

    Samples are the rows of all of them, [N, D], like ``Sequences.values``.

    Args:
        emission: The emission, given the sequences.
        values: Of the global sites, site -> [*event].
    """

    support = constraints.real_vector

    def __init__(self, emission: Emission, values: Values):
        self.emission, self.values = emission, values
        super().__init__((emission.data.units,), emission.data.shape[1:])

    def sample(self, sample_shape: Any = torch.Size()) -> Float[Tensor, "N D"]:  # noqa: B008
        """Draw paths, then rows."""
        data = self.emission.data
        path = simulate(data.steps, self.values["initial"], self.values["transition"])
        return self.emission.simulate({s: v for s, v in self.values.items()}, path[data.place])

    def log_prob(self, value: Float[Tensor, "N D"]) -> Float[Tensor, S]:
        """Return the log density of the observed values of every sequence."""
        emission = self.emission.having(value)
        points = {site: each.unsqueeze(0) for site, each in self.values.items()}
        log_e = emission.log_density(emission.natural(points))
        return log_evidence(emission.data.steps, points["initial"], points["transition"], log_e).squeeze(1)
