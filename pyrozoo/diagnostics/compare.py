"""Several fits side by side: aligned parameters and invariants in units of the reference's spread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import arviz as az
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.diagnostics.metrics import MOST_SCALARS, dataset, some
from pyrozoo.diagnostics.verdict import ESS_ENOUGH, RHAT_GOOD
from pyrozoo.types import SOLVER, Draws, Fit, SettingError

COLUMNS = (
    "model", "method", "kind", "status", "seed", "objective_name", "objective", "elbo", "elbo_se", "khat",
    "holdout_elpd", "holdout_rmse", "holdout_coverage_90", "loo_elpd", "loo_se", "loo_p", "loo_bad_khat_share",
    "rhat_max_raw", "rhat_max", "rhat_max_invariants", "ess_bulk_min_invariants", "ess_per_second", "divergences",
    "iterations", "seconds",
)  # fmt: skip
"""The first columns of a comparison; the models' own figures follow."""


@dataclass(frozen=True)
class Comparison:
    """The result of comparing fits.

    Attributes:
        table: One row per fit: every figure of it.
        parameters: One row per scalar parameter of each fit, components aligned to the reference: mean, sd, and against
            the reference the error of the mean in reference sds, its Monte Carlo standard error, the ratio of sds.
        invariants: The same for quantities that labels and rotations do not change.
        reference: The name of the reference fit, or None when no sampler is among the fits.
        reference_good: Whether it is exact, or meets R-hat < 1.01 and ESS >= 400 on invariants.
        names: The names of the fits, in order.
        fits: The fits.
    """

    table: pd.DataFrame
    parameters: pd.DataFrame
    invariants: pd.DataFrame
    reference: str | None
    reference_good: bool
    names: tuple[str, ...]
    fits: tuple[Fit, ...]

    def __str__(self) -> str:
        keep = [c for c in COLUMNS if c in self.table and self.table[c].notna().any()]
        return self.table[["fit", *(c for c in keep if c not in ("model", "objective_name"))]].to_string(index=False)


def compare(fits: Sequence[Fit]) -> Comparison:
    """Compare fits of one model to the same data.

    Args:
        fits: At least one, with their metrics evaluated.

    Returns:
        Tables; the reference is an exact fit, else the sampler that meets R-hat < 1.01 and ESS >= 400, the most
        effective draws first, else the sampler with the lowest R-hat, else none.

    Raises:
        SettingError: No fits, or fits of different models.
    """
    if not fits:
        raise SettingError("there is nothing to compare")
    if len({fit.model_name for fit in fits}) > 1:
        raise SettingError(f"fits of different models cannot be compared: {', '.join(f.model_name for f in fits)}")
    if any(not fits[0].data.same(fit.data) for fit in fits[1:]):
        raise SettingError("fits of different data (or with other entries held out) cannot be compared")
    names, varied = _names(fits), varied_fields(fits)
    rows = [
        {"fit": name, **fit.metrics, **{f: _scalar(getattr(fit.model, f)) for f in varied}}
        for name, fit in zip(names, fits, strict=True)
    ]
    table = pd.DataFrame(rows)
    leading = [*varied, *(c for c in COLUMNS if c in table)]
    table = table[["fit", *leading, *(c for c in table if c not in leading and c != "fit")]]
    index, good = _reference(fits)
    anchor = fits[index if index is not None else 0]
    canonical = anchor.model.canonical(anchor.draws)
    aligned, invariants, alike = [], [], []
    for fit in fits:
        same = all(fit.draws[s].shape[2:] == anchor.draws[s].shape[2:] for s in anchor.model.sites)
        alike.append(same)
        # Fits in single and in double precision can stand side by side.
        draws = {site: value.to(anchor.draws[site].dtype) for site, value in fit.draws.items()}
        aligned.append(fit.model.canonical(draws, canonical) if same else fit.model.canonical(fit.draws))
        invariants.append(fit.invariants())
    base = names[index] if index is not None else None
    parameters = _side_by_side(names, fits, aligned, index)
    # Components of fits with another number of them have no counterpart in the reference.
    strangers = parameters["fit"].isin([name for name, same in zip(names, alike, strict=True) if not same])
    against = [
        c for c in parameters if str(c).startswith("reference_") or c in ("error_in_sd", "error_mcse", "sd_ratio")
    ]
    parameters.loc[strangers, against] = np.nan
    return Comparison(
        table, parameters, _side_by_side(names, fits, invariants, index), base, good,
        names, tuple(fits),
    )  # fmt: skip


def _names(fits: Sequence[Fit]) -> tuple[str, ...]:
    """Name fits by method, adding what tells two of one method apart: settings, solver options, seed, position."""
    labels = [fit.method for fit in fits]
    differing = varied_fields(fits)
    if differing:
        labels = [
            f"{n} {', '.join(f'{f}={getattr(fit.model, f)}' for f in differing)}"
            for n, fit in zip(labels, fits, strict=True)
        ]
    if len(set(labels)) < len(labels):
        options = [{k.removeprefix(SOLVER): v for k, v in fit.metrics.items() if k.startswith(SOLVER)} for fit in fits]
        told = [", ".join(f"{k}={v}" for k, v in each.items()) for each in options]
        labels = [
            f"{n} {option}" if option and labels.count(n) > 1 else n for n, option in zip(labels, told, strict=True)
        ]
    if len(set(labels)) < len(labels):
        labels = [f"{n} seed={fit.seed}" if labels.count(n) > 1 else n for n, fit in zip(labels, fits, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{n} #{i}" if labels.count(n) > 1 else n for i, n in enumerate(labels)]
    return tuple(labels)


def varied_fields(fits: Sequence[Fit]) -> list[str]:
    """Return the hyper-parameters in which the fits differ."""
    names = [f.name for f in dataclasses.fields(fits[0].model)]  # type: ignore[arg-type]
    return [name for name in names if len({repr(getattr(fit.model, name)) for fit in fits}) > 1]


def _scalar(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)


def _reference(fits: Sequence[Fit]) -> tuple[int | None, bool]:
    for i, fit in enumerate(fits):
        if fit.kind == "exact":
            return i, True
    samplers = [i for i, fit in enumerate(fits) if "rhat_max_invariants" in fit.metrics]
    good = [
        i
        for i in samplers
        if float(fits[i].metrics["rhat_max_invariants"]) < RHAT_GOOD
        and float(fits[i].metrics["ess_bulk_min_invariants"]) >= ESS_ENOUGH
    ]
    if good:
        return max(good, key=lambda i: float(fits[i].metrics["ess_bulk_min_invariants"])), True
    if samplers:
        return min(samplers, key=lambda i: float(fits[i].metrics["rhat_max_invariants"])), False
    return None, False


def _side_by_side(
    names: Sequence[str], fits: Sequence[Fit], draws: Sequence[Draws], reference: int | None
) -> pd.DataFrame:
    frames = [_moments(name, fit, each) for name, fit, each in zip(names, fits, draws, strict=True)]
    result = pd.concat(frames, ignore_index=True)
    if reference is None:
        return result
    base = frames[reference].set_index("quantity")[["mean", "sd", "mcse"]].add_prefix("reference_")
    result = result.join(base, on="quantity")
    spread = result["reference_sd"].where(result["reference_sd"] > 0)
    result["error_in_sd"] = (result["mean"] - result["reference_mean"]) / spread
    result["error_mcse"] = np.hypot(result["mcse"].fillna(0.0), result["reference_mcse"].fillna(0.0)) / spread
    result["sd_ratio"] = result["sd"] / spread
    return result


def _moments(name: str, fit: Fit, draws: Draws) -> pd.DataFrame:
    rows: dict[str, list[object]] = {"fit": [], "quantity": [], "mean": [], "sd": [], "mcse": []}
    for site, value in draws.items():
        flat = value.flatten(0, 1).double().cpu()
        mean = flat.mean(0)
        sd = flat.std(0) if len(flat) > 1 and fit.kind != "point" else torch.full_like(mean, torch.nan)
        mcse = _mcse(fit, {site: value}, sd)
        rows["quantity"] += _labels(site, fit, value)
        rows["mean"] += mean.flatten().tolist()
        rows["sd"] += sd.flatten().tolist()
        rows["mcse"] += mcse.flatten().tolist()
    rows["fit"] = [name] * len(rows["mean"])
    return pd.DataFrame(rows)


def _mcse(fit: Fit, draws: Draws, sd: Tensor) -> Tensor:
    """Return the Monte Carlo standard error of means: through ESS for chains, by the root of the count for q."""
    (value,) = draws.values()
    if fit.kind == "samples" and value.shape[1] >= 4:
        if value[0, 0].numel() > MOST_SCALARS:  # a typical one stands for all
            (few,) = az.ess(dataset(some(draws)), method="mean").values()
            return sd / max(1.0, float(np.nanmedian(few))) ** 0.5
        (ess,) = az.ess(dataset(draws), method="mean").values()
        return sd / torch.as_tensor(np.asarray(ess)).clamp(min=1).sqrt()
    return sd / value.flatten(0, 1).shape[0] ** 0.5


def _labels(site: str, fit: Fit, value: Tensor) -> list[str]:
    """Return the name of every scalar of a site, with the data's own labels where a dimension has them."""
    shape = value.shape[2:]
    dims = fit.model.sites.get(site, fit.model.invariant_dims.get(site, ()))
    axes = [fit.data.coords.get(dim, range(size)) for dim, size in zip(dims, shape, strict=True)]
    if not axes:
        return [site]
    grids = np.meshgrid(*[np.asarray([str(label) for label in axis], dtype=object) for axis in axes], indexing="ij")
    return [f"{site}[{', '.join(parts)}]" for parts in zip(*[grid.ravel() for grid in grids], strict=True)]


def worst_errors(comparison: Comparison) -> pd.DataFrame:
    """Return, per fit, the largest error of an invariant's mean in reference sds, and the median ratio of sds."""
    frame = comparison.invariants
    if "error_in_sd" not in frame:
        return pd.DataFrame({"fit": list(comparison.names)})
    grouped = frame.assign(error=frame["error_in_sd"].abs()).groupby("fit", sort=False)
    return grouped.agg(worst_error_in_sd=("error", "max"), median_sd_ratio=("sd_ratio", "median")).reset_index()
