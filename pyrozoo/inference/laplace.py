"""Laplace's approximation: a Gaussian at the mode in unconstrained space, draws mapped back."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NumericalError, SettingError
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.loop import LoopSettings, Process, drive
from pyrozoo.math.linear_algebra import safe_cholesky
from pyrozoo.program.density import Unconstrained
from pyrozoo.program.trace import refuse_large

EDGE = 20.0
"""Where a start on the edge of its support begins, in unconstrained space: e^-20 for a positive number."""


class _ModeSearch(Process):
    """L-BFGS from several starts, one after another."""

    def __init__(
        self, model: Model, data: Any, restarts: int, max_iterations: int, tol: float, max_unknowns: int,
        starts: Draws | None,
    ):  # fmt: skip
        self.model, self.data, self.restarts, self.max_iterations = model, data, restarts, max_iterations
        self.tol, self.max_unknowns, self.starts = tol, max_unknowns, starts
        self.total = restarts * max_iterations

    def start(self) -> None:
        inside = self.model.initial(self.data, self.restarts)
        starts = inside if self.starts is None else self.starts
        refuse_large("laplace", starts, self.max_unknowns)
        self.space = Unconstrained(self.model, self.data, {site: value[0] for site, value in inside.items()})
        self.points = torch.stack(
            [
                self.space.flatten(self.space.unconstrain({site: value[chain] for site, value in starts.items()}))
                for chain in range(self.restarts)
            ]
        )
        # A point on the edge of its support, such as the mode of a Gamma density at 0, is moved inside: once the
        # Jacobian counts there is no mode on the edge.
        self.points = self.points.nan_to_num(nan=torch.nan, posinf=EDGE, neginf=-EDGE)
        self.values = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        self.iterations = torch.zeros(self.restarts, dtype=torch.long)
        self.converged = torch.zeros(self.restarts, dtype=torch.bool)
        self.chain = 0
        self._begin()

    def _begin(self) -> None:
        self.point = self.points[self.chain].clone().requires_grad_(True)
        self.optimiser = torch.optim.LBFGS(
            [self.point], max_iter=1, max_eval=40, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=0.0,
            tolerance_change=0.0,
        )  # fmt: skip

    def _closure(self) -> Tensor:
        self.optimiser.zero_grad()
        loss = -self.space(self.point)
        loss.backward()
        return loss

    def advance(self) -> Tensor:
        previous = self.values[self.chain].item()
        self.optimiser.step(self._closure)
        value = -float(self._closure().detach())
        self.points[self.chain], self.values[self.chain] = self.point.detach(), value
        self.iterations[self.chain] += 1
        row = torch.full((self.restarts,), torch.nan, dtype=torch.float64)
        row[self.chain] = value
        assert self.point.grad is not None
        small = float(self.point.grad.abs().max()) <= self.tol * max(1.0, abs(value)) ** 0.5
        stuck = value == previous  # the line search found nothing better
        if small or stuck or self.iterations[self.chain] >= self.max_iterations:
            self.converged[self.chain] = small
            self.chain += 1
            if self.chain < self.restarts:
                self._begin()
        return row

    def best(self) -> int:
        return int(self.values.nan_to_num(nan=-torch.inf).argmax())

    def status(self) -> Status | None:
        if self.chain < self.restarts:
            return None
        return "converged" if self.converged[self.best()] else "max_iterations"

    def resumable(self) -> bool:
        return True

    def state(self) -> dict[str, Any]:
        names = ("points", "values", "iterations", "converged", "chain")
        return {**{name: getattr(self, name) for name in names}, "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.start()
        optimiser = state.pop("optimiser")
        for name, value in state.items():
            setattr(self, name, value)
        if self.chain < self.restarts:
            self._begin()
            self.optimiser.load_state_dict(optimiser)


NEWTON_STEPS = 30


def _newton(space: Unconstrained, point: Tensor, value: float, flat: int) -> tuple[Tensor, float, Tensor]:
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


def laplace(
    model: Model, data: Any, *, method: str, restarts: int, max_iterations: int, tol: float, draws: int,
    max_unknowns: int, loop: LoopSettings, starts: Draws | None = None,
) -> Fit:  # fmt: skip
    """Fit a Gaussian at the best mode found (MacKay 2003, chapter 27).

    Where the model has a continuous symmetry (``Model.symmetry``), its directions have no curvature: the evidence takes
    the volume of the orbit in their place, and the Gaussian, which stays at one point of the orbit, the geometric mean
    of the other curvatures.

    Args:
        model: The model, discrete sites summed out.
        data: The data.
        method: The method's name.
        restarts: Starts of L-BFGS; the best mode is used. As many as ``starts``, where these are given.
        max_iterations: Per start.
        tol: A mode is accepted when no component of the gradient exceeds this times the root of |log density|.
        draws: Draws to keep, mapped back to constrained space.
        max_unknowns: Limit on the size of the problem.
        loop: Seed, progress, checkpoints.
        starts: Where to start, site -> [restarts, *event], such as the point that another method found; None: at
            random.

    Returns:
        Draws with log q. The objective is the approximate log evidence
        log p(x, theta) + P/2 log 2 pi - 1/2 log |H| at the mode, over the directions that have a curvature.

    Raises:
        NotApplicable: More unknowns than the limit.
        NumericalError: The Hessian at the best point is not positive definite (not a mode).
    """
    if tol < 0:
        raise SettingError(f"inference.tol is {tol}; it must not be negative")
    for name, count in {"restarts": restarts, "max_iterations": max_iterations, "draws": draws}.items():
        if count < 1:
            raise SettingError(f"inference.{name} is {count}; it must be at least 1")
    restarts = restarts if starts is None else len(next(iter(starts.values())))
    process = _ModeSearch(model, data, restarts, max_iterations, tol, max_unknowns, starts)
    with pyro.validation_enabled(False):  # doubles the speed; the program was run with it on
        run = drive(process, loop, f"{method} ({restarts} restarts)")
    best, space = process.best(), process.space
    values = space.constrain(space.unflatten(process.points[best].detach()))
    flat, _ = model.symmetry(values)
    mode, value, hessian = _newton(space, process.points[best].detach(), float(process.values[best]), flat)
    flat, log_volume = model.symmetry(space.constrain(space.unflatten(mode)))
    if flat or run.status == "interrupted":
        # Cut short it is not yet a mode: the absolute curvature makes a Gaussian of it, and the status says what it is.
        curvature, axes = torch.linalg.eigh(hessian)
        if run.status == "interrupted":
            order = curvature.abs().argsort()
            curvature, axes = curvature.abs()[order], axes[:, order]
        if curvature[flat] > 0:
            curvature[:flat] = curvature[flat:].log().mean().exp()
        hessian = (axes * curvature) @ axes.T
    factor = safe_cholesky(hessian, "laplace: the Hessian at the best point found")
    log_determinant = 2 * factor.diagonal().log().sum()
    half_log_two_pi = 0.5 * space.size * math.log(2 * math.pi)
    objective = float(value + half_log_two_pi - 0.5 * log_determinant)
    objective += log_volume
    if flat:  # in place of the Gaussian's volume in these directions
        objective -= flat * 0.5 * (math.log(2 * math.pi) - float(curvature[0].log()))

    def sampler(count: int) -> tuple[Draws, Tensor]:
        noise = torch.randn(space.size, count, dtype=mode.dtype, device=mode.device)
        vectors = (mode[:, None] + torch.linalg.solve_triangular(factor.T, noise, upper=True)).T
        log_normal = -0.5 * noise.square().sum(0) + 0.5 * log_determinant - half_log_two_pi
        with torch.no_grad():
            each = [space.constrain(space.unflatten(vector)) for vector in vectors]
            jacobian = torch.stack([space.log_jacobian(vector) for vector in vectors])
        values = {site: torch.stack([value[site] for value in each]).unsqueeze(0) for site in model.sites}
        return values, (log_normal - jacobian).unsqueeze(0)

    with seeded(loop.seed):
        kept, log_q = sampler(draws)
    statuses = ["converged" if each else "max_iterations" for each in process.converged.tolist()]
    for chain in range(process.chain, restarts):
        statuses[chain] = "interrupted"
    return Fit(
        model=model,
        method=method,
        kind="variational",
        data=data,
        draws=kept,
        trace=run.trace,
        runs=pd.DataFrame(
            {
                "chain": range(restarts),
                "objective": process.values.numpy(),
                "iterations": process.iterations.numpy(),
                "status": statuses,
            }
        ),
        status=run.status,
        objective_name="log_evidence_laplace",
        objective=objective,
        iterations=int(process.iterations[best]),
        seconds=run.seconds,
        seed=loop.seed,
        log_q=log_q,
        sampler=sampler,
        metrics={"log_density_at_mode": value},
    )
