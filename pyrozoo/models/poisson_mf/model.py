"""Poisson matrix factorization: its hyper-parameters, its Pyro program, and its symmetry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.contracts.symmetry import Relabel, Sites
from pyrozoo.core.draws import Draws
from pyrozoo.core.settings import flag, positive, whole
from pyrozoo.data.triplets import Triplets
from pyrozoo.models.poisson_mf.likelihood import FactorPoisson, exposed


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
    the data do not list is a true zero; a pair listed as unobserved is summed out. Where rows have an exposure E_n, the
    rate of a cell is E_n sum_k theta_nk eta_mk: factors say what is expected per unit of exposure. Cemgil 2009,
    Computational Intelligence and Neuroscience, 785152; Gopalan, Hofman and Blei 2015, UAI (hierarchical).

    Only products theta_nk eta_mk matter to the data: draws are compared after every column of eta is scaled to sum to 1
    and the factors are ordered by mass.

    Attributes:
        num_factors: K, at least 1.
        row_shape: Gamma shape of the row factors, positive; below 1 it makes them sparse.
        row_rate: Gamma rate (inverse scale) of the row factors, positive. None: from the data, so that a count has the
            mean of the observed ones under the prior (``from_data``); 1 in a simulation.
        column_shape: The same for columns.
        column_rate: The same for columns.
        hierarchical: Whether rows and columns have rates of their own.
        rate_shape: Gamma shape of those rates, positive: the smaller, the more rows may differ in activity.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    without_data: ClassVar[Mapping[str, float]] = {"row_rate": 1.0, "column_rate": 1.0}
    uses_exposure: ClassVar[bool] = True

    num_factors: int = whole()
    row_shape: float = positive()
    row_rate: Any = positive(optional=True)
    column_shape: float = positive()
    column_rate: Any = positive(optional=True)
    hierarchical: bool = flag()
    rate_shape: float = positive()

    def from_data(self, data: Triplets) -> Mapping[str, Derived]:
        """Return the rates under which the prior mean of a count, K a c / (b d), is that of the observed cells.

        Where neither is given both sides get the same share: b = a sqrt(K / mean), d = c sqrt(K / mean).
        """
        # One event where there is none: no rate of zero events is larger than all others.
        cells, cell = max(data.observed_cells, 1.0), "mean count of a cell"
        if data.exposure is not None:
            cells, cell = max(float(data.observed_exposure.sum()), torch.finfo().tiny), f"{cell} per unit of exposure"
        mean = max(float(data.counts.double().sum()), 1.0) / cells
        a, c, scale = self.row_shape, self.column_shape, self.num_factors / mean
        found = {}
        for name, own, other, given in (
            ("row", a, "column", self.column_rate), ("column", c, "row", self.row_rate)
        ):  # fmt: skip
            if given is None:
                how = f"{name}_shape * sqrt(num_factors / {cell})"
                found[f"{name}_rate"] = Derived(own * scale**0.5, how)
            else:
                how = f"num_factors * row_shape * column_shape / ({cell} * {other}_rate)"
                found[f"{name}_rate"] = Derived(scale * a * c / given, how)
        return found

    @property
    def symmetry(self) -> ScaleAndRelabel:
        """Factors can be exchanged, and scale moved from columns to rows."""
        return ScaleAndRelabel("factor", lambda flat: flat["column_factors"].sqrt().mT, "mass")

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
            pyro.sample("counts", FactorPoisson(exposed(theta, data), eta, data), obs=data.values)


class ScaleAndRelabel(Relabel):
    """Factors can be exchanged, and each scaled up by row and down by column: only products matter to the data."""

    def align(self, draws: Draws, sites: Sites, reference: Draws | None = None) -> Draws:
        """Scale factors so that each column of eta sums to 1; relabel them, toward the reference or by falling mass."""
        toward = None if reference is None else _scaled(reference)
        moved = super().align(_scaled(draws), {**sites, "mass": ("factor",)}, toward)
        return Draws({site: moved[site] for site in draws})

    def invariants(self, draws: Draws, sites: Sites) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return the expected ``total`` of all cells, ``row_total`` and ``column_total``."""
        theta, eta = draws["row_factors"], draws["column_factors"]
        rows = (theta * eta.sum(-2, keepdim=True)).sum(-1)
        columns = (eta * theta.sum(-2, keepdim=True)).sum(-1)
        return {"total": ((), rows.sum(-1)), "row_total": (("row",), rows), "column_total": (("column",), columns)}


def _scaled(draws: Draws) -> Draws:
    """Move scale from eta to theta so that every column of eta sums to 1, and add the ``mass`` of every factor."""
    theta, eta = draws["row_factors"], draws["column_factors"]
    total = eta.sum(-2, keepdim=True).clamp(min=torch.finfo(eta.dtype).tiny)
    theta = theta * total
    return Draws({**draws, "row_factors": theta, "column_factors": eta / total, "mass": theta.sum(-2)})
