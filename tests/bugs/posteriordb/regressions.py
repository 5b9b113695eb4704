"""Normal regressions, with the scale itself as the parameter: coefficients have a family, the scale has none."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

from tests.bugs.example import Example

CHANCE = torch.Generator().manual_seed(1)


def noise(*shape):
    return torch.randn(*shape, generator=CHANCE, dtype=torch.float64)


X, Y = noise(12, 2), 3 + noise(12)
GROUP = torch.arange(12) % 3


def flat(name, like, size, support=constraints.real):
    return pyro.sample(name, dist.ImproperUniform(support, (), (size,) if size else ()))


def on(x, y, mean, sigma):
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mean, sigma), obs=y)


def kidscore_momiq(x, y):
    beta, sigma = flat("beta", y, 2), pyro.sample("sigma", dist.HalfCauchy(y.new_tensor(2.5)))
    on(x, y, beta[0] + beta[1] * x[:, 0], sigma)


def earn_height(x, y):
    beta, sigma = flat("beta", y, 2), flat("sigma", y, 0, constraints.positive)
    on(x, y, beta[0] + beta[1] * x[:, 0], sigma)


def blr(x, y):
    beta = pyro.sample("beta", dist.Normal(y.new_zeros(2), 10.0).to_event(1))
    on(x, y, x @ beta, pyro.sample("sigma", dist.HalfNormal(y.new_tensor(10.0))))


def ark(x, y):
    alpha = pyro.sample("alpha", dist.Normal(y.new_zeros(()), 10.0))
    with pyro.plate("lag", 3):
        beta = pyro.sample("beta", dist.Normal(y.new_zeros(()), 10.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(y.new_tensor(2.5)))
    before = torch.stack([y[2 - k : len(y) - 1 - k] for k in range(3)], -1)
    on(x, y[3:], alpha + before @ beta, sigma)


def radon_intercept(x, y):
    spreads = [pyro.sample(name, dist.HalfNormal(y.new_ones(()))) for name in ("sigma_alpha", "sigma_y")]
    mu = pyro.sample("mu_alpha", dist.Normal(y.new_zeros(()), 10.0))
    beta = pyro.sample("beta", dist.Normal(y.new_zeros(2), 10.0).to_event(1))
    with pyro.plate("county", 3):
        alpha = pyro.sample("alpha", dist.Normal(mu, spreads[0]))
    on(x, y, alpha[GROUP] + x @ beta, spreads[1])


def pilots(x, y):
    spreads = [pyro.sample(f"sigma_{name}", dist.Uniform(y.new_zeros(()), 100.0)) for name in "aby"]
    means = [10 * pyro.sample(f"mu_{name}", dist.Normal(y.new_zeros(()), 1.0)) for name in "ab"]
    with pyro.plate("group", 3):
        a = pyro.sample("a", dist.Normal(means[0], spreads[0]))
    with pyro.plate("scenario", 4):
        b = pyro.sample("b", dist.Normal(means[1], spreads[1]))
    on(x, y, a[GROUP] + b[torch.arange(12) // 3], spreads[2])


def dugongs(x, y):
    x = x[:, 0].exp()
    alpha, beta = (pyro.sample(name, dist.Normal(y.new_zeros(()), 1000.0)) for name in ("alpha", "beta"))
    rate = pyro.sample("lambda", dist.Uniform(y.new_tensor(0.5), 1.0))
    on(x, y, alpha - beta * rate**x, pyro.sample("tau", dist.Gamma(y.new_tensor(1e-4), 1e-4)).rsqrt())


def of(program, families, why):
    return Example(program, {"x": X, "y": Y}, families, why=why)


SIGMA = {"sigma": None}

kidscore_momiq_model = of(kidscore_momiq, {"beta": "Normal of 2", **SIGMA}, {"sigma": "sigma"})
earn_height_model = of(earn_height, {"beta": "Normal of 2", **SIGMA}, {"sigma": "y"})
blr_model = of(blr, {"beta": "Normal of 2", **SIGMA}, {"sigma": "sigma"})
arK_model = of(ark, {"alpha": "Normal", "beta": "Normal of 3", **SIGMA}, {"sigma": "sigma"})
radon_hierarchical_intercept_centered_model = of(
    radon_intercept,
    {"sigma_alpha": None, "sigma_y": None, "mu_alpha": "Normal", "beta": "Normal of 2", "alpha": "Normal"},
    {"sigma_alpha": "sigma_alpha", "sigma_y": "sigma_y"},
)
pilots_model = of(
    pilots,
    {**dict.fromkeys(("sigma_a", "sigma_b", "sigma_y")), **dict.fromkeys(("mu_a", "mu_b", "a", "b"), "Normal")},
    dict.fromkeys(("sigma_a", "sigma_b", "sigma_y"), "Interval"),
)
dugongs_model = of(
    dugongs, {"alpha": "Normal", "beta": "Normal", "lambda": None, "tau": "Gamma"}, {"lambda": "Interval"}
)
