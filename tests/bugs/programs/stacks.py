"""Stacks: oxidation of ammonia on 21 days, a regression with errors of several kinds (Brownlee 1965).

BUGS Examples, volume I: normal, double exponential and Student t errors, and coefficients that shrink.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

AIR = [80, 80, 75, 62, 62, 62, 62, 62, 58, 58, 58, 58, 58, 58, 50, 50, 50, 50, 50, 56, 70]
WATER = [27, 27, 25, 24, 22, 23, 24, 24, 23, 18, 18, 17, 18, 19, 18, 18, 19, 19, 20, 20, 20]
ACID = [89, 88, 90, 87, 87, 87, 93, 93, 87, 80, 89, 88, 82, 93, 89, 86, 72, 79, 80, 82, 91]
LOSS = [42, 37, 37, 28, 18, 18, 19, 20, 15, 14, 14, 13, 11, 12, 8, 7, 8, 8, 9, 15, 15]


def stacks(error, shrink=False):
    def program(x, y):
        z = (x - x.mean(0)) / x.std(0)
        scale = y.new_tensor(1e5).sqrt()
        if shrink:
            scale = pyro.sample("phi", dist.Gamma(y.new_tensor(0.01), 0.01)).rsqrt()
        beta0 = pyro.sample("beta0", dist.Normal(y.new_zeros(()), 1e5**0.5))
        with pyro.plate("column", 3):
            beta = pyro.sample("beta", dist.Normal(y.new_zeros(()), scale))
        tau = pyro.sample("tau", dist.Gamma(y.new_tensor(0.001), 0.001))
        with pyro.plate("day", len(y)):
            pyro.sample("loss", error(beta0 + z @ beta, tau), obs=y)

    return program


def scaled(*values):
    return dict(zip(("beta[1]", "beta[2]", "beta[3]", "sigma"), values, strict=True))


def of(error, model, families, spread, published, shrink=False, why=None):
    prior = "phi" if shrink else "1.0E-5"
    return Example(
        stacks(error, shrink),
        {"x": numbers([AIR, WATER, ACID]).T.contiguous(), "y": numbers(LOSS)},
        families,
        why=why or {},
        model=f"""model {{
            for (j in 1:3) {{
                for (i in 1:21) {{ z[i, j] <- (x[i, j] - mean(x[, j])) / sd(x[, j]) }}
                beta[j] ~ dnorm(0, {prior})
            }}
            for (i in 1:21) {{
                mu[i] <- beta0 + beta[1] * z[i, 1] + beta[2] * z[i, 2] + beta[3] * z[i, 3]
                y[i] ~ {model[0]}
            }}
            beta0 ~ dnorm(0, 1.0E-5)
            tau ~ dgamma(0.001, 0.001)
            {"phi ~ dgamma(0.01, 0.01)" if shrink else ""}
            sigma <- {model[1]}
        }}""",
        quantities=lambda at: scaled(*at["beta"].unbind(-1), spread(at["tau"])),
        published=published,
    )


def normal_error(mean, tau):
    return dist.Normal(mean, tau.rsqrt())


CONJUGATE = {"beta0": "Normal", "beta": "Normal of 3", "tau": "Gamma"}

stacks_normal = of(
    normal_error, ("dnorm(mu[i], tau)", "1 / sqrt(tau)"), CONJUGATE, lambda tau: tau.rsqrt(),
    scaled((6.522, 1.324, 0.02055), (4.137, 1.25, 0.01914), (-0.8231, 0.8903, 0.008174), (3.385, 0.6299, 0.005702)),
)  # fmt: skip
stacks_double_exponential = of(
    lambda mean, tau: dist.Laplace(mean, 1 / tau), ("ddexp(mu[i], tau)", "sqrt(2) / tau"),
    {"beta0": None, "beta": None, "tau": "Gamma"}, lambda tau: 2**0.5 / tau,
    scaled((7.603, 1.231, 0.0301), (2.408, 1.092, 0.02558), (-0.6172, 0.6491, 0.01069), (3.513, 0.8782, 0.00937)),
    why={"beta0": "loss", "beta": "loss"},
)  # fmt: skip
stacks_student = of(
    lambda mean, tau: dist.StudentT(4.0, mean, tau.rsqrt()), ("dt(mu[i], tau, 4)", "sqrt(2 / tau)"),
    {"beta0": None, "beta": None, "tau": None}, lambda tau: (2 / tau).sqrt(),
    scaled((7.651, 1.238, 0.02137), (2.732, 1.118, 0.02009), (-0.676, 0.7123, 0.006413), (3.597, 0.8456, 0.01032)),
    why={"beta0": "loss", "beta": "loss", "tau": "loss"},
)  # fmt: skip
stacks_ridge = of(
    normal_error, ("dnorm(mu[i], tau)", "1 / sqrt(tau)"), {**CONJUGATE, "phi": "Gamma"}, lambda tau: tau.rsqrt(),
    scaled((6.245, 1.267, 0.01829), (4.161, 1.172, 0.01634), (-0.67, 0.8774, 0.007669), (3.393, 0.6251, 0.00581)),
    shrink=True,
)  # fmt: skip
