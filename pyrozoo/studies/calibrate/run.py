"""Calibration: are a method's intervals calibrated? Simulation-based, for every model.

Parameters and data are drawn from the model's own program, the method is fitted, and the truth is ranked among the
posterior draws. Over many such data sets the ranks of a right posterior are uniform (Talts et al. 2018,
arXiv:1804.06788), those of the log-likelihood too, which sees a method that ignores the data (Modrák et al. 2023,
Bayesian Analysis 20).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.method import Loop
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import DataError, NotApplicable, NumericalError, SettingError, UserError
from pyrozoo.core.seeds import seed_of, seeded
from pyrozoo.core.settings import Settings, check_types, flag, whole
from pyrozoo.data.simulate import simulate_data
from pyrozoo.run import catalog
from pyrozoo.run.fit import as_model, configuration, engine_fit, known_as
from pyrozoo.run.names import check_names, method_of, model_of
from pyrozoo.run.source import PREPARATION, container_of
from pyrozoo.store.run_directory import read_config
from pyrozoo.studies.calibrate import judge
from pyrozoo.studies.calibrate.page import RANKS, TASK, Calibration, read_ranks, write_ranks
from pyrozoo.studies.study import Study

SIZES = {"rows": 50, "columns": 4}
"""Of the data sets, unless others are asked for: a calibration makes hundreds of fits."""

KEPT = 49
"""Draws of every fit that are ranked, evenly chosen: 50 ranks."""

LEAST = 9
"""Fewer draws say too little of a rank."""

WANTED = 2 * (KEPT + 1)
"""Effective draws, of every invariant, at which a sampler may stop: those that are ranked are then nearly
independent."""

FIRST = 4
"""Draws per effective draw that a sampler is thought to need before it has been tried."""

MOST = 60
"""Quantities of a group, about."""

TRIALS = 5
"""Data sets after which it is no use to go on when none could be fitted."""

CHANGEABLE = ("simulations", "progress", "threads")
"""What a resumed calibration may change; anything else would make it another one."""

SAME = ("model", "inference", "data", "solver", "seed", "device", "dtype", "posterior_megabytes")
"""What makes a calibration what it is."""


def calibrate(
    model: str | Model | Callable[..., Any], method: str, *, simulations: int = 200, rows: int | None = None,
    columns: int | None = None, data: Any = None, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
    seed: int = 0, device: Literal["cpu", "cuda", "auto"] = "cpu", dtype: Literal["float64", "float32"] = "float64",
    threads: int | None = 1, posterior_megabytes: float = 200, solver: Mapping[str, Any] | None = None,
    progress: bool = True, directory: str | Path | None = None, resume: bool = False, **settings: Any,
) -> Calibration:  # fmt: skip
    """Check by simulation whether a method's posterior is calibrated.

    Args:
        model: A model's name, the path of a file that defines one, a model, or a plain Pyro function: what is simulated
            from and fitted.
        method: A method of that model. A sampler's draws are thinned to nearly independent ones: a fit runs until it
            has made ``WANTED`` effective draws of every invariant, at most as long as its settings say. A method that
            finds a mode of the log joint (em) gets Laplace's Gaussian around it; other points cannot be calibrated.
        simulations: Data sets.
        rows: Of every data set; None: ``SIZES``.
        columns: The same.
        data: Data of the shape to simulate, in place of ``rows`` and ``columns``: what is not observed stays as it is.
        args: Arguments of a plain Pyro function; what it observes is simulated in the place of what they hold.
        kwargs: Its keyword arguments.
        seed: Of all of it. Every simulation has seeds of its own, derived from it and from its number: of the data,
            which are the same for all methods, of the fit, and of what breaks ties.
        device: cpu, cuda or auto.
        dtype: float64 or float32.
        threads: torch threads; None leaves torch's choice. More than one gain nothing on little data.
        posterior_megabytes: What the draws of a fit may take.
        solver: Options of the model's own solver for this method.
        progress: Show a progress bar on a terminal.
        directory: Where ranks are written after every simulation.
        resume: Go on with the calibration there; more simulations may be asked for.
        **settings: Fields of the model, settings of the method and of the data (``missing``, ``categories``), by name,
            as ``pyrozoo.fit`` takes them.

    Returns:
        The ranks, and what they say. After Ctrl-C, those there are, with status interrupted.

    Raises:
        SettingError: A setting that is unknown or out of range, or another calibration in the directory.
        NotApplicable: A method that the model does not have, or one without draws.
        DataError: There is nothing to resume.
        UserError: What the fits raised, if none of the first few succeeded.
    """
    model, data = as_model(model, data, args, kwargs)
    given, known = (None, model) if isinstance(model, str) else (model, known_as(model))
    blank = None
    if data is not None:
        fitted = model_of(catalog.model_settings(known)) if given is None else given
        blank = container_of(fitted, data).of(data)
    usual: dict[str, Any] = {"holdout": 0.0, **(SIZES if blank is None else {})}
    config = configuration(
        model, method, data_choice(known) if blank is None else blank, {**usual, **settings}, seed=seed,
        device={"name": device}, dtype=dtype, threads=threads, progress=progress,
        posterior_megabytes=posterior_megabytes, solver=dict(solver or {}),
    )  # fmt: skip
    config["data"] |= {key: value for key, value in {"rows": rows, "columns": columns}.items() if value is not None}
    config = {"task": TASK, "simulations": simulations, **config}
    study = _study(directory)
    if (folder := study.asked(resume)) is not None and resume:
        before = read_config(folder)
        if before.get("task") != TASK:
            raise DataError(f"{folder} is not the directory of a calibration")
        for key in SAME:
            if before.get(key, config[key]) != config[key]:
                study.refuse(key)
    return run(config, directory=folder, resume=resume, model=given, blank=blank)


def _study(directory: str | Path | None) -> Study:
    return Study("calibration", None if directory is None else Path(directory), RANKS, ", ".join(CHANGEABLE))


def data_choice(model: str) -> str:
    """Return the choice of conf/data that lists what data simulated from a model need."""
    default = catalog.default_data(model)
    return default if catalog.settings("data", default)["source"] == "simulated" else "simulated"


def fill(config: Any) -> None:
    """Put ``SIZES`` into a configuration in the place of sizes that are null."""
    for key, value in SIZES.items():
        if key in config["data"] and config["data"][key] is None:
            config["data"][key] = value


@dataclass(frozen=True)
class _Plan:
    """What every simulation of a calibration shares.

    Attributes:
        model: The model that simulates and is fitted.
        config: Resolved, the data given in Python.
        shape: What ``simulate_data`` takes.
        own: Whether the model was given in Python.
        mode: Whether the method finds a mode, and the draws are those of Laplace's Gaussian there.
        kept: Draws that are ranked.
        invariants: Invariants that are ranked, and where they are; the same of every data set.
        parameters: The same of raw elements of sites.
        identified: Whether raw parameters mean anything by themselves: nothing is left free by labels or rotations.
    """

    model: Model
    config: Mapping[str, Any]
    shape: Mapping[str, Any]
    own: bool
    mode: bool
    kept: int
    invariants: judge.Places
    parameters: judge.Places
    identified: bool


def run(
    config: Mapping[str, Any], *, directory: Path | None = None, resume: bool = False, model: Model | None = None,
    blank: Any = None,
) -> Calibration:  # fmt: skip
    """Do what a resolved configuration says, as conf/config.yaml composes it, with ``simulations``; see ``calibrate``.

    A model, and data of the shape to simulate, may be given in Python.
    """
    threads = torch.get_num_threads()
    try:
        return _carried_out(_study(directory), config, resume, _prepared(config, model, blank))
    finally:
        torch.set_num_threads(threads)  # fits set it


def _carried_out(study: Study, config: Mapping[str, Any], resume: bool, plan: _Plan) -> Calibration:
    records: list[dict[Any, Any]] = []
    if study.begun(resume) and study.directory is not None:
        rows = zip(*(frame.to_dict("records") for frame in read_ranks(study.directory)), strict=True)
        records = [{**fit, "ranks": ranks} for fit, ranks in rows]
    study.remember(config, again=False)  # the command has written its own
    count = max([config["simulations"], *(record["simulation"] + 1 for record in records)])
    names = [*plan.invariants, *plan.parameters]
    done = {record["simulation"] for record in records}

    def work(number: int) -> None:
        records.append(_simulation(plan, number))
        hopeless = all(record["error"] for record in records)
        if hopeless and len(records) >= min(TRIALS, count):
            why = records[0]["error"]
            raise DataError(f"none of the first {len(records)} data sets could be fitted: {why}")
        if study.directory is not None and not hopeless:
            write_ranks(study.directory, *_frames(records, names))

    model, method = config["model"]["name"], config["inference"]["name"]
    status = study.carry_out(
        [number for number in range(count) if number not in done], work, total=count, done=len(done),
        what=f"{method} of {model}, data sets", shown=config["progress"],
    )  # fmt: skip
    invariants = frozenset(source for source, _ in plan.invariants.values())
    fits, ranks = _frames(records, names)
    return Calibration(model, method, {**config, "simulations": count}, ranks, fits, status, invariants)


def _frames(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what is kept of the fits, and ranks of the quantities that any of them has, by simulation."""
    ordered = sorted(records, key=lambda record: record["simulation"])
    index = pd.Index([record["simulation"] for record in ordered], name="simulation", dtype=int)
    ranks = pd.DataFrame([each["ranks"] for each in ordered], columns=[*names], index=index, dtype=float)
    return pd.DataFrame(ordered, columns=list(judge.FITS)), ranks.dropna(axis=1, how="all")


def _prepared(config: Mapping[str, Any], given: Model | None, blank: Any) -> _Plan:
    """Check the configuration and make what all simulations share, before any work."""
    _Own.check({key: config[key] for key in ("simulations", "seed", "progress")})
    for key in ("checkpoint_every", "synthetic_rows", "synthetic_given"):
        if config.get(key) is not None:
            rows = "a calibration draws no synthetic rows"
            why = rows if key.startswith("synthetic") else "the ranks are written after every simulation"
            raise SettingError(f"{key} has no meaning for task=calibrate: {why}")
    name, method, inference = config["model"]["name"], config["inference"]["name"], config["inference"]
    if given is None:
        check_names(config["model"], method)
    known = name if config["model"].get("source") is None else catalog.ANY  # a file may be called as a model of the zoo
    if problem := no_draws(known, method):
        able = [each for each in catalog.methods(known) if no_draws(known, each) is None]
        raise NotApplicable(f"{problem}; {name} can be calibrated by {', '.join(able)}")
    _Sampled.check(inference)
    mode = _point(known, method) is not None
    # One prior simulates and is fitted: nothing is left to each data set.
    model = (model_of(config["model"]) if given is None else given).given(None)
    shape = _shape(config["data"], model) if blank is None else {"blank": blank}
    kept = KEPT if mode else min(KEPT, inference.get("draws", KEPT) * inference.get("chains", 1))
    if kept < LEAST:
        raise SettingError(f"inference.draws: {kept} draws are too few to rank the truth among; {LEAST} at least")
    truth, data = _simulated(model, shape, config["seed"], 0)
    posterior = Posterior.of(model, data)
    with seeded(0), torch.no_grad(), pyro.validation_enabled(False):
        found, sites = posterior.invariants(truth), {site: truth[site] for site in posterior.sites}
        identified = _identified(posterior)
    invariants = judge.places(found, MOST)
    # An invariant that is a site too is no other quantity.
    parameters = {each: where for each, where in judge.places(sites, MOST).items() if each not in invariants}
    prepared = {**config, "data": {"source": "given", **PREPARATION}, "progress": False}
    if given is None:
        prepared["model"] = {**config["model"], **model.values()}
    return _Plan(model, prepared, shape, given is not None, mode, kept, invariants, parameters, identified)


@dataclass(frozen=True)
class _Own(Settings):
    """A calibration's own settings."""

    simulations: int = whole()
    seed: int = whole(0, 2**63 - 1)
    progress: bool = flag()


@dataclass(frozen=True)
class _Sampled(Settings):
    """Settings of a method that are looked at before its engine does."""

    prefix = "inference."
    draws: int = whole()
    chains: int = whole()


def _shape(settings: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Return what ``simulate_data`` takes from the settings of the data.

    Raises:
        SettingError: They are not simulated, or ask for what a calibration does not do.
    """
    rest = dict(settings)
    if (source := rest.pop("source")) != "simulated":
        how = "a calibration draws its data from the model's own program (data=simulated)"
        raise SettingError(f"data.source is {source}: {how}")
    if rest.pop("truth", None) is not None:
        raise SettingError("data.truth: a calibration simulates with the model that it fits, model.*, and no other")
    for key, usual in {**PREPARATION, "holdout": 0.0, "holdout_of": "all"}.items():
        if rest.pop(key, usual) != usual:
            said = "all has the one seed" if key == "seed" else "nothing is hidden or changed"
            raise SettingError(f"data.{key} is {settings[key]}; in a calibration {said}, and it must be {usual}")
    check_types(simulate_data, {"missing": rest.get("missing", 0.0)}, "data")
    check_types(container_of(model).blank, {key: value for key, value in rest.items() if key != "missing"}, "data")
    return rest


def _point(model: str, method: str) -> Any:
    """Return the model's own solver for a method if it finds a point, else None."""
    generic = catalog.settings("inference", method)["needs"] != "solver"
    solver = None if generic else catalog.solver(model, method).Solver
    return solver if getattr(solver, "kind", "") == "point" else None


def no_draws(model: str, method: str) -> str | None:
    """Return why a method has nothing to rank the truth among, in one line, or None."""
    if (solver := _point(model, method)) is None:
        return None
    found, said = solver.objective_name, f"{method} of {model} finds a point, which has no draws"
    if found != "log_joint":
        return f"{said}, and Laplace's Gaussian needs a mode of the log joint, not of the {found.replace('_', ' ')}"
    if "laplace" not in catalog.methods(model):
        return f"{said}, and Laplace's Gaussian is not to be had: {catalog.refused(model).get('laplace', 'no laplace')}"
    return None


def _identified(posterior: Posterior) -> bool:
    """Return whether draws from the prior are as they are in canonical form: no label or rotation is left free."""
    several = [posterior.prior_draw() for _ in range(8)]
    draws = Draws.stack([{site: draw[site] for site in posterior.sites} for draw in several])
    return all(torch.equal(value, draws[site]) for site, value in posterior.align(draws).items())


DATA, FIT, TIES = 0, 1, 2
"""Streams of a simulation."""


def _simulated(model: Model, shape: Mapping[str, Any], seed: int, number: int) -> tuple[Draws, Any]:
    """Draw a truth, site -> [1, 1, *event], and data from it.

    Which entries are missing differs between data sets, and has nothing to do with their values: the posterior given
    what is left is calibrated all the same.
    """
    with pyro.validation_enabled(False):
        data = simulate_data(model, seed=seed_of(seed, number, DATA), **shape)
    sites = Posterior.of(model, data).sites
    return Draws({site: data.truth[site][None, None] for site in sites}), data


def _simulation(plan: _Plan, number: int) -> dict[str, Any]:
    """Simulate, fit and rank.

    A fit that fails for the data it was given, and not for its settings, is told as such; the others go on.
    """
    truth, data = _simulated(plan.model, plan.shape, plan.config["seed"], number)
    seed = seed_of(plan.config["seed"], number, FIT, zlib.crc32(plan.config["inference"]["name"].encode()))
    row = {"simulation": number, "kind": "", "status": "failed", "seconds": math.nan, "draws": 0, "error": ""}
    row |= {"effective_draws": math.nan, "ranks": {}}
    try:
        fit, seconds, found, effective = _fitted(plan, data, seed)
    except (DataError, NumericalError) as error:
        return {**row, "error": str(error)}
    except UserError as error:
        raise type(error)(f"data set {number}: {error}" if number else str(error)) from None
    sites = {site: fit.draws[site] for site in fit.posterior.sites}
    if fit.kind in ("samples", "exact") or plan.identified:
        found |= judge.scalars(sites, plan.parameters)
    chosen = evenly(next(iter(found.values())).numel(), plan.kept)
    true = {s: v.to(sites[s].device, sites[s].dtype) for s, v in truth.items()}
    with seeded(seed_of(plan.config["seed"], number, TIES)):
        known = judge.scalars(_invariants(fit.posterior, true), plan.invariants)
        known |= judge.scalars(true, plan.parameters)
        drawn = {name: value.flatten()[chosen.to(value.device)] for name, value in found.items()}
        ranks = judge.scaled_ranks(drawn, known)
    row |= {"kind": fit.kind, "status": fit.status, "seconds": seconds, "draws": len(chosen)}
    return {**row, "effective_draws": effective, "ranks": ranks}


def _invariants(posterior: Posterior, draws: Values) -> Draws:
    with torch.no_grad(), pyro.validation_enabled(False):
        return Draws(posterior.invariants(draws))


def _fitted(plan: _Plan, data: Any, seed: int) -> tuple[Fit, float, dict[str, Tensor], float]:
    """Fit one data set.

    A Markov chain is run anew, longer, until it has made enough effective draws, at most as long as its settings say
    (Talts et al. 2018, algorithm 2, with an end): ranks among autocorrelated draws are not uniform however right the
    sampler is, and hundreds of runs longer than that are a waste.

    Returns:
        The fit, seconds over all runs, the invariants that are ranked, [chain, draw], and the least ESS of them.
    """
    inference, seconds = dict(plan.config["inference"]), 0.0
    chain, most = "warmup" in inference, inference.get("draws", 0)
    if chain:
        inference["draws"] = min(most, max(4, math.ceil(FIRST * WANTED / max(1, inference["chains"]))))
    while True:
        config = {**plan.config, "inference": inference, "seed": seed}
        fit = engine_fit(config, data=data, **({"model": plan.model} if plan.own else {}))
        seconds += fit.seconds
        if fit.status == "interrupted":  # what half a fit says is no posterior
            raise KeyboardInterrupt
        if plan.mode:
            fit = _gaussian(plan, fit, seed)
            seconds += fit.seconds
        found = judge.scalars(_invariants(fit.posterior, fit.draws), plan.invariants)
        effective = judge.effective_draws(found) if fit.kind == "samples" else math.nan
        if not chain or effective >= WANTED or inference["draws"] >= most:
            return fit, seconds, found, effective
        factor = 2.0 if math.isnan(effective) else 1.5 * WANTED / max(effective, 1.0)
        inference = {**inference, "draws": min(most, math.ceil(inference["draws"] * factor))}


def _gaussian(plan: _Plan, fit: Fit, seed: int) -> Fit:
    """Return Laplace's Gaussian at the mode that a fit found, in unconstrained space, where the mode is another one."""
    settings = {**catalog.settings("inference", "laplace"), "restarts": 1, "draws": plan.kept}
    starts = {site: value[:, 0] for site, value in fit.draws.items()}
    method = method_of(settings, known_as(fit.model), {}, starts=starts)
    result = method(fit.posterior, Loop(seed=seed, progress=False))
    result.method = fit.method
    if result.status == "interrupted":
        raise KeyboardInterrupt
    if fit.status != "converged":
        result.status = fit.status
    return result
