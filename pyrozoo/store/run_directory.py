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
from pyrozoo.core.errors import DataError
from pyrozoo.core.paths import replacing
from pyrozoo.core.picture import Picture
from pyrozoo.diagnostics.verdict import Line
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


def write_run(
    fit: Fit, data: az.InferenceData, directory: Path, config: str, lines: Sequence[Line], *,
    synthetic_rows: int | None = None, synthetic_given: Mapping[str, str] | None = None,
    progress: bool | None = False,
) -> None:  # fmt: skip
    """Write everything about a fit.

    Args:
        fit: The fit, metrics evaluated.
        data: The same as InferenceData.
        directory: The run directory; made when missing. metrics.json comes last: where it is, all is there.
        config: The unresolved configuration, YAML.
        lines: The verdict.
        synthetic_rows: Rows of tables/synthetic.csv, where the model can draw them; None: as many as the data have.
        synthetic_given: Answers that all of them have.
        progress: Whether to show a bar while writing them.
    """
    fresh = not directory.exists() or set(directory.iterdir()) <= {directory / CONFIG.parts[0]}
    try:
        _write(fit, data, directory, config)
        write_page(fit, data, directory, config, lines)
        if view_of(fit.model).synthesizes:
            count = synthetic_rows or fit.data.shape[0]
            path = directory / "tables" / "synthetic.csv"
            write_synthetic(fit, path, count, synthetic_given, fit.seed, bool(progress))
        _finish(fit, directory)
    except BaseException:
        if fresh:  # nothing half written; a directory that held anything before is left alone
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _write(fit: Fit, data: az.InferenceData, directory: Path, config: str) -> None:
    write_text(directory / CONFIG, config)
    with replacing(directory / "posterior.nc") as temporary:
        data.to_netcdf(str(temporary), engine="h5netcdf")
    write_table(directory / "trace.csv", fit.trace)
    write_table(directory / "runs.csv", fit.runs)


def write_page(fit: Fit, data: az.InferenceData, directory: Path, config: str, lines: Sequence[Line]) -> None:
    """Write what is made from a fit for people: tables, pictures and report.html.

    Args:
        fit: The fit, metrics evaluated.
        data: The same as InferenceData.
        directory: The run directory.
        config: The unresolved configuration, YAML.
        lines: The verdict.
    """
    summary = summarise(fit, data)
    write_table(directory / "summary.csv", summary)
    tables = tables_of(fit)
    for name, frame in tables.items():
        write_table(directory / "tables" / f"{name}.csv", frame)
    drawn = [(picture, html.png(picture)) for picture in pictures_of(fit, data)]
    for picture, image in drawn:
        with replacing(directory / "figures" / f"{picture.name}.png") as temporary:
            temporary.write_bytes(image)
    text = html.page(
        "run.html.j2",
        {
            "title": f"{fit.model_name} by {fit.method}",
            "lead": f"{fit.data.name}: {fit.data.size}; {fit.kind}; {fit.status} after {fit.iterations} iterations "
            f"in {fit.seconds:.2f} s; seed {fit.seed}",
            "lines": lines,
            "notes": [note for note in str(data.attrs["notes"]).split("; ") if note],
            "metrics": html.table(
                pd.DataFrame({"figure": list(fit.metrics), "value": [html.number(v) for v in fit.metrics.values()]})
            ),
            "plates": html.figures(drawn[-1:])[0],
            "story": type(fit.model).__doc__,
            "pictures": html.figures(drawn[:-1]),
            "tables": {name: html.table(frame, 12) for name, frame in {"summary": summary, **tables}.items()},
            "settings": config,
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        },
    )
    write_text(directory / "report.html", text)


def tables_of(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return what the model's users ask for, name -> table."""
    return view_of(fit.model).tables(fit)


def pictures_of(fit: Fit, data: az.InferenceData) -> list[Picture]:
    """Return the model's own pictures, those that every fit has, and last the model in plate notation."""
    plates = Picture("model", "Plate notation; observed sites are shaded.", draw_plates(fit.posterior))
    return [*view_of(fit.model).pictures(fit), *standard_pictures(fit, data), plates]


def _finish(fit: Fit, directory: Path) -> None:
    """Write what says that all is there."""
    write_text(directory / "metrics.json", json.dumps(fit.metrics, indent=1, allow_nan=False) + "\n")
    if fit.status != "interrupted":
        (directory / CHECKPOINT).unlink(missing_ok=True)


def summarise(fit: Fit, data: az.InferenceData) -> pd.DataFrame:
    """Return a line per parameter: moments and intervals; R-hat and ESS for samples only."""
    shown = _summarised(data)
    chains, count = fit.draws.shape
    if chains * count == 1:
        # One value has no spread: ask for the mean alone.
        frame = az.summary(shown, kind="stats", stat_funcs={"mean": np.mean}, extend=False, round_to="none")
    elif fit.kind != "samples" or count < 4:
        frame = az.summary(shown, kind="stats", hdi_prob=0.9, round_to="none")
    else:
        with np.errstate(all="ignore"):  # constants have no R-hat
            frame = az.summary(shown, hdi_prob=0.9, round_to="none")
    return frame.rename_axis("parameter").reset_index()


def _summarised(data: az.InferenceData) -> xr.Dataset:
    """Return the posterior with large sites thinned along their first dimension, evenly."""
    posterior = data["posterior"]
    for name, value in posterior.items():
        size = int(np.prod(value.shape[2:]))
        if size > MOST_SUMMARISED:
            dim = value.dims[2]
            keep = max(1, MOST_SUMMARISED * value.sizes[dim] // size)
            index = evenly(value.sizes[dim], keep).numpy()
            some = value.isel({dim: index}).rename({dim: f"some_{dim}"})
            posterior = posterior.drop_vars(str(name)).assign({str(name): some})
    return posterior


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
        model = (
            find(attributes["model"], config)(**json.loads(attributes["settings"])) if given is None else given.model
        )
        fit = from_inference_data(data, model, None if given is None else given.data)
        fit.trace, fit.runs = (pd.read_csv(directory / name) for name in ("trace.csv", "runs.csv"))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{directory} cannot be read ({(str(error).splitlines() or ['?'])[0]})") from None
    fit.metrics = metrics
    fit.objective_name, fit.objective = metrics["objective_name"], metrics.get("objective", float("nan"))
    fit.iterations = metrics["iterations"]
    return fit, data, config
