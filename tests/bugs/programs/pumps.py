"""Pumps: failures of ten pumps of a power plant (George et al. 1993). BUGS Examples, volume I."""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers


def pumps(t, x):
    alpha = pyro.sample("alpha", dist.Exponential(t.new_ones(())))
    beta = pyro.sample("beta", dist.Gamma(t.new_tensor(0.1), 1.0))
    with pyro.plate("pump", len(t)):
        theta = pyro.sample("theta", dist.Gamma(alpha, beta))
        pyro.sample("failures", dist.Poisson(theta * t), obs=x)


example = Example(
    pumps,
    {
        "t": numbers([94.3, 15.7, 62.9, 126, 5.24, 31.4, 1.05, 1.05, 2.1, 10.5]),
        "x": numbers([5, 1, 5, 14, 3, 19, 1, 1, 4, 22]),
    },
    {"alpha": None, "beta": "Gamma", "theta": "Gamma"},
    why={"alpha": "theta"},  # log Gamma(alpha)
    model="""model {
        for (i in 1:10) {
            theta[i] ~ dgamma(alpha, beta)
            x[i] ~ dpois(theta[i] * t[i])
        }
        alpha ~ dexp(1)
        beta ~ dgamma(0.1, 1)
    }""",
    quantities=lambda at: {
        "alpha": at["alpha"], "beta": at["beta"], "theta[1]": at["theta"][..., 0], "theta[2]": at["theta"][..., 1],
        "theta[9]": at["theta"][..., 8], "theta[10]": at["theta"][..., 9],
    },
    published={
        "alpha": (0.6919, 0.2684, 0.003669), "beta": (0.921, 0.5429, 0.007195),
        "theta[1]": (0.05969, 0.02497, 1.867e-4), "theta[2]": (0.1021, 0.08085, 5.59e-4),
        "theta[9]": (1.588, 0.7679, 0.006662), "theta[10]": (1.995, 0.4259, 0.002895),
    },
)  # fmt: skip
