"""Recovery studies: methods fitted to many data sets simulated from a stated truth, and what each recovers of it."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import DataError, NotApplicable, SettingError, UserError
from pyrozoo.core.picture import Picture
from pyrozoo.core.progress import bar
from pyrozoo.core.seeds import seed_of, seeded
from pyrozoo.core.settings import check_types, suggestion
from pyrozoo.data.simulate import simulate_data
from pyrozoo.run import catalog
from pyrozoo.run.fit import configuration, engine_fit
from pyrozoo.run.names import model_of
from pyrozoo.store.run_directory import CONFIG, read_config, write_table, write_text
from pyrozoo.studies.recover.judge import COLUMNS, sentences, summarise
from pyrozoo.studies.recover.page import ESTIMATES, picture, read_estimates, share_table, write_recovery

EXTENDABLE = ("simulations", "methods")
"""What a resumed study may change; anything else would make it another study."""


@dataclass(frozen=True)
class Recovery:
    """What methods recovered of the truth; printing it shows a table.

    Attributes:
        experiment: The study's name.
        study: Its settings.
        estimates: Rows of ``diagnostics.recovery.COLUMNS``.
        status: completed or interrupted.
    """

    experiment: str
    study: Mapping[str, Any]
    estimates: pd.DataFrame
    status: str

    @property
    def summary(self) -> pd.DataFrame:
        """A row per setting, method and quantity: see ``diagnostics.recovery.summarise``."""
        return summarise(self.estimates)

    @property
    def sentences(self) -> dict[str, list[str]]:
        """What the estimates show, in plain words."""
        return sentences(self.estimates)

    @property
    def picture(self) -> Picture:
        """The estimates of every setting and method against the truth."""
        return picture(self.estimates, self.summary)

    def __repr__(self) -> str:
        return f"Share of the truth recovered:\n{share_table(self.estimates).to_string(index=False)}"

    def save(self, directory: str | Path) -> Path:
        """Write estimates, summary, picture and report."""
        directory = Path(directory)
        _write_config(directory, self.experiment, self.study)
        write_recovery(directory, self.experiment, self.study, self.estimates, self.status)
        return directory


@dataclass(frozen=True)
class _Setting:
    """One setting of a study, ready to simulate from.

    Attributes:
        name: Its name.
        model: The model that simulates and is fitted.
        shape: What ``simulate_data`` takes.
        truth: Sites held at a value.
        symmetric: Sites that are symmetric matrices.
    """

    name: str
    model: Model
    shape: Mapping[str, Any]
    truth: Mapping[str, Tensor]
    symmetric: frozenset[str]


def recover(
    settings: str | Mapping[str, Any],
    *,
    simulations: int | None = None,
    methods: Sequence[str] | None = None,
    seed: int | None = None,
    rows: int | None = None,
    threads: int | None = None,
    progress: bool = True,
    directory: str | Path | None = None,
    resume: bool = False,
) -> Recovery:
    """Fit methods to data sets simulated from a stated truth.

    Args:
        settings: The name of an experiment that is a recovery study, or what such a file states under ``recovery``:
            model, simulations, seed, sites (whose estimates are compared with the truth), methods (method -> its
            settings), settings (name, model, shape, truth), and conclusion (what the study is meant to test).
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
    name, study = _named(settings)
    folder = None if directory is None else Path(directory)
    before: dict[str, Any] | None = None
    if resume:
        if folder is None:
            raise SettingError("resume needs the directory of the study")
        before = _stored(folder, name)
        study = before | {"methods": before["methods"] if methods is None else study["methods"] | before["methods"]}
    study = _changed(study, simulations, methods, seed, rows)
    places = _prepared(study)
    whole = study
    estimates: list[dict[str, Any]] = []
    if folder is not None:
        if before is not None:
            whole = _extended(before, study, folder)
        if (folder / ESTIMATES).is_file():
            if not resume:
                raise SettingError(f"{folder} holds a study already; resume goes on with it")
            estimates += [
                dict(zip(COLUMNS, row, strict=True)) for row in read_estimates(folder).itertuples(index=False)
            ]
        _write_config(folder, name, whole)
    status = "completed"
    try:
        for rows_of_fit in _fits(study, places, estimates, threads, progress):
            estimates += rows_of_fit
            if folder is not None:
                write_table(folder / ESTIMATES, pd.DataFrame(estimates, columns=COLUMNS))
    except KeyboardInterrupt:
        status = "interrupted"
    return Recovery(name, whole, _ordered(estimates, whole), status)


def _named(settings: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and settings of a study, as plain values that a file can hold."""
    if not isinstance(settings, str):
        return "study", yaml.safe_load(yaml.safe_dump(dict(settings), sort_keys=False))
    if settings not in catalog.recoveries():
        raise SettingError(f"{settings!r} is not a recovery study; {suggestion(settings, catalog.recoveries())}")
    return settings, dict(catalog.settings("experiment", settings)["recovery"])


def _check(
    model: str, simulations: int, seed: int, sites: Sequence[str], methods: Mapping, settings: Sequence[Mapping],
    conclusion: str = "",
) -> None:  # fmt: skip
    """The settings of a study; see ``check_types``."""


def _check_setting(name: str, model: Mapping, shape: Mapping, truth: Mapping) -> None:
    """One of its settings."""


def _changed(
    study: dict[str, Any], simulations: int | None, methods: Sequence[str] | None, seed: int | None, rows: int | None
) -> dict[str, Any]:
    """Return the study with changes, and with everything about it but models and truths checked."""
    asked = {"simulations": simulations, "seed": seed}
    study = study | {key: value for key, value in asked.items() if value is not None}
    check_types(_check, study, "recovery", "a study")
    for key in ("model", "simulations", "seed", "sites", "methods", "settings"):
        if key not in study:
            raise SettingError(f"recovery.{key} is missing")
    for key, least in (("simulations", 1), ("seed", 0)):
        if study[key] < least:
            raise SettingError(f"recovery.{key} is {study[key]}; it must be at least {least}")
    if problem := catalog.check_choice("model", study["model"]):
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
    names = [_checked_name(setting) for setting in study["settings"]]
    if not names or not study["methods"] or not study["sites"]:
        raise SettingError("recovery needs at least one of settings, methods and sites")
    if len(set(names)) < len(names):
        raise SettingError(f"recovery.settings: {max(names, key=names.count)!r} is there twice")
    if rows is not None:
        study["settings"] = [s | {"shape": {**s["shape"], "rows": rows}} for s in study["settings"]]
    return study


def _checked_name(setting: Mapping[str, Any]) -> str:
    """Check the parts of one setting; return its name."""
    check_types(_check_setting, setting, "recovery.settings", "a setting")
    for key in ("name", "model", "shape", "truth"):
        if key not in setting:
            raise SettingError(f"recovery.settings {setting.get('name', '')!r}: {key} is missing")
    return setting["name"]


def _prepared(study: Mapping[str, Any]) -> list[_Setting]:
    """Make models and truths of all settings, so that what is wrong with one is said before any work."""
    result = []
    for setting in study["settings"]:
        try:
            result.append(_prepare(study, setting))
        except UserError as error:
            raise SettingError(f"recovery.settings {setting['name']!r}: {error}") from None
    return result


def _prepare(study: Mapping[str, Any], setting: Mapping[str, Any]) -> _Setting:
    model = model_of(catalog.settings("model", study["model"]) | dict(setting["model"]))
    shape = {key: value for key, value in setting["shape"].items() if key != "missing"}
    check_types(model.container.blank, shape, "shape")
    for key, parameter in inspect.signature(model.container.blank).parameters.items():
        if parameter.default is parameter.empty and key not in shape:
            raise SettingError(f"shape.{key} is missing")
    with seeded(0):
        posterior = Posterior.of(model, model.container.blank(**shape))
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
    return _Setting(setting["name"], model, setting["shape"], truth, symmetric)


def _write_config(directory: Path, name: str, study: Mapping[str, Any]) -> None:
    content = {"experiment": name, "recovery": dict(study)}
    write_text(directory / CONFIG, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


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


def _extended(before: Mapping[str, Any], study: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return the study that a directory holds together with what is asked for now.

    Raises:
        SettingError: What is asked for is another study.
    """
    for key in ("seed", "settings"):
        if before[key] != study[key]:
            what = "seed" if key == "seed" else "rows"
            raise SettingError(
                f"recovery.{what} is not that of the study in {directory}; "
                f"a resumed study can change {' and '.join(EXTENDABLE)} and nothing else"
            )
    methods = before["methods"] | study["methods"]
    return {**study, "methods": methods, "simulations": max(before["simulations"], study["simulations"])}


def _fits(
    study: Mapping[str, Any], places: Sequence[_Setting], there: Sequence[Mapping[str, Any]], threads: int | None,
    progress: bool,
) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """Make the fits that are not there yet, data set by data set, and yield the rows of each.

    All settings have their first data set before any has its second: what an interrupted study has is balanced.
    """
    done = {(row["setting"], row["simulation"], row["method"]) for row in there}
    plan = [
        (index, number, [m for m in study["methods"] if (setting.name, number, m) not in done])
        for number in range(study["simulations"])
        for index, setting in enumerate(places)
    ]
    total = len(plan) * len(study["methods"])
    done_before = total - sum(len(methods) for *_, methods in plan)
    with bar(total, "fits", shown=progress, initial=done_before) as shown:
        for index, number, methods in plan:
            if not methods:
                continue
            setting, place = places[index], (study["seed"], index, number)
            try:
                data = simulate_data(setting.model, seed=seed_of(*place), given=setting.truth, **setting.shape)
            except (ValueError, RuntimeError) as error:  # torch's, of a truth outside the support of its prior
                reason = (str(error).splitlines() or ["?"])[0]
                raise SettingError(f"recovery.settings {setting.name!r}: nothing can be simulated: {reason}") from None
            for method in methods:
                if not shown.disable:
                    shown.set_postfix_str(f"{method}, {setting.name}", refresh=False)
                row = {"setting": setting.name, "simulation": number, "method": method}
                own = dict(study["methods"][method])
                solver = own.pop("solver", {})
                try:
                    seed = seed_of(*place, zlib.crc32(method.encode()))
                    config = configuration(
                        setting.model, method, data, own, seed=seed, threads=threads, progress=False, solver=solver
                    )
                    fit = engine_fit(config, model=setting.model, data=data)
                except NotApplicable as error:
                    yield [row | _absent(error)]
                except UserError as error:
                    raise type(error)(f"{method}, {setting.name!r}, data set {number}: {error}") from None
                else:
                    if fit.status == "interrupted":  # what half a fit says is no estimate
                        raise KeyboardInterrupt
                    yield [row | each for each in _rows(fit, data.truth, study["sites"], setting.symmetric)]
                shown.update()


def _absent(error: NotApplicable) -> dict[str, Any]:
    blank = {"kind": "", "seconds": float("nan"), "quantity": "", "estimate": float("nan"), "truth": float("nan")}
    return {**blank, "status": "not_applicable", "error": str(error)}


def _rows(
    fit: Fit, truth: Mapping[str, Tensor], sites: Sequence[str], symmetric: frozenset[str]
) -> Iterator[dict[str, Any]]:
    """Yield the mean of the draws of every element of the sites, labels and rotations aligned to the truth."""
    true = {site: truth[site][None, None] for site in fit.posterior.sites}
    draws = fit.posterior.align(fit.draws, true)
    about = {"kind": fit.kind, "status": fit.status, "seconds": fit.seconds}
    for site in sites:
        means = draws[site].double().flatten(0, 1).mean(0)
        for index in np.ndindex(*means.shape):
            if site in symmetric and index[0] < index[1]:
                continue
            quantity = f"{site}[{', '.join(map(str, index))}]" if index else site
            values = {"estimate": float(means[index]), "truth": float(truth[site][index])}
            yield {**about, "quantity": quantity, **values, "error": ""}


def _ordered(estimates: Sequence[Mapping[str, Any]], study: Mapping[str, Any]) -> pd.DataFrame:
    """Return estimates by setting, method and data set, in the study's order, whatever the order of the work."""
    frame = pd.DataFrame(estimates, columns=COLUMNS)
    settings, methods = [setting["name"] for setting in study["settings"]], list(study["methods"])
    keys = pd.DataFrame(
        {
            "setting": frame["setting"].map({name: i for i, name in enumerate(settings)}),
            "method": frame["method"].map({name: i for i, name in enumerate(methods)}),
            "simulation": frame["simulation"],
        }
    )
    order = keys.sort_values(["setting", "method", "simulation"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)
