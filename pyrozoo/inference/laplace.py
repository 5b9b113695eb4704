"""Laplace's approximation: a Gaussian at the mode in unconstrained space, draws mapped back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.devices import LARGE
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError
from pyrozoo.core.seeds import seeded
from pyrozoo.core.settings import not_negative, whole
from pyrozoo.inference.loop import Process, drive, fit_of
from pyrozoo.inference.moments import only_moment
from pyrozoo.math.linear_algebra import safe_cholesky
from pyrozoo.program.density import FlatDensity
from pyrozoo.program.trace import refuse_large

EDGE = 20.0
"""Where a start on the edge of its support begins, in unconstrained space: e^-20 for a positive number."""


@dataclass
class State:
    """Where the search is.

    Attributes:
        points: Of every start, [restarts, size].
        values: Log densities there.
        iterations: Of every start.
        converged: Which of them found a mode.
        chain: The start at work.
    """

    points: Tensor
    values: Tensor
    iterations: Tensor
    converged: Tensor
    chain: int = 0


class _ModeSearch(Process):
    """L-BFGS from several starts, one after another."""

    now: State

    def __init__(self, posterior: Posterior, settings: Laplace, restarts: int):
        self.posterior, self.settings, self.restarts = posterior, settings, restarts
        self.total = restarts * settings.max_iterations
        self.gradients = 0

    def start(self) -> None:
        inside = self.posterior.initial(self.restarts)
        starts = inside if self.settings.starts is None else self.settings.starts
        refuse_large("laplace", sum(value[0].numel() for value in starts.values()), self.settings.max_unknowns)
        self.space = self.posterior.density({site: value[0] for site, value in inside.items()})
        points = torch.stack(
            [
                self.space.flatten(self.space.unconstrain({site: value[chain] for site, value in starts.items()}))
                for chain in range(self.restarts)
            ]
        ).cpu()  # a search is arithmetic of short vectors; the density alone is on a card
        # A point on the edge of its support, such as the mode of a Gamma density at 0, is moved inside: once the
        # Jacobian counts there is no mode on the edge.
        points = points.nan_to_num(nan=torch.nan, posinf=EDGE, neginf=-EDGE)
        values = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        counts, none = (torch.zeros(self.restarts, dtype=dtype) for dtype in (torch.long, torch.bool))
        self.now = State(points, values, counts, none)
        self._begin()

    def _begin(self) -> None:
        self.point = self.now.points[self.now.chain].clone().requires_grad_(True)
        self.optimiser = torch.optim.LBFGS(
            [self.point], max_iter=1, max_eval=40, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=0.0,
            tolerance_change=0.0,
        )  # fmt: skip

    def _closure(self) -> Tensor:
        self.gradients += 1
        self.optimiser.zero_grad()
        loss = -self.space(self.point)
        loss.backward()
        return loss

    def advance(self) -> Tensor:
        now, chain = self.now, self.now.chain
        previous = now.values[chain].item()
        self.optimiser.step(self._closure)
        value = -float(self._closure().detach())
        now.points[chain], now.values[chain] = self.point.detach(), value
        now.iterations[chain] += 1
        row = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        row[chain] = value
        assert self.point.grad is not None
        small = float(self.point.grad.abs().max()) <= self.settings.tol * max(1.0, abs(value)) ** 0.5
        stuck = value == previous  # the line search found nothing better
        if small or stuck or now.iterations[chain] >= self.settings.max_iterations:
            now.converged[chain] = small
            now.chain += 1
            if now.chain < self.restarts:
                self._begin()
        return row

    def best(self) -> int:
        return int(self.now.values.nan_to_num(nan=-torch.inf).argmax())

    def status(self) -> Status | None:
        if self.now.chain < self.restarts:
            return None
        return "converged" if self.now.converged[self.best()] else "max_iterations"

    def checkpoint(self) -> dict[str, Any]:
        return super().checkpoint() | {"optimiser": self.optimiser.state_dict(), "gradients": self.gradients}

    def restore(self, saved: dict[str, Any]) -> None:
        self.start()
        optimiser, self.gradients = saved.pop("optimiser"), saved.pop("gradients", 0)
        self.now = State(**saved)
        if self.now.chain < self.restarts:
            self._begin()
            self.optimiser.load_state_dict(optimiser)


NEWTON_STEPS = 30


def _newton(space: FlatDensity, point: Tensor, value: float, flat: int) -> tuple[Tensor, float, Tensor]:
    """Finish a search with Newton steps, which an ill-conditioned problem (counts of millions beside a few) needs.

    The ``flat`` directions of least curvature are those of a symmetry. Directions of the wrong curvature are followed
    with its absolute value, and steps are halved until they climb (Nocedal and Wright 2006, section 3.4).

    Returns:
        Point, log density and minus the Hessian there.
    """
    for _ in range(NEWTON_STEPS):
        hessian = torch.autograd.functional.hessian(lambda vector: -space(vector), point)
        hessian = 0.5 * (hessian + hessian.T)
        if not torch.isfinite(hessian).all():
            raise NumericalError("laplace: the Hessian is not finite at the best point found")
        leaf = point.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(space(leaf), leaf)
        curvature, axes = torch.linalg.eigh(hessian)
        floor = 1e-12 * curvature.abs().max()
        step = axes @ ((axes.T @ gradient) / curvature.abs().clamp(min=floor))
        step = step - axes[:, :flat] @ (axes[:, :flat].T @ step)  # along a symmetry there is nothing to gain
        gain = 0.5 * float(gradient @ step)
        if gain < 1e-9 and curvature[flat] > 0:
            break
        for halving in range(30):
            with torch.no_grad():
                candidate = float(space(point + step * 0.5**halving))
            if candidate > value:
                point, value = point + step * 0.5**halving, candidate
                break
        else:
            break
    return point, value, hessian


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian in unconstrained space, from a mode and minus the Hessian there.

    Attributes:
        space: The density.
        sites: Sites that are drawn.
        mode: Its centre, [size].
        factor: Cholesky factor of its precision.
    """

    space: FlatDensity
    sites: Sequence[str]
    mode: Tensor
    factor: Tensor

    @property
    def log_determinant(self) -> Tensor:
        """Return that of the precision."""
        return 2 * self.factor.diagonal().log().sum()

    def sample(self, count: int) -> tuple[Draws, Tensor]:
        """Return draws mapped back to the sites, [1, count, *event], and log q of them."""
        noise = torch.randn(self.space.size, count, dtype=self.mode.dtype, device=self.mode.device)
        vectors = (self.mode[:, None] + torch.linalg.solve_triangular(self.factor.T, noise, upper=True)).T
        constant = 0.5 * self.space.size * math.log(2 * math.pi)
        log_normal = -0.5 * noise.square().sum(0) + 0.5 * self.log_determinant - constant
        with torch.no_grad():
            each = [self.space.constrain(self.space.unflatten(vector)) for vector in vectors]
            jacobian = torch.stack([self.space.log_jacobian(vector) for vector in vectors])
        draws = Draws.stack([{site: values[site] for site in self.sites} for values in each])
        return draws, (log_normal.to(jacobian.device) - jacobian).unsqueeze(0)


@dataclass(frozen=True, kw_only=True)
class Laplace(Method):
    """Fit a Gaussian at the best mode found (MacKay 2003, chapter 27).

    Where the model has a continuous symmetry (``Posterior.orbit``), its directions have no curvature: the evidence
    takes the volume of the orbit in their place, and the Gaussian, which stays at one point of the orbit, the geometric
    mean of the other curvatures. The objective is the approximate log evidence log p(x, theta) + P/2 log 2 pi -
    1/2 log |H| at the mode, over the directions that have a curvature.

    Attributes:
        restarts: Starts of L-BFGS; the best mode is used. As many as ``starts``, where these are given.
        max_iterations: Per start.
        tol: A mode is accepted when no component of the gradient exceeds this times the root of |log density|.
        draws: Draws to keep, mapped back to constrained space.
        max_unknowns: Limit on the size of the problem.
        starts: Where to start, site -> [restarts, *event], such as the point that another method found; None: at
            random.
    """

    fewest_on_a_card = LARGE

    restarts: int = whole()
    max_iterations: int = whole()
    tol: float = not_negative()
    draws: int = whole()
    max_unknowns: int = whole()
    starts: Any = None

    def __call__(self, posterior: Posterior, loop: Loop) -> Fit:
        """Fit the posterior.

        Raises:
            NotApplicable: More unknowns than the limit.
            NumericalError: The Hessian at the best point is not positive definite (not a mode).
        """
        restarts = self.restarts if self.starts is None else len(next(iter(self.starts.values())))
        process = _ModeSearch(posterior, self, restarts)
        with pyro.validation_enabled(False):  # doubles the speed; the program was run with it on
            run = drive(process, loop, f"{self.name} ({restarts} restarts)")
            best = process.best()
            gaussian, value, objective = self._gaussian(process, run.status == "interrupted")
            with seeded(loop.seed):
                draws, log_q = gaussian.sample(self.draws)
        now = process.now
        statuses = ["converged" if each else "max_iterations" for each in now.converged.tolist()]
        statuses[now.chain :] = ["interrupted"] * len(statuses[now.chain :])
        fit = fit_of(
            self, posterior, run, loop,
            {"objective": now.values.numpy(), "iterations": now.iterations.numpy(), "status": statuses},
            kind="variational", draws=draws, objective_name="log_evidence_laplace", objective=objective,
            iterations=int(now.iterations[best]), log_q=log_q, sampler=gaussian.sample,
            metrics={"log_density_at_mode": value},
        )  # fmt: skip
        only_moment(fit, loop, float(process.gradients))
        return fit

    def _gaussian(self, process: _ModeSearch, interrupted: bool) -> tuple[Gaussian, float, float]:
        """Return the Gaussian at the best mode, the log density there, and the approximate log evidence."""
        best, space, posterior = process.best(), process.space, process.posterior
        found = process.now.points[best].detach()
        flat, _ = posterior.orbit(space.constrain(space.unflatten(found)))
        mode, value, hessian = _newton(space, found, float(process.now.values[best]), flat)
        flat, log_volume = posterior.orbit(space.constrain(space.unflatten(mode)))
        if flat or interrupted:
            # Cut short it is not yet a mode: the absolute curvature makes a Gaussian of it, and the status says what it
            # is.
            curvature, axes = torch.linalg.eigh(hessian)
            if interrupted:
                order = curvature.abs().argsort()
                curvature, axes = curvature.abs()[order], axes[:, order]
            if curvature[flat] > 0:
                curvature[:flat] = curvature[flat:].log().mean().exp()
            hessian = (axes * curvature) @ axes.T
        factor = safe_cholesky(hessian, "laplace: the Hessian at the best point found")
        gaussian = Gaussian(space, list(posterior.sites), mode, factor)
        half_log_two_pi = 0.5 * space.size * math.log(2 * math.pi)
        objective = float(value + half_log_two_pi - 0.5 * gaussian.log_determinant)
        objective += log_volume
        if flat:  # in place of the Gaussian's volume in these directions
            objective -= flat * 0.5 * (math.log(2 * math.pi) - float(curvature[0].log()))
        return gaussian, value, objective
