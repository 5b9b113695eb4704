"""The one converter to what ArviZ knows, and back: a Fit becomes groups of draws, statistics and data."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.moments import Moment
from pyrozoo.contracts.posterior import Arrays, Posterior, posterior_class
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import DataError, NotApplicable, noted
from pyrozoo.core.paths import version
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import all_storable, storable
from pyrozoo.diagnostics import predictive
from pyrozoo.program.density import ProgramDensity
from pyrozoo.store.groups import Groups
from pyrozoo.store.moments import add_moments, read_moments
from pyrozoo.store.outlined import add_outline, read_outline

PRIOR_DRAWS = 200

PACKAGES = ("pyrozoo", "torch", "pyro-ppl", "numpy", "arviz", "nutpie")


def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    return {name: version(name) for name in PACKAGES}


def to_groups(fit: Fit, megabytes: float = 200.0, *, whole: bool = True) -> Groups:
    """Convert a fit.

    Args:
        fit: The fit.
        megabytes: What all but the data may take: a half for draws (a quarter of it for moments), a quarter for their
            pointwise log-likelihoods, a quarter for draws from the prior and simulated data. More draws are thinned
            evenly, of more units and data sets some are chosen evenly; ``fit.notes`` says so from then on, as do the
            attributes.
        whole: Whether all of the data are stored, to be read back. Otherwise ``observed_data`` has what simulated data
            are compared by, of the same rows as these.

    Returns:
        Groups posterior, sample_stats, log_likelihood, posterior_predictive, prior, prior_predictive, observed_data,
        constant_data, with the data's own labels as coordinates.
    """
    posterior, notes, budget = fit.posterior, [*fit.data.notes, *fit.notes], megabytes * 1e6
    step, labels, result = _thinning(fit, budget * 3 / 8), Labels.of(fit.data), Groups()
    every, pointwise = 1, None
    with noted(notes, "the log-likelihoods of units"):
        every, pointwise = fit.pointwise
    if every > 1:
        notes.append(f"log-likelihoods, LOO and invariants are those of one draw in {every}: each takes long")
    if fit.looked_at.units is not None:
        notes.append(f"log-likelihoods of units, LOO and what is made of them are of {fit.looked_at}, evenly chosen")
    if step > 1:
        step = every * -(-step // every)  # draw i is the same draw everywhere
        notes.append(f"one draw in {step} is stored, to keep this file within {megabytes:g} MB")
    draws = fit.draws.every(step)
    derived: Arrays = {}
    with noted(notes, "functions of the parameters"):
        derived = posterior.derived(draws)
    named = {name: (tuple(dims), draws[name]) for name, dims in posterior.sites.items()}
    _add(result, "posterior", _arrays(named) | derived, labels)
    result.add("sample_stats", _numpy({n: value[:, ::step] for n, value in fit.sample_stats.items()}), {}, {})
    _add_data(result, fit, budget / 12, labels, whole, notes)
    if pointwise is not None:
        of = every if step < every else 0
        _add_pointwise(result, fit, pointwise[:, :: max(1, step // every)], labels, of, budget / 4, notes)
    inner = {name: (posterior.invariant_dims[name], value) for name, value in fit.expectations.items()}
    _add(result, "expectations", _arrays(inner), labels, drawn=False)  # ArviZ has no name for it
    with noted(notes, "what comparisons look at"):
        add_outline(result, fit, step)
    with noted(notes, "the moments of the fit"):
        add_moments(result, fit, budget / 8, notes)
    fit.notes = list(dict.fromkeys(notes))
    attributes = _attributes(fit) | {"whole": int(whole)}
    result.attrs.update(attributes)
    for group in result.values():
        group.attrs.update(attributes)
    return result


class Labels(Mapping[str, np.ndarray]):
    """Labels by dimension, as a file can hold them: those of a million rows are made for what has rows only.

    Args:
        known: Dimension -> labels.
    """

    def __init__(self, known: Mapping[str, Sequence[Any]]):
        self.known = dict(known)
        self.made: dict[str, np.ndarray] = {}

    @classmethod
    def of(cls, data: Any) -> Labels:
        """Return those of data."""
        return cls({**data.coords, **({} if data.test is None else {"test_row": data.test.row_labels})})

    def __getitem__(self, dim: str) -> np.ndarray:
        if dim not in self.made:
            self.made[dim] = all_storable(self.known[dim])
        return self.made[dim]

    def __contains__(self, dim: object) -> bool:
        return dim in self.known  # a mapping's own would make them

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def _add(result: Groups, name: str, arrays: Arrays, labels: Labels, *, drawn: bool = True) -> None:
    """Add a group, with labels but for those of dimensions that a program uses for something of another size."""
    sizes: dict[str, set[int]] = {}
    for dims, array in arrays.values():
        for dim, size in zip(dims, array.shape[2 if drawn else 0 :], strict=True):
            sizes.setdefault(dim, set()).add(size)
    known = {dim: labels[dim] for dim in sizes if dim in labels and sizes[dim] == {len(labels.known[dim])}}
    own = {each: list(dims) for each, (dims, _) in arrays.items()}
    result.add(name, {each: array for each, (_, array) in arrays.items()}, own, known, drawn=drawn)


def _add_data(result: Groups, fit: Fit, budget: float, labels: Labels, whole: bool, notes: list[str]) -> None:
    """Add the data, draws from the prior, and data simulated from the fit and from the prior: so many bytes of each.

    A note says what cannot be simulated, and for which units it is.
    """
    posterior, prior, statistics, theirs = fit.posterior, Draws(), Arrays(), labels
    with noted(notes, "statistics of the data"):
        part = predictive.simulated_part(fit)[0]
        of = posterior if whole or part.units is None else part.posterior
        statistics, theirs = of.statistics(of.own), labels if of is posterior else Labels.of(of.data)
    if statistics:
        with noted(notes, "data simulated from the fit"):
            sets = predictive.of_fit(fit)
            if 0 < (kept := _add_sets(result, "posterior_predictive", sets, budget)) < predictive.SIMULATIONS:
                notes.append(f"predictive data sets: {kept} kept, of {predictive.SIMULATIONS}")
            if sets.part.units is not None:
                notes.append(f"data are simulated for {sets.part}, evenly chosen")
    with noted(notes, "draws from the prior"), seeded(fit.seed):
        prior = _prior(fit, min(PRIOR_DRAWS, int(budget / (8 * fit.draws.scalars))), notes)
        _add(result, "prior", _arrays({s: (tuple(posterior.sites[s]), value) for s, value in prior.items()}), labels)
    if statistics and prior:
        with noted(notes, "data simulated from the prior"):
            _add_sets(result, "prior_predictive", predictive.of_prior(fit), budget)
    seen, constant = posterior.stored() if whole else ({}, {})
    _add(result, "observed_data", {**statistics, **seen}, theirs, drawn=False)
    _add(result, "constant_data", {**constant, **_truth(fit)}, labels, drawn=False)


def _add_sets(result: Groups, name: str, sets: predictive.Sets, budget: float) -> int:
    """Add statistics of simulated data sets, evenly chosen: as many as a number of bytes holds. Return how many."""
    size = sum(4 * array[0].size for _, array in sets.statistics.values())
    at = evenly(sets.count, int(budget / max(1, size))).numpy()
    if len(at):
        arrays = {each: (dims, array[at][None]) for each, (dims, array) in sets.statistics.items()}
        _add(result, name, arrays, Labels.of(sets.part.posterior.data))
    return len(at)


def _add_pointwise(
    result: Groups, fit: Fit, pointwise: Tensor, labels: Labels, every: int, budget: float, notes: list[str]
) -> None:  # fmt: skip
    """Add log-likelihoods [chain, draw, unit]: ArviZ wants the observed variable's name, whose dimension is the unit.

    Args:
        result: Gets them.
        fit: The fit.
        pointwise: All of them.
        labels: Of dimensions.
        every: Which draws these are of, where others are stored, too; 0: of all.
        budget: Bytes; of more units some are chosen evenly.
        notes: Gets what was chosen.
    """
    (name, unit), part, count = (fit.posterior.observed, fit.posterior.unit), fit.looked_at, pointwise.shape[-1]
    chosen = evenly(count, max(1, int(budget / (8 * pointwise[..., 0].numel()))))
    known: dict[str, Any] = {}
    if len(chosen) < count:
        notes.append(f"log-likelihoods are stored of {len(chosen)} units of {part.total}, evenly chosen")
        pointwise = pointwise[..., chosen.to(pointwise.device)]
    places = (chosen if part.units is None else part.units.cpu()[chosen]).tolist()
    if unit in labels and len(labels.known[unit]) == part.total:
        known = {unit: [storable(str(labels.known[unit][i])) for i in places]}
    elif len(places) < part.total:
        known = {unit: places}
    known |= {"draw": list(range(0, fit.draws.shape[1], every))} if every else {}
    result.add("log_likelihood", {name: pointwise.cpu().numpy()}, {name: [unit]}, known)


def _attributes(fit: Fit) -> dict[str, Any]:
    container = type(fit.data)
    return {
        "model": fit.model_name,
        **{name: getattr(fit, name) for name in ("method", "kind", "status", "seed", "seconds")},
        "data": storable(fit.data.name),
        "settings": json.dumps(fit.model.values()), "sites": json.dumps(list(fit.posterior.sites)),
        "container": f"{container.__module__}:{container.__name__}", "versions": json.dumps(versions()),
        "notes": json.dumps(fit.notes),
    }  # fmt: skip


def program_groups(
    density: ProgramDensity, vectors: Tensor, statistics: Mapping[str, Tensor],
    warmup: tuple[Tensor, dict[str, Tensor]] | None, coords: Mapping[str, Sequence[Any]], attributes: Mapping[str, Any],
) -> Groups:  # fmt: skip
    """Convert the draws of any Pyro program.

    Args:
        density: The program's density, which knows its sites and plates.
        vectors: Draws [chain, draw, size].
        statistics: ArviZ name -> [chain, draw].
        warmup: The same of the warm-up, to be kept.
        coords: Dimension -> labels; a plate without labels is counted from 0.
        attributes: Of the result.

    Returns:
        Groups posterior, sample_stats, observed_data and, if kept, those of the warm-up.
    """

    def values(flat: Tensor) -> dict[str, np.ndarray]:
        draws = density.values(flat)
        return _numpy(draws | density.deterministic(draws))

    dims = {**density.dims, **density.derived, **{name: names for name, (_, names) in density.observed.items()}}
    result = Groups(attrs={**attributes, "versions": json.dumps(versions())})
    result.add("posterior", values(vectors), dims, coords)
    result.add("sample_stats", _numpy(statistics), dims, coords)
    result.add(
        "observed_data", _numpy({n: value for n, (value, _) in density.observed.items()}), dims, coords, drawn=False
    )
    if warmup is not None and warmup[0].shape[1]:
        result.add("warmup_posterior", values(warmup[0]), dims, coords)
        result.add("warmup_sample_stats", _numpy(warmup[1]), dims, coords)
    return result


def _thinning(fit: Fit, budget: float) -> int:
    """Return the step at which draws fit into a number of bytes."""
    chains, count = fit.draws.shape
    size = 8 * chains * count * fit.draws.scalars
    return min(count, max(1, -(-int(size) // max(1, int(budget)))))


def _arrays(values: Mapping[str, tuple[tuple[str, ...], Tensor]]) -> Arrays:
    return {name: (dims, value.detach().cpu().numpy()) for name, (dims, value) in values.items()}


def _numpy(values: Values) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in values.items()}


def _prior(fit: Fit, total: int, notes: list[str]) -> Draws:
    """Draw the global sites from the prior, [1, total, *event]; a note says why where that cannot be done."""
    few = fit.posterior.on(fit.posterior.few)
    try:
        draws = few.prior_draws(total)
    except (NotApplicable, NotImplementedError) as error:
        notes.append(f"no draws from the prior: {error}")
        return Draws()
    return Draws.stack([{site: draw[site] for site in fit.posterior.sites} for draw in draws]) if draws else Draws()


def _truth(fit: Fit) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the truth of a simulation; a fit with another number of components has no coordinate in common with it."""
    return {
        f"true_{site}": (tuple(dims), fit.data.truth[site].cpu().numpy())
        for site, dims in fit.posterior.sites.items()
        if site in fit.data.truth and fit.data.truth[site].shape == fit.draws[site].shape[2:]
    }


class Stored(Fit):
    """A fit in a file, whose draws are read when somebody asks for them."""

    groups: Groups

    # Fields of a fit, here read when first asked for: mypy knows no field that a property stands in for.
    @cached_property
    def draws(self) -> Draws:  # type: ignore[override]
        """The draws of the sites."""
        draws = Draws(_tensors(self.groups, "posterior"))
        if "sites" in self.groups.attrs:  # others are functions of them
            draws = Draws({site: draws[site] for site in json.loads(self.groups.attrs["sites"])})
        for site, value in draws.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise DataError(f"posterior.nc is damaged: draws of {site} are not finite")
        return draws

    @cached_property
    def sample_stats(self) -> dict[str, Tensor]:  # type: ignore[override]
        """The statistics of the sampler."""
        return _tensors(self.groups, "sample_stats")

    @cached_property
    def expectations(self) -> Values:  # type: ignore[override]
        """What the method knows beyond draws."""
        return _tensors(self.groups, "expectations")

    @cached_property
    def moments(self) -> list[Moment]:  # type: ignore[override]
        """What the state said at some steps."""
        return read_moments(self.groups, list(self.posterior.sites))

    def read(self) -> Fit:
        """Return the fit with everything read, to go on with."""
        found = {name: getattr(self, name) for name in READ_LATER}
        fit = Fit.__new__(Fit)
        vars(fit).update({**vars(self), **found})
        for name in ("groups", "outline"):  # made anew of what may change from here on
            vars(fit).pop(name, None)
        return fit


READ_LATER = ("draws", "sample_stats", "expectations", "moments")


def from_groups(data: Groups, model: Model, given: Any = None) -> Stored:
    """Rebuild a fit from what ``to_groups`` stored; trace, runs and metrics stand in other files.

    Args:
        data: As read from posterior.nc.
        model: The model, with the hyper-parameters of the run.
        given: The data, where they are not stored.

    Raises:
        DataError: The data are of no container that this version knows.
    """
    attributes, kind = data.attrs, posterior_class(type(model))
    if given is None:
        groups = [data[group] if group in data else xr.Dataset() for group in ("observed_data", "constant_data")]
        coords = {str(dim): list(map(str, labels.values)) for group in groups for dim, labels in group.coords.items()}
        observed, constant = ({str(n): np.asarray(v.values) for n, v in group.items()} for group in groups)
        site = "data" if kind is Posterior else str(kind.observed)
        container = model.container or _container(attributes.get("container", ""))
        restored = container.restore(observed, constant, coords, site)
        given = dataclasses.replace(restored, name=attributes.get("data", restored.name))
    fit = Stored(
        posterior=kind(model, given), method=attributes["method"], kind=attributes["kind"], draws=Draws(),
        trace=pd.DataFrame(), runs=pd.DataFrame(), status=attributes["status"], objective_name="",
        objective=float("nan"), iterations=0, seconds=float(attributes["seconds"]), seed=int(attributes["seed"]),
        notes=_notes(str(attributes.get("notes", ""))),
    )  # fmt: skip
    for name in READ_LATER:
        vars(fit).pop(name)
    fit.groups = data
    if "sites" in attributes and (found := read_outline(data, json.loads(attributes["sites"]))) is not None:
        vars(fit)["outline"] = found
    return fit


def _notes(stored: str) -> list[str]:
    """Return the notes of a fit; earlier versions joined them."""
    return json.loads(stored) if stored.startswith("[") else [note for note in stored.split("; ") if note]


def _tensors(data: Groups, group: str) -> dict[str, Tensor]:
    there = data[group].items() if group in data else ()
    return {str(name): torch.as_tensor(np.asarray(value.values)) for name, value in there}


def _container(address: str) -> Any:
    """Return the class of data at an address that ``to_groups`` wrote."""
    module, _, name = address.partition(":")
    if not module.startswith("pyrozoo.data."):
        raise DataError(f"the data are of {address or 'no kind that was stored'}, which cannot be read back")
    return getattr(importlib.import_module(module), name)
