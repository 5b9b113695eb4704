"""What Gibbs, EM and CAVI say of the conditionals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.updates import Step, Update
from pyrozoo.core.draws import Values
from pyrozoo.math import designs
from pyrozoo.math.linear_algebra import unpack
from pyrozoo.models.gaussian_mf import gibbs, point
from pyrozoo.models.gaussian_mf.likelihood import Side

METHODS = ("gibbs",)


def factors(side: Side) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says precision, and precision times mean, of the factors given the offsets."""

    def parameters(solver: Any, values: Values) -> Sequence[Tensor]:
        state, K = point.complete(solver.model, values), solver.model.num_factors
        found, _ = point.conditional(solver.model, solver.posterior.listed, state, side)
        precision = torch.where(
            torch.ones(len(found.precision), len(found.precision), dtype=torch.bool).tril()[..., None, None],
            found.precision, found.precision.transpose(0, 1),
        )  # fmt: skip
        pull = found.pull[:K]
        if solver.model.offsets:
            pull = pull - precision[:K, K] * getattr(state, f"{side}_offsets")
        return [precision[:K, :K].permute(2, 3, 0, 1), pull.permute(1, 2, 0)]

    return parameters


def offsets(side: Side) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says precision, and precision times mean, of the offsets given the factors."""

    def parameters(solver: Any, values: Values) -> Sequence[Tensor]:
        state, K = point.complete(solver.model, values), solver.model.num_factors
        found, _ = point.conditional(solver.model, solver.posterior.listed, state, side)
        across = found.precision[K, :K].permute(1, 2, 0) * getattr(state, f"{side}_factors")
        return [found.precision[K, K][..., None, None], (found.pull[K] - across.sum(-1)).unsqueeze(-1)]

    return parameters


def noise_variance(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return shape and scale."""
    state = point.complete(solver.model, values)
    _, found = point.conditional(solver.model, solver.posterior.listed, state, "column")
    return solver.noise_posterior(point.squares(solver.extent, solver.model, state, found))


def centre(solver: Any, values: Values) -> Sequence[Tensor]:
    """Return precision, and precision times mean, of the mean."""
    state = point.complete(solver.model, values)
    _, found = point.conditional(solver.model, solver.posterior.listed, state, "column")
    middle, precision = solver.mean_posterior(state, found)
    return [precision[:, None, None], (precision * middle).unsqueeze(-1)]


def above(side: Side) -> Callable[[Any, Values], point.NormalWishart]:
    """Return what says the normal-Wishart above the factors of a side."""

    def found(solver: Any, values: Values) -> point.NormalWishart:
        state = point.complete(solver.model, values)
        sums = point.sums(solver.posterior, state, side)
        variance = solver.model.factor_variance(side)
        return point.NormalWishart.of(solver.model, variance, *sums, point.count(solver.posterior, side))

    return found


def mean(side: Side) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says precision, and precision times mean, of the factors' mean given their precision."""

    def parameters(solver: Any, values: Values) -> Sequence[Tensor]:
        found = above(side)(solver, values)
        precision = found.strength * values[f"{side}_precision"]
        return [precision, (precision @ found.mean.unsqueeze(-1)).squeeze(-1)]

    return parameters


def precision(side: Side) -> Callable[[Any, Values], Sequence[Tensor]]:
    """Return what says degrees and inverse scale of the factors' precision given their mean."""

    def parameters(solver: Any, values: Values) -> Sequence[Tensor]:
        found = above(side)(solver, values)
        away = (values[f"{side}_mean"] - found.mean).unsqueeze(-1)
        degrees = torch.full((len(away),), found.degrees + 1.0, dtype=away.dtype)
        return [degrees, found.inverse_scale + found.strength * away @ away.mT]

    return parameters


SIDE: dict[str, Callable[[Side], Callable[[Any, Values], Sequence[Tensor]]]] = {
    "factors": factors, "offsets": offsets, "mean": mean, "precision": precision,
}  # fmt: skip
LINES: dict[str, Callable[..., Any]] = {
    "factors": point.Conditional.of, "offsets": point.Conditional.of, "mean": point.NormalWishart.of,
    "precision": point.NormalWishart.of,
}  # fmt: skip
UPDATES = (
    *(Update(f"{side}_{what}", METHODS, SIDE[what](side), (LINES[what],)) for side in point.SIDES for what in SIDE),
    Update("mean", METHODS, centre, (gibbs.Solver.mean_posterior,)),
    Update("noise_variance", METHODS, noise_variance, (gibbs.Solver.noise_posterior, point.squares)),
)


def without(move: str, still: Callable[..., Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Return what makes a step without a move along what no rating sees, which changes no conditional."""

    def moved(solver: Any, state: Any) -> tuple[Any, Any]:
        plain = copy.copy(solver)
        setattr(plain, move, still)
        found: tuple[Any, Any] = plain.step(state)
        return found

    return moved


def nodes(solver: Any, state: Any) -> list[Values]:
    """Return points of q of rows, of columns, of the mean, of the noise, and of what is above rows and columns."""
    m, K, found, above = solver.model, solver.model.num_factors, list[Values](), list[Values]()
    for side in point.SIDES:
        w = getattr(state, f"{side}s")[0]
        covariance = unpack(getattr(state, f"{side}s_covariance")[0], w.shape[-1])
        at = designs.normal(w, torch.linalg.cholesky(covariance))
        found.append({f"{side}_factors": at[..., :K], **({f"{side}_offsets": at[..., K]} if m.offsets else {})})
        q = solver.answer(state).q.above(side)
        degrees = q.inverse_scale.new_full((1,), q.degrees)
        matrices = designs.wishart(degrees, q.inverse_scale)[:, 0]
        root = torch.linalg.cholesky(torch.linalg.inv(q.strength * matrices))
        matrices, middle = designs.scaled(matrices, q.mean[0], root)
        above.append({f"{side}_precision": matrices, f"{side}_mean": middle})
    mean = designs.normal(state.mean.unsqueeze(-1), state.mean_variance.sqrt()[:, None, None])[:, 0, 0]
    noise = designs.inverse_gamma(torch.full_like(state.noise_scale, solver.noise_shape), state.noise_scale)[:, 0]
    alone = {"mean": mean, "noise_variance": noise}
    known = [*found, *({site: each} for site, each in alone.items()), *above]
    return [each for each in known if set(each) <= set(solver.posterior.sites)]


ORDER = (
    ("row_factors", "row_offsets"), ("column_factors", "column_offsets"), ("mean",), ("noise_variance",),
    ("row_mean", "row_precision"), ("column_mean", "column_precision"),
)  # fmt: skip
STEPS = (
    Step("em", order=ORDER, moved=without("unseen", lambda state: state)),
    Step("cavi", nodes=nodes, in_turn=True, moved=without("shift", lambda mean, *_: mean)),
)
NOT_HELD = {"mle": "em's update without priors: there is no program of it"}
