"""Factor analysis of categorical data: its hyper-parameters, its Pyro program, and what rotations leave."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.symmetry import NONE, Rotate, Sites, Symmetry
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.settings import one_of, positive, whole
from pyrozoo.data.survey import Survey
from pyrozoo.math.alignment import log_orbit
from pyrozoo.models.categorical_fa.distributions import Answers, Rows
from pyrozoo.models.categorical_fa.layout import Layout
from pyrozoo.models.categorical_fa.likelihood import pointwise
from pyrozoo.program.inverse_wishart import InverseWishart

GRID_REACH, GRID_POINTS = 8.0, 401
"""Reach of the program's own grid in standard deviations of the prior, and its points."""


@dataclass(frozen=True, kw_only=True)
class CategoricalFA(Model):
    r"""Factor analysis of categorical answers, by a multinomial logit link.

    Story, for rows u = 1..N, items i = 1..D with categories k = 1..K_i, d latent dimensions::

        loadings    beta_ik ~ N(0, gamma^2 I), the last of every item 0       [contrast, factor]
        intercepts  a_ik    ~ N(0, s_a^2), the last of every item 0           [contrast]
        latent_mean        mu    ~ N(0, s_mu^2 I)                             [factor]
        latent_covariance  Sigma ~ IW(d + 1 + c, c s^2 I)                     [factor, factor]
        latent      z_u     ~ N(mu, Sigma)                                    [row, factor]
        answers     x_ui    ~ Categorical(softmax_k(beta_ik . eta(z_u) + a_ik))   [row, column]

    with eta(z) = z, or, with H hidden units, z and below it tanh(W z + b): ``hidden_weights`` W [hidden, factor] and
    ``hidden_biases`` b [hidden] are standard normal. A missing answer is summed out.

    What is known only up to a change of z is fixed: the last category of every item has no loadings; with free loadings
    Sigma = I, and W R and R^T z say the same for every rotation R; with free intercepts mu = 0. So ``latent_mean`` is a
    site without intercepts, ``latent_covariance`` one where loadings are fixed. Bock 1972, Psychometrika 37; as a
    model of text with fixed loadings, the correlated topic model: Blei and Lafferty 2007, Annals of Applied
    Statistics 1.

    Attributes:
        latent_dimension: d, at least 1 and at most the number of items.
        loadings: ``free`` (estimated) or ``fixed`` (stated).
        fixed_loadings: For fixed loadings: one list of K rows of d numbers for all items, or a list of such lists, one
            per item; None: the identity with a last row of zeros, for items of d + 1 categories.
        intercepts: Whether every category has an intercept.
        hidden_units: H; 0: the logits are linear in z.
        loading_scale: gamma, positive.
        intercept_scale: s_a, positive.
        mean_scale: s_mu, positive.
        covariance_degrees: c, positive: how many rows the prior of the covariance is worth.
        covariance_scale: s^2, positive: its mean is s^2 I.
        sum_out_latent: Whether the program sums the latent vector out, by quadrature, or keeps it as a site.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    latent_dimension: int = whole()
    loadings: Literal["free", "fixed"] = one_of("free", "fixed")
    fixed_loadings: Sequence[Any] | None
    intercepts: bool
    hidden_units: int = whole(0)
    loading_scale: float = positive()
    intercept_scale: float = positive()
    mean_scale: float = positive()
    covariance_degrees: float = positive()
    covariance_scale: float = positive()
    sum_out_latent: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loadings == "free" and self.fixed_loadings is not None:
            self.refuse("fixed_loadings", "it needs model.loadings=fixed")
        if self.loadings == "fixed" and self.hidden_units:
            self.refuse("hidden_units", "it needs model.loadings=free: hidden units have loadings of their own")
        if self.fixed_loadings is not None:
            object.__setattr__(self, "fixed_loadings", self._frozen(self.fixed_loadings))

    def _frozen(self, given: Any) -> tuple[Any, ...]:
        """Return stated loadings as a tuple of rows, or of such tuples."""

        def is_row(row: Any) -> bool:
            numbers = isinstance(row, list | tuple) and all(isinstance(v, int | float) and abs(v) < 1e6 for v in row)
            return numbers and len(row) == self.latent_dimension

        def rows(item: Any) -> tuple[Any, ...]:
            right = isinstance(item, list | tuple) and all(is_row(row) for row in item)
            return tuple(tuple(row) for row in item) if right else ()

        found = rows(given) or tuple(rows(item) for item in given)
        if not found or () in found:
            what = (
                f"rows of {self.latent_dimension} finite numbers (model.latent_dimension), or a list of such per item"
            )
            self.refuse("fixed_loadings", f"it must be {what}")
        return found

    @property
    def symmetry(self) -> Symmetry:
        """The latent vector can be turned and reflected where loadings are free."""
        return NONE if self.loadings == "fixed" else Turn("factor", dimension=self.latent_dimension)

    @property
    def shared(self) -> bool:
        """Whether all items have the same loadings, stated once."""
        one = self.fixed_loadings is None or not isinstance(self.fixed_loadings[0][0], tuple)
        return self.loadings == "fixed" and one

    @property
    def exchangeable(self) -> bool:
        """Whether items are alike, so that a row is how often it chose each category."""
        return self.shared and not self.intercepts

    @property
    def width(self) -> int:
        """E, the number of features of z that have loadings."""
        return self.latent_dimension + self.hidden_units

    @property
    def covariance_prior(self) -> tuple[float, float]:
        """Return nu and psi of Sigma ~ IW(nu, psi I)."""
        return self.latent_dimension + 1 + self.covariance_degrees, self.covariance_degrees * self.covariance_scale

    def stated_loadings(self, sizes: Sequence[int]) -> list[list[float]]:
        """Return stated loadings of all categories of items of these numbers of categories, one row per category."""
        d = self.latent_dimension
        if self.fixed_loadings is None:
            identity = [[float(i == j) for j in range(d)] for i in range(d)] + [[0.0] * d]
            return identity * len(sizes)
        items = [self.fixed_loadings for _ in sizes] if self.shared else self.fixed_loadings
        return [list(row) for item in items for row in item]

    def layout(self, data: Survey) -> Layout:
        """Return answers and coefficients as solvers see them; a posterior keeps its own."""
        stated = self.stated_loadings(data.categories) if self.loadings == "fixed" else None
        return Layout.of(data, self.latent_dimension, self.hidden_units, stated, self.exchangeable)

    def __call__(self, data: Survey) -> None:
        """Run the program. Rows may be a minibatch."""
        like, N, d = data.values, data.shape[0], self.latent_dimension
        contrasts = sum(data.categories) - len(data.categories)
        zero, draws = like.new_zeros(d), {}
        if self.loadings == "free" or self.intercepts:
            with pyro.plate("contrast", contrasts, dim=-1):
                if self.loadings == "free":
                    each = dist.Normal(like.new_zeros(self.width), self.loading_scale).to_event(1)
                    draws["loadings"] = pyro.sample("loadings", each)
                if self.intercepts:
                    draws["intercepts"] = pyro.sample(
                        "intercepts", dist.Normal(like.new_zeros(()), self.intercept_scale)
                    )
        if not self.intercepts:
            draws["latent_mean"] = pyro.sample("latent_mean", dist.Normal(zero, self.mean_scale).to_event(1))
        if self.loadings == "fixed":
            nu, psi = (like.new_tensor(value) for value in self.covariance_prior)
            draws["latent_covariance"] = pyro.sample("latent_covariance", InverseWishart(nu, psi, d))
        if self.hidden_units:
            with pyro.plate("hidden", self.hidden_units, dim=-1):
                weights = pyro.sample("hidden_weights", dist.Normal(zero, 1.0).to_event(1))
                biases = pyro.sample("hidden_biases", dist.Normal(like.new_zeros(()), 1.0))
            draws |= {"hidden_weights": weights, "hidden_biases": biases}
        mean = draws.get("latent_mean", zero)
        prior = dist.Normal(mean, 1.0).to_event(1)
        if "latent_covariance" in draws:  # torch loads SymPy for it
            prior = dist.MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(draws["latent_covariance"]))
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-1):
            if not self.sum_out_latent:
                z = pyro.sample("latent", prior)
                pyro.sample("answers", self.answers(draws, data, z), obs=data.filled)
                return

            def draw() -> Tensor:
                return self.answers(draws, data, prior.sample(torch.Size([N]))).sample()

            def log_density(value: Tensor) -> Tensor:
                return self._log_evidence(draws, data, torch.where(data.observed, value, torch.nan))

            pyro.sample("answers", Rows(draw, log_density, data.shape), obs=data.filled)

    def answers(self, draws: Mapping[str, Tensor], data: Survey, z: Float[Tensor, "N d"]) -> Any:
        """Return the distribution of answers given the latent vectors, as the docstring states it."""
        sizes, eta = data.categories, z
        free = torch.tensor([k < size - 1 for size in sizes for k in range(size)], device=z.device).nonzero().flatten()
        if self.hidden_units:
            eta = torch.cat([z, torch.tanh(z @ draws["hidden_weights"].mT + draws["hidden_biases"])], -1)
        if self.loadings == "free":
            products = eta @ draws["loadings"].mT
            logits = eta.new_zeros(*products.shape[:-1], sum(sizes)).index_copy(-1, free, products)
        else:
            stated = self.stated_loadings(sizes[:1] if self.exchangeable else sizes)
            logits = eta @ eta.new_tensor(stated).mT
        if self.intercepts:
            logits = logits.index_add(-1, free, draws["intercepts"].expand(*logits.shape[:-1], -1))
        return Answers(logits, data.observed, sizes)

    def _log_evidence(
        self, draws: Mapping[str, Tensor], data: Survey, values: Float[Tensor, "N D"]
    ) -> Float[Tensor, N]:
        """Return log p(answers) of rows, NaN where missing.

        In one dimension on a path of its own, which the likelihood is held to: an evenly spaced grid in units of the
        prior's spread, without modes and curvatures. Beyond it, where such grids are too large, by the likelihood.
        """
        d, like = self.latent_dimension, values
        if d > 1:
            layout = self.layout(dataclasses.replace(data, values=values, hidden=None, test=None))
            return pointwise(layout, {site: value[None, None] for site, value in draws.items()}).squeeze(0)
        t = torch.linspace(-GRID_REACH, GRID_REACH, GRID_POINTS, dtype=like.dtype, device=like.device).unsqueeze(-1)
        step = 2 * GRID_REACH / (GRID_POINTS - 1)
        log_weight = math.log(step) - 0.5 * t.square().sum(-1) - 0.5 * math.log(2 * math.pi)
        scale = draws["latent_covariance"].sqrt() if "latent_covariance" in draws else 1.0
        z = draws.get("latent_mean", like.new_zeros(d)) + t * scale
        total = log_weight.expand(len(values), -1)
        for item, log_prob in enumerate(self.answers(draws, data, z).log_table()):
            seen = ~values[:, item].isnan()
            code = values[:, item].nan_to_num(nan=0.0).long()
            total = total + torch.where(seen[:, None], log_prob.mT[code], 0.0)
        return total.logsumexp(-1)


@dataclass(frozen=True)
class Turn(Rotate):
    """Turns and reflections of the latent vector; the loadings of hidden units stay as they are.

    Attributes:
        dimension: d.
    """

    dimension: int = 0

    def _matrices(self, flat: Values, sites: Sites) -> Float[Tensor, "S R d"]:
        parts = [flat["loadings"][..., : self.dimension]]
        parts += [flat["hidden_weights"]] if "hidden_weights" in flat else []
        parts += [flat["latent_mean"].unsqueeze(1)] if "latent_mean" in flat else []
        return torch.cat(parts, 1)

    def align(self, draws: Draws, sites: Sites, reference: Draws | None = None) -> Draws:
        """Turn draw by draw: toward the reference's mean, else onto each other and to principal axes."""
        turned, rest = draws["loadings"].tensor_split([self.dimension], -1)
        sites = {**sites, "loadings": ("contrast", self.dim)}
        result = super().align(Draws({**draws, "loadings": turned}), sites, reference)
        return Draws({**result, "loadings": torch.cat([result["loadings"], rest], -1)})

    def orbit(self, values: Values, sites: Sites) -> tuple[int, float]:
        """Return dimension and log volume of the orbit of all turns."""
        matrix = self._matrices({site: value.unsqueeze(0) for site, value in values.items()}, sites)[0]
        return log_orbit(matrix.mT @ matrix)
