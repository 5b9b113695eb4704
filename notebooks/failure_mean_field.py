# %% [markdown]
# # A failure: mean field on a tilted posterior
#
# **Look for** an upright ellipse inside a tilted one. Mean field makes coefficients independent. Where the data know their sum and not each of
# them, it is too sure of both.

# %%
import pyrozoo

# %% tags=["parameters"] small={"steps": 100}
steps = 2000

# %% [markdown]
# ## The size of a tumour, measured twice
#
# Breast cancer: is a tumour malignant, given its mean radius and its worst radius? Both columns say nearly the same. Whatever one coefficient
# gains, the other may lose.

# %%
shared = {
    "data": "breast_cancer",
    "covariates": ["mean radius", "worst radius"],
    "holdout": 0.0,
    "intercept": False,
    "progress": False,
}
exact = pyrozoo.fit("logistic_regression", "exact", **shared)
mean_field = pyrozoo.fit("logistic_regression", "svi", max_steps=steps, restarts=1, **shared)
ep = pyrozoo.fit("logistic_regression", "ep", **shared)

# %% tags=["gallery"]
pyrozoo.compare([exact, mean_field, ep]).pictures["planes"]

# %%
for name, fit in (("exact", exact), ("mean field", mean_field), ("ep", ep)):
    sds = fit.draws["coefficients"].flatten(0, 1).std(0)
    print(f"{name}: sds {sds[0]:.2f} and {sds[1]:.2f}")
print(mean_field.verdict)

# %% [markdown]
# ## Why
#
# The ELBO is less for a $q$ that puts mass where there is no posterior than for one that leaves posterior out. The widest upright ellipse that stays inside has,
# of a normal posterior with correlation $\rho$, sds $\sqrt{1 - \rho^2}$ times the true ones.

# %%
rho = exact.draws["coefficients"].flatten(0, 1).T.corrcoef()[0, 1]
print(f"correlation {rho:.2f}: mean field keeps {(1 - rho**2) ** 0.5:.2f} of the sds")

# %% [markdown]
# *What to do.* Take a $q$ that can tilt: `inference=ep`, or `inference.family=multivariate` of `svi`. Or leave one of the columns out.
#
# Here is mean field on its way:

# %%
mean_field.movie()

# %% [markdown]
# The same as a page: `python -m pyrozoo experiment=failure_mean_field`.
