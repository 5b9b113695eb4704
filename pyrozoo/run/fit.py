"""The Python interface; the command is a thin shell over it. ``import pyrozoo`` loads this on first use."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import torch
import yaml
from omegaconf import OmegaConf

from pyrozoo.contracts.fit import SOLVER, Fit
from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import NotApplicable, SettingError
from pyrozoo.core.picture import Picture
from pyrozoo.core.settings import check_types, suggestion
from pyrozoo.diagnostics.metrics import evaluate
from pyrozoo.diagnostics.verdict import Line, Thresholds
from pyrozoo.inference.loop import LoopSettings
from pyrozoo.run import catalog
from pyrozoo.run.source import PREPARATION, read
from pyrozoo.store.inference_data import to_inference_data
from pyrozoo.store.run_directory import (
    CHECKPOINT,
    CONFIG,
    pictures_of,
    read_config,
    read_run,
    tables_of,
    write_page,
    write_run,
    write_text,
)
from pyrozoo.store.synthetic import check_request, synthetic_frame, write_synthetic
from pyrozoo.diagnostics.compare import Comparison, check_reference
from pyrozoo.diagnostics.compare import compare as compare_fits
from pyrozoo.studies.compare.page import (
    ABSENT,
    card_rows,
    judge,
    levels,
    reference_sentence,
    verdict_settings,
    write_comparison,
)
from pyrozoo.studies.compare.page import pictures_of as comparison_pictures
from pyrozoo.studies.compare.page import tables_of as comparison_tables

log = logging.getLogger(__name__)

RUN_SETTINGS = ("seed", "device", "dtype", "threads", "progress", "checkpoint_every", "posterior_megabytes",
                "synthetic_rows", "synthetic_given")  # fmt: skip
RESUMABLE = ("max_iterations", "max_steps", "tol", "progress", "threads", "checkpoint_every")
"""What a resumed run may change; anything else would make it another run."""

OWN: Mapping[str, Any] = {
    "seed": 0,
    "device": {"name": "cpu"},
    "dtype": "float64",
    "threads": None,
    "progress": True,
    "checkpoint_every": None,
    "posterior_megabytes": 200,
    "solver": {},
    "reference": None,
    "verdict": {},
}
"""A run's own settings where nothing else is asked for."""

GIVEN = "given"
STARTS = ("model", "prior", "laplace")
"""Where chains may start, besides at the draws of another fit."""


class Result(Fit):
    """A fit with its ArviZ data, its settings, and a way to disk."""

    settings: Mapping[str, Any]
    _inference_data: az.InferenceData | None = None

    @classmethod
    def of(cls, fit: Fit, settings: Mapping[str, Any], data: az.InferenceData | None = None) -> Result:
        """Dress an engine's fit."""
        result = cls(**{f.name: getattr(fit, f.name) for f in fields(Fit)})
        result.settings, result._inference_data = settings, data
        return result

    @cached_property
    def verdict(self) -> list[Line]:
        """What to believe of the fit, held to the settings' reference where there is one for this posterior."""
        return judge(self, self.settings)

    __repr__ = Fit.__str__  # a dataclass would print every draw

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """What users of the model ask for, such as clusters or recommendations: name -> table."""
        return tables_of(self)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """The pictures of the report, name -> picture; a notebook shows one that ends a cell."""
        return {picture.name: picture for picture in pictures_of(self, self.inference_data)}

    @cached_property
    def inference_data(self) -> az.InferenceData:
        """The fit as ArviZ InferenceData."""
        return self._inference_data or to_inference_data(self, float(self.settings.get("posterior_megabytes", 200)))

    def sample(self, count: int) -> Draws:
        """Return fresh draws from q, site -> [1, count, *event], from torch's global generator.

        Raises:
            SettingError: The fit is not variational, or was read from a run directory.
        """
        if self.sampler is None:
            raise SettingError(f"this {self.kind} fit by {self.method} cannot draw anew; fit.draws holds what there is")
        return self.sampler(count)[0]

    def save(self, directory: str | Path, config: str | None = None) -> Path:
        """Write a run directory.

        Args:
            directory: Where to; made when missing.
            config: The configuration to store, YAML; the fit's own settings when left out.

        Returns:
            The directory.
        """
        directory = Path(directory)
        text = config or yaml.safe_dump(dict(self.settings), sort_keys=False)
        asked = {name: self.settings.get(name) for name in ("synthetic_rows", "synthetic_given", "progress")}
        write_run(self, self.inference_data, directory, text, self.verdict, **asked)
        return directory

    def report(self, directory: str | Path) -> Path:
        """Write the tables, pictures and report.html of a run directory anew.

        Args:
            directory: The run directory that the fit was read from.

        Returns:
            The directory.
        """
        text = yaml.safe_dump(dict(self.settings), sort_keys=False)
        write_page(self, self.inference_data, Path(directory), text, self.verdict)
        return Path(directory)


class ComparisonResult:
    """Several fits side by side; printing it shows the table, a notebook the verdicts.

    Attributes:
        comparison: The ``Comparison``; its attributes (table, parameters, invariants, reference) are this one's too.
    """

    def __init__(self, comparison: Comparison):
        self.comparison = comparison

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comparison, name)

    def __repr__(self) -> str:
        return str(self.comparison)

    def _repr_html_(self) -> str:
        colours = {"pass": "#1a7f37", "warn": "#9a6700", "fail": "#cf222e"}
        shown = self.verdicts.map(lambda level: f'<span style="color: {colours.get(level, "inherit")}">{level}</span>')
        table = shown.rename(index=escape).to_html(escape=False, index_names=False)
        return f"<p>{escape(reference_sentence(self.comparison))}</p>{table}"

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Every card in a row: pass, warn or fail, overall and of each thing judged; empty where it does not arise."""
        return levels(self.comparison)

    @cached_property
    def reasons(self) -> pd.DataFrame:
        """Every line of every card with its sentence: fit, level, about, sentence."""
        return card_rows(self.comparison)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The model's own tables over several fits, name -> table; most models have none."""
        return comparison_tables(self.comparison)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """The pictures of the report, name -> picture; a notebook shows one that ends a cell."""
        return {picture.name: picture for picture in comparison_pictures(self.comparison)}

    def save(self, directory: str | Path) -> Path:
        """Write comparison.csv and report.html."""
        directory = Path(directory)
        nothing = pd.DataFrame(columns=list(ABSENT))
        write_comparison(directory, [self.comparison], nothing, {})
        return directory


def fit(
    model: str | Model,
    method: str,
    data: Any = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float64",
    holdout: float | None = None,
    progress: bool = True,
    checkpoint_every: int | None = None,
    directory: str | Path | None = None,
    test: Any = None,
    data_seed: int | None = None,
    threads: int | None = None,
    posterior_megabytes: float = 200,
    solver: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Result:
    """Fit a model.

    Args:
        model: A model's name, or a model.
        method: A method of that model (``list_models`` names them).
        data: An array, a DataFrame, a container, the name of a data set, a file's path, or None for the data that the
            model is tried on, in most cases simulated from it.
        seed: Of inference.
        device: cpu, cuda or auto.
        dtype: float64 or float32.
        holdout: Fraction of the observed entries to hide and predict; None takes the data's default (a tenth of
            simulated data, else nothing).
        progress: Show progress bars on a terminal.
        checkpoint_every: Iterations between checkpoints, written to ``directory``.
        directory: Where checkpoints go; ``resume`` continues from it.
        test: New rows (array, DataFrame, file) that are not fitted: assigned, and completed where cells are missing.
        data_seed: Of simulation and hold-out; None takes the data's default, 0.
        threads: torch threads; None leaves torch's choice.
        posterior_megabytes: What draws may take in posterior.nc.
        solver: Options of the model's own solver for this method, such as ``{"missing": "marginal"}``.
        **settings: Fields of the model, settings of the method, settings of the data (``rows``, ``columns`` ...), by
            name, as in conf; NUTS also takes another fit as ``start``.

    Returns:
        The fit, with its metrics.

    Raises:
        SettingError: A setting that neither model, method nor data has, or out of range.
        NotApplicable: A method that the model does not have.
        DataError: Data that the model cannot use.
    """
    if (directory is None) != (checkpoint_every is None):
        raise SettingError("directory and checkpoint_every go together: one says where checkpoints go, one how often")
    start = settings.get("start")
    if isinstance(start, Fit):
        settings["start"] = GIVEN
    config = configuration(
        model,
        method,
        data,
        settings,
        seed=seed,
        device={"name": device},
        dtype=dtype,
        threads=threads,
        progress=progress,
        checkpoint_every=checkpoint_every,
        posterior_megabytes=posterior_megabytes,
        solver=dict(solver or {}),
    )
    if data_seed is not None:
        config["data"]["seed"] = data_seed
    if holdout is not None:
        config["data"]["holdout"] = holdout
    container = None if data is None or isinstance(data, str | Path) else data
    return run(config, data=container, test=test, start=start, directory=None if directory is None else Path(directory))


def configuration(
    model: str | Model, method: str, data: Any, settings: Mapping[str, Any], **own: Any
) -> dict[str, Any]:
    """Return what conf says of a model, a method and data, with settings changed by name.

    Args:
        model: A model's name, or a model.
        method: A method of that model.
        data: As ``fit`` takes it.
        settings: Fields of the model, settings of the method and of the data.
        **own: The run's own settings in place of ``OWN``.

    Returns:
        What ``run`` takes.

    Raises:
        SettingError: No such model, method or setting.
        NotApplicable: The model has no such method.
    """
    name = model if isinstance(model, str) else type(model).__module__.split(".")[-2]
    check_names(name, method)
    config: dict[str, Any] = {
        "model": catalog.settings("model", name),
        "inference": catalog.settings("inference", method),
        "data": _data_settings(data, name),
        **OWN,
        **own,
    }
    if isinstance(model, Model):
        config["model"] = {"name": name} | {f.name: _listed(getattr(model, f.name)) for f in fields(model)}  # type: ignore[arg-type]
    for key, value in settings.items():
        free = ("inference", "data") if isinstance(model, Model) else ("model", "inference", "data")
        groups = [group for group in free if key in config[group] and key not in catalog.ABOUT]
        if not groups:
            valid = {k for g in ("model", "inference", "data") for k in config[g] if k not in catalog.ABOUT}
            raise SettingError(f"there is no setting {key!r}; {suggestion(key, valid)}")
        for group in groups:  # the labels of an image are the model's and the data's
            config[group][key] = _plain(value)
    return config


def _listed(value: Any) -> Any:
    """Return tuples as lists: YAML has no tuples that every reader takes."""
    return list(value) if isinstance(value, tuple) else _plain(value)


def _plain(value: Any) -> Any:
    """Return NumPy scalars and arrays as Python's own, which a configuration can hold."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _data_settings(data: Any, model: str) -> dict[str, Any]:
    if data is None:
        return catalog.settings("data", catalog.default_data(model))
    if isinstance(data, str) and data in catalog.options("data"):
        return catalog.settings("data", data)
    if isinstance(data, str | Path):
        if not Path(data).exists():
            raise SettingError(
                f"data={str(data)!r} is neither a file nor a data set; {suggestion(str(data), catalog.datasets())}"
            )
        return catalog.settings("data", catalog.file_data(model)) | {"path": str(data)}
    return {"source": "given", **PREPARATION}


def check_names(model: str, method: str) -> None:
    """Refuse, before any work, a model, a method or a pair that does not exist.

    Raises:
        SettingError: No such model or method.
        NotApplicable: The model has no such method.
    """
    for group, name in (("model", model), ("inference", method)):
        if problem := catalog.check_choice(group, name, model):
            raise SettingError(problem)
    if problem := catalog.check_pair(model, method):
        raise NotApplicable(problem)


def run(
    config: Mapping[str, Any],
    *,
    data: Any = None,
    test: Any = None,
    start: Any = None,
    directory: Path | None = None,
    resume: bool = False,
) -> Result:
    """Do what a resolved configuration says: data, model, engine, metrics.

    Args:
        config: Groups model, inference, data, device, and the run's own settings, as conf/config.yaml composes them.
        data: Data given in Python, in place of ``config["data"]``'s source.
        test: New rows given in Python.
        start: A fit given in Python, in place of ``config["inference"]``'s start.
        directory: Where checkpoints go.
        resume: Continue from the checkpoint there.

    Returns:
        The fit with its metrics; nothing is written but checkpoints.
    """
    fitted = engine_fit(config, data=data, test=test, start=start, directory=directory, resume=resume)
    fitted.metrics = evaluate(fitted)
    return Result.of(fitted, config)


def engine_fit(
    config: Mapping[str, Any],
    *,
    data: Any = None,
    test: Any = None,
    start: Any = None,
    directory: Path | None = None,
    resume: bool = False,
) -> Fit:
    """Do what ``run`` does, up to the engine's own fit: figures such as the hold-out's are not computed."""
    check_types(run_settings, {key: config[key] for key in RUN_SETTINGS if key != "device" and key in config}, "config")
    name, method = config["model"]["name"], config["inference"]["name"]
    check_names(name, method)
    device, dtype = run_settings(
        **{k: config[k] for k in RUN_SETTINGS if k != "device" and k in config}, device=config["device"]["name"]
    )
    model = make_model(config["model"])
    table = read(config["data"], model, given=data, test=test)
    check_request(name, config.get("synthetic_rows"), config.get("synthetic_given"))
    if config.get("synthetic_given"):
        table.codes_of(config["synthetic_given"])  # a wrong one is a mistake before the fit
    table = table.to(device, dtype)
    model.check(table)  # again: a precision may be too small for the values
    _, reference = verdict_settings(config)
    if reference is not None:
        check_reference(model, table, reference)  # before the work rather than after it
    loop = LoopSettings(
        seed=config["seed"],
        progress=config["progress"],
        checkpoint=directory / CHECKPOINT if directory else None,
        checkpoint_every=config["checkpoint_every"],
        resume=resume,
        megabytes=config["posterior_megabytes"],
    )
    if directory is not None and not (directory / CONFIG).exists():  # the command has written its own
        write_text(directory / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))
    return _engine(model, table, config, loop, start)


def run_settings(
    seed: int, dtype: str, threads: int | None, progress: bool, checkpoint_every: int | None,
    posterior_megabytes: float, synthetic_rows: int | None = None, synthetic_given: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> tuple[torch.device, torch.dtype]:  # fmt: skip
    """Apply the run's own settings; return device and precision.

    Raises:
        SettingError: An unknown device or precision, or no CUDA device where one is asked for.
    """
    if dtype not in ("float64", "float32"):
        raise SettingError(f"dtype is {dtype!r}; it must be float64 or float32")
    if device not in catalog.options("device"):
        raise SettingError(catalog.check_choice("device", device) or "")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device=cuda, but there is no CUDA device here; use device=cpu or device=auto")
    if not 0 <= seed < 2**63:
        raise SettingError(f"seed is {seed}; it must be between 0 and 2^63")
    if posterior_megabytes <= 0:
        raise SettingError(f"posterior_megabytes is {posterior_megabytes}; it must be positive")
    if threads is not None:
        if threads < 1:
            raise SettingError(f"threads is {threads}; it must be at least 1, or null")
        torch.set_num_threads(threads)
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu"), getattr(torch, dtype)


def make_model(settings: Mapping[str, Any]) -> Model:
    """Return the model that settings name, with all of its fields.

    Raises:
        SettingError: A field that it does not have, or out of range.
    """
    model = catalog.model_class(settings["name"])
    values = {key: value for key, value in settings.items() if key != "name"}
    check_types(model.__init__, values, "model")
    return model(**values)


def _engine(model: Model, data: Any, config: Mapping[str, Any], loop: LoopSettings, start: Any = None) -> Fit:
    """Call the method's engine with the method's settings; a setting that the engine does not have is an error."""
    inference, name = config["inference"], config["model"]["name"]
    method, about = inference["name"], catalog.settings("inference", inference["name"])
    engine = getattr(importlib.import_module(f"pyrozoo.inference.{about['engine']}"), about["engine"])
    settings = {key: value for key, value in inference.items() if key not in catalog.ABOUT}
    check_types(engine, settings, "inference", method, ("model", "data", "solver", "make_guide", "method", "loop"))
    if "start" in settings:
        settings["start"] = _start(settings["start"], start, model, data)
    parts: list[Any] = []
    options = dict(config.get("solver") or {})
    if about["needs"] != "solver" and options:
        raise SettingError(f"solver.{next(iter(options))}: {method} is no solver of {config['model']['name']}'s own")
    if about["needs"] == "solver":
        solver = catalog.part(name, method).Solver
        whose = f"{method} of {config['model']['name']}"
        check_types(solver.__init__, options, "solver", whose, ("model", "data"))
        parts = [solver(model, data, **options)]
    elif about["needs"] == "guide":
        parts = [catalog.part(name, about.get("guide", "guide")).Guide]
    fitted = engine(model, data, *parts, method=method, loop=loop, **settings)
    fitted.metrics |= {f"{SOLVER}{name}": value for name, value in options.items()}
    return fitted


def _start(name: Any, given: Any, model: Model, data: Any) -> Any:
    """Return where chains start: the name of a way, or the draws of another fit of the same model and shape.

    Raises:
        SettingError: Neither a way nor a run directory, or a fit of something else.
    """
    if name in STARTS:
        return name
    if name == GIVEN and not isinstance(given, Fit):
        return STARTS[0]  # a resumed run: its checkpoint holds the starts themselves
    if not isinstance(given, Fit) and not Path(str(name)).is_dir():
        raise SettingError(f"inference.start is {name!r}; it must be {', '.join(STARTS)} or a run directory")
    fit = given if isinstance(given, Fit) else load(name)
    expected = {site: value.shape[1:] for site, value in model.initial(data, 1).items()}
    if {site: value.shape[2:] for site, value in fit.draws.items()} != expected:
        raise SettingError(
            "inference.start: that fit has other sites, or others in size, than this model with these data"
        )
    like = data.values
    return {site: value.to(like.device, like.dtype) for site, value in fit.draws.items()}


def resume(directory: str | Path, data: Any = None, **changes: Any) -> Result:
    """Continue an interrupted or killed run from its last checkpoint, to the result it would have had.

    Args:
        directory: Its run directory.
        data: The same data again, when the run was given data in Python.
        **changes: What may change: ``RESUMABLE``.

    Returns:
        The fit.

    Raises:
        DataError: There is nothing to resume from.
        SettingError: A change that would make it another run, or data missing.
    """
    directory = Path(directory)
    config: Any = OmegaConf.to_container(OmegaConf.create(read_config(directory)), resolve=True)
    for name, value in changes.items():
        if name not in RESUMABLE:
            raise SettingError(f"{name}: a resumed run can change {', '.join(RESUMABLE)} and nothing else")
        (config["inference"] if name in config["inference"] else config)[name] = value
    if config["data"]["source"] == "given" and data is None:
        raise SettingError(f"the run in {directory} was given its data in Python: resume(directory, data=...)")
    return run(config, data=data, directory=directory, resume=True)


def synthesize(
    fit: Fit, count: int, *, given: Mapping[str, str] | None = None, path: str | Path | None = None, seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame | Path:  # fmt: skip
    """Draw synthetic rows from a fit: with the data's dependence between columns, and none of its rows copied.

    Args:
        fit: A fit of a model that can (categorical_fa).
        count: How many rows.
        given: Column -> level that all rows have; the other columns follow from it.
        path: A CSV file to write, a chunk at a time: for millions of rows. None: return a table.
        seed: Of the rows.
        progress: Show a progress bar while writing, on a terminal.

    Returns:
        The rows with the data's column names and labels, or the path of the file.

    Raises:
        SettingError: The model cannot, fewer than one row, or a column or level that the data do not have.
    """
    if path is None:
        return synthetic_frame(fit, count, given, seed)
    return write_synthetic(fit, Path(path), count, given, seed, progress)


def compare(fits: Sequence[Fit], *, reference: Fit | str | Path | None = None, **limits: float) -> ComparisonResult:
    """Compare fits of one model: a verdict card each, aligned parameters, invariants in reference-sd units.

    Args:
        fits: Results of ``fit`` or ``load``.
        reference: A fit, or its run directory, to hold them to; None: the best of them.
        **limits: Thresholds of the verdicts in place of conf's, such as ``mean_good=0.1`` (``Thresholds``).

    Returns:
        Tables and cards; ``save`` writes the report.

    Raises:
        SettingError: Nothing to compare, fits of different models or data, or no such threshold.
    """
    check_types(Thresholds.__init__, limits, "verdict")
    stored = reference if reference is None or isinstance(reference, Fit) else load(reference)
    return ComparisonResult(compare_fits(list(fits), reference=stored, limits=Thresholds(**limits)))


def load(directory: str | Path) -> Result:
    """Read a run directory.

    Raises:
        DataError: It is not one, or is damaged.
    """
    fitted, data, config = read_run(Path(directory))
    return Result.of(fitted, config, data)


def list_models() -> dict[str, tuple[str, ...]]:
    """Return every model with its methods."""
    return {name: catalog.methods(name) for name in catalog.models()}
