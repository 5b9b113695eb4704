# %% [markdown]
# # Every approximation on one plane
#
# A logistic regression has no posterior in closed form. With two coefficients it can be drawn all the same, and so can whatever stands in its
# place. Here are seven methods on one data set. The exact posterior is behind each of them, in grey.

# %%
import pandas as pd

import pyrozoo
from pyrozoo.data.simulate import simulate_data
from pyrozoo.models.logistic_regression.model import LogisticRegression

# %% tags=["parameters"] small={"draws": 60, "steps": 200}
draws, steps = 1000, 3000

# %% [markdown]
# ## Twenty rows
#
# The steeper the curve, the less twenty rows say of how steep it is: the posterior is skewed.

# %%
model = LogisticRegression("bernoulli", True, True, 2.5, 2.5, 1.0, 1.0)
truth = LogisticRegression("bernoulli", True, True, 1.0, 2.0, 1.0, 1.0)
rows = simulate_data(truth, seed=8, rows=20, columns=1)
shared = {"data": rows, "progress": False}
exact = pyrozoo.fit(model, "exact", **shared)
print(exact.verdict.answer)

# %%
exact.pictures["curve"]

# %%
exact.pictures["plane"]

# %% [markdown]
# ## Seven in its place
#
# Laplace puts a normal distribution at the mode. The bound of Jaakkola and Jordan and expectation propagation (EP) give each row a normal factor.
# SVI climbs the ELBO, with a tilted ellipse or an upright one. Gibbs and NUTS draw. Look at the middle first, then at the size, then at the tilt.

# %%
fits = {
    "exact": exact,
    "ep": pyrozoo.fit(model, "ep", **shared),
    "jaakkola_jordan": pyrozoo.fit(model, "jaakkola_jordan", **shared),
    "laplace": pyrozoo.fit(model, "laplace", **shared),
    "svi, multivariate": pyrozoo.fit(model, "svi", family="multivariate", max_steps=steps, **shared),
    "svi, mean field": pyrozoo.fit(model, "svi", family="mean_field", max_steps=steps, **shared),
    "gibbs": pyrozoo.fit(model, "gibbs", draws=draws, thin=1, **shared),
    "nuts": pyrozoo.fit(model, "nuts", draws=draws, **shared),
    "em": pyrozoo.fit(model, "em", **shared),
}
judged = pyrozoo.compare(list(fits.values()))
print(judged.answer)

# %% tags=["gallery"]
judged.pictures["planes"]

# %% [markdown]
# All of them on their way, played side by side. Press the button, or use the arrow keys.

# %%
judged.movie()

# %% [markdown]
# The same in numbers. What each says of the log evidence is exact, an estimate (`ep`, `laplace`) or a bound.


# %%
def said(fit) -> dict[str, float]:
    """Return means, sds and what is said of the log evidence."""
    beta = fit.draws["coefficients"].flatten(0, 1)
    known = {"intercept": beta[:, 0].mean(), "slope": beta[:, 1].mean()}
    if len(beta) > 1:
        known |= {"sd of intercept": beta[:, 0].std(), "sd of slope": beta[:, 1].std()}
    evidence = {} if fit.kind in ("samples", "point") else {"log evidence": fit.objective}
    return {name: float(value) for name, value in {**known, **evidence}.items()}


pd.DataFrame({name: said(fit) for name, fit in fits.items()}).T.round(2).fillna("")

# %% [markdown]
# *What to take home.* EP has mean and size nearly right, at a hundredth of the work of a sampler. The bound has the mean and is too sure. Laplace has the
# size and sits at the mode, which is not the mean of a skewed posterior. Mean field cannot tilt.
#
# ## Thirty columns
#
# Breast cancer: 569 tumours, a fifth of the diagnoses held out. There is no grid for 31 coefficients, and EP takes a second. The mode, which says
# nothing of how unsure it is, predicts worse.

# %%
cancer = {name: pyrozoo.fit("logistic_regression", name, data="breast_cancer", progress=False) for name in ("ep", "em")}
for name, fit in cancer.items():
    print(f"{name}: log score of a held-out tumour {fit.metrics['holdout_elpd']:.3f}")
cancer["ep"].pictures["coefficients"]
