"""Mice: survival of 80 mice in four groups, Weibull regression with censoring (Dellaportas and Smith 1993).

BUGS Examples, volume I. The second time is 1 there, and its table is of that; the article has 17.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, censored, later, numbers

TIMES = [
    [12, 1, 21, 25, 11, 26, 27, 30, 13, 12, 21, 20, 23, 25, 23, 29, 35, -40, 31, 36],
    [32, 27, 23, 12, 18, -40, -40, 38, 29, 30, -40, 32, -40, -40, -40, -40, 25, 30, 37, 27],
    [22, 26, -10, 28, 19, 15, 12, 35, 35, 10, 22, 18, -24, 12, -40, -40, 31, 24, 37, 29],
    [27, 18, 22, 13, 18, 29, 28, -20, 16, 22, 26, 19, -29, -10, 17, 28, 26, 12, 17, 26],
]
"""Weeks; less than 0: alive when last seen."""


def mice(t, dead):
    r = pyro.sample("r", dist.Exponential(t.new_tensor(0.001)))
    with pyro.plate("group", 4, dim=-2):
        beta = pyro.sample("beta", dist.Normal(t.new_zeros(()), 0.001**-0.5))
        # log density of the dead, log survival of the rest
        hazard = beta + r.log() + (r - 1) * t.log()
        pyro.factor("times", dead * hazard - beta.exp() * t**r)


T, DEAD = numbers(TIMES).abs(), (numbers(TIMES) > 0).double()

example = Example(
    mice,
    {"t": T, "dead": DEAD},
    {"r": None, "beta": None},
    why={"r": "times", "beta": "times"},
    model="""model {
        for (i in 1:4) {
            for (j in 1:20) {
                censored[i, j] ~ dinterval(t[i, j], last[i, j])
                t[i, j] ~ dweib(r, exp(beta[i]))
            }
            beta[i] ~ dnorm(0, 0.001)
        }
        r ~ dexp(0.001)
        veh.control <- beta[2] - beta[1]
        test.sub <- beta[3] - beta[1]
        pos.control <- beta[4] - beta[1]
    }""",
    model_data=censored(T, DEAD),
    starts={"t": later(T, DEAD), "r": numbers(1.0)},
    quantities=lambda at: {
        "r": at["r"],
        **{
            name: at["beta"][..., i, 0] - at["beta"][..., 0, 0]
            for i, name in enumerate(("veh.control", "test.sub", "pos.control"), 1)
        },
    },
    published={
        "r": (2.951, 0.294, 0.01766), "veh.control": (-1.135, 0.369, 0.005432), "test.sub": (-0.3474, 0.3421, 0.003402),
        "pos.control": (0.3228, 0.3439, 0.004274),
    },
)  # fmt: skip
