"""Is a method calibrated? Ranks of the truth among draws, and what they say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from pyrozoo.core.draws import Values, evenly
from pyrozoo.diagnostics.card import Level, Line
from pyrozoo.math.mixing import ess

WARN, FAIL = 0.05, 0.001
"""p-values, corrected for the number of quantities, below which ranks are taken for uneven."""

FEWEST = 20
"""Data sets below which nothing is judged."""

MANY = 100
"""Data sets from which on a verdict is worth having."""

SHORT = 0.1
"""Share of fits with too few effective draws from which on a run is called too short."""

INVARIANT, PARAMETER = "invariant", "parameter"
"""Groups of quantities: functions that no relabelling or rotation changes, and raw elements of sites."""

RAW = "raw parameters"
"""What the latter are called in a verdict."""

FITS = ("simulation", "kind", "status", "seconds", "draws", "effective_draws", "error")
"""What is kept of every fit of a calibration beside its ranks."""

WORDS: Mapping[str, str] = {
    "calibrated": "the truth ranks everywhere equally often among the draws",
    "too narrow": "the truth is too often below or above nearly all draws: intervals are too short",
    "too wide": "the truth is too seldom below or above most draws: intervals are too long",
    "biased low": "the draws lie below the truth too often",
    "biased high": "the draws lie above the truth too often",
    "uneven": "ranks are not uniform, in another way",
    "too few": "too few data sets to say anything",
}
"""What the words of a summary mean."""

ROUNDING = 64
"""Rounding errors, relative, by which equal values may differ."""

Places = Mapping[str, tuple[str, tuple[Any, ...]]]
"""Name of a scalar, such as ``rate[0, 1]`` -> name of the tensor and index in it."""


def places(draws: Values, most: int | None = None) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the elements of draws, name -> where it is; of many, about ``most``, evenly chosen within every tensor."""
    total = sum(value[0, 0].numel() for value in draws.values())
    result = {}
    for name, value in draws.items():
        shape, size = tuple(value.shape[2:]), value[0, 0].numel()
        few = size if most is None or total <= most else max(1, min(size, most * size // total))
        for flat in evenly(size, few).tolist() if size else ():
            index = tuple(map(int, np.unravel_index(flat, shape))) if shape else ()
            result[f"{name}[{', '.join(map(str, index))}]" if index else name] = name, index
    return result


def scalars(draws: Values, where: Places) -> dict[str, Tensor]:
    """Return elements of draws, name -> [chain, draw]; those that are not there, since data differ, are left out."""
    return {
        name: draws[source][(..., *index)]
        for name, (source, index) in where.items()
        if source in draws and all(i < size for i, size in zip(index, draws[source].shape[2:], strict=True))
    }


def scaled_rank(values: Tensor, truth: Tensor) -> float:
    """Return the rank of the truth among draws scaled to [0, 1), from torch's global generator.

    Of L draws the rank is one of 0..L, ties broken at random; uniform noise within the rank makes it a number whose
    distribution is exactly uniform when truth and draws come from one distribution, for any L, so that any number of
    bins is fair. Values that differ by rounding alone are ties. NaN where a value is.

    Args:
        values: Draws, any shape.
        truth: One number.
    """
    flat, true = values.flatten(), truth.item()
    if bool(flat.isnan().any()) or true != true:
        return float("nan")
    same = flat == true
    if flat.is_floating_point():
        same |= (flat - true).abs() <= ROUNDING * torch.finfo(flat.dtype).eps * abs(true)
    below, equal = int(((flat < true) & ~same).sum()), int(same.sum())
    rank = below + int(torch.randint(equal + 1, ()))
    return (rank + float(torch.rand(()))) / (len(flat) + 1)


def scaled_ranks(draws: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, float]:
    """Return ``scaled_rank`` of every quantity that both have."""
    return {name: scaled_rank(values, truth[name]) for name, values in draws.items() if name in truth}


def effective_draws(values: Mapping[str, Tensor]) -> float:
    """Return the least bulk ESS of quantities [chain, draw]; NaN of fewer than 4 draws a chain."""
    known = (each for each in (float(ess(value)) for value in values.values()) if each == each)
    return min(known, default=float("nan"))


def bins_for(simulations: int) -> int:
    """Return how many bins of a histogram so many ranks fill: 4 to 20, with about 20 in each."""
    return max(4, min(20, simulations // 20))


def summarise(ranks: pd.DataFrame, invariants: Collection[str]) -> pd.DataFrame:
    """Judge the scaled ranks of every quantity.

    Three tests look at a quantity: chi-square over equal bins, the mean (1/2 when uniform, its variance 1/12 N) and the
    spread (12 times the variance is 1, with variance 0.8 / N). The smallest p-value times three is the quantity's;
    Holm's correction over the quantities of its group makes ``p``, which holds however they depend on each other.

    Args:
        ranks: A row per data set, a column per quantity.
        invariants: Names of the tensors that are the model's invariants; other quantities are raw parameters.

    Returns:
        A row per quantity: quantity, group, verdict (a word of ``WORDS``), p (corrected), p_uniform (chi-square),
        mean_rank and mean_z, spread (sd of the ranks over that of a uniform: above 1 draws are too narrow) and
        spread_z, data_sets.
    """
    groups = {name: INVARIANT if name.split("[")[0] in invariants else PARAMETER for name in ranks.columns}
    rows = [
        {"quantity": name, "group": group, **_tests(ranks[name].dropna().to_numpy())} for name, group in groups.items()
    ]
    frame = pd.DataFrame(rows, columns=["quantity", "group", *FIGURES, "data_sets"])
    for _, members in frame.groupby("group"):
        frame.loc[members.index, "p"] = _holm(members["p"].to_numpy(dtype=float))
    frame.insert(2, "verdict", [_word(row) for row in frame.itertuples()])
    return frame


FIGURES = ("p", "p_uniform", "mean_rank", "mean_z", "spread", "spread_z")


def _tests(values: np.ndarray) -> dict[str, float]:
    count, result = len(values), dict.fromkeys(FIGURES, np.nan)
    if count > 1:
        variance, bins = 12 * values.var(ddof=1), bins_for(count)
        result |= {
            "p_uniform": float(stats.chisquare(np.histogram(values, bins, (0, 1))[0]).pvalue),
            "mean_rank": values.mean(),
            "mean_z": (values.mean() - 0.5) * np.sqrt(12 * count),
            "spread": np.sqrt(variance),
            "spread_z": (variance - 1) / np.sqrt(0.8 / count),
        }
    if count >= FEWEST:
        z = max(abs(result["mean_z"]), abs(result["spread_z"]))
        result["p"] = min(1.0, 3 * min(result["p_uniform"], 2 * float(stats.norm.sf(z))))
    return result | {"data_sets": count}


def _holm(p: np.ndarray) -> np.ndarray:
    """Return p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6); NaN stays."""
    result, known = p.copy(), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    result[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return result


def _word(row: Any) -> str:
    if np.isnan(row.p):
        return "too few"
    if row.p >= WARN:
        return "calibrated"
    if max(abs(row.mean_z), abs(row.spread_z)) < 2:
        return "uneven"
    if abs(row.mean_z) >= abs(row.spread_z):
        return "biased low" if row.mean_z > 0 else "biased high"
    return "too narrow" if row.spread_z > 0 else "too wide"


def histogram_band(count: int, bins: int, level: float = 0.99) -> tuple[float, float]:
    """Return between which numbers the count of one bin of so many uniform ranks lies with the given probability."""
    low, high = stats.binom.interval(level, count, 1 / bins)
    return float(low), float(high)


def ecdf_difference(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the share of scaled ranks at or below points, less what it is of a uniform."""
    return np.searchsorted(np.sort(values), points, side="right") / len(values) - points


def ecdf_band(count: int, points: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the band that holds the whole ECDF of so many uniform ranks with the given probability, less the uniform.

    Simultaneous over the points: Säilynoja, Bürkner and Vehtari 2022, Statistics and Computing 32.
    """
    from arviz.stats.ecdf_utils import ecdf_confidence_band  # its plots load with it

    low, high = ecdf_confidence_band(count, points, points, prob=level, method="optimized")
    return low - points, high - points


def sentences(summary: pd.DataFrame, fits: pd.DataFrame) -> list[Line]:
    """Return the verdict of a calibration, line by line.

    Invariants decide. Raw parameters are told beside them: of a sampler they can only warn, since a chain that stays in
    one labelling misranks them without being wrong about anything that labels cannot change. Where runs were too short
    for independent draws, ranks pile up at both ends whatever the sampler is worth, so "too narrow" only warns.

    Args:
        summary: As ``summarise`` returns it.
        fits: Rows of ``FITS``.
    """
    good = fits[fits["error"] == ""]
    lines = [_data_sets(len(good))]
    short = _short(good)
    if len(good) >= FEWEST and len(summary):
        names, sampled = summary["quantity"] == "log_likelihood", set(good["kind"]) == {"samples"}
        lines += [_log_likelihood(row, short) for row in summary[names].itertuples()]
        for group, about, part in ((INVARIANT, "invariants", summary[~names]), (PARAMETER, RAW, summary)):
            rows = part[part["group"] == group]
            lines += [_group(about, rows, short, sampled)] if len(rows) else []
    return [*lines, *_effective(good), *_unfinished(good), *_failed(fits)]


def _data_sets(count: int) -> Line:
    if count < FEWEST:
        said = f"{count} data sets are too few to judge anything; {FEWEST} show gross faults, 200 more."
        return Line("warn", "data sets", said)
    # Three standard errors of the spread, whose square has variance 0.8 / N
    said = f"{count} data sets show a spread that is off by {1.5 * np.sqrt(0.8 / count):.0%} or more"
    return Line("pass" if count >= MANY else "warn", "data sets", f"{said}; smaller faults need more of them.")


def _level(p: float, words: Collection[str], short: bool) -> Level:
    if not p < WARN:
        return "pass"
    return "fail" if p < FAIL and not (short and set(words) == {"too narrow"}) else "warn"


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value > 1e-16 else "p < 1e-16"


LIKELIHOOD = {
    "calibrated": "The truth's log-likelihood ranks evenly among those of the draws ({}): the data are used.",
    "biased low": "Most draws explain the data worse than the truth does ({}): they are scattered too far, as when "
    "data are not used in full.",
    "biased high": "Most draws explain the data better than the truth does ({}): they follow its noise.",
}
"""What a word says of the log-likelihood, with its p-value; of the others the word itself is told."""


def _log_likelihood(row: Any, short: bool) -> Line:
    other = f"The log-likelihood is {row.verdict} ({{}}): {WORDS[row.verdict]}."
    said = LIKELIHOOD.get(row.verdict, other).format(_p(row.p))
    return Line(_level(row.p, [row.verdict], short), "log-likelihood", said)


def _group(about: str, rows: pd.DataFrame, short: bool, sampled: bool) -> Line:
    wrong = rows[rows["p"] < WARN].sort_values("p", kind="stable")
    if not len(wrong):
        which = "It is" if len(rows) == 1 else f"All {len(rows)} are"
        return Line("pass", about, f"{which} calibrated (smallest corrected {_p(rows['p'].min())}).")
    parts = []
    for word, named in wrong.groupby("verdict", sort=False)["quantity"]:
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        parts.append(f"{word}: {', '.join(named.head(3))}{more}")
    said = f"{len(wrong)} of {len(rows)} are not calibrated; {'; '.join(parts)} (smallest {_p(wrong['p'].min())})."
    level = _level(float(wrong["p"].min()), wrong["verdict"].tolist(), short)
    if about == RAW and sampled:
        return Line("warn", about, f"{said} Chains that stay in one labelling do that; invariants decide.")
    return Line(level, about, said)


def _short(good: pd.DataFrame) -> bool:
    """Return whether so many runs were too short that they alone could make draws look too narrow."""
    known = good["effective_draws"].notna()
    return bool((good["effective_draws"] < good["draws"])[known].mean() > SHORT) if known.any() else False


def _effective(good: pd.DataFrame) -> list[Line]:
    known = good[good["effective_draws"].notna()]
    if not len(known):
        return []
    few = known[known["effective_draws"] < known["draws"]]
    ranked = f"the {int(known['draws'].max())} draws that are ranked"
    if not len(few):
        return [Line("pass", "effective draws", f"Every fit made at least as many as {ranked}.")]
    median = f"the median of these {few['effective_draws'].median():.0f}"
    said = f"{len(few)} of {len(known)} fits made fewer than {ranked} ({median}): ranks pile up at both ends for that "
    return [Line("warn", "effective draws", f"{said}alone. Run longer (inference.draws, inference.thin).")]


def _unfinished(good: pd.DataFrame) -> list[Line]:
    odd = good[~good["status"].isin(["converged", "completed"])]
    if not len(odd):
        return []
    fell = int((odd["status"] == "objective_decreased").sum())
    what = f"; in {fell} the objective fell, which it never may" if fell else ""
    said = f"{len(odd)} of {len(good)} fits ended before they had converged{what}."
    return [Line("fail" if fell else "warn", "convergence", said)]


def _failed(fits: pd.DataFrame) -> list[Line]:
    errors = fits.loc[fits["error"] != "", "error"]
    if not len(errors):
        return []
    said = f"{len(errors)} of {len(fits)} data sets could not be fitted and are left out, which may hide what is wrong"
    return [Line("fail" if len(errors) > 0.05 * len(fits) else "warn", "failures", f"{said}: {errors.iloc[0]}")]
