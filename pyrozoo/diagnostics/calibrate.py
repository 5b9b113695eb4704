"""Is a sampler right? Simulation-based calibration and Geweke's joint-distribution test, for any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pyro
import torch
from scipy import stats
from torch import Tensor

from pyrozoo.program import seeded, simulate
from pyrozoo.types import Draws, Model, Solver


def _quantities(model: Model, draws: Draws, data: Any) -> dict[str, Tensor]:
    """Return scalars [chain, draw]: every parameter, and the log-likelihood.

    Without the last, a sampler that ignores the data passes (Modrák et al. 2023, Bayesian Analysis 20).
    """
    result = {"log_likelihood": model.log_likelihood(draws, data)}
    for site in model.sites:
        for i, value in enumerate(draws[site].flatten(2).unbind(-1) if draws[site].ndim > 2 else [draws[site]]):
            result[f"{site}[{i}]"] = value
    return result


Lose = Callable[[Any], Any]
"""Data -> the same data with some entries missing, always the same ones."""


def _simulated(
    model: Model, blank: Any, lose: Lose | None, given: Draws | None = None
) -> tuple[dict[str, Tensor], Any]:
    sites = simulate(model, blank, given)
    data = replace(blank, values=sites[model.observed_site])
    return sites, lose(data) if lose else data


def calibration_ranks(
    model: Model, blank: Any, infer: Callable[[Any, int], Draws], *, simulations: int, seed: int,
    lose: Lose | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Rank true parameters among posterior draws over data sets simulated from the prior (Talts et al. 2018).

    Args:
        model: The model.
        blank: A container of the shape to simulate.
        infer: (data, seed) -> draws [chain, draw, *event], close to independent.
        simulations: Data sets.
        seed: Of all of it.
        lose: Hides entries of simulated data, the same ones every time; None: nothing is missing.

    Returns:
        One row per simulation, one column per quantity: the rank scaled to [0, 1), ties broken at random; uniform when
        calibrated.
    """
    rows = []
    for number in range(simulations):
        with seeded(seed + number), pyro.validation_enabled(False):
            sites, data = _simulated(model, blank, lose)
            truth = {site: sites[site][None, None] for site in model.sites}
            draws = infer(data, seed + number)
            ours, true = _quantities(model, draws, data), _quantities(model, truth, data)
            row = {}
            for name, value in ours.items():
                flat = value.flatten()
                below = int((flat < true[name].item()).sum())
                equal = int((flat == true[name].item()).sum())
                # Ranks 0..L spread over [0, 1): uniform noise within the rank makes any number of bins fair.
                rank = below + int(torch.randint(equal + 1, ()))
                row[name] = (rank + float(torch.rand(()))) / (len(flat) + 1)
        rows.append(row)
    return pd.DataFrame(rows)


def uniformity(ranks: pd.DataFrame, bins: int = 10) -> pd.Series:
    """Return the p-value of a chi-square test of uniformity for every column of scaled ranks."""
    return pd.Series(
        {name: stats.chisquare(np.histogram(ranks[name], bins, (0, 1))[0]).pvalue for name in ranks.columns}
    )


def geweke(
    model: Model, blank: Any, make_solver: Callable[[Model, Any], Solver], *, sweeps: int, seed: int,
    lose: Lose | None = None,
) -> pd.Series:  # fmt: skip
    """Compare the prior with a chain that alternates the sampler and fresh data (Geweke 2004, JASA 99).

    Both draw from the joint distribution of parameters and data, when the sampler is right.

    Args:
        model: The model.
        blank: A container of the shape to simulate.
        make_solver: (model, data) -> sampler; the fields of its state are sites of the program.
        sweeps: Of the chain; half as many draws from the prior.
        seed: Of all of it.
        lose: Hides entries of simulated data, the same ones every time; None: nothing is missing.

    Returns:
        z-score of the difference in mean, for every parameter, its square, and the log-likelihood.
    """
    prior, chain = [], []
    with seeded(seed), pyro.validation_enabled(False):
        for _ in range(max(1, sweeps // 2)):  # independent, so fewer serve
            sites, data = _simulated(model, blank, lose)
            prior.append(_moments(model, {s: sites[s][None, None] for s in model.sites}, data))
        solver = make_solver(model, data)
        state = solver.state_class(**{f.name: sites[f.name][None] for f in fields(solver.state_class)})
        for _ in range(sweeps):
            state, _ = make_solver(model, data).step(state)
            draws = {site: value.unsqueeze(1) for site, value in solver.draws(state).items()}
            # Every site in the state is held, local ones too: fresh data are drawn given all of them.
            held = {f.name: getattr(state, f.name)[0] for f in fields(state)}
            _, data = _simulated(model, blank, lose, held)
            chain.append(_moments(model, draws, data))
    a, b = pd.DataFrame(prior), pd.DataFrame(chain)
    effective = pd.Series({name: float(az.ess(b[name].to_numpy()[None], method="mean")) for name in b})
    return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / effective)


def _moments(model: Model, draws: Draws, data: Any) -> dict[str, float]:
    values = {name: float(value) for name, value in _quantities(model, draws, data).items()}
    return values | {f"{name}^2": value**2 for name, value in values.items()}
