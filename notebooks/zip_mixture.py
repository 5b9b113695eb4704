# %% [markdown]
# # Counts with too many zeros
#
# A hundred and fifty sites, eight species of birds, one visit each. Most cells are zero, and for two reasons: some species do not
# live there, and some that do were not out that morning. A Poisson distribution knows only the second reason, so it sees
# rare birds where there is a mixture of *absent* and *missed*. The **zero-inflated Poisson** has both:
#
# $$p(x) = \omega\,\mathrm{Poisson}(x;\lambda) + (1-\omega)\,1[x=0].$$
#
# Sites come in kinds (wood, marsh, field), which nobody wrote down: a **mixture**. This notebook fits it by six methods to data whose
# truth we know, and asks which of them to believe.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"sites": 40, "restarts": 4, "draws": 60, "steps": 60}
sites, restarts, draws, steps = 150, 100, 1000, 800

# %% [markdown]
# ## The data
#
# Drawn here, so that the story is in plain sight. Each site has a kind. Each kind has its own chance that a species lives
# there, and its own rate of sightings. Some visits were cut short by rain: those cells are **missing**, which is not the same
# as zero.

# %%
rng = np.random.default_rng(7)
species = ["robin", "jay", "heron", "coot", "lark", "kite", "wren", "crow"]
lives = np.array(
    [
        [0.9, 0.8, 0.1, 0.1, 0.1, 0.3, 0.9, 0.6],
        [0.3, 0.2, 0.9, 0.9, 0.1, 0.2, 0.7, 0.4],
        [0.3, 0.4, 0.1, 0.1, 0.9, 0.7, 0.2, 0.8],
    ]
)
rate = np.array([[5, 3, 1, 1, 1, 1, 6, 2], [2, 1, 3, 8, 1, 1, 4, 1], [2, 2, 1, 1, 6, 2, 2, 4]])
kind = rng.choice(3, sites, p=[0.5, 0.3, 0.2])
counts = rng.poisson(rate[kind]) * rng.binomial(1, lives[kind])
table = pd.DataFrame(
    np.where(rng.random(counts.shape) < 0.05, np.nan, counts),
    columns=species,
    index=[f"site {i}" for i in range(sites)],
)
print(f"{np.mean(counts == 0):.0%} of the cells are zero, {table.isna().mean().mean():.0%} missing")
table.head()

# %% [markdown]
# ## Expectation maximisation, from many starts
#
# EM climbs to the nearest top of the posterior. With a hundred starts at once (they are one batched computation) we see how many tops there
# are. Nearly every start finds three kinds as different as these. Ask for six, and most starts end lower. So ten restarts are the default, and
# every restart's end is kept (`fit.runs`).

# %%
six = pyrozoo.fit("zip_mixture", "em", data=table, num_components=6, restarts=restarts, holdout=0.1)
six.pictures["restarts"]

# %%
em = pyrozoo.fit("zip_mixture", "em", data=table, num_components=3, restarts=restarts, holdout=0.1)
for fit in (em, six):
    gaps = fit.runs["objective"].max() - fit.runs["objective"]
    print(f"{fit}\n  {(gaps < 0.1).mean():.0%} of {len(gaps)} starts end within 0.1 of the best")

# %% [markdown]
# The best of them found the kinds: profiles of the three components, and for each pair of sites the probability that they are of one kind.

# %%
em.pictures["components"]

# %% [markdown]
# The same climb, played. Press the button, or use the arrow keys: profiles take shape within a few steps, and the rest is polish.

# %%
em.movie()

# %% tags=["gallery"]
em.pictures["affinity"]

# %% [markdown]
# Each visit that rain cut short is completed from the other species at the same site. A tenth of the cells was hidden (`holdout=0.1`), so we know how
# good that is. `holdout_elpd` is the mean log predictive density of a hidden cell, the one yardstick for all methods.

# %%
em.tables["clusters"].head()

# %% [markdown]
# ## Five more methods
#
# EM gives one point. The others give a distribution. CAVI and SVI approximate it by factors that are independent of each other,
# Laplace by a Gaussian around EM's mode. Gibbs and NUTS draw from the posterior itself.

# %%
fits = [
    em,
    pyrozoo.fit("zip_mixture", "cavi", data=table, num_components=3, restarts=restarts, holdout=0.1),
    pyrozoo.fit("zip_mixture", "svi", data=table, num_components=3, max_steps=steps, holdout=0.1),
    pyrozoo.fit("zip_mixture", "laplace", data=table, num_components=3, holdout=0.1),
    pyrozoo.fit("zip_mixture", "gibbs", data=table, num_components=3, draws=draws, holdout=0.1),
    pyrozoo.fit("zip_mixture", "nuts", data=table, num_components=3, draws=draws, holdout=0.1),
]
comparison = pyrozoo.compare(fits)
comparison

# %% [markdown]
# The sentence above says which fit to believe, for what, at what price. A row is a **verdict card**: each fit is held to the best sampler among
# them, by quantities that do not depend on how components are numbered. Each card begins with an answer of its own:

# %%
for name, card in zip(comparison.names, comparison.cards):
    print(f"{name}: {card.answer}")

# %%
comparison.pictures["errors"]

# %% [markdown]
# ## What goes wrong, and why
#
# **CAVI and SVI are too sure.** Their weights, probabilities and assignments are independent by construction. In the posterior
# they are not: if site 12 is a marsh after all, the marsh's profile moves a little, and with it the next doubtful site. Ignoring that
# makes intervals too narrow, while the means are mostly right. Each dot is a quantity: below the diagonal the method is surer than the
# reference. Quantities of the whole table (left) come out well, since a whole table averages its doubtful sites; parameters of single components (right) do
# not. And the log-likelihood is too high: an approximation that is too sure sits too close to the top.

# %%
comparison.pictures["spread"]

# %% [markdown]
# **Labels switch.** Nothing in the model says which component is number 0. In a sampler that runs long enough numbers change places, and the
# mean of "the rate of component 0" over such draws is the mean of nothing. Here chains of NUTS found tops that are the same up to
# numbering: raw R-hat says that they disagree, R-hat after alignment that they do not. Compare only what numbering cannot change, or align first
# (`fit.aligned`), as every table and picture here does.

# %%
nuts = fits[-1]
print(
    f"R-hat of parameters: raw {nuts.metrics['rhat_max_raw']:.2f}, aligned {nuts.metrics['rhat_max']:.2f}, of invariants {nuts.metrics['rhat_max_invariants']:.2f}"
)

# %% [markdown]
# **Zeros are not missing.** The tempting repair of a gappy table is to write 0 into the gaps. The model then learns that species
# are rarer than they are: below, the mean of each column as the model sees it, both ways, against the truth.

# %%
hidden = table.mask(rng.random(table.shape) < 0.3)
zeros = pyrozoo.fit("zip_mixture", "em", data=hidden.fillna(0), num_components=3, restarts=restarts)
gaps = pyrozoo.fit("zip_mixture", "em", data=hidden, num_components=3, restarts=restarts)
truth = np.array([0.5, 0.3, 0.2]) @ (lives * rate)
axes = pd.DataFrame(
    {
        "truth": truth,
        "gaps summed out": gaps.invariants.means()["column_mean"],
        "gaps filled with 0": zeros.invariants.means()["column_mean"],
    },
    index=species,
).plot.bar(figsize=(8, 3), ylabel="mean count", color=["0.3", "C0", "C3"])
axes.set_title("Three tenths of the cells hidden")
plt.show()

# %% [markdown]
# **How many components?** Fit several and compare. The choice is the smallest value that nothing beats beyond its noise. Two
# kinds are enough for what a hundred hidden cells can tell; the three that we drew are within noise. On the command line this
# is one sweep:
# `python -m pyrozoo -m model=zip_mixture inference=cavi model.num_components=1,2,3,4,5,6 data=table data.path=counts.csv`.

# %%
choices = pyrozoo.compare(
    [
        pyrozoo.fit("zip_mixture", "cavi", data=table, num_components=k, restarts=restarts, holdout=0.1)
        for k in range(1, 7)
    ]
)
print(choices.choice.sentence)
choices.pictures["choice_num_components"]

# %% [markdown]
# ## Which to use
#
# *Gibbs* when you want answers with honest intervals: it takes seconds here, and its chains agree. *EM* with many restarts
# for a first look and for very large tables. *CAVI* to choose the number of components. *NUTS* as a second
# opinion that shares no code with the others but the program itself.
