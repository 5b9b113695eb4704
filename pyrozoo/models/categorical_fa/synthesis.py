"""Rows drawn from a fit: any number of them, given some of the answers or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.data.survey import Survey
from pyrozoo.math.linear_algebra import standard_normal
from pyrozoo.models.categorical_fa.layout import Layout, Parameters
from pyrozoo.models.categorical_fa.likelihood import find_modes, log_likelihood, log_normal
from pyrozoo.models.categorical_fa.model import CategoricalFA

DRAWS = 64
"""Posterior draws behind one chunk of rows; every chunk chooses anew."""

CHUNK = 2**16
"""Rows drawn at a time."""

MOVES = 40
"""Metropolis steps of every row's latent vector, where some answers are given."""

FREEDOM = 5
"""Degrees of freedom of the proposals: tails that no posterior of a row exceeds."""


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
    model, data = cast(CategoricalFA, fit.model), cast(Survey, fit.data)
    known = data.codes_of(given or {})
    flat = {site: fit.draws[site].flatten(0, 1) for site in model.sites}
    total = len(next(iter(flat.values())))
    layout = Layout.of(model, data)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        sets = min(total, DRAWS, size)
        each = -(-size // sets)
        chosen = torch.randperm(total)[:sets].to(data.values.device)
        p = layout.parameters(model, {site: value[chosen] for site, value in flat.items()})
        z = _latent(model, data, p, each, known)
        codes = _answers(layout, p, z)
        order = torch.randperm(sets * each, device=codes.device)[:size]  # rows of one draw do not stay together
        codes = codes[order]
        for column, code in known.items():
            codes[:, column] = code
        yield codes


def _latent(
    model: CategoricalFA, data: Survey, p: Parameters, count: int, known: Mapping[int, int]
) -> Float[Tensor, "C d Q"]:
    """Draw latent vectors for every set of globals, given the answers that are known."""
    C, d = p.mean.shape
    if not known:
        noise = standard_normal(p.mean.new_empty(C, d, count))
        return p.mean.unsqueeze(-1) + torch.linalg.cholesky(p.covariance) @ noise
    row = torch.full_like(data.values[:1], torch.nan)
    for column, code in known.items():
        row[0, column] = code
    part = dataclasses.replace(data, values=row, row_labels=["given"], hidden=None, test=None, truth={}, row_index=None)
    layout = Layout.of(model, part)
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
    logits = p.logits(p.features(z))
    prob, _ = layout.softmax(logits)
    C, _, Q = z.shape
    codes = z.new_empty(C * Q, len(layout.columns))
    first = 0
    for item, size in enumerate(layout.columns):
        cumulative = prob[:, layout.place[first : first + size - 1]].cumsum(1)
        codes[:, item] = (torch.rand(C, 1, Q, dtype=z.dtype, device=z.device) > cumulative).sum(1).flatten().to(z.dtype)
        first += size
    return codes
