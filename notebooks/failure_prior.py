# %% [markdown]
# # A failure: a prior that fights the data
#
# **Look for** the line *prior* of the card, and for a held-out score that one number changes. A prior on another scale is no weak prior.

# %%
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"rows": 30}
rows = 60

# %% [markdown]
# ## Counts of a thousand, expected around one
#
# Reads of genes: a mixture of two groups with means of some hundred to some thousand. We state a prior for rates around 1, as if they were sightings of
# birds. `None`, the default, takes the scale from the data.

# %%
settings = {
    "data": "simulated",
    "rows": rows,
    "columns": 4,
    "truth": {"num_components": 2, "rate_rate": 0.001},
    "holdout": 0.1,
    "num_components": 2,
}
wrong = pyrozoo.fit("zip_mixture", "em", rate_rate=1.0, progress=False, **settings)
right = pyrozoo.fit("zip_mixture", "em", progress=False, **settings)
wrong.verdict

# %% tags=["gallery"]
wrong.pictures["holdout"]

# %%
pd.DataFrame(
    {
        name: {
            "log score of a hidden cell": fit.metrics["holdout_elpd"],
            "largest rate": float(fit.draws["rate"].max()),
        }
        for name, fit in (("stated", wrong), ("from the data", right))
    }
).round(2)

# %% [markdown]
# *What to do.* Type what the line says. Draw data from your prior before you look at the posterior: none of them should be absurd.

# %%
right.notes

# %%
wrong.movie()

# %% [markdown]
# The same as a page: `python -m pyrozoo experiment=failure_prior`.
