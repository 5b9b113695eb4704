"""What is known of the posterior of hidden_markov: starting points, the likelihood, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts.posterior import HandBuilt, Part
from pyrozoo.contracts.values import check_counts, check_moderate
from pyrozoo.core.blocks import at_once
from pyrozoo.core.draws import Draws, Values, evenly
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.sequences import Sequences
from pyrozoo.math.markov_chains import log_evidence, smooth
from pyrozoo.math.moments import column_moments
from pyrozoo.models.hidden_markov.emissions import Emission, dirichlet_mode
from pyrozoo.models.hidden_markov.kinds import emission_of
from pyrozoo.models.hidden_markov.model import HiddenMarkov
from pyrozoo.models.hidden_markov.queries import predict_cells, smoothed

BLOCK_ELEMENTS = 2**20
"""Steps times draws times states that are worked on at once."""

TRIES, WARM = 6, 8
"""Random points that a starting point is the best of, after so many steps of EM."""

MOST_LEVELS = 100
"""Levels of a categorical emission."""

LARGEST_FLOAT32_COUNT = 2.0**24


class Posterior(HandBuilt):
    """A hidden Markov model given sequences."""

    model: HiddenMarkov
    data: Sequences
    observed = "values"
    unit = "sequence"
    wants = "sequences (a long table with columns sequence and time, or arrays)"

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites, those of the emission among them."""
        return {"initial": ("state",), "transition": ("state", "state_"), **emission_of(self.model).sites}

    @cached_property
    def emission(self) -> Emission:
        """What states say of these sequences."""
        return emission_of(self.model)(self.model, self.data)

    @cached_property
    def concentration(self) -> tuple[Float[Tensor, K], Float[Tensor, "K K"]]:
        """The Dirichlet concentrations of the first state, and of the rows of the transition matrix."""
        return self.model.concentration(self.data.values)

    def check(self) -> None:
        """Raise DataError unless every observed value is one that the emission can have."""
        super().check()
        for part in self.data.with_new_rows:
            if self.model.emission not in ("poisson", "categorical"):
                check_moderate(part, part.filled)
                continue
            check_counts(part, part.filled, LARGEST_FLOAT32_COUNT)
            if self.model.emission == "categorical":
                levels = self.model.given(self.data).num_levels or 0
                most = min(levels, MOST_LEVELS)
                part.refuse(part.filled >= most, f"is too large for a level; there are {most}, counted from 0")

    def improved(self, values: Values) -> tuple[Values, Float[Tensor, C]]:
        """Do a step of EM at points, site -> [C, *event]; return the new ones, and log p(X, Theta) of the old."""
        emission, (first, rows) = self.emission, self.concentration
        natural = emission.natural(values)
        log_e = emission.log_density(natural)
        found = smooth(self.data.steps, values["initial"], values["transition"], log_e)
        new = {
            "initial": dirichlet_mode(first + found.first),
            "transition": dirichlet_mode(rows + found.pairs),
            **emission.mode(emission.conjugate(emission.sums(found.probability, natural))),
        }
        return new, found.log_evidence.sum(0) + self.prior_of(values)

    def prior_of(self, values: Values) -> Float[Tensor, C]:
        """Return log p(Theta) of points, site -> [C, *event]."""
        first, rows = (Dirichlet(each, validate_args=False) for each in self.concentration)
        chain = first.log_prob(values["initial"]) + rows.log_prob(values["transition"]).sum(-1)
        return chain + self.emission.prior_factor.log_prob(values)

    def initial(self, chains: int) -> Values:
        """Return starting values: the best of a few random points for each chain, after a few steps of EM."""
        points = self._scattered(chains * TRIES)
        for _ in range(WARM):
            points, objective = self.improved(points)
        best = objective.nan_to_num(nan=-torch.inf).unflatten(0, (chains, TRIES)).argmax(1)
        best = best + TRIES * torch.arange(chains, device=best.device)
        tiny = torch.finfo(objective.dtype).eps
        inside = {s: v[best] for s, v in points.items()}
        for site in set(inside) & {"initial", "transition", "probability"}:
            inside[site] = inside[site].clamp(min=tiny) / inside[site].clamp(min=tiny).sum(-1, keepdim=True)
        return inside

    def _scattered(self, chains: int) -> Values:
        """Return states at random rows, drawn toward the columns' means, that stay for some steps."""
        K, N = self.model.num_components, self.data.shape[0]
        order = torch.rand(chains, N, device=self.data.values.device).argsort(1)
        rows = order[:, torch.arange(K, device=order.device) % N]
        stay = 0.3 + 0.5 * self.uniform(chains, 1, 1)
        mixed = 0.5 + self.uniform(chains, K, K)
        eye = torch.eye(K, dtype=mixed.dtype, device=mixed.device)
        return {
            "initial": self.data.values.new_full((chains, K), 1 / K),
            "transition": stay * eye + (1 - stay) * mixed / mixed.sum(-1, keepdim=True),
            **self.emission.initial(rows),
        }

    @property
    def _draws_at_once(self) -> int:
        numbers = self.data.steps.count * self.model.num_components
        return max(1, at_once(BLOCK_ELEMENTS, self.data.values) // numbers)

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw S"]:
        """Return log p(x_s | parameters) of every sequence, its path summed out."""
        found = []
        for block in Draws(draws).flat_blocks(self._draws_at_once):
            log_e = self.emission.log_density(self.emission.natural(block))
            found.append(log_evidence(self.data.steps, block["initial"], block["transition"], log_e).T)
        return torch.cat(found).unflatten(0, Draws(draws).shape)

    @property
    def effort(self) -> float:
        """Return the multiplications of one likelihood."""
        K = self.model.num_components
        return float(self.data.steps.count * K * (2 * self.emission.features.shape[-1] + 2 * K + 20))

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return means over states and spreads between them of every site, of transitions those of staying."""
        found = super().invariants(draws, log_likelihood)
        return {name: value for name, value in found.items() if name in self.invariant_dims}

    @cached_property
    def invariant_dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names and dimensions of invariants; probabilities of all states have one mean, whatever they are."""
        return {name: dims for name, dims in super().invariant_dims.items() if name != "initial_mean"}

    def some_units(self, count: int) -> Part:
        """Return so many sequences, evenly chosen, as data of their own."""
        if count >= self.units:
            return Part(self, None, self.units)
        index = evenly(self.units, count).to(self.data.values.device)
        return Part(self.on(self.data.of_sequences(index)), index, self.units, self.unit)

    def checks(self, replica: Tensor) -> Values:
        """Return mean and sd of columns, and how values go with those of the step before."""
        seen = replica.where(self.data.observed, torch.nan)
        mean, variance, _ = column_moments(seen)
        before = self.data.before
        pair = (seen - mean) * torch.where((before >= 0).unsqueeze(-1), seen[before] - mean, torch.nan)
        lagged = column_moments(pair)[0] / variance.where(variance > 0, 1.0)
        return {"column_mean": mean, "column_sd": variance.sqrt(), "autocorrelation": lagged}

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden values: a mixture over draws and states, given all that is observed of the sequence."""
        return predict_cells(self, Draws(draws), self.hidden)

    def smoothed(self, draws: Values) -> Float[Tensor, "N K"]:
        """Return p(z_t = k | x) of every row, averaged over draws with aligned labels."""
        return smoothed(self, Draws(draws))
