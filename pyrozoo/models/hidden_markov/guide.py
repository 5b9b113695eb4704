"""The hand-built guide of SVI: Dirichlet factors for the chain, normal ones for the emission in real coordinates."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

from pyrozoo.core.draws import Draws
from pyrozoo.data.sequences import Sequences
from pyrozoo.models.hidden_markov.cavi import Solver
from pyrozoo.models.hidden_markov.posterior import Posterior
from pyrozoo.program.covariances import InverseWisharts

STEPS, DRAWS = 3, 100
"""Updates of CAVI before the start, and draws from its factors whose moments are the start's."""

REAL = ("mean", "slope")
"""Sites that any real number can be; all others of an emission are positive, or sum to one."""


class Guide:
    """q(pi) and q(A) Dirichlet, q(probability) Dirichlet, other sites of the emission normal or log-normal.

    Paths are summed out in the program, by the forward algorithm.

    Args:
        posterior: The model given the sequences; starting values are a few updates of CAVI from a random start (torch's
            global generator), which puts spreads at the scale of the data.
    """

    def __init__(self, posterior: Posterior):
        solver = Solver(posterior)
        q = solver.q(solver.after(STEPS))
        draws = {s: v[0, :, 0] for s, v in Draws.stack([dict(q.sample()) for _ in range(DRAWS)]).items()}
        positive = constraints.positive
        self.start: dict[str, tuple[torch.Tensor, Any]] = {}
        chain: Any = q.chain.q
        emission: Any = q.emission.q
        for site in chain:
            self.start[f"{site}_total"] = chain[site].concentration[0], positive
        for site, value in draws.items():
            if site == "probability":
                self.start["probability_total"] = emission[site].concentration[0], positive
            elif site == "covariance":
                self.start["covariance_more"] = emission.covariance.degrees[0] - value.shape[-1] + 1, positive
                factor = torch.linalg.cholesky(emission.covariance.scale[0])
                self.start["covariance_factor"] = factor, constraints.lower_cholesky
            elif site not in chain:
                inner = value if site in REAL else value.log()
                self.start[f"{site}_at"] = inner.mean(0), constraints.real
                self.start[f"{site}_sd"] = inner.std(0).clamp(min=1e-3), positive

    def __call__(self, data: Sequences) -> None:
        """Sample the global sites."""
        q = {name: pyro.param(name, value, constraint=where) for name, (value, where) in self.start.items()}
        pyro.sample("initial", dist.Dirichlet(q["initial_total"]))
        pyro.sample("transition", dist.Dirichlet(q["transition_total"]).to_event(1))
        K, D = len(q["initial_total"]), data.shape[1]
        if "covariance_factor" in q:
            with pyro.plate("state", K, dim=-1):
                factor = q["covariance_factor"]
                pyro.sample("covariance", InverseWisharts(q["covariance_more"] + (D - 1), factor @ factor.mT))
                pyro.sample("mean", dist.Normal(q["mean_at"], q["mean_sd"]).to_event(1))
            return
        with pyro.plate("state", K, dim=-2), pyro.plate("column", D, dim=-1):
            if "probability_total" in q:
                pyro.sample("probability", dist.Dirichlet(q["probability_total"]))
            for name in (name.removesuffix("_at") for name in q if name.endswith("_at")):
                kind = dist.Normal if name in REAL else dist.LogNormal
                pyro.sample(name, kind(q[f"{name}_at"], q[f"{name}_sd"]))
