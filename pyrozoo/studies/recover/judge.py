"""What methods recover of a known truth, over many simulated data sets: bias, spread, pairs, and sentences of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from pyrozoo.diagnostics.card import listed

COLUMNS = ("setting", "simulation", "method", "kind", "status", "seconds", "quantity", "estimate", "truth", "error")
"""Of estimates: a row per setting, data set, method and quantity; a fit that was refused has one, with the reason."""

FIGURES = ("seconds", "estimate", "truth")

REFERENCES = ("exact", "nuts")
"""Methods to hold the others to, the first there is."""

FAR = 3.0
"""Standard errors beyond which a mean is said to miss the truth."""

ENOUGH = 10
"""Data sets from which on a standard error can be taken at its word."""

FINISHED = ("converged", "completed")


def fitted(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of fits that there are."""
    return estimates[estimates["status"] != "not_applicable"]


def refused(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the methods that do not apply, by setting, with the reason: setting, method, error."""
    rows = estimates[estimates["status"] == "not_applicable"]
    return rows[["setting", "method", "error"]].drop_duplicates(["setting", "method"]).reset_index(drop=True)


def reference(methods: Iterable[str]) -> str | None:
    """Return the method that the others are held to, or None."""
    there = set(methods)
    return next((method for method in REFERENCES if method in there), None)


def summarise(estimates: pd.DataFrame) -> pd.DataFrame:
    """Summarise estimates over data sets.

    Args:
        estimates: Rows of ``COLUMNS``.

    Returns:
        A row per setting, method and quantity, in order of appearance: ``data_sets``, ``mean`` of the estimates, ``se``
        of the bias (and of the mean, where all data sets have one truth), ``sd`` of the estimates over data sets,
        ``truth`` (its mean), ``bias`` (mean of estimate - truth), ``z`` = bias / se, mean ``seconds``, ``unfinished``
        (fits that stopped at their limit of iterations or fell), and where the setting has a ``reference``
        (``REFERENCES``) the mean ``difference`` from it on the same data sets with its standard error
        ``difference_se``. What one data set cannot tell is NaN.
    """
    frame = fitted(estimates)
    rows = []
    for (setting, method, quantity), part in frame.groupby(["setting", "method", "quantity"], sort=False):
        there = frame[frame["setting"] == setting]
        base = reference(there["method"])
        bias, se = _mean(part["estimate"] - part["truth"])
        apart = np.nan, np.nan
        if base is not None and method != base:
            other = there[(there["method"] == base) & (there["quantity"] == quantity)]
            pairs = part.merge(other, on="simulation", suffixes=("", "_of_reference"))
            apart = _mean(pairs["estimate"] - pairs["estimate_of_reference"])
        mean, sd = part["estimate"].mean(), part["estimate"].std()
        unfinished = int((~part["status"].isin(FINISHED)).sum())
        rows.append((
            setting, method, quantity, len(part), mean, se, sd, part["truth"].mean(), bias,
            bias / se if se > 0 else np.nan, part["seconds"].mean(), unfinished, base or "", *apart,
        ))  # fmt: skip
    return pd.DataFrame(rows, columns=SUMMARY)


SUMMARY = ["setting", "method", "quantity", "data_sets", "mean", "se", "sd", "truth", "bias", "z", "seconds",
           "unfinished", "reference", "difference", "difference_se"]  # fmt: skip


def _mean(values: pd.Series) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std() / np.sqrt(len(values))) if len(values) > 1 else np.nan


def shares(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return what share of the truth every method recovers in every setting: setting, method, share, se, data_sets.

    The share of one data set is the least-squares slope of its estimates on the truth, over all quantities that are not
    zero in truth; of a single quantity, estimate / truth.
    """
    rows = []
    for (setting, method), part in fitted(estimates).groupby(["setting", "method"], sort=False):
        products = part.assign(cross=part["estimate"] * part["truth"], square=part["truth"] ** 2)
        sums = products.groupby("simulation", sort=False)[["cross", "square"]].sum()
        rows.append((setting, method, *_mean(sums["cross"] / sums["square"].where(sums["square"] > 0)), len(sums)))
    return pd.DataFrame(rows, columns=["setting", "method", "share", "se", "data_sets"])


def sentences(estimates: pd.DataFrame) -> dict[str, list[str]]:
    """Say in plain words what the estimates show.

    Args:
        estimates: Rows of ``COLUMNS``.

    Returns:
        Title -> sentences: a sentence per setting about bias, one about differences from the reference, and one per
        method about how it does from setting to setting.
    """
    summary = summarise(estimates)
    settings = list(summary.groupby("setting", sort=False))
    against = [_sides(str(setting), part) for setting, part in settings]
    if len(summary) and (least := int(summary["data_sets"].min())) < ENOUGH:
        few = "1 data set" if least == 1 else f"{least} data sets"
        guess = "a standard error is little more than a guess"
        against.insert(0, f"From {few}, {guess}: {ENOUGH} or more would do.")
    bases = dict.fromkeys(base for base in summary["reference"] if base)
    methods = shares(estimates).groupby("method", sort=False)
    result = {
        "Against the truth": against,
        f"Against {' or '.join(bases)} on the same data sets": [_pairs(str(name), part) for name, part in settings],
        "From setting to setting": [_across(str(method), part) for method, part in methods],
    }
    told = {title: [line for line in lines if line] for title, lines in result.items()}
    return {title: lines for title, lines in told.items() if lines}


def recovered(estimates: pd.DataFrame) -> str:
    """Say which methods recover the truth in every setting, and which never do."""
    summary = summarise(estimates).dropna(subset=["z"])
    if not len(summary):
        return "One data set says nothing about bias: simulate more."
    share = (summary["z"].abs() <= FAR).groupby(summary["method"], sort=False).mean()
    right, wrong = [str(n) for n in share.index[share == 1]], [str(n) for n in share.index[share < 1]]
    good = f"{listed(right, 5)} {'recovers' if len(right) == 1 else 'recover'} the truth within noise."
    bad = f"{listed(wrong, 5)} {'does' if len(wrong) == 1 else 'do'} not, for some quantities."
    return " ".join([good, bad]) if right and wrong else good if right else "No method recovers all of the truth."


def _sides(setting: str, part: pd.DataFrame) -> str:
    """Say of one setting which methods are below the truth, above it, and within its noise."""
    if part["z"].isna().all():
        return f"{setting}: one data set says nothing about bias."
    sides: dict[str, list[str]] = {"below": [], "above": [], "within": []}
    for method, each in part.groupby("method", sort=False):
        z = each.set_index("quantity")["z"]
        for side, out in (("below", z < -FAR), ("above", z > FAR)):
            if out.any():
                which = "" if out.all() else f" ({', '.join(z.index[out])})"
                sides[side].append(f"{method}{which}")
        if (z.abs() <= FAR).all():
            sides["within"].append(str(method))
    below, above, within = (", ".join(names) or "none" for names in sides.values())
    far = f"more than {FAR:g} standard errors below the truth: {below}"
    return f"{setting}: {far}; above it: {above}; within: {within}."


def _pairs(setting: str, part: pd.DataFrame) -> str:
    """Say of one setting how far each method is from the reference, in the quantity where it is farthest."""
    known = part.dropna(subset=["difference", "difference_se"])
    several = part["quantity"].nunique() > 1
    told = []
    for method, each in known.groupby("method", sort=False):
        far = int(each["difference"].abs().to_numpy().argmax())
        value = plus_minus(each["difference"].iloc[far], each["difference_se"].iloc[far], signed=True)
        told.append(f"{method} {value}" + (f" ({each['quantity'].iloc[far]})" if several else ""))
    return f"{setting}: {'largest differences ' if several else ''}{', '.join(told)}." if told else ""


def _across(method: str, part: pd.DataFrame) -> str:
    """Say of one method how the share of the truth that it recovers changes between settings."""
    part = part.dropna(subset=["share", "se"])
    if len(part) < 2:
        return ""
    ends = [part.iloc[int(at)] for at in (part["share"].argmax(), part["share"].argmin())]
    (high, most), (low, least) = ((f"{100 * each['share']:.0f}%", each["setting"]) for each in ends)
    if ends[0]["share"] - ends[1]["share"] <= FAR * float(np.hypot(ends[0]["se"], ends[1]["se"])):
        return f"{method} recovers {low} to {high} of the truth: the settings do not differ by more than their noise."
    return f"{method} recovers most of the truth, {high}, in '{most}', and least, {low}, in '{least}'."


def plus_minus(value: float, error: float, signed: bool = False) -> str:
    """Write a mean with its standard error, to two decimals or as many as the error asks for."""
    decimals = 2 if not error > 0 else int(np.clip(-np.floor(np.log10(error)), 2, 6))
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text if np.isnan(error) else f"{text} ± {error:.{decimals}f}"
