# %% [markdown]
# # A failure: labels that change places
#
# **Look for** chains on levels of their own, and a raw R-hat far from 1. The chains agree on everything but on what to call the clusters.

# %%
import matplotlib.pyplot as plt
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"rows": 60, "draws": 40}
rows, draws = 150, 500

# %% [markdown]
# ## Three clusters, four chains
#
# A mixture does not change when two components swap names. So the posterior has $3! = 6$ equal modes. Each chain settles in one of them.

# %%
settings = {
    "data": "simulated",
    "rows": rows,
    "columns": 2,
    "truth": {"num_components": 3},
    "holdout": 0.0,
    "num_components": 3,
}
fit = pyrozoo.fit("gaussian_mixture", "gibbs", draws=draws, warmup=200, thin=1, progress=False, **settings)
raw, aligned = (draws["mean"][..., 0, 0] for draws in (fit.draws, fit.aligned))

# %% tags=["gallery"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
left.plot(raw.T, lw=0.8)
right.plot(aligned.T, lw=0.8)
left.set(title="Mean of component 0: as drawn", xlabel="draw")
right.set(title="aligned", xlabel="draw")
plt.show()

# %% [markdown]
# An average over raw draws is an average over clusters. Below, the mean of each component in the first column: it looks like one cluster, three times,
# or like none. Aligned draws have three.

# %%
pd.DataFrame(
    {name: each["mean"][..., 0].mean((0, 1)) for name, each in (("raw", fit.draws), ("aligned", fit.aligned))}
).round(1)

# %%
print(f"R-hat raw {fit.metrics['rhat_max_raw']:.2f}, aligned {fit.metrics['rhat_max']:.3f}")
print(fit.verdict)

# %% [markdown]
# *What to do.* Average aligned draws (`fit.aligned`), or what no relabelling changes: the probability that two rows are of one cluster, the density,
# predictions. Reports here do both. A chain that does change labels is no better: it only hides the question.

# %%
fit.movie()

# %% [markdown]
# The same as a page: `python -m pyrozoo experiment=failure_labels`.
