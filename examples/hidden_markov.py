"""A hidden Markov model: a sequence in every row of a table, a time in every column, with holes.

python -m pyrozoo model=examples/hidden_markov.py inference=nuts data.rows=20 data.columns=30
pyrozoo.fit(HiddenMarkov(num_states=3), "nuts", data=sequences)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch

from pyrozoo import Model, Relabel, Table, positive, whole


@dataclass(frozen=True)
class HiddenMarkov(Model):
    """Hidden states that follow each other, and a number that each emits.

    Attributes:
        num_states: How many states.
        persistence: Added to the Dirichlet concentration of staying, which is 1 for every move.
        spread: Prior standard deviation of what states emit on average.
        noise_scale: Scale of the half-normal prior of the noise's standard deviation.
    """

    num_states: int = whole(default=2)
    persistence: float = positive(default=4.0)
    spread: float = positive(default=3.0)
    noise_scale: float = positive(default=1.0)

    dims: ClassVar = {"transition": ("state_",)}

    @property
    def symmetry(self) -> Relabel:
        """States can be exchanged."""
        return Relabel("state")

    def __call__(self, data: Table) -> None:
        """Run the program: states are summed out, one time after another."""
        x, K = data.filled, self.num_states
        with pyro.plate("state", K, dim=-1):
            stay = x.new_ones(K, K) + self.persistence * torch.eye(K, dtype=x.dtype)
            transition = pyro.sample("transition", dist.Dirichlet(stay))
            level = pyro.sample("level", dist.Normal(x.new_zeros(()), self.spread))
        noise = pyro.sample("noise", dist.HalfNormal(x.new_tensor(self.noise_scale)))
        with pyro.plate("row", len(x), dim=-1):
            probability = x.new_full((K,), 1 / K)
            for t in pyro.markov(range(x.shape[1])):
                state = pyro.sample(f"state_{t}", dist.Categorical(probability))
                emitted = dist.Normal(level[state], noise).mask(data.observed[:, t])
                pyro.sample(f"value_{t}", emitted, obs=x[:, t])
                probability = transition[state]
