"""Epil: seizures of 59 epileptics at four visits, random effects of subjects and visits (Thall and Vail 1990).

BUGS Examples, volume I, model III.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

SEIZURES = [
    [5, 3, 3, 3], [3, 5, 3, 3], [2, 4, 0, 5], [4, 4, 1, 4], [7, 18, 9, 21], [5, 2, 8, 7], [6, 4, 0, 2],
    [40, 20, 21, 12], [5, 6, 6, 5], [14, 13, 6, 0], [26, 12, 6, 22], [12, 6, 8, 4], [4, 4, 6, 2], [7, 9, 12, 14],
    [16, 24, 10, 9], [11, 0, 0, 5], [0, 0, 3, 3], [37, 29, 28, 29], [3, 5, 2, 5], [3, 0, 6, 7], [3, 4, 3, 4],
    [3, 4, 3, 4], [2, 3, 3, 5], [8, 12, 2, 8], [18, 24, 76, 25], [2, 1, 2, 1], [3, 1, 4, 2], [13, 15, 13, 12],
    [11, 14, 9, 8], [8, 7, 9, 4], [0, 4, 3, 0], [3, 6, 1, 3], [2, 6, 7, 4], [4, 3, 1, 3], [22, 17, 19, 16],
    [5, 4, 7, 4], [2, 4, 0, 4], [3, 7, 7, 7], [4, 18, 2, 5], [2, 1, 1, 0], [0, 2, 4, 0], [5, 4, 0, 3],
    [11, 14, 25, 15], [10, 5, 3, 8], [19, 7, 6, 7], [1, 1, 2, 3], [6, 10, 8, 8], [2, 1, 0, 0], [102, 65, 72, 63],
    [4, 3, 2, 4], [8, 6, 5, 7], [1, 3, 1, 5], [18, 11, 28, 13], [6, 3, 4, 0], [3, 5, 4, 3], [1, 23, 19, 8],
    [2, 3, 0, 1], [0, 0, 0, 0], [1, 4, 3, 2],
]  # fmt: skip
BASE = [11, 11, 6, 8, 66, 27, 12, 52, 23, 10, 52, 33, 18, 42, 87, 50, 18, 111, 18, 20, 12, 9, 17, 28, 55, 9, 10, 47, 76,
        38, 19, 10, 19, 24, 31, 14, 11, 67, 41, 7, 22, 13, 46, 36, 38, 7, 36, 11, 151, 22, 41, 32, 56, 24, 16, 22, 25,
        13, 12]  # fmt: skip
AGE = [31, 30, 25, 36, 22, 29, 31, 42, 37, 28, 36, 24, 23, 36, 26, 26, 28, 31, 32, 21, 29, 21, 32, 25, 30, 40, 19, 22,
       18, 32, 20, 30, 18, 24, 30, 35, 27, 20, 22, 28, 23, 40, 33, 21, 35, 25, 26, 25, 22, 32, 25, 35, 21, 41, 32, 26,
       21, 36, 37]  # fmt: skip
COVARIATES = ("alpha_base", "alpha_treatment", "alpha_both", "alpha_age")


def epil(x, v4, y):
    wide = dist.Normal(x.new_zeros(()), 100.0)
    a0, fourth = pyro.sample("a0", wide), pyro.sample("alpha_v4", wide)
    coefficients = [pyro.sample(name, wide) for name in COVARIATES]
    of_visits, of_subjects = (pyro.sample(name, dist.Gamma(x.new_tensor(0.001), 0.001)) for name in ("tau_b", "tau_b1"))
    line = a0 + sum(a * column for a, column in zip(coefficients, x.T, strict=True))
    with pyro.plate("subject", len(y), dim=-2):
        b1 = pyro.sample("b1", dist.Normal(x.new_zeros(()), of_subjects.rsqrt()))
        with pyro.plate("visit", 4, dim=-1):
            b = pyro.sample("b", dist.Normal(x.new_zeros(()), of_visits.rsqrt()))
            pyro.sample("seizures", dist.Poisson((line.unsqueeze(-1) + fourth * v4 + b1 + b).exp()), obs=y)


def data():
    base, treated = (numbers(BASE) / 4).log(), numbers([0] * 28 + [1] * 31)
    x = torch_columns(base, treated, treated * base, numbers(AGE).log())
    v4 = numbers([0, 0, 0, 1])
    return {"x": x - x.mean(0), "v4": v4 - v4.mean(), "y": numbers(SEIZURES)}


def torch_columns(*columns):
    return numbers([each.tolist() for each in columns]).T.contiguous()


example = Example(
    epil,
    data(),
    {**dict.fromkeys(("a0", "alpha_v4", *COVARIATES, "b1", "b")), "tau_b": "Gamma", "tau_b1": "Gamma"},
    why=dict.fromkeys(("a0", "alpha_v4", *COVARIATES, "b1", "b"), "seizures"),
    model="""model {
        for (i in 1:59) {
            for (k in 1:4) {
                log(mu[i, k]) <- a0 + alpha.Base * x[i, 1] + alpha.Trt * x[i, 2] + alpha.BT * x[i, 3] +
                    alpha.Age * x[i, 4] + alpha.V4 * v4[k] + b1[i] + b[i, k]
                y[i, k] ~ dpois(mu[i, k])
                b[i, k] ~ dnorm(0, tau.b)
            }
            b1[i] ~ dnorm(0, tau.b1)
        }
        a0 ~ dnorm(0, 1.0E-4)
        alpha.Base ~ dnorm(0, 1.0E-4)
        alpha.Trt ~ dnorm(0, 1.0E-4)
        alpha.BT ~ dnorm(0, 1.0E-4)
        alpha.Age ~ dnorm(0, 1.0E-4)
        alpha.V4 ~ dnorm(0, 1.0E-4)
        tau.b ~ dgamma(0.001, 0.001)
        tau.b1 ~ dgamma(0.001, 0.001)
        sigma.b <- 1 / sqrt(tau.b)
        sigma.b1 <- 1 / sqrt(tau.b1)
    }""",
    quantities=lambda at: {
        "alpha.Base": at["alpha_base"], "alpha.Trt": at["alpha_treatment"], "alpha.BT": at["alpha_both"],
        "alpha.Age": at["alpha_age"], "alpha.V4": at["alpha_v4"], "sigma.b": at["tau_b"].rsqrt(),
        "sigma.b1": at["tau_b1"].rsqrt(),
    },
    published={
        "alpha.Base": (0.8725, 0.1334, 0.004702), "alpha.Trt": (-0.9468, 0.4346, 0.01561),
        "alpha.BT": (0.3433, 0.2183, 0.009243), "alpha.Age": (0.4549, 0.3787, 0.01157),
        "alpha.V4": (-0.1039, 0.08718, 0.001267), "sigma.b": (0.3629, 0.04394, 0.00115),
        "sigma.b1": (0.4995, 0.07083, 0.001337),
    },
)  # fmt: skip
