# %% [markdown]
# # What a bound costs
#
# When the likelihood has no closed form, variational EM puts a lower bound in its place and maximises that. The bound is good, the maximum is found,
# the curve never falls, and the answer is wrong. For a bound is highest where the likelihood is high **and the bound is tight**. Tight, for a latent
# variable, is where the latent variable does little. So the estimate shrinks, on any amount of data. This notebook shows it where everything can be
# computed, then on surveys whose truth is known, then in another model.

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

import pyrozoo

# %% tags=["parameters"] small={"items": [10], "variances": [0.5, 1.0], "simulations": 1, "rows": 60, "couplings": [0.5, 1.0]}
items, variances = [10, 100], [0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5]
simulations, rows, couplings = 2, 300, [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]

# %% [markdown]
# ## One dimension, everything known
#
# A person's trait is $z \sim \mathcal N(0, \sigma^2)$, and each of $I$ questions is answered yes with probability $1/(1+e^{-z})$. Only the number $S$ of yes matters. The evidence
#
# $$p(S) \propto \int \mathcal N(z; 0, \sigma^2)\, e^{Sz}\,(1 + e^z)^{-I}\, dz$$
#
# is an integral in one dimension: quadrature has it to ten digits. Variational EM takes $q(z) = \mathcal N(m, v)$. Since $\mathrm E_q \log(1 + e^z)$
# has no closed form either, Jensen's inequality bounds it once more, $\mathrm E_q\log(1+e^z) \le \log(1 + e^{m + v/2})$:
#
# $$\begin{aligned}
# \log p(S) &\ge S m - I\,\mathrm E_q \log(1+e^z) - \mathrm{KL}\big(\mathcal N(m, v)\,\|\,\mathcal N(0, \sigma^2)\big) \\
# &\ge S m - I \log(1 + e^{m + v/2}) - \mathrm{KL}\big(\mathcal N(m, v)\,\|\,\mathcal N(0, \sigma^2)\big).
# \end{aligned}$$
#
# The truth is $\sigma^2 = 1$. The curves are averages over persons, as functions of $\sigma^2$, each less its maximum: where does each peak?

# %%
nodes, weights = np.polynomial.hermite_e.hermegauss(80)
log_weights = np.log(weights / np.sqrt(2 * np.pi))


def evidence(yes, size, variance):
    """Return the log of the integral, by quadrature around the mode."""
    low, high = -30.0, 30.0
    for _ in range(80):  # the mode, by bisection of a falling slope
        middle = (low + high) / 2
        low, high = (middle, high) if yes - size * expit(middle) - middle / variance > 0 else (low, middle)
    sd = (size * expit(middle) * expit(-middle) + 1 / variance) ** -0.5
    z = middle + sd * nodes
    values = yes * z + size * log_expit(-z) - z**2 / (2 * variance) - np.log(2 * np.pi * variance) / 2
    return logsumexp(values + log_weights + nodes**2 / 2) + np.log(sd * np.sqrt(2 * np.pi))


def bounded(yes, size, variance, normaliser):
    """Return the best lower bound over q, with a normaliser of one's choice."""

    def lost(parameters):
        m, v = parameters[0], np.exp(parameters[1])
        divergence = 0.5 * ((v + m**2) / variance - 1 - np.log(v / variance))
        return -(yes * m - size * normaliser(m, v) - divergence)

    return -minimize(lost, [0.0, np.log(variance / (1 + size * variance / 4))], method="BFGS").fun


def exact_normaliser(m, v):
    return -np.exp(log_weights) @ log_expit(-(m + np.sqrt(v) * nodes))


def jensen(m, v):
    return np.logaddexp(0, m + v / 2)


curves = {}
for size in items:
    z = nodes  # persons of the true population, weighted
    share = np.array([np.exp(log_weights) @ (expit(z) ** s * expit(-z) ** (size - s)) for s in range(size + 1)])
    share *= np.exp(
        [
            np.sum(np.log(np.arange(size - s + 1, size + 1))) - np.sum(np.log(np.arange(1, s + 1)))
            for s in range(size + 1)
        ]
    )
    kept = [s for s in range(size + 1) if share[s] > 1e-4]
    for name, value in {
        "evidence": evidence,
        "normal q": lambda *a: bounded(*a, exact_normaliser),
        "normal q, and Jensen's bound": lambda *a: bounded(*a, jensen),
    }.items():
        curves[size, name] = [sum(share[s] * value(s, size, variance) for s in kept) for variance in variances]

panels = plt.subplots(1, len(items), figsize=(4.5 * len(items), 3.2), layout="constrained", squeeze=False)[1][0]
for (size, name), curve in curves.items():
    axes, best = panels[items.index(size)], int(np.argmax(curve))
    (line,) = axes.plot(variances, np.array(curve) - max(curve), label=name)
    axes.plot(variances[best], 0, "o", color=line.get_color())
    axes.set(title=f"{size} questions", xlabel="variance of the trait (truth 1)", ylabel="per person, less the maximum")
panels[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# With ten questions the evidence peaks at the truth, a normal $q$ by itself hardly to the left of it, and Jensen's bound far to the left. The bound's
# gap is about $I v\,p^2/2$ per person, with $p$ the probability of yes. It grows with $v$, and $v$ grows with $\sigma^2$. With a hundred questions
# $v$ is small whatever $\sigma^2$ is, and all three agree. More *persons* change nothing: the curves are averages already.
#
# ## The ladder, on surveys
#
# The same in the zoo's model of surveys, `categorical_fa`, with a known latent covariance; `pyrozoo.recover` simulates, fits and compares. In two
# dimensions with correlation 0.9 a second shrinkage joins: `vem` and `mc_em` take the two dimensions of $q$ to be independent.

# %%
study = pyrozoo.recover(
    "shrinkage_ladder",
    simulations=simulations,
    rows=rows,
    methods=["vem", "laplace_em", "mc_em", "exact"],
    progress=False,
)
study

# %%
study.picture

# %% [markdown]
# `exact` integrates by quadrature and keeps the variance. `vem` has both losses. `mc_em`, which estimates $\mathrm E_q\log(\cdot)$ by draws in place
# of Jensen's bound, has only the second. `laplace_em` is no bound and errs by what a normal at the mode misses. The whole study, seven methods on
# twenty data sets per setting, is `python -m pyrozoo experiment=shrinkage_ladder`.
#
# ## Another model, the same lesson
#
# A Potts field on a grid: mean field bounds $\log Z$ by taking pixels to be independent. `potts_grid` knows $\log Z$ exactly where one side is short. The bound is tight where
# neighbours hardly matter, and again where all of them agree; it is loosest in between, where patches form and could be otherwise. Whoever *fitted* the coupling by
# maximising it would be pushed away from there. Bethe's estimate (`bp`) is no bound, and closer.

# %%
gaps = {"cavi": [], "bp": []}
for coupling in couplings:
    for method, gap in gaps.items():
        field = {"pattern": "spiral", "coupling": (coupling * np.eye(3)).tolist(), "observation_strength": 1.0}
        gap.append(pyrozoo.fit("potts_grid", method, rows=6, columns=12, noise=0.4, **field).metrics["log_z_error"])
axes = plt.subplots(figsize=(5, 3))[1]
for method, gap in gaps.items():
    axes.plot(couplings, gap, "o-", label=method)
axes.axhline(0, color="0.3", lw=0.8)
axes.set(xlabel="coupling of equal neighbours", ylabel="log Z: estimate less exact")
axes.legend()
plt.show()

# %% [markdown]
# Mean field at the strongest coupling, played. Patches grow, and in the end one label takes the whole map.

# %%
pyrozoo.fit("potts_grid", "cavi", rows=6, columns=12, noise=0.4, **field).movie()

# %% [markdown]
# ## What to do
#
# - **Hold it to something that is no bound**: `exact` where it can be had, else a sampler, on a part of the data. The card's answer, and its lines *means* and *ELBO*, say what the bound cost.
# - **Read an ELBO as a bound.** It ranks models of one kind whose gaps are alike; a difference smaller than the gaps means nothing.
# - **Recover a known truth** before believing variances from a bound: `pyrozoo.recover` on data of your shape. More rows do not help; more answers per row do.
