"""Poisson matrix factorization: its Pyro program and the functions of its draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.triplets import Triplets
from pyrozoo.math.alignment import match_components, relabelling
from pyrozoo.models.poisson_mf.distributions import FactorPoisson
from pyrozoo.models.poisson_mf.likelihood import LARGEST_FLOAT32_COUNT, pointwise
from pyrozoo.models.poisson_mf.prediction import cell_rates, predict

MOST_RATES = 2**22
"""Rates of listed cells, over draws, held at a time."""


@dataclass(frozen=True)
class PoissonMF(Model):
    r"""Poisson matrix factorization.

    Story, for rows (users) n = 1..N, columns (items) m = 1..M, factors k = 1..K::

        row_factors     theta_nk ~ Gamma(row_shape, row_rate)           [row, factor]
        column_factors  eta_mk   ~ Gamma(column_shape, column_rate)     [column, factor]
        counts          x_nm     ~ Poisson(sum_k theta_nk eta_mk)       [row, column]

    and with ``hierarchical`` every row and every column has a rate of its own in place of the common one::

        row_rates       xi_n     ~ Gamma(rate_shape, rate_shape / row_rate)         [row]      mean row_rate
        column_rates    omega_m  ~ Gamma(rate_shape, rate_shape / column_rate)      [column]   mean column_rate
        row_factors     theta_nk ~ Gamma(row_shape, xi_n),   column_factors  eta_mk ~ Gamma(column_shape, omega_m)

    so that active rows and popular columns, whose rates are small, need not share a scale with the others. A pair that
    the data do not list is a true zero; a pair listed as unobserved is summed out. Cemgil 2009, Computational
    Intelligence and Neuroscience, 785152; Gopalan, Hofman and Blei 2015, UAI (hierarchical).

    Only products theta_nk eta_mk matter to the data: draws are compared after every column of eta is scaled to sum to 1
    and the factors are ordered by mass.

    Attributes:
        num_factors: K, at least 1.
        row_shape: Gamma shape of the row factors, positive; below 1 it makes them sparse.
        row_rate: Gamma rate (inverse scale) of the row factors, positive.
        column_shape: The same for columns.
        column_rate: The same for columns.
        hierarchical: Whether rows and columns have rates of their own.
        rate_shape: Gamma shape of those rates, positive: the smaller, the more rows may differ in activity.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    num_factors: int
    row_shape: float
    row_rate: float
    column_shape: float
    column_rate: float
    hierarchical: bool
    rate_shape: float

    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "total": (),
        "row_total": ("row",),
        "column_total": ("column",),
        "cell_rate": ("cell",),
    }
    observed_site: ClassVar[str] = "counts"
    container: ClassVar[type] = Triplets
    unit: ClassVar[str] = "row"

    def __post_init__(self) -> None:
        if not isinstance(self.num_factors, int) or self.num_factors < 1:
            raise SettingError(f"model.num_factors is {self.num_factors!r}; it must be a whole number >= 1")
        for name in ("row_shape", "row_rate", "column_shape", "column_rate", "rate_shape"):
            if not getattr(self, name) > 0:
                raise SettingError(f"model.{name} is {getattr(self, name)}; it must be positive")

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites; rates of rows and columns are among them when the model is hierarchical."""
        factors = {"row_factors": ("row", "factor"), "column_factors": ("column", "factor")}
        return {**factors, "row_rates": ("row",), "column_rates": ("column",)} if self.hierarchical else factors

    def __call__(self, data: Triplets) -> None:
        """Run the Pyro program."""
        like, K = data.values, self.num_factors
        rows = pyro.plate(
            "row", data.shape[0] if data.total_rows is None else data.total_rows, subsample=data.rows, dim=-1
        )
        columns = pyro.plate("column", data.shape[1], dim=-1)

        def factors(name: str, shape: float, rate: float, plate: pyro.plate) -> Tensor:
            with plate:
                each = like.new_tensor(rate)
                if self.hierarchical:
                    prior = dist.Gamma(like.new_tensor(self.rate_shape), like.new_tensor(self.rate_shape / rate))
                    each = pyro.sample(f"{name}_rates", prior).unsqueeze(-1)
                return pyro.sample(f"{name}_factors", dist.Gamma(like.new_full((K,), shape), each).to_event(1))

        theta = factors("row", self.row_shape, self.row_rate, rows)
        eta = factors("column", self.column_shape, self.column_rate, columns)
        with rows:
            pyro.sample("counts", FactorPoisson(theta, eta, data), obs=data.values)

    def check(self, data: Triplets) -> None:
        """Raise DataError unless every listed value is a count that the precision can hold."""
        if not isinstance(data, Triplets):
            raise DataError(f"poisson_mf needs triplets (row, column, count), not {type(data).__name__}")
        data.checked()
        for part in (data, *([data.test] if data.test is not None else [])):
            x = part.counts
            part.refuse(x < 0, "is negative; counts are needed")
            part.refuse(x != x.round(), "is not a whole number; counts are needed")
            if x.dtype == torch.float32:
                part.refuse(x > LARGEST_FLOAT32_COUNT, "is too large for dtype=float32; use dtype=float64")

    def initial(self, data: Triplets, chains: int) -> Draws:
        """Return starting values: factors all of one size that gives the data's mean, times Uniform(0.5, 1.5)."""
        (N, M), K, like = data.shape, self.num_factors, data.values
        mean = max(float(data.counts.sum()), 1.0) / (N * M)
        scale = (mean / K) ** 0.5
        result = {
            "row_factors": scale * (0.5 + torch.rand(chains, N, K, dtype=like.dtype, device=like.device)),
            "column_factors": scale * (0.5 + torch.rand(chains, M, K, dtype=like.dtype, device=like.device)),
        }
        if self.hierarchical:
            for name, shape, rate in (
                ("row", self.row_shape, self.row_rate),
                ("column", self.column_shape, self.column_rate),
            ):
                total = result[f"{name}_factors"].sum(-1)
                result[f"{name}_rates"] = (self.rate_shape + K * shape) / (self.rate_shape / rate + total)
        return result

    def pointwise_log_likelihood(self, draws: Draws, data: Triplets) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_n | theta_n, eta) of every row."""
        theta = draws["row_factors"]
        if data.row_index is not None:
            theta = theta.index_select(-2, data.row_index)
        shape, eta = theta.shape[:2], draws["column_factors"]
        unknown = 0 if data.unobserved is None else len(data.unobserved)
        step = max(1, MOST_RATES // max(1, len(data.values) + unknown))
        blocks = zip(theta.flatten(0, 1).split(step), eta.flatten(0, 1).split(step), strict=True)
        return torch.cat([pointwise(a, b, data) for a, b in blocks]).unflatten(0, shape)

    def effort(self, data: Triplets) -> float:
        """Return the multiplications of one likelihood: one per listed or unobserved cell and factor."""
        unknown = 0 if data.unobserved is None else len(data.unobserved)
        return float(self.num_factors * (len(data.values) + unknown))

    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Scale factors so that each column of eta sums to 1; relabel them, toward the reference or by falling mass."""
        shape = draws["row_factors"].shape[:2]
        theta, eta = (draws[site].flatten(0, 1) for site in ("row_factors", "column_factors"))
        theta, eta = _scaled(theta, eta)
        features = eta.sqrt().mT
        if reference is None:
            order = relabelling(features)
            mass = torch.take_along_dim(theta.sum(-2), order, 1).mean(0)
            order = order[:, mass.argsort(descending=True)]
        else:
            pivot = _scaled(*(reference[site].flatten(0, 1) for site in ("row_factors", "column_factors")))[1]
            order = match_components(features, pivot.sqrt().mT.mean(0))
        index = order.unsqueeze(1)
        moved = {
            "row_factors": torch.take_along_dim(theta, index, 2),
            "column_factors": torch.take_along_dim(eta, index, 2),
        }
        return {**draws, **{site: value.unflatten(0, shape) for site, value in moved.items()}}

    def invariants(self, draws: Draws, data: Triplets, log_likelihood: Tensor | None = None) -> Draws:
        """Return quantities that neither relabelling nor scale changes.

        ``log_likelihood``; the expected ``total`` of all cells, ``row_total`` and ``column_total``; and ``cell_rate``,
        the rates of the cells ``Triplets.cells``.
        """
        theta, eta = draws["row_factors"], draws["column_factors"]
        rows = (theta * eta.sum(-2, keepdim=True)).sum(-1)
        return {
            "log_likelihood": self.log_likelihood(draws, data) if log_likelihood is None else log_likelihood,
            "total": rows.sum(-1),
            "row_total": rows,
            "column_total": (eta * theta.sum(-2, keepdim=True)).sum(-1),
            "cell_rate": cell_rates(theta, eta, data.cells),
        }

    def checks(self, values: Tensor, data: Triplets) -> Draws:
        """Return totals of rows and of columns, the share of zeros, and the variance over the mean of all cells."""
        result = super().checks(values, data)
        mean = result["row_total"].sum() / max(data.observed_cells, 1)
        square = data.seen(values)[:, 2].double().square().sum().cpu() / max(data.observed_cells, 1)
        return result | {"dispersion": (square - mean**2) / mean.clamp(min=1e-300)}

    def predict(self, draws: Draws, data: Triplets) -> Prediction:
        """Predict hidden counts."""
        return predict(draws, data)


def _scaled(theta: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
    """Move scale from eta to theta so that every column of eta [S, M, K] sums to 1."""
    total = eta.sum(-2, keepdim=True).clamp(min=torch.finfo(eta.dtype).tiny)
    return theta * total, eta / total
