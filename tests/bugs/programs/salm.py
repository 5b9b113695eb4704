"""Salm: revertant colonies of Salmonella on plates with quinoline, extra-Poisson variation (Breslow 1984).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers


def salm(x, y):
    wide = dist.Normal(x.new_zeros(()), 1000.0)
    alpha, beta, gamma = (pyro.sample(name, wide) for name in ("alpha", "beta", "gamma"))
    tau = pyro.sample("tau", dist.Gamma(x.new_tensor(0.001), 0.001))
    with pyro.plate("dose", len(y), dim=-2), pyro.plate("plate", y.shape[1], dim=-1):
        extra = pyro.sample("lambda", dist.Normal(x.new_zeros(()), tau.rsqrt()))
        line = alpha + beta * (x + 10).log() + gamma * x / 1000  # the publication's table is of 1000 gamma
        pyro.sample("colonies", dist.Poisson((line.unsqueeze(-1) + extra).exp()), obs=y)


example = Example(
    salm,
    {
        "x": numbers([0, 10, 33, 100, 333, 1000]),
        "y": numbers([[15, 21, 29], [16, 18, 21], [16, 26, 33], [27, 41, 60], [33, 38, 41], [20, 27, 42]]),
    },
    {"alpha": None, "beta": None, "gamma": None, "tau": "Gamma", "lambda": None},
    why=dict.fromkeys(("alpha", "beta", "gamma", "lambda"), "colonies"),
    model="""model {
        for (i in 1:6) {
            for (j in 1:3) {
                lambda[i, j] ~ dnorm(0, tau)
                log(mu[i, j]) <- alpha + beta * log(x[i] + 10) + gamma * x[i] / 1000 + lambda[i, j]
                y[i, j] ~ dpois(mu[i, j])
            }
        }
        alpha ~ dnorm(0, 1.0E-6)
        beta ~ dnorm(0, 1.0E-6)
        gamma ~ dnorm(0, 1.0E-6)
        tau ~ dgamma(0.001, 0.001)
        sigma <- 1 / sqrt(tau)
    }""",
    quantities=lambda at: {
        "alpha": at["alpha"], "beta": at["beta"], "gamma": at["gamma"], "sigma": at["tau"].rsqrt(),
    },
    published={
        "alpha": (2.169, 0.3622, 0.006463), "beta": (0.3112, 0.09932, 0.001864), "gamma": (-0.9711, 0.4455, 0.008753),
        "sigma": (0.2601, 0.08019, 0.001519),
    },
)  # fmt: skip
