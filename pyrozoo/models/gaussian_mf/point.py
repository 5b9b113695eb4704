"""A point in parameter space per chain: the state of Gibbs and of the modes, and its density."""

from __future__ import annotations

import math
from dataclasses import dataclass, make_dataclass, replace
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Values
from pyrozoo.models.gaussian_mf.likelihood import Block, Listed, Regressions, Side
from pyrozoo.models.gaussian_mf.model import GaussianMF
from pyrozoo.models.gaussian_mf.regression import Conditional, NormalWishart

SIDES: tuple[Side, Side] = ("row", "column")
OTHER: dict[Side, Side] = {"row": "column", "column": "row"}


@dataclass(frozen=True)
class Point:
    """Parameters per chain; what the model's options leave out has its fixed value."""

    row_factors: Float[Tensor, "C N K"]
    column_factors: Float[Tensor, "C M K"]
    mean: Float[Tensor, C]
    row_offsets: Float[Tensor, "C N"]
    column_offsets: Float[Tensor, "C M"]
    noise_variance: Float[Tensor, C]
    row_mean: Float[Tensor, "C K"]
    column_mean: Float[Tensor, "C K"]
    row_precision: Float[Tensor, "C K K"]
    column_precision: Float[Tensor, "C K K"]


@cache
def state_class(sites: tuple[str, ...]) -> type:
    """Return the class of states of a model: its sites per chain, and nothing else."""
    return make_dataclass("State", [(site, Tensor) for site in sites], frozen=True)


def complete(model: GaussianMF, known: Values) -> Point:
    """Add to the sites of a model what its options leave out."""
    U, V = known["row_factors"], known["column_factors"]
    chains, K = len(U), model.num_factors
    fixed = {
        "mean": U.new_zeros(chains),
        "row_offsets": U.new_zeros(()).expand(U.shape[:2]),
        "column_offsets": V.new_zeros(()).expand(V.shape[:2]),
        "noise_variance": U.new_full((chains,), model.noise_variance),
    }
    for side in SIDES:
        fixed[f"{side}_mean"] = U.new_zeros(chains, K)
        precision = torch.eye(K, dtype=U.dtype, device=U.device) / model.factor_variance(side)
        fixed[f"{side}_precision"] = precision.expand(chains, K, K)
    return Point(**{**fixed, **known})


def block(model: GaussianMF, state: Point, side: Side) -> Block:
    """Return factors and offsets of one side."""
    offsets = getattr(state, f"{side}_offsets") if model.offsets else None
    return Block.of(getattr(state, f"{side}_factors"), offsets)


def with_block(state: Point, side: Side, w: Float[Tensor, "L C n"]) -> Point:
    """Return the state with factors and offsets of one side replaced."""
    K = state.row_mean.shape[-1]
    changes = {f"{side}_factors": w[:K].permute(1, 2, 0).contiguous()}
    if len(w) > K:
        changes[f"{side}_offsets"] = w[K].contiguous()
    return replace(state, **changes)


def conditional(model: GaussianMF, listed: Listed, state: Point, side: Side) -> tuple[Conditional, Regressions]:
    """Return p(w_i | all else) of one side, and the sums that it is made of."""
    found = listed.regress(side, block(model, state, OTHER[side]))
    above = getattr(state, f"{side}_precision"), getattr(state, f"{side}_mean")
    return Conditional.of(model, found, *above, 1 / state.noise_variance, state.mean), found


def shift(model: GaussianMF, state: Point, side: Side, spread: float) -> Point:
    """Move a constant between the mean and the offsets of one side, which the likelihood does not see.

    Its conditional given all else is normal: ``spread`` 1 draws from it, 0 takes its mode. Without this move, mean and
    offsets hold each other fast.
    """
    name = f"{side}_offsets"
    offsets = getattr(state, name)
    precision = 1 / model.mean_variance + offsets.shape[1] / model.offset_variance
    centre = (offsets.sum(1) / model.offset_variance - state.mean / model.mean_variance) / precision
    by = centre + spread * precision**-0.5 * torch.randn_like(centre)
    return replace(state, mean=state.mean + by, **{name: offsets - by[:, None]})


def log_likelihood(listed: Listed, state: Point, rss: Float[Tensor, C]) -> Float[Tensor, C]:
    """Return log p(ratings | all) from the residual sum of squares."""
    s = state.noise_variance.double()
    return -0.5 * (listed.size * (2 * math.pi * s).log() + rss / s)


def squares(listed: Listed, model: GaussianMF, state: Point, found: Regressions) -> Float[Tensor, C]:
    """Return the residual sum of squares; ``found`` are the regressions of the columns on the state's rows."""
    total, first = listed.residuals(block(model, state, "row"), block(model, state, "column"), found)
    mean = state.mean.double()
    return (total - 2 * mean * first + listed.size * mean.square()).clamp(min=0) if model.offsets else total


def log_prior(model: GaussianMF, state: Point) -> Float[Tensor, C]:
    """Return log p of all sites, hand-summed in double precision; a test holds it to the Pyro program."""
    total = torch.zeros(len(state.mean), dtype=torch.float64, device=state.mean.device)
    for side in SIDES:
        away = getattr(state, f"{side}_factors") - getattr(state, f"{side}_mean").unsqueeze(1)
        precision = getattr(state, f"{side}_precision").double()
        K, n = model.num_factors, away.shape[1]
        total += 0.5 * (n * (torch.logdet(precision) - K * math.log(2 * math.pi)))
        total -= 0.5 * (precision * (away.mT @ away).double()).sum((-1, -2))
        if model.hierarchical:
            above = NormalWishart.prior(model, model.factor_variance(side), precision)
            total += above.log_prob(getattr(state, f"{side}_mean").double(), precision)
        if model.offsets:
            total += _log_normal(getattr(state, f"{side}_offsets").double(), model.offset_variance).sum(-1)
    if model.offsets:
        total += _log_normal(state.mean.double(), model.mean_variance)
    if model.learn_noise:
        a, b, s = model.noise_shape, model.noise_shape * model.noise_variance, state.noise_variance.double()
        total += a * math.log(b) - math.lgamma(a) - (a + 1) * s.log() - b / s
    return total


def _log_normal(x: Tensor, variance: float) -> Tensor:
    return -0.5 * (x.square() / variance + math.log(2 * math.pi * variance))
