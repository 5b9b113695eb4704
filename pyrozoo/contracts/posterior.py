"""What a posterior is: a model given data. Whatever is asked of it has a default that follows from the program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pyro
import pyro.poutine as poutine
import torch
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor
from torch.distributions import biject_to
from torch.utils.weak import WeakIdKeyDictionary

from pyrozoo.contracts.model import Model, beside
from pyrozoo.contracts.shards import Shards
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import DataError, NotApplicable, NumericalError
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded, undisturbed
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.program.density import FlatDensity, ProgramDensity, Unconstrained
from pyrozoo.program.predict import predict_cells
from pyrozoo.program.trace import (
    Program,
    anywhere,
    depth_of,
    dims_of,
    is_deterministic,
    log_density_at,
    log_joint,
    log_likelihood_by_unit,
    log_prior,
    over_draws,
    prior_draw,
    replaced,
    sample_nodes,
    simulate,
)

MOST_POINTWISE = 5_000_000
"""Draws times units of one block of pointwise log-likelihoods: 40 MB in float64."""

MOST_UNITS, FEWEST_UNITS, MOST_NUMBERS = 5000, 1000, 1_000_000
"""Units that stand for all, evenly chosen, in what looks at a fit; fewer, but so many, where they hold more numbers."""

ATTEMPTS = 100
"""Starting points that are tried before a program is said to have none."""

Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]
"""Name -> (names of dimensions, array), as ArviZ stores it."""


@dataclass(frozen=True)
class LeftOut:
    """What leave-one-out cross-validation leaves out, one at a time.

    Attributes:
        unit: What each is called.
        total: How many there are.
        logs: Draws -> log densities of all of them, or of some chosen at random, [chain, draw, unit].
    """

    unit: str
    total: int
    logs: Callable[[Values], Tensor]


@dataclass(frozen=True)
class Part:
    """Units of data, evenly chosen, that stand for all in what looks at a fit: its cost is bounded whatever their size.

    Attributes:
        posterior: Of the same model given these units alone; of all it is the whole.
        units: Which they are, [unit]; None: all.
        total: Of how many.
        dim: The dimension of sites that have something of each unit.
        alone: Whether such data can be simulated without the other units.
    """

    posterior: Posterior
    units: Tensor | None
    total: int
    dim: str = ""
    alone: bool = True

    @property
    def scale(self) -> float:
        """How many units each stands for."""
        return 1.0 if self.units is None else self.total / len(self.units)

    def draws(self, draws: Values) -> Draws:
        """Return draws without what they say of other units, site -> [chain, draw, *event]."""
        if self.units is None:
            return Draws(draws)
        axes = {site: dims.index(self.dim) for site, dims in self.posterior.sites.items() if self.dim in dims}
        return Draws({s: v.index_select(2 + axes[s], self.units) if s in axes else v for s, v in draws.items()})

    def __str__(self) -> str:
        chosen = self.total if self.units is None else len(self.units)
        return f"{chosen:,} of {self.total:,} {self.posterior.unit}s"


class Posterior:
    """A model given data. It owns what is computed once for both, which dies with it.

    This class has the defaults, which run the program. A model's folder may hold a subclass in ``posterior.py`` that
    overrides what it can do better; a law holds every override to the program. Draws have leading axes [chain, draw].

    Args:
        model: The model.
        data: Its data, in a container.
    """

    def __init__(self, model: Any, data: Any):
        self.model, self.data = model, data

    shards: Shards | None = None
    """Where the rows are, when they are in shards, of this process and of others; ``data`` is an even choice of them
    then, the same in every process: what says how large things are, where to start, what columns there are."""

    @staticmethod
    def of(model: Model, data: Any) -> Posterior:
        """Return the posterior of a model given data, of the model's own class if it has one.

        Settings that the model leaves to the data (``Model.derived``) are filled in.
        """
        return posterior_class(type(model))(model.given(data), data)

    def on(self, data: Any) -> Self:
        """Return the posterior of the same model given other data."""
        return type(self)(self.model, data)

    def of_shard(self, data: Any) -> Self:
        """Return the posterior of one shard of the rows: sums over its rows must mean what those of others mean."""
        return self.on(data)

    # Rows, which may be in shards ------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """How many rows there are, in all shards."""
        return self.data.shape[0] if self.shards is None else self.shards.rows

    @property
    def reported(self) -> Posterior:
        """The posterior of the rows that a report looks at: all, or an even choice of rows in shards."""
        return self if self.shards is None else self.shards.seen

    def over_rows(self, function: Callable[..., tuple[Any, Any]], *by_row: Tensor | None) -> tuple[Any, Any]:
        """Do for all rows what needs nothing of other rows, and add up what they say together.

        A solver that looks at rows only so runs on rows in shards, in one process or in many, without knowing it: the
        function is called once, with this posterior, or once for every shard. What it draws is drawn anew for each
        shard; all else that a solver draws is the same in every process.

        Args:
            function: From a posterior, its ``data`` being the rows at hand, and the rows of ``by_row``, to a pair:
                nested tensors [C, n, ...] by row, and nested tensors that are added up. Either may be ``()``.
            *by_row: Tensors [C, N, ...] by row, as an earlier call returned them; one row may stand for all.

        Returns:
            The same pair for all rows of this process, the sums over the rows of all processes.
        """
        return function(self, *by_row) if self.shards is None else self.shards.over_rows(function, by_row)

    def total(self, function: Callable[..., Any], *by_row: Tensor | None) -> Any:
        """Add up what rows say (see ``over_rows``), where nothing is kept by row."""
        return self.over_rows(lambda part, *given: ((), function(part, *given)), *by_row)[1]

    @property
    def by_row(self) -> tuple[str, ...]:
        """The sites that have a value for every row."""
        return tuple(site for site, dims in self.sites.items() if dims[:1] == ("row",))

    def start(self, chains: int) -> Values:
        """Return starting values (see ``initial``), of the rows in shards shard by shard."""
        found = self.initial(chains)
        if self.shards is None or not (names := self.by_row):
            return found

        def rows(part: Posterior) -> tuple[Any, Any]:
            known = part.initial(chains)
            return {name: known[name] for name in names}, ()

        return {**found, **self.over_rows(rows)[0]}

    # What the program says of itself -----------------------------------------------------------------------------

    @cached_property
    def program(self) -> Program:
        """The program, with what the data put in the place of observed values."""
        return replaced(self.model, self.data.replaced) if self.data.replaced else self.model

    @cached_property
    def first_trace(self) -> Any:
        """One run of the program, its latent sites anywhere.

        Raises:
            NotApplicable: Another run has other sites.
        """
        with undisturbed(), pyro.validation_enabled(False):
            runs = [poutine.trace(InitMessenger(anywhere)(self.program)).get_trace(self.data) for _ in range(4)]
        sites = [sample_nodes(each).keys() for each in runs]
        if odd := sorted(set().union(*sites) - set(sites[0]).intersection(*sites)):
            raise NotApplicable(f"the program has the site {odd[0]!r} in some runs only: its course must not be random")
        return runs[0]

    @property
    def few(self) -> Any:
        """Data on which the program has the same global sites, as few as there can be."""
        return self.data

    @property
    def plated(self) -> Any:
        """Data whose plates know how large the whole is, as few as there can be."""
        return self.data

    @cached_property
    def depth(self) -> int:
        """How many dimensions the program's plates take."""
        return depth_of(self.first_trace)

    @cached_property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Latent sites that a fit draws -> names of their event dimensions; discrete ones are summed out."""
        nodes = sample_nodes(self.first_trace).items()
        latent = {n: x for n, x in nodes if not x["is_observed"] and not is_deterministic(x)}
        return {n: self._named(n, x) for n, x in latent.items() if not x["fn"].has_enumerate_support}

    def _named(self, name: str, node: Any) -> tuple[str, ...]:
        dims, own = dims_of(node), self.model.dims.get(name, ())
        return (*dims[: len(dims) - len(own)], *own)

    @cached_property
    def observed_nodes(self) -> Mapping[str, Any]:
        """Observed sites as the first run has them."""
        nodes = sample_nodes(self.first_trace).items()
        seen = {n: x for n, x in nodes if x["is_observed"] and not is_deterministic(x)}
        return {n: x for n, x in seen.items() if x["value"].numel()}  # a factor has no value

    @property
    def observed(self) -> str:
        """The name of the observed site, the first of several."""
        return next(iter(self.observed_nodes), "data")

    @property
    def observed_names(self) -> tuple[str, ...]:
        """The names of all observed sites."""
        return tuple(self.observed_nodes)

    @cached_property
    def _units(self) -> tuple[int, str]:
        values = {site: self.first_trace.nodes[site]["value"] for site in self.sites}
        with undisturbed(), pyro.validation_enabled(False):
            found, plates = log_likelihood_by_unit(self.program, self.sites, values, self.data, self.depth)
        return len(found), plates[0] if len(plates) == 1 else "unit"

    @property
    def units(self) -> int:
        """How many units the pointwise log-likelihood has."""
        return self._units[0]

    @property
    def unit(self) -> str:
        """The dimension of the pointwise log-likelihood (``row``, ``entry``, ...)."""
        return self._units[1]

    def some_units(self, count: int) -> Part:
        """Return so many units, evenly chosen, or all where these are no more or do not stand alone."""
        return Part(self, None, self.units)

    @cached_property
    def looked_at(self) -> Part:
        """What stands for all units: as many for every fit of these data, so that fits can be compared."""
        per_unit = max(1, self.data.values.numel() // max(1, self.units))
        return self.some_units(min(MOST_UNITS, max(FEWEST_UNITS, MOST_NUMBERS // per_unit)))

    @property
    def adds_quickly(self) -> bool:
        """Whether ``log_likelihood`` takes no longer than that of the units looked at."""
        return False

    def check(self) -> None:
        """Raise DataError, naming column or cell, when the model cannot use the data."""
        self.data.checked()
        self.check_exposure()
        for name, node in self.observed_nodes.items():
            fn, value = node["fn"], node["value"]
            mask = getattr(fn, "_mask", True)
            inside = fn.support.check(value) | ~torch.as_tensor(True if mask is None else mask)
            if not bool(inside.all()):
                place = [int(i) for i in (~inside).nonzero()[0]]
                bad = float(value[tuple(place)].flatten()[0])
                cell = self.data.cell(*place) if inside.shape == self.data.shape else f"{self.data.name}: {name}{place}"
                raise DataError(f"{cell}: {bad:g} is outside of the support of {name} ({fn.support})")
        self._check_missing()
        if getattr(self.data, "test", None) is not None:
            self.on(self.data.test).check()

    def check_exposure(self) -> None:
        """Raise DataError when rows have an exposure that the model has no use for."""
        if self.data.exposure is not None and not self.model.uses_exposure:
            said = f"{self.model.name} has no use for an exposure (data.exposure): zip_mixture and poisson_mf do"
            raise DataError(f"{self.data.name}: {said}")

    def _check_missing(self) -> None:
        """Refuse a program for which the filling of a missing cell counts, or that says nothing of a hidden one."""
        data: Any = self.data
        if not hasattr(data, "filled") or data.replaced or bool(data.observed.all()):
            return
        if data.hidden is not None and len(data.hidden.rows):
            self._cells()
        others = data.filled[data.observed & (data.filled != 0)]
        if not len(others):
            return
        filled = replace(data)
        vars(filled)["filled"] = torch.where(data.observed, data.filled, others[0])
        draws = {site: self.first_trace.nodes[site]["value"][None, None] for site in self.sites}
        with torch.no_grad():
            one, other = self.log_density(draws), self.on(filled).log_density(draws)
        if not torch.allclose(one, other, equal_nan=True):
            row, column = (int(i) for i in (~data.observed).nonzero()[0])
            said = f"{data.cell(row, column)} has no value, and {self.model.name} takes it for a number"
            raise DataError(f"{said}: mask its site by data.observed, or give data without gaps and data.holdout=0")

    # Simulation --------------------------------------------------------------------------------------------------

    def prior_draw(self) -> dict[str, Tensor]:
        """Draw the global sites from the prior, from torch's global generator."""
        return prior_draw(self.program, self.sites, self.few)

    def prior_draws(self, count: int) -> list[dict[str, Tensor]]:
        """Draw the global sites from the prior so many times."""
        return [self.prior_draw() for _ in range(count)]

    def simulate(self, given: Values | None = None) -> dict[str, Tensor]:
        """Draw every site of the program, observed ones included, with some held at a value."""
        return simulate(self.program, self.data, given)

    @cached_property
    def cell_sites(self) -> tuple[str, ...]:
        """Observed sites that are the cells of a table: one for all of them, or one for each column, in order."""
        shape = tuple(self.data.values.shape)
        shapes = {name: tuple(node["value"].shape) for name, node in self.observed_nodes.items()}
        whole = tuple(name for name, each in shapes.items() if each == shape and len(shape) == 2)
        if whole or len(shape) != 2:
            return whole[:1]
        return tuple(shapes) if list(shapes.values()) == [shape[:1]] * shape[1] else ()

    def filled(self, sites: Values) -> Any:
        """Return the data with what was simulated in the place of what is observed."""
        drawn = {name: sites[name] for name in self.observed_nodes}
        if self.cell_sites and set(drawn) == set(self.cell_sites):
            return replace(self.data, values=_table(drawn, self.cell_sites))
        return replace(self.data, replaced=drawn)

    def replica(self, given: Values) -> Any:
        """Simulate data at values of the sites, in the form that ``checks`` and ``statistics`` take."""
        sites = self.simulate(given)
        return {name: _seen(node, sites[name]) for name, node in self.observed_nodes.items()}

    def simulated_numbers(self, values: Values) -> float:
        """Return how many numbers a replica at values of the sites, site -> [*event], is expected to have."""
        return float(self.data.values.numel())

    @property
    def most_numbers(self) -> float:
        """How many numbers a replica may have, whatever the values of the sites."""
        return float(self.data.values.numel())

    @property
    def own(self) -> Any:
        """The data themselves in that form."""
        return {name: _seen(node, node["value"]) for name, node in self.observed_nodes.items()}

    def checks(self, replica: Any) -> Values:
        """Return the statistics by which predictive checks compare data with simulated data, name -> [...].

        They should be what a model of this kind gets wrong when it is wrong, such as zeros and dispersion of counts.
        """
        result = {}
        for name, value in replica.items():
            seen = value[~value.isnan()].double()
            prefix = "" if len(replica) == 1 else f"{name}_"
            if len(seen):
                result[f"{prefix}mean"], result[f"{prefix}sd"] = seen.mean(), seen.std(correction=0)
                result[f"{prefix}smallest"], result[f"{prefix}largest"] = seen.min(), seen.max()
        return result

    def dispersion(self, replica: Any, values: Values) -> Tensor | None:
        """Return how much counts vary about what is expected of them, over how much they should: about 1.

        Args:
            replica: Data, own or simulated.
            values: Of the global sites, site -> [*event].

        Returns:
            A scalar; None: the data are no counts.
        """
        return None

    @property
    def to_disperse(self) -> tuple[str, str]:
        """What the counts are taken for, and what to type where they vary more."""
        return "", ""

    def statistics(self, replica: Any) -> Arrays:
        """Return what is stored of data, own or simulated: every observed site."""
        return {
            name: (tuple(dims_of(self.observed_nodes[name])), value.detach().cpu().numpy())
            for name, value in replica.items()
        }

    def stored(self) -> tuple[Arrays, Arrays]:
        """Return all of the data as arrays for a run directory: what is observed, and what else is known."""
        return self.data.stored("data")

    # Densities ---------------------------------------------------------------------------------------------------

    def initial(self, chains: int) -> Values:
        """Return random, dispersed starting values, site -> [chains, *event], from torch's global generator.

        By default draws from the prior, restrained: unconstrained coordinates are squeezed into (-2, 2).

        Raises:
            NumericalError: The density is finite at none of many.
        """
        return {s: v.squeeze(0) for s, v in Draws.stack([self._start() for _ in range(chains)]).items()}

    def _start(self) -> dict[str, Tensor]:
        nodes = self.first_trace.nodes
        for _ in range(ATTEMPTS):
            with pyro.validation_enabled(False):
                try:
                    drawn = self.prior_draw()
                except NotImplementedError:  # a prior that cannot be drawn from
                    drawn = {site: anywhere(nodes[site]) for site in self.sites}
                values = {}
                for site, value in drawn.items():
                    transform = biject_to(nodes[site]["fn"].support)
                    values[site] = transform(2 * torch.tanh(transform.inv(value) / 2))
                joint = log_density_at(self.program, values, self.data, self.depth)
            if bool(joint.isfinite().all()):
                return values
        raise NumericalError(f"the density of the program is finite at none of {ATTEMPTS} draws from its prior")

    def log_prior(self, draws: Values) -> Tensor:
        """Return log p(global sites) under the program's priors, [chain, draw]."""
        return log_prior(self.program, self.sites, draws, self.few, self.depth)

    def log_joint(self, draws: Values) -> Tensor:
        """Return the program's own log p(data, global sites), discrete sites summed out, [chain, draw]."""
        return log_joint(self.program, draws, self.data, self.depth)

    def log_density(self, draws: Values, pointwise: Tensor | None = None) -> Tensor:
        """Return log p(data, global sites) the fastest way there is, [chain, draw]."""
        with pyro.validation_enabled(False):
            return over_draws(lambda one: log_density_at(self.program, one, self.data, self.depth), draws)

    def density(self, start: Values) -> FlatDensity:
        """Return the log joint density over a flat real vector.

        Args:
            start: Site -> [*event], a valid value of every site (it fixes shapes).
        """
        return ProgramDensity(self.program, (self.data,))

    def pointwise(self, draws: Values) -> Tensor:
        """Return log p(unit | draw) with local latents summed out, [chain, draw, unit]."""

        def one(values: Values) -> Tensor:
            return log_likelihood_by_unit(self.program, self.sites, values, self.data, self.depth)[0]

        with torch.no_grad(), pyro.validation_enabled(False):
            return over_draws(one, draws)

    @property
    def left_out(self) -> LeftOut | None:
        """What leave-one-out cross-validation leaves out; None: the units of ``pointwise``.

        A unit with parameters of its own cannot be left out by reweighting draws: they know it too well.
        """
        return None

    @property
    def effort(self) -> float:
        """How many multiplications ``pointwise`` takes per draw; 0 when nobody would notice."""
        return 0.0

    def log_likelihood(self, draws: Values) -> Tensor:
        """Return the sum of the pointwise log-likelihood, [chain, draw], never holding all draws by all units."""
        blocks = Draws(draws).blocks(MOST_POINTWISE // (Draws(draws).shape[0] * self.units))
        return torch.cat([self.pointwise(block).sum(-1) for block in blocks], 1)

    def derived(self, draws: Values) -> Arrays:
        """Return the program's deterministic sites at draws, name -> (dimensions, [chain, draw, *event])."""
        sampled = sample_nodes(self.first_trace).items()
        nodes = {name: node for name, node in sampled if is_deterministic(node)}
        if not nodes:
            return {}

        def one(values: Values) -> list[Tensor]:
            trace: Any = poutine.trace(poutine.condition(self.program, data=dict(values))).get_trace(self.data)
            return [trace.nodes[name]["value"] for name in nodes]

        with torch.no_grad(), undisturbed(), pyro.validation_enabled(False):
            found = {
                name: over_draws(lambda values, i=i: one(values)[i], draws)  # type: ignore[misc]
                for i, name in enumerate(nodes)
            }
        return {n: (tuple(dims_of(nodes[n])), value.cpu().numpy()) for n, value in found.items()}

    # What is looked at -------------------------------------------------------------------------------------------

    def align(self, draws: Values, reference: Values | None = None) -> Values:
        """Fix what the likelihood leaves free (labels, signs, rotation), toward ``reference`` draws when given."""
        return self.model.symmetry.align(Draws(draws), self.sites, None if reference is None else Draws(reference))

    def orbit(self, values: Values) -> tuple[int, float]:
        """Return dimension and log volume of the points that say the same as ``values``, site -> [*event]."""
        return self.model.symmetry.orbit(values, self.sites)

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return named quantities that no relabelling or rotation changes, [chain, draw, ...].

        ``log_likelihood`` is one of them; where it is known already it need not be computed again.
        """
        known = self.log_likelihood(draws) if log_likelihood is None else log_likelihood
        found = self.model.symmetry.invariants(Draws({s: draws[s] for s in self.sites}), self.sites)
        return Draws({"log_likelihood": known, **{name: value for name, (_, value) in found.items()}})

    @cached_property
    def invariant_dims(self) -> Mapping[str, tuple[str, ...]]:
        """Name of an invariant -> names of its event dimensions."""
        one = Draws({s: self.first_trace.nodes[s]["value"][None, None] for s in self.sites})
        found = self.model.symmetry.invariants(one, self.sites)
        return {"log_likelihood": (), **{name: dims for name, (dims, _) in found.items()}}

    def predict(self, draws: Values) -> Prediction:
        """Predict the hidden entries of the data given the observed ones.

        Raises:
            NotApplicable: No observed site has the shape of the data, or its cells are not independent given the rest.
        """
        sites = self._cells()
        hidden, truth = self.data.hidden, self.data.filled.clone()
        truth[hidden.rows, hidden.columns] = hidden.values
        with seeded(0), torch.no_grad(), pyro.validation_enabled(False):
            return predict_cells(self.program, sites, Draws(draws), self.data, self.depth, truth, hidden)

    def _cells(self) -> tuple[str, ...]:
        sites = self.cell_sites
        if not sites or any(self.observed_nodes[site]["fn"].event_dim for site in sites):
            said = "no observed site of the program has a distribution of its own for every hidden cell"
            raise NotApplicable(f"{said}: none can be hidden and predicted; type data.holdout=0")
        return sites

    def running_prediction(self) -> Any:
        """Return what averages ``Info.predictive`` of states into a prediction of the hidden entries: normals."""
        return RunningPrediction(self.data.hidden.values)

    def watched(self, draws: Values) -> Values:
        """Return what to follow a run by: a part of the data -> log densities of entries of it, [chain, draw, entry].

        Engines average them over draws and write minus their mean into the trace (``train_nll``, ``test_nll``); for
        most models there is nothing.
        """
        return {}


def _seen(node: Mapping[str, Any], value: Tensor) -> Tensor:
    """Return values with NaN where the program masks them out."""
    mask = getattr(node["fn"], "_mask", None)
    if mask is None or not isinstance(mask, Tensor) or node["fn"].event_dim:
        return value.double() if not value.is_floating_point() else value
    return torch.where(mask.expand_as(value), value.double(), math.nan)


def _table(values: Values, sites: Sequence[str]) -> Tensor:
    return values[sites[0]] if len(sites) == 1 else torch.stack([values[site] for site in sites], 1)


class HandBuilt(Posterior):
    """A posterior whose local sites are summed out by hand, of one observed site: what the zoo's models override.

    Subclasses state ``sites``, ``observed``, ``unit`` and ``invariant_dims``, and override ``pointwise``; priors are
    the program's, and the likelihood is held to the program wherever both are used.

    Attributes:
        CHECKED_UNITS: Units on which the likelihood is held to the enumerated program.
        wants: What its data are, in words, for who gives others.
    """

    CHECKED_UNITS = 100
    wants: ClassVar[str] = "other data"

    def check(self) -> None:
        """Raise DataError unless the data are of the model's kind and usable at all."""
        if not isinstance(self.data, self.model.container):
            raise DataError(f"{self.model.name} needs {self.wants}, not {type(self.data).__name__.lower()}")
        self.data.checked()
        self.check_exposure()

    @property
    def hidden(self) -> Any:
        """The hidden entries of the data, which must hide some.

        Raises:
            ValueError: They hide none.
        """
        if self.data.hidden is None:
            raise ValueError(f"{self.data.name}: no entries are hidden")
        return self.data.hidden

    def uniform(self, *shape: int) -> Tensor:
        """Draw numbers from 0 to 1, in the data's precision and on their device, from torch's global generator."""
        return torch.rand(shape, dtype=self.data.values.dtype, device=self.data.values.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers likewise."""
        return torch.randn(shape, dtype=self.data.values.dtype, device=self.data.values.device)

    @cached_property
    def few(self) -> Any:
        """One unit: priors of global sites do not depend on how many there are."""
        return self.data.first(1)

    @cached_property
    def depth(self) -> int:
        """How many dimensions the program's plates take."""
        with undisturbed():
            return depth_of(poutine.trace(self.program).get_trace(self.plated))

    @property
    def plated(self) -> Any:
        """Two parts of the data, whose plates know how large the whole is."""
        return self.data.part(torch.arange(min(2, self.data.parts)))

    @property
    def units(self) -> int:
        """How many units the pointwise log-likelihood has."""
        return self.data.units

    def some_units(self, count: int) -> Part:
        """Return so many rows, evenly chosen, as data of their own."""
        if count >= self.units or self.unit != self.data.dims[0]:
            return super().some_units(count)
        rows = evenly(self.units, count).to(self.data.values.device)
        return Part(self.on(self.data.only(rows)), rows, self.units, self.unit)

    @property
    def observed_names(self) -> tuple[str, ...]:
        """The name of the observed site."""
        return (self.observed,)

    @property
    def cell_sites(self) -> tuple[str, ...]:
        """The observed site: it has the shape of the data."""
        return (self.observed,)

    def filled(self, sites: Values) -> Any:
        """Return the data with simulated values."""
        return replace(self.data, values=sites[self.observed])

    def replica(self, given: Values) -> Any:
        """Simulate values at values of the sites."""
        return self.simulate(given)[self.observed]

    @property
    def own(self) -> Any:
        """The values themselves."""
        return self.data.values

    def checks(self, replica: Any) -> Values:
        """Return the container's own statistics."""
        return {name: torch.as_tensor(array) for name, (_, array) in self.statistics(replica).items()}

    def statistics(self, replica: Any) -> Arrays:
        """Return what the container stores of data, own or simulated, computed once."""
        if replica not in self._described:
            self._described[replica] = self.data.statistics(replica, self.observed)
        return self._described[replica]

    @cached_property
    def _described(self) -> MutableMapping[Tensor, Arrays]:
        """Data, own or simulated -> their statistics, as long as somebody holds them."""
        return WeakIdKeyDictionary()

    def stored(self) -> tuple[Arrays, Arrays]:
        """Return all of the data as arrays for a run directory: what is observed, and what else is known."""
        return self.data.stored(self.observed)

    def derived(self, draws: Values) -> Arrays:
        """Return nothing: the zoo's programs record no functions of their sites."""
        return {}

    def log_density(self, draws: Values, pointwise: Tensor | None = None) -> Tensor:
        """Return log p(data, global sites), [chain, draw], from the hand-built likelihood."""
        likelihood = self.log_likelihood(draws) if pointwise is None else pointwise.sum(-1)
        return likelihood + self.log_prior(draws)

    def terms(self, draws: Values) -> Tensor:
        """Return what adds up to the log-likelihood, [chain, draw, ...]: a total where that is known with less work."""
        return self.pointwise(draws)

    def density(self, start: Values) -> FlatDensity:
        """Return the log joint density over a flat real vector; the likelihood is held to the program first."""
        part = self.on(self.data.first(self.CHECKED_UNITS))

        def likelihood(draws: Values, data: Any) -> Tensor:
            return (part if data is part.data else self).terms(draws)

        return Unconstrained(
            self.program, list(self.sites), likelihood, self.data, few=self.few, part=part.data, start=start
        )  # fmt: skip


def posterior_class(model: type[Model]) -> type[Posterior]:
    """Return the class of posteriors of a class of models: the one in ``posterior.py`` beside it, or the default."""
    module = beside(model, "posterior")
    if module is None:
        return Posterior
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Posterior) and each.__module__ == module.__name__
    )
    return found
