"""Newton's method for many small concave problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.math.branches import may_branch

Evaluated = tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch n"], Float[Tensor, "*batch n n"]]
"""Value, gradient and minus the Hessian (or what stands for it) of every problem."""

DECREMENT = 1e-15
"""Gain promised by the next step, relative to the value, below which a problem is solved: convergence is quadratic."""

SHRINK = 0.25

MOST_ITERATIONS = 50

STRAIGHT_ITERATIONS = 12
"""Steps where values may not decide when to stop; four to eight are the rule."""


def maximise(
    evaluate: Callable[[Float[Tensor, "*batch n"]], Evaluated], start: Float[Tensor, "*batch n"],
    max_iterations: int = MOST_ITERATIONS,
) -> tuple[Float[Tensor, "*batch n"], Evaluated]:  # fmt: skip
    """Maximise concave functions by damped Newton steps (Nocedal and Wright 2006, section 3.3), each at its own pace.

    A step that does not raise the value, or leaves the domain (the value is not a number there), is shortened and tried
    again: values never fall, whatever stands for the Hessian, as long as it is positive definite.

    Args:
        evaluate: Of the whole batch; called once per iteration.
        start: Where to begin, in the domain.
        max_iterations: Steps tried at most.

    Returns:
        The last points, and what was found there.
    """
    point = start
    value, gradient, curvature = evaluate(point)
    length = torch.ones_like(value)
    scale = torch.finfo(start.dtype).eps
    for _ in range(max_iterations if may_branch() else STRAIGHT_ITERATIONS):
        step = solve(curvature, gradient)
        gain = (step * gradient).sum(-1)
        if may_branch() and bool((gain <= DECREMENT * (1 + value.abs())).all()):
            break
        tried = point + length.unsqueeze(-1) * step
        found = evaluate(tried)
        # Rounding of the value must not stop the last steps, which gain less than it can show.
        better = found[0] >= value - 10 * scale * (1 + value.abs())
        value = torch.where(better, torch.maximum(found[0], value), value)
        point = torch.where(better.unsqueeze(-1), tried, point)
        gradient = torch.where(better.unsqueeze(-1), found[1], gradient)
        curvature = torch.where(better[..., None, None], found[2], curvature)
        length = torch.where(better, torch.ones_like(length), SHRINK * length)
        if may_branch() and not bool((gain * length > 10 * scale**2 * (1 + value.abs())).any()):
            break
    return point, (value, gradient, curvature)


def solve(matrix: Float[Tensor, "*batch n n"], right: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Solve symmetric positive definite systems; one that is not, numerically, is helped by a larger diagonal."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if not may_branch():
        return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    raised = 1e-10
    while bool(info.any()):
        if raised > 1:
            # Nothing but the slope is left to follow.
            plain = torch.diag_embed(diagonal.abs().amax(-1, keepdim=True).clamp(min=1e-300).sqrt().expand_as(right))
            factor = torch.where((info > 0)[..., None, None], plain, factor)
            break
        added = torch.diag_embed((raised * diagonal.abs().mean(-1, keepdim=True)).expand_as(right))
        again, info_again = torch.linalg.cholesky_ex(matrix + added)
        factor = torch.where((info > 0)[..., None, None], again, factor)
        info = torch.where(info > 0, info_again, info)
        raised *= 100
    return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
