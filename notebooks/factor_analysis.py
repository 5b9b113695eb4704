# %% [markdown]
# # Measurements with holes
#
# A tailor's book: a hundred and fifty people, six measurements each, some of them never taken. The columns go together: who is tall has
# long legs, who is heavy has a wide waist. **Factor analysis** says that a few unseen numbers per person, the factors $z_n$, explain
# what the columns share, and that each column has noise of its own size besides:
#
# $$x_n = W z_n + \mu + \varepsilon_n, \qquad z_n \sim \mathcal{N}(0, I), \qquad \varepsilon_{nd} \sim \mathcal{N}(0, \sigma_d^2).$$
#
# So a row is normal with covariance $W W^\top + \mathrm{diag}(\sigma^2)$, and a missing value follows from the others by
# conditioning. This notebook fits the model by eight methods to data whose truth we know, and asks which of them to believe.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"people": 40, "restarts": 1, "draws": 40, "steps": 20, "sweeps": 3}
people, restarts, draws, steps, sweeps = 150, 4, 600, 600, 50

# %% [markdown]
# ## The data
#
# Drawn here: the first factor is size, the second girth. Grip strength has little to do with either. An eighth of the values is **missing**.
# Each column is given as the deviation from its mean, so that 0 is an average person.

# %%
rng = np.random.default_rng(3)
columns = ["height", "arm span", "leg", "weight", "waist", "grip"]
true_loadings = np.array([[7, 0.5], [8, 0], [4.5, 0], [6, 9], [2, 9], [3, 2]])
true_noise = np.array([2, 3, 2, 3, 3, 7])
body = rng.normal(size=(people, 2)) @ true_loadings.T + true_noise * rng.normal(size=(people, 6))
body += [170, 171, 80, 70, 85, 40]
table = pd.DataFrame(body, columns=columns, index=[f"person {i}" for i in range(people)]).mask(
    rng.random(body.shape) < 0.12
)
table -= table.mean()
table.head()

# %% [markdown]
# ## Expectation maximisation
#
# EM finds the mode of the posterior of $W$, $\mu$ and $\sigma^2$, with the factors summed out. Holes cost nothing: each person is judged by
# what was measured. A tenth of the values was hidden besides (`holdout=0.1`), so we know how good the completion is.

# %%
em = pyrozoo.fit("factor_analysis", "em", data=table, num_factors=2, restarts=restarts, holdout=0.1)
print(em)
print(
    f"error of hidden values: {em.metrics['holdout_rmse']:.1f}, "
    f"had we taken the column's mean: {em.metrics['mean_imputation_rmse']:.1f}"
)
em.tables["missing"].head()

# %% [markdown]
# Every hole has its own interval: it is narrow where what goes with it was measured, and wide for grip, which nothing predicts. The
# correlations that two factors imply lie close to those observed; were a block missing, a third factor would be due.

# %%
em.pictures["correlation"]

# %% [markdown]
# EM on its way, played. Press the button, or use the arrow keys.

# %%
em.movie()

# %% [markdown]
# ## Seven more methods
#
# Principal components (`pca`) and their probabilistic form (`ppca`) are closed forms without priors. They need a complete table, so
# we must say what goes into the holes. CAVI and SVI approximate the posterior, Laplace puts a Gaussian around the mode, Gibbs and
# NUTS draw from the posterior itself.


# %%
def fit(method, **settings):
    return pyrozoo.fit("factor_analysis", method, data=table, num_factors=2, holdout=0.1, **settings)


fits = [
    em,
    fit("pca", solver={"fill": "mean"}),
    fit("ppca", solver={"fill": "mean"}),
    fit("cavi", restarts=restarts),
    fit("svi", max_steps=steps, restarts=1),
    fit("laplace", restarts=min(restarts, 2)),
    fit("gibbs", draws=2 * draws, warmup=draws // 2, thin=2),
    fit("nuts", draws=draws, warmup=draws // 2),
]
comparison = pyrozoo.compare(fits)
comparison

# %% [markdown]
# The sentence above says which fit to believe, for what, at what price. A row is a **verdict card**: each fit is held to the best sampler among
# them, by quantities that no rotation of the factors changes. These are means, variances, covariances, and the *communality*: the share of a
# column's variance that the factors explain. Each card begins with an answer of its own:

# %%
for name, card in zip(comparison.names, comparison.cards):
    print(f"{name}: {card.answer}")

# %%
comparison.pictures["errors"]

# %% [markdown]
# ## What goes wrong, and why
#
# **Loadings are not identified.** $W R$ with factors $R^\top z$ says the same for every rotation $R$, and the prior does not mind either. A
# sampler therefore walks around a circle, and the mean of "the loading of height on factor 0" is the mean of nothing. Left: draws
# of that row of $W$, a colour per chain. Right: the same draws after each was turned onto the others
# (`fit.aligned`), as every table and picture does. What the tailor should read is what turning cannot change.

# %%
nuts = fits[-1]
_, panels = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for panel, title, values in zip(
    panels, ("as drawn", "turned onto each other"), (nuts.draws, nuts.aligned), strict=True
):
    for chain in values["loadings"][:, :, 0].numpy():
        panel.plot(*chain.T, ".", ms=2)
    panel.set(title=title, xlabel="loading of height on factor 0", ylabel="on factor 1", aspect="equal")
plt.show()

# %% [markdown]
# **Mean field is too sure.** CAVI makes the factors of people and the loadings of columns independent. In the posterior they are
# not: were everybody's girth a little larger and its loadings a little smaller, the data would fit as well. CAVI asks how far a
# loading may move while the factors hold still, and its intervals come out less than half as wide as they should be. SVI has the
# factors summed out, which helps a little, but makes columns independent of each other. The means of both are right, but for the
# log-likelihood: an approximation that is too sure sits too close to the top. (SVI was stopped early here, and its card says so.)
# Each dot is a quantity: below the diagonal the method is surer than the reference.

# %%
comparison.pictures["spread"]

# %% [markdown]
# **One noise for all, and holes filled.** PPCA knows one noise variance. Grip needs a large one, leg a small one, and what lies between
# is wrong for both. The factors are said to explain twice as much of grip as they do, and less than half of leg. PCA takes the axes of
# largest variance, be it shared or noise, and hands out what is left over afterwards. Both saw a table whose holes were filled with
# means: people whose arms are average whatever their height.

# %%
truth = np.square(true_loadings).sum(1) / (np.square(true_loadings).sum(1) + true_noise**2)
bars = {"truth": truth} | {
    f.method: f.invariants.means()["communality"] for f in fits if f.method in ("nuts", "em", "pca", "ppca")
}
axes = pd.DataFrame(bars, index=columns).plot.bar(
    figsize=(8, 3), ylabel="communality", color=["0.3", "C0", "C1", "C3", "C2"], width=0.8, rot=0
)
axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8)
plt.show()

# %% [markdown]
# The harm of filling alone shows when the method stays the same. Four tenths of the cells are hidden; EM sees the gaps, or
# zeros in their place (which here are the means). Each dot is the correlation of two columns. With the gaps summed out the dots
# scatter about the line, as they must with so few people. With zeros nearly all are too small, the strongest by more than half:

# %%
hidden = table.mask(rng.random(table.shape) < 0.4)
covariance = true_loadings @ true_loadings.T + np.diag(true_noise**2)
pairs = np.tril_indices(6, -1)
_, panel = plt.subplots(figsize=(4.5, 4))
for label, data, colour in (("gaps summed out", hidden, "C0"), ("gaps filled with 0", hidden.fillna(0), "C3")):
    found = pyrozoo.fit("factor_analysis", "em", data=data, num_factors=2, restarts=min(restarts, 2)).draws.means()
    W, noise = found["loadings"].numpy(), found["noise_variance"].numpy()
    implied = W @ W.T + np.diag(noise)
    scales = [np.sqrt(np.outer(c.diagonal(), c.diagonal())) for c in (covariance, implied)]
    panel.plot((covariance / scales[0])[pairs], (implied / scales[1])[pairs], "o", color=colour, label=label)
panel.axline((0, 0), slope=1, color="0.5", lw=0.8)
panel.set(xlabel="true correlation", ylabel="fitted correlation", title="Four tenths of the cells hidden")
panel.legend()
plt.show()

# %% [markdown]
# ## Images are tables too
#
# A row may be an image and its columns pixels. Here are scikit-learn's digits with lines, circles and speckle hidden, and ten factors by a
# short run of Gibbs. Pixels at the edge hardly vary, so the prior of the noise is given a say.

# %% tags=["gallery"]
digits = pyrozoo.fit(
    "factor_analysis", "gibbs", data="digits", masks=["line", "circle", "speckle"], num_factors=10,
    noise_degrees=50.0, noise_scale=4.0, chains=1, warmup=sweeps, draws=sweeps, thin=1,
)  # fmt: skip
print(
    f"error of hidden pixels: {digits.metrics['reconstruction_rmse']:.2f}, "
    f"of their means: {digits.metrics['mean_imputation_rmse']:.2f}"
)
digits.pictures["reconstruction"]

# %% [markdown]
# The fit goes on with strokes where the line or circle cut them, and its uncertainty (last row) is largest inside solid holes.
#
# ## Which to use
#
# *EM* to complete a table, or for a first look: its predictions have intervals, its parameters have none. *NUTS* on small tables
# and *Gibbs* on large ones when intervals matter. *Laplace* is a fair and quick approximation while there are few columns.
# *CAVI* and *SVI* for means only. *PCA* and *PPCA* are for complete tables whose columns have the same noise, and have no error bars even there. And whichever it
# is: report communalities, covariances and completions, never a single loading.
