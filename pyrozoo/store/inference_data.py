"""The one converter to ArviZ, and back: a Fit becomes InferenceData, by way of ``from_dict`` only."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import seeded
from pyrozoo.diagnostics import predictive
from pyrozoo.program.density import ProgramDensity
from pyrozoo.program.trace import prior_draw

PRIOR_DRAWS = 200

PACKAGES = ("pyrozoo", "torch", "pyro-ppl", "numpy", "arviz", "nutpie")


def versions() -> dict[str, str]:
    """Return the versions of what computed a result."""
    return {name: version(name) for name in PACKAGES}


def to_inference_data(fit: Fit, megabytes: float = 200.0) -> az.InferenceData:
    """Convert a fit.

    Args:
        fit: The fit.
        megabytes: What grows with the number of draws may take: three quarters for draws and their pointwise
            log-likelihood, an eighth for each set of simulated data. Draws beyond that are thinned evenly, which
            ``attrs["notes"]`` says.

    Returns:
        Groups posterior, sample_stats, log_likelihood, posterior_predictive, prior, prior_predictive, observed_data,
        constant_data, with the data's own labels as coordinates.
    """
    model, data, notes = fit.model, fit.data, [*fit.data.notes, *fit.notes]
    budget = megabytes * 1e6
    # One step for parameters and statistics: draw i is the same draw in all of them.
    step = _thinning(fit, 0.75 * budget)
    notes += [f"one draw in {step} is stored, to keep this file within {megabytes:g} MB"] if step > 1 else []
    chosen, pointwise = fit.pointwise()
    if chosen > 1:
        notes.append(f"log-likelihoods, LOO and invariants are those of one draw in {chosen}: each takes long")
    step = chosen * -(-step // chosen) if step > 1 else 1
    posterior = {site: value[:, ::step] for site, value in fit.draws.items()}
    log_likelihood = pointwise[:, :: max(1, step // chosen)]
    count_of_draws = next(iter(fit.draws.values())).shape[1]
    observed = model.observed_site
    statistics = data.statistics(data.values, observed)
    with seeded(fit.seed):
        room = int(budget / 8 / (4 * sum(array.size for _, array in statistics.values())))
        count = min(room, predictive.affordable(fit))
        if count < predictive.SIMULATIONS:
            notes.append(f"predictive data sets: {count} kept, of {predictive.SIMULATIONS}")
        simulated = _predictive_sets(fit, fit.draws, count)
        size = 8 * sum(value[0, 0].numel() for value in fit.draws.values())
        prior = _prior(fit, min(PRIOR_DRAWS, int(budget / 8 / size)), notes)
        prior_predictive = _predictive_sets(fit, {s: v[:, :count] for s, v in prior.items()}, count) if prior else {}
    seen, constant = data.stored(observed)
    seen, constant = {**statistics, **seen}, {**constant, **_truth(fit)}
    coords = {name: list(labels) for name, labels in data.coords.items()}
    if data.test is not None:
        coords["test_row"] = list(data.test.row_labels)
    dims = {name: list(each) for name, each in model.sites.items()}
    dims |= {name: list(each) for name, (each, _) in {**seen, **constant}.items()}
    with warnings.catch_warnings():
        # A run cut short may have more chains than draws; ArviZ takes that for a mistake in the order of axes.
        warnings.filterwarnings("ignore", message="More chains")
        result = az.from_dict(
            posterior=_numpy(posterior),
            sample_stats=_numpy({name: value[:, ::step] for name, value in fit.sample_stats.items()}) or None,
            posterior_predictive=simulated or None,
            prior=_numpy(prior) or None,
            prior_predictive=prior_predictive or None,
            observed_data={name: array for name, (_, array) in seen.items()},
            constant_data={name: array for name, (_, array) in constant.items()} or None,
            coords=coords,
            dims=dims,
        )
        # ArviZ wants the observed variable's name here too, but its dimension is the model's unit: a call of its own.
        pointwise = az.from_dict(
            log_likelihood={observed: log_likelihood.cpu().numpy()},
            coords=coords | ({"draw": list(range(0, count_of_draws, chosen))} if step < chosen else {}),
            dims={observed: [model.unit]},
        )
        az.concat(result, pointwise, inplace=True)
        if fit.expectations:
            warnings.filterwarnings("ignore", message="the group expectations")  # ArviZ has no name for it
            arrays = {n: (fit.model.invariant_dims[n], v.cpu().numpy()) for n, v in fit.expectations.items()}
            known = {dim for each, _ in arrays.values() for dim in each} & set(coords)
            result.add_groups(expectations=xr.Dataset(arrays, {dim: coords[dim] for dim in known}))
    attributes = {
        "model": fit.model_name,
        "method": fit.method,
        "kind": fit.kind,
        "status": fit.status,
        "seed": fit.seed,
        "seconds": fit.seconds,
        "data": data.name,
        "settings": json.dumps(dataclasses.asdict(model)),  # type: ignore[call-overload]
        "versions": json.dumps(versions()),
        "notes": "; ".join(notes),
    }
    result.attrs.update(attributes)
    for group in result.groups():
        result[group].attrs.update(attributes)
    return result


def program_inference_data(
    density: ProgramDensity, vectors: Tensor, statistics: Mapping[str, Tensor],
    warmup: tuple[Tensor, dict[str, Tensor]] | None, coords: Mapping[str, Sequence[Any]], attributes: Mapping[str, Any],
) -> az.InferenceData:  # fmt: skip
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
    kept: dict[str, Any] = {}
    if warmup is not None and warmup[0].shape[1]:
        kept = {"warmup_posterior": values(warmup[0]), "warmup_sample_stats": _numpy(warmup[1]), "save_warmup": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="More chains")  # see above
        result = az.from_dict(
            posterior=values(vectors),
            sample_stats=_numpy(statistics),
            observed_data=_numpy({name: value for name, (value, _) in density.observed.items()}) or None,
            coords={name: list(labels) for name, labels in coords.items()},
            dims=dims,
            **kept,
        )
    result.attrs.update({**attributes, "versions": json.dumps(versions())})
    return result


def _thinning(fit: Fit, budget: float) -> int:
    """Return the step at which draws and their pointwise log-likelihood fit into a number of bytes."""
    chains, count = next(iter(fit.draws.values())).shape[:2]
    each = 8 * (fit.data.units + sum(value[0, 0].numel() for value in fit.draws.values()))
    return min(count, max(1, -(-int(chains * count * each) // max(1, int(budget)))))


def _numpy(values: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in values.items()}


def _predictive_sets(fit: Fit, draws: Draws, count: int) -> dict[str, np.ndarray]:
    """Return the statistics of simulated data sets, name -> [1, count, *statistic]."""
    statistics = [fit.data.statistics(v, fit.model.observed_site) for v in predictive.simulations(fit, draws, count)]
    sets = [{name: array for name, (_, array) in one.items()} for one in statistics]
    return {name: np.stack([each[name] for each in sets])[None] for name in (sets[0] if sets else {})}


def _prior(fit: Fit, total: int, notes: list[str]) -> Draws:
    """Draw the global sites from the prior, [1, total, *event]; a note says why where that cannot be done."""
    few = fit.data.first(1)
    try:
        draws = [prior_draw(fit.model, few) for _ in range(total)]
    except NotApplicable as error:
        notes.append(f"no draws from the prior: {error}")
        return {}
    return {site: torch.stack([draw[site] for draw in draws]).unsqueeze(0) for site in fit.model.sites} if draws else {}


def _truth(fit: Fit) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the truth of a simulation; a fit with another number of components has no coordinate in common with it."""
    return {
        f"true_{site}": (dims, fit.data.truth[site].cpu().numpy())
        for site, dims in fit.model.sites.items()
        if site in fit.data.truth and fit.data.truth[site].shape == fit.draws[site].shape[2:]
    }


def from_inference_data(data: az.InferenceData, model: Model) -> Fit:
    """Rebuild a fit from what ``to_inference_data`` stored; trace, runs and metrics stand in other files.

    Args:
        data: As read from posterior.nc.
        model: The model, with the hyper-parameters of the run.
    """
    attributes = data.attrs

    def tensors(group: str) -> Draws:
        return {str(name): torch.as_tensor(np.asarray(value.values)) for name, value in data[group].items()}

    coords: dict[str, list[str]] = {}
    for group in ("observed_data", "constant_data"):
        if group in data:
            coords |= {str(name): [str(v) for v in value.values] for name, value in data[group].coords.items()}
    constant = (
        {str(n): np.asarray(v.values) for n, v in data["constant_data"].items()} if "constant_data" in data else {}
    )
    observed = {str(n): np.asarray(v.values) for n, v in data["observed_data"].items()}
    restored = model.container.restore(observed, constant, coords, model.observed_site)
    return Fit(
        model=model,
        method=attributes["method"],
        kind=attributes["kind"],
        data=dataclasses.replace(restored, name=attributes.get("data", restored.name)),
        draws={site: value for site, value in tensors("posterior").items() if site in model.sites},
        trace=pd.DataFrame(),
        runs=pd.DataFrame(),
        status=attributes["status"],
        objective_name="",
        objective=float("nan"),
        iterations=0,
        seconds=float(attributes["seconds"]),
        seed=int(attributes["seed"]),
        sample_stats=tensors("sample_stats") if "sample_stats" in data else {},
        expectations=tensors("expectations") if "expectations" in data else {},
    )
