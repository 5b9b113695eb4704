"""Posterior predictive checks: are the data like data that the fit simulates?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Arrays, Part, Posterior
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.seeds import seeded

SIMULATIONS = 100
"""Simulated data sets, if the size of the data allows."""

MOST_SIMULATED = 10_000_000
"""Numbers of all of them together: a second or two of simulation."""

MOST_DRAWN = 5_000_000
"""Numbers of the draws from the prior behind them, unless that left too few sets."""

MOST_VALUES = 5000
"""Values of one statistic that are compared, such as columns' means; of more, so many are chosen evenly."""

FEW = 3
"""Draws at which it is looked how large data sets become."""

FEWEST = 20
"""Simulated data sets below which nothing is said."""


@dataclass(frozen=True)
class Sets:
    """Data sets simulated from a fit, or from its prior, of the units that stand for all.

    Attributes:
        part: These units.
        checks: What ``Posterior.checks`` says of each set; empty where sets are too few to say anything.
        spreads: Of counts ``Posterior.dispersion`` of each.
        statistics: What ``Posterior.statistics`` says of all, name -> (dimensions, [set, *statistic]).
    """

    part: Part
    checks: list[Values]
    spreads: list[float]
    statistics: Arrays

    @property
    def count(self) -> int:
        """How many there are."""
        return next((len(array) for _, array in self.statistics.values()), len(self.checks))


def of_fit(fit: Fit) -> Sets:
    """Return data sets simulated at draws of a fit, evenly chosen, a point again and again: once for who asks."""
    return fit.once(("sets of the fit", SIMULATIONS), lambda: _of_fit(fit))


def of_prior(fit: Fit) -> Sets:
    """Return data sets simulated from the prior of a fit, once for who asks.

    Raises:
        NotApplicable: The prior cannot be drawn from.
    """
    return fit.once(("sets of the prior", SIMULATIONS), lambda: _of_prior(fit))


def simulated_part(fit: Fit) -> tuple[Part, int]:
    """Return of which units data sets are simulated from a fit, and how many (see ``affordable``)."""

    def chosen() -> tuple[Part, int]:
        expected = [fit.posterior.simulated_numbers(values) for values in fit.draws.some(FEW).each()]
        return affordable(fit.posterior, max(fit.data.values.numel(), *expected))

    return fit.once("units of the sets of the fit", chosen)


def _of_fit(fit: Fit) -> Sets:
    part, count = simulated_part(fit)
    with seeded(fit.seed):
        return _simulate(part, chosen(part.draws(fit.draws), count), count)


def _of_prior(fit: Fit) -> Sets:
    part, count = affordable(fit.posterior, max(fit.data.values.numel(), fit.posterior.most_numbers))
    few = part.posterior.on(part.posterior.few)
    if part.units is not None:
        scalars = part.draws(fit.draws.some(1)).scalars
        count = min(count, max(FEWEST, MOST_DRAWN // max(1, scalars)))
    with seeded(fit.seed):
        drawn = few.prior_draws(count)
        return _simulate(part, ({site: one[site] for site in few.sites} for one in drawn), count, dispersed=False)


def _simulate(part: Part, at: Iterable[dict[str, Tensor]], count: int, *, dispersed: bool = True) -> Sets:
    """Simulate data at values of the sites, from torch's global generator, and look at each."""
    posterior, looks = part.posterior, count >= FEWEST
    found, spreads, arrays = [], [], []
    for values in at:
        replica = posterior.replica(values)
        if looks:
            found.append(posterior.checks(replica))
            spread = posterior.dispersion(replica, values) if dispersed else None
            spreads += [] if spread is None else [float(spread)]
        arrays.append(posterior.statistics(replica))
    first = arrays[0] if arrays else {}
    whole = {name: (dims, np.stack([each[name][1] for each in arrays])) for name, (dims, _) in first.items()}
    return Sets(part, found, spreads, whole)


def chosen(draws: Draws, count: int) -> Iterator[dict[str, Tensor]]:
    """Choose draws evenly, a point again and again: site -> [*event]."""
    total, flat = draws.shape[0] * draws.shape[1], draws.flat()
    for i in evenly(total, count, again=True).tolist():
        yield {site: value[i] for site, value in flat.items()}


def affordable(posterior: Posterior, numbers: float) -> tuple[Part, int]:
    """Return of which units data sets are simulated, and how many.

    Args:
        posterior: The posterior.
        numbers: How many a set of all units is expected to have.

    Returns:
        All units, if enough sets of them can be simulated; else so many, evenly chosen, that ``SIMULATIONS`` sets can.
    """
    data, units = posterior.data, posterior.units
    size = max(1, data.values.numel(), int(np.prod(data.shape)), int(numbers))
    count = min(SIMULATIONS, max(1, MOST_SIMULATED // size))
    whole = Part(posterior, None, units)
    if count >= min(SIMULATIONS, FEWEST):
        return whole, count
    part = posterior.some_units(max(1, int(MOST_SIMULATED / SIMULATIONS * units / max(numbers, 1))))
    if not part.alone or (part.units is None and numbers * FEWEST > MOST_SIMULATED):
        return whole, count
    used = numbers / part.scale
    return part, max(1, min(SIMULATIONS, int(MOST_SIMULATED / max(used, 1))))


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
    simulated = of_fit(fit) if SIMULATIONS >= FEWEST else None
    if simulated is None or not simulated.checks:
        return {}
    posterior, sets, spreads = simulated.part.posterior, simulated.checks, simulated.spreads
    result: dict[str, float | str] = {}
    for name, observed in posterior.checks(posterior.own).items():
        seen, sets_known = _known(observed, [one[name] for one in sets])
        if not len(seen):
            continue
        p, distance = tail(seen, sets_known)
        result |= {f"check_{name}_p": p, f"check_{name}_distance": distance}
        centre = sets_known.mean(0)
        result[f"check_{name}_bias"] = float(((seen - centre) / _no_rounding(sets_known.std(0), centre)).mean())
    return result | (overdispersion(fit, simulated.part, spreads) if spreads else {})


def _known(observed: Tensor, sets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return values of a statistic that data and simulated sets have, [value] and [set, value]; of many some."""
    at = evenly(observed.numel(), MOST_VALUES).to(observed.device)
    seen, theirs = observed.double().flatten()[at], torch.stack([one.double().flatten()[at] for one in sets])
    known = seen.isfinite() & theirs.isfinite().all(0)
    return seen[known], theirs[:, known]


def overdispersion(fit: Fit, part: Part, simulated: Sequence[float]) -> dict[str, float | str]:
    """Compare how counts vary about what the fit expects of them with how simulated ones do (``Posterior.dispersion``).

    Unlike the other statistics it is taken at each draw's own parameters, and only more than is simulated counts: a
    point that was fitted to the data has less about it (Gelman, Meng and Stern 1996, Statistica Sinica 6).

    Returns:
        ``overdispersion_p``, the share of simulations in which counts vary as much; ``overdispersion_ratio``, how many
        times as much as in them; ``overdispersion_of``, what they are taken for; ``overdispersion_setting``, what to
        type.
    """
    posterior = part.posterior
    own = [posterior.dispersion(posterior.own, at) for at in chosen(part.draws(fit.draws), len(simulated))]
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
    try:
        simulated = of_prior(fit) if SIMULATIONS >= FEWEST else None
    except (NotApplicable, NotImplementedError, ValueError):
        return {}
    if simulated is None or not simulated.checks:
        return {}
    posterior, sets = simulated.part.posterior, simulated.checks
    found, cure = {}, fit.model.to_rescale(fit.data)
    for name, observed in posterior.checks(posterior.own).items():
        seen, theirs = _known(observed, [one[name] for one in sets])
        if len(seen) and (cure.startswith("set ") or checked.get(f"check_{name}_p", 1.0) > MISSED):
            found[name] = _conflict(seen, theirs)
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
