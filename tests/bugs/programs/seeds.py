"""Seeds: germination of two kinds of seed on two root extracts, 21 plates (Crowder 1978; Breslow and Clayton 1993).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers


def seeds(n, r, x1, x2):
    wide = dist.Normal(n.new_zeros(()), 1000.0)
    a0, a1, a2, a12 = (pyro.sample(name, wide) for name in ("alpha0", "alpha1", "alpha2", "alpha12"))
    tau = pyro.sample("tau", dist.Gamma(n.new_tensor(0.001), 0.001))
    with pyro.plate("plate", len(n)):
        b = pyro.sample("b", dist.Normal(n.new_zeros(()), tau.rsqrt()))
        pyro.sample("germinated", dist.Binomial(n, logits=a0 + a1 * x1 + a2 * x2 + a12 * x1 * x2 + b), obs=r)


example = Example(
    seeds,
    {
        "n": numbers([39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7]),
        "r": numbers([10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3]),
        "x1": numbers([0] * 11 + [1] * 10),
        "x2": numbers([0] * 5 + [1] * 6 + [0] * 5 + [1] * 5),
    },
    {"alpha0": None, "alpha1": None, "alpha2": None, "alpha12": None, "tau": "Gamma", "b": None},
    why=dict.fromkeys(("alpha0", "alpha1", "alpha2", "alpha12", "b"), "germinated"),
    model="""model {
        for (i in 1:21) {
            b[i] ~ dnorm(0, tau)
            logit(p[i]) <- alpha0 + alpha1 * x1[i] + alpha2 * x2[i] + alpha12 * x1[i] * x2[i] + b[i]
            r[i] ~ dbin(p[i], n[i])
        }
        alpha0 ~ dnorm(0, 1.0E-6)
        alpha1 ~ dnorm(0, 1.0E-6)
        alpha2 ~ dnorm(0, 1.0E-6)
        alpha12 ~ dnorm(0, 1.0E-6)
        tau ~ dgamma(0.001, 0.001)
        sigma <- 1 / sqrt(tau)
    }""",
    quantities=lambda at: {
        **{name: at[name] for name in ("alpha0", "alpha1", "alpha2", "alpha12")}, "sigma": at["tau"].rsqrt(),
    },
)  # fmt: skip
"""Its table in the newer publications is of another prior, sigma uniform up to 10."""
