# %% [markdown]
# # A failure: a bound that shrinks
#
# **Look for** two curves whose peaks are apart. One is the log evidence, the other a lower bound of it. Whoever chooses a setting by the bound chooses
# where the bound is tight.

# %%
import matplotlib.pyplot as plt

import pyrozoo

# %% tags=["parameters"] small={"scales": [1.0, 4.0, 8.0]}
scales = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0]

# %% [markdown]
# ## How wide should the prior be?
#
# Logistic regression of sixty rows whose curve is steep. The prior sd of the slope is chosen by the evidence: exactly, by expectation propagation,
# and by the bound of Jaakkola and Jordan.

# %%
truth = {"coefficient_scale": 4.0, "intercept_scale": 1.0}
fits = {
    method: [
        pyrozoo.fit(
            "logistic_regression",
            method,
            data="simulated_responses",
            rows=60,
            truth=truth,
            holdout=0.0,
            coefficient_scale=s,
            progress=False,
        )
        for s in scales
    ]
    for method in ("exact", "ep", "jaakkola_jordan")
}

# %% tags=["gallery"]
axes = plt.subplots(figsize=(6.4, 3.4))[1]
for method, each in fits.items():
    said = [fit.objective for fit in each]
    (line,) = axes.plot(scales, said, ".-", label=method)
    best = max(range(len(scales)), key=said.__getitem__)
    axes.plot(scales[best], said[best], "o", ms=9, color=line.get_color())
    print(f"{method}: highest at {scales[best]:g}")
axes.set(xscale="log", xlabel="prior sd of the slope", ylabel="log evidence, or its bound")
axes.legend()
plt.show()

# %% [markdown]
# ## Why
#
# The bound replaces the likelihood of a row by a quadratic that touches it at two places. It fits where the posterior is narrow, which is where the
# prior is. The wider the prior, the more it loses. What it says of the slope is too narrow as well:

# %%
for method, each in fits.items():
    fit = each[-1]
    print(f"{method}: sd of the slope {fit.draws['coefficients'][..., 1].std():.2f} at prior sd {scales[-1]:g}")

# %% [markdown]
# *What to do.* Choose by the evidence, by LOO or by held-out rows. A bound compares methods on one model, never models.
#
# [What a bound costs](bounds.ipynb) has the same of variational EM, where it shrinks what is estimated.

# %%
fits["jaakkola_jordan"][-1].movie()

# %% [markdown]
# The same as a page: `python -m pyrozoo experiment=failure_bound`.
