# %% [markdown]
# # MCMC against variational inference
#
# Two ways to an answer that has no formula. **Markov chain Monte Carlo** walks through the posterior and reports where it has been: right in the end, and
# the end may be far. **Variational inference** picks the closest member $q$ of a family that it can handle, by maximising
#
# $$\mathrm{ELBO}(q) = \log p(x) - \mathrm{KL}(q \,\|\, p(\theta \mid x)),$$
#
# and stops in a second, at something that is not the posterior. Which matters depends on the question. This notebook puts both on the same
# posteriors and looks.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Ellipse

import pyrozoo

# %% tags=["parameters"] small={"rows": 40, "draws": 60, "warmup": 60, "steps": 60, "listeners": 20}
rows, draws, warmup, steps, listeners = 150, 300, 300, 400, 60

# %% [markdown]
# ## The whole difference in one picture
#
# Let the posterior be normal with correlation $\rho$ between two parameters. Mean-field $q$ is a product of two normals. The one that minimises
# $\mathrm{KL}(q\|p)$ has the right means and variances $1/\Lambda_{jj}$, the reciprocal of the *precision*. That is the variance of one parameter
# **given the other**: $1-\rho^2$ times the variance that we want. At $\rho = 0.95$ that is a tenth.

# %%
rho = 0.95
panel = plt.subplots(figsize=(3.6, 3.6))[1]
panel.add_patch(
    Ellipse((0, 0), 4 * np.sqrt(1 + rho), 4 * np.sqrt(1 - rho), angle=45, fc="C0", alpha=0.3, label="posterior")
)
width = 4 * np.sqrt(1 - rho**2)
panel.add_patch(Ellipse((0, 0), width, width, fc="none", ec="C3", lw=2, label="best product of two normals"))
panel.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xlabel="one parameter", ylabel="the other")
panel.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## Factor analysis: the picture, in a real model
#
# Factors and loadings multiply, so the data pin down their product and leave them to trade. Six columns, two factors; `gibbs` and `nuts` sample,
# `laplace` puts a full Gaussian at the mode, `cavi` and `svi` make factors, loadings and noise independent.

# %%
rng = np.random.default_rng(5)
loadings = rng.normal(size=(2, 6))
table = pd.DataFrame(rng.normal(size=(rows, 2)) @ loadings + 0.4 * rng.normal(size=(rows, 6)), columns=list("abcdef"))
common = {"data": table, "num_factors": 2, "noise_scale": 0.2, "holdout": 0.1}
fits = [
    pyrozoo.fit("factor_analysis", "nuts", draws=2 * draws, warmup=warmup, **common),
    pyrozoo.fit("factor_analysis", "gibbs", draws=2 * draws, warmup=warmup, thin=2, **common),
    pyrozoo.fit("factor_analysis", "laplace", **common),
    pyrozoo.fit("factor_analysis", "cavi", **common),
    pyrozoo.fit("factor_analysis", "svi", max_steps=steps, **common),
]
comparison = pyrozoo.compare(fits)
comparison

# %%
comparison.pictures["errors"]

# %% [markdown]
# Left: means are right within half a standard deviation for all of them, but for CAVI's log-likelihood: too sure means too close to the top. Right: the two
# mean-field methods have half of the spread and less. They answer "where?" and must not be asked "how sure?". The densities say the same, invariant by invariant:

# %%
comparison.pictures["densities"]

# %% [markdown]
# ## And in time
#
# Left the objectives, right the error of the means against seconds. A sampler's error falls with one over the square root of its
# draws. A variational method's falls at once and then stays where its family ends.

# %%
comparison.pictures["race"]

# %% [markdown]
# The same, played side by side. Press the button, or use the arrow keys.

# %%
comparison.movie()

# %% [markdown]
# ## When the approximation is enough
#
# Now predict. A tenth of the entries was hidden. Their mean log predictive density hardly knows which method was used. What a prediction
# does not know is mostly noise in the data; little of it is uncertainty of parameters.

# %%
columns = ["method", "kind", "holdout_elpd", "holdout_rmse", "holdout_coverage_90", "seconds"]
comparison.table[columns].round(3)

# %% [markdown]
# The same at sixty listeners by forty artists, where CAVI is the method that people use at a million times the size: predictions of counts, by `poisson_mf`.

# %%
rate = rng.gamma(0.6, 1.0, (listeners, 3)) @ rng.gamma(0.6, 1.0, (3, 40))
plays = {"data": rng.poisson(rate), "num_factors": 3, "holdout": 0.1}
more = [
    pyrozoo.fit("poisson_mf", "cavi", **plays),
    pyrozoo.fit("poisson_mf", "gibbs", draws=draws, warmup=warmup, **plays),
]
both = pyrozoo.compare(more)
both.table[columns].round(3)

# %%
print(both.cards[0].answer)
for line in both.cards[0]:
    if line.about in ("means", "spread", "coverage"):
        print(f"{line.level} {line.about}: {line.sentence}")

# %% [markdown]
# CAVI's intervals for single rates mislead, and its recommendations are as good. Both are true, and which one matters is the reader's to say.
#
# ## When MCMC is the one that fails
#
# A chain reports where it has been. The textbook's Gibbs sampler draws loadings given factors, then factors given loadings; where noise is small each pins
# the other down, and the chain creeps. (The zoo's sampler moves both at once; `solver.plain` leaves that out, to stage a failure.) Every chain looks busy
# by itself. R-hat compares chains, so it is the line to read; that factors *turn* from chain to chain is harmless, and has a line of its own.

# %%
quiet = pd.DataFrame(rng.normal(size=(rows, 2)) @ loadings + 0.05 * rng.normal(size=(rows, 6)), columns=list("abcdef"))
stuck = pyrozoo.fit(
    "factor_analysis", "gibbs", data=quiet, num_factors=2, draws=draws, warmup=50, thin=1, solver={"plain": True}
)
print(stuck.verdict.answer)
for line in stuck.verdict:
    if line.about in ("R-hat", "labels", "ESS"):
        print(f"{line.level} {line.about}: {line.sentence}")
variance = stuck.invariants["column_variance"][..., 0]
axes = plt.subplots(figsize=(8, 2.4))[1]
axes.plot(variance.T, lw=0.8)
axes.set(title="Variance of column a by the model: four chains", xlabel="draw")
plt.show()

# %% [markdown]
# ## Which to believe
#
# | you want | take | read |
# |---|---|---|
# | intervals, probabilities of statements about parameters | a sampler, or `exact` | R-hat, ESS, divergences |
# | predictions, rankings, completions | VI, once a comparison on a part of the data said that it predicts as well | held out, coverage |
# | the number of components | an ELBO, for models of one kind; held-out density in the end | ELBO, held out |
# | to know whether VI is safe *here* | `compare`, or k-hat where no sampler can run | means, spread, k-hat |
#
# Are a method's intervals calibrated, over many data sets? `python -m pyrozoo task=calibrate model=zip_mixture inference=gibbs` says it.
