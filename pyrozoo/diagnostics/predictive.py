"""Posterior predictive checks: are the data like data that the fit simulates?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import seeded

SIMULATIONS = 100
"""Simulated data sets, if the size of the data allows."""

MOST_SIMULATED = 20_000_000
"""Cells of all of them together: a few seconds of simulation."""

FEWEST = 20
"""Simulated data sets below which nothing is said."""


def simulations(fit: Fit, draws: Draws, count: int) -> Iterator[Any]:
    """Simulate data sets at evenly chosen draws, of the posterior or of the prior, from torch's global generator.

    A point is used again and again. What comes is what ``Posterior.checks`` and ``Posterior.statistics`` take.
    """
    for at in chosen(draws, count):
        yield fit.posterior.replica(at)


def chosen(draws: Draws, count: int) -> Iterator[dict[str, Tensor]]:
    """Choose draws evenly, a point again and again: site -> [*event]."""
    total, flat = draws.shape[0] * draws.shape[1], draws.flat()
    for i in evenly(total, count, again=True).tolist():
        yield {site: value[i] for site, value in flat.items()}


def affordable(fit: Fit) -> int:
    """Return how many data sets may be simulated."""
    return min(SIMULATIONS, max(1, MOST_SIMULATED // max(1, fit.data.values.numel(), int(np.prod(fit.data.shape)))))


def checks(fit: Fit) -> dict[str, float | str]:
    """Compare the model's statistics (``Posterior.checks``) of the data with those of data simulated from the fit.

    A statistic is summed up by its distance from the simulations, the root mean square of its values' deviations in
    sds of the simulations, and has the share of simulations that are as far off. Such probabilities are conservative
    where parameters are fitted to the data (Gelman, Meng and Stern 1996, Statistica Sinica 6).

    Returns:
        ``check_<name>_p`` and ``check_<name>_distance``, in sds (root mean square); 1 is what the model expects;
        ``check_<name>_bias`` is the mean deviation in sds, with its sign. Of counts ``overdispersion``, too.
        Nothing for data so large that few sets can be simulated. Values that the data lack are left out.
    """
    count = affordable(fit)
    if count < FEWEST:
        return {}
    posterior = fit.posterior
    with seeded(fit.seed):
        replicas = zip(chosen(fit.draws, count), simulations(fit, fit.draws, count), strict=True)
        both = [(posterior.checks(replica), posterior.dispersion(replica, at)) for at, replica in replicas]
    sets, spreads = [one for one, _ in both], [float(spread) for _, spread in both if spread is not None]
    result: dict[str, float | str] = {}
    for name, observed in fit.posterior.checks(fit.posterior.own).items():
        simulated = torch.stack([one[name].double().flatten() for one in sets])
        known = observed.flatten().isfinite() & simulated.isfinite().all(0)
        if not known.any():
            continue
        seen, sets_known = observed.double().flatten()[known], simulated[:, known]
        p, distance = tail(seen, sets_known)
        result |= {f"check_{name}_p": p, f"check_{name}_distance": distance}
        centre = sets_known.mean(0)
        result[f"check_{name}_bias"] = float(((seen - centre) / _no_rounding(sets_known.std(0), centre)).mean())
    return result | (overdispersion(fit, spreads) if spreads else {})


def overdispersion(fit: Fit, simulated: Sequence[float]) -> dict[str, float | str]:
    """Compare how counts vary about what the fit expects of them with how simulated ones do (``Posterior.dispersion``).

    Unlike the other statistics it is taken at each draw's own parameters, and only more than is simulated counts: a
    point that was fitted to the data has less about it (Gelman, Meng and Stern 1996, Statistica Sinica 6).

    Returns:
        ``overdispersion_p``, the share of simulations in which counts vary as much; ``overdispersion_ratio``, how many
        times as much as in them; ``overdispersion_of``, what they are taken for; ``overdispersion_setting``, what to
        type.
    """
    posterior = fit.posterior
    own = [posterior.dispersion(posterior.own, at) for at in chosen(fit.draws, len(simulated))]
    seen, theirs = np.mean([float(each) for each in own if each is not None]), np.asarray(simulated)
    if not np.isfinite([seen, *theirs]).all() or theirs.mean() == 0:
        return {}
    kind, cure = posterior.to_disperse
    return {
        "overdispersion_p": float((1 + (theirs >= seen).sum()) / (len(theirs) + 1)),
        "overdispersion_ratio": float(seen / theirs.mean()),
        "overdispersion_of": kind,
        "overdispersion_setting": cure,
    }


MISSED = 0.05
"""Tail probability of a predictive check at which the model itself misses a statistic, whatever its prior."""


def prior_conflict(fit: Fit, checked: Mapping[str, Any]) -> dict[str, float | str]:
    """Compare the same statistics with those of data drawn from the prior.

    A prior on another scale than the data's never draws data like them (Box 1980, JRSS A 143; Evans and Moshonov 2006,
    Bayesian Analysis 1).

    Args:
        fit: The fit.
        checked: What ``checks`` says: what the fitted model misses is no fault of its prior, and left out, unless a
            setting that was stated is on another scale than the data.

    Returns:
        Of the statistic that is farthest off, ``prior_conflict_of``: its tail probability, ``prior_conflict_p``, its
        distance in units of the farthest simulation's, ``prior_conflict_excess``, and ``prior_conflict_setting``, what
        to type. Nothing where the prior cannot be drawn from, or the data are so large that few sets can be simulated.
    """
    count = affordable(fit)
    if count < FEWEST:
        return {}
    posterior, few = fit.posterior, fit.posterior.on(fit.posterior.few)
    with seeded(fit.seed):
        try:
            drawn = few.prior_draws(count)
            sets = [posterior.checks(posterior.replica({s: one[s] for s in posterior.sites})) for one in drawn]
        except (NotApplicable, NotImplementedError, ValueError):
            return {}
    found, cure = {}, fit.model.to_rescale(fit.data)
    for name, observed in posterior.checks(posterior.own).items():
        simulated = torch.stack([one[name].double().flatten() for one in sets])
        known = observed.flatten().isfinite() & simulated.isfinite().all(0)
        if known.any() and (cure.startswith("set ") or checked.get(f"check_{name}_p", 1.0) > MISSED):
            found[name] = _conflict(observed.double().flatten()[known], simulated[:, known])
    if not found:
        return {}
    worst = max(found, key=lambda name: found[name][1])
    p, excess = found[worst]
    return {
        "prior_conflict_p": p, "prior_conflict_excess": excess, "prior_conflict_of": worst,
        "prior_conflict_setting": cure,
    }  # fmt: skip


def _conflict(observed: Tensor, simulated: Tensor) -> tuple[float, float]:
    """Return the tail probability of a statistic, and how far off it is in units of the farthest simulation.

    Positive statistics are compared on the scale of their logarithms: a prior whose data are a hundred times too large
    is as wrong as one whose data are too small.
    """
    if bool((observed > 0).all() and (simulated > 0).all()):
        observed, simulated = observed.log(), simulated.log()
    centre, spread = simulated.mean(0), _no_rounding(simulated.std(0), simulated.mean(0))
    theirs = ((simulated - centre) / spread).square().mean(1).sqrt()
    p, distance = tail(observed, simulated)
    return p, distance / max(float(theirs.max()), 1e-9)


def tail(observed: Tensor, simulated: Tensor) -> tuple[float, float]:
    """Return the share of simulations, [simulation, value], that are as far off as the data, and how far, in sds."""
    count = len(simulated)
    centre, spread = simulated.mean(0), _no_rounding(simulated.std(0), simulated.mean(0))
    far = ((observed - centre) / spread).square().mean()
    # Centre and spread for each simulation are those of the others, as they are for the data.
    others = (simulated.sum(0) - simulated) / (count - 1)
    square = (simulated.square().sum(0) - simulated.square()) / (count - 1)
    variance = (square - others.square()).clamp(min=0) * (count - 1) / (count - 2)
    theirs = ((simulated - others) / _no_rounding(variance.sqrt(), others)).square().mean(1)
    return (1 + int((theirs >= far).sum())) / (count + 1), float(far.sqrt())


def _no_rounding(spread: Tensor, centre: Tensor) -> Tensor:
    """Return sds that are more than rounding: what never varies in the simulations must not vary in the data."""
    return torch.maximum(spread, 1e-9 * centre.abs().clamp(min=1.0))
