"""Equiv: bioequivalence of two tablets in a cross-over trial (Gelfand et al. 1990). BUGS Examples, volume I."""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers


def equiv(group, y):
    mu, phi, period = (pyro.sample(name, dist.Normal(y.new_zeros(()), 1000.0)) for name in ("mu", "phi", "pi"))
    tau1, tau2 = (pyro.sample(name, dist.Gamma(y.new_tensor(0.001), 0.001)) for name in ("tau1", "tau2"))
    when = y.new_tensor([1.0, -1.0])
    with pyro.plate("subject", len(y), dim=-2):
        delta = pyro.sample("delta", dist.Normal(y.new_zeros(()), tau2.rsqrt()))
        with pyro.plate("period", 2, dim=-1):
            mean = mu + group.unsqueeze(-1) * when * phi / 2 + when * period / 2 + delta
            pyro.sample("response", dist.Normal(mean, tau1.rsqrt()), obs=y)


example = Example(
    equiv,
    {
        "group": numbers([1, 1, -1, -1, -1, 1, 1, 1, -1, -1]),
        "y": numbers([
            [1.40, 1.65], [1.64, 1.57], [1.44, 1.58], [1.36, 1.68], [1.65, 1.69],
            [1.08, 1.31], [1.09, 1.43], [1.25, 1.44], [1.25, 1.39], [1.30, 1.52],
        ]),
    },
    {"mu": "Normal", "phi": "Normal", "pi": "Normal", "tau1": "Gamma", "tau2": "Gamma", "delta": "Normal"},
    model="""model {
        for (i in 1:10) {
            y[i, 1] ~ dnorm(mu + group[i] * phi / 2 + pi / 2 + delta[i], tau1)
            y[i, 2] ~ dnorm(mu - group[i] * phi / 2 - pi / 2 + delta[i], tau1)
            delta[i] ~ dnorm(0, tau2)
        }
        mu ~ dnorm(0, 1.0E-6)
        phi ~ dnorm(0, 1.0E-6)
        pi ~ dnorm(0, 1.0E-6)
        tau1 ~ dgamma(0.001, 0.001)
        tau2 ~ dgamma(0.001, 0.001)
        sigma1 <- 1 / sqrt(tau1)
    }""",
    quantities=lambda at: {"mu": at["mu"], "phi": at["phi"], "pi": at["pi"], "sigma1": at["tau1"].rsqrt()},
    published={
        "mu": (1.435, 0.05454, 0.001215), "phi": (-0.00831, 0.05175, 3.726e-4), "pi": (-0.1806, 0.05165, 3.662e-4),
    },
)  # fmt: skip
