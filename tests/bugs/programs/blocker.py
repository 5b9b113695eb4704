"""Blocker: 22 trials of beta-blockers after a heart attack, random effects that are Student t or normal (Carlin 1992).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

DATA = {
    "rt": numbers([3, 7, 5, 102, 28, 4, 98, 60, 25, 138, 64, 45, 9, 57, 25, 33, 28, 8, 6, 32, 27, 22]),
    "nt": numbers([38, 114, 69, 1533, 355, 59, 945, 632, 278, 1916, 873, 263, 291, 858, 154, 207, 251, 151, 174, 209,
                   391, 680]),
    "rc": numbers([3, 14, 11, 127, 27, 6, 152, 48, 37, 188, 52, 47, 16, 45, 31, 38, 12, 6, 3, 40, 43, 39]),
    "nc": numbers([39, 116, 93, 1520, 365, 52, 939, 471, 282, 1921, 583, 266, 293, 883, 147, 213, 122, 154, 134, 218,
                   364, 674]),
}  # fmt: skip


def blocker(effect):
    def program(rt, nt, rc, nc):
        d = pyro.sample("d", dist.Normal(rt.new_zeros(()), 1000.0))
        tau = pyro.sample("tau", dist.Gamma(rt.new_tensor(0.001), 0.001))
        pyro.sample("delta_new", effect(d, tau))
        with pyro.plate("trial", len(rt)):
            mu = pyro.sample("mu", dist.Normal(rt.new_zeros(()), 1e5**0.5))
            delta = pyro.sample("delta", effect(d, tau))
            pyro.sample("control", dist.Binomial(nc, logits=mu), obs=rc)
            pyro.sample("treated", dist.Binomial(nt, logits=mu + delta), obs=rt)

    return program


def of(effect, model, families, why, published):
    return Example(
        blocker(effect), DATA, {**families, "mu": None, "delta": None},
        why={"delta": "treated", **why, "mu": "control"},
        model=f"""model {{
            for (i in 1:22) {{
                mu[i] ~ dnorm(0, 1.0E-5)
                delta[i] ~ {model}
                logit(pc[i]) <- mu[i]
                logit(pt[i]) <- mu[i] + delta[i]
                rc[i] ~ dbin(pc[i], nc[i])
                rt[i] ~ dbin(pt[i], nt[i])
            }}
            d ~ dnorm(0, 1.0E-6)
            tau ~ dgamma(0.001, 0.001)
            delta.new ~ {model}
            sigma <- 1 / sqrt(tau)
        }}""",
        quantities=lambda at: {"d": at["d"], "delta.new": at["delta_new"], "sigma": at["tau"].rsqrt()},
        published=published,
    )  # fmt: skip


blocker_student = of(
    lambda d, tau: dist.StudentT(4.0, d, tau.rsqrt()), "dt(d, tau, 4)", {"d": None, "tau": None, "delta_new": None},
    {**dict.fromkeys(("d", "tau", "delta_new"), "delta_new"), "delta": "delta"},
    {"d": (-0.2502, 0.06137, 0.001762), "delta.new": (-0.2501, 0.1443, 0.002002), "sigma": (0.1134, 0.06737, 0.002498)},
)  # fmt: skip
blocker_normal = of(
    lambda d, tau: dist.Normal(d, tau.rsqrt()), "dnorm(d, tau)",
    {"d": "Normal", "tau": "Gamma", "delta_new": "Normal"}, {}, {},
)  # fmt: skip
