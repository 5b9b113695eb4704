"""Eight schools (Rubin 1981), centred and not."""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

DATA = {"y": numbers([28, 8, -3, 7, -1, 1, 18, 12]), "sigma": numbers([15, 10, 16, 11, 9, 11, 10, 18])}


def both(y):
    mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 5.0))
    return mu, pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))


def eight_schools_centered(y, sigma):
    mu, tau = both(y)
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def eight_schools_noncentered(y, sigma):
    mu, tau = both(y)
    with pyro.plate("school", len(y)):
        trans = pyro.sample("theta_trans", dist.Normal(y.new_zeros(()), 1.0))
        pyro.sample("y", dist.Normal(mu + tau * trans, sigma), obs=y)


eight_schools_centered_model = Example(
    eight_schools_centered, DATA, {"mu": "Normal", "tau": None, "theta": "Normal"}, why={"tau": "tau"}
)  # fmt: skip
eight_schools_noncentered_model = Example(
    eight_schools_noncentered, DATA, {"mu": "Normal", "tau": None, "theta_trans": "Normal"}, why={"tau": "tau"}
)  # fmt: skip
