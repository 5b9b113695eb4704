"""Dyes: yields of dyestuff, five samples of each of six batches (Davies 1967). BUGS Examples, volume I."""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

YIELDS = [
    [1545, 1440, 1440, 1520, 1580], [1540, 1555, 1490, 1560, 1495], [1595, 1550, 1605, 1510, 1560],
    [1445, 1440, 1595, 1465, 1545], [1595, 1630, 1515, 1635, 1625], [1520, 1455, 1450, 1480, 1445],
]  # fmt: skip


def dyes(y):
    theta = pyro.sample("theta", dist.Normal(y.new_zeros(()), 1e5))
    within = pyro.sample("tau_within", dist.Gamma(y.new_tensor(0.001), 0.001))
    between = pyro.sample("tau_between", dist.Gamma(y.new_tensor(0.001), 0.001))
    with pyro.plate("batch", len(y), dim=-2):
        mu = pyro.sample("mu", dist.Normal(theta, between.rsqrt()))
        with pyro.plate("sample", y.shape[1], dim=-1):
            pyro.sample("yield", dist.Normal(mu, within.rsqrt()), obs=y)


example = Example(
    dyes,
    {"y": numbers(YIELDS)},
    {"theta": "Normal", "tau_within": "Gamma", "tau_between": "Gamma", "mu": "Normal"},
    model="""model {
        for (i in 1:6) {
            mu[i] ~ dnorm(theta, tau.btw)
            for (j in 1:5) { y[i, j] ~ dnorm(mu[i], tau.with) }
        }
        theta ~ dnorm(0, 1.0E-10)
        tau.with ~ dgamma(0.001, 0.001)
        tau.btw ~ dgamma(0.001, 0.001)
        sigma2.with <- 1 / tau.with
        sigma.btw <- 1 / sqrt(tau.btw)
    }""",
    # The published mean of sigma2.btw is of a distribution without a mean: its logarithm is none of the table.
    quantities=lambda at: {
        "theta": at["theta"], "sigma2.with": 1 / at["tau_within"], "sigma.btw": at["tau_between"].rsqrt(),
    },
    published={"theta": (1527.0, 22.05, 0.1253), "sigma2.with": (2994.0, 1083.0, 14.05)},
)  # fmt: skip
