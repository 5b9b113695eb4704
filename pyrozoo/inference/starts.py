"""Where chains begin: a pathfinder that follows an optimiser and draws from the best Gaussian on its way."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Gradient = Callable[[Tensor], tuple[float, Tensor]]
"""From a vector to the log density and its gradient."""

MOST_STEPS = 200
TRIALS = 10


def pathfinder(gradient: Gradient, start: Tensor, count: int | None = None) -> Tensor:
    """Return a draw from near the bulk of a posterior, from one path of L-BFGS.

    After Zhang, Carpenter, Gelman and Vehtari (2022, JMLR 23) with diagonal inverse Hessians: at each point of the path
    a Gaussian, and of all the Gaussians the one of the largest ELBO. A mode at infinity, as funnels have, does no harm,
    since Gaussians near it have a small ELBO.

    Args:
        gradient: Log density and gradient.
        start: Where the path begins.
        count: How many draws; None: one, without an axis of draws.

    Returns:
        A vector like ``start``, or [count, size]; the start itself where no Gaussian is any good.
    """
    from scipy.optimize import minimize  # which takes half a second to load

    points: list[np.ndarray] = [start.double().numpy().copy()]

    def minus(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = gradient(torch.from_numpy(x).to(start.dtype))
        if not math.isfinite(value):
            return math.inf, np.zeros_like(x)
        return -value, -slope.double().numpy()

    minimize(
        minus, points[0], jac=True, method="L-BFGS-B", callback=lambda x: points.append(x.copy()),
        options={"maxiter": MOST_STEPS, "maxcor": 20},
    )  # fmt: skip
    slopes = [minus(x)[1] for x in points]
    scale = np.ones(len(points[0]))
    best, chosen, where = -math.inf, start.double(), (points[0], scale)
    for i, x in enumerate(points[1:], 1):
        s, z = points[i] - points[i - 1], slopes[i] - slopes[i - 1]
        if s @ z > 1e-12 * (z @ z):  # positive curvature: Gilbert and Lemarechal's update of the diagonal
            a, b, c = z @ (scale * z), s @ z, s @ (s / scale)
            scale = 1 / (a / (b * scale) + z**2 / b - a * s**2 / (b * c * scale**2))
        noise = torch.randn(TRIALS, len(x), dtype=torch.float64).numpy()
        draws = x + np.sqrt(scale) * noise
        log_q = -0.5 * (noise**2).sum(1) - 0.5 * np.log(scale).sum() - 0.5 * len(x) * math.log(2 * math.pi)
        values = np.array([-minus(draw)[0] for draw in draws])
        if (elbo := float(np.mean(values - log_q))) > best:
            best, chosen, where = elbo, torch.from_numpy(draws[0]), (x, np.sqrt(scale))
    if count is None:
        return chosen.to(start.dtype)
    if not math.isfinite(best):
        return start.expand(count, -1).clone()
    center, spread = map(torch.from_numpy, where)
    return (center + spread * torch.randn(count, len(center), dtype=torch.float64)).to(start.dtype)
