# %% [markdown]
# # A failure: a sampler that is stuck
#
# **Look for** calm chains that do not agree. Every chain by itself looks converged. Only several, from different starts, show that they are not.

# %%
import matplotlib.pyplot as plt

import pyrozoo

# %% tags=["parameters"] small={"draws": 40}
draws = 500

# %% [markdown]
# ## A map of land and sea
#
# Eight by eight pixels, of which two are seen. Neighbours like to be equal, so the map is nearly all land or nearly all sea, each about as
# likely. To cross from one to the other, Gibbs has to pass maps with a long shore. It never does.

# %%
settings = {
    "data": "pattern",
    "rows": 8,
    "columns": 8,
    "num_labels": 2,
    "missing": 0.97,
    "observation_strength": 1.0,
    "coupling": [[1.5, 0.0], [0.0, 1.5]],
    "progress": False,
}
stuck = pyrozoo.fit("potts_grid", "gibbs", draws=draws, warmup=50, thin=1, **settings)
stuck.verdict

# %% tags=["gallery"]
share = stuck.invariants["label_share"][..., 0]
axes = plt.subplots(figsize=(8, 2.4))[1]
axes.plot(share.T, lw=0.8)
axes.set(title="Share of land: four chains", xlabel="draw", ylim=(-0.05, 1.05))
plt.show()

# %% [markdown]
# *What to do.* A longer run does not help. Compare the modes of the chains: are they the two that you expect? A small map has an exact answer, and a
# weaker coupling lets chains cross:

# %%
exact = pyrozoo.fit("potts_grid", "exact", **settings)
weak = pyrozoo.fit(
    "potts_grid", "gibbs", draws=draws, warmup=50, thin=1, **settings | {"coupling": [[0.5, 0.0], [0.0, 0.5]]}
)
print(f"exact: share of land {float(exact.invariants['label_share'][..., 0].mean()):.2f}")
print(f"R-hat {stuck.metrics['rhat_max']:.1f}; with a coupling of 0.5 it is {weak.metrics['rhat_max']:.2f}")

# %% [markdown]
# One chain at its work, which looks as if nothing were wrong:

# %%
stuck.movie()

# %% [markdown]
# The same as a page: `python -m pyrozoo experiment=failure_stuck`.
