# %% [markdown]
# # Who listens to what
#
# Forty listeners, fifteen artists, and how often each was played. An artist whom a listener never played has a count of **zero,
# and that is data**: all artists were there to be played. A joke that nobody asked you to rate is another matter; that is Gaussian
# matrix factorization's. **Poisson matrix factorization** gives listener $n$ amounts $\theta_{nk}$ of a few genres, and artist $m$
# a weight $\eta_{mk}$ in each, all positive:
#
# $$x_{nm} \sim \mathrm{Poisson}\Big(\sum_k \theta_{nk}\, \eta_{mk}\Big), \qquad \theta_{nk}, \eta_{mk} \sim \mathrm{Gamma}.$$
#
# Nothing can be taken away, only added, and so a genre is a set of artists that are played together. This notebook fits the
# model by seven methods to plays whose truth we know, and asks which of them to believe.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"crowd": 60, "listeners": 25, "restarts": 1, "draws": 40, "steps": 20, "passes": 3}
crowd, listeners, restarts, draws, steps, passes = 400, 40, 4, 600, 600, 40

# %% [markdown]
# ## Genres of a larger crowd
#
# First four hundred listeners and forty artists, named after the genre that they were drawn from. Only what was played is listed; what is
# not listed is zero. One listed pair in ten was hidden.

# %% tags=["gallery"]
rng = np.random.default_rng(2)


def simulate(listeners, genres, artists, leak):
    names = [f"{genre} {chr(65 + i)}" for genre in genres for i in range(artists)]
    popular = rng.gamma(1.5, 0.6, len(names))
    weights = (
        np.where(np.repeat(np.arange(len(genres)), artists)[:, None] == np.arange(len(genres)), 1, leak)
        * popular[:, None]
    )
    rate = rng.gamma(0.7, 1.5, (listeners, len(genres))) @ weights.T
    return pd.DataFrame(rng.poisson(rate), columns=names, index=[f"listener {i}" for i in range(listeners)]), rate


def listed(table):
    long = table.rename_axis("row").reset_index().melt("row", var_name="column")
    return long[long["value"] != 0]


many, _ = simulate(crowd, ["rock", "jazz", "folk", "techno"], 10, 0.1)
print(f"{(many == 0).to_numpy().mean():.0%} of the pairs are zero")
large = pyrozoo.fit("poisson_mf", "cavi", data=listed(many), num_factors=4, restarts=restarts, holdout=0.1, tol=1e-7)
large.pictures["genres"]

# %% [markdown]
# The genres are found, from counts alone: each list has the names of one genre only. What to recommend follows: among the artists that a listener has
# not played, those with the largest expected count. The hidden pairs say how good such lists are. Short ones find more than lists by mere popularity
# do. Long ones find everything either way, as there are only forty artists.

# %%
large.tables["recommendations"].head(4).round(2)

# %%
large.pictures["ranking"]

# %% [markdown]
# How the genres came about, played. Press the button, or use the arrow keys.

# %%
large.movie()

# %% [markdown]
# ## Seven methods on a small table
#
# Now forty listeners and two genres that overlap. EM finds the mode. CAVI approximates the posterior by independent factors, and its stochastic
# version does so from ten listeners at a time. SVI has Gamma factors too, but sums out which genre a play belongs to. Laplace puts a Gaussian around
# a mode. Gibbs and NUTS draw from the posterior. Here a tenth of *all* pairs is hidden, zeros too.

# %%
few, true_rate = simulate(listeners, ["rock", "jazz"], 8, 0.3)
few, true_rate = few.iloc[:, :15], true_rate[:, :15]


def fit(method, **settings):
    return pyrozoo.fit(
        "poisson_mf", method, data=listed(few), num_factors=2, holdout=0.1, holdout_of="all", **settings
    )  # fmt: skip


fits = [
    fit("em", restarts=restarts),
    fit("cavi", restarts=restarts),
    fit("stochastic_cavi", max_iterations=passes, solver={"batch_size": 10}),
    fit("svi", max_steps=steps, restarts=1),
    fit("laplace", restarts=min(restarts, 2)),
    fit("gibbs", draws=2 * draws, warmup=draws // 2, thin=4),
    fit("nuts", draws=draws, warmup=draws // 2),
]
comparison = pyrozoo.compare(fits)
comparison

# %% [markdown]
# The sentence above says which fit to believe, for what, at what price. A row is a **verdict card**. Each fit is held to the best sampler among
# them, by quantities that neither the order of genres nor their scale changes: expected plays of listeners, artists and single pairs. Each card
# begins with an answer of its own:

# %%
for name, card in zip(comparison.names, comparison.cards):
    print(f"{name}: {card.answer}")

# %%
comparison.pictures["errors"]

# %% [markdown]
# ## What goes wrong, and why
#
# **A point cannot say how sure it is.** Below are the expected plays of one artist by the eight listeners with the fewest plays. The mode
# puts an amount of a genre at exactly 0 as soon as no play asks for it. So it tells most of them that they will never listen to the
# artist. The posterior says "we hardly know", and its mean is well above 0, as the mean of a skewed distribution must be.

# %%
by_name = {each.method: each for each in fits}


def rates(each):
    labels = pd.Index(each.data.row_labels), pd.Index(each.data.column_labels)
    draws = each.draws.flat()
    return (draws["row_factors"] @ draws["column_factors"].mT).numpy(), labels


quiet = few.sum(axis=1).loc[lambda total: total > 0].nsmallest(8).index
artist = few.sum().idxmax()
_, panel = plt.subplots(figsize=(8, 3.4), layout="constrained")
for shift, (method, colour) in enumerate({"em": "C0", "cavi": "C1", "svi": "C4", "nuts": "C2"}.items()):
    cells, (rows, columns) = rates(by_name[method])
    cells = cells[:, rows.get_indexer(quiet), columns.get_loc(artist)]
    place = np.arange(len(quiet)) + 0.15 * shift
    panel.vlines(place, *np.quantile(cells, [0.05, 0.95], axis=0), color=colour, lw=3, alpha=0.5)
    panel.plot(place, cells.mean(0), "o", color=colour, label=method, ms=4)
panel.plot(
    np.arange(len(quiet)) - 0.15,
    true_rate[few.index.get_indexer(quiet), few.columns.get_loc(artist)],
    "k_",
    ms=9,
    label="truth",
)
panel.set(
    ylabel="expected plays, 90% interval",
    title=f"Plays of {artist} by the quietest listeners",
    xticks=range(len(quiet)),
)
panel.set_xticklabels(quiet, fontsize=7)
panel.set_ylim(top=1.25 * panel.get_ylim()[1])
panel.legend(ncols=5, fontsize=8, loc="upper center")
plt.show()

# %% [markdown]
# **Mean field is too sure where genres overlap.** CAVI makes amounts, weights and the genre of each play independent. Where it is clear which genre a
# play belongs to, little is lost, and most dots lie near the line. Where it is not, more of one genre means less of the other. CAVI holds the one
# still while it asks about the other, and is too sure. Expected plays have down to 0.6 of their spread, single amounts and weights (right) less than
# that. SVI sums the genre of each play out of the model and does better.

# %%
comparison.pictures["spread"]

# %% [markdown]
# **Laplace is for shapes like a bell.** Amounts are positive, so its Gaussian lives on their logarithms. An amount near zero
# has a log with a long tail to the left and a short one to the right. A Gaussian is symmetric: it gives the right side as much as the left, and
# going back from logs to amounts turns that into far too many large values. The sum over all listeners comes out too high, by several sds (the verdicts above).
# Below is the smallest amount of all, its mean included.

# %%
_, panel = plt.subplots(figsize=(6.5, 3))
aligned = {method: by_name[method].aligned.flat()["row_factors"] for method in ("nuts", "laplace")}
row, genre = divmod(int(aligned["nuts"].mean(0).argmin()), 2)
for method, colour in (("nuts", "C2"), ("laplace", "C4")):
    amount = aligned[method][:, row, genre].numpy()
    panel.hist(
        amount.clip(0, 6),
        bins=np.linspace(0, 6, 40),
        density=True,
        histtype="step",
        lw=2,
        color=colour,
        label=f"{method}: mean {amount.mean():.2f}",
    )
panel.set(xlabel="smallest amount of a genre in plays (6 and more at the end)", ylabel="density")
panel.legend()
plt.show()

# %% [markdown]
# **Genres have neither number nor scale.** Numbering them otherwise changes nothing; nor, but for the priors, does doubling all amounts of a genre
# while halving its weights. Left: draws by Gibbs slide along amounts that fall as weights rise. Middle: to one of its four chains genre 0 is
# mostly rock, to the others mostly jazz. Whether chains of NUTS agree is luck, too. Right: in tables and pictures the weights of a genre sum to 1,
# so that amounts are expected plays, and genres are numbered alike (`fit.aligned`).

# %%
gibbs = by_name["gibbs"]
rock = [name.startswith("rock") for name in gibbs.data.column_labels]
amounts, weights = (gibbs.draws[site].sum(-2)[..., 0] for site in ("row_factors", "column_factors"))
_, panels = plt.subplots(1, 3, figsize=(10.5, 3.2), layout="constrained")
for chain in range(len(amounts)):
    panels[0].plot(weights[chain], amounts[chain], ".", ms=2)
panels[0].set(title="scale, as drawn", xlabel="all weights of genre 0", ylabel="all amounts of genre 0")
for panel, title, values in zip(panels[1:], ("number, as drawn", "aligned"), (gibbs.draws, gibbs.aligned), strict=True):
    weight = values["column_factors"][..., 0]
    for chain in weight[..., rock].sum(-1) / weight.sum(-1):
        panel.plot(chain, lw=0.6)
    panel.set(title=title, xlabel="draw", ylabel="share of rock in genre 0", ylim=(0.2, 1))
plt.show()
for each in (gibbs, by_name["nuts"]):
    m = each.metrics
    print(
        f"R-hat by {each.method}: raw {m['rhat_max_raw']:.2f}, aligned {m['rhat_max']:.3f}, "
        f"of invariants {m['rhat_max_invariants']:.3f}"
    )

# %% [markdown]
# **Zeros are not unknown.** What if we had left the unplayed pairs out, as one does with ratings? Then all that the model ever sees is
# artists who were played, and it believes that everyone plays everything. Each dot is an unplayed pair:

# %%
unplayed = (few == 0).to_numpy()
_, panels = plt.subplots(1, 2, figsize=(8, 3.8), sharex=True, sharey=True, layout="constrained")
for panel, title, data in zip(
    panels, ("zeros are zeros", "zeros taken for unknown"), (few, few.where(few > 0)), strict=True
):
    cells, _ = rates(
        pyrozoo.fit("poisson_mf", "cavi", data=data.astype(float), num_factors=2, restarts=min(restarts, 2))
    )
    guess = cells.mean(0)[unplayed]
    panel.plot(true_rate[unplayed], guess, ".", color="C0" if data is few else "C3")
    panel.axline((0, 0), slope=1, color="0.5", lw=0.8)
    panel.set(
        title=f"{title}: mean {guess.mean():.2f}", xlabel="true rate of an unplayed artist", ylabel="expected plays"
    )
print(f"true mean: {true_rate[unplayed].mean():.2f}")
plt.show()

# %% [markdown]
# ## Which to use
#
# *CAVI* for large tables, genres and recommendations: its means are right and its time goes with the pairs that are not zero. *Stochastic CAVI* when
# the listeners do not fit into memory. *Gibbs* when intervals matter, at any size; *NUTS* as a second opinion on small tables. *SVI* has the better
# spread of the variational methods. *EM* is the familiar baseline, poor for those who played little. *Laplace* is not for this model.
