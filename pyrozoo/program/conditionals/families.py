"""Families of conditionals: what the derivatives of a log density say of their parameters, and what they are then.

Every family's parameters are an offset plus a sum of contributions, one of each site that the element has to do with:
what the site's log density adds to the coefficients of the sufficient statistics. ``read`` finds the contributions from
gradients at a few points, ``slope`` says what gradients they imply at others.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma, InverseGamma, MultivariateNormal, Normal, constraints

from pyrozoo.math import designs

Parameters = tuple[Tensor, ...]


class Family(abc.ABC):
    """A family of distributions over one element of a site.

    Attributes:
        name: Its name.
        parameters: Names of its parameters.
        event: How many dimensions one element has.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]]
    event: ClassVar[int] = 0

    @abc.abstractmethod
    def offset(self, size: int) -> tuple[float, ...]:
        """Return what its parameters are where no site contributes; an element has so many numbers along an axis."""

    @staticmethod
    @abc.abstractmethod
    def fits(support: Any) -> bool:
        """Return whether a support is that of the family."""

    @abc.abstractmethod
    def points(self, value: Tensor) -> Tensor:
        """Return what values the elements take for ``read``, [point, *value], near a value."""

    @abc.abstractmethod
    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """Return the contributions of a log density, given its gradients at the points, [point, ...]."""

    @abc.abstractmethod
    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the gradient that contributions imply, up to a factor of the point's, and the size of its parts."""

    @abc.abstractmethod
    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """Return a gradient times that factor."""

    @abc.abstractmethod
    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """Return the distribution."""

    @abc.abstractmethod
    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return where the density is highest; not a number where that is nowhere inside of the support."""

    @abc.abstractmethod
    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density that contributions imply, but for a constant, and the size of its parts."""

    @abc.abstractmethod
    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return values of one weight, whose mean statistics are the expected ones, [node, *batch, *event].

        See ``math/designs.py``.
        """

    @abc.abstractmethod
    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return the entropy of every element, [*batch]."""

    def inside(self, value: Tensor) -> Tensor:
        """Return a draw that rounding has put on the edge of its support just inside of it."""
        return value

    def draw(self, parameters: Sequence[Tensor]) -> Tensor:
        """Draw a value of every element, from torch's global generator."""
        return self.inside(self.distribution(parameters).sample())

    def log_prob(self, value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Return log densities, [*batch]."""
        found: Tensor = self.distribution(parameters).log_prob(value)
        return found

    def together(self, contributions: Sequence[Sequence[Tensor]], size: int) -> Parameters:
        """Return the parameters: the offset and all contributions."""
        parts = zip(*contributions, strict=True)
        return tuple(sum(each[1:], each[0] + at) for each, at in zip(parts, self.offset(size), strict=True))


class NormalFamily(Family):
    """Normal, by precision and precision times mean; elements are coupled in blocks of the last dimension."""

    name, parameters, event = "Normal", ("precision", "weighted"), 1

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return 0.0, 0.0

    @staticmethod
    def fits(support: Any) -> bool:
        """Real numbers."""
        return support is constraints.real or type(support).__name__ == "_Real"

    def points(self, value: Tensor) -> Tensor:
        """A value, and others along each axis."""
        size = value.shape[-1]
        eye = torch.eye(size, dtype=value.dtype, device=value.device)
        steps = torch.cat([eye.new_zeros(1, size), eye])
        return value + steps.reshape(size + 1, *[1] * (value.ndim - 1), size)

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """g(x) = h - L x: differences of gradients are columns of L."""
        precision = (gradients[0] - gradients[1:]).movedim(0, -1)
        weighted = gradients[0] + (precision @ points[0].unsqueeze(-1)).squeeze(-1)
        return precision, weighted

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """H - L x."""
        precision, weighted = contributions
        found = weighted - (precision @ point.unsqueeze(-1)).squeeze(-1)
        return found, weighted.abs() + (precision.abs() @ point.abs().unsqueeze(-1)).squeeze(-1)

    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """As it is."""
        return gradient

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        precision, weighted = contributions
        first = (weighted * point).sum(-1)
        second = 0.5 * (point * (precision @ point.unsqueeze(-1)).squeeze(-1)).sum(-1)
        return first - second, first.abs() + second.abs()

    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Corners of a simplex around the mean: with L = C C^T the covariance is C^-T C^-1."""
        precision, weighted = parameters
        if precision.shape[-1] == 1:
            return designs.normal(weighted / precision[..., 0], precision.rsqrt())
        factor = torch.linalg.cholesky(_symmetric(precision))
        mean = torch.cholesky_solve(weighted.unsqueeze(-1), factor).squeeze(-1)
        eye = torch.eye(precision.shape[-1], dtype=mean.dtype, device=mean.device)
        return designs.normal(mean, torch.linalg.solve_triangular(factor.mT, eye, upper=True))

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """Of its precision's determinant."""
        precision = parameters[0]
        return 0.5 * (precision.shape[-1] * (1 + math.log(2 * math.pi)) - torch.logdet(_symmetric(precision)))

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """Normal(L^-1 h, L^-1)."""
        precision, weighted = parameters
        if precision.shape[-1] == 1:
            variance = 1 / precision[..., 0]
            return torch.distributions.Independent(
                Normal(weighted * variance, variance.sqrt(), validate_args=False), 1, validate_args=False
            )
        return MultivariateNormal(self.mode(parameters), precision_matrix=_symmetric(precision), validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """L^-1 h."""
        precision, weighted = parameters
        if precision.shape[-1] == 1:
            return weighted / precision[..., 0]
        return torch.cholesky_solve(
            weighted.unsqueeze(-1), torch.linalg.cholesky(_symmetric(precision))
        ).squeeze(-1)  # fmt: skip

    def draw(self, parameters: Sequence[Tensor]) -> Tensor:
        """L^-1 h and noise: with C C' = L, C'^-1 (C^-1 h + e)."""
        precision, weighted = parameters
        noise = torch.randn_like(weighted)
        if precision.shape[-1] == 1:
            variance = 1 / precision[..., 0]
            return torch.addcmul(weighted * variance, noise, variance.sqrt())
        root = torch.linalg.cholesky(_symmetric(precision))
        half = torch.linalg.solve_triangular(root, weighted.unsqueeze(-1), upper=False) + noise.unsqueeze(-1)
        return torch.linalg.solve_triangular(root.mT, half, upper=True).squeeze(-1)


class GammaFamily(Family):
    """Gamma, by shape and rate: (shape - 1) log x - rate x."""

    name, parameters = "Gamma", ("shape", "rate")
    power: ClassVar[int] = 1

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return 1.0, 0.0

    @staticmethod
    def fits(support: Any) -> bool:
        """Positive numbers."""
        return _ends(support) == (0.0, None)

    def points(self, value: Tensor) -> Tensor:
        """Less and more than a value and than 1: where a value is tiny, two near it differ by nothing but rounding."""
        return torch.stack([0.5 * value.clamp(max=1.0), 2 * value.clamp(min=1.0)])

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """X g(x) = a - b x at two points; a is read where x is less."""
        (x, y), (at_x, at_y) = points.pow(self.power), points * gradients
        rate = (at_x - at_y) / (y - x)
        return (at_x + rate * x if self.power == 1 else at_y + rate * y), rate

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """X g(x) = a - b x."""
        first, second = contributions
        moved = second * point.pow(self.power)
        return first - moved, first.abs() + moved.abs()

    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """X g(x)."""
        return point * gradient

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        first, second = contributions
        parts = first * point.log(), second * point.pow(self.power)
        return parts[0] - parts[1], parts[0].abs() + parts[1].abs()

    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Two numbers."""
        return (designs.gamma if self.power == 1 else designs.inverse_gamma)(*parameters)

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """That of torch."""
        return Gamma(parameters[0], parameters[1], validate_args=False).entropy()

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """Gamma(shape, rate)."""
        return Gamma(parameters[0], parameters[1], validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """(shape - 1) / rate."""
        shape, rate = parameters
        return torch.where(shape >= 1, (shape - 1) / rate, torch.nan)

    def inside(self, value: Tensor) -> Tensor:
        """Above 0."""
        return value.clamp(min=torch.finfo(value.dtype).tiny)


class InverseGammaFamily(GammaFamily):
    """Inverse gamma, by shape and scale: -(shape + 1) log x - scale / x."""

    name, parameters, power = "InverseGamma", ("shape", "scale"), -1

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return -1.0, 0.0

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """X g(x) = -(a + 1) + b / x at two points."""
        first, second = super().read(points, gradients)
        return -first, -second

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """X g(x) = -(a + 1) + b / x."""
        return super().slope(point, [-each for each in contributions])

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        return super().energy(point, [-contributions[0], contributions[1]])

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """A + log b + log Gamma(a) - (1 + a) digamma(a)."""
        shape, scale = parameters
        return shape + scale.log() + torch.lgamma(shape) - (1 + shape) * torch.digamma(shape)

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """InverseGamma(shape, scale)."""
        return InverseGamma(parameters[0], parameters[1], validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """Scale / (shape + 1)."""
        shape, scale = parameters
        return scale / (shape + 1)


class BetaFamily(Family):
    """Beta: (alpha - 1) log x + (beta - 1) log(1 - x)."""

    name, parameters = "Beta", ("alpha", "beta")

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return 1.0, 1.0

    @staticmethod
    def fits(support: Any) -> bool:
        """Numbers between 0 and 1."""
        return _ends(support) == (0.0, 1.0)

    def points(self, value: Tensor) -> Tensor:
        """A third and two thirds: the design is the same everywhere."""
        return torch.stack([torch.full_like(value, 1 / 3), torch.full_like(value, 2 / 3)])

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """X (1 - x) g(x) = a (1 - x) - b x at two points."""
        (x, y), (at_x, at_y) = points, self.scaled(points, gradients)
        total = (at_x - at_y) / (y - x)
        first = at_x + total * x
        return first, total - first

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """X (1 - x) g(x) = a (1 - x) - b x."""
        first, second = contributions
        parts = first * (1 - point), second * point
        return parts[0] - parts[1], parts[0].abs() + parts[1].abs()

    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """X (1 - x) g(x)."""
        return point * (1 - point) * gradient

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        parts = contributions[0] * point.log(), contributions[1] * torch.log1p(-point)
        return parts[0] + parts[1], parts[0].abs() + parts[1].abs()

    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Two numbers."""
        return designs.beta(*parameters)

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """That of torch."""
        return Beta(parameters[0], parameters[1], validate_args=False).entropy()

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """Beta(alpha, beta)."""
        return Beta(parameters[0], parameters[1], validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """(alpha - 1) / (alpha + beta - 2)."""
        a, b = (each - 1 for each in parameters)
        flat = (a == 0) & (b == 0)  # every point is as good
        return torch.where((a >= 0) & (b >= 0), torch.where(flat, 0.5, a / (a + b)), torch.nan)

    def inside(self, value: Tensor) -> Tensor:
        """Above 0 and below 1."""
        return value.clamp(torch.finfo(value.dtype).tiny, 1 - torch.finfo(value.dtype).eps / 2)


class DirichletFamily(Family):
    """Dirichlet: sum_k (concentration_k - 1) log x_k."""

    name, parameters, event = "Dirichlet", ("concentration",), 1

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return (1.0,)

    @staticmethod
    def fits(support: Any) -> bool:
        """Probabilities that add up to 1."""
        return support is constraints.simplex

    def points(self, value: Tensor) -> Tensor:
        """Equal probabilities, and rising ones."""
        size = value.shape[-1]
        rising = torch.arange(1, size + 1, dtype=value.dtype, device=value.device)
        both = torch.stack([torch.full_like(rising, 1 / size), rising / rising.sum()])
        return both.reshape(2, *[1] * (value.ndim - 1), size).expand(2, *value.shape)

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """x_k (g_k - sum_j x_j g_j) = c_k - x_k C, C the sum of all c, at two points."""
        (x, y), (at_x, at_y) = points, self.scaled(points, gradients)
        apart = y - x
        total = ((at_x - at_y) * apart).sum(-1, keepdim=True) / apart.square().sum(-1, keepdim=True).clamp(min=1e-300)
        return (at_x + x * total,)

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """c_k - x_k C."""
        (c,) = contributions
        return c - point * c.sum(-1, keepdim=True), c.abs() + point * c.abs().sum(-1, keepdim=True)

    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """What is left along the simplex: x_k (g_k - sum_j x_j g_j)."""
        return point * (gradient - (point * gradient).sum(-1, keepdim=True))

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        parts = contributions[0] * point.log()
        return parts.sum(-1), parts.abs().sum(-1)

    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Two vectors."""
        return designs.dirichlet(parameters[0])

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """That of torch."""
        return Dirichlet(parameters[0], validate_args=False).entropy()

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """Dirichlet(concentration)."""
        return Dirichlet(parameters[0], validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """Proportional to concentration - 1."""
        less = parameters[0] - 1
        total = less.sum(-1, keepdim=True)
        found = torch.where(total > 0, less / total, 1 / less.shape[-1])
        return torch.where((less >= 0).all(-1, keepdim=True), found, torch.nan)

    def inside(self, value: Tensor) -> Tensor:
        """All above 0."""
        value = value.clamp(min=torch.finfo(value.dtype).tiny)
        return value / value.sum(-1, keepdim=True)


class WishartFamily(Family):
    """Wishart: (degrees - n - 1) / 2 log |X| - tr(inverse_scale X) / 2."""

    name, parameters, event = "Wishart", ("degrees", "inverse_scale"), 2

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return size + 1.0, 0.0

    @staticmethod
    def fits(support: Any) -> bool:
        """Positive definite matrices, by whatever name."""
        if support is constraints.positive_definite:
            return True
        if getattr(support, "event_dim", 0) != 2 or getattr(support, "is_discrete", False):
            return False
        good, bad = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([[1.0, 2.0], [2.0, 1.0]])
        try:
            return bool(support.check(good).all()) and not bool(support.check(bad).any() | support.check(-good).any())
        except (RuntimeError, ValueError, NotImplementedError):
            return False

    def points(self, value: Tensor) -> Tensor:
        """A matrix, and one of another shape."""
        size = value.shape[-1]
        ramp = torch.arange(1, size + 1, dtype=value.dtype, device=value.device).sqrt()
        return torch.stack([value, 1.5 * value * ramp.unsqueeze(-1) * ramp])

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """S = a X^-1 - B at two points, S the symmetric gradient; a = degrees / 2, B = inverse_scale / 2."""
        (x, y), (at_x, at_y) = points.inverse(), _symmetric(gradients)
        degrees = ((at_x - at_y) * (x - y)).sum((-2, -1)) / (x - y).square().sum((-2, -1))
        return 2 * degrees, 2 * (degrees[..., None, None] * x - at_x)

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """A X^-1 - B."""
        degrees, scale = contributions
        first, second = 0.5 * degrees[..., None, None] * point.inverse(), 0.5 * scale
        return first - second, _size(first) + _size(second)

    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """The symmetric part."""
        return _symmetric(gradient)

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        degrees, scale = contributions
        first, second = 0.5 * degrees * torch.logdet(point), 0.5 * (scale * point).sum((-2, -1))
        return first - second, first.abs() + second.abs()

    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Two matrices."""
        return designs.wishart(parameters[0], _symmetric(parameters[1]))

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """That of torch."""
        return self.distribution(parameters).entropy()

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """Wishart(degrees, inverse_scale^-1)."""
        from torch.distributions import Wishart

        degrees, inverse = parameters
        return Wishart(degrees, precision_matrix=_symmetric(inverse), validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """(degrees - n - 1) inverse_scale^-1."""
        degrees, inverse = parameters
        more = degrees - inverse.shape[-1] - 1
        return torch.where(more > 0, more, torch.nan)[..., None, None] * _symmetric(inverse).inverse()

    def draw(self, parameters: Sequence[Tensor]) -> Tensor:
        """Bartlett's decomposition: C A A' C' with C C' the scale, A lower triangular, of roots of chi squares."""
        degrees, inverse = parameters
        size = inverse.shape[-1]
        root = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(_symmetric(inverse))))
        place = torch.arange(size, dtype=degrees.dtype, device=degrees.device)
        chi = 2 * torch._standard_gamma(0.5 * (degrees.unsqueeze(-1) - place))
        A = torch.randn_like(inverse).tril(-1) + torch.diag_embed(chi.sqrt())
        half = root @ A
        return half @ half.mT


class InverseWishartFamily(WishartFamily):
    """Inverse Wishart: -(degrees + n + 1) / 2 log |X| - tr(scale X^-1) / 2."""

    name, parameters = "InverseWishart", ("degrees", "scale")

    def offset(self, size: int) -> tuple[float, ...]:
        """Return what stands beside the contributions."""
        return -size - 1.0, 0.0

    def read(self, points: Tensor, gradients: Tensor) -> Parameters:
        """X S X = -a X + B at two points."""
        (x, y), (at_x, at_y) = points, points @ _symmetric(gradients) @ points
        degrees = -((at_x - at_y) * (x - y)).sum((-2, -1)) / (x - y).square().sum((-2, -1))
        return 2 * degrees, 2 * (degrees[..., None, None] * x + at_x)

    def slope(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """-a X + B."""
        degrees, scale = contributions
        first, second = -0.5 * degrees[..., None, None] * point, 0.5 * scale
        return first + second, _size(first) + _size(second)

    def scaled(self, point: Tensor, gradient: Tensor) -> Tensor:
        """X S X."""
        return point @ _symmetric(gradient) @ point

    def energy(self, point: Tensor, contributions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the log density, but for a constant."""
        return super().energy(point.inverse(), contributions)

    def nodes(self, parameters: Sequence[Tensor]) -> Tensor:
        """Inverses of those of the Wishart."""
        return super().nodes(parameters).inverse()

    def entropy(self, parameters: Sequence[Tensor]) -> Tensor:
        """That of the Wishart of the inverse, and of the change of variables: (n + 1) E log |X|."""
        degrees, scale = parameters
        size = scale.shape[-1]
        place = torch.arange(size, dtype=degrees.dtype, device=degrees.device)
        log = torch.digamma(0.5 * (degrees.unsqueeze(-1) - place)).sum(-1) + size * math.log(2)
        return super().entropy(parameters) - (size + 1) * (log - torch.logdet(_symmetric(scale)))

    def log_prob(self, value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """That of the inverse, and of the change of variables."""
        return super().log_prob(value.inverse(), parameters) - (value.shape[-1] + 1) * torch.logdet(value)

    def distribution(self, parameters: Sequence[Tensor]) -> Any:
        """The Wishart of the inverse."""
        from torch.distributions import Wishart

        degrees, scale = parameters
        return Wishart(degrees, precision_matrix=_symmetric(scale), validate_args=False)

    def mode(self, parameters: Sequence[Tensor]) -> Tensor:
        """Scale / (degrees + n + 1)."""
        degrees, scale = parameters
        return _symmetric(scale) / (degrees + scale.shape[-1] + 1)[..., None, None]

    def draw(self, parameters: Sequence[Tensor]) -> Tensor:
        """The inverse of a Wishart's draw."""
        return torch.cholesky_inverse(torch.linalg.cholesky(super().draw(parameters)))


FAMILIES: tuple[Family, ...] = (
    NormalFamily(), GammaFamily(), InverseGammaFamily(), BetaFamily(), DirichletFamily(), WishartFamily(),
    InverseWishartFamily(),
)  # fmt: skip
"""All of them; a support may have several."""


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)


def _size(matrix: Tensor) -> Tensor:
    return matrix.abs().amax((-2, -1), keepdim=True)


def _ends(support: Any) -> tuple[float | None, ...]:
    """Return where a continuous support begins and ends; None: nowhere, or not in one place."""
    if getattr(support, "is_discrete", False):
        return None, None
    ends = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    sets = [None if end is None else {float(each) for each in torch.as_tensor(end).flatten()} for end in ends]
    return tuple(None if each is None or len(each) > 1 else each.pop() for each in sets)
