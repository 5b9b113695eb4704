"""Shares of a stick that is broken piece by piece, each break a Beta variable: the generalised Dirichlet."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Beta, constraints, kl_divergence

from pyrozoo.math.exponential_family import expected_log_beta


class StickBreaking(TorchDistribution):
    """w_k = v_k prod_{j < k} (1 - v_j), v_k ~ Beta(a_k, b_k), the last v being 1 (Connor and Mosimann 1969, JASA 64).

    A Dirichlet has b_k = a_(k+1) + ... + a_K, a Dirichlet process cut at K has a_k = 1 and b_k = its concentration
    (Ishwaran and James 2001, JASA 96). Counts of categories are conjugate to it (``given``).

    Args:
        on: a, [*batch, K - 1].
        rest: b, [*batch, K - 1].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, on: Tensor, rest: Tensor):
        self.on, self.rest = torch.broadcast_tensors(on, rest)
        super().__init__(self.on.shape[:-1], torch.Size([on.shape[-1] + 1]), validate_args=False)

    @classmethod
    def dirichlet(cls, concentration: Tensor) -> StickBreaking:
        """Return the Dirichlet distribution of a concentration [*batch, K]."""
        return cls(concentration[..., :-1], _after(concentration))

    def given(self, counts: Float[Tensor, "*batch K"]) -> StickBreaking:
        """Return the posterior, given how often each category was seen."""
        return StickBreaking(self.on + counts[..., :-1], self.rest + _after(counts))

    def expand(self, batch_shape: Any, _instance: Any = None) -> StickBreaking:
        """Return the same with a larger batch."""
        return StickBreaking(*(each.expand(*batch_shape, each.shape[-1]) for each in (self.on, self.rest)))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draw shares, none of them 0."""
        sticks = Beta(self.on, self.rest, validate_args=False).rsample(sample_shape)
        eps, tiny = torch.finfo(sticks.dtype).eps, torch.finfo(sticks.dtype).tiny
        sticks = sticks.clamp(tiny, 1 - eps / 2)
        logs = _shares(sticks.log(), torch.log1p(-sticks))
        return torch.softmax(logs.clamp(min=logs.new_tensor(tiny).log() / 2), -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density with respect to all shares but the last."""
        value = value.clamp(min=torch.finfo(value.dtype).tiny)  # (a - 1) log 0 is 0 where a is 1
        first, after = value[..., :-1], _after(value)
        a, b = self.on, self.rest
        powers = (a - 1) * first.log() + (b - 1) * after.log() - (a + b - 1) * (first + after).log()
        return (powers - _log_beta(a, b)).sum(-1)

    def log_marginals(self, counts: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        """Return what each stick has of log p(categories), given how often each was seen; the last has 0."""
        new = self.given(counts)
        after, before = (_log_beta(p.on, p.rest) for p in (new, self))
        return torch.cat([after - before, torch.zeros_like(counts[..., :1])], -1)

    @property
    def expected_log(self) -> Float[Tensor, "*batch K"]:
        """Return E log w_k."""
        return _shares(*expected_log_beta(self.on, self.rest))

    @property
    def log_mean(self) -> Float[Tensor, "*batch K"]:
        """Return log E w_k."""
        total = (self.on + self.rest).log()
        return _shares(self.on.log() - total, self.rest.log() - total)

    def divergence(self, other: StickBreaking) -> Float[Tensor, "*batch"]:
        """Return KL(self || other)."""
        mine, theirs = (Beta(p.on, p.rest, validate_args=False) for p in (self, other))
        return kl_divergence(mine, theirs).sum(-1)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _after(values: Float[Tensor, "*batch K"]) -> Tensor:
    """Return the sum of the values behind each but the last."""
    return values.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def _shares(log_first: Tensor, log_rest: Tensor) -> Tensor:
    """Return log of v_k prod_{j < k} (1 - v_j) of K shares, from logs of K - 1 sticks and of what they leave."""
    zero = (
        torch.zeros_like(log_first[..., :1]) if log_first.shape[-1] else log_first.new_zeros(*log_first.shape[:-1], 1)
    )
    return torch.cat([log_first, zero], -1) + torch.cat([zero, log_rest.cumsum(-1)], -1)
