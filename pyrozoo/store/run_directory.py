"""The run directory: the one writer, and the way back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
import yaml

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import DataError, first_line
from pyrozoo.core.paths import replacing
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.card import Card
from pyrozoo.report import html
from pyrozoo.report.pictures import standard_pictures
from pyrozoo.report.plates import draw_plates
from pyrozoo.store.inference_data import from_inference_data, versions
from pyrozoo.store.synthetic import write_synthetic

MOST_SUMMARISED = 300
"""Parameters of one site in summary.csv; of more, so many are chosen evenly."""

CHECKPOINT = "checkpoint.pt"
CONFIG = Path(".hydra") / "config.yaml"


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV file in one move."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False)


def write_pictures(directory: Path, pictures: Sequence[Picture], suffix: str = "") -> list[dict[str, str]]:
    """Write pictures into figures/, and return them for a page."""
    drawn = [(picture, html.png(picture)) for picture in pictures]
    for picture, image in drawn:
        with replacing(directory / "figures" / f"{picture.name}{suffix}.png") as temporary:
            temporary.write_bytes(image)
    return html.figures(drawn)


def write_report(directory: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write report.html, with the versions of what computed it."""
    known = ", ".join(f"{name} {number}" for name, number in versions().items())
    write_text(directory / "report.html", html.page(template, {"versions": known, **values}))


def write_run(
    fit: Fit, data: az.InferenceData, directory: Path, config: str, card: Card, *,
    synthetic_rows: int | None = None, synthetic_given: Mapping[str, str] | None = None,
    progress: bool | None = False,
) -> None:  # fmt: skip
    """Write everything about a fit.

    Args:
        fit: The fit, metrics evaluated.
        data: The same as InferenceData.
        directory: The run directory; made when missing. metrics.json comes last: where it is, all is there.
        config: The unresolved configuration, YAML.
        card: The verdict.
        synthetic_rows: Rows of tables/synthetic.csv, where the model can draw them; None: as many as the data have.
        synthetic_given: Answers that all of them have.
        progress: Whether to show a bar while writing them.
    """
    fresh = not directory.exists() or set(directory.iterdir()) <= {directory / CONFIG.parts[0]}
    try:
        write_text(directory / CONFIG, config)
        with replacing(directory / "posterior.nc") as temporary:
            data.to_netcdf(str(temporary), engine="h5netcdf")
        write_table(directory / "trace.csv", fit.trace)
        write_table(directory / "runs.csv", fit.runs)
        write_page(fit, data, directory, config, card)
        if view_of(fit.model).synthesizes:
            path, count = directory / "tables" / "synthetic.csv", synthetic_rows or fit.data.shape[0]
            write_synthetic(fit, path, count, synthetic_given, fit.seed, bool(progress))
        write_text(directory / "metrics.json", json.dumps(fit.metrics, indent=1, allow_nan=False) + "\n")
        if fit.status != "interrupted":
            (directory / CHECKPOINT).unlink(missing_ok=True)
    except BaseException:
        if fresh:  # nothing half written; a directory that held anything before is left alone
            shutil.rmtree(directory, ignore_errors=True)
        raise


def write_page(fit: Fit, data: az.InferenceData, directory: Path, config: str, card: Card) -> None:
    """Write what is made from a fit for people: tables, pictures and report.html (see ``write_run``)."""
    summary = summarise(fit, data)
    write_table(directory / "summary.csv", summary)
    tables = tables_of(fit)
    for name, frame in tables.items():
        write_table(directory / "tables" / f"{name}.csv", frame)
    *pictures, plates = write_pictures(directory, pictures_of(fit, data))
    figures = {"figure": list(fit.metrics), "value": [html.number(value) for value in fit.metrics.values()]}
    ended = f"{fit.status} after {fit.iterations} iterations in {fit.seconds:.2f} s; seed {fit.seed}"
    write_report(directory, "run.html.j2", {
        "title": f"{fit.model_name} by {fit.method}", "lead": f"{fit.data.name}: {fit.data.size}; {fit.kind}; {ended}",
        "card_": card, "notes": fit.notes,
        "metrics": html.table(pd.DataFrame(figures)), "plates": plates, "story": type(fit.model).__doc__,
        "pictures": pictures,
        "tables": {name: html.table(frame, 12) for name, frame in {"summary": summary, **tables}.items()},
        "settings": config,
    })  # fmt: skip


def tables_of(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return what the model's users ask for, name -> table."""
    return view_of(fit.model).tables(fit)


def pictures_of(fit: Fit, data: az.InferenceData) -> list[Picture]:
    """Return the model's own pictures, those that every fit has, and last the model in plate notation."""
    plates = Picture("model", "Plate notation; observed sites are shaded.", draw_plates(fit.posterior))
    return [*view_of(fit.model).pictures(fit), *standard_pictures(fit, data), plates]


def summarise(fit: Fit, data: az.InferenceData) -> pd.DataFrame:
    """Return a line per parameter: moments and intervals; R-hat and ESS for samples only."""
    shown = _summarised(data)
    chains, count = fit.draws.shape
    asked: dict[str, Any] = {"hdi_prob": 0.9}
    if fit.kind != "samples" or count < 4:
        asked["kind"] = "stats"
    if chains * count == 1:  # one value has no spread: ask for the mean alone
        asked = {"kind": "stats", "stat_funcs": {"mean": np.mean}, "extend": False}
    with np.errstate(all="ignore"):  # constants have no R-hat
        return az.summary(shown, round_to="none", **asked).rename_axis("parameter").reset_index()


def _summarised(data: az.InferenceData) -> xr.Dataset:
    """Return the posterior with large sites thinned along their first dimension, evenly."""
    posterior = data["posterior"]
    for name, value in posterior.items():
        if (size := int(np.prod(value.shape[2:]))) > MOST_SUMMARISED:
            dim, whole = value.dims[2], value.shape[2]
            index = evenly(whole, max(1, MOST_SUMMARISED * whole // size)).numpy()
            some = value.isel({dim: index}).rename({dim: f"some_{dim}"})
            posterior = posterior.drop_vars(str(name)).assign({str(name): some})
    return posterior


def report_of(directory: Path, target: Path) -> str:
    """Return the address of a run's own page on one in a folder above it; empty where there is none."""
    there = directory.is_relative_to(target) and (directory / "report.html").is_file()
    return (directory.relative_to(target) / "report.html").as_posix() if there else ""


def write_failure(directory: Path, status: str, error: str, model: str, method: str) -> None:
    """Say in a sweep's job directory why there is no fit."""
    content = {"model": model, "method": method, "status": status, "error": error}
    write_text(directory / "metrics.json", json.dumps(content, indent=1) + "\n")


def read_metrics(directory: Path) -> dict[str, Any]:
    """Return metrics.json of a run directory.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    path = directory / "metrics.json"
    if not path.is_file():
        raise DataError(f"{directory} is not a finished run directory (no metrics.json)")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error})") from None


def read_config(directory: Path) -> dict[str, Any]:
    """Return the configuration of a run directory, interpolations unresolved.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise DataError(f"{directory} is not a run directory (no {CONFIG})")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        raise DataError(f"{path} is not readable YAML") from None
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a configuration")
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
    except (DataError, KeyError):
        pass  # a job killed before it could say why; the row names it all the same
    return row


def read_run(
    directory: Path, find: Callable[[str, Mapping[str, Any]], type[Model]], given: Posterior | None = None
) -> tuple[Fit, az.InferenceData, dict[str, Any]]:
    """Return the fit, its InferenceData and its configuration from a run directory.

    Args:
        directory: The run directory.
        find: (model's name, configuration) -> the class of models.
        given: The model given again in Python, and the arguments of a program, in place of what is found.

    Raises:
        DataError: Something is missing or cannot be read.
    """
    metrics, config = read_metrics(directory), read_config(directory)
    if "error" in metrics:
        raise DataError(f"{directory} holds no fit ({metrics['status']}: {metrics['error']})")
    try:
        data = az.from_netcdf(str(directory / "posterior.nc"))
        attributes = dict(data.attrs)
        if given is None:
            model, known = find(attributes["model"], config)(**json.loads(attributes["settings"])), None
        else:
            model, known = given.model, given.data
        fit = from_inference_data(data, model, known)
        fit.trace, fit.runs = (pd.read_csv(directory / name) for name in ("trace.csv", "runs.csv"))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{directory} cannot be read ({first_line(error)})") from None
    fit.metrics = metrics
    fit.objective_name, fit.objective = metrics["objective_name"], metrics.get("objective", float("nan"))
    fit.iterations = metrics["iterations"]
    return fit, data, config
