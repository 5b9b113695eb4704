"""Leuk: remission of 42 patients with leukaemia, Cox regression as a counting process (Gehan 1965; Clayton 1994).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

CONTROL = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
FAILED = [1] * 21 + [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
TIMES = [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 22, 23, 35]


def leuk(risk, jumps, z, width):
    beta = pyro.sample("beta", dist.Normal(z.new_zeros(()), 1000.0))
    with pyro.plate("time", len(width), dim=-1):
        hazard = pyro.sample("hazard", dist.Gamma(0.1 * width * 0.001, z.new_tensor(0.001)))
        with pyro.plate("patient", len(z), dim=-2):
            rate = (beta * z).exp().unsqueeze(-1) * hazard
            pyro.sample("failure", dist.Poisson(rate).mask(risk > 0), obs=jumps)


def data():
    seen, t = numbers(CONTROL + TREATED).unsqueeze(-1), numbers(TIMES)
    risk = (seen >= t[:-1]).double()
    jumps = risk * (seen < t[1:]) * numbers(FAILED).unsqueeze(-1)
    return {"risk": risk, "jumps": jumps, "z": numbers([0.5] * 21 + [-0.5] * 21), "width": t[1:] - t[:-1]}


def survival(at, z, count):
    return (-at["hazard"][..., :count].sum(-1) * (at["beta"] * z).exp()).exp()


example = Example(
    leuk,
    data(),
    {"beta": None, "hazard": "Gamma"},
    why={"beta": "failure"},
    model="""model {
        for (j in 1:17) {
            for (i in 1:42) { jumps[i, j] ~ dpois(risk[i, j] * exp(beta * z[i]) * hazard[j]) }
            hazard[j] ~ dgamma(0.1 * width[j] * 0.001, 0.001)
        }
        beta ~ dnorm(0, 1.0E-6)
        S.treat[1] <- pow(exp(-sum(hazard[1:1])), exp(beta * -0.5))
        S.treat[9] <- pow(exp(-sum(hazard[1:9])), exp(beta * -0.5))
        S.placebo[9] <- pow(exp(-sum(hazard[1:9])), exp(beta * 0.5))
        S.placebo[17] <- pow(exp(-sum(hazard[1:17])), exp(beta * 0.5))
    }""",
    quantities=lambda at: {
        "beta": at["beta"], "S.treat[1]": survival(at, -0.5, 1), "S.treat[9]": survival(at, -0.5, 9),
        "S.placebo[9]": survival(at, 0.5, 9), "S.placebo[17]": survival(at, 0.5, 17),
    },
    published={
        "beta": (1.542, 0.4165, 0.005079), "S.treat[1]": (0.9826, 0.01388, 1.191e-4),
        "S.treat[9]": (0.8026, 0.06854, 7.908e-4), "S.placebo[9]": (0.3798, 0.09312, 6.452e-4),
        "S.placebo[17]": (0.04396, 0.03866, 3.223e-4),
    },
)  # fmt: skip
