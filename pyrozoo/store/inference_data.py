"""The one converter to what ArviZ knows, and back: a Fit becomes groups of draws, statistics and data."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Arrays, Posterior, posterior_class
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import DataError, NotApplicable, noted
from pyrozoo.core.paths import version
from pyrozoo.core.seeds import seeded
from pyrozoo.data.container import storable
from pyrozoo.diagnostics import predictive
from pyrozoo.program.density import ProgramDensity
from pyrozoo.store.groups import Groups

PRIOR_DRAWS = 200

PACKAGES = ("pyrozoo", "torch", "pyro-ppl", "numpy", "arviz", "nutpie")


def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    return {name: version(name) for name in PACKAGES}


def to_groups(fit: Fit, megabytes: float = 200.0) -> Groups:
    """Convert a fit.

    Args:
        fit: The fit.
        megabytes: What grows with the number of draws may take: three quarters for draws and their pointwise
            log-likelihood, an eighth for each set of simulated data. Draws beyond that are thinned evenly, which
            ``fit.notes`` says from then on, as do the attributes.

    Returns:
        Groups posterior, sample_stats, log_likelihood, posterior_predictive, prior, prior_predictive, observed_data,
        constant_data, with the data's own labels as coordinates.
    """
    posterior, data, notes = fit.posterior, fit.data, [*fit.data.notes, *fit.notes]
    budget = megabytes * 1e6
    # One step for parameters and statistics: draw i is the same draw in all of them.
    step = _thinning(fit, 0.75 * budget)
    notes += [f"one draw in {step} is stored, to keep this file within {megabytes:g} MB"] if step > 1 else []
    chosen, pointwise = 1, None
    with noted(notes, "the log-likelihoods of units"):
        chosen, pointwise = fit.pointwise
    if chosen > 1:
        notes.append(f"log-likelihoods, LOO and invariants are those of one draw in {chosen}: each takes long")
    if fit.looked_at.units is not None:
        notes.append(f"log-likelihoods of units, LOO and what is made of them are of {fit.looked_at}, evenly chosen")
    step = chosen * -(-step // chosen) if step > 1 else 1
    draws = fit.draws.every(step)
    statistics, prior, simulated = _simulated(fit, budget / 8, notes)
    seen, constant = posterior.stored()
    seen, constant = {**statistics, **seen}, {**constant, **_truth(fit)}
    coords = {name: _labels(labels) for name, labels in data.coords.items()}
    if data.test is not None:
        coords["test_row"] = _labels(data.test.row_labels)
    derived: Arrays = {}
    with noted(notes, "functions of the parameters"):
        derived = posterior.derived(draws)
    dims = {name: list(each) for name, each in posterior.sites.items()}
    dims |= {name: list(each) for name, (each, _) in {**seen, **constant, **derived}.items()}
    known = _fitting(coords, {**seen, **constant}, posterior.sites, draws)
    result = Groups()
    result.add("posterior", _numpy(draws) | {name: array for name, (_, array) in derived.items()}, dims, known)
    result.add("sample_stats", _numpy({n: value[:, ::step] for n, value in fit.sample_stats.items()}), dims, known)
    result.add("prior", prior, dims, known)
    for name, sets in simulated.items():
        _add_sets(result, name, sets, budget / 8)
    for name, arrays in (("observed_data", seen), ("constant_data", constant)):
        result.add(name, {each: array for each, (_, array) in arrays.items()}, dims, known, drawn=False)
    if pointwise is not None:
        chosen_draws = pointwise[:, :: max(1, step // chosen)]
        _add_pointwise(result, fit, chosen_draws, coords, chosen if step < chosen else 0)
    inner = {name: posterior.invariant_dims[name] for name in fit.expectations}
    result.add("expectations", _numpy(fit.expectations), inner, coords, drawn=False)  # ArviZ has no name for it
    fit.notes = list(dict.fromkeys(notes))
    attributes = _attributes(fit)
    result.attrs.update(attributes)
    for group in result.values():
        group.attrs.update(attributes)
    return result


def _simulated(
    fit: Fit, budget: float, notes: list[str]
) -> tuple[Arrays, dict[str, np.ndarray], dict[str, predictive.Sets]]:
    """Return statistics of the data, draws from the prior, and data sets simulated from both, by the group's name.

    A note says what cannot be simulated.
    """
    posterior, prior, statistics = fit.posterior, Draws(), Arrays()
    groups: dict[str, predictive.Sets] = {}
    with noted(notes, "statistics of the data"):
        statistics = posterior.statistics(posterior.own)
    if statistics:
        with noted(notes, "data simulated from the fit"):
            sets = groups["posterior_predictive"] = predictive.of_fit(fit)
            if 0 < (kept := len(_kept(sets, budget))) < predictive.SIMULATIONS:
                notes.append(f"predictive data sets: {kept} kept, of {predictive.SIMULATIONS}")
            if sets.part.units is not None:
                notes.append(f"data are simulated for {sets.part}, evenly chosen")
    with noted(notes, "draws from the prior"), seeded(fit.seed):
        prior = _prior(fit, min(PRIOR_DRAWS, int(budget / (8 * fit.draws.scalars))), notes)
    if statistics and prior:
        with noted(notes, "data simulated from the prior"):
            groups["prior_predictive"] = predictive.of_prior(fit)
    return statistics, _numpy(prior), groups


def _kept(sets: predictive.Sets, budget: float) -> np.ndarray:
    """Return which simulated data sets are kept, evenly chosen: as many as a number of bytes holds."""
    size = sum(4 * array[0].size for _, array in sets.statistics.values())
    return evenly(sets.count, int(budget / max(1, size))).numpy()


def _add_sets(result: Groups, name: str, sets: predictive.Sets, budget: float) -> None:
    """Add statistics of simulated data sets, with the labels of those units that they are simulated for."""
    at = _kept(sets, budget)
    if not len(at):
        return
    dims = {each: own for each, (own, _) in sets.statistics.items()}
    coords = {dim: _labels(labels) for dim, labels in sets.part.posterior.data.coords.items()}
    known = _fitting(coords, {each: (own, array[0]) for each, (own, array) in sets.statistics.items()}, {}, Draws())
    result.add(name, {each: array[at][None] for each, (_, array) in sets.statistics.items()}, dims, known)


def _add_pointwise(
    result: Groups, fit: Fit, pointwise: Tensor, coords: Mapping[str, list[Any]], every: int
) -> None:  # fmt: skip
    """Add log-likelihoods: ArviZ wants the observed variable's name, whose dimension is the model's unit."""
    name, unit = fit.posterior.observed, fit.posterior.unit
    part = fit.looked_at
    own = {unit: coords[unit]} if unit in coords and len(coords[unit]) == part.total else {}
    if own and part.units is not None:
        own = {unit: [coords[unit][i] for i in part.units.tolist()]}
    labels = own | ({"draw": list(range(0, fit.draws.shape[1], every))} if every else {})
    result.add("log_likelihood", {name: pointwise.cpu().numpy()}, {name: [unit]}, labels)


def _labels(labels: Sequence[Any]) -> list[str]:
    """Return labels as a file can hold them."""
    return [storable(str(label)) for label in labels]


def _fitting(
    coords: Mapping[str, list[Any]], arrays: Mapping[str, Any], sites: Mapping[str, Any], draws: Draws
) -> dict[str, list[Any]]:
    """Return labels of dimensions but for those that a program uses for something of another size."""
    sizes: dict[str, set[int]] = {}
    found = [(dims, array.shape) for dims, array in arrays.values()]
    for dims, shape in [*found, *((sites[site], value.shape[2:]) for site, value in draws.items())]:
        for dim, size in zip(dims, shape, strict=True):
            sizes.setdefault(dim, set()).add(size)
    return {name: labels for name, labels in coords.items() if sizes.get(name, {len(labels)}) == {len(labels)}}


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
    """Return the step at which draws and their pointwise log-likelihood fit into a number of bytes."""
    chains, count = fit.draws.shape
    size = 8 * chains * count * (fit.looked_at.posterior.units + fit.draws.scalars)
    return min(count, max(1, -(-int(size) // max(1, int(budget)))))


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


def from_groups(data: Groups, model: Model, given: Any = None) -> Fit:
    """Rebuild a fit from what ``to_groups`` stored; trace, runs and metrics stand in other files.

    Args:
        data: As read from posterior.nc.
        model: The model, with the hyper-parameters of the run.
        given: The data, where they cannot be stored: arguments of a program.

    Raises:
        DataError: The data are of no container that this version knows.
    """
    attributes = data.attrs
    draws = Draws(_tensors(data, "posterior"))
    if "sites" in attributes:  # others are functions of them
        draws = Draws({site: draws[site] for site in json.loads(attributes["sites"])})
    groups = [data[group] if group in data else xr.Dataset() for group in ("observed_data", "constant_data")]
    coords = {str(dim): list(map(str, labels.values)) for group in groups for dim, labels in group.coords.items()}
    observed, constant = ({str(n): np.asarray(v.values) for n, v in group.items()} for group in groups)
    kind = posterior_class(type(model))
    site = "data" if kind is Posterior else str(kind.observed)
    if given is None:
        container = model.container or _container(attributes.get("container", ""))
        restored = container.restore(observed, constant, coords, site)
        given = dataclasses.replace(restored, name=attributes.get("data", restored.name))
    return Fit(
        posterior=kind(model, given), method=attributes["method"], kind=attributes["kind"], draws=draws,
        trace=pd.DataFrame(), runs=pd.DataFrame(), status=attributes["status"], objective_name="",
        objective=float("nan"), iterations=0, seconds=float(attributes["seconds"]), seed=int(attributes["seed"]),
        sample_stats=_tensors(data, "sample_stats"), expectations=_tensors(data, "expectations"),
        notes=_notes(str(attributes.get("notes", ""))),
    )  # fmt: skip


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
