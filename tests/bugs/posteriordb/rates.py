"""Rate_1 to Rate_5 and Survey: rates of successes (Lee and Wagenmakers 2013)."""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers


def one(n, k):
    theta = pyro.sample("theta", dist.Beta(n.new_ones(()), 1.0))
    with pyro.plate("group", len(n)):
        pyro.sample("k", dist.Binomial(n, theta), obs=k)


def two(n, k):
    with pyro.plate("group", len(n)):
        theta = pyro.sample("theta", dist.Beta(n.new_ones(()), 1.0))
        pyro.sample("k", dist.Binomial(n, theta), obs=k)


def prior_too(n, k):
    pyro.sample("theta_prior", dist.Beta(n.new_ones(()), 1.0))
    one(n, k)


def survey(k):
    theta = pyro.sample("theta", dist.Beta(k.new_ones(()), 1.0))
    n = pyro.sample("n", dist.Categorical(k.new_ones(500))) + 1
    with pyro.plate("survey", len(k)):
        pyro.sample("k", dist.Binomial(n.double(), theta), obs=k)


N, K = numbers([10, 10]), numbers([5, 7])

Rate_1_model = Example(one, {"n": N[:1], "k": K[:1]}, {"theta": "Beta"})
Rate_2_model = Example(two, {"n": N, "k": K}, {"theta": "Beta"})
Rate_3_model = Example(one, {"n": N, "k": K}, {"theta": "Beta"})
Rate_4_model = Example(prior_too, {"n": N[:1], "k": K[:1]}, {"theta_prior": "Beta", "theta": "Beta"})
Survey_model = Example(survey, {"k": numbers([16, 18, 22, 25, 27])}, {"theta": "Beta", "n": "enumeration"})
