"""A run: model, data, method and options as objects, and the fit that comes of them. ``pyrozoo.fit`` is its door."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
import yaml

from pyrozoo.contracts.fit import SOLVER, Fit
from pyrozoo.contracts.method import Loop, Method
from pyrozoo.contracts.model import Model, Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.shards import USUAL
from pyrozoo.core.devices import called, device_of, precision
from pyrozoo.core.draws import Draws
from pyrozoo.core.errors import DataError, NotApplicable, SettingError, UserError, first_line, noted
from pyrozoo.core.launch import launched
from pyrozoo.core.picture import Picture
from pyrozoo.core.progress import tell
from pyrozoo.core.settings import Settings, one_of, positive, suggestion, whole
from pyrozoo.core.world import world
from pyrozoo.data.arguments import Arguments
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.shards import split
from pyrozoo.diagnostics.card import Card
from pyrozoo.diagnostics.compare import check_reference
from pyrozoo.diagnostics.metrics import UNEVALUATED, evaluate, known
from pyrozoo.report.movie import Movie
from pyrozoo.run import catalog
from pyrozoo.run.names import PYTHON, check_names, engine_of, method_of, model_of
from pyrozoo.run.reference import judge, load_run, verdict_settings
from pyrozoo.run.score import answer, laid_out
from pyrozoo.run.shards import read_in_shards
from pyrozoo.run.source import read, read_again
from pyrozoo.store.answer import check_ending
from pyrozoo.store.foreign import check_groups, escaped, stored_yaml
from pyrozoo.store.groups import Groups
from pyrozoo.store.inference_data import to_groups
from pyrozoo.store.origin import Origin
from pyrozoo.store.results import NAMES as RESULTS
from pyrozoo.store.results import Results, results_of
from pyrozoo.store.run_directory import (
    CHECKPOINT,
    CONFIG,
    REPORTS,
    pictures_of,
    read_config,
    tables_of,
    write_fit,
    write_origin,
    write_report_of,
    write_run,
    write_text,
)
from pyrozoo.store.synthetic import check_request

if TYPE_CHECKING:
    import arviz as az

RESUMABLE = ("max_iterations", "max_steps", "tol", "progress", "threads", "checkpoint_every", "seconds")
"""What a resumed run may change; anything else would make it another run."""

GIVEN = "given"
STARTS = ("model", "prior", "laplace")
"""Where chains may start, besides at the draws of another fit."""


@dataclass(frozen=True)
class Own(Settings):
    """A run's own settings, as conf/config.yaml states them beside its groups.

    Attributes:
        seed: Of inference.
        dtype: Precision of the data and of what is computed from them; None: float32 for closed-form solvers on a card,
            else float64.
        threads: torch threads; None leaves torch's choice.
        progress: Show progress bars on a terminal.
        checkpoint_every: Iterations between checkpoints.
        seconds: After which the fit is interrupted, as by Ctrl-C; None: never.
        posterior_megabytes: What draws may take in memory, and in posterior.nc.
        moments: States on the way that are kept for a movie of the fit, at most; 0 keeps none.
        shards: Shards that rows are cut into, which the processes of torchrun divide among them; None: 16 under
            torchrun, else rows stay as they are.
        stream: Whether minibatches are read from the files as they are needed, and memory holds no more than one.
        report: What is written of a fit beside itself: none, brief or full; None is full.
        synthetic_rows: Rows of tables/synthetic.csv.
        synthetic_given: Answers that all of them have.
        synthetic_holes: Whether they have holes as often as the data.
    """

    seed: int = whole(0, 2**63 - 1, default=0)
    dtype: str | None = one_of("float64", "float32", optional=True, default=None)
    threads: int | None = whole(optional=True, default=None)
    progress: bool = True
    checkpoint_every: int | None = whole(optional=True, default=None)
    seconds: float | None = positive(optional=True, default=None)
    posterior_megabytes: float = positive(default=200)
    moments: int = whole(0, default=60)
    shards: int | None = whole(optional=True, default=None)
    stream: bool = False
    report: str | None = one_of(*REPORTS, optional=True, default=None)
    synthetic_rows: int | None = whole(optional=True, default=None)
    synthetic_given: Mapping[str, str] | None = None
    synthetic_holes: bool = True

    @classmethod
    def within(cls, config: Mapping[str, Any]) -> Own:
        """Return those of a configuration, with what it says of other things left out."""
        return cls(**{name: config[name] for name in cls.__dataclass_fields__ if name in config})


class Result(Fit):
    """A fit with its ArviZ data, its settings, and a way to disk."""

    settings: Mapping[str, Any]
    stored: Groups | None = None
    reading: Reading | None = None
    origin: Origin | None = None
    kept: tuple[Path, list[str]] | None = None

    @classmethod
    def of(cls, fit: Fit, settings: Mapping[str, Any], data: Groups | None = None) -> Result:
        """Dress a method's fit."""
        result = cls.__new__(cls)
        result.__dict__.update(fit.__dict__)  # with what has been computed of it already
        result.settings, result.stored = settings, data
        return result

    @cached_property
    def verdict(self) -> Card:
        """What to believe of the fit, held to the settings' reference where there is one for this posterior."""
        return judge(self, self.settings)

    __repr__ = Fit.__str__  # a dataclass would print every draw

    def _repr_html_(self) -> str:
        card, notes = self.verdict._repr_html_(), "".join(f"<li>note {escape(note)}</li>" for note in self.notes)
        return f"{card}<ul>{notes}</ul><p>{escape(str(self))}</p>"

    def __dir__(self) -> list[str]:
        own = [name for name in super().__dir__() if not name.startswith("_")]
        hidden = ("of", "knows", "stored", "groups", "keep", "kept", "reading", "origin")
        return [name for name in own if name not in hidden]

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """What users of the model ask for, such as clusters or recommendations: name -> table."""
        return tables_of(self)

    @cached_property
    def pictures(self) -> dict[str, Picture]:
        """The pictures of the report, name -> picture; a notebook shows one that ends a cell."""
        return {picture.name: picture for picture in pictures_of(self, self.groups)}

    @cached_property
    def groups(self) -> Groups:
        """What posterior.nc holds."""
        megabytes = float(self.settings.get("posterior_megabytes", 200))
        return self.stored or to_groups(self, megabytes, whole=self.origin is None)

    @cached_property
    def inference_data(self) -> az.InferenceData:
        """The fit as ArviZ InferenceData."""
        return self.groups.inference_data()

    def movie(self, path: str | Path | None = None) -> Movie:
        """Return a movie of the fit, which a notebook plays: a state at a time, on one page that fetches nothing.

        Args:
            path: Where to write the page, ending in .html; None: nowhere.

        Raises:
            NotApplicable: The fit has no moments: it was made with ``moments=0``, or of rows in shards.
        """
        movie = Movie([self])
        if path is not None:
            movie.save(path)
        return movie

    def sample(self, count: int) -> Draws:
        """Return fresh draws from q, site -> [1, count, *event], from torch's global generator.

        Raises:
            SettingError: The fit is not variational, or was read from a run directory.
        """
        if self.sampler is None:
            raise SettingError(f"this {self.kind} fit by {self.method} cannot draw anew; fit.draws holds what there is")
        return self.sampler(count)[0]

    def predict(self, new: Any, **layout: Any) -> pd.DataFrame:
        """Return new rows with their holes filled by the predictive mean, and 90% intervals beside them.

        Of a survey a hole gets its most likely category, with the probabilities of all; of a list of row, column and
        value, the lines without a value are returned, with mean and interval.

        Args:
            new: A file's path, a DataFrame, an array or a container, laid out as the fitted data: columns are matched
                by label, in any order. Columns that the fit does not have are left as they are; those that are not
                there are taken as missing. ``attrs["notes"]`` of the answer says so.
            **layout: How a file is laid out where it differs from the fitted one (``delimiter``, ``row_labels`` ...).

        Raises:
            DataError: Rows that the model cannot use, all problems at once.
            NotApplicable: The model says nothing of new rows.
        """
        return answer(self, "predict", new, laid_out(self.settings, layout))

    def fill(self, new: Any, **layout: Any) -> pd.DataFrame:
        """Return new rows with their holes filled, each column of its own type (see ``predict``)."""
        return answer(self, "fill", new, laid_out(self.settings, layout))

    def assign(self, new: Any, **layout: Any) -> pd.DataFrame:
        """Return new rows with what the fit says of them beside (see ``predict``): of a list a line per row.

        A mixture says their cluster, its probability and those of all; other models their factors and the sd of these.

        Raises:
            NotApplicable: The model has neither components nor factors of rows.
        """
        return answer(self, "assign", new, laid_out(self.settings, layout))

    def recommend(self, new: Any = None, count: int = 10, **layout: Any) -> pd.DataFrame:
        """Return the best columns for each row among those that it has not: one line per row and rank.

        Args:
            new: Labels of fitted rows, or new rows (see ``predict``); None: all fitted rows. A new row with the label
                of a fitted one is this row, and has what this has.
            count: Columns per row; fewer where fewer are left.
            **layout: How a file is laid out where it differs from the fitted one.

        Raises:
            NotApplicable: The model recommends nothing.
        """
        return answer(self, "recommend", new, laid_out(self.settings, layout), count)

    @cached_property
    def results(self) -> pd.DataFrame:
        """The reader's own table back, with what the fit says of each line; see ``save_results``."""
        return self._results().frame

    def save_results(self, path: str | Path) -> Path:
        """Write the reader's own table with what the fit says, as the run directory's results.csv has it.

        Columns stay in their order and type. Holes are filled and marked: in .xlsx by a colour and a sheet that says
        how sure they are, elsewhere by a last column that names them. Beside each line stand its cluster or its
        factors; of a list the prediction of lines without a value, or a line per row with its factors.

        Args:
            path: A file ending in .csv, .tsv, .xlsx or .parquet.

        Returns:
            The path.

        Raises:
            NotApplicable: The data came from neither a file nor a DataFrame.
            DataError: The file is not there any more, or is not what it was.
            SettingError: Another ending, or more rows than a sheet has.
        """
        check_ending(path, "path")
        return self._results().write(path)

    def _results(self) -> Results:
        reading = self.reading or read_again(self.settings.get("data") or {}, self.model, self.data)
        if reading is None:
            raise NotApplicable(
                "this fit has no table of a reader's: its data came from neither a file nor a DataFrame, or it was "
                "loaded (its run directory has results.csv)"
            )
        return results_of(self, reading)

    def keep(self, directory: Path) -> None:
        """Write what the fit is, before any figure of it is computed: whatever fails from now on, it is there."""
        text = (directory / CONFIG).read_text(encoding="utf-8")
        write_fit(self, self.groups, directory, text, {**known(self), UNEVALUATED: 1}, self.origin)
        self.kept = directory, list(self.notes)

    def save(self, directory: str | Path, config: str | None = None, report: str | None = None) -> Path:
        """Write a run directory.

        Args:
            directory: Where to; made when missing.
            config: The configuration to store, YAML; the fit's own settings when left out.
            report: What is made of the fit: ``none``, only the fit is kept; ``brief``, a page with the verdict, the
                summary and the main tables and pictures; or ``full``. None: as the fit's settings say, usually full.
                ``python -m pyrozoo.report DIRECTORY`` makes the rest later.

        Returns:
            The directory.
        """
        directory = Path(directory)
        report = Own(report=report or self.settings.get("report")).report or REPORTS[-1]
        text = config or yaml.safe_dump(escaped(dict(self.settings)), sort_keys=False)
        kept = self.kept == (directory, self.notes)
        write_run(
            self, self._noted(), directory, text, self._card(), kept=kept, reading=self.reading, origin=self.origin,
            report=report, **self._asked(),
        )  # fmt: skip
        return directory

    def _noted(self) -> Groups:
        """What posterior.nc holds, with the notes that there are by now."""
        data = self.groups
        data.attrs["notes"] = json.dumps(self.notes)
        return data

    def _card(self) -> Card:
        card = Card("The verdict could not be reached.", ())
        with noted(self.notes, "the verdict"):
            card = self.verdict
        return card

    def report(self, directory: str | Path) -> Path:
        """Write the tables, pictures and report.html of a run directory anew, and the reader's table if it lacks that.

        Args:
            directory: The run directory that the fit was read from.

        Returns:
            The directory.
        """
        directory, reading = Path(directory), None
        if not any((directory / name).is_file() for name in RESULTS):
            with noted(self.notes, "the reader's own table, results.csv,"):
                reading = self.reading or read_again(self.settings.get("data") or {}, self.model, self.data)
        text = yaml.safe_dump(dict(self.settings), sort_keys=False)
        write_report_of(self, self.groups, directory, text, self._card(), reading=reading, **self._asked())
        return directory

    def _asked(self) -> dict[str, Any]:
        names = ("synthetic_rows", "synthetic_given", "synthetic_holes", "progress")
        return {name: self.settings[name] for name in names if name in self.settings}


@dataclass(frozen=True)
class Run:
    """What a run is, as objects.

    Attributes:
        posterior: The model given its data, on their device.
        method: The method with its settings.
        loop: How it runs.
        config: What makes it again: what a run directory stores.
        notes: What a reader should know of how the model was set: what was left to the data.
        reading: How a file or a frame was read, if the data came from one.
        origin: Where the data come from, if a run directory does not hold them.
    """

    posterior: Posterior
    method: Method
    loop: Loop
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reading: Reading | None = None
    origin: Origin | None = None

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, model: Model | None = None, data: Any = None, test: Any = None,
        start: Any = None, directory: Path | None = None, resume: bool = False, holdout: Any = None,
    ) -> Run:  # fmt: skip
        """Make the objects that a resolved configuration names.

        Args:
            config: Groups model, inference, data, device, and the run's own settings, as conf composes them.
            model: A model given in Python, in place of what ``config["model"]`` names.
            data: Data given in Python, in place of ``config["data"]``'s source.
            test: New rows given in Python.
            start: A fit given in Python, in place of ``config["inference"]``'s start.
            directory: Where checkpoints go.
            resume: Continue from the checkpoint there.
            holdout: Cells to hide given in Python.

        Raises:
            SettingError: A name or a setting that there is not, or out of range.
            NotApplicable: A method that the model does not have.
            DataError: Data that the model cannot use.
        """
        own, inference = Own.within(config), config["inference"]
        if (shards := _shards(own)) is not None:
            config = {**config, "shards": shards}  # whoever resumes the run, with torchrun or without, has as many
        check_names(config["model"] if model is None else {"name": known_as(model)}, inference["name"])
        place = _Place.of(config, own)
        if own.threads is not None:
            torch.set_num_threads(own.threads)
        model = model_of(config["model"]) if model is None else model
        readings: list[Reading] = []
        before = Origin.read(directory) if resume and directory is not None else None
        config = config if before is None or directory is None else _found(config, before, directory)
        _, reference = verdict_settings(config)
        whole = any(each is not None for each in (data, test, holdout, reference, own.synthetic_given))
        posterior = _read_in_shards(config, model, own, place, shards, whole=whole)
        if posterior is None:
            table = read(
                config["data"], model, given=data, test=test, holdout=holdout, readings=readings,
                dtype=own.dtype or "float64",
            ).storable()  # fmt: skip
            check_request(model, own.synthetic_rows, own.synthetic_given)
            if own.synthetic_given:
                table.codes_of(own.synthetic_given)  # a wrong one is a mistake before the fit
            place = _Place.of(config, own, table.numbers)
            posterior = Posterior.of(model, table.to(place.device, place.dtype))
            posterior.check()  # again: a precision may be too small for the values
        if reference is not None:
            check_reference(model, posterior.data, reference)  # before the work rather than after it
        starts = {"start": start_of(inference["start"], start, posterior)} if "start" in inference else {}
        method = method_of(inference, known_as(model), config.get("solver") or {}, **starts)
        posterior, notes = _in_shards(posterior, method, shards)
        loop = Loop(
            seed=own.seed, progress=own.progress, checkpoint=directory / CHECKPOINT if directory else None,
            checkpoint_every=own.checkpoint_every, resume=resume, seconds=own.seconds,
            megabytes=own.posterior_megabytes, moments=own.moments,
        )  # fmt: skip
        # Some rows of a table would give the reader some of it back, and nobody else has them.
        beside = test is not None or holdout is not None or bool(notes)
        if before is not None and directory is not None:
            before.check(directory, posterior.data)
        origin = before or Origin.of(config["data"], posterior.data, given=data is not None, beside=beside)
        if directory is not None and not world().rank:
            _begin(directory, config, origin, place)
        found = readings[0].emptied() if readings and not notes else None
        notes = (*_derived(model, posterior.data), *notes, *place.notes)
        return cls(posterior, method, loop, {**config, **place.settings}, notes, found, origin)

    @classmethod
    def again(cls, config: Mapping[str, Any], *, directory: Path, **given: Any) -> Run:
        """Make the objects of a run that goes on, of whose configuration anything may be wrong (see ``from_config``).

        Raises:
            DataError: Something is.
        """
        try:
            return cls.from_config(config, directory=directory, resume=True, **given)
        except UserError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"{directory / CONFIG} is damaged, or of another version ({said})") from error

    def to_config(self) -> dict[str, Any]:
        """Return what makes the run again, as plain values."""
        return dict(self.config)

    def fit(self) -> Fit:
        """Return the method's own fit: figures such as the hold-out's are not computed."""
        fitted = self._resumed() if self.loop.resume else self.method(self.posterior, self.loop)
        fitted.metrics |= {f"{SOLVER}{name}": value for name, value in self.method.options.items()}
        fitted.notes = [*self.posterior.data.notes, *self.notes, *fitted.notes]
        return fitted

    def _resumed(self) -> Fit:
        """Go on from a checkpoint, of which anything may be wrong.

        Raises:
            DataError: It is damaged, or of another run.
        """
        try:
            fitted = self.method(self.posterior, self.loop)
        except UserError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"{self.loop.checkpoint} is damaged, or of another run ({said})") from error
        if any(not bool(value.isfinite().all()) for value in fitted.draws.values() if value.is_floating_point()):
            raise DataError(f"{self.loop.checkpoint} is damaged: what it leads to is not finite")
        return fitted

    def result(self, directory: Path | None = None) -> Result:
        """Return the fit with its figures, kept in a run directory before they are computed; None: nowhere."""
        result = Result.of(self.fit(), self.config)
        result.reading, result.origin = self.reading, self.origin
        if world().rank:  # the first process reports
            return result
        if directory is not None:
            result.keep(directory)
        result.metrics = evaluate(result)
        return result


def _found(config: Mapping[str, Any], origin: Origin, directory: Path) -> Mapping[str, Any]:
    """Return a configuration whose files are where they are now."""
    return {**config, "data": config["data"] | origin.found(directory)}


@dataclass(frozen=True)
class _Place:
    """Where a run is, and in which precision.

    Attributes:
        device: The device.
        dtype: The precision.
        notes: What is said of them.
    """

    device: torch.device
    dtype: torch.dtype
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any], own: Own, numbers: int | None = None) -> _Place:
        """Return it for data of so many numbers; None: many.

        Raises:
            SettingError: No such device, or none here.
        """
        name, method = config["device"]["name"], config["inference"]["name"]
        if wrong := catalog.check_choice("device", name):
            raise SettingError(wrong)
        device, engine, notes = device_of(name, numbers), engine_of(method), []
        if device.type != "cpu" and numbers is not None and numbers < engine.fewest_on_a_card:
            device = torch.device("cpu")
            few = f"fewer than {engine.fewest_on_a_card:,} numbers"
            if name != "auto":
                notes.append(f"{method} ran on the CPU, which of {few} computes a gradient faster than a card")
        dtype = precision(own.dtype, device, solver=engine.needs == "solver")
        if device.type != "cpu":
            more = "; dtype=float64 keeps more digits" if own.dtype is None and dtype == torch.float32 else ""
            notes.append(f"ran on {called(device)} in {str(dtype).removeprefix('torch.')}{more}")
        return cls(device, dtype, tuple(notes))

    @property
    def settings(self) -> dict[str, Any]:
        """Return it as settings of a run."""
        name = "cpu" if self.device.type == "cpu" else "cuda"
        return {"device": {"name": name}, "dtype": str(self.dtype).removeprefix("torch.")}


def _begin(directory: Path, config: Mapping[str, Any], origin: Origin | None, place: _Place) -> None:
    """Write into a directory what makes the run again, on the same device and in the same precision."""
    path = directory / CONFIG
    known = stored_yaml(path) if path.exists() else escaped(dict(config))  # the command has written its own
    write_text(directory / CONFIG, yaml.safe_dump({**known, **place.settings}, sort_keys=False))
    write_origin(directory, origin)


def _read_in_shards(
    config: Mapping[str, Any], model: Model, own: Own, place: _Place, shards: int | None, *, whole: bool
) -> Posterior | None:
    """Return the posterior of rows that are read shard by shard; None where they are not in shards, or read whole."""
    if shards is None:
        return None
    # A solver needs no start from elsewhere, and a method that does is no solver.
    plain = {name: value for name, value in config["inference"].items() if name != "start"}
    method = method_of(plain, known_as(model), config.get("solver") or {})
    if own.stream and not method.streams():
        raise NotApplicable(f"{method.name} of {model.name} needs all rows at every step: leave stream out")
    if not (own.stream and shards == 1):
        _check_solver(method, model)
    if whole and own.stream:
        raise SettingError("stream=true goes with data=FILE alone: no reference, no new rows, no cells held out")
    if whole:
        return None
    like = torch.empty(0, dtype=place.dtype, device=place.device)
    return read_in_shards(config["data"], model, shards, world(), like, stream=own.stream)


def _shards(own: Own) -> int | None:
    """Return how many shards there are; None: rows are not cut."""
    if own.shards is not None:
        return own.shards
    return USUAL if launched() else 1 if own.stream else None


def _check_solver(method: Method, model: Model) -> None:
    """Raise NotApplicable when a method looks at rows otherwise than through ``Posterior.over_rows``."""
    if getattr(method.part, "by_row", None) is None:
        said = f"{method.name} of {model.name} does not run on rows in shards"
        raise NotApplicable(f"{said}: start it without torchrun, and leave shards out")


def _in_shards(posterior: Posterior, method: Method, shards: int | None) -> tuple[Posterior, tuple[str, ...]]:
    """Return the posterior with its rows in shards, where torchrun has started this process or the settings say so.

    What the report leaves out is said beside it.

    Raises:
        NotApplicable: The method looks at rows otherwise than through ``Posterior.over_rows``.
    """
    if shards is None:
        return posterior, ()
    if posterior.shards is None:
        _check_solver(method, posterior.model)
    found = posterior if posterior.shards is not None else split(posterior, shards, world())
    assert found.shards is not None
    rows, seen = found.rows, found.shards.seen.rows
    even = f"this report looks at an even choice of {seen} of {rows} rows; all of them were fitted"
    return found, (even,) if seen < rows else ()


def _derived(model: Model, data: Any) -> tuple[str, ...]:
    """Say what settings the data decided, how, and how to decide otherwise."""
    return tuple(f"model.{name} is {each}, from the data: {each.how}" for name, each in model.derived(data).items())


def engine_fit(config: Mapping[str, Any], *, model: Model | None = None, data: Any = None) -> Fit:
    """Return the method's own fit of what a configuration says, model and data given in Python or not."""
    return Run.from_config(config, model=model, data=data).fit()


def fit(
    model: str | Model | Callable[..., Any],
    method: str,
    data: Any = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
    dtype: Literal["float64", "float32"] | None = None,
    holdout: float | str | Path | pd.DataFrame | Sequence[Any] | None = None,
    progress: bool = True,
    checkpoint_every: int | None = None,
    seconds: float | None = None,
    directory: str | Path | None = None,
    test: Any = None,
    data_seed: int | None = None,
    threads: int | None = None,
    posterior_megabytes: float = 200,
    moments: int = 60,
    shards: int | None = None,
    stream: bool = False,
    report: Literal["none", "brief", "full"] = "full",
    solver: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Result:
    """Fit a model.

    Args:
        model: A model's name, the path of a file that defines one, a model, or a plain Pyro function.
        method: A method of that model (``list_models`` names them); of a program any of svi, laplace and nuts, and of
            gibbs, em and cavi where these can be derived.
        data: An array, a DataFrame, a container, the name of a data set, a file's path, or None for the data that the
            model is tried on, in most cases simulated from it.
        args: Arguments of a plain Pyro function, which says itself what is observed (``obs=``).
        kwargs: Its keyword arguments.
        seed: Of inference.
        device: cpu, cuda or auto: a card where there is one and the data are large, else the CPU.
        dtype: float64 or float32; None: float32 for closed-form solvers on a card, else float64.
        holdout: Fraction of the observed entries to hide and predict; or which ones: a DataFrame, a file's path or a
            list of (row, column) by label, or of (row, column, value) where the data need not have them; or a list of
            labels of whole rows. None takes the data's default (a tenth of simulated data, else nothing).
        progress: Show progress bars on a terminal.
        checkpoint_every: Iterations between checkpoints, written to ``directory``.
        seconds: After which the fit ends as interrupted, with what it has; None: when it is done.
        directory: Where checkpoints go; ``resume`` continues from it.
        test: New rows (array, DataFrame, file) that are not fitted: assigned, and completed where cells are missing.
        data_seed: Of simulation and hold-out; None takes the data's default, 0.
        threads: torch threads; None leaves torch's choice.
        posterior_megabytes: What draws may take in posterior.nc.
        moments: States on the way that are kept for a movie of the fit, at most; 0 keeps none.
        shards: Shards that rows are cut into, which the processes of torchrun divide among them, whose fits are one and
            the same; None: 16 under torchrun, else rows stay as they are.
        stream: Read minibatches from the files as they are needed, so that memory holds no more than one.
        report: What ``save`` makes of the fit (see there).
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
    model, data = as_model(model, data, args, kwargs)
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
        seconds=seconds,
        posterior_megabytes=posterior_megabytes,
        moments=moments,
        shards=shards,
        stream=stream,
        report=report,
        solver=dict(solver or {}),
    )
    if data_seed is not None:
        config["data"]["seed"] = data_seed
    chosen = holdout if isinstance(holdout, pd.DataFrame) else None
    if holdout is not None:
        config["data"]["holdout"] = GIVEN if chosen is not None else _listed_plainly(holdout)
    container = None if data is None or isinstance(data, str | Path) else data
    run = Run.from_config(
        config, model=model if isinstance(model, Model) else None, data=container, test=test, start=start,
        holdout=chosen,
        directory=None if directory is None else Path(directory),
    )  # fmt: skip
    tell(run.posterior.data.notes, progress)
    return run.result()


def _listed_plainly(holdout: Any) -> Any:
    """Return what to hide as a configuration can hold it: labels and cells in lists."""
    if isinstance(holdout, Path):
        return str(holdout)
    if isinstance(holdout, list | tuple | pd.Index | pd.Series | np.ndarray):
        return [_listed_plainly(each) for each in holdout]
    return _plain(holdout)


def known_as(model: Model) -> str:
    """Return the name under which the catalog knows a model: its own in the zoo, else that of any."""
    return model.name if catalog.in_zoo(model) else catalog.ANY


def as_model(
    model: str | Model | Callable[..., Any], data: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None
) -> tuple[str | Model, Any]:
    """Return a model, or its name, and its data: of a plain function its arguments.

    Raises:
        SettingError: Arguments for what is no function, or data beside them.
    """
    if isinstance(model, type):
        raise SettingError(f"model is the class {model.__name__}; give a model, such as {model.__name__}()")
    if isinstance(model, str | Model):
        if args or kwargs:
            raise SettingError("args and kwargs are those of a plain Pyro function; a model takes data")
        return model, data
    if not callable(model):
        raise SettingError(f"model is {model!r}; it must be a name, a file, a model or a Pyro function")
    if data is not None:
        raise SettingError("a plain Pyro function takes args=(...) and kwargs={...}, not data")
    called = getattr(model, "__name__", type(model).__name__).strip("<>")
    return Program(model, called), Arguments(args=tuple(args), kwargs=dict(kwargs or {}))


def configuration(
    model: str | Model, method: str, data: Any, settings: Mapping[str, Any], **own: Any
) -> dict[str, Any]:
    """Return what conf says of a model, a method and data, with settings changed by name.

    Args:
        model: A model's name, a file that defines one, or a model.
        method: A method of that model.
        data: As ``fit`` takes it.
        settings: Fields of the model, settings of the method and of the data.
        **own: The run's own settings in place of the usual ones.

    Returns:
        What ``Run.from_config`` takes.

    Raises:
        SettingError: No such model, method or setting.
        NotApplicable: The model has no such method.
    """
    if isinstance(model, Model):
        known = known_as(model)
        outside = {"source": PYTHON} if known == catalog.ANY else {}
        chosen = {"name": model.name, **outside, **_listed(model.values())}
        check_names({"name": known}, method)
    else:
        known = model
        check_names({"name": model}, method)
        chosen = catalog.model_settings(model)
    config: dict[str, Any] = {
        "model": chosen,
        "inference": catalog.settings("inference", method),
        "data": _data_settings(data, known),
        "device": {"name": "cpu"},
        **{key: value for key, value in Own().values().items() if not key.startswith("synthetic")},
        "solver": {},
        "reference": None,
        "verdict": {},
        **own,
    }
    for key, value in settings.items():
        free = ("inference", "data") if isinstance(model, Model) else ("model", "inference", "data")
        groups = [group for group in free if key in config[group] and key not in catalog.ABOUT]
        if not groups:
            valid = {k for g in ("model", "inference", "data") for k in config[g] if k not in catalog.ABOUT}
            raise SettingError(f"there is no setting {key!r}; {suggestion(key, valid)}")
        for group in groups:  # the labels of an image are the model's and the data's
            config[group][key] = _plain(value)
    return config


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}


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
        return catalog.settings("data", "file") | {"path": str(data)}
    return catalog.settings("data", "file") | {"source": "given", "holdout": 0.0}


def start_of(name: Any, given: Any, posterior: Posterior) -> Any:
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
    expected = posterior.initial(1)
    if {s: v.shape[2:] for s, v in fit.draws.items()} != {s: v.shape[1:] for s, v in expected.items()}:
        raise SettingError(
            "inference.start: that fit has other sites, or others in size, than this model with these data"
        )
    return dict(fit.draws.to(expected))


def resume(
    directory: str | Path,
    data: Any = None,
    *,
    model: Any = None,
    args: Sequence[Any] = (),
    holdout: Any = None,
    **changes: Any,
) -> Result:
    """Continue an interrupted or killed run from its last checkpoint, to the result it would have had.

    Args:
        directory: Its run directory.
        data: The same data again, when the run was given data in Python.
        model: The same model, or Pyro function, when the run was given that in Python.
        args: The same arguments of a Pyro function.
        holdout: The same cells to hide, when the run was given a DataFrame of them.
        **changes: What may change: ``RESUMABLE``.

    Returns:
        The fit.

    Raises:
        DataError: There is nothing to resume from.
        SettingError: A change that would make it another run, or data missing.
    """
    directory = Path(directory)
    config = read_config(directory)
    check_groups(config, directory / CONFIG)
    for name, value in changes.items():
        if name not in RESUMABLE:
            raise SettingError(f"{name}: a resumed run can change {', '.join(RESUMABLE)} and nothing else")
        (config["inference"] if name in config["inference"] else config)[name] = value
    if model is not None:
        model, data = as_model(model, data, args, None)
    if config["data"]["source"] == "given" and data is None:
        raise SettingError(f"the run in {directory} was given its data in Python: resume(directory, data=...)")
    if config["data"].get("holdout") == GIVEN and holdout is None:
        raise SettingError(f"the run in {directory} was given its hold-out in Python: resume(directory, holdout=...)")
    return Run.again(config, model=model, data=data, directory=directory, holdout=holdout).result()


def load(directory: str | Path, *, data: Any = None, model: Any = None, args: Sequence[Any] = ()) -> Result:
    """Read a run directory, and the files again that its data came from.

    Args:
        directory: The run directory.
        data: The same data, when they were given in Python and are too large to be stored.
        model: The same model, or Pyro function, when the run was given that in Python.
        args: The same arguments of a Pyro function.

    Raises:
        DataError: It is not one, or is damaged, or its data's file is gone or another.
        SettingError: Its model or its data were given in Python, and are not given again.
    """
    given: Posterior | None = None
    if model is not None:
        again, arguments = as_model(model, None, args, None)
        given = Posterior.of(model_of({"name": again}) if isinstance(again, str) else again, arguments)
    fitted, stored, config = load_run(Path(directory), given, data)
    result = Result.of(fitted, config, stored)
    result.origin = Origin.read(Path(directory))
    if result.origin is not None:
        result.settings = _found(config, result.origin, Path(directory))
    return result


def list_models() -> dict[str, tuple[str, ...]]:
    """Return every model with its methods."""
    return {name: catalog.methods(name) for name in (*catalog.models(), *catalog.installed())}
