"""Factor analysis of categorical data: its Pyro program and the functions of its draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError, NotApplicable, SettingError
from pyrozoo.data.survey import Survey
from pyrozoo.models.categorical_fa.distributions import Answers, InverseWishart, Rows
from pyrozoo.models.categorical_fa.layout import Layout
from pyrozoo.models.categorical_fa.marginals import log_evidence_of_rows

LARGEST_START = 0.5
"""Standard deviation of loadings at the start: small enough for every row to be undecided."""


@dataclass(frozen=True)
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

    latent_dimension: int
    loadings: Literal["free", "fixed"]
    fixed_loadings: Sequence[Any] | None
    intercepts: bool
    hidden_units: int
    loading_scale: float
    intercept_scale: float
    mean_scale: float
    covariance_degrees: float
    covariance_scale: float
    sum_out_latent: bool

    def __post_init__(self) -> None:
        for name, least in (("latent_dimension", 1), ("hidden_units", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise SettingError(f"model.{name} is {value!r}; it must be a whole number >= {least}")
        if self.loadings not in ("free", "fixed"):
            raise SettingError(f"model.loadings is {self.loadings!r}; it must be free or fixed")
        scales = ("loading_scale", "intercept_scale", "mean_scale", "covariance_degrees", "covariance_scale")
        for name in scales:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise SettingError(f"model.{name} is {value!r}; it must be a positive number")
        if self.loadings == "free" and self.fixed_loadings is not None:
            raise SettingError("model.fixed_loadings needs model.loadings=fixed")
        if self.loadings == "fixed" and self.hidden_units:
            raise SettingError("model.hidden_units needs model.loadings=free: hidden units have loadings of their own")
        if self.fixed_loadings is not None:
            object.__setattr__(self, "fixed_loadings", self._frozen_loadings())

    def _frozen_loadings(self) -> tuple[Any, ...]:
        given = self.fixed_loadings
        assert given is not None
        depth, at = 0, given
        while isinstance(at, list | tuple) and len(at):
            depth, at = depth + 1, at[0]
        wrong = (
            f"model.fixed_loadings must be rows of {self.latent_dimension} finite numbers, or a list of such per item"
        )
        if depth not in (2, 3):
            raise SettingError(wrong)
        rows = [row for item in given for row in item] if depth == 3 else list(given)
        for row in rows:
            numbers = isinstance(row, list | tuple) and all(isinstance(v, int | float) and abs(v) < 1e6 for v in row)
            if not numbers or len(row) != self.latent_dimension:
                raise SettingError(wrong)
        return tuple(tuple(tuple(each) if depth == 3 else each for each in row) for row in given)

    @property
    def exchangeable(self) -> bool:
        """Whether all items share stated loadings, so that a row is how often it chose each category."""
        shared = self.fixed_loadings is None or not isinstance(self.fixed_loadings[0][0], tuple)
        return self.loadings == "fixed" and not self.intercepts and shared

    def refuse_hidden(self, method: str, reason: str) -> None:
        """Raise NotApplicable when there are hidden units, naming a method that cannot do with them."""
        if self.hidden_units:
            raise NotApplicable(f"{method} cannot have model.hidden_units={self.hidden_units}: {reason}")

    @property
    def width(self) -> int:
        """Return E, the number of features of z that have loadings."""
        return self.latent_dimension + self.hidden_units

    def stated_loadings(self, sizes: Sequence[int]) -> list[list[float]]:
        """Return stated loadings of all categories of items of these numbers of categories, one row per category."""
        d = self.latent_dimension
        if self.fixed_loadings is None:
            identity = [[float(i == j) for j in range(d)] for i in range(d)] + [[0.0] * d]
            return identity * len(sizes)
        if isinstance(self.fixed_loadings[0][0], tuple):
            return [list(row) for item in self.fixed_loadings for row in item]
        return [list(row) for _ in sizes for row in self.fixed_loadings]

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
        covariance = draws.get("latent_covariance", torch.eye(d, dtype=like.dtype, device=like.device))
        prior = dist.MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(covariance))
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-1):
            if not self.sum_out_latent:
                z = pyro.sample("latent", prior)
                pyro.sample("answers", self.answers(draws, data, z), obs=data.filled)
                return

            def draw() -> Tensor:
                return self.answers(draws, data, prior.sample(torch.Size([N]))).sample()

            def log_density(value: Tensor) -> Tensor:
                shown = torch.where(data.observed, value, torch.nan)
                return log_evidence_of_rows(self, draws, data, shown)

            pyro.sample("answers", Rows(draw, log_density, data.shape), obs=data.filled)

    @property
    def covariance_prior(self) -> tuple[float, float]:
        """Return nu and psi of Sigma ~ IW(nu, psi I)."""
        return self.latent_dimension + 1 + self.covariance_degrees, self.covariance_degrees * self.covariance_scale

    def answers(self, draws: Mapping[str, Tensor], data: Survey, z: Float[Tensor, "N d"]) -> Any:
        """Return the distribution of answers given the latent vectors, as the docstring states it."""
        sizes = data.categories
        last = torch.tensor([k == size - 1 for size in sizes for k in range(size)], device=z.device)
        eta = z
        if self.hidden_units:
            eta = torch.cat([z, torch.tanh(z @ draws["hidden_weights"].mT + draws["hidden_biases"])], -1)
        if self.loadings == "free":
            free = eta @ draws["loadings"].mT
            logits = eta.new_zeros(*free.shape[:-1], len(last)).index_copy(-1, (~last).nonzero().flatten(), free)
        else:
            stated = self.stated_loadings(sizes[:1] if self.exchangeable else sizes)
            logits = eta @ eta.new_tensor(stated).mT
        if self.intercepts:
            place = (~last).nonzero().flatten()
            logits = logits.index_add(-1, place, draws["intercepts"].expand(*logits.shape[:-1], -1))
        return Answers(logits, data.observed, sizes)

    def _check_stated(self, data: Survey) -> None:
        stated = self.fixed_loadings
        wanted = [self.latent_dimension + 1] * data.shape[1]
        if stated is not None and isinstance(stated[0][0], tuple):
            if len(stated) != data.shape[1]:
                raise DataError(f"{data.name}: model.fixed_loadings are for {len(stated)} items, not {data.shape[1]}")
            wanted = [len(item) for item in stated]
        elif stated is not None:
            wanted = [len(stated)] * data.shape[1]
        for label, size, there in zip(data.column_labels, data.categories, wanted, strict=True):
            if size != there:
                raise DataError(
                    f"{data.name}: column {label!r} has {size} categories; the fixed loadings are for {there}"
                )

    def initial_for(self, layout: Layout, like: Tensor, chains: int) -> Values:
        """Return starting values for answers in their layout."""
        d, H, device = self.latent_dimension, self.hidden_units, like.device

        def normal(*shape: int) -> Tensor:
            return torch.randn(chains, *shape, dtype=like.dtype, device=device)

        counts = layout.totals()[0]
        # Half an answer more for each category, so that none has probability zero.
        share = [part.squeeze(0) for part in layout.by_item((counts + 0.5).log().unsqueeze(0))]
        against_last = torch.cat([(part - part[:, -1:]).flatten() for part in share])[layout.free]
        eye = torch.eye(d, dtype=like.dtype, device=device)
        scales = self.covariance_scale * eye
        start = {
            "loadings": lambda: LARGEST_START * min(1.0, self.loading_scale) * normal(len(layout.free), self.width),
            "intercepts": lambda: against_last + 0.1 * min(1.0, self.intercept_scale) * normal(len(layout.free)),
            "latent_mean": lambda: 0.1 * min(1.0, self.mean_scale) * normal(d),
            "latent_covariance": lambda: scales * (0.3 * normal(1, 1)).exp(),
            "hidden_weights": lambda: normal(H, d),
            "hidden_biases": lambda: normal(H),
        }
        return {site: start[site]() for site in self.sites}

    def _rotated(self, draws: Values) -> Float[Tensor, "S R d"]:
        """Return what a rotation of the latent vector turns, as rows of a matrix."""
        d = self.latent_dimension
        parts = [draws["loadings"].flatten(0, 1)[..., :d]]
        if self.hidden_units:
            parts.append(draws["hidden_weights"].flatten(0, 1))
        if not self.intercepts:
            parts.append(draws["latent_mean"].flatten(0, 1).unsqueeze(1))
        return torch.cat(parts, 1)
