"""The mixture of zero-inflated Poissons: its Pyro program and the functions of its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.ops.indexing import Vindex
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.table import Table
from pyrozoo.math.alignment import match_components, relabelling
from pyrozoo.math.moments import column_moments, row_mean_quantiles
from pyrozoo.models.zip_mixture.likelihood import LARGEST_FLOAT32_COUNT, Layout, weights_of
from pyrozoo.models.zip_mixture.queries import predict


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

    Attributes:
        num_components: K, at least 1.
        weight_concentration: Dirichlet concentration, one positive number for all components or K of them.
        on_prob_alpha: First Beta parameter of the on-probability, positive.
        on_prob_beta: Second Beta parameter, positive.
        rate_shape: Gamma shape of the rates, positive.
        rate_rate: Gamma rate (inverse scale) of the rates, positive.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    num_components: int
    weight_concentration: float | Sequence[float]
    on_prob_alpha: float
    on_prob_beta: float
    rate_shape: float
    rate_rate: float

    sites: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "weights": ("component",),
        "on_prob": ("component", "column"),
        "rate": ("component", "column"),
    }
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "column_mean": ("column",),
        "column_zero": ("column",),
        "column_variance": ("column",),
        "same_component": (),
    }
    observed_site: ClassVar[str] = "counts"
    container: ClassVar[type] = Table
    unit: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        if not isinstance(self.num_components, int) or self.num_components < 1:
            raise SettingError(f"model.num_components is {self.num_components!r}; it must be a whole number >= 1")
        if not isinstance(self.weight_concentration, int | float):
            object.__setattr__(self, "weight_concentration", tuple(self.weight_concentration))
            given = len(self.weight_concentration)
            if given != self.num_components:
                raise SettingError(
                    f"model.weight_concentration has {given} values for model.num_components={self.num_components}"
                )
        for name in ("weight_concentration", "on_prob_alpha", "on_prob_beta", "rate_shape", "rate_rate"):
            value = getattr(self, name)
            for each in value if isinstance(value, tuple) else (value,):
                if not isinstance(each, int | float) or not 0 < each < float("inf"):
                    raise SettingError(f"model.{name} is {each!r}; it must be a positive number")

    def concentration(self, like: Tensor) -> Float[Tensor, K]:
        """Return the Dirichlet concentration as a vector of the device and precision of ``like``."""
        return torch.broadcast_to(like.new_tensor(self.weight_concentration), (self.num_components,))

    def __call__(self, data: Table) -> None:
        """Run the program. Rows may be a minibatch; the assignment is enumerated."""
        like, (N, D) = data.values, data.shape
        weights = pyro.sample("weights", dist.Dirichlet(self.concentration(like)))
        columns = pyro.plate("column", D, dim=-1)
        with pyro.plate("component", self.num_components, dim=-2), columns:
            on_prob = pyro.sample(
                "on_prob", dist.Beta(like.new_tensor(self.on_prob_alpha), like.new_tensor(self.on_prob_beta))
            )
            rate = pyro.sample("rate", dist.Gamma(like.new_tensor(self.rate_shape), like.new_tensor(self.rate_rate)))
        index = torch.arange(D, device=like.device)
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-2):
            z = pyro.sample("assignment", dist.Categorical(weights), infer={"enumerate": "parallel"})
            with columns:
                on, lam = Vindex(on_prob)[z, index], Vindex(rate)[z, index]
                counts = dist.ZeroInflatedPoisson(lam, gate=1 - on).mask(data.observed)
                pyro.sample("counts", counts, obs=data.filled)

    def check(self, data: Table) -> None:
        """Raise DataError unless every observed value is a count that the precision can hold."""
        if not isinstance(data, Table):
            raise DataError(f"zip_mixture needs a table (rows by columns), not {type(data).__name__}")
        data.checked().refuse_empty_columns()
        for part in (data, *([data.test] if data.test is not None else [])):
            part.refuse(part.filled < 0, "is negative; counts are needed")
            part.refuse(part.filled != part.filled.round(), "is not a whole number; counts are needed")
            if part.values.dtype == torch.float32:
                part.refuse(part.filled > LARGEST_FLOAT32_COUNT, "is too large for dtype=float32; use dtype=float64")

    def initial(self, data: Table, chains: int) -> Draws:
        """Return starting values: each component half-way between a random row and the column means.

        Components at data points are spread as the data are, and shrinking them toward the middle keeps every row
        explainable; of prior draws, random responsibilities and this, this reached the best mode most often.
        """
        K, (N, D) = self.num_components, data.shape
        observed = data.observed.to(data.values.dtype)
        total = observed.sum(0)
        mean, positive = data.filled.sum(0) / total, (data.filled > 0).sum(0) / total
        # Random rows without replacement per chain; more components than rows repeat them.
        order = torch.rand(chains, N, device=data.values.device).argsort(1)
        picked = order[:, torch.arange(K, device=order.device) % N]
        rows = torch.where(data.observed, data.filled, mean)[picked]
        jitter = torch.rand(chains, K, D, dtype=rows.dtype, device=rows.device)
        return {
            "weights": data.values.new_full((chains, K), 1 / K),
            "on_prob": (0.5 * (rows > 0) + 0.5 * positive).clamp(0.05, 0.95),
            "rate": (0.5 + jitter) * 0.5 * (rows + mean) + 0.1,
        }

    def pointwise_log_likelihood(self, draws: Draws, data: Table) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_i | weights, on_prob, rate) of every row, the assignment summed out."""
        layout = Layout.of(data)
        shape = draws["weights"].shape[:2]
        flat = {site: value.flatten(0, 1) for site, value in draws.items()}
        return layout.row_log_evidence(weights_of(flat, layout), flat["weights"].log()).unflatten(0, shape)

    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Relabel components, draw by draw: toward the reference's mean, else onto each other with weights falling."""
        shape = draws["weights"].shape[:2]
        flat = {site: draws[site].flatten(0, 1) for site in self.sites}
        if reference is None:
            flat = _permuted(flat, relabelling(_features(flat)))
            by_weight = flat["weights"].mean(0).argsort(descending=True)
            flat = {site: value[:, by_weight] for site, value in flat.items()}
        else:
            pivot = _features({site: reference[site].flatten(0, 1) for site in self.sites}).mean(0)
            flat = _permuted(flat, match_components(_features(flat), pivot))
        return {site: value.unflatten(0, shape) for site, value in flat.items()}

    def invariants(self, draws: Draws, data: Table, log_likelihood: Tensor | None = None) -> Draws:
        """Return quantities that no relabelling changes.

        ``log_likelihood``; per column the model's ``column_mean`` E[x], ``column_zero`` P(x = 0) and
        ``column_variance``; and ``same_component``, the probability that two new rows share a component.
        """
        pi, omega, lam = draws["weights"].unsqueeze(-1), draws["on_prob"], draws["rate"]
        mean = (pi * omega * lam).sum(-2)
        return {
            "log_likelihood": self.log_likelihood(draws, data) if log_likelihood is None else log_likelihood,
            "column_mean": mean,
            "column_zero": (pi * (1 + omega * torch.expm1(-lam))).sum(-2),
            "column_variance": (pi * omega * lam * (1 + lam)).sum(-2) - mean.square(),
            "same_component": draws["weights"].square().sum(-1),
        }

    def checks(self, values: Tensor, data: Table) -> Draws:
        """Return mean, share of zeros and dispersion (variance over mean) of columns, and quantiles of rows' means."""
        seen = values.where(data.observed, torch.nan)
        mean, variance, _ = column_moments(seen)
        return {
            "column_mean": mean,
            "zeros": (seen == 0).sum(0) / data.observed.sum(0).clamp(min=1),
            "dispersion": torch.where(mean > 0, variance / mean.clamp(min=1e-300), 1.0),
            "row_mean": row_mean_quantiles(seen),
        }

    def predict(self, draws: Draws, data: Table) -> Prediction:
        """Predict hidden counts from the observed counts of the same row."""
        return predict(draws, data)


def _features(draws: Mapping[str, Tensor]) -> Float[Tensor, "S K P"]:
    """Describe components for matching: square roots put rates, probabilities and weights on comparable scales."""
    return torch.cat(
        [(draws["on_prob"] * draws["rate"]).sqrt(), draws["on_prob"].sqrt(), draws["weights"].sqrt().unsqueeze(-1)], -1
    )


def _permuted(draws: Mapping[str, Tensor], order: Tensor) -> Draws:
    return {
        site: torch.take_along_dim(value, order.reshape(order.shape + (1,) * (value.ndim - 2)), 1)
        for site, value in draws.items()
    }
