"""The figures of one fit: held-out prediction, LOO, convergence, the quality of an approximation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from pyrozoo.contracts.fit import MOST_WHOLE_EFFORT, Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.view import view_of
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.errors import noted
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.diagnostics.predictive import checks, prior_conflict
from pyrozoo.math.mixing import LEAST, ess, missing_information, rhat
from pyrozoo.math.pareto import leave_one_out, tail_shapes
from pyrozoo.program.trace import priors

Metrics = dict[str, float | int | str]

MOST_SCALARS = 500
"""Parameters whose R-hat and ESS are computed; of more, so many are chosen evenly."""


FEW_VALUES = 20
"""Values of a unit's log-likelihood over all draws below which its weights are no sample from a tail."""

WORTH_DRAWS = 100
"""Draws that such weights must be worth."""


UNEVALUATED = "not_evaluated"
"""Stands among the metrics of a fit that was kept before its figures were computed."""


def known(fit: Fit) -> Metrics:
    """Return what a fit says of itself, flat, before any figure is computed."""
    own = ("method", "kind", "status", "objective_name", "objective", "iterations", "seconds", "seed")
    return _finite({"model": fit.model_name, **{name: getattr(fit, name) for name in own}, **fit.metrics})


def _finite(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if not isinstance(value, float) or math.isfinite(value)}


def evaluate(fit: Fit) -> Metrics:
    """Return all figures of a fit, flat; a figure that does not apply or is not finite is left out.

    Of a part that fails a note says why, and the others stand: ``fit.notes``.
    """
    result = known(fit)
    hides = fit.data.hidden is not None and len(fit.data.hidden.values)
    many = fit.draws.shape[0] * fit.draws.shape[1] >= 20
    parts: list[tuple[str, bool, Callable[[Fit], Mapping[str, Any]]]] = [
        ("the figures of what was held out", bool(hides), held_out),
        ("the figures of LOO", fit.kind != "point" and many, loo),
        ("the figures of the approximation", fit.kind == "variational", approximation),
        ("the figures of convergence", fit.kind == "samples", convergence),
        ("the predictive checks", True, checks),
        ("the check of prior against data", True, lambda fit: prior_conflict(fit, result)),
        ("the information criteria", fit.kind == "point", information),
        ("the model's own figures", True, view_of(fit.model).metrics),
    ]
    for what, applies, part in parts:
        if applies:
            with noted(fit.notes, what):
                result |= part(fit)
    return _finite(result)


def held_out(fit: Fit) -> Metrics:
    """Return ``holdout`` of the fit's own data; of many entries those evenly chosen, as ``holdout_of`` says."""
    prediction, hidden = fit.held_out
    total, chosen = len(fit.data.hidden.values), len(hidden.values)
    of: Metrics = {} if total == chosen else {"holdout_of": total}
    return holdout(prediction, hidden) | of


def holdout(prediction: Prediction, hidden: Any) -> Metrics:
    """Return the yardstick across methods and models on held-out entries.

    ``holdout_elpd`` is the mean log predictive density per entry, or per observation where entries stand for several;
    ``holdout_coverage_90`` the share of entries whose
    randomised probability integral transform lies in [0.05, 0.95], 90% when calibrated, for counts too, and left out
    when entries were hidden because of their value;
    ``holdout_impossible`` the number of entries to which the fit gives probability 0 (then there is no elpd).
    """
    truth = hidden.values
    result: Metrics = {
        "holdout_impossible": int(torch.isneginf(prediction.log_density).sum()),
        "holdout_elpd": prediction.scores.mean().item(),
        "holdout_rmse": (prediction.mean - truth).square().mean().sqrt().item(),
    }
    if hidden.at_random:
        inside = (prediction.pit >= 0.05) & (prediction.pit <= 0.95)
        result["holdout_coverage_90"] = inside.double().mean().item()
    return result | {"holdout_entries": len(truth)}


def loo(fit: Fit) -> Metrics:
    """Return Pareto-smoothed leave-one-out cross-validation (Vehtari, Gelman and Gabry 2017).

    ``loo_unit`` says what is left out. Where these are some of many, chosen at random, sums are scaled up to all of
    them (Magnusson et al. 2019), and ``loo_se`` covers the choice, too.
    """
    elpd, bad, fitted = loo_by_unit(fit)
    own = fit.posterior.left_out
    unit, count = (fit.posterior.unit, fit.posterior.units) if own is None else (own.unit, own.total)
    if not len(elpd):
        return {}
    result: Metrics = {
        "loo_elpd": float(elpd.mean() * count),
        "loo_se": float(count * elpd.std() / np.sqrt(len(elpd))),
        "loo_p": float((fitted - elpd).mean() * count),
        "loo_bad_khat_share": float(bad.mean()),
        "loo_unit": unit,
    }
    return result if len(elpd) == count else result | {"loo_units": len(elpd), "loo_of": count}


def loo_by_unit(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log predictive densities of the units looked at, given the others, whether unreliable, and given all."""
    part = fit.looked_at
    own = part.posterior.left_out
    pointwise = fit.pointwise[1] if own is None else own.logs(part.draws(fit.draws))
    logs = pointwise.flatten(0, 1).T.double().cpu().contiguous()  # [unit, draw]
    if not logs.numel():
        return np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0)
    count = logs.shape[1]
    # Weights that take a few values, as with discrete sites, have no tail that a Pareto distribution could smooth:
    # they are averaged as they are, and trusted when they are worth enough draws.
    total = (-logs).logsumexp(1)
    elpd = math.log(count) - total
    bad = 2 * total - (-2 * logs).logsumexp(1) < math.log(min(WORTH_DRAWS, count))
    many = (~_take_few_values(logs)).nonzero().flatten()
    if len(many):
        smoothed, shapes = leave_one_out(logs[many], _efficiency(fit, pointwise))
        elpd[many], bad[many] = smoothed, shapes > khat_threshold(count)
    return elpd.numpy(), bad.numpy(), (logs.logsumexp(1) - math.log(count)).numpy()


def _take_few_values(logs: Tensor) -> Tensor:
    """Return which units' log-likelihoods, [unit, draw], take fewer values than ``FEW_VALUES``."""
    least = min(FEW_VALUES, logs.shape[1] // 2)

    def few(some: Tensor) -> Tensor:
        return (some.sort(1).values.diff(dim=1) > 0).sum(1) < least

    found = few(logs[:, evenly(logs.shape[1], 4 * least)])  # most take many values among some draws already
    if found.any():
        found[found.clone()] = few(logs[found])
    return found


def _efficiency(fit: Fit, pointwise: Tensor) -> float:
    """Return how many independent draws one is worth, by the sum of its log-likelihoods [chain, draw, unit]."""
    chains, count = pointwise.shape[:2]
    if fit.kind != "samples" or chains == 1:
        return 1.0
    effective = float(ess(pointwise.double().sum(-1), "mean"))
    return effective / (chains * count) if math.isfinite(effective) else 1.0


def information(fit: Fit) -> Metrics:
    """Return information criteria of a point: less is better.

    With L the likelihood at the point, local sites summed out, p its free parameters and n the units of the data::

        aic = -2 log L + 2 p                                    Akaike 1974, IEEE Trans. Automat. Contr. 19
        bic = -2 log L + p log n                                Schwarz 1978, Ann. Statist. 6
        icl = bic - 2 sum_n sum_k r_nk log r_nk                 Biernacki, Celeux and Govaert 2000, IEEE PAMI 22

    r are the responsibilities of a mixture. p counts the unconstrained coordinates of all sites, less those along which
    the likelihood cannot change, such as turns of factors. The point is the posterior's mode: priors move it from the
    maximum of L. Where log L of all units takes long, it is that of the units looked at, scaled up to all: the same for
    every fit of the data, ``information_units`` of them.

    Nothing is returned where units have parameters of their own (as rows have in matrix factorizations): p grows with n
    there, and no such criterion holds. Nor for methods that maximise no joint density: PCA and PPCA hold parameters
    equal that are several in the program.
    """
    posterior = fit.posterior
    own = {posterior.unit, "row"}
    if not fit.objective_name.startswith("log_joint") or any(own & set(dims) for dims in posterior.sites.values()):
        return {}
    point, n = next(fit.draws.each()), posterior.units
    p = free_parameters(posterior, point)
    alone = Draws({site: value[None, None] for site, value in point.items()})
    some = fit.looked_at.units is not None
    quick = posterior.adds_quickly or posterior.effort <= MOST_WHOLE_EFFORT
    log_likelihood = float((posterior.log_likelihood(alone) if some and quick else fit.log_likelihood)[0, 0])
    result: Metrics = {} if quick or not some else {"information_units": fit.looked_at.posterior.units}
    result |= {
        "free_parameters": p,
        "aic": -2 * log_likelihood + 2 * p,
        "bic": -2 * log_likelihood + p * math.log(n),
    }
    shares = view_of(fit.model).responsibilities(fit)
    if shares is not None:
        result["icl"] = float(result["bic"]) - 2 * float(torch.special.xlogy(shares, shares).sum())
    return result


def free_parameters(posterior: Posterior, point: Values) -> int:
    """Return how many numbers say what a posterior's sites are, as far as the likelihood can tell."""
    found = priors(posterior.program, posterior.sites, point, posterior.few, posterior.depth)
    return sum(_coordinates(prior.support, point[site]) for site, prior in found.items()) - posterior.orbit(point)[0]


def _coordinates(support: Any, value: Tensor) -> int:
    if support in (constraints.positive_definite, constraints.lower_cholesky):  # triangular
        return value.numel() * (value.shape[-1] + 1) // (2 * value.shape[-1])
    return biject_to(support).inv(value).numel()  # torch loads SymPy to know its shape, which takes a second


def khat_threshold(draws: int) -> float:
    """Return the largest Pareto k-hat at which importance sampling can be believed (Vehtari et al. 2024, eq. 13)."""
    return min(1 - 1 / math.log10(max(draws, 11)), 0.7)


def approximation(fit: Fit) -> Metrics:
    """Return k-hat of importance weights p/q, and the ELBO of q over the global sites, local ones summed out."""
    assert fit.log_q is not None
    with seeded(fit.seed), torch.no_grad():  # programs may draw local sites, which nobody looks at
        step, joint = fit.log_joint
    log_ratio = (joint - fit.log_q[:, ::step]).double().cpu().numpy().ravel()
    result: Metrics = {"elbo": float(log_ratio.mean())}
    if copies := fit.model.symmetry.log_copies({s: v[0, 0] for s, v in fit.draws.items()}, fit.posterior.sites):
        result["elbo_labels"] = result["elbo"] + copies
    if len(log_ratio) > 1:
        root = math.sqrt(len(log_ratio))
        result["elbo_se"] = float(log_ratio.std(ddof=1) / root)
        # The mean of the weights estimates the evidence; its logarithm is at most that, on average.
        log_mean = float(np.logaddexp.reduce(log_ratio) - math.log(len(log_ratio)))
        result["log_evidence_weighted"] = log_mean
        result["log_evidence_weighted_se"] = float(np.exp(log_ratio - log_mean).std(ddof=1) / root)
    if len(log_ratio) >= 20:
        # Constant weights mean that q is p; ArviZ answers inf there.
        constant = np.ptp(log_ratio) < 1e-9 * max(1.0, abs(float(log_ratio.mean())))
        result["khat"] = 0.0 if constant else float(tail_shapes(torch.as_tensor(log_ratio)[None]))
        result["khat_threshold"] = khat_threshold(len(log_ratio))
    return result


def some(draws: Values, most: int = MOST_SCALARS) -> Values:
    """Return at most about ``most`` scalars of the draws, evenly chosen within every site: [chain, draw, chosen]."""
    total = sum(value[0, 0].numel() for value in draws.values())
    if total <= most:
        return draws
    result = {}
    for name, value in draws.items():
        flat = value.flatten(2) if value.ndim > 2 else value.unsqueeze(2)
        size = flat.shape[2]
        result[name] = flat[:, :, evenly(size, max(1, most * size // total)).to(flat.device)]
    return result


def convergence(fit: Fit) -> Metrics:
    """Return R-hat raw and after alignment of labels, effective sample sizes, divergences, the acceptance of the run.

    R-hat and ESS are the worst over all parameters and invariants (Vehtari et al. 2021, Bayesian Analysis 16).
    """
    chains, draws = fit.draws.shape
    result: Metrics = {"chains": chains, "draws": draws}
    if draws < LEAST:
        return result
    ours = {"": some(fit.aligned), "_invariants": some(fit.invariants)}
    for name, values in {"_raw": some(fit.draws), **ours}.items() if chains > 1 else ():
        result[f"rhat_max{name}"] = _worst(values, rhat, np.nanmax)
    for name, values in ours.items():
        for part in ("bulk", "tail"):
            result[f"ess_{part}_min{name}"] = _worst(values, partial(ess, of=part), np.nanmin)
    result["ess_per_second"] = float(result["ess_bulk_min_invariants"]) / max(fit.seconds, 1e-9)
    if "diverging" in fit.sample_stats:
        result["divergences"] = int(fit.sample_stats["diverging"].sum())
    if "energy" in fit.sample_stats:
        result["ebfmi_min"] = float(missing_information(fit.sample_stats["energy"].double()).min())
    return result


def _worst(draws: Values, figure: Callable[[Tensor], Tensor], choose: Callable[..., float]) -> float:
    values = np.concatenate([np.ravel(figure(value).numpy()) for value in draws.values()])
    # A constant has no R-hat (nan); chains stuck at different constants have an infinite one, but for rounding, which
    # must show.
    values = np.where(values > 1e6, 1e6, values)
    return float(choose(values)) if np.isfinite(values).any() else math.nan
