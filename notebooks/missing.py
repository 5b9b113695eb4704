# %% [markdown]
# # Missing means missing
#
# An empty cell says nothing. A zero says *none*. Software that wants a full table makes people write one for the other, and this notebook
# shows what that costs, in three models. The alternative is a sum: if $x$ splits into what was observed and what was not,
#
# $$p(x_\text{obs} \mid \theta) = \int p(x_\text{obs}, x_\text{mis} \mid \theta)\, dx_\text{mis},$$
#
# and for these models the integral is done by leaving factors out: a product over *observed* cells. Nothing is filled in, nothing is thrown away,
# and every method here, EM to NUTS, works with that density.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"rows": 60, "readers": 30, "shares": [0.3], "restarts": 3, "draws": 60}
rows, readers, shares, restarts, draws = 400, 120, [0.1, 0.3, 0.5, 0.7], 10, 300

# %% [markdown]
# ## A table of measurements
#
# Six sensors follow two hidden causes. A growing share of the cells is lost, completely at random. Factor analysis reads what is left in three
# ways: with gaps as gaps, with zeros in them, and with each column's mean in them.

# %%
rng = np.random.default_rng(3)
sensors = ["oven", "wall", "floor", "inlet", "outlet", "roof"]
loadings = np.array([[2.0, 1.6, 1.2, 0.0, 0.3, 0.8], [0.0, 0.4, -0.8, 1.8, 1.5, -0.6]])
offset = np.array([5.0, 3.0, 2.0, -4.0, 1.0, 0.0])
full = pd.DataFrame(rng.normal(size=(rows, 2)) @ loadings + offset + 0.5 * rng.normal(size=(rows, 6)), columns=sensors)
covariance = loadings.T @ loadings + 0.25 * np.eye(6)


def readings(gappy):
    return {"summed out": gappy, "zeros": gappy.fillna(0.0), "column means": gappy.fillna(gappy.mean())}


found = []
for share in shares:
    gappy = full.mask(rng.random(full.shape) < share)
    for name, reading in readings(gappy).items():
        fit = pyrozoo.fit("factor_analysis", "em", data=reading, num_factors=2, restarts=restarts)
        mean, variance = (fit.invariants.means()[name].numpy() for name in ("column_mean", "column_variance"))
        found.append((share, name, np.abs(mean - offset).mean(), np.mean(variance / np.diag(covariance))))
found = pd.DataFrame(found, columns=["share lost", "reading", "error of means", "variance / truth"])
panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")[1]
for axes, column in zip(panels, ["error of means", "variance / truth"]):
    found.pivot(index="share lost", columns="reading", values=column).plot(ax=axes, marker="o", title=column)
panels[1].axhline(1, color="0.3", lw=0.8)
plt.show()

# %% [markdown]
# With gaps as gaps both stay nearly right up to seventy percent lost; they only become less certain. Zeros pull every mean toward zero, and make
# columns whose mean is far from zero look *more* variable than they are, until little but zeros is left. Column means keep the means and shrink
# variances by just the share that was filled in: the table looks quieter and less correlated than the world is. No amount of data mends that: it is
# bias, not noise.
#
# ## Intervals for what was lost
#
# A method that sums out can also say what the lost cells may have been. A tenth of what is left was hidden (`holdout=0.1`) to check: ninety percent
# intervals should hold nine in ten.

# %%
gappy = full.mask(rng.random(full.shape) < 0.3)
fit = pyrozoo.fit("factor_analysis", "gibbs", data=gappy, num_factors=2, draws=draws, holdout=0.1)
print(f"RMSE {fit.metrics['holdout_rmse']:.2f}; 90% intervals hold {fit.metrics['holdout_coverage_90']:.0%}")
fit.pictures["holdout"]

# %% [markdown]
# The chain on its way, played. Press the button, or use the arrow keys.

# %%
fit.movie()

# %% [markdown]
# ## Ratings: what nobody rated
#
# Readers rate books from -2 to 2, each of them a third of the list. Read as a full matrix with zeros in it, two thirds of the "ratings" are 0, and a model of them learns that
# most people are indifferent to most books.

# %%
books = 30
taste, style = rng.normal(size=(readers, 2)), rng.normal(size=(books, 2))
truth = 0.8 * taste @ style.T + 0.5
rated = rng.random(truth.shape) < 1 / 3
ratings = np.where(rated, truth + 0.4 * rng.normal(size=truth.shape), np.nan)


def predicted(matrix):
    """Return what a fit predicts for every pair, rated or not."""
    fit = pyrozoo.fit("gaussian_mf", "em", data=matrix, num_factors=2, offsets=True, restarts=restarts)
    draw = {site: value.numpy() for site, value in fit.draws.means().items()}
    means = draw["mean"] + draw["row_offsets"][:, None] + draw["column_offsets"]
    return means + draw["row_factors"] @ draw["column_factors"].T


predictions = {"summed out": predicted(ratings), "zeros": predicted(np.nan_to_num(ratings))}
panels = plt.subplots(1, 2, figsize=(8, 3.6), sharex=True, sharey=True, layout="constrained")[1]
for axes, (name, prediction) in zip(panels, predictions.items()):
    error = np.sqrt(np.mean((prediction - truth)[~rated] ** 2))
    axes.plot(truth[~rated], prediction[~rated], ".", ms=2, alpha=0.4)
    axes.axline((0, 0), slope=1, color="0.3", lw=0.8)
    axes.set(title=f"{name}: RMSE {error:.2f}", xlabel="what the reader would say", xlim=(-4, 5), ylim=(-4, 5))
panels[0].set_ylabel("prediction, pairs that nobody rated")
plt.show()

# %% [markdown]
# ## Plays: when a zero is a zero
#
# Counts of plays are different. That a listener never played an artist *is* an observation, and the weakest evidence of taste there is. `poisson_mf`
# takes pairs that are not listed as zeros, at no cost: its time goes with what is listed. It takes an empty count as missing. The question to ask of
# a gap is always the same: **had the value been large, would I know?** For plays, yes. For ratings, no.

# %%
listeners, artists = readers, 40
rate = rng.gamma(0.5, 1.0, (listeners, 3)) @ rng.gamma(0.5, 1.0, (3, artists))
plays = rng.poisson(rate).astype(float)
lost = rng.random(plays.shape) < 0.3
readings_of_plays = {
    "zeros are data, gaps are summed out": np.where(lost, np.nan, plays),
    "gaps are zeros, too": np.where(lost, 0, plays),
    "zeros are gaps, too": np.where(lost | (plays == 0), np.nan, plays),
}
print(f"{np.mean(plays == 0):.0%} of the counts are 0; mean of the lost ones {plays[lost].mean():.2f}")
for name, matrix in readings_of_plays.items():
    fit = pyrozoo.fit("poisson_mf", "cavi", data=matrix, num_factors=3, restarts=restarts)
    mean = (fit.draws["row_factors"] @ fit.draws["column_factors"].mT).mean((0, 1)).numpy()
    print(f"{name:<38} mean predicted {mean[lost].mean():.2f}, RMSE {np.sqrt(np.mean((mean - plays)[lost] ** 2)):.2f}")

# %% [markdown]
# Both mistakes show in the mean of the predictions for lost cells: zeros in gaps pull it down, gaps in the place of zeros push it up.
#
# ## What no model can sum out
#
# All of this assumes that *whether* a cell is missing does not depend on *what* it would have been, given what was observed (missing at random). Suppose the
# oven's sensor fails when it is hot. Summing out then uses the other sensors, which know something of the heat, and repairs a part; what they do not know stays lost.

# %%
hot = full["oven"] + rng.normal(size=rows) > full["oven"].mean() + 1
failing = full.assign(oven=full["oven"].mask(hot))
fit = pyrozoo.fit("factor_analysis", "em", data=failing, num_factors=2, restarts=restarts)
print(f"mean of the oven: truth {full['oven'].mean():.2f}, of what was recorded {failing['oven'].mean():.2f}, ", end="")
print(f"by the model {float(fit.invariants.means()['column_mean'][0]):.2f}")

# %% [markdown]
# Better than the mean of what was recorded, since the other sensors tell of the heat, and still not right. A gap that depends on its own value needs a model of the gap.
#
# ## In one line
#
# Leave cells empty. `data=table data.path=FILE.csv` reads empty cells as missing in every model; `data.holdout=0.1` checks what was made of them.
