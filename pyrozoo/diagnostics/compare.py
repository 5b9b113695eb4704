"""Several fits side by side: aligned parameters and invariants in units of the reference's spread, and a card each."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts.fit import SOLVER, Fit
from pyrozoo.contracts.model import Model
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import SettingError
from pyrozoo.diagnostics.answer import Told, believe
from pyrozoo.diagnostics.card import Card
from pyrozoo.diagnostics.choice import Choice, choose
from pyrozoo.diagnostics.metrics import MOST_SCALARS, Metrics, some
from pyrozoo.diagnostics.outline import outline
from pyrozoo.diagnostics.verdict import DIVERGENT, SURE, USUAL, Thresholds, verdict
from pyrozoo.math.mixing import LEAST, ess

COLUMNS = (
    "model", "method", "kind", "status", "seed", "objective_name", "objective", "elbo", "elbo_se", "elbo_gap", "khat",
    "holdout_elpd", "holdout_rmse", "holdout_coverage_90", "loo_elpd", "loo_se", "loo_p", "loo_bad_khat_share",
    "rhat_max_raw", "rhat_max", "rhat_max_invariants", "ess_bulk_min_invariants", "ess_per_second", "divergences",
    "reference", "mean_error", "mean_error_mcse", "sd_ratio_median", "overlap_median", "seconds_to_error",
    "iterations", "seconds",
)  # fmt: skip
"""The first columns of a comparison; the models' own figures follow."""

AGAINST = ("reference_mean", "reference_sd", "reference_mcse", "error_in_sd", "error_mcse", "sd_ratio", "sd_ratio_se",
           "overlap_90", "raw_error_in_sd")  # fmt: skip
"""Columns that compare with the reference."""

LEFT_OUT_OF_POINTS = "log_likelihood"
"""The invariant that a point estimate cannot be held to: a maximum lies above the mean over the posterior."""

ROUNDING = 1e-9
"""Sds below it, relative to the mean, are rounding."""

MOST_SDS = 1000.0
"""Sds beyond which errors are not told apart: of what the reference is sure of, any other value is infinitely far."""

NO_NOISE = 1e-6
"""Monte Carlo errors below it, in sds, are rounding: they would take a million million draws."""

MOMENTS_OF_TIME = 24
"""Times, in equal ratios, at which the error of a sampler is followed."""


@dataclass(frozen=True)
class Comparison:
    """The result of comparing fits.

    Fits with the same hyper-parameters approximate one posterior and are held to one reference; in a sweep over K,
    each K has its own.

    Attributes:
        table: One row per fit: every figure of it.
        parameters: One row per scalar parameter of each fit, components aligned to the reference: mean, sd, Monte Carlo
            error of the mean, ends of the central 90% interval, mean and sd of the raw draws; and against the reference
            the error of the mean in reference sds with its Monte Carlo standard error, the ratio of sds with that of
            its logarithm, the overlap of 90% intervals (intersection over union), and the raw error.
        invariants: The same for quantities that labels and rotations do not change.
        pairwise: Where there is no reference: for each pair of fits, the median and largest distance of the means of
            invariants in sds.
        references: For each fit, the name of its reference, or None.
        cards: For each fit, its verdict.
        answer: Which fit to believe, for what, at what price.
        choice: What a sweep over a hyper-parameter, such as K, says of it.
        curves: For each fit with a reference: seconds, and the largest error of an invariant's mean by then.
        limits: The thresholds of the verdicts.
        names: The names of the fits, in order.
        fits: The fits.
    """

    table: pd.DataFrame
    parameters: pd.DataFrame
    invariants: pd.DataFrame
    pairwise: pd.DataFrame
    references: tuple[str | None, ...]
    cards: tuple[Card, ...]
    answer: str
    choice: Choice | None
    curves: tuple[pd.DataFrame, ...]
    limits: Thresholds
    names: tuple[str, ...]
    fits: tuple[Fit, ...]

    def fit(self, name: str) -> Fit:
        """Return the fit of a name."""
        return self.fits[self.names.index(name)]

    @property
    def reference(self) -> str | None:
        """Return the reference of the fits, the first one where they have several, or None."""
        return next((name for name in self.references if name is not None), None)

    def __str__(self) -> str:
        keep = [c for c in COLUMNS if c in self.table and self.table[c].notna().any()]
        return self.table[["fit", *(c for c in keep if c not in ("model", "objective_name"))]].to_string(index=False)


@dataclass(frozen=True)
class _Reference:
    """What a group of fits is held to.

    Attributes:
        index: Its place among the fits.
        good: Whether it can be believed.
        what: What it is, in words.
        judges: Whether others are held to it: not to a sampler that has not converged.
    """

    index: int
    good: bool
    what: str
    judges: bool


def compare(fits: Sequence[Fit], *, reference: Fit | None = None, limits: Thresholds = USUAL) -> Comparison:
    """Compare fits of one model to the same data.

    Args:
        fits: At least one, with their metrics evaluated.
        reference: A stored fit to hold the others to; it joins them. None: an exact fit among them, else the sampler
            without divergences that meets R-hat <= 1.01 and ESS >= 400, the most effective draws first. Otherwise
            nothing is held against any of them, and they are compared pair by pair.
        limits: Thresholds of the verdicts, and of a sampler that may be the reference.

    Returns:
        Tables and cards.

    Raises:
        SettingError: No fits, or fits of different models or data, or a reference that is a point estimate.
    """
    if not fits:
        raise SettingError("there is nothing to compare")
    given = None if reference is None else len(fits)
    if reference is not None:
        check_reference(fits[0].model, fits[0].data, reference)
        if reference.model not in [fit.model for fit in fits]:
            raise SettingError("reference: it has other hyper-parameters than any of the fits")
        fits = [*fits, reference]
    if len({fit.model_name for fit in fits}) > 1:
        raise SettingError(f"fits of different models cannot be compared: {', '.join(f.model_name for f in fits)}")
    if any(not fits[0].data.same(fit.data) for fit in fits[1:]):
        raise SettingError("fits of different data (or with other entries held out) cannot be compared")
    names, varied = _names(fits, given), varied_fields(fits)
    held: dict[int, _Held] = {}
    references: dict[int, str | None] = {}
    pairs = []
    for group in groups_of(fits):
        chosen = _reference(fits, group, given if given in group else None, limits)
        held |= _hold(fits, names, group, chosen, limits)
        references |= dict.fromkeys(group, None if chosen is None else names[chosen.index])
        if (chosen is None or not chosen.judges) and len(group) > 1:
            pairs.append(_pairwise([held[i].invariants for i in group]))
    pairwise = pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(columns=list(PAIR))
    order, results = range(len(fits)), [held[i] for i in range(len(fits))]
    beside = [{**results[i].figures, **_nearest(pairwise, names[i]), **_held_out(fits, names, i)} for i in order]
    own = [{f: _scalar(getattr(fit.model, f)) for f in varied} for fit in fits]
    cards = tuple(verdict({**fits[i].metrics, **beside[i]}, limits) for i in order)
    told = [Told(names[i], {**fits[i].metrics, **beside[i]}, cards[i]) for i in order]
    chosen_by = choose(fits, varied, told)
    said = [chosen_by.sentence, believe([told[i] for i in chosen_by.group])] if chosen_by else [believe(told)]
    table = pd.DataFrame({"fit": names[i], **fits[i].metrics, **beside[i], **own[i]} for i in order)
    leading = ["fit", *varied, *(c for c in COLUMNS if c in table)]
    return Comparison(
        table=table[[*leading, *(c for c in table if c not in leading)]],
        parameters=pd.concat([each.parameters for each in results], ignore_index=True),
        invariants=pd.concat([each.invariants for each in results], ignore_index=True), pairwise=pairwise,
        references=tuple(references[i] for i in order),
        cards=cards, choice=chosen_by, answer=" ".join(said),
        curves=tuple(each.curve for each in results), limits=limits, names=names, fits=tuple(fits),
    )  # fmt: skip


@dataclass
class _Held:
    """What is known of a fit beside its reference: rows of tables, a curve of its error, and figures."""

    parameters: pd.DataFrame
    invariants: pd.DataFrame
    curve: pd.DataFrame
    figures: Metrics


def _hold(
    fits: Sequence[Fit], names: Sequence[str], group: Sequence[int], chosen: _Reference | None, limits: Thresholds
) -> dict[int, _Held]:
    """Hold the fits of one posterior to their reference, components aligned to it or, without one, to the first fit."""
    base = None if chosen is None else chosen.index
    anchor = fits[group[0] if base is None else base]
    whole = outline(anchor).draws
    canonical = anchor.posterior.align(whole)
    held: dict[int, _Held] = {}
    for i in group:
        # Fits in single and in double precision can stand side by side.
        draws = outline(fits[i]).draws.to(whole)
        aligned = Draws(fits[i].posterior.align(draws, canonical))
        mine = _moments(names[i], fits[i], aligned, draws), _moments(names[i], fits[i], outline(fits[i]).invariants)
        held[i] = _Held(*mine, curve=pd.DataFrame(), figures={})
    if base is not None:
        parameters, invariants = held[base].parameters, held[base].invariants
        for i, each in held.items():
            each.parameters = _against(each.parameters, parameters)
            each.invariants = _against(each.invariants, invariants)
            each.curve = error_curve(fits[i], each.invariants, own=base == i)
    for i, each in held.items():
        each.figures = _figures(fits, names, i, chosen, each, limits) | _evidence(fits, names, group, i)
    return held


def check_reference(model: Model, data: Any, reference: Fit) -> None:
    """Refuse a reference that says nothing of a model's posterior given data.

    Raises:
        SettingError: It is a point estimate, or of another model, or of other data.
    """
    if reference.kind == "point":
        raise SettingError(f"reference: {reference.method} is a point estimate, which says nothing of the posterior")
    if type(reference.model) is not type(model):
        raise SettingError(f"reference: it is a fit of {reference.model_name}, not of this model")
    if not data.same(reference.data):
        raise SettingError("reference: it is a fit of other data (or with other entries held out)")


def groups_of(fits: Sequence[Fit]) -> list[list[int]]:
    """Return the places of fits with the same hyper-parameters: those that approximate one posterior."""
    found: dict[str, list[int]] = {}
    for i, fit in enumerate(fits):
        found.setdefault(repr(fit.model), []).append(i)
    return list(found.values())


def _names(fits: Sequence[Fit], given: int | None) -> tuple[str, ...]:
    """Name fits by method, adding what tells two of one method apart: settings, solver options, seed, position."""
    labels = [fit.method if i != given else f"{fit.method} (stored)" for i, fit in enumerate(fits)]
    if differing := varied_fields(fits):
        fields = [", ".join(f"{f}={getattr(fit.model, f)}" for f in differing) for fit in fits]
        labels = [f"{label} {each}" for label, each in zip(labels, fields, strict=True)]
    own = [{k.removeprefix(SOLVER): v for k, v in fit.metrics.items() if k.startswith(SOLVER)} for fit in fits]
    options = [", ".join(f"{k}={v}" for k, v in each.items()) for each in own]
    for more in (options, [f"seed={fit.seed}" for fit in fits], [f"#{i}" for i in range(len(fits))]):
        told = zip(labels, more, strict=True)
        labels = [f"{n} {each}" if each and labels.count(n) > 1 else n for n, each in told]
    return tuple(labels)


def varied_fields(fits: Sequence[Fit]) -> list[str]:
    """Return the hyper-parameters in which the fits differ."""
    names = [f.name for f in dataclasses.fields(fits[0].model)]
    varied = [name for name in names if len({repr(getattr(fit.model, name)) for fit in fits}) > 1]
    # What the data decide may depend on a field that is swept, such as K; then it is no choice of its own.
    rest = [name for name in varied if name not in fits[0].model.without_data]
    told = [tuple(repr(getattr(fit.model, name)) for name in rest) for fit in fits]
    whole = {(*key, *(repr(getattr(fit.model, name)) for name in varied)) for key, fit in zip(told, fits, strict=True)}
    return rest if rest and len(whole) == len(set(told)) else varied


def _scalar(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)


def _reference(fits: Sequence[Fit], group: Sequence[int], given: int | None, limits: Thresholds) -> _Reference | None:
    """Choose what the fits of a group are held to."""

    def sampler(i: int) -> _Reference:
        metrics = fits[i].metrics
        if "rhat_max_invariants" not in metrics:
            return _Reference(i, False, "one chain, or too few draws, of which nothing can be said", judges=False)
        rhat, bulk, tail = (float(metrics[f"{n}_invariants"]) for n in ("rhat_max", "ess_bulk_min", "ess_tail_min"))
        figures = f"R-hat {min(rhat, 1e3):.3f}, {min(bulk, tail):.0f} effective draws"
        if count := int(metrics.get("divergences", 0)):
            figures = f"{count} divergence{'' if count == 1 else 's'}, {figures}"
        diverged = count > DIVERGENT * int(metrics["chains"]) * int(metrics["draws"])
        good = not diverged and rhat <= limits.rhat_good and min(bulk, tail) >= limits.ess
        return _Reference(i, good, figures, judges=good)

    if given is not None:
        fit = fits[given]
        if fit.kind == "samples":
            return sampler(given)
        what = "the posterior itself" if fit.kind == "exact" else "an approximation, not the posterior"
        return _Reference(given, fit.kind == "exact", what, judges=True)
    for i in group:
        if fits[i].kind == "exact":
            return _Reference(i, True, "independent draws from the posterior itself", judges=True)
    samplers = [i for i in group if "rhat_max_invariants" in fits[i].metrics]
    if good := [i for i in samplers if sampler(i).good]:
        sure = [i for i in good if not fits[i].metrics.get("divergences")] or good
        return sampler(max(sure, key=lambda i: float(fits[i].metrics["ess_bulk_min_invariants"])))
    best = min(samplers, key=lambda i: float(fits[i].metrics["rhat_max_invariants"]), default=None)
    return None if best is None else sampler(best)


def _against(frame: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that compare with the reference, whose rows are those of the same quantities."""
    mean, sd, mcse, low, high = (reference[c] for c in ("mean", "sd", "mcse", "lower_90", "upper_90"))
    # What the reference holds for certain has no sd but rounding; a fit that does not is far off all the same.
    spread = sd.clip(lower=ROUNDING * mean.abs())
    spread = spread.where(spread > 0)
    result = frame.assign(reference_mean=mean, reference_sd=sd, reference_mcse=mcse)
    result["error_in_sd"] = ((frame["mean"] - mean) / spread).clip(-MOST_SDS, MOST_SDS)
    result["error_mcse"] = np.hypot(frame["mcse"].fillna(0.0), mcse.fillna(0.0)) / spread
    result["sd_ratio"] = (frame["sd"] / spread).where(sd > ROUNDING * mean.abs())
    result["sd_ratio_se"] = np.hypot(frame["sd_error"].fillna(0.0), reference["sd_error"])
    shared = frame["upper_90"].clip(upper=high) - frame["lower_90"].clip(lower=low)
    together = frame["upper_90"].clip(lower=high) - frame["lower_90"].clip(upper=low)
    result["overlap_90"] = shared.clip(lower=0) / together.where(together > 0)
    if "raw_mean" in frame:
        result["raw_error_in_sd"] = ((frame["raw_mean"] - mean) / spread).clip(-MOST_SDS, MOST_SDS)
    return result


def _moments(name: str, fit: Fit, draws: Draws, raw: Draws | None = None) -> pd.DataFrame:
    """Return a row per scalar: moments, Monte Carlo error, interval; with moments of raw draws beside them."""
    frames = []
    for site, value in draws.items():
        flat = value.flatten(0, 1).double().cpu()
        one = len(flat) < 2 or fit.kind == "point"
        mean, unknown = flat.mean(0), torch.full_like(flat[0], torch.nan)
        sd = unknown if one else flat.std(0)
        ends = (unknown, unknown) if one else torch.as_tensor(np.quantile(flat.numpy(), [0.05, 0.95], axis=0))
        mcse = _mcse(fit, {site: value}, sd)
        columns = {"mean": mean, "sd": sd, "mcse": mcse, "sd_error": _sd_error(flat, sd, mcse)}
        columns |= {"lower_90": ends[0], "upper_90": ends[1]}
        if raw is not None:
            plain = raw[site].flatten(0, 1).double().cpu()
            columns |= {"raw_mean": plain.mean(0), "raw_sd": unknown if one else plain.std(0)}
        rows: dict[str, Any] = {"fit": name, "quantity": named(site, outline(fit).labels[site])}
        frames.append(pd.DataFrame(rows | {key: each.flatten().numpy() for key, each in columns.items()}))
    return pd.concat(frames, ignore_index=True)


def _sd_error(flat: Tensor, sd: Tensor, mcse: Tensor) -> Tensor:
    """Return the relative Monte Carlo error of an sd over n effective draws: sqrt((kurtosis - 1) / 4n).

    A normal's is 1 / sqrt(2 n); what is rarely other than its usual value, such as a pixel all but sure of its label,
    has a large one.
    """
    away = (flat - flat.mean(0)) / sd
    kurtosis = away.pow(4).mean(0).clamp(min=1.0)
    return ((kurtosis - 1) / 4).sqrt() * mcse / sd


def _mcse(fit: Fit, draws: Values, sd: Tensor) -> Tensor:
    """Return the Monte Carlo standard error of means: through ESS for chains, by the root of the count for q."""
    (value,) = draws.values()
    if fit.kind == "samples" and value.shape[1] >= LEAST:
        if value[0, 0].numel() > MOST_SCALARS:  # a typical one stands for all
            (few,) = some(draws).values()
            return sd / max(1.0, float(ess(few, "mean").nanmedian())) ** 0.5
        return sd / ess(value, "mean").clamp(min=1).sqrt()
    return sd / value.flatten(0, 1).shape[0] ** 0.5


def named(site: str, labels: Sequence[Sequence[str]]) -> list[str]:
    """Return the name of every scalar of a site by the labels of its dimensions."""
    return [f"{site}[{', '.join(parts)}]" for parts in itertools.product(*labels)] if labels else [site]


def judged(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the rows of invariants that a fit of this kind is held to: those whose error is known."""
    known = frame[frame["error_in_sd"].notna()]
    return known[known["quantity"] != LEFT_OUT_OF_POINTS] if kind == "point" else known


def _figures(
    fits: Sequence[Fit], names: Sequence[str], i: int, chosen: _Reference | None, held: _Held, limits: Thresholds
) -> Metrics:
    """Return the figures of a fit beside its reference; what a verdict says is made from them."""
    if len(fits) == 1:
        return {}
    if chosen is None:
        return {"reference": "", "reference_is": "none"}
    result: Metrics = {
        "reference": names[chosen.index], "reference_is": chosen.what, "reference_good": int(chosen.good),
        "reference_judges": int(chosen.judges), "is_reference": int(chosen.index == i),
        "reference_seconds": float(fits[chosen.index].seconds),
    }  # fmt: skip
    rows = judged(held.invariants, fits[i].kind)
    if chosen.index != i and len(rows):
        result |= _means(rows, limits) | _spread(rows, limits)
    if len(held.curve):
        result |= _timed(held.curve, limits.time_error)
    return {n: value for n, value in result.items() if not (isinstance(value, float) and np.isnan(value))}


def _kinds(rows: pd.DataFrame) -> list[str]:
    """Return the names of the quantities of some rows, without their indices, each once."""
    return list(dict.fromkeys(name.partition("[")[0] for name in rows["quantity"]))


def _means(rows: pd.DataFrame, limits: Thresholds) -> Metrics:
    error, noise = rows["error_in_sd"].to_numpy(), rows["error_mcse"].to_numpy()
    sure = np.abs(error) - SURE * noise
    at, kinds = int(np.argmax(sure)), _kinds(rows)
    off, far = _kinds(rows[sure > limits.mean_good]), _kinds(rows[sure > limits.mean_bad])
    rest = np.abs(error[[name.partition("[")[0] not in off for name in rows["quantity"]]])
    standard = np.abs(error) / np.where(noise > NO_NOISE, noise, np.inf)
    worst = rows.iloc[at]
    sure_of = worst["reference_sd"] <= ROUNDING * abs(worst["reference_mean"])
    certain: Metrics = {"mean_off_by": float(worst["mean"] - worst["reference_mean"])} if sure_of else {}
    return certain | {
        "invariants": len(rows), "quantities": len(kinds), "mean_error": float(error[at]),
        "mean_error_mcse": float(noise[at]), "mean_error_of": str(rows["quantity"].iloc[at]),
        "mean_error_median": float(np.median(np.abs(error))), "mean_error_rest": float(rest.max(initial=0.0)),
        "means_off": ", ".join(off), "means_far": ", ".join(far),
        "mean_mcse_worst": float(noise.max()), "mean_standard_errors": float(standard.max()),
        "mean_standard_errors_of": str(rows["quantity"].iloc[int(standard.argmax())]),
    }  # fmt: skip


VAGUE = 0.3
"""Relative Monte Carlo error of an sd ratio from which on it says nothing."""


def _spread(rows: pd.DataFrame, limits: Thresholds) -> Metrics:
    known = rows[rows["sd_ratio"].notna() & (rows["sd_ratio_se"] < VAGUE)]
    if not len(known):
        return {}
    ratio, slack = known["sd_ratio"].to_numpy(), np.exp(SURE * known["sd_ratio_se"].to_numpy())
    low, high = ratio * slack, ratio / slack
    narrow, wide, kinds = int(np.argmin(low)), int(np.argmax(high)), _kinds(known)
    far = _kinds(known[(low < limits.spread_bad) | (high > 1 / limits.spread_bad)])
    result: Metrics = {
        "sd_ratio_median": float(np.median(ratio)), "quantities_spread": len(kinds),
        "narrowest": float(ratio[narrow]), "narrowest_at_most": float(low[narrow]),
        "narrowest_of": str(known["quantity"].iloc[narrow]), "widest": float(ratio[wide]),
        "widest_at_least": float(high[wide]), "widest_of": str(known["quantity"].iloc[wide]),
        "spread_narrow": ", ".join(_kinds(known[low < limits.spread_good])),
        "spread_wide": ", ".join(_kinds(known[high > 1 / limits.spread_good])), "spread_far": ", ".join(far),
    }  # fmt: skip
    shared = known[known["overlap_90"].notna()]
    if len(shared):
        overlap = shared["overlap_90"].to_numpy()
        result |= {
            "overlap_median": float(np.median(overlap)), "overlap_least": float(overlap.min()),
            "overlap_least_of": str(shared["quantity"].iloc[int(overlap.argmin())]),
        }  # fmt: skip
    return result


def error_curve(fit: Fit, invariants: pd.DataFrame, *, own: bool = False) -> pd.DataFrame:
    """Return how the largest error of an invariant's mean falls with time.

    A sampler's means are those of its first draws. A search has one answer: it is timed by when its objective came to
    within e²/2 of its best, which for a normal posterior is e sds of the mean, with e a tenth of an sd.

    Args:
        fit: The fit.
        invariants: Its rows beside the reference's.
        own: Whether the fit is the reference: means of its first draws come nearer to the mean of all than they should.

    Returns:
        Columns seconds, error, in reference sds, and surely: what is left of it after three Monte Carlo errors.
    """
    rows = judged(invariants, fit.kind)
    rows = rows.iloc[evenly(len(rows), MOST_SCALARS).numpy()]
    if not len(rows) or np.isnan(fit.seconds) or (fit.kind != "samples" and own):
        return pd.DataFrame()  # one from elsewhere says no time
    if fit.kind != "samples":
        found = {"error": rows["error_in_sd"].abs(), "surely": _surely(rows["error_in_sd"].abs(), rows["error_mcse"])}
        return pd.DataFrame({"seconds": [_settled(fit)], **{name: [float(each.max())] for name, each in found.items()}})
    values = torch.cat([v.reshape(*v.shape[:2], -1) for v in outline(fit).invariants.values()], 2)
    running = values[:, :, rows.index.tolist()].double().cpu().mean(0).cumsum(0).numpy()
    count = len(running)
    if count < 2:
        return pd.DataFrame()
    at = np.unique(np.geomspace(1, count, MOMENTS_OF_TIME).round().astype(int))
    means = running[at - 1] / at[:, None]
    base = rows["reference_mean"].to_numpy()
    apart = np.abs(means - base) / np.maximum(rows["reference_sd"].to_numpy(), ROUNDING * np.abs(base))
    # The Monte Carlo error of the first t draws is that of all T, times the root of T/t.
    error = apart.max(1)
    surely = _surely(apart, rows["error_mcse"].to_numpy() * np.sqrt(count / at)[:, None]).max(1)
    if own:
        # The variance of the mean of t among T draws about the mean of all is 1/t - 1/T of one draw's, not 1/t.
        at, error = at[:-1], error[:-1] / np.sqrt(1 - at[:-1] / count)
        surely = error
    return pd.DataFrame({"seconds": clock(fit, at / count)["seconds"], "error": error, "surely": surely})


def clock(fit: Fit, parts: np.ndarray) -> pd.DataFrame:
    """Return the work of a sampler by the times at which it had these parts of its draws: seconds, steps, passes.

    Warm-up is work. Where a fit says nothing of times between, draws came evenly; NaN: nothing is known.
    """
    warmup, moments = int(fit.metrics.get("warmup", 0)), fit.moments
    if len(moments) > 1 and moments[-1].kept:
        known = {"seconds": "seconds", "steps": "step", "passes": "passes"}
        way = {name: np.array([getattr(moment, of) for moment in moments], dtype=float) for name, of in known.items()}
        first = min(warmup, moments[-1].step)
        at = first + (moments[-1].step - first) * parts
        return pd.DataFrame({name: np.interp(at, way["steps"], values) for name, values in way.items()})
    begin = float(fit.trace["seconds"].min()) if len(fit.trace) else 0.0
    total = int(fit.trace.groupby("chain").size().max()) if len(fit.trace) else len(parts)
    warmup = min(total, warmup)
    share = (warmup + (total - warmup) * parts) / total
    steps = share * total if len(fit.trace) else np.full(len(parts), np.nan)
    return pd.DataFrame({"seconds": begin + (fit.seconds - begin) * share, "steps": steps, "passes": np.nan})


def _surely(error: Any, noise: Any) -> Any:
    return np.maximum(0.0, error - SURE * noise)


NEAR_BEST = 0.005
"""Nats below the best objective: 0.1²/2."""


def _settled(fit: Fit) -> float:
    """Return after how many seconds a search had all but reached its best objective."""
    if not len(fit.trace):
        return fit.seconds
    reached = fit.trace["objective"] >= fit.trace["objective"].max() - NEAR_BEST
    return float(fit.trace.loc[reached, "seconds"].min())


def _timed(curve: pd.DataFrame, error: float) -> Metrics:
    """Return the time after which the error, as far as it is sure, stays below a bound."""
    late = curve.index[curve["surely"] > error]
    after = curve if not len(late) else curve.loc[late[-1] + 1 :]
    return {"seconds_to_error": float(after["seconds"].iloc[0])} if len(after) else {"never_within": 1}


def _evidence(fits: Sequence[Fit], names: Sequence[str], group: Sequence[int], i: int) -> Metrics:
    """Return the gap of a fit's ELBO to the log evidence of its group, where anything is known of that."""
    if "elbo" not in fits[i].metrics:
        return {}
    exact = next((j for j in group if fits[j].objective_name == "log_evidence"), None)
    close = [j for j in group if _weighable(fits[j].metrics)]
    if exact is not None:
        known, noise, how = fits[exact].objective, 0.0, f"exact, by {names[exact]}"
    elif close:
        # Weighted means are too low rather than too high, on average: the highest is the nearest.
        best = max(close, key=lambda j: float(fits[j].metrics["log_evidence_weighted"]))
        known, noise = (float(fits[best].metrics[f"log_evidence_weighted{end}"]) for end in ("", "_se"))
        how = f"draws of {names[best]}, weighted; at least {known:.2f} ± {noise:.2f}"
    else:
        return {}
    gap = known - float(fits[i].metrics["elbo"])
    return {
        "log_evidence": known, "evidence_is": how, "elbo_gap": gap,
        "elbo_gap_se": float(np.hypot(noise, float(fits[i].metrics.get("elbo_se", 0.0)))),
    }  # fmt: skip


def _weighable(metrics: Mapping[str, Any]) -> bool:
    return "log_evidence_weighted" in metrics and metrics.get("khat", np.inf) < metrics.get("khat_threshold", 0.0)


PAIR = ("fit", "other", "median_distance", "largest_distance", "largest_of")


def _pairwise(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the distances of means of invariants, in sds, between all pairs of fits."""
    tables = [frame.set_index("quantity") for frame in frames]
    sds = pd.concat([table["sd"] for table in tables], axis=1)
    # Between point estimates the sds of other fits serve, and where there are none, a tenth of the size.
    scale = sds.where(sds > 0).median(axis=1)
    scale = scale.fillna(0.1 * pd.concat([table["mean"] for table in tables], axis=1).abs().mean(axis=1))
    rows = []
    for one, other in itertools.combinations(tables, 2):
        apart = ((one["mean"] - other["mean"]).abs() / scale.where(scale > 0)).dropna()
        if len(apart):
            rows.append((one["fit"].iloc[0], other["fit"].iloc[0], apart.median(), apart.max(), apart.idxmax()))
    return pd.DataFrame(rows, columns=list(PAIR))


def _nearest(pairwise: pd.DataFrame, name: str) -> Metrics:
    mine = pairwise[(pairwise["fit"] == name) | (pairwise["other"] == name)]
    if not len(mine):
        return {}
    result: Metrics = {}
    apart = mine["median_distance"].to_numpy()
    for word, at in (("nearest", apart.argmin()), ("farthest", apart.argmax())):
        row = mine.iloc[int(at)]
        result[word] = str(row["other"] if row["fit"] == name else row["fit"])
        result[f"{word}_distance"] = float(row["median_distance"])
    return result


def _held_out(fits: Sequence[Fit], names: Sequence[str], i: int) -> Metrics:
    """Return by how much a fit's log predictive density of a hidden entry falls short of the best."""
    known = {name: float(f.metrics["holdout_elpd"]) for name, f in zip(names, fits, strict=True)
             if "holdout_elpd" in f.metrics}  # fmt: skip
    if len(known) < 2 or names[i] not in known:
        return {}
    best = max(known, key=lambda name: known[name])
    return {"holdout_loss": known[best] - known[names[i]], "holdout_best": best}
