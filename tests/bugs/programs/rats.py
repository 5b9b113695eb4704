"""Rats: weights of 30 young rats in five weeks, a line of its own for each (Gelfand et al. 1990).

BUGS Examples, volume I.
"""

import pyro
import pyro.distributions as dist

from tests.bugs.example import Example, numbers

WEIGHTS = [
    [151, 199, 246, 283, 320], [145, 199, 249, 293, 354], [147, 214, 263, 312, 328], [155, 200, 237, 272, 297],
    [135, 188, 230, 280, 323], [159, 210, 252, 298, 331], [141, 189, 231, 275, 305], [159, 201, 248, 297, 338],
    [177, 236, 285, 350, 376], [134, 182, 220, 260, 296], [160, 208, 261, 313, 352], [143, 188, 220, 273, 314],
    [154, 200, 244, 289, 325], [171, 221, 270, 326, 358], [163, 216, 242, 281, 312], [160, 207, 248, 288, 324],
    [142, 187, 234, 280, 316], [156, 203, 243, 283, 317], [157, 212, 259, 307, 336], [152, 203, 246, 286, 321],
    [154, 205, 253, 298, 334], [139, 190, 225, 267, 302], [146, 191, 229, 272, 302], [157, 211, 250, 285, 323],
    [132, 185, 237, 286, 331], [160, 207, 257, 303, 345], [169, 216, 261, 295, 333], [157, 205, 248, 289, 316],
    [137, 180, 219, 258, 291], [153, 200, 244, 286, 324],
]  # fmt: skip


def rats(x, y):
    vague = dist.Gamma(y.new_tensor(0.001), 0.001)
    alpha_mean = pyro.sample("alpha_mean", dist.Normal(y.new_zeros(()), 1000.0))
    beta_mean = pyro.sample("beta_mean", dist.Normal(y.new_zeros(()), 1000.0))
    tau, alpha_tau, beta_tau = (pyro.sample(name, vague) for name in ("tau", "alpha_tau", "beta_tau"))
    with pyro.plate("rat", len(y), dim=-2):
        alpha = pyro.sample("alpha", dist.Normal(alpha_mean, alpha_tau.rsqrt()))
        beta = pyro.sample("beta", dist.Normal(beta_mean, beta_tau.rsqrt()))
        with pyro.plate("week", len(x), dim=-1):
            pyro.sample("weight", dist.Normal(alpha + beta * (x - 22), tau.rsqrt()), obs=y)


example = Example(
    rats,
    {"x": numbers([8, 15, 22, 29, 36]), "y": numbers(WEIGHTS)},
    {
        "alpha_mean": "Normal", "beta_mean": "Normal", "tau": "Gamma", "alpha_tau": "Gamma", "beta_tau": "Gamma",
        "alpha": "Normal", "beta": "Normal",
    },
    model="""model {
        for (i in 1:30) {
            for (j in 1:5) { y[i, j] ~ dnorm(alpha[i] + beta[i] * (x[j] - 22), tau) }
            alpha[i] ~ dnorm(alpha.mean, alpha.tau)
            beta[i] ~ dnorm(beta.c, beta.tau)
        }
        alpha.mean ~ dnorm(0, 1.0E-6)
        beta.c ~ dnorm(0, 1.0E-6)
        tau ~ dgamma(0.001, 0.001)
        alpha.tau ~ dgamma(0.001, 0.001)
        beta.tau ~ dgamma(0.001, 0.001)
        alpha0 <- alpha.mean - 22 * beta.c
        sigma <- 1 / sqrt(tau)
    }""",
    quantities=lambda at: {
        "alpha0": at["alpha_mean"] - 22 * at["beta_mean"], "beta.c": at["beta_mean"], "sigma": at["tau"].rsqrt(),
    },
    published={
        "alpha0": (106.6, 3.66, 0.0304), "beta.c": (6.186, 0.1089, 9.952e-4), "sigma": (6.093, 0.4643, 0.005058),
    },
)  # fmt: skip
