"""What a solver is: a hand-built algorithm for one model. It steps, and says what a state means."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import SettingError
from pyrozoo.core.prediction import Prediction

Kind = Literal["point", "variational", "samples", "exact"]
"""What a fit's draws are: one best value, draws from an approximation q, (Markov chain) samples, independent draws from
the posterior itself."""


@dataclass(frozen=True)
class Info:
    """What only watches a step.

    Attributes:
        objective: Of every chain, [chains]: that of the step's argument, or of its result (``Solver.objective_of``).
        residual: What must fall below the tolerance for convergence, [chains]; None: the objective's relative change.
        predictive: Gives what ``Posterior.running_prediction`` averages, unless that says otherwise mean and variance
            of the normal predictive of every hidden entry, [chains, entry], at the state that the objective belongs to:
            of solvers that know it as a by-product, such as samplers that impute.
            Engines average it over all sweeps after warm-up, where predicting anew from draws would cost more than
            the fit.
    """

    objective: Tensor
    residual: Tensor | None = None
    predictive: Callable[[], tuple[Tensor, ...]] | None = None


class Joint(Protocol):
    """A distribution over all global sites at once, a chain axis first."""

    def sample(self) -> Values:
        """Return one draw per chain, site -> [chains, *event]."""

    def log_prob(self, values: Values) -> Tensor:
        """Return the log density of one draw per chain, [chains]."""


@dataclass(frozen=True)
class Independent:
    """A joint distribution whose sites are independent.

    Attributes:
        q: Site -> distribution with batch shape [chains, ...].
    """

    q: Mapping[str, Distribution]

    def sample(self) -> Values:
        """Return one draw per chain, kept inside the open support: rounding puts some on its edge."""
        return {site: _inside(each) for site, each in self.q.items()}

    def log_prob(self, values: Values) -> Tensor:
        """Return the log density of one draw per chain, [chains]."""
        logs = [each.log_prob(values[site]) for site, each in self.q.items()]
        return torch.stack([log.flatten(1).sum(1) if log.ndim > 1 else log for log in logs]).sum(0)

    def divergence(self, other: Mapping[str, Distribution]) -> Tensor:
        """Return KL(self || other), summed over sites, [chains]."""
        every = [kl_divergence(each, other[site]) for site, each in self.q.items()]
        parts = [part.flatten(1).sum(1) if part.ndim > 1 else part for part in every]
        return sum(parts[1:], parts[0])


def _inside(q: Distribution) -> Tensor:
    value = q.sample()
    tiny, eps = torch.finfo(value.dtype).tiny, torch.finfo(value.dtype).eps
    if q.support is constraints.unit_interval:
        return value.clamp(tiny, 1 - eps / 2)
    edge = getattr(q.support, "lower_bound", None)
    return value.clamp(min=tiny) if isinstance(edge, int | float) and edge == 0 else value


@dataclass(frozen=True)
class Answer:
    """What a state says of the posterior.

    Attributes:
        point: Site -> [chains, *event]: the point, or a sampler's values.
        q: The approximation, or the posterior itself, where there is one.
        expectations: Expectations that the method knows beyond what draws say, name -> [chains, *event]. Their names
            and dimensions are among the posterior's ``invariant_dims``.
        model: The model with hyper-parameters that the method has estimated in place of its own.
        prediction: Predicts the hidden entries of the data where the method knows more than draws say, as a q whose
            predictive has a closed form does; of one chain.
    """

    point: Values | None = None
    q: Joint | None = None
    expectations: Values = field(default_factory=dict)
    model: Model | None = None
    prediction: Callable[[], Prediction] | None = None

    def draws(self) -> Values:
        """Return the point, or one draw from q per chain, site -> [chains, *event]."""
        if self.point is not None:
            return self.point
        assert self.q is not None
        return self.q.sample()

    def log_q(self, draws: Values) -> Tensor:
        """Return log q of one draw per chain, [chains]."""
        assert self.q is not None
        return self.q.log_prob(draws)


class Solver(abc.ABC):
    """A hand-built algorithm for one model: prepared once, then init, step, step, ..., answer.

    The state is a frozen dataclass holding only what the next step needs; every tensor in it has a leading chain axis:
    restarts for EM and CAVI, chains for Gibbs. It *is* the checkpoint. ``step`` returns a new state and leaves its
    argument as it was. Options of a solver are keyword arguments of its constructor.

    A class says what it is where it is defined: ``class Solver(contract, kind="point", objective="log_joint")``.

    Attributes:
        posterior: What is fitted.
        model: Its model.
        data: Its data.
        kind: What the result is.
        objective_name: What the objective is.
        objective_of: Whether the objective of a step belongs to its argument or to its result.
        monotone: Whether the objective may never fall.
        by_row: The fields of its states that have a value for every row, [C, N, ...], of a solver that looks at rows
            through ``Posterior.over_rows`` only, so that it runs on rows in shards, too; None: it does not.
        graph: Whether a step asks tensors nothing but what ``branches.holds`` notes, so that on CUDA it can be captured
            as one graph.
        streams: Whether a step asks for the rows of one minibatch after the other, so that they can stay in files.
        state_class: The dataclass of its states; options of the model may choose it.
    """

    kind: ClassVar[Kind]
    objective_name: ClassVar[str]
    objective_of: ClassVar[Literal["argument", "result"]] = "argument"
    monotone: ClassVar[bool] = False
    by_row: ClassVar[tuple[str, ...] | None] = None
    graph: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    state_class: Any
    posterior: Any
    model: Any
    data: Any

    def __init_subclass__(cls, objective: str | None = None, of: str | None = None, **given: Any) -> None:
        super().__init_subclass__()
        given.setdefault("graph", False)  # a step of its own may ask what that of its parent did not
        for name, value in {"objective_name": objective, "objective_of": of, **given}.items():
            if value is not None:
                setattr(cls, name if name != "state" else "state_class", value)

    def __init__(self, posterior: Posterior):
        self.posterior, self.model, self.data = posterior, posterior.model, posterior.data

    @abc.abstractmethod
    def init(self, chains: int) -> Any:
        """Return the starting state of ``chains`` independent chains, from torch's global generator."""

    @abc.abstractmethod
    def step(self, state: Any) -> tuple[Any, Info]:
        """Return the next state, and what only watches."""

    @abc.abstractmethod
    def answer(self, state: Any) -> Answer:
        """Return what a state says."""

    def of_reported(self, posterior: Posterior, **options: Any) -> Any:
        """Return the solver that answers for those rows that are reported on, of all that this one has seen in shards.

        Args:
            posterior: Of these rows.
            **options: Those of this solver.
        """
        return type(self)(posterior, **options)

    def after(self, steps: int) -> Any:
        """Return the state of one chain after so many steps from a random start."""
        state = self.init(1)
        for _ in range(steps):
            state, _ = self.step(state)
        return state

    def settled(self, state: Any) -> Any:
        """Return a state as it is to be after the warm-up: what a sampler tunes in it then stays as it is."""
        return state

    def finish(self, state: Any) -> Any:
        """Return what ``answer`` takes in the end: the state, or more where that leaves something out."""
        return state


class PointSolver(Solver):
    """A solver whose state holds the sites themselves: it starts at random points, and its state is the answer.

    Attributes:
        at_least_one: Hyper-parameters that must be at least 1: below it the posterior has no mode, for EM.

    Raises:
        SettingError: One of them is below 1.
    """

    at_least_one: ClassVar[tuple[str, ...]] = ()

    def __init__(self, posterior: Posterior):
        super().__init__(posterior)
        for name in self.at_least_one:
            value = getattr(self.model, name)
            if min(value if isinstance(value, tuple) else (value,)) < 1:
                raise SettingError(f"model.{name} is {value}; em needs >= 1, below which the posterior has no mode")

    def init(self, chains: int) -> Any:
        """Return random starting points (``Posterior.start``)."""
        return self.state_class(**self.posterior.start(chains))

    def answer(self, state: Any) -> Answer:
        """Return the values of the sites."""
        return Answer(point={site: getattr(state, site) for site in self.posterior.sites})


@dataclass(frozen=True)
class Known:
    """The state of a solver that knows the posterior itself: the log evidence, [C]; a chain is an independent draw."""

    log_evidence: Tensor


@dataclass(frozen=True)
class Itself:
    """The posterior itself, a joint distribution over all global sites, as many times as there are log evidences, [C].

    Attributes:
        posterior: Knows the log joint.
        draw: Gives so many independent draws, site -> [C, *event].
        log_evidence: [C].
    """

    posterior: Posterior
    draw: Callable[[int], Values]
    log_evidence: Tensor

    def sample(self) -> Values:
        """Draw independently."""
        return self.draw(len(self.log_evidence))

    def log_prob(self, values: Values) -> Tensor:
        """Return the log posterior density, [C]."""
        joint = self.posterior.log_density({site: value[:, None] for site, value in values.items()})
        return joint[:, 0] - self.log_evidence


class ExactSolver(Solver, kind="exact", objective="log_evidence", of="result", state=Known):
    """A solver that knows the posterior itself after one step: it has an evidence, and draws."""

    @abc.abstractmethod
    def evidence(self) -> Tensor:
        """Return the log evidence, []: what takes long belongs here, where it is timed."""

    @abc.abstractmethod
    def draw(self, count: int) -> Values:
        """Return independent draws, site -> [count, *event]."""

    @property
    def expectations(self) -> Values:
        """Expectations that are known beyond what draws say, name -> [*event]: none."""
        return {}

    def init(self, chains: int) -> Known:
        """Return a state in which nothing is known yet."""
        return Known(self.data.values.new_full((chains,), torch.nan))

    def step(self, state: Known) -> tuple[Known, Info]:
        """Find the log evidence."""
        new = Known(self.evidence().expand(len(state.log_evidence)))
        return new, Info(new.log_evidence)

    def answer(self, state: Known) -> Answer:
        """Return the posterior, and what is known of it."""
        chains = len(state.log_evidence)
        known = {name: value.expand(chains, *value.shape) for name, value in self.expectations.items()}
        return Answer(q=Itself(self.posterior, self.draw, state.log_evidence), expectations=known)
