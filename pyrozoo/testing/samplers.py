"""Is a sampler right? Simulation-based calibration and Geweke's joint-distribution test, for any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from scipy import stats
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Solver
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.seeds import seeded
from pyrozoo.math.mixing import ess
from pyrozoo.studies.calibrate.judge import places, scalars, scaled_ranks

Lose = Callable[[Any], Any]
"""Data -> the same data with some entries missing, always the same ones."""


def _quantities(posterior: Posterior, draws: Values) -> dict[str, Tensor]:
    """Return scalars [chain, draw]: every parameter, and the log-likelihood.

    Without the last, a sampler that ignores the data passes (Modrák et al. 2023, Bayesian Analysis 20).
    """
    sites = {site: draws[site] for site in posterior.sites}
    return {"log_likelihood": posterior.log_likelihood(draws), **scalars(sites, places(sites))}


def _simulated(
    posterior: Posterior, lose: Lose | None, given: Values | None = None
) -> tuple[dict[str, Tensor], Posterior]:
    sites = posterior.simulate(given)
    data = posterior.filled(sites)
    return sites, posterior.on(lose(data) if lose else data)


def calibration_ranks(
    model: Model, blank: Any, infer: Callable[[Any, int], Values], *, simulations: int, seed: int,
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
    rows, whole = [], Posterior.of(model, blank)
    for number in range(simulations):
        with seeded(seed + number), pyro.validation_enabled(False):
            sites, posterior = _simulated(whole, lose)
            truth = {site: sites[site][None, None] for site in posterior.sites}
            draws = infer(posterior.data, seed + number)
            row = scaled_ranks(_quantities(posterior, draws), _quantities(posterior, truth))
        rows.append(row)
    return pd.DataFrame(rows)


def uniformity(ranks: pd.DataFrame, bins: int = 10) -> pd.Series:
    """Return the p-value of a chi-square test of uniformity for every column of scaled ranks."""
    counts = {name: np.histogram(ranks[name].to_numpy(), bins, (0, 1))[0] for name in ranks.columns}
    return pd.Series({name: float(stats.chisquare(each).pvalue) for name, each in counts.items()})


def geweke(
    model: Model, blank: Any, make_solver: Callable[[Posterior], Solver], *, sweeps: int, seed: int,
    lose: Lose | None = None, warmup: int = 0,
) -> pd.Series:  # fmt: skip
    """Compare the prior with a chain that alternates the sampler and fresh data (Geweke 2004, JASA 99).

    Both draw from the joint distribution of parameters and data, when the sampler is right.

    Args:
        model: The model.
        blank: A container of the shape to simulate.
        make_solver: Makes the sampler of a posterior; the fields of its state are sites of the program, and what it
            tunes in its warm-up.
        sweeps: Of the chain; half as many draws from the prior.
        seed: Of all of it.
        lose: Hides entries of simulated data, the same ones every time; None: nothing is missing.
        warmup: Sweeps, given the first data, in which the sampler is tuned: what it tunes is the same from then on.

    Returns:
        z-score of the difference in mean, for every parameter, its square, and the log-likelihood.
    """
    prior, chain, whole = [], [], Posterior.of(model, blank)
    with seeded(seed), pyro.validation_enabled(False):
        for _ in range(max(1, sweeps // 2)):  # independent, so fewer serve
            sites, posterior = _simulated(whole, lose)
            prior.append(_moments(posterior, {s: sites[s][None, None] for s in posterior.sites}))
        solver = make_solver(posterior)
        names = [f.name for f in fields(solver.state_class)]
        own = {name: sites[name][None] for name in names if name in sites}
        state = replace(solver.settled(solver.after(warmup)), **own) if warmup else solver.state_class(**own)
        for _ in range(sweeps):
            state, _ = make_solver(posterior).step(state)
            draws = {site: value.unsqueeze(1) for site, value in solver.answer(state).draws().items()}
            # Every site in the state is held, local ones too: fresh data are drawn given all of them.
            held = {name: getattr(state, name)[0] for name in own}
            _, posterior = _simulated(whole, lose, held)
            chain.append(_moments(posterior, draws))
    a, b = pd.DataFrame(prior), pd.DataFrame(chain)
    effective = pd.Series({name: float(ess(torch.tensor(b[name].to_numpy()[None]), "mean")) for name in b})
    return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / effective)


def _moments(posterior: Posterior, draws: Values) -> dict[str, float]:
    values = {name: float(value) for name, value in _quantities(posterior, Draws(draws)).items()}
    return values | {f"{name}^2": value**2 for name, value in values.items()}
