# %% [markdown]
# # Failures, staged
#
# **Everything here goes wrong on purpose.** Each section stages one failure, shows the sentence that the card says of it, and what to do.
# None of them is an accident of the data: the cure stands beside each, and it works.
#
# A card is an answer, and at most seven lines below it. The same words stand on the terminal and at the top of the report.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import pyrozoo
from pyrozoo.data.grid import Grid

# %% tags=["parameters"] small={"rows": 40, "draws": 60, "sizes": [1, 2], "side": 5}
rows, draws, sizes, side = 150, 1000, [1, 2, 3, 4, 5, 6], 8

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
# ## A stuck mode
#
# A square map without any reading. Neighbours like to be equal, so the map is nearly all land or nearly all sea, each with probability one half. To cross
# from one to the other, Gibbs has to pass maps with a long shore. It never does. Every chain by itself looks calm.

# %%
places = [str(i) for i in range(side)]
blank = Grid(torch.full((side, side), torch.nan, dtype=torch.float64), places, places, levels=["land", "sea"])
free = {"data": blank, "observation_strength": 1.0, "coupling": [[1.5, 0.0], [0.0, 1.5]]}
stuck = pyrozoo.fit("potts_grid", "gibbs", **free, draws=draws // 2, warmup=50, thin=1)
stuck.verdict

# %%
share = stuck.invariants["label_share"][..., 0]
axes = plt.subplots(figsize=(8, 2.4))[1]
axes.plot(share.T, lw=0.8)
axes.set(title="Share of land: four chains", xlabel="draw", ylim=(-0.05, 1.05))
plt.show()

# %% [markdown]
# The chains on the map, played. Press the button, or use the arrow keys.

# %%
stuck.movie()

# %% [markdown]
# *What to do.* A longer run does not help here. Compare the modes of the chains: are they the two that you expect? A small map has an exact answer:

# %%
exact = pyrozoo.fit("potts_grid", "exact", **free)
print(exact.verdict.answer)
print(f"share of land: {float(exact.invariants['label_share'][..., 0].mean()):.2f}")

# %% [markdown]
# ## A prior on another scale
#
# Reads of four genes in two groups of three samples: means from 500 to 3000. We state a prior for rates around 1, as if they were sightings of birds.

# %%
reads = np.concatenate([rng.poisson([1000, 500, 2000, 800], (3, 4)), rng.poisson([3000, 500, 400, 900], (3, 4))])
wrong = pyrozoo.fit("zip_mixture", "em", data=reads, num_components=2, rate_rate=1.0)
wrong.verdict

# %% [markdown]
# *What to do.* Type what the line says. `null` (in Python `None`), the default, takes the scale from the data:

# %%
right = pyrozoo.fit("zip_mixture", "em", data=reads, num_components=2)
for name, fit in (("stated", wrong), ("from the data", right)):
    print(f"{name}: groups {fit.tables['clusters'].iloc[:, 1].tolist()}")
right.notes

# %% [markdown]
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
# ## All on one page
#
# ```sh
# python -m pyrozoo experiment=staged_failures
# ```
#
# writes one page on which several of these go wrong at once. Its first sentence says so.
