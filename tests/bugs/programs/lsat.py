"""Lsat: five items of a test answered by 1000 students, a Rasch model (Bock and Aitkin 1981).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

COUNTS = [3, 6, 2, 11, 1, 1, 3, 4, 1, 8, 0, 16, 0, 3, 2, 15, 10, 29, 14, 81, 3, 28, 15, 80, 16, 56, 21, 173, 11, 61, 28,
          298]  # fmt: skip
"""How many have given each answer, from 00000 to 11111."""


def lsat(y):
    with pyro.plate("item", y.shape[1], dim=-1):
        alpha = pyro.sample("alpha", dist.Normal(y.new_zeros(()), 100.0))
    beta = pyro.sample("beta", dist.HalfNormal(y.new_tensor(100.0)))
    with pyro.plate("student", len(y), dim=-2):
        theta = pyro.sample("theta", dist.Normal(y.new_zeros(()), 1.0))
        with pyro.plate("answer", y.shape[1], dim=-1):
            pyro.sample("right", dist.Bernoulli(logits=beta * theta - alpha), obs=y)


ANSWERS = [[code >> (4 - item) & 1 for item in range(5)] for code, count in enumerate(COUNTS) for _ in range(count)]

example = Example(
    lsat,
    {"y": numbers(ANSWERS)},
    {"alpha": None, "beta": None, "theta": None},
    why={"alpha": "right", "beta": "beta", "theta": "right"},
    model="""model {
        for (j in 1:1000) {
            theta[j] ~ dnorm(0, 1)
            for (k in 1:5) { y[j, k] ~ dbern(ilogit(beta * theta[j] - alpha[k])) }
        }
        for (k in 1:5) {
            alpha[k] ~ dnorm(0, 1.0E-4)
            a[k] <- alpha[k] - mean(alpha)
        }
        beta ~ dnorm(0, 1.0E-4) T(0, )
    }""",
    quantities=lambda at: {
        **{f"a[{k + 1}]": at["alpha"][..., k] - at["alpha"].mean(-1) for k in range(5)}, "beta": at["beta"],
    },
    published={
        "a[1]": (-1.26, 0.1046, 8.884e-4), "a[2]": (0.4785, 0.07034, 5.852e-4), "a[3]": (1.239, 0.06872, 6.93e-4),
        "a[4]": (0.1693, 0.07191, 5.824e-4), "a[5]": (-0.6265, 0.08605, 7.331e-4), "beta": (0.759, 0.0704, 0.001216),
    },
)  # fmt: skip
