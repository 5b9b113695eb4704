"""Recovery studies: methods fitted to many data sets simulated from a stated truth, and what each recovers of it."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, NotApplicable, SettingError, UserError, first_line
from pyrozoo.core.seeds import seed_of, seeded
from pyrozoo.core.settings import Settings, check_types, stated, suggestion, whole
from pyrozoo.data.simulate import simulate_data
from pyrozoo.run import catalog
from pyrozoo.run.fit import as_model, configuration, engine_fit
from pyrozoo.run.names import model_of
from pyrozoo.run.source import container_of
from pyrozoo.store.run_directory import read_config, write_table
from pyrozoo.studies.recover.judge import COLUMNS
from pyrozoo.studies.recover.page import ESTIMATES, Recovery, as_stored, read_estimates, study_in
from pyrozoo.studies.study import Study


@dataclass(frozen=True)
class _Stated(Settings):
    """What a study states."""

    prefix = "recovery."
    model: str
    simulations: int = whole()
    seed: int = whole(0)
    sites: Sequence[str] = stated()
    methods: Mapping = stated()
    settings: Sequence[Mapping] = stated()
    conclusion: str = ""


@dataclass(frozen=True)
class _Part(Settings):
    """What it states of one of its settings."""

    prefix = "recovery.settings."
    name: str
    model: Mapping
    shape: Mapping
    truth: Mapping


@dataclass(frozen=True)
class _Setting:
    """One setting of a study, ready to simulate from.

    Attributes:
        name: Its name.
        model: The model that simulates and is fitted.
        shape: What ``simulate_data`` takes.
        blank: Data of the shape to simulate, in place of ``shape``, or None.
        truth: Sites held at a value.
        symmetric: Sites that are symmetric matrices.
    """

    name: str
    model: Model
    shape: Mapping[str, Any]
    blank: Any
    truth: Mapping[str, Tensor]
    symmetric: frozenset[str]


def recover(
    settings: str | Mapping[str, Any], *, model: str | Model | Callable[..., Any] | None = None, data: Any = None,
    args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, simulations: int | None = None,
    methods: Sequence[str] | None = None, seed: int | None = None, rows: int | None = None,
    threads: int | None = None, progress: bool = True, directory: str | Path | None = None, resume: bool = False,
) -> Recovery:  # fmt: skip
    """Fit methods to data sets simulated from a stated truth.

    Args:
        settings: The name of an experiment that is a recovery study, or what such a file states under ``recovery``:
            model, simulations, seed, sites (whose estimates are compared with the truth), methods (method -> its
            settings), settings (name and, where needed, fields of the model, shape, truth), and conclusion (what the
            study is meant to test). A model is a name or the path of a file that defines one.
        model: A model, or a plain Pyro function, in the place of the study's.
        data: Data of the shape to simulate, in place of every setting's: what is not observed of them stays as it is.
        args: Arguments of a plain Pyro function; what it observes is simulated in the place of what they hold.
        kwargs: Its keyword arguments.
        simulations: Data sets simulated in every setting, in place of the study's.
        methods: Those of the study's methods that are run; None: all.
        seed: Of simulation and fits, in place of the study's. Every data set and every fit has a seed of its own
            derived from it and from its place, so that neither depends on what else is run.
        rows: Rows of every data set, in place of the study's.
        threads: torch threads; None leaves torch's choice.
        progress: Show a progress bar on a terminal.
        directory: Where every finished fit is written at once.
        resume: Go on with the study in the directory, with the settings that it was begun with; more simulations and
            other methods may be asked for.

    Returns:
        The estimates, and what they say. After Ctrl-C, those there are, with status interrupted.

    Raises:
        SettingError: A setting that is unknown or out of range, or another study in the directory.
        DataError: There is nothing to resume.
        UserError: What a fit raised, but for ``NotApplicable``, which is listed.
    """
    check_types(recover, {"threads": threads, "progress": progress}, "config")
    asked = {"simulations": simulations, "methods": methods, "seed": seed, "rows": rows}
    check_types(recover, asked, "recovery")
    given, data = (None, data) if model is None else as_model(model, data, args, kwargs)
    name, stated = _named(settings)
    if given is not None:
        stated["model"] = given if isinstance(given, str) else given.name
    given = None if isinstance(given, str) else given
    study = study_in(directory)
    before: dict[str, Any] | None = None
    if (folder := study.asked(resume)) is not None and resume:
        before = _stored(folder, name)
        known = before["methods"] if methods is None else stated["methods"] | before["methods"]
        stated = before | {"methods": known}
    stated = _changed(stated, simulations, methods, seed, rows, given is not None)
    places = _prepared(stated, given, data)
    whole = stated if before is None else _extended(before, stated, study)
    estimates: list[dict[str, Any]] = []
    if study.begun(resume) and folder is not None:
        rows_there = read_estimates(folder).itertuples(index=False)
        estimates += [dict(zip(COLUMNS, row, strict=True)) for row in rows_there]
    study.remember(as_stored(name, whole))
    done = {(row["setting"], row["simulation"], row["method"]) for row in estimates}
    total = stated["simulations"] * len(places) * len(stated["methods"])
    left = [(index, number, [m for m in stated["methods"] if (place.name, number, m) not in done])
            for number in range(stated["simulations"]) for index, place in enumerate(places)]  # fmt: skip

    def work(one: _One) -> None:
        estimates.extend(_rows(one, stated, threads))
        if folder is not None:
            write_table(folder / ESTIMATES, pd.DataFrame(estimates, columns=COLUMNS), digits=None)

    status = study.carry_out(
        _data_sets(stated, places, left), work, total=total, done=total - sum(len(each) for *_, each in left),
        what="fits", shown=progress, said=lambda one: f"{one.method}, {one.setting.name}",
    )  # fmt: skip
    return Recovery(name, whole, _ordered(estimates, whole), status)


def _named(settings: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and settings of a study, as plain values that a file can hold."""
    if not isinstance(settings, str):
        return "study", yaml.safe_load(yaml.safe_dump(dict(settings), sort_keys=False))
    if settings not in catalog.recoveries():
        raise SettingError(f"{settings!r} is not a recovery study; {suggestion(settings, catalog.recoveries())}")
    return settings, dict(catalog.settings("experiment", settings)["recovery"])


def _changed(
    study: dict[str, Any], simulations: int | None, methods: Sequence[str] | None, seed: int | None, rows: int | None,
    given: bool,
) -> dict[str, Any]:  # fmt: skip
    """Return the study with changes, and with everything about it but models and truths checked."""
    asked = {"simulations": simulations, "seed": seed}
    study = study | {key: value for key, value in asked.items() if value is not None}
    _Stated.of(study, "a study")
    if not given and (problem := catalog.check_choice("model", study["model"])):
        raise SettingError(f"recovery.{problem}")
    for method in methods or ():
        if method not in study["methods"]:
            raise SettingError(f"recovery.methods={method} is not there; {suggestion(method, study['methods'])}")
    study["methods"] = {m: dict(own or {}) for m, own in study["methods"].items() if methods is None or m in methods}
    for method, own in study["methods"].items():
        if problem := catalog.check_choice("inference", method):
            raise SettingError(f"recovery.methods: {problem}")
        valid = {*catalog.settings("inference", method), "solver"} - set(catalog.ABOUT)
        for key in own:
            if key not in valid:
                raise SettingError(f"recovery.methods.{method} has no setting {key!r}; {suggestion(key, valid)}")
    study["settings"] = [{"model": {}, "shape": {}, "truth": {}, **setting} for setting in study["settings"]]
    names = [_Part.of(setting, "a setting").name for setting in study["settings"]]
    if not names or not study["methods"] or not study["sites"]:
        raise SettingError("recovery needs at least one of settings, methods and sites")
    if len(set(names)) < len(names):
        raise SettingError(f"recovery.settings: {max(names, key=names.count)!r} is there twice")
    if rows is not None:
        study["settings"] = [s | {"shape": {**s["shape"], "rows": rows}} for s in study["settings"]]
    return study


def _prepared(study: Mapping[str, Any], given: Model | None, data: Any) -> list[_Setting]:
    """Make models and truths of all settings, so that what is wrong with one is said before any work."""
    result = []
    for setting in study["settings"]:
        try:
            result.append(_prepare(study, setting, given, data))
        except UserError as error:
            raise SettingError(f"recovery.settings {setting['name']!r}: {error}") from None
    return result


def _prepare(study: Mapping[str, Any], setting: Mapping[str, Any], given: Model | None, data: Any) -> _Setting:
    if given is None:
        model = model_of(catalog.model_settings(study["model"]) | dict(setting["model"]))
    else:
        model = type(given).of({f.name: getattr(given, f.name) for f in fields(given)} | dict(setting["model"]))
    container, blank = container_of(model, data), None
    if data is None:
        example_data = container.blank(**_blank_shape(container, setting["shape"]))
    elif setting["shape"]:
        raise SettingError(f"shape.{next(iter(setting['shape']))}: the data that are given have their shape")
    else:
        example_data = blank = container.of(data)
    with seeded(0):
        posterior = Posterior.of(model, example_data)
        example = posterior.prior_draw()
    for key, names in (("sites", study["sites"]), ("truth", setting["truth"])):
        for site in names:
            if site not in posterior.sites:
                raise SettingError(f"{key}: there is no site {site!r}; {suggestion(site, posterior.sites)}")
    truth = {}
    for site, value in setting["truth"].items():
        try:
            truth[site] = torch.tensor(value, dtype=example[site].dtype)
        except (TypeError, ValueError):
            raise SettingError(f"truth.{site} is {value!r}; it must be numbers") from None
        if truth[site].shape != example[site].shape:
            raise SettingError(f"truth.{site} has shape {list(truth[site].shape)}, not {list(example[site].shape)}")
    # A draw from the prior is symmetric by construction or not at all.
    square = {site: value for site, value in example.items() if value.ndim == 2 and len(value) == len(value.mT)}
    symmetric = frozenset(site for site, value in square.items() if torch.allclose(value, value.mT))
    return _Setting(setting["name"], model, setting["shape"], blank, truth, symmetric)


def _blank_shape(container: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    shape = {key: value for key, value in asked.items() if key != "missing"}
    check_types(container.blank, shape, "shape")
    for key, parameter in inspect.signature(container.blank).parameters.items():
        if parameter.default is parameter.empty and key not in shape:
            raise SettingError(f"shape.{key} is missing")
    return shape


def _stored(directory: Path, name: str) -> dict[str, Any]:
    """Return the settings of the study in a directory.

    Raises:
        DataError: There is none.
        SettingError: It is another.
    """
    config = read_config(directory)
    if "recovery" not in config:
        raise DataError(f"{directory} is not the directory of a recovery study")
    if config["experiment"] != name:
        raise SettingError(f"{directory} holds the study {config['experiment']}, not {name}")
    return config["recovery"]


def _extended(before: Mapping[str, Any], stated: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """Return the study that a directory holds together with what is asked for now, unless that is another study."""
    for key, said in (("seed", "seed"), ("settings", "rows")):
        if before[key] != stated[key]:
            study.refuse(f"recovery.{said}")
    most = max(before["simulations"], stated["simulations"])
    return {**stated, "methods": before["methods"] | stated["methods"], "simulations": most}


class _One(NamedTuple):
    """One fit of a study: a method, and the data that it is given.

    Attributes:
        setting: The setting.
        place: Seed of the study, and numbers of setting and data set: what seeds of its own derive from.
        method: The method.
        data: The data set, with its truth.
    """

    setting: _Setting
    place: tuple[int, int, int]
    method: str
    data: Any


def _data_sets(
    study: Mapping[str, Any], places: Sequence[_Setting], left: Sequence[tuple[int, int, list[str]]]
) -> Iterator[_One]:
    """Yield the fits that are not there yet, data set by data set.

    All settings have their first data set before any has its second: what an interrupted study has is balanced.
    """
    for index, number, methods in left:
        setting, place = places[index], (study["seed"], index, number)
        if methods:
            try:
                data = simulate_data(
                    setting.model, seed=seed_of(*place), given=setting.truth, blank=setting.blank, **setting.shape
                )
            except (ValueError, RuntimeError) as error:  # torch's, of a truth outside the support of its prior
                why = f"nothing can be simulated: {first_line(error)}"
                raise SettingError(f"recovery.settings {setting.name!r}: {why}") from None
        yield from (_One(setting, place, method, data) for method in methods)


def _rows(one: _One, study: Mapping[str, Any], threads: int | None) -> list[dict[str, Any]]:
    """Make a fit, and return a row per quantity; of one that does not apply, one with the reason."""
    setting, method, number = one.setting, one.method, one.place[-1]
    own = dict(study["methods"][method])
    solver = own.pop("solver", {})
    row = {"setting": setting.name, "simulation": number, "method": method}
    try:
        config = configuration(
            setting.model, method, one.data, own, seed=seed_of(*one.place, zlib.crc32(method.encode())),
            threads=threads, progress=False, solver=solver,
        )  # fmt: skip
        fit = engine_fit(config, model=setting.model, data=one.data)
    except NotApplicable as error:
        nothing = dict.fromkeys(("seconds", "estimate", "truth"), float("nan"))
        return [{**row, **nothing, "kind": "", "quantity": "", "status": "not_applicable", "error": str(error)}]
    except UserError as error:
        raise type(error)(f"{method}, {setting.name!r}, data set {number}: {error}") from None
    if fit.status == "interrupted":  # what half a fit says is no estimate
        raise KeyboardInterrupt
    return [row | each for each in _estimates(fit, one.data.truth, study["sites"], setting.symmetric)]


def _estimates(
    fit: Fit, truth: Mapping[str, Tensor], sites: Sequence[str], symmetric: frozenset[str]
) -> Iterator[dict[str, Any]]:
    """Yield the mean of the draws of every element of the sites, labels and rotations aligned to the truth."""
    true = {site: truth[site][None, None] for site in fit.posterior.sites}
    draws = fit.posterior.align(fit.draws, true)
    about = {"kind": fit.kind, "status": fit.status, "seconds": fit.seconds, "error": ""}
    for site in sites:
        means = draws[site].double().flatten(0, 1).mean(0)
        for index in np.ndindex(*means.shape):
            if site in symmetric and index[0] < index[1]:
                continue
            quantity = f"{site}[{', '.join(map(str, index))}]" if index else site
            values = {"estimate": float(means[index]), "truth": float(truth[site][index])}
            yield {**about, "quantity": quantity, **values}


def _ordered(estimates: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> pd.DataFrame:
    """Return estimates by setting, method and data set, in the study's order, whatever the order of the work."""
    settings, methods = [setting["name"] for setting in study["settings"]], list(study["methods"])
    ordered = sorted(
        estimates, key=lambda row: (settings.index(row["setting"]), methods.index(row["method"]), row["simulation"])
    )
    return pd.DataFrame(ordered, columns=COLUMNS)
