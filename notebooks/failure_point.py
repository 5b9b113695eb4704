# %% [markdown]
# # A failure: a point that is too sure
#
# **Look for** how often a sure prediction is right. The single best value predicts as if nothing else were possible.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"rows": 60}
rows = 120

# %% [markdown]
# ## Twelve rows, seven coefficients
#
# Nine tenths of the responses are hidden. The rest can be separated by many planes. `em` takes one of them, the posterior mode; `ep` and
# `jaakkola_jordan` average over those that the rows allow.

# %%
scales = {"coefficient_scale": 4.0, "intercept_scale": 1.0}
settings = {
    "data": "simulated_responses",
    "rows": rows,
    "columns": 6,
    "truth": scales,
    "holdout": 0.9,
    "progress": False,
    **scales,
}
fits = {name: pyrozoo.fit("logistic_regression", name, **settings) for name in ("em", "jaakkola_jordan", "ep")}

# %% tags=["gallery"]
figure, every = plt.subplots(1, 3, figsize=(9.5, 3), sharey=True)
for axes, (name, fit) in zip(every, fits.items(), strict=True):
    said = fit.tables["holdout"]
    sure = np.maximum(said["mean"], 1 - said["mean"])
    right = said["mean"].round() == said["true"]
    part = pd.cut(sure, [0.5, 0.7, 0.9, 1.0], include_lowest=True)
    both = pd.DataFrame({"said": sure, "right": right}).groupby(part, observed=True).mean()
    axes.plot([0.5, 1], [0.5, 1], color="0.6", lw=0.8)
    axes.plot(both["said"], both["right"], "o-")
    axes.set(title=name, xlabel="how sure it is", ylim=(0.4, 1.05))
every[0].set_ylabel("how often it is right")
plt.show()

# %%
rows = {}
for name, fit in fits.items():
    said = fit.tables["holdout"]
    rows[name] = {
        "sure, on average": np.maximum(said["mean"], 1 - said["mean"]).mean(),
        "right": (said["mean"].round() == said["true"]).mean(),
        "log score": fit.metrics["holdout_elpd"],
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# All are right about as often. The point is surer than it may be, and the log score, which counts what was sure and wrong, says so.
#
# *What to do.* Use a point to rank. For probabilities average over the posterior, be it an approximate one.

# %%
fits["em"].movie()

# %% [markdown]
# The same as a page: `python -m pyrozoo experiment=failure_point`.
