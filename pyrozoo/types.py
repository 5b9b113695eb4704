"""The contracts of the house: Model, Solver, Fit, and the errors a user can make.

This module imports nothing of the project. Shapes are written with these letters: N rows, D columns (features),
K components or factors, C chains (or restarts), S draws.
"""

from __future__ import annotations

import abc
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Kind = Literal["point", "variational", "samples", "exact"]
"""What a fit's draws are: one best value, draws from an approximation q, (Markov chain) samples, independent draws from
the posterior itself."""

Status = Literal["converged", "completed", "max_iterations", "objective_decreased", "interrupted"]
"""How a fit ended. A sampler that drew all it was asked for is ``completed``: whether it converged, R-hat says."""

Draws = dict[str, Tensor]
"""Site name -> tensor [chain, draw, *event]; inside solvers [chain, *event]."""


MOST_POINTWISE = 5_000_000
"""Draws times units of one block of pointwise log-likelihoods: 40 MB in float64."""

MOST_KEPT_POINTWISE = 20_000_000
"""Draws times units of the pointwise log-likelihoods that a fit keeps; draws are thinned to stay below."""

MOST_EFFORT = 3e11
"""Multiplications that they may take; draws are thinned to stay below: ten seconds on a small machine."""


PROGRESS_AFTER_SECONDS = 2.0
"""Work that is done sooner shows no progress bar."""

SOLVER = "solver."
"""What the names of a solver's options begin with among the metrics of a fit."""


class UserError(Exception):
    """A mistake in the input: shown as one line, exit code 2, nothing half written."""


class DataError(UserError):
    """The data cannot be used; the message names the column or the cell."""


class SettingError(UserError):
    """A setting is unknown or out of range; the message names the field."""


class NotApplicable(UserError):
    """The method does not apply to the model; the message names the methods that do. A sweep lists it and goes on."""


class NumericalError(UserError):
    """A computation could not be carried out in floating point; the message says where and what to try."""


@dataclass(frozen=True)
class Prediction:
    """What a fit says of entries that it has not seen. All tensors have shape [entry].

    Attributes:
        mean: Posterior predictive mean.
        lower: Lower end of the central 90% predictive interval.
        upper: Upper end of it.
        log_density: Log predictive density of the true value, averaged over draws inside the log.
        pit: Randomised probability integral transform of the true value: uniform when the predictive is calibrated,
            also for discrete data (Czado, Gneiting and Held 2009, Biometrics 65).
    """

    mean: Tensor
    lower: Tensor
    upper: Tensor
    log_density: Tensor
    pit: Tensor


@dataclass(frozen=True)
class Picture:
    """A figure with the sentence that says what to look for.

    Attributes:
        name: File name without ending.
        caption: One or two sentences shown under the picture.
        figure: The matplotlib figure.
    """

    name: str
    caption: str
    figure: Figure

    def __repr__(self) -> str:
        return f"{self.name}: {self.caption}"

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()


class Model(abc.ABC):
    """A model: a frozen dataclass whose fields are hyper-parameters, validated on construction.

    Calling it runs *the* Pyro program, the only place where priors are stated. Functions below take draws of the
    global sites with leading axes [chain, draw].

    Attributes:
        invariant_dims: Name of an invariant -> names of its event dimensions.
        observed_site: The name of the observed site.
        container: The class of its data: ``of`` (arrays), ``blank`` (a shape), ``restore`` (a run directory).
        unit: The dimension of the pointwise log-likelihood (``row``, ``entry``, ...).
    """

    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]]
    observed_site: ClassVar[str]
    container: ClassVar[Any]
    unit: ClassVar[str]

    @property
    @abc.abstractmethod
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return global latent site -> names of its event dimensions (ArviZ dims)."""

    @abc.abstractmethod
    def __call__(self, data: Any) -> None:
        """Run the Pyro program on the data (missing entries are masked out)."""

    @abc.abstractmethod
    def check(self, data: Any) -> None:
        """Raise DataError, naming column or cell, when this model cannot use the data."""

    @abc.abstractmethod
    def initial(self, data: Any, chains: int) -> Draws:
        """Return random, dispersed starting values, site -> [chains, *event], from torch's global generator."""

    @abc.abstractmethod
    def pointwise_log_likelihood(self, draws: Draws, data: Any) -> Tensor:
        """Return log p(unit | draw) with local latents summed out, [chain, draw, unit]."""

    def effort(self, data: Any) -> float:
        """Return how many multiplications ``pointwise_log_likelihood`` takes per draw; 0 when nobody would notice."""
        return 0.0

    def log_likelihood(self, draws: Draws, data: Any) -> Tensor:
        """Return the sum of the pointwise log-likelihood, [chain, draw], never holding all draws by all units."""
        chains, count = next(iter(draws.values())).shape[:2]
        step = max(1, MOST_POINTWISE // (chains * data.units))
        blocks = [{site: value[:, i : i + step] for site, value in draws.items()} for i in range(0, count, step)]
        return torch.cat([self.pointwise_log_likelihood(block, data).sum(-1) for block in blocks], 1)

    @abc.abstractmethod
    def canonical(self, draws: Draws, reference: Draws | None = None) -> Draws:
        """Fix what the likelihood leaves free (labels, signs, rotation), toward ``reference`` draws when given."""

    def symmetry(self, values: Mapping[str, Tensor]) -> tuple[int, float]:
        """Return dimension and log volume of the points that say the same as ``values``, site -> [*event].

        The volume is that of the orbit of a continuous symmetry, such as rotations, in the coordinates of the sites
        that it moves. Along the orbit the density has no curvature, which Laplace's method must know.
        """
        return 0, 0.0

    @abc.abstractmethod
    def invariants(self, draws: Draws, data: Any, log_likelihood: Tensor | None = None) -> Draws:
        """Return named quantities that no relabelling or rotation changes, [chain, draw, ...].

        ``log_likelihood`` is one of them; where it is known already it need not be computed again.
        """

    def checks(self, values: Tensor, data: Any) -> Draws:
        """Return the statistics by which posterior predictive checks compare data with simulated data, name -> [...].

        They should be what a model of this kind gets wrong when it is wrong, such as zeros and dispersion of counts.

        Args:
            values: As ``data.values`` holds them: the data's own, or simulated ones.
            data: Says which cells are observed; others must not matter.
        """
        arrays = data.statistics(values, self.observed_site)
        return {name: torch.as_tensor(array) for name, (_, array) in arrays.items()}

    @abc.abstractmethod
    def predict(self, draws: Draws, data: Any) -> Prediction:
        """Predict the hidden entries of ``data`` given its observed ones."""

    def watched(self, draws: Draws, data: Any) -> dict[str, Tensor]:
        """Return what to follow a run by: a part of the data -> log densities of entries of it, [chain, draw, entry].

        Engines average them over draws and write minus their mean into the trace (``train_nll``, ``test_nll``); for
        most models there is nothing.
        """
        return {}


class Solver(abc.ABC):
    """A hand-built algorithm for one model: prepared once, then init, step, step, ...

    The state is a frozen dataclass holding only what the next step needs; every tensor in it has a leading chain
    axis: restarts for EM and CAVI, chains for Gibbs. ``step`` returns a new state and leaves its argument as it was.
    Options of a solver are keyword arguments of its constructor.

    Attributes:
        kind: What the result is.
        objective_name: What the objective of ``step`` is.
        objective_of: Whether that objective belongs to the state before or after the step.
        monotone: Whether the objective may never fall.
        state_class: The dataclass of its states; options of the model may choose it.
    """

    kind: ClassVar[Kind]
    objective_name: ClassVar[str]
    objective_of: ClassVar[Literal["before", "after"]]
    monotone: ClassVar[bool]
    state_class: Any

    @abc.abstractmethod
    def init(self, chains: int) -> Any:
        """Return the starting state of ``chains`` independent chains, from torch's global generator."""

    @abc.abstractmethod
    def step(self, state: Any) -> tuple[Any, Tensor]:
        """Return the next state and the objective of every chain, [chains]."""

    @abc.abstractmethod
    def draws(self, state: Any) -> Draws:
        """Return site -> [chains, *event]: the point, one draw from q per chain, or the sampler's values."""

    def predictive(self, state: Any) -> tuple[Tensor, Tensor] | None:
        """Return mean and variance of the normal predictive of every hidden entry given the state, [chains, entry].

        For solvers that know them as a by-product, such as samplers that impute; engines average them over all sweeps
        after warm-up, where predicting anew from kept draws would cost more than the fit. None: predict from draws.
        """
        return None

    def finish(self, state: Any) -> Any:
        """Return what ``draws`` and ``log_q`` take in the end: the state, or more where that leaves something out."""
        return state

    def residual(self, state: Any) -> Tensor | None:
        """Return what must fall below the tolerance for convergence, [chains], of a state that ``step`` returned.

        None: the relative change of the objective.
        """
        return None

    def estimated(self, state: Any) -> Model | None:
        """Return the model with hyper-parameters that the method has estimated in place of its own, if any."""
        return None

    def expectations(self, state: Any) -> Draws:
        """Return expectations that the method knows beyond what draws say, name -> [chains, *event].

        Their names and dimensions are among the model's ``invariant_dims``; for most methods there is nothing.
        """
        return {}

    def log_q(self, state: Any, draws: Draws) -> Tensor:
        """Return log q(draws), [chains], for variational and exact states."""
        raise NotImplementedError(f"{type(self).__module__} is not a variational solver")


@dataclass
class Fit:
    """The result of an engine.

    Attributes:
        model: The model fitted.
        method: The method's name (em, cavi, gibbs, svi, nuts, laplace, ...).
        kind: What the draws are.
        data: The data fitted, hidden entries hidden.
        draws: Site -> [chain, draw, *event].
        trace: Columns iteration, chain, objective, seconds.
        runs: One line per restart or chain: chain, objective, iterations, status. Every restart is kept.
        status: How the fit ended.
        objective_name: What the objective is.
        objective: Its final value (of the best restart).
        iterations: Iterations made (of the best restart).
        seconds: Wall-clock seconds spent in the engine, over all resumed parts.
        seed: The seed.
        sample_stats: ArviZ name -> [chain, draw].
        expectations: Expectations that the method knows beyond what draws say, name -> [*event].
        log_q: log q at the draws of a variational or exact fit, [chain, draw].
        sampler: For a variational or exact fit, n -> (draws, log_q) with fresh draws from q.
        metrics: Flat name -> number or string.
        notes: What a reader of the results should know, such as draws that were not kept.
    """

    model: Model
    method: str
    kind: Kind
    data: Any
    draws: Draws
    trace: pd.DataFrame
    runs: pd.DataFrame
    status: Status
    objective_name: str
    objective: float
    iterations: int
    seconds: float
    seed: int
    sample_stats: dict[str, Tensor] = field(default_factory=dict)
    expectations: Draws = field(default_factory=dict)
    log_q: Tensor | None = None
    sampler: Callable[[int], tuple[Draws, Tensor]] | None = None
    metrics: dict[str, float | int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _pointwise: tuple[int, Tensor] | None = field(default=None, repr=False, compare=False)
    _invariants: Draws | None = field(default=None, repr=False, compare=False)
    _predictions: list[tuple[Any, Prediction]] = field(default_factory=list, repr=False, compare=False)

    def pointwise(self) -> tuple[int, Tensor]:
        """Return a step and log p(unit | draw) of one draw in so many, [chain, draw, unit]; computed once."""
        if self._pointwise is None:
            chains, count = next(iter(self.draws.values())).shape[:2]
            step = math.ceil(max(count * self.data.units / MOST_KEPT_POINTWISE, self._effort() / MOST_EFFORT, 1))
            step = min(count, step)
            draws = {site: value[:, ::step] for site, value in self.draws.items()}
            size = max(1, MOST_POINTWISE // (chains * self.data.units))
            blocks = [{s: v[:, i : i + size] for s, v in draws.items()} for i in range(0, -(-count // step), size)]
            parts = [self.model.pointwise_log_likelihood(block, self.data) for block in blocks]
            self._pointwise = step, torch.cat(parts, 1)
        return self._pointwise

    def _effort(self) -> float:
        chains, count = next(iter(self.draws.values())).shape[:2]
        return chains * count * self.model.effort(self.data)

    def invariants(self) -> Draws:
        """Return the model's invariants of those draws that ``pointwise`` chose, computed once."""
        if self._invariants is None:
            step, pointwise = self.pointwise()
            draws = {site: value[:, ::step] for site, value in self.draws.items()}
            self._invariants = self.model.invariants(draws, self.data, pointwise.sum(-1))
        return self._invariants

    def knows(self, data: Any, prediction: Prediction) -> None:
        """Take a prediction of the hidden entries of ``data`` that was made while fitting."""
        self._predictions.append((data, prediction))

    def predict(self, data: Any) -> Prediction:
        """Predict the hidden entries of ``data``, once: figures, tables and pictures all ask."""
        for known, prediction in self._predictions:
            if known is data:
                return prediction
        self.knows(data, self.model.predict(self.draws, data))
        return self._predictions[-1][1]

    @property
    def model_name(self) -> str:
        """Return the name of the model: of the folder it stands in."""
        return type(self.model).__module__.split(".")[-2]

    def __str__(self) -> str:
        return (
            f"{self.model_name} by {self.method}: {self.kind}, {self.status} after {self.iterations} iterations in "
            f"{self.seconds:.2f} s, {self.objective_name.replace('_', ' ')} {self.objective:.3f}"
        )
