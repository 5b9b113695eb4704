"""The page over several runs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyrozoo.diagnostics.compare import Comparison, compare, worst_errors
from pyrozoo.diagnostics.verdict import verdict
from pyrozoo.paths import replacing
from pyrozoo.report import html
from pyrozoo.report.figures import comparison_pictures
from pyrozoo.report.run_directory import read_config, read_metrics, read_run, write_table, write_text
from pyrozoo.types import DataError, Fit

SHORT = ("method", "status", "objective", "elbo", "khat", "holdout_elpd", "holdout_rmse", "completion_rmse", "loo_elpd",
         "rhat_max_invariants", "ess_per_second", "seconds")  # fmt: skip


def write_comparison(
    directory: Path, comparisons: Sequence[Comparison], absent: pd.DataFrame, links: dict[int, str]
) -> None:
    """Write comparison.csv, parameters.csv, invariants.csv, figures and report.html.

    Args:
        directory: Where to.
        comparisons: One per model.
        absent: Runs without a fit: run, model, method, status, error.
        links: id of a fit -> address of its own report.
    """
    parts = []
    for each in comparisons:
        name = each.fits[0].model_name
        suffix = f"_{name}" if len(comparisons) > 1 else ""
        write_table(directory / f"parameters{suffix}.csv", each.parameters)
        write_table(directory / f"invariants{suffix}.csv", each.invariants)
        # A model may have tables and pictures of its own for several fits.
        folder = type(each.fits[0].model).__module__.rpartition(".")[0]
        queries, figures = (importlib.import_module(f"{folder}.{module}") for module in ("queries", "figures"))
        tables = queries.compared(each.fits, each.names) if hasattr(queries, "compared") else {}
        pictures = figures.compared(each.fits, each.names) if hasattr(figures, "compared") else []
        for title, frame in tables.items():
            write_table(directory / "tables" / f"{title}{suffix}.csv", frame)
        drawn = [(picture, html.png(picture)) for picture in [*pictures, *comparison_pictures(each)]]
        for picture, image in drawn:
            with replacing(directory / "figures" / f"{picture.name}{suffix}.png") as temporary:
                temporary.write_bytes(image)
        short = each.table[["fit", *(c for c in SHORT if c in each.table)]].merge(worst_errors(each), on="fit")
        parts.append(
            {
                "title": f"{name}, {len(each.names)} fits",
                "reference": _reference_sentence(each),
                "table": html.table(short),
                "tables": {title: html.table(frame) for title, frame in tables.items()},
                "cards": [
                    {"name": n, "lines": verdict(fit.metrics), "link": links.get(id(fit), "")}
                    for n, fit in zip(each.names, each.fits, strict=True)
                ],
                "pictures": html.figures(drawn),
                "invariants": html.table(each.invariants, 400),
                "parameters": html.table(each.parameters, 400),
            }
        )
    frames = [each.table for each in comparisons] + ([absent] if len(absent) or not comparisons else [])
    # Whole numbers stay whole beside rows that lack them.
    write_table(directory / "comparison.csv", pd.concat(frames, ignore_index=True).convert_dtypes())
    models = ", ".join(each.fits[0].model_name for each in comparisons) or "no fit"
    text = html.page(
        "comparison.html.j2",
        {
            "title": f"Comparison: {models}",
            "lead": f"{sum(len(each.names) for each in comparisons)} fits, {len(absent)} runs without one. "
            "Every figure of every fit is in comparison.csv.",
            "absent": html.table(absent),
            "parts": parts,
        },
    )
    write_text(directory / "report.html", text)


def _reference_sentence(comparison: Comparison) -> str:
    if comparison.reference is None:
        return "No sampler is among the fits, so nothing says which is right: compare held-out figures and ELBOs."
    if comparison.fits[comparison.names.index(comparison.reference)].kind == "exact":
        return f"The reference is {comparison.reference}: independent draws from the posterior itself."
    if comparison.reference_good:
        return f"The reference is {comparison.reference}: R-hat < 1.01 and ESS >= 400 on invariants."
    return (
        f"The best sampler, {comparison.reference}, does not meet R-hat < 1.01 and ESS >= 400: "
        "errors against it are only as good as it is."
    )


def compare_directories(directories: Sequence[Path], target: Path) -> pd.DataFrame:
    """Compare run directories and write the page; runs without a fit are named in it.

    Args:
        directories: Run directories.
        target: Where the comparison goes.

    Returns:
        The runs without a fit: run, model, method, status, error.
    """
    fits: dict[str, list[Fit]] = {}
    links, absent = {}, []
    for directory in directories:
        try:
            fit, _, _ = read_run(directory)
        except DataError as error:
            absent.append(_absent(directory, error))
            continue
        fits.setdefault(fit.model_name, []).append(fit)
        if (directory / "report.html").is_file() and directory.is_relative_to(target):
            links[id(fit)] = (directory.relative_to(target) / "report.html").as_posix()
    missing = pd.DataFrame(absent, columns=["run", "model", "method", "status", "error"])
    write_comparison(target, [compare(each) for each in fits.values()], missing, links)
    return missing


def _absent(directory: Path, error: DataError) -> dict[str, str]:
    row = {"run": directory.name, "model": "", "method": "", "status": "failed", "error": str(error)}
    try:
        config = read_config(directory)
        row |= {"model": config["model"]["name"], "method": config["inference"]["name"]}
        row |= {key: read_metrics(directory)[key] for key in ("status", "error")}
    except (DataError, KeyError):
        pass  # a job killed before it could say why; the row names it all the same
    return row
