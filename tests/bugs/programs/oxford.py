"""Oxford: childhood cancer and X-rays, a logistic regression over 120 strata (Breslow and Clayton 1993).

BUGS Examples, volume I. Its table of 120 strata is in no package that is at hand: births, years and cases are drawn
from the program, and nothing is compared with the published figures.
"""

import pyro
import pyro.distributions as dist
import torch

from tests.bugs.example import Example

STRATA = 120


def oxford(n0, n1, year, r0, r1):
    wide = dist.Normal(n0.new_zeros(()), 1000.0)
    alpha, beta1, beta2 = (pyro.sample(name, wide) for name in ("alpha", "beta1", "beta2"))
    tau = pyro.sample("tau", dist.Gamma(n0.new_tensor(0.001), 0.001))
    with pyro.plate("stratum", len(n0)):
        mu = pyro.sample("mu", wide)
        b = pyro.sample("b", dist.Normal(n0.new_zeros(()), tau.rsqrt()))
        exposed = mu + alpha + beta1 * year + beta2 * (year.square() - 22) + b
        pyro.sample("controls", dist.Binomial(n0, logits=mu), obs=r0)
        pyro.sample("cases", dist.Binomial(n1, logits=exposed), obs=r1)


def data():
    chance = torch.Generator().manual_seed(0)
    year = torch.linspace(-10, 10, STRATA, dtype=torch.float64).round()
    n0, n1 = torch.randint(20, 90, (2, STRATA), generator=chance).double()
    rate = 0.05 + 0.1 * torch.rand(2, STRATA, generator=chance, dtype=torch.float64)
    r0, r1 = (torch.binomial(n, p, generator=chance) for n, p in zip((n0, n1), rate, strict=True))
    return {"n0": n0, "n1": n1, "year": year, "r0": r0, "r1": r1}


SITES = ("alpha", "beta1", "beta2", "mu", "b")

example = Example(
    oxford,
    data(),
    {**dict.fromkeys(SITES), "tau": "Gamma"},
    why={**dict.fromkeys(SITES, "cases"), "mu": "controls"},
)
