# %% [markdown]
# # Ratings that nobody gave
#
# Forty readers rate fifteen jokes from -5 to 5. Nobody read them all: a pair without a rating is **unknown**, and 0 is a rating like any other
# ("neither good nor bad"). What would a reader think of the jokes still unread? **Gaussian matrix factorization** gives each reader $i$
# a taste $u_i$, each joke $j$ a character $v_j$, and both an offset:
#
# $$r_{ij} \sim \mathcal{N}(\mu + a_i + b_j + u_i^\top v_j,\ s^2) \quad\text{for the rated pairs only.}$$
#
# Factors and offsets have normal priors, the noise an inverse gamma. This notebook fits the model by seven methods to
# ratings whose truth we know, and asks which of them to believe.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"readers": 25, "restarts": 1, "draws": 40, "steps": 20, "rounds": 5, "sizes": [2]}
readers, restarts, draws, steps, rounds, sizes = 40, 2, 500, 600, 120, [1, 2, 3, 5]

# %% [markdown]
# ## The data
#
# Drawn here from the model with two factors and noise of sd 0.8. Readers are generous on the whole (the mean is 1), and a third of the pairs
# is unrated.

# %%
rng = np.random.default_rng(5)
jokes = ["pun", "knock-knock", "lawyers", "doctors", "engineers", "elephants", "bar", "politics", "chicken", "in-laws"]
jokes += ["physics", "parrot", "golf", "limerick", "light bulb"]
noise_sd = 0.8
taste, character = rng.normal(size=(readers, 2)), rng.normal(size=(15, 2))
liking = 1 + 0.6 * rng.normal(size=(readers, 1)) + 0.6 * rng.normal(size=15) + taste @ character.T
rating = (liking + noise_sd * rng.normal(size=liking.shape)).round(1)
table = pd.DataFrame(rating, columns=jokes, index=[f"reader {i}" for i in range(readers)]).mask(
    rng.random(rating.shape) < 0.33
)
print(f"{table.notna().sum().sum()} ratings; {table.isna().mean().mean():.0%} of the pairs are unrated")
table.iloc[:5, :8]

# %% [markdown]
# ## Gibbs sampling first
#
# Given the jokes, every reader is a small linear regression, and the other way round; Gibbs draws them in turn. A tenth of the ratings was hidden
# (`holdout=0.1`). They are predicted with intervals; the histogram of where the truth fell in its predictive distribution should be flat,
# and is ragged here since the hidden ratings are few.


# %%
def fit(method, **settings):
    return pyrozoo.fit("gaussian_mf", method, data=table, num_factors=2, holdout=0.1, **settings)


gibbs = fit("gibbs", draws=2 * draws, warmup=draws // 2, thin=2)
error, baseline = gibbs.metrics["test_rmse"], gibbs.metrics["baseline_rmse"]
print(f"error of hidden ratings: {error:.2f}; by means of readers and jokes alone: {baseline:.2f}")
gibbs.pictures["holdout"]

# %% [markdown]
# What to read next: for each reader the unrated jokes, the best first. (Hidden ones count as unrated.)

# %%
gibbs.tables["recommendations"].head(6).round(2)

# %% [markdown]
# Jokes that lie together please the same readers. Only relative places mean something: the axes are a convention, as we shall see.

# %% tags=["gallery"]
gibbs.pictures["columns"]

# %% [markdown]
# The chain on its way, played. Press the button, or use the arrow keys.

# %%
gibbs.movie()

# %% [markdown]
# ## Six more methods
#
# `mle` maximises the likelihood with no prior to speak of; EM finds the mode of the posterior. CAVI and SVI approximate it by independent factors,
# Laplace by a Gaussian around the mode. NUTS draws from it, as Gibbs does, and shares no code with it but the program.

# %%
em, mle = fit("em", restarts=restarts), fit("mle", restarts=restarts, max_iterations=rounds)
fits = [
    mle,
    em,
    fit("cavi", restarts=restarts),
    fit("svi", max_steps=steps, restarts=1),
    fit("laplace", restarts=min(restarts, 2)),
    gibbs,
    fit("nuts", draws=draws, warmup=draws // 2),
]
comparison = pyrozoo.compare(fits)
comparison

# %% [markdown]
# The sentence above says which fit to believe, for what, at what price. A row is a **verdict card**. Each fit is held to the best sampler among
# them, by quantities that no rotation of the factors changes: the noise, and predictions of readers, jokes and pairs. Each card begins with an
# answer of its own:

# %%
for name, card in zip(comparison.names, comparison.cards):
    print(f"{name}: {card.answer}")

# %%
comparison.pictures["errors"]

# %% [markdown]
# ## What goes wrong, and why
#
# **Points overfit.** A reader has about nine ratings, and with five factors six numbers to fit them with. As factors are added, the fit of what was
# seen gets ever better. Beyond the true two, maximum likelihood predicts what was not seen far worse than plain means of readers and jokes (dotted),
# and is not reliable even with one. EM has priors and suffers less, but it is one point, and the point fits the noise too. With one factor or five it
# is worse than the means. With five its 90% intervals hold little more than four tenths of the truth. Gibbs averages over all that the ratings allow:
# factors too many cost it little, and its intervals know.

# %%
curves = {}
options = {"mle": {"restarts": 1, "max_iterations": rounds}, "em": {"restarts": 1, "max_iterations": rounds}}
options["gibbs"] = {"chains": 2, "draws": draws // 6, "warmup": draws // 6, "thin": 1}
for method, settings in options.items():
    found = [
        pyrozoo.fit("gaussian_mf", method, data=table, num_factors=k, holdout=0.1, **settings).metrics for k in sizes
    ]
    curves[method] = pd.DataFrame(found, index=sizes)
_, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for method, frame in curves.items():
    panels[0].plot(frame["train_nll"], "o-", label=method)
    panels[1].plot(frame["test_rmse"], "o-", label=method)
    panels[2].plot(frame["holdout_coverage_90"], "o-", label=method)
panels[0].set(xlabel="factors", ylabel="negative log density per rating", title="Ratings fitted", xticks=sizes)
panels[1].set(xlabel="factors", ylabel="root mean squared error", title="Ratings hidden", xticks=sizes, yscale="log")
panels[1].axhline(baseline, color="0.5", ls=":")
panels[2].set(xlabel="factors", ylabel="held by 90% intervals", title="Ratings hidden", xticks=sizes, ylim=(0, 1.02))
panels[2].axhline(0.9, color="0.5", ls=":")
panels[0].legend()
plt.show()

# %% [markdown]
# **Points think that there is less noise.** At the mode the factors have explained part of the noise away, and what is left looks small.
# So intervals of predictions are too short. Laplace puts its Gaussian around that same mode and inherits the error. The samplers come
# nearest: their intervals begin beside the truth. CAVI's mean is nearly theirs and its interval shorter; SVI's independent normals
# cannot follow the factors, and what they miss it takes for noise.

# %%
_, panel = plt.subplots(figsize=(6.5, 3))
for place, each in enumerate(fits):
    sds = each.draws["noise_variance"].flatten().sqrt().numpy()
    panel.plot(np.quantile(sds, [0.05, 0.95]), [place, place], color="C0", lw=3)
    panel.plot(sds.mean(), place, "o", color="C0")
panel.axvline(noise_sd, color="0.4", ls="--", label="truth")
panel.set(
    yticks=range(len(fits)), yticklabels=[each.method for each in fits], xlabel="sd of the noise, mean and 90% interval"
)
panel.invert_yaxis()
panel.legend()
plt.show()

# %% [markdown]
# **Factors are not identified.** $u_i^\top v_j$ stays when all $u$ and all $v$ are rotated alike. In the raw draws chains point in different
# directions, and averages of raw factors are averages of nothing. Predictions do not care; factors are turned
# onto each other (`fit.aligned`) before any table or picture shows them.

# %%
for each in (gibbs, fits[-1]):
    m = each.metrics
    print(
        f"R-hat by {each.method}: raw {m['rhat_max_raw']:.2f}, turned {m['rhat_max']:.3f}, "
        f"of invariants {m['rhat_max_invariants']:.3f}"
    )

# %% [markdown]
# **Unrated is not zero.** The tempting repair of a gappy table is to write 0 into the gaps. The model then learns that readers are
# indifferent to whatever they have not read. Each dot is an unrated pair: what the reader would think of the joke, and what is predicted.


# %%
def predicted(each):
    d = each.draws.flat()
    rows, columns = d["row_offsets"].unsqueeze(-1), d["column_offsets"].unsqueeze(-2)
    return (d["mean"][:, None, None] + rows + columns + d["row_factors"] @ d["column_factors"].mT).mean(0).numpy()


unrated = table.isna().to_numpy()
_, panels = plt.subplots(1, 2, figsize=(8, 3.8), sharex=True, sharey=True, layout="constrained")
for panel, title, data in zip(panels, ("left unknown", "written as 0"), (table, table.fillna(0)), strict=True):
    guess = predicted(pyrozoo.fit("gaussian_mf", "cavi", data=data, num_factors=2, restarts=1, tol=1e-6))
    panel.plot(liking[unrated], guess[unrated], ".", color="C0" if data is table else "C3")
    panel.axline((0, 0), slope=1, color="0.5", lw=0.8)
    away = np.sqrt(np.mean((guess - liking)[unrated] ** 2))
    panel.set(title=f"{title}: off by {away:.2f}", xlabel="true liking of an unread joke", ylabel="predicted")
plt.show()

# %% [markdown]
# ## Which to use
#
# *Gibbs*: it needs seconds here, its intervals are honest, and factors too many hurt it little. *CAVI* comes close on these data and has no chains to
# watch. *NUTS* is a second opinion for small tables. *SVI* is for ratings that come in minibatches. *EM* for one quick point whose
# intervals you do not need, *Laplace* for no better reason, and *maximum likelihood* to see what priors are for.
