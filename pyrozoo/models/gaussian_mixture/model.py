"""The Gaussian mixture: its hyper-parameters and its Pyro program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import constraints

from pyrozoo.contracts.model import Derived, Model
from pyrozoo.contracts.symmetry import Relabel
from pyrozoo.core.draws import Values
from pyrozoo.core.settings import one_of, positive, stated, whole
from pyrozoo.data.table import Table
from pyrozoo.math.moments import column_moments
from pyrozoo.program.covariances import InverseWisharts
from pyrozoo.program.stick_breaking import StickBreaking
from pyrozoo.program.whole import Whole


@dataclass(frozen=True)
class GaussianMixture(Model):
    r"""Mixture of Gaussians.

    Story, for rows i = 1..N, columns d = 1..D, components k = 1..K::

        weights     pi       ~ Dirichlet(concentration, ...), or
                               v_k ~ Beta(1, concentration), pi_k = v_k prod_{j < k} (1 - v_j), v_K = 1   [component]
        covariance  Sigma_k  ~ InverseWishart(nu0 + D - 1, nu0 diag(s^2))                [component, column, column]
        mean        mu_k     ~ N(m0, Sigma_k / kappa0)                                   [component, column]
        assignment  z_i      ~ Categorical(pi)                                           [row]
        values      x_i      ~ N(mu_{z_i}, Sigma_{z_i})                                  [row, column]

    ``tied``: one Sigma for all. ``diagonal``: variances sigma_kd^2 ~ scaled inverse chi^2(nu0, s_d^2), and
    ``spherical``: one sigma_k^2 ~ scaled inverse chi^2(nu0, mean of s^2). Whatever the type, the prior of the variance
    of a cell is that of ``diagonal``, with s^2 averaged where it is spherical. A missing value is summed out. The
    priors' scale is that of Fraley and Raftery 2007, J. Classification 24, section 3.2, column by column.

    Attributes:
        num_components: K, at least 1; with ``stick_breaking`` where the process is cut (Ishwaran and James 2001, JASA).
        covariance_type: Shape of clusters.
        weight_prior: ``dirichlet``, or ``stick_breaking``: a Dirichlet process.
        concentration: Of either, positive.
        location: m0, one number or D; None: the observed means of the columns.
        mean_precision: kappa0, positive: how many rows the prior of a mean is worth.
        scale: s, positive, one number or D; None: from the sds of the columns.
        degrees: nu0, positive: how many rows the prior of a variance is worth.
    """

    without_data: ClassVar[Mapping[str, float]] = {"location": 0.0, "scale": 1.0}

    num_components: int = whole()
    covariance_type: str = one_of("full", "tied", "diagonal", "spherical")
    weight_prior: str = one_of("dirichlet", "stick_breaking")
    concentration: float = positive()
    location: float | Sequence[float] | None = stated()
    mean_precision: float = positive()
    scale: Any = positive(optional=True, many=True)
    degrees: float = positive()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.location, list):
            object.__setattr__(self, "location", tuple(self.location))

    def from_data(self, data: Table) -> Mapping[str, Derived]:
        """Return m0 and s in the units of the columns: their means, and a share of their sds."""
        mean, variance, _ = column_moments(data.values.double())
        # A column that does not vary, but for rounding, has no scale of its own.
        sds = tuple(variance.where(variance > 1e-20 * mean.square(), 1.0).sqrt().tolist())
        share = 1 / (math.sqrt(self.degrees) * self.num_components ** (1 / len(sds)))
        return {
            "location": Derived(tuple(mean.tolist()), "the columns' means", sds),
            "scale": Derived(
                tuple(share * sd for sd in sds), "the columns' sds / (sqrt(degrees) num_components^(1 / columns))"
            ),
        }

    @property
    def matrices(self) -> bool:
        """Whether covariances are matrices, rather than variances."""
        return self.covariance_type in ("full", "tied")

    @property
    def symmetry(self) -> Relabel:
        """Components can be exchanged."""
        return Relabel("component", self._features, "weights")

    def variances(self, covariance: Tensor) -> Tensor:
        """Return the variances of columns that covariances hold, [..., K, D], or [..., 1, D] of all components."""
        if self.matrices:
            covariance = covariance.diagonal(dim1=-2, dim2=-1)
        alone = {"tied": -2, "spherical": -1}.get(self.covariance_type)
        return covariance if alone is None else covariance.unsqueeze(alone)

    def _features(self, flat: Values) -> Float[Tensor, "S K P"]:
        """Return means and logarithms of sds in units of all rows', times square roots of weights, and these.

        A component that has no rows is anywhere, and must not take another's name.
        """
        mean, share = flat["mean"], flat["weights"].unsqueeze(-1)
        logs = 0.5 * self.variances(flat["covariance"]).log().expand_as(mean)
        centre = (share * mean).sum(1, keepdim=True).mean(0)
        unit = (share * ((mean - centre).square() + (2 * logs).exp())).sum(1).log().mean(0) / 2
        return share.sqrt() * torch.cat([(mean - centre) / unit.exp(), logs - unit, torch.ones_like(share)], -1)

    def weights(self, like: Tensor) -> StickBreaking:
        """Return the prior of the weights."""
        K = self.num_components
        if self.weight_prior == "dirichlet":
            return StickBreaking.dirichlet(like.new_full((K,), self.concentration))
        return StickBreaking(like.new_ones(K - 1), like.new_full((K - 1,), self.concentration))

    def spread(self, like: Tensor, D: int) -> Tensor:
        """Return what the prior adds to sums of squares: [D, D], of ``diagonal`` [D], of ``spherical`` []."""
        squares = self.degrees * like.new_tensor(self.scale).square().expand(D)
        return {"diagonal": squares, "spherical": squares.mean()}.get(self.covariance_type, squares.diag())

    def __call__(self, data: Table) -> None:
        """Run the program. Rows may be a minibatch; the assignment is enumerated."""
        like, (N, D) = data.values, data.shape
        number = like.new_tensor
        if self.weight_prior == "dirichlet":
            pi = pyro.sample("weights", dist.Dirichlet(like.new_full((self.num_components,), self.concentration)))
        else:
            pi = pyro.sample("weights", self.weights(like))
        prior = number(self.location).expand(D), number(self.mean_precision), number(self.degrees), self.spread(like, D)
        mean, covariance = sample_components(self, *prior)
        with pyro.plate("row", data.total_rows or N, subsample=torch.arange(N, device=like.device), dim=-1):
            z = pyro.sample("assignment", dist.Categorical(pi), infer={"enumerate": "parallel"})
            pyro.sample("values", Rows(mean[z], covariance[z], data.observed), obs=data.filled)


def sample_components(
    model: GaussianMixture, location: Tensor, precision: Tensor, degrees: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample the sites ``covariance`` and ``mean`` in their plates, in the program and in guides of its shape.

    Args:
        model: The model.
        location: Of the means, [D] or [K, D].
        precision: kappa: one, of each component [K, 1] or, of variances, of each column, too, [K, D].
        degrees: nu, beside the dimensions that a matrix adds to it.
        spread: Psi of matrices, or nu s^2 of variances.

    Returns:
        Means [K, D], and matrices [K, D, D] or variances [K, D] of all components.
    """
    K, D, plate = model.num_components, location.shape[-1], pyro.plate("component", model.num_components, dim=-1)
    if model.matrices:
        prior: Any = InverseWisharts(degrees + (D - 1), spread)
    else:
        prior = dist.InverseGamma(degrees / 2, spread / 2)
        prior = prior.to_event(1) if model.covariance_type == "diagonal" else prior
    if model.covariance_type == "tied":
        covariance = pyro.sample("covariance", prior).expand(K, D, D)
    else:
        with plate:
            covariance = pyro.sample("covariance", prior)
    if model.covariance_type == "spherical":
        covariance = covariance.unsqueeze(-1).expand(K, D)
    root = precision.sqrt()
    with plate:
        if model.matrices:
            factor = torch.linalg.cholesky_ex(covariance)[0] / root[..., None]
            normal: Any = dist.MultivariateNormal(location, scale_tril=factor, validate_args=False)
        else:
            normal = dist.Normal(location, covariance.sqrt() / root, validate_args=False).to_event(1)
        return pyro.sample("mean", normal), covariance


class Rows(Whole):
    """x_i ~ N(mean_i, covariance_i), of which only the observed entries count in ``log_prob``.

    N x D x D numbers when something is missing: for programs and tests; solvers do without.

    Args:
        mean: Of every row, or of every component and the same for all rows.
        covariance: Matrices [*batch, D, D], or variances [*batch, D].
        observed: Which entries have a value.
    """

    support = constraints.real_vector

    def __init__(self, mean: Float[Tensor, "*batch D"], covariance: Tensor, observed: Bool[Tensor, "N D"]):
        self.mean_, self.covariance, self.observed = mean, covariance, observed
        super().__init__(torch.broadcast_shapes(mean.shape[:-1], observed.shape[:-1]), observed.shape[-1:])

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw whole rows."""
        noise = torch.randn(*sample_shape, *self.batch_shape, *self.event_shape).to(self.mean_)
        if self.covariance.ndim == self.mean_.ndim:
            return self.mean_ + self.covariance.sqrt() * noise
        factor = torch.linalg.cholesky(self.covariance)
        return self.mean_ + (factor @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Float[Tensor, "N D"]) -> Tensor:
        """Return the log density of the observed entries of every row."""
        mean, covariance, seen = self.mean_, self.covariance, self.observed
        if covariance.ndim == mean.ndim:
            return torch.where(seen, dist.Normal(mean, covariance.sqrt()).log_prob(value), 0.0).sum(-1)
        if not seen.all():
            # An entry alone, at its mean, with variance 1 / 2 pi, has log density 0.
            mean, value = torch.where(seen, mean, 0.0), torch.where(seen, value, 0.0)
            covariance = torch.where(seen.unsqueeze(-1) & seen.unsqueeze(-2), covariance, 0.0)
            covariance = covariance + ((~seen).to(mean) / (2 * math.pi)).diag_embed()
        factor = torch.linalg.cholesky_ex(covariance)[0]
        return dist.MultivariateNormal(mean, scale_tril=factor, validate_args=False).log_prob(value)
