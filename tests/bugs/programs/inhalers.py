"""Inhalers: how clear a leaflet is, four ordered answers in a cross-over trial (Ezzet and Whitehead 1991).

BUGS Examples, volume I; cut points are sorted normal variables, as JAGS has them.
"""

import pyro
import pyro.distributions as dist
import torch

from tests.bugs.example import Example, numbers

FIRST = {
    (1, 1): 59,
    (1, 2): 35,
    (1, 3): 3,
    (1, 4): 2,
    (2, 1): 11,
    (2, 2): 27,
    (2, 3): 2,
    (2, 4): 1,
    (4, 1): 1,
    (4, 2): 1,
}
SECOND = {(1, 1): 63, (1, 2): 13, (2, 1): 40, (2, 2): 15, (3, 1): 7, (3, 2): 2, (3, 3): 1, (4, 1): 2, (4, 3): 1}
"""Answers in both periods -> how many gave them, of those who began with one inhaler and with the other."""


def inhalers(treat, y):
    wide = dist.Normal(treat.new_zeros(()), 1000.0)
    beta, period, kappa = (pyro.sample(name, wide) for name in ("beta", "pi", "kappa"))
    tau = pyro.sample("tau", dist.Gamma(treat.new_tensor(0.001), 0.001))
    with pyro.plate("cut", 3):
        cuts = pyro.sample("a0", wide).sort(-1).values
    when = treat.new_tensor([1.0, -1.0])
    carried = torch.stack([torch.zeros_like(treat[:, 0]), -treat[:, 0]], -1)
    with pyro.plate("patient", len(y), dim=-2):
        b = pyro.sample("b", dist.Normal(treat.new_zeros(()), tau.rsqrt()))
        with pyro.plate("period", 2, dim=-1):
            effect = beta * treat / 2 + period * when / 2 + kappa * carried
            worse = torch.sigmoid(-(cuts + (effect + b).unsqueeze(-1)))  # the chance of an answer beyond each cut
            beyond = torch.cat([torch.ones_like(worse[..., :1]), worse, torch.zeros_like(worse[..., :1])], -1)
            pyro.sample("answer", dist.Categorical(beyond[..., :-1] - beyond[..., 1:]), obs=y)


def data():
    rows = [
        (s, *answers) for s, counts in ((1, FIRST), (-1, SECOND)) for answers, n in counts.items() for _ in range(n)
    ]
    return {"treat": numbers([[s, -s] for s, *_ in rows]), "y": numbers([answers for _, *answers in rows]) - 1}


DATA = data()

example = Example(
    inhalers,
    DATA,
    {"beta": None, "pi": None, "kappa": None, "tau": "Gamma", "a0": None, "b": None},
    why=dict.fromkeys(("beta", "pi", "kappa", "a0", "b"), "answer"),
    model="""model {
        for (i in 1:286) {
            for (t in 1:2) {
                for (j in 1:3) { logit(q[i, t, j]) <- -(a[j] + mu[i, t] + b[i]) }
                p[i, t, 1] <- 1 - q[i, t, 1]
                p[i, t, 2] <- q[i, t, 1] - q[i, t, 2]
                p[i, t, 3] <- q[i, t, 2] - q[i, t, 3]
                p[i, t, 4] <- q[i, t, 3]
                answer[i, t] ~ dcat(p[i, t, 1:4])
            }
            mu[i, 1] <- beta * treat[i, 1] / 2 + pi / 2
            mu[i, 2] <- beta * treat[i, 2] / 2 - pi / 2 - kappa * treat[i, 1]
            b[i] ~ dnorm(0, tau)
        }
        for (j in 1:3) { a0[j] ~ dnorm(0, 1.0E-6) }
        a <- sort(a0)
        beta ~ dnorm(0, 1.0E-6)
        pi ~ dnorm(0, 1.0E-6)
        kappa ~ dnorm(0, 1.0E-6)
        tau ~ dgamma(0.001, 0.001)
        sigma <- 1 / sqrt(tau)
    }""",
    model_data={"treat": DATA["treat"], "answer": DATA["y"] + 1},
    starts={"a0": numbers([1, 4, 5])},
    quantities=lambda at: {
        **{f"a[{j + 1}]": at["a0"].sort(-1).values[..., j] for j in range(3)}, "beta": at["beta"],
        "kappa": at["kappa"], "pi": at["pi"], "sigma": at["tau"].rsqrt(),
    },
    published={
        "a[1]": (0.7122, 0.1386, 0.003335), "a[2]": (3.935, 0.3323, 0.01253), "a[3]": (5.284, 0.4761, 0.01471),
        "beta": (1.065, 0.3336, 0.009996), "kappa": (0.2505, 0.2591, 0.007559), "pi": (-0.2416, 0.1981, 0.002443),
        "sigma": (1.239, 0.254, 0.0131),
    },
)  # fmt: skip
