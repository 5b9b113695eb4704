"""Kidney: infections of 38 patients at a catheter, Weibull regression with frailties (McGilchrist and Aisbett 1991).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, censored, later, numbers

DAYS = [8, 16, 23, 13, 22, 28, 447, 318, 30, 12, 24, 245, 7, 9, 511, 30, 53, 196, 15, 154, 7, 333, 141, 8, 96, 38, 149,
        70, 536, 25, 17, 4, 185, 177, 292, 114, 22, 159, 15, 108, 152, 562, 402, 24, 13, 66, 39, 46, 12, 40, 113, 201,
        132, 156, 34, 30, 2, 25, 130, 26, 27, 58, 5, 43, 152, 30, 190, 5, 119, 8, 54, 16, 6, 78, 63, 8]  # fmt: skip
INFECTED = [int(each) for each in "1110111111111111111111101100101011110010111011101101111111111101111011000110"]
AGE = [28, 28, 48, 48, 32, 32, 31, 32, 10, 10, 16, 17, 51, 51, 55, 56, 69, 69, 51, 52, 44, 44, 34, 34, 35, 35, 42,
       42, 17, 17, 60, 60, 60, 60, 43, 44, 53, 53, 44, 44, 46, 47, 30, 30, 62, 63, 42, 43, 43, 43, 57, 58, 10, 10,
       52, 52, 53, 53, 54, 54, 56, 56, 50, 51, 57, 57, 44, 45, 22, 22, 42, 42, 52, 52, 60, 60]  # fmt: skip
FEMALE = [int(each) for each in "01010101101111101111011101110111111110"]
DISEASE = [int(each) for each in "12111122323133131121413333232233421144"]
"""Of each patient: 1 other, 2 glomerulonephritis, 3 acute nephritis, 4 polycystic kidney disease."""


def kidney(t, seen, age, female, disease):
    wide = dist.Normal(t.new_zeros(()), 100.0)
    alpha, of_age, of_sex = (pyro.sample(name, wide) for name in ("alpha", "beta_age", "beta_sex"))
    with pyro.plate("other", 3, dim=-1):
        of_disease = pyro.sample("beta_disease", wide)
    tau = pyro.sample("tau", dist.Gamma(t.new_tensor(0.001), 0.001))
    r = pyro.sample("r", dist.Gamma(t.new_ones(()), 0.001))
    with pyro.plate("patient", len(t), dim=-2):
        b = pyro.sample("b", dist.Normal(t.new_zeros(()), tau.rsqrt()))
        log_mu = alpha + of_age * age + ((of_sex * female) + disease @ of_disease).unsqueeze(-1) + b
        pyro.factor("times", seen * (log_mu + r.log() + (r - 1) * t.log()) - log_mu.exp() * t**r)


SITES = ("alpha", "beta_age", "beta_sex", "beta_disease", "r", "b")
T, SEEN = numbers(DAYS).reshape(38, 2), numbers(INFECTED).reshape(38, 2)
COVARIATES = {
    "age": numbers(AGE).reshape(38, 2), "female": numbers(FEMALE),
    "disease": numbers([[kind == k for k in (2, 3, 4)] for kind in DISEASE]),
}  # fmt: skip

example = Example(
    kidney,
    {"t": T, "seen": SEEN, **COVARIATES},
    {**dict.fromkeys(SITES), "tau": "Gamma"},
    why=dict.fromkeys(SITES, "times"),
    model="""model {
        for (i in 1:38) {
            for (j in 1:2) {
                log(mu[i, j]) <- alpha + beta.age * age[i, j] + beta.sex * female[i] + b[i] +
                    beta.dis[2] * disease[i, 1] + beta.dis[3] * disease[i, 2] + beta.dis[4] * disease[i, 3]
                censored[i, j] ~ dinterval(t[i, j], last[i, j])
                t[i, j] ~ dweib(r, mu[i, j])
            }
            b[i] ~ dnorm(0, tau)
        }
        alpha ~ dnorm(0, 1.0E-4)
        beta.age ~ dnorm(0, 1.0E-4)
        beta.sex ~ dnorm(0, 1.0E-4)
        for (k in 2:4) { beta.dis[k] ~ dnorm(0, 1.0E-4) }
        r ~ dgamma(1, 0.001)
        tau ~ dgamma(0.001, 0.001)
        sigma <- 1 / sqrt(tau)
    }""",
    model_data={**censored(T, SEEN), **COVARIATES},
    starts={"t": later(T, SEEN), "r": numbers(1.0)},
    quantities=lambda at: {
        "alpha": at["alpha"], "beta.age": at["beta_age"], "beta.sex": at["beta_sex"], "r": at["r"],
        "sigma": at["tau"].rsqrt(), **{f"beta.dis[{k}]": at["beta_disease"][..., k - 2] for k in (2, 3, 4)},
    },
    published={
        "alpha": (-4.826, 1.011, 0.05058), "beta.age": (0.003459, 0.01633, 4.053e-4),
        "beta.sex": (-2.053, 0.5507, 0.02239), "beta.dis[2]": (0.1652, 0.5986, 0.01617),
        "beta.dis[3]": (0.693, 0.6033, 0.01775), "beta.dis[4]": (-1.193, 0.899, 0.0253),
        "r": (1.274, 0.1892, 0.01209), "sigma": (0.7332, 0.3979, 0.02343),
    },
)  # fmt: skip
