"""Rows drawn from a fit, any number of them, given some of the answers or none; and whether they can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.seeds import seeded
from pyrozoo.data.survey import Survey
from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.models.categorical_fa.layout import Layout, Parameters
from pyrozoo.models.categorical_fa.likelihood import find_modes, log_likelihood, log_normal

DRAWS, CHUNK = 64, 2**16
"""Posterior draws behind one chunk of rows, where every chunk chooses anew; rows drawn at a time."""

MOVES, FREEDOM = 40, 5
"""Metropolis steps of every row's latent vector, where some answers are given; and degrees of freedom of the proposals:
tails that no posterior of a row exceeds."""

JUDGED_ROWS = 20_000
"""Synthetic rows that fidelity is judged by: the error of a share is below 0.004."""


def synthesize(fit: Fit, count: int, given: Mapping[str, str] | None = None) -> Iterator[Float[Tensor, "n D"]]:
    """Draw rows of answers in chunks, as codes, from torch's global generator; no row of the data is looked at.

    Every row has a posterior draw of the globals of its own choice (a point has one), a latent vector from its
    distribution, and answers given that. With some answers given, latent vectors come from their posterior given those,
    by Metropolis steps with independent proposals around the mode.

    Args:
        fit: The fit.
        count: How many rows.
        given: Column -> level that all rows have.

    Raises:
        SettingError: A column or level that the data do not have.
    """
    data, flat = fit.data, fit.draws.flat()
    layout = fit.model.layout(data.first(1))  # which gives the items
    known = data.codes_of(given or {})
    total = len(next(iter(flat.values())))
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        sets = min(total, DRAWS, size)
        each = -(-size // sets)
        chosen = torch.randperm(total)[:sets].to(data.values.device)
        p = layout.parameters({site: value[chosen] for site, value in flat.items()})
        codes = _answers(layout, p, _latent(fit, p, each, known))
        order = torch.randperm(sets * each, device=codes.device)[:size]  # rows of one draw do not stay together
        codes = codes[order]
        for column, code in known.items():
            codes[:, column] = code
        yield codes


def _latent(fit: Fit, p: Parameters, count: int, known: Mapping[int, int]) -> Float[Tensor, "C d Q"]:
    """Draw latent vectors for every set of globals, given the answers that are known."""
    C, d = p.mean.shape
    if not known:
        noise = standard_normal(p.mean.new_empty(C, d, count))
        return p.mean.unsqueeze(-1) + torch.linalg.cholesky(p.covariance) @ noise
    row = torch.full_like(fit.data.values[:1], torch.nan)
    for column, code in known.items():
        row[0, column] = code
    layout = fit.model.layout(dataclasses.replace(fit.data.first(1), values=row))
    block = layout.block(slice(0, 1))
    modes = find_modes(layout, p, block)
    centre, factor = modes.mode.mT, modes.factor[:, 0]  # [C, d, 1], [C, d, d]

    def propose() -> tuple[Tensor, Tensor]:
        """Return proposals of a multivariate t and how much more likely they are than proposed, as a logarithm."""
        noise = standard_normal(p.mean.new_empty(C, d, count))
        chi = torch.distributions.Chi2(p.mean.new_tensor(float(FREEDOM))).sample((C, 1, count))
        standard = noise * (FREEDOM / chi).sqrt()
        z = centre + factor @ standard
        density = -0.5 * (FREEDOM + d) * (standard.square().sum(1) / FREEDOM).log1p()
        return z, log_likelihood(layout, block, p, z.unsqueeze(2)).squeeze(1) + log_normal(p, z) - density

    z, weight = propose()
    for _ in range(MOVES):
        tried, found = propose()
        accepted = torch.rand_like(weight).log() < found - weight
        z = torch.where(accepted.unsqueeze(1), tried, z)
        weight = torch.where(accepted, found, weight)
    return z


def _answers(layout: Layout, p: Parameters, z: Float[Tensor, "C d Q"]) -> Float[Tensor, "n D"]:
    """Draw the answers of rows with these latent vectors, by inverting cumulative probabilities."""
    prob, _ = layout.softmax(p.logits(p.features(z)))
    C, _, Q = z.shape
    codes = z.new_empty(C * Q, len(layout.columns))
    for item, place in enumerate(layout.place.split(layout.columns)):
        cumulative = prob[:, place[:-1]].cumsum(1)
        codes[:, item] = (torch.rand(C, 1, Q, dtype=z.dtype, device=z.device) > cumulative).sum(1).flatten().to(z.dtype)
    return codes


def judged(fit: Fit) -> Float[Tensor, "n D"]:
    """Return the synthetic rows by which a fit is judged, drawn once: figures, tables and pictures all ask."""
    posterior: Any = fit.posterior
    kept = posterior.judged
    key = next(iter(fit.draws.values()))  # a fit's own, whoever holds it
    if key not in kept:
        with seeded(fit.seed + 1):
            kept[key] = torch.cat(list(synthesize(fit, JUDGED_ROWS)))
    return kept[key]


def counts(survey: Survey, values: Float[Tensor, "n D"]) -> list[Float[Tensor, K]]:
    """Return how often every category was the answer to its item."""
    pairs = zip(values.unbind(1), survey.categories, strict=True)
    return [torch.bincount(column[~column.isnan()].long(), minlength=size).double() for column, size in pairs]


def shares(survey: Survey, values: Float[Tensor, "n D"]) -> list[Float[Tensor, K]]:
    """Return the share of every category among the answers to its item."""
    return [count / count.sum().clamp(min=1) for count in counts(survey, values)]


def independent(survey: Survey, count: int, seed: int) -> Float[Tensor, "n D"]:
    """Return rows of independent columns with the shares of the data: what knows nothing of association."""
    generator = np.random.default_rng((seed, 2))
    columns = [generator.choice(len(p), count, p=p.numpy()) for p in (s.cpu() for s in shares(survey, survey.values))]
    return torch.as_tensor(np.stack(columns, 1), dtype=torch.float64)


def association_error(survey: Survey, values: Float[Tensor, "n D"]) -> float:
    """Return the mean absolute difference of Cramér's V from the data's, over all pairs of items."""
    i, j = torch.tril_indices(survey.shape[1], survey.shape[1], -1)
    gap = survey.cramers_v(values.to(survey.values)) - survey.cramers_v()
    return float(gap.abs()[i, j].mean())


def marginal_tv(survey: Survey, values: Float[Tensor, "n D"]) -> float:
    """Return the mean over items of the total variation distance between shares and those of the data."""
    pairs = zip(shares(survey, survey.values), shares(survey, values), strict=True)
    return float(np.mean([0.5 * float((one - other.to(one)).abs().sum()) for one, other in pairs]))


def coinciding(survey: Survey, values: Float[Tensor, "n D"]) -> float:
    """Return the share of rows that equal some complete row of the data."""
    complete = survey.values[survey.observed.all(1)].cpu().to(torch.int16).numpy()
    known = {row.tobytes() for row in np.ascontiguousarray(complete)}
    drawn = np.ascontiguousarray(values.cpu().to(torch.int16).numpy())
    return float(np.mean([row.tobytes() in known for row in drawn]))
