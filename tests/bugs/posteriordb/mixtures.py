"""Models with a discrete variable: with it, and summed out as Stan has them."""

import pyro
import pyro.distributions as dist
import torch

from tests.bugs.example import Example, numbers

Y = numbers([-1.2, 0.3, 2.5, 1.9, -0.4, 2.2])
CAUGHT = numbers([2, 1, 3, 1, 0, 0, 0, 0])
WORDS, DOCUMENTS = torch.tensor([0, 1, 2, 0, 3, 3, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])


def start(y):
    theta = pyro.sample("theta", dist.Beta(y.new_ones(()), 1.0))
    with pyro.plate("component", 2):
        mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 10.0))
    return theta, mu


def normal_mixture(y):
    theta, mu = start(y)
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Bernoulli(theta)).long()
        pyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def normal_mixture_summed(y):
    theta, mu = start(y)
    with pyro.plate("row", len(y)):
        each = dist.Normal(mu, 1.0)
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.stack([1 - theta, theta])), each), obs=y)


def low_dim_gauss_mix(y):
    low = pyro.sample("mu1", dist.Normal(y.new_zeros(()), 2.0))
    gap = pyro.sample("gap", dist.HalfNormal(y.new_tensor(2.0)))
    with pyro.plate("component", 2):
        sigma = pyro.sample("sigma", dist.HalfNormal(y.new_tensor(2.0)))
    theta = pyro.sample("theta", dist.Beta(y.new_tensor(5.0), 5.0))
    with pyro.plate("row", len(y)):
        each = dist.Normal(torch.stack([low, low + gap]), sigma)
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.stack([theta, 1 - theta])), each), obs=y)


def captures(s):
    omega = pyro.sample("omega", dist.Beta(s.new_ones(()), 1.0))
    p = pyro.sample("p", dist.Beta(s.new_ones(()), 1.0))
    with pyro.plate("animal", len(s)):
        z = pyro.sample("z", dist.Bernoulli(omega))
        pyro.sample("s", dist.Binomial(s.new_tensor(5.0), p * z), obs=s)


def hidden_markov(y):
    with pyro.plate("from", 2):
        theta = pyro.sample("theta", dist.Dirichlet(y.new_ones(2)))
        mu = pyro.sample("mu", dist.Normal(y.new_tensor([3.0, 10.0]), 1.0))
    with pyro.plate("time", len(y)):
        z = pyro.sample("z", dist.Categorical(y.new_full((2,), 0.5)))
        pyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)
    pyro.factor("steps", theta[z[:-1], z[1:]].log().sum(-1))


def topics(w, document):
    with pyro.plate("document", 3):
        theta = pyro.sample("theta", dist.Dirichlet(torch.ones(2, dtype=torch.float64)))
    with pyro.plate("topic", 2):
        phi = pyro.sample("phi", dist.Dirichlet(torch.ones(4, dtype=torch.float64)))
    with pyro.plate("word", len(w)):
        z = pyro.sample("z", dist.Categorical(theta[document]))
        pyro.sample("w", dist.Categorical(phi[z]), obs=w)


ENUMERATED = {"z": "enumeration"}

normal_mixture_model = Example(normal_mixture, {"y": Y}, {"theta": "Beta", "mu": "Normal", **ENUMERATED})
normal_mixture_summed_model = Example(
    normal_mixture_summed, {"y": Y}, {"theta": None, "mu": None}, why={"theta": "y", "mu": "y"}
)  # fmt: skip
low_dim_gauss_mix_model = Example(
    low_dim_gauss_mix, {"y": Y}, dict.fromkeys(("mu1", "gap", "sigma", "theta")),
    why={"mu1": "y", "gap": "gap", "sigma": "sigma", "theta": "y"},
)  # fmt: skip
M0_model = Example(captures, {"s": CAUGHT}, {"omega": "Beta", "p": "Beta", **ENUMERATED})
hmm_example_model = Example(hidden_markov, {"y": 5 + 3 * Y}, {"theta": "Dirichlet", "mu": "Normal", **ENUMERATED})
ldaK2_model = Example(
    topics, {"w": WORDS, "document": DOCUMENTS}, {"theta": "Dirichlet", "phi": "Dirichlet", **ENUMERATED}
)
