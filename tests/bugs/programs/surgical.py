"""Surgical: deaths after cardiac surgery on infants in twelve hospitals, rates apart and rates alike.

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

DATA = {
    "n": numbers([47, 148, 119, 810, 211, 196, 148, 215, 207, 97, 256, 360]),
    "r": numbers([0, 18, 8, 46, 8, 13, 9, 31, 14, 8, 29, 24]),
}


def rates_apart(n, r):
    with pyro.plate("hospital", len(n)):
        p = pyro.sample("p", dist.Beta(n.new_ones(()), 1.0))
        pyro.sample("deaths", dist.Binomial(n, p), obs=r)


def rates_alike(n, r):
    mu = pyro.sample("mu", dist.Normal(n.new_zeros(()), 1000.0))
    tau = pyro.sample("tau", dist.Gamma(n.new_tensor(0.001), 0.001))
    with pyro.plate("hospital", len(n)):
        b = pyro.sample("b", dist.Normal(mu, tau.rsqrt()))
        pyro.sample("deaths", dist.Binomial(n, logits=b), obs=r)


def some(p):
    return {f"p[{i}]": p[..., i - 1] for i in (1, 2, 4, 8, 12)}


surgical_apart = Example(
    rates_apart,
    DATA,
    {"p": "Beta"},
    model="""model {
        for (i in 1:12) {
            p[i] ~ dbeta(1, 1)
            r[i] ~ dbin(p[i], n[i])
        }
    }""",
    quantities=lambda at: some(at["p"]),
    published={
        "p[1]": (0.02059, 0.02002, 1.338e-4), "p[2]": (0.1265, 0.02712, 1.805e-4),
        "p[4]": (0.05782, 0.008108, 5.243e-5),
        "p[8]": (0.1478, 0.02426, 1.638e-4), "p[12]": (0.06897, 0.01324, 9.687e-5),
    },
)  # fmt: skip
surgical_alike = Example(
    rates_alike,
    DATA,
    {"mu": "Normal", "tau": "Gamma", "b": None},
    why={"b": "deaths"},
    model="""model {
        for (i in 1:12) {
            b[i] ~ dnorm(mu, tau)
            logit(p[i]) <- b[i]
            r[i] ~ dbin(p[i], n[i])
        }
        mu ~ dnorm(0, 1.0E-6)
        tau ~ dgamma(0.001, 0.001)
        sigma <- 1 / sqrt(tau)
    }""",
    quantities=lambda at: {"mu": at["mu"], "sigma": at["tau"].rsqrt(), **some(at["b"].sigmoid())},
    published={
        "p[1]": (0.05298, 0.01956, 2.329e-4), "p[2]": (0.1031, 0.02177, 2.08e-4),
        "p[4]": (0.05918, 0.007908, 6.766e-5),
        "p[8]": (0.1231, 0.0223, 2.659e-4), "p[12]": (0.06838, 0.01174, 9.719e-5),
    },
)  # fmt: skip
