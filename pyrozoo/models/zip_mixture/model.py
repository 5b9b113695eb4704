"""The mixture of zero-inflated Poissons: its hyper-parameters and its Pyro program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.ops.indexing import Vindex
from torch import Tensor

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.contracts.symmetry import Relabel
from pyrozoo.core.draws import Values
from pyrozoo.core.settings import flag, positive, whole
from pyrozoo.data.table import Table


@dataclass(frozen=True)
class ZipMixture(Model):
    r"""Mixture of zero-inflated Poissons.

    Story, for rows i = 1..N, columns d = 1..D, components k = 1..K::

        weights    pi         ~ Dirichlet(weight_concentration)         [component]
        on_prob    omega_kd   ~ Beta(on_prob_alpha, on_prob_beta)       [component, column]
        rate       lambda_kd  ~ Gamma(rate_shape, rate_rate)            [component, column]  (events per cell)
        assignment z_i        ~ Categorical(pi)                         [row]
        counts     x_id       = 0 with probability 1 - omega_{z_i d}, else ~ Poisson(lambda_{z_i d})

    so that p(x_id | z_i = k) = omega_kd Poisson(x_id; lambda_kd) + (1 - omega_kd) 1[x_id = 0]. A missing count is
    summed out. Zero-inflated Poisson: Lambert 1992, Technometrics 34.

    Where rows have an exposure E_i, the rate of row i is E_i lambda_kd: lambda counts events per unit of exposure.

    With ``overdispersed`` counts that are on vary by a Gamma factor of mean 1 for every cell, which is summed out::

        size       r_kd       ~ Gamma(size_shape, size_rate)            [component, column]
        factor     g_id       ~ Gamma(r_{z_i d}, r_{z_i d})             [row, column]
        counts     x_id       = 0 with probability 1 - omega_{z_i d}, else ~ Poisson(E_i lambda_{z_i d} g_id)

    so that a count that is on is negative binomial of mean m = E_i lambda and variance m + m^2 / r: the smaller the
    size, the more counts vary. Zhou and Carin 2015, IEEE PAMI 37.

    Attributes:
        num_components: K, at least 1.
        weight_concentration: Dirichlet concentration, one positive number for all components or K of them.
        on_prob_alpha: First Beta parameter of the on-probability, positive.
        on_prob_beta: Second Beta parameter, positive.
        rate_shape: Gamma shape of the rates, positive.
        rate_rate: Gamma rate (inverse scale) of the rates, positive. None: from the data, so that the prior mean of a
            rate is the mean of the counts above 0, per unit of exposure; 1 in a simulation.
        overdispersed: Whether counts that are on are negative binomial rather than Poisson.
        size_shape: Gamma shape of the sizes, positive.
        size_rate: Gamma rate (inverse scale) of the sizes, positive.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    without_data: ClassVar[Mapping[str, float]] = {"rate_rate": 1.0}
    uses_exposure: ClassVar[bool] = True

    num_components: int = whole()
    weight_concentration: float | Sequence[float] = positive(many=True)
    on_prob_alpha: float = positive()
    on_prob_beta: float = positive()
    rate_shape: float = positive()
    rate_rate: Any = positive(optional=True)
    overdispersed: bool = flag(default=False)
    size_shape: float = positive(default=2.0)
    size_rate: float = positive(default=0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.weight_concentration
        if isinstance(given, Sequence) and len(given) != self.num_components:
            self.refuse("weight_concentration", f"it must be one number, or model.num_components={self.num_components}")

    def from_data(self, data: Table) -> Mapping[str, Derived]:
        """Return the rate of the rates' prior that puts its mean at the data's."""
        # Zeros say little of a rate: many come from cells that are off.
        above, how = data.filled > 0, "rate_shape / mean of the counts above 0"
        exposed = above.sum()
        if data.exposure is not None:
            exposed, how = (above * data.exposure[:, None]).sum(), f"{how} per unit of exposure"
        mean = float(data.filled.sum(dtype=torch.float64) / exposed) if above.any() else 1.0
        return {"rate_rate": Derived(self.rate_shape / mean, how)}

    @property
    def symmetry(self) -> Relabel:
        """Components can be exchanged; square roots put rates, probabilities and weights on comparable scales."""
        return Relabel("component", _features, "weights")

    def concentration(self, like: Tensor) -> Float[Tensor, K]:
        """Return the Dirichlet concentration as a vector of the device and precision of ``like``."""
        given = self.weight_concentration
        if isinstance(given, Sequence):
            return like.new_tensor(given)
        return like.new_full((self.num_components,), given)  # made where it is

    def __call__(self, data: Table) -> None:
        """Run the program. Rows may be a minibatch; the assignment is enumerated."""
        like, number, (N, D) = data.values, data.values.new_tensor, data.shape
        weights = pyro.sample("weights", dist.Dirichlet(self.concentration(like)))
        columns = pyro.plate("column", D, dim=-1)
        with pyro.plate("component", self.num_components, dim=-2), columns:
            on_prob = pyro.sample("on_prob", dist.Beta(number(self.on_prob_alpha), number(self.on_prob_beta)))
            rate = pyro.sample("rate", dist.Gamma(number(self.rate_shape), number(self.rate_rate)))
            if self.overdispersed:
                size = pyro.sample("size", dist.Gamma(number(self.size_shape), number(self.size_rate)))
        index = torch.arange(D, device=like.device)
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-2):
            z = pyro.sample("assignment", dist.Categorical(weights), infer={"enumerate": "parallel"})
            with columns:
                on, mean = Vindex(on_prob)[z, index], Vindex(rate)[z, index]
                if data.exposure is not None:
                    mean = data.exposure[:, None] * mean
                if self.overdispersed:
                    r = Vindex(size)[z, index]
                    counts: Any = dist.ZeroInflatedNegativeBinomial(r, logits=(mean / r).log(), gate=1 - on)
                else:
                    counts = dist.ZeroInflatedPoisson(mean, gate=1 - on)
                pyro.sample("counts", counts.mask(data.observed), obs=data.filled)


def _features(flat: Values) -> Float[Tensor, "S K P"]:
    mean, on = (flat["on_prob"] * flat["rate"]).sqrt(), flat["on_prob"].sqrt()
    return torch.cat([mean, on, flat["weights"].sqrt().unsqueeze(-1)], -1)
