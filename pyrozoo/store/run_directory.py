"""The run directory: the one writer, and the way back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from pyrozoo.contracts.fit import Fit, Status
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Kind
from pyrozoo.contracts.view import Pictures, named, view_of
from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, NotApplicable, UserError, first_line, noted
from pyrozoo.core.paths import replacing
from pyrozoo.core.picture import Picture
from pyrozoo.data.readers.reading import Reading
from pyrozoo.diagnostics.card import Card
from pyrozoo.diagnostics.metrics import UNEVALUATED, evaluate
from pyrozoo.inference.loop import remove_checkpoint
from pyrozoo.math.mixing import LEAST, ess, monte_carlo_errors, rhat, shortest_interval
from pyrozoo.report import html
from pyrozoo.report.movie import Movie
from pyrozoo.report.pictures import standard_pictures
from pyrozoo.report.plates import draw_plates
from pyrozoo.store.foreign import check_links, check_source, resolved, stored_json, stored_yaml
from pyrozoo.store.groups import Groups
from pyrozoo.store.inference_data import from_groups, versions
from pyrozoo.store.origin import ORIGIN, Origin
from pyrozoo.store.results import NAMES as RESULTS
from pyrozoo.store.results import of_a_reader, write_results
from pyrozoo.store.synthetic import write_synthetic
from pyrozoo.store.tables import write_table, write_text

MOST_SUMMARISED = 300
"""Parameters of one site in summary.csv; of more, so many are chosen evenly."""

ROUNDING = 1e-12
"""Relative difference of draws that is none: what varies by no more is a constant."""

CHECKPOINT = "checkpoint.pt"
CONFIG = Path(".hydra") / "config.yaml"
METRICS = "metrics.json"
PLATES = "model"
"""The picture of the model itself."""

BRIEF = ("predictive", "totals")
"""The pictures that a brief report has of any fit."""

UNDRAWN = {"name": PLATES, "caption": "The model could not be drawn.", "source": html.embedded(b"")}

Making = Callable[[str], AbstractContextManager[None]]
"""What is to be made -> a context to make it in."""


def write_pictures(
    directory: Path, pictures: Sequence[Picture], suffix: str = "", making: Making = lambda what: nullcontext()
) -> list[dict[str, str]]:
    """Write pictures into figures/, and return them for a page.

    Args:
        directory: The directory.
        pictures: The pictures.
        suffix: What file names end with.
        making: What to draw each within, given its name.
    """
    drawn = []
    for picture in pictures:
        with making(f"the picture {picture.name}"):
            drawn.append((picture, html.png(picture)))
    for picture, image in drawn:
        with replacing(directory / "figures" / f"{picture.name}{suffix}.png") as temporary:
            temporary.write_bytes(image)
    return html.figures(drawn)


def write_report(directory: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write report.html, with the versions of what computed it."""
    known = ", ".join(f"{name} {number}" for name, number in versions().items())
    write_text(directory / "report.html", html.page(template, {"versions": known, **values}))


def write_run(
    fit: Fit, data: Groups, directory: Path, config: str, card: Card, *,
    synthetic_rows: int | None = None, synthetic_given: Mapping[str, str] | None = None,
    synthetic_holes: bool = True, progress: bool | None = False, kept: bool = False, reading: Reading | None = None,
    origin: Origin | None = None, report: str = "full",
) -> None:  # fmt: skip
    """Write everything about a fit: first what it is, then what is made of it.

    Args:
        fit: The fit, metrics evaluated.
        data: The same as groups.
        directory: The run directory; made when missing. Where metrics.json is, the fit is all there. Of what cannot be
            made of it there is a note.
        config: The unresolved configuration, YAML.
        card: The verdict.
        synthetic_rows: Rows of tables/synthetic.csv, where the model can draw them; None: as many as the data have.
        synthetic_given: Answers that all of them have.
        synthetic_holes: Whether they have holes as often as the data.
        progress: Whether to show a bar while writing them.
        kept: Whether ``write_fit`` has been here, and nothing but the metrics is new.
        reading: How a file or a frame was read, which the reader gets back.
        origin: Where the data come from, where posterior.nc does not hold them.
        report: What is made of the fit: ``none``, ``brief`` or ``full`` (see ``REPORTS``).
    """
    if kept:
        write_metrics(directory, fit.metrics)
    else:
        write_fit(fit, data, directory, config, origin=origin)
    if report == "none":
        return
    write_report_of(
        fit, data, directory, config, card, brief=report == "brief", synthetic_rows=synthetic_rows,
        synthetic_given=synthetic_given, synthetic_holes=synthetic_holes, progress=progress, reading=reading,
    )  # fmt: skip


def write_report_of(
    fit: Fit, data: Groups, directory: Path, config: str, card: Card, *, brief: bool = False,
    synthetic_rows: int | None = None, synthetic_given: Mapping[str, str] | None = None, synthetic_holes: bool = True,
    progress: bool | None = False, reading: Reading | None = None,
) -> None:  # fmt: skip
    """Write what is made of a fit (see ``write_run``); in brief no synthetic rows that nobody asked for."""
    asked = synthetic_rows is not None or bool(synthetic_given)
    path, count = directory / "tables" / "synthetic.csv", synthetic_rows or fit.data.shape[0]
    if view_of(fit.model).synthesizes and (asked or not brief):
        with _making(fit, directory)("the table synthetic"):
            write_synthetic(fit, path, count, synthetic_given, fit.seed, bool(progress), synthetic_holes)
    if reading is not None and of_a_reader(reading, fit.data):
        with _making(fit)("the reader's own table, results.csv,"):
            write_results(fit, reading, directory, sheet=not brief)
    write_page(fit, data, directory, config, card, brief=brief)


REPORTS = ("none", "brief", "full")
"""What is made of a fit: nothing; the verdict, the summary, and of each model its main tables and pictures; or all."""


def write_origin(directory: Path, origin: Origin | None) -> None:
    """Say where the data of a run come from that posterior.nc does not hold; None: it does."""
    if origin is not None:
        write_text(directory / ORIGIN, origin.text)
    else:
        (directory / ORIGIN).unlink(missing_ok=True)


def write_fit(
    fit: Fit, data: Groups, directory: Path, config: str, metrics: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
) -> None:  # fmt: skip
    """Write what a fit is, before anything is made of it (see ``write_run``); None: with all of its metrics."""
    before = set(directory.iterdir()) if directory.exists() else None
    own = {directory / CONFIG.parts[0]}  # what the command has put there, and a sweep knows its jobs by
    try:
        write_text(directory / CONFIG, config)
        write_origin(directory, origin)
        with replacing(directory / "posterior.nc") as temporary:
            temporary.write_bytes(data.netcdf())
        write_table(directory / "trace.csv", fit.trace, digits=None)
        write_table(directory / "runs.csv", fit.runs, digits=None)
        write_metrics(directory, fit.metrics if metrics is None else metrics)
        if fit.status != "interrupted":
            remove_checkpoint(directory / CHECKPOINT)
    except BaseException:
        if before is None:  # nothing half written; a directory that held anything before is left alone
            shutil.rmtree(directory, ignore_errors=True)
        elif before <= own:
            for each in set(directory.iterdir()) - before:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        raise


def write_metrics(directory: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json, which says that a fit is all there."""
    write_text(directory / METRICS, json.dumps(metrics, indent=1, allow_nan=False) + "\n")


def _making(fit: Fit, directory: Path | None = None) -> Making:
    """Return what turns a fault of what is made of a fit into a note of the fit."""
    again = "" if directory is None else f"python -m pyrozoo.report {directory}"
    return partial(noted, fit.notes, again=again)


def write_page(
    fit: Fit, data: Groups, directory: Path, config: str, card: Card, *, brief: bool = False
) -> None:  # fmt: skip
    """Write what is made from a fit for people: tables, pictures and report.html (see ``write_run``)."""
    making = _making(fit, directory)
    if UNEVALUATED in read_metrics(directory):
        write_metrics(directory, fit.metrics)
    tables = tables_of(fit, making, brief=brief)
    for name, frame in tables.items():
        write_table(directory / "tables" / f"{name}.csv", frame)
    with making("the table summary"):
        tables = {"summary": summarise(fit, data), **tables}
        write_table(directory / "summary.csv", tables["summary"])
    drawn = write_pictures(directory, pictures_of(fit, data, making, brief=brief), making=making)
    figures = {"figure": list(fit.metrics), "value": [html.number(value) for value in fit.metrics.values()]}
    movie = ""
    if not brief and len(fit.moments) > 1:
        with making("the movie"):
            movie = Movie([fit]).embedded()
    ended = f"{fit.status} after {fit.iterations} iterations in {fit.seconds:.2f} s; seed {fit.seed}"
    with making("the page report.html"):
        write_report(directory, "run.html.j2", {
            "title": f"{fit.model_name} by {fit.method}",
            "lead": f"{fit.data.name}: {fit.data.size}; {fit.kind}; {ended}",
            "card_": card, "notes": fit.notes, "metrics": html.table(pd.DataFrame(figures)),
            "plates": next((each for each in drawn if each["name"] == PLATES), None if brief else UNDRAWN),
            "more": f"python -m pyrozoo.report {directory}" if brief else "",
            "story": type(fit.model).__doc__,
            "pictures": [each for each in drawn if each["name"] != PLATES], "movie": movie,
            "results": [name for name in RESULTS if (directory / name).is_file()],
            "tables": {name: html.table(frame, 12) for name, frame in tables.items()}, "settings": config,
        })  # fmt: skip


def tables_of(fit: Fit, making: Making | None = None, *, brief: bool = False) -> dict[str, pd.DataFrame]:
    """Return what the model's users ask for, name -> table; of what cannot be made there is a note."""
    making = making or _making(fit)
    result: dict[str, pd.DataFrame] = {}
    tables: Mapping[str, pd.DataFrame] = {}
    with making("the tables"):
        view = view_of(fit.model)
        tables = view.tables(fit)
        tables = {name: tables[name] for name in view.main if name in tables} if brief else tables
    for name in tables:
        with making(f"the table {name}"), suppress(NotApplicable):  # as of a program whose sites are no cells
            result[name] = tables[name]
    return result


def pictures_of(fit: Fit, data: Groups, making: Making | None = None, *, brief: bool = False) -> list[Picture]:
    """Return the model's own pictures, those that every fit has, and last the model in plate notation.

    In brief they are the model's main ones and the predictive check.
    """
    making, result = making or _making(fit), []

    def plates() -> Picture:
        return Picture(PLATES, "Plate notation; observed sites are shaded.", draw_plates(fit.posterior))

    own: Iterable[Picture] = ()
    with making("the model's own pictures"):
        own = view_of(fit.model).pictures(fit)
        own = own if isinstance(own, Pictures) else list(own)
    known, more = own if isinstance(own, Pictures) else Pictures(lambda: own), standard_pictures(fit, data)
    if brief:
        known, more = known.only(view_of(fit.model).main), more.only(BRIEF)
    for part in (*known.parts, *more.parts, *(() if brief else (plates,))):
        with making(f"the picture {named(part)}"):
            result += Pictures.made(part)
    return result


def summarise(fit: Fit, data: Groups) -> pd.DataFrame:
    """Return a line per parameter, components aligned: moments and intervals; R-hat and ESS for samples only.

    A constant has no R-hat, no ESS and no Monte Carlo error: its cells are empty.
    """
    posterior = data["posterior"]
    step = max(1, -(-fit.draws.shape[1] // posterior.sizes["draw"]))  # as functions of the parameters are stored
    values = {site: value.detach().cpu().numpy() for site, value in fit.aligned.every(step).items()}
    values |= {str(name): value.values for name, value in posterior.items() if name not in values}
    shown = {name: _shown(name, value, posterior) for name, value in values.items()}
    names = [name for each, _ in shown.values() for name in each]
    draws = torch.cat([torch.from_numpy(np.asarray(value, float)) for _, value in shown.values()], 2)
    return pd.DataFrame({"parameter": names, **_figures(draws, fit.kind)}).dropna(axis=1, how="all")


def _figures(draws: Tensor, kind: str) -> dict[str, np.ndarray]:
    """Return what is said of scalars [chain, draw, scalar], column by column."""
    result = {"mean": draws.mean((0, 1))}
    if draws.shape[0] * draws.shape[1] > 1:  # one value has no spread
        low, high = shortest_interval(draws, 0.9)
        result |= {"sd": draws.flatten(0, 1).std(0), "hdi_5%": low, "hdi_95%": high}
    if kind == "samples" and draws.shape[1] >= LEAST:
        low, high = draws.amin((0, 1)), draws.amax((0, 1))
        constant = high - low <= ROUNDING * torch.maximum(low.abs(), high.abs())
        mean_error, sd_error = monte_carlo_errors(draws)
        found = {"mcse_mean": mean_error, "mcse_sd": sd_error, "ess_bulk": ess(draws), "ess_tail": ess(draws, "tail")}
        found["r_hat"] = rhat(draws)
        result |= {name: value.where(~constant, torch.nan) for name, value in found.items()}
        result["sd"] = result["sd"].where(~constant, 0.0)
    return {name: value.numpy() for name, value in result.items()}


def _shown(name: str, value: np.ndarray, posterior: xr.Dataset) -> tuple[list[str], np.ndarray]:
    """Return the scalars of a site that are summarised, by the data's own labels, and their draws [chain, draw, at].

    Of large sites some are chosen evenly: whole lines along the first dimension where that is few enough.
    """
    shape, dims = value.shape[2:], posterior[name].dims[2:]
    size = int(np.prod(shape))
    lines = evenly(shape[0], max(1, MOST_SUMMARISED * shape[0] // max(size, 1))).numpy() if shape else np.zeros(1, int)
    width = size // shape[0] if shape and shape[0] else size
    at = (lines[:, None] * width + np.arange(width)).ravel() if size > MOST_SUMMARISED else np.arange(size)
    at = at[evenly(len(at), MOST_SUMMARISED).numpy()]
    known = [posterior[dim].values if dim in posterior.coords else np.arange(length)
             for dim, length in zip(dims, shape, strict=True)]  # fmt: skip
    places = np.stack(np.unravel_index(at, shape), 1) if shape else np.zeros((len(at), 0), int)
    names = [", ".join(str(labels[i]) for labels, i in zip(known, place, strict=True)) for place in places]
    return [f"{name}[{label}]" if shape else name for label in names], value.reshape(*value.shape[:2], -1)[:, :, at]


def report_of(directory: Path, target: Path) -> str:
    """Return the address of a run's own page on one in a folder above it; empty where there is none."""
    there = directory.is_relative_to(target) and (directory / "report.html").is_file()
    return (directory.relative_to(target) / "report.html").as_posix() if there else ""


def write_failure(directory: Path, status: str, error: str, model: str, method: str) -> None:
    """Say in a sweep's job directory why there is no fit."""
    content = {"model": model, "method": method, "status": status, "error": error}
    write_text(directory / METRICS, json.dumps(content, indent=1) + "\n")


def read_metrics(directory: Path) -> dict[str, Any]:
    """Return metrics.json of a run directory.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    path = directory / METRICS
    if not path.is_file():
        raise DataError(f"{directory} is not a finished run directory (no metrics.json)")
    return stored_json(path)


def read_config(directory: Path) -> dict[str, Any]:
    """Return the configuration of a run directory; what it says of the environment is text.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise DataError(f"{directory} is not a run directory (no {CONFIG})")
    check_links(directory)
    config = resolved(stored_yaml(path), path)
    check_source(directory, config.get("model"))
    return config


ABSENT = ("run", "model", "method", "status", "error")
"""What is said of a run without a fit."""


def absent_row(directory: Path, error: DataError) -> dict[str, str]:
    """Say why a sweep's job directory has no fit: run, model, method, status, error."""
    row = {"run": directory.name, "model": "", "method": "", "status": "failed", "error": str(error)}
    try:
        config = read_config(directory)
        row |= {"model": config["model"]["name"], "method": config["inference"]["name"]}
        row |= {key: read_metrics(directory)[key] for key in ("status", "error")}
    except (DataError, KeyError, TypeError):
        pass  # a job killed before it could say why; the row names it all the same
    return row


Again = Callable[[Model, Mapping[str, Any], Origin], Any]
"""Model, configuration, and where the data come from -> the data."""


def read_run(
    directory: Path, find: Callable[[str, Mapping[str, Any]], type[Model]], again: Again,
    given: Posterior | None, later: bool,
) -> tuple[Fit, Groups, dict[str, Any]]:  # fmt: skip
    """Return the fit, its groups and its configuration from a run directory.

    Args:
        directory: The run directory.
        find: (model's name, configuration) -> the class of models.
        again: Gets the data that the directory does not hold.
        given: The model given again in Python, and the arguments of a program, in place of what is found.
        later: Whether draws are read when somebody asks for them.

    Raises:
        DataError: Something is missing or cannot be read.
    """
    metrics, config = read_metrics(directory), read_config(directory)
    if "error" in metrics:
        raise DataError(f"{directory} holds no fit ({metrics.get('status')}: {metrics['error']})")
    try:
        data = Groups.read(directory / "posterior.nc")
        attributes = dict(data.attrs)
        if given is None:
            model, known = find(attributes["model"], config).of(json.loads(attributes["settings"])), None
        else:
            model, known = given.model, given.data
        if not attributes.get("whole", 1):
            origin = Origin.read(directory)
            if origin is None:
                raise DataError(f"{directory} does not say where its data are (no {ORIGIN})")
            known = again(model, config, origin)
        stored = from_groups(data, model, known)
        fit: Fit = stored if later else stored.read()
        _tell(fit, directory, metrics)
    except UserError:
        raise
    except Exception as error:  # of bytes that anybody may have written a library may raise anything
        raise DataError(f"{directory} cannot be read ({first_line(error)})") from error
    return fit, data, config


COLUMNS = {"trace.csv": ("iteration", "chain", "objective", "seconds"), "runs.csv": ("chain", "objective", "status")}
"""Tables of a run directory, and columns that they have."""


def _tell(fit: Fit, directory: Path, metrics: dict[str, Any]) -> None:
    """Tell a fit what stands beside it: how it ran, and its figures."""
    fit.trace, fit.runs = (pd.read_csv(directory / name, float_precision="round_trip") for name in COLUMNS)
    for (name, columns), table in zip(COLUMNS.items(), (fit.trace, fit.runs), strict=True):
        if missing := [each for each in columns if each not in table]:
            raise DataError(f"{directory / name} has no column {missing[0]!r}")
        for each in columns:
            if each != "status":
                table[each] = pd.to_numeric(table[each])
    for name, allowed in (("status", get_args(Status)), ("kind", get_args(Kind))):
        if getattr(fit, name) not in allowed:
            raise DataError(f"{directory}: {name} is {getattr(fit, name)!r}; it must be {' or '.join(allowed)}")
    fit.objective_name, fit.objective = str(metrics["objective_name"]), float(metrics.get("objective", "nan"))
    fit.iterations = int(metrics["iterations"])
    fit.metrics = metrics
    if metrics.pop(UNEVALUATED, None):
        fit.metrics = evaluate(fit)
