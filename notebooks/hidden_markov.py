# %% [markdown]
# # Earthquakes in three moods
#
# How many strong earthquakes does a year have? From 1900 to 2006 it was 19 on average, but quiet years follow quiet years, and busy years busy ones. A
# hidden Markov model says it with states: each has its rate, and they last. Zucchini and MacDonald made these counts the standard example.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo
from pyrozoo.data.sequences import Sequences

# %% tags=["parameters"] small={"restarts": 2, "draws": 50, "most": 2}
restarts, draws, most = 20, 1000, 5

# %%
counts = """13 14 8 10 16 26 32 27 18 32 36 24 22 23 22 18 25 21 21 14 8 11 14 23 18 17 19 20 22 19 13 26 13 14 22 24 21 22 26 21 23 24 27 41 31 27 35 26
28 36 39 21 17 22 17 19 15 34 10 15 22 18 15 20 15 22 19 16 30 27 29 23 20 16 21 21 25 16 18 15 18 14 10 15 8 15 6 11 8 7 18 16 13 12 13 20 15 16 12 18 15
16 13 15 16 11 11"""
years = pd.DataFrame({"time": range(1900, 2007), "earthquakes": list(map(int, counts.split()))})
one = Sequences.of(years.assign(sequence="Earth"))
print(one.size)

# %% [markdown]
# ## States and when they ruled
#
# EM with many starts finds the best point; Gibbs sampling says how sure we are. Behind each year is the colour of its most probable state.

# %% tags=["gallery"]
shared = {"data": one, "emission": "poisson", "num_components": 3, "progress": False}
em = pyrozoo.fit("hidden_markov", "em", restarts=restarts, **shared)
gibbs = pyrozoo.fit("hidden_markov", "gibbs", draws=draws, **shared)
gibbs.pictures["sequences"]

# %%
gibbs.tables["states"].round(2)

# %% [markdown]
# The book has rates of 13.1, 19.7 and 29.7, by maximum likelihood. A prior keeps ours a little nearer to the mean. `steps` says how many years a mood lasts.

# %%
print("rates at the mode:", np.sort(em.draws["rate"].flatten().numpy()).round(1))
gibbs.pictures["transitions"]

# %% [markdown]
# EM on its way, played. Press the button, or use the arrow keys.

# %%
em.movie()

# %% [markdown]
# ## What was lost, and what comes next
#
# Take a fifth of the years away, and leave out the nineties altogether. Lost years are summed out, and what they were is predicted from their
# neighbours. Intervals of the lost decade become wider toward its middle.

# %%
rng = np.random.default_rng(3)
lost = (rng.random(len(years)) < 0.2) | years["time"].between(1990, 1999)
less = Sequences.of(years.assign(sequence="Earth", earthquakes=years["earthquakes"].where(~lost)))
holes = pyrozoo.fit("hidden_markov", "gibbs", draws=draws, **{**shared, "data": less})
missing = holes.tables["missing"]
at = missing["row"].str.rpartition("=")[2].astype(int)
truth = years.set_index("time").loc[at, "earthquakes"].to_numpy()
inside = (truth >= missing["lower_90"]) & (truth <= missing["upper_90"])
print(f"{inside.sum()} of {len(inside)} lost years lie in their 90% interval")

# %%
ahead = holes.tables["forecast"]
figure, axis = plt.subplots(figsize=(9, 3))
axis.plot(years["time"], years["earthquakes"].where(~lost), ".-", color="black", lw=0.6)
for table, when, colour, name in ((missing, at, "tab:orange", "lost"), (ahead, ahead["time"], "tab:blue", "next")):
    low, high = (table[each] for each in ("lower_90", "upper_90")) if name == "lost" else (
        ahead["earthquakes_lower_90"], ahead["earthquakes_upper_90"])  # fmt: skip
    axis.vlines(when, low, high, color=colour, lw=3, alpha=0.5, label=f"{name}: 90% interval")
axis.plot(years["time"][lost], years["earthquakes"][lost], "x", color="tab:red", ms=5, label="what it was")
axis.set(xlabel="year", ylabel="earthquakes", ylim=(0, 52))
axis.legend(frameon=False, ncols=3, loc="upper left")
plt.show()

# %% [markdown]
# ## How many states?
#
# The bound on the evidence of `cavi` answers it, with $\log K!$ for the labellings that it does not hold.

# %%
found = {}
for K in range(1, most + 1):
    fit = pyrozoo.fit("hidden_markov", "cavi", restarts=restarts, **{**shared, "num_components": K})
    found[K] = fit.objective + sum(np.log(np.arange(1, K + 1)))
pd.Series(found, name="bound on log p(data)").rename_axis("states").round(1).to_frame()

# %% [markdown]
# Three it is. A fourth state costs more than it explains, and one is out of the question.
