"""Litter: pups that survive in 32 litters, beta-binomial (Crowder 1978; Kahn and Raftery 1996).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

BORN = [
    [13, 12, 9, 9, 8, 8, 13, 12, 10, 10, 9, 13, 5, 7, 10, 10],
    [12, 11, 10, 9, 11, 10, 10, 9, 9, 5, 9, 7, 10, 6, 10, 7],
]
ALIVE = [[13, 12, 9, 9, 8, 8, 12, 11, 9, 9, 8, 11, 4, 5, 7, 7], [12, 11, 10, 9, 10, 9, 9, 8, 8, 4, 7, 4, 5, 3, 3, 0]]


def litter(n, r):
    with pyro.plate("group", 2, dim=-2):
        a = pyro.sample("a", dist.Gamma(n.new_ones(()), 0.001))
        b = pyro.sample("b", dist.Gamma(n.new_ones(()), 0.001))
        with pyro.plate("litter", n.shape[1], dim=-1):
            p = pyro.sample("p", dist.Beta(a, b))
            pyro.sample("alive", dist.Binomial(n, p), obs=r)


example = Example(
    litter,
    {"n": numbers(BORN), "r": numbers(ALIVE)},
    {"a": None, "b": None, "p": "Beta"},
    why={"a": "p", "b": "p"},
)
