"""Regressions of counts and answers: no coefficient has a family, precisions of normal effects have."""

import pyro
import pyro.distributions as dist
import torch

from tests.bugs.example import Example, numbers

X = torch.linspace(-1, 1, 8, dtype=torch.float64)
COUNTS = numbers([3, 1, 4, 1, 5, 9, 2, 6])


def glm_poisson(x, y):
    alpha = pyro.sample("alpha", dist.Uniform(x.new_tensor(-20.0), 20.0))
    beta = [pyro.sample(f"beta{k}", dist.Uniform(x.new_tensor(-10.0), 10.0)) for k in (1, 2, 3)]
    with pyro.plate("year", len(x)):
        pyro.sample("y", dist.Poisson((alpha + sum(b * x**k for k, b in enumerate(beta, 1))).exp()), obs=y)


def glm_binomial(x, y):
    alpha, *beta = (pyro.sample(name, dist.Normal(x.new_zeros(()), 100.0)) for name in ("alpha", "beta1", "beta2"))
    with pyro.plate("year", len(x)):
        logits = alpha + beta[0] * x + beta[1] * x**2
        pyro.sample("y", dist.Binomial(x.new_tensor(10.0), logits=logits), obs=y)


def wells_dist(x, y):
    beta = pyro.sample("beta", dist.Normal(x.new_zeros(2), 1e3).to_event(1))
    with pyro.plate("well", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=beta[0] + beta[1] * x), obs=(y > 3).double())


def glmm_poisson(x, y):
    mu = pyro.sample("mu_alpha", dist.Normal(x.new_zeros(()), 10.0))
    sd = pyro.sample("sd_alpha", dist.Uniform(x.new_zeros(()), 5.0))
    with pyro.plate("site", len(x)):
        alpha = pyro.sample("alpha", dist.Normal(mu, sd))
        pyro.sample("y", dist.Poisson(alpha.exp()), obs=y)


def of(program, families, whose="y", **why):
    refused = {site: why.get(site, whose) for site, family in families.items() if family is None}
    return Example(program, {"x": X, "y": COUNTS}, families, why=refused)


GLM_Poisson_model = of(glm_poisson, dict.fromkeys(("alpha", "beta1", "beta2", "beta3")), "Interval")
GLM_Binomial_model = of(glm_binomial, dict.fromkeys(("alpha", "beta1", "beta2")))
wells_dist_model = of(wells_dist, {"beta": None})
GLMM1_model = of(glmm_poisson, {"mu_alpha": "Normal", "sd_alpha": None, "alpha": None}, sd_alpha="Interval")
