# %% [markdown]
# # Failures, staged
#
# **Everything here goes wrong on purpose.** Each section stages one failure, shows the sentence that the card says of it, and what to do.
# None of them is an accident of the data: the cure stands beside each, and it works.
#
# A card is an answer, and at most seven lines below it. The same words stand on the terminal and at the top of the report.

# %%
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"rows": 40, "draws": 60, "sizes": [1, 2]}
rows, draws, sizes = 150, 1000, [1, 2, 3, 4, 5, 6]

# %% [markdown]
# One table serves for most of it: counts of six species at sites of three kinds, with more zeros than a Poisson has.

# %%
rng = np.random.default_rng(1)
kind = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
rate = np.array([[9, 3, 1, 1, 1, 4], [2, 1, 5, 9, 1, 1], [1, 6, 1, 1, 9, 2]])
counts = pd.DataFrame(
    rng.poisson(rate[kind]) * rng.binomial(1, 0.7, (rows, 6)), columns=["robin", "jay", "heron", "coot", "lark", "kite"]
)
counts.head()

# %% [markdown]
# ## A chain that is too short
#
# Two sweeps of warm-up and thirty draws. Four chains start in different places, and so few draws cannot show that they
# agree. R-hat compares them.

# %%
short = pyrozoo.fit("zip_mixture", "gibbs", data=counts, num_components=3, warmup=2, draws=30, thin=1)
short.verdict

# %%
short.pictures["traces"]

# %% [markdown]
# The first chain, played. Press the button, or use the arrow keys.

# %%
short.movie()

# %% [markdown]
# *What to do.* Run longer. The defaults do:

# %%
gibbs = pyrozoo.fit("zip_mixture", "gibbs", data=counts, num_components=3, draws=draws, holdout=0.1)
gibbs.verdict

# %% [markdown]
# ## A reference that has not converged
#
# Errors of other methods are measured from a reference. When that is a chain too short, the errors are its own. So the page holds nothing against anybody,
# and compares fits in pairs.

# %%
em = pyrozoo.fit("zip_mixture", "em", data=counts, num_components=3)
cavi = pyrozoo.fit("zip_mixture", "cavi", data=counts, num_components=3)
unjudged = pyrozoo.compare([short, em, cavi])
print(unjudged.answer)
unjudged.pairwise.round(2)

# %% [markdown]
# *What to do.* Run the reference longer, then compare again. Or hold all of them to a stored fit: `reference=DIRECTORY`.
#
# ## Intervals that are too short
#
# Two kinds of sites that are hard to tell apart: mean counts of 2 and 4. CAVI makes assignments, weights and rates independent. In the posterior they are
# not. Its means of columns are right. It is too sure of which sites are of one kind (`same_component`).

# %%
alike = rng.poisson(np.where(rng.random((rows, 1)) < 0.5, 2.0, 4.0), (rows, 5)) * rng.binomial(1, 0.6, (rows, 5))
judged = pyrozoo.compare(
    [
        pyrozoo.fit("zip_mixture", "gibbs", data=alike, num_components=2, draws=draws),
        pyrozoo.fit("zip_mixture", "cavi", data=alike, num_components=2),
        pyrozoo.fit("zip_mixture", "em", data=alike, num_components=2),
    ]
)
print(judged.answer)
judged.cards[1]

# %%
judged.pictures["spread"]

# %% [markdown]
# *What to do.* Take CAVI's means, and a sampler's intervals.
#
# ## A point held to intervals
#
# EM gives the single best value. It has no spread, so nothing says how far it may be off. Nobody holds a point to intervals: the card has no line about them.

# %%
judged.cards[2]

# %% [markdown]
# *What to do.* Use a point as a point. For intervals take a sampler.
#
# ## A model that misses zeros
#
# Poisson factors know one kind of zero: a small rate. Our species are often absent where their rate is high. Data simulated from the fit never
# have as many zeros.

# %%
poisson = pyrozoo.fit("poisson_mf", "cavi", data=counts, num_factors=2)
poisson.verdict

# %% [markdown]
# *What to do.* Change the model; another method will not help. The mixture above has zeros of both kinds, and its card passes that line.
#
# ## More clusters than the data can tell apart
#
# The likelihood of a larger K is always higher. What it predicts of hidden cells is not. The choice says which values are within noise.

# %%
choice = pyrozoo.compare(
    [pyrozoo.fit("zip_mixture", "cavi", data=counts, num_components=k, holdout=0.1) for k in sizes]
)
print(choice.choice.sentence)
choice.pictures["choice_num_components"]

# %% [markdown]
# *What to do.* Take the smallest value that nothing beats beyond its noise.
#
# ## Six more, one at a time
#
# Each of these has a notebook of its own. It says what to look for first, and plays a movie.
#
# - [Mean field on a tilted posterior](failure_mean_field.ipynb)
# - [Labels that change places](failure_labels.ipynb)
# - [A bound that shrinks](failure_bound.ipynb)
# - [A sampler that is stuck](failure_stuck.ipynb)
# - [A prior that fights the data](failure_prior.ipynb)
# - [A point that is too sure](failure_point.ipynb)
#
# ## All on one page
#
# ```sh
# python -m pyrozoo experiment=staged_failures
# ```
#
# writes one page on which several of these go wrong at once. Its first sentence says so.
