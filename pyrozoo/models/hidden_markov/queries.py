"""What users ask of fitted chains: states of rows, hidden values, how long states last, the next steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.prediction import Prediction
from pyrozoo.core.seeds import seeded
from pyrozoo.math.markov_chains import Smoothed, most_probable, smooth
from pyrozoo.math.multinomial import choose

MOST_DRAWS = 500
"""Posterior draws used by a query; more change nothing that a reader could see."""

MOST_ELEMENTS, BLOCK = 2 * 10**8, 2**21
"""Steps times draws times states of a query, and of what is worked on at once."""

FEWEST_DRAWS, PREDICTIVE = 20, 1000
"""Draws that a query takes in any case; values behind an interval."""

LEVELS = (0.05, 0.95)


def smooth_at(posterior: Any, values: Values) -> Smoothed:
    """Smooth the states of a posterior's sequences at values of the sites, site -> [C, *event]."""
    log_e = posterior.emission.log_density(posterior.emission.natural(values))
    return smooth(posterior.data.steps, values["initial"], values["transition"], log_e)


def blocks_of(posterior: Any, draws: Draws) -> list[dict[str, Tensor]]:
    """Return as many draws as a query can take, in blocks."""
    size = posterior.data.steps.count * posterior.model.num_components
    some = draws.some(max(FEWEST_DRAWS, min(MOST_DRAWS, MOST_ELEMENTS // size)))
    return list(some.flat_blocks(max(1, BLOCK // size)))


def smoothed(posterior: Any, draws: Draws) -> Float[Tensor, "N K"]:
    """Return p(z_t = k | x) of every row, averaged over draws with aligned labels."""
    sums, count = posterior.data.values.new_zeros(posterior.data.shape[0], posterior.model.num_components), 0
    for block in blocks_of(posterior, draws):
        found = smooth_at(posterior, block).probability[posterior.data.place]
        sums, count = sums + found.sum(1), count + found.shape[1]
    return sums / count


def path(posterior: Any, values: Values) -> tuple[Tensor, Tensor]:
    """Return the most probable state of every row, jointly over its sequence, and log p(path, x), [N, C] and [S, C]."""
    log_e = posterior.emission.log_density(posterior.emission.natural(values))
    states, log_joint = most_probable(posterior.data.steps, values["initial"], values["transition"], log_e)
    return states[posterior.data.place], log_joint


def predict_cells(posterior: Any, draws: Draws, hidden: Any) -> Prediction:
    """Predict some cells, given all that is observed of their sequences."""
    emission, x = posterior.emission, hidden.values
    levels = posterior.model.num_levels if posterior.model.emission == "categorical" else None
    means: list[Tensor] = []
    logs, counts, drawn = [], 0, []
    blocks = blocks_of(posterior, draws)
    each = -(-PREDICTIVE // sum(len(block["initial"]) for block in blocks))
    with seeded(0):
        for block in blocks:
            share = smooth_at(posterior, block).probability[posterior.data.place[hidden.rows]]  # [E, C, K]
            q = emission.cells(block, hidden.rows, hidden.columns)
            counts += share.shape[1]
            if levels is not None:
                means.append((share.unsqueeze(-1) * q.probs).sum((1, 2)))
                continue
            means.append((share * q.mean).sum((1, 2)))
            at = q.log_prob(x[:, None, None].nan_to_num())
            logs.append((at + share.clamp(min=torch.finfo(share.dtype).tiny).log()).logsumexp((1, 2)))
            for _ in range(each):
                drawn.append(q.sample().gather(2, choose(share).unsqueeze(-1)).squeeze(-1))
        if levels is not None:
            return Prediction.of_levels(torch.stack(means).sum(0) / counts, x, levels)
        log_density = torch.stack(logs).logsumexp(0) - math.log(counts)
        return Prediction.of_counts(torch.stack(means).sum(0) / counts, log_density, torch.cat(drawn, 1).T, x)


def dwell(draws: Draws) -> Float[Tensor, "chain draw K"]:
    """Return for how many steps a state lasts once it is entered, on average: 1 / (1 - A_kk)."""
    stay = draws["transition"].diagonal(dim1=-2, dim2=-1)
    return 1 / (1 - stay).clamp(min=torch.finfo(stay.dtype).eps)


def forecast(
    posterior: Any, draws: Draws, steps: int
) -> tuple[Float[Tensor, "S H K"], Float[Tensor, "S H D"], Float[Tensor, "S H D 2"]]:
    """Return what comes after the last step of every sequence.

    Args:
        posterior: Of the sequences.
        draws: With aligned labels.
        steps: H, how many steps.

    Returns:
        Probabilities of states, and of values the means and 90% intervals.
    """
    data, emission = posterior.data, posterior.emission
    last = data.steps.starts + data.steps.lengths - 1
    shares: list[Tensor] = []
    values, count = [], 0
    blocks = blocks_of(posterior, draws)
    each = -(-PREDICTIVE // sum(len(block["initial"]) for block in blocks))  # a point must serve many times
    with seeded(0):
        for block in blocks:
            now = smooth_at(posterior, block).probability[last]  # [S, C, K]
            chain = torch.arange(now.shape[1], device=now.device).repeat(each)
            now, own, found, C = now[:, chain], [], [], len(chain)
            row = data.row_at[last].unsqueeze(-1).expand(-1, C)  # values to go on from
            before = torch.where((row >= 0).unsqueeze(-1), data.values[row.clamp(min=0)], torch.nan)
            state = choose(now)
            for _ in range(steps):
                now = torch.einsum("sck,ckl->scl", now, block["transition"][chain])
                state = choose(block["transition"][chain, state])
                before = emission.following({site: block[site][chain, state] for site in emission.sites}, before)
                own.append(now.sum(1))
                found.append(before)
            shares.append(torch.stack(own, 1))
            count += C
            values.append(torch.stack(found, 1))
    every = torch.cat(values, 2)  # [S, H, draw, D]
    ends = torch.quantile(every, every.new_tensor(LEVELS), dim=2).movedim(0, -1)
    return torch.stack(shares).sum(0) / count, every.mean(2), ends
