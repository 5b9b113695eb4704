# %% [markdown]
# # A survey, and rows that nobody answered
#
# A hundred and sixty people, five questions about how they live. Answers go together: who comes by bike rather eats no meat. **Categorical factor
# analysis** says that a latent number $z$ per person (here: how green somebody is) is behind all of it,
#
# $$z_u \sim \mathcal{N}(0, 1), \qquad P(x_{ui} = k \mid z_u) = \frac{\exp(\beta_{ik} z_u + a_{ik})}{\sum_l \exp(\beta_{il} z_u + a_{il})},$$
#
# fills in missing answers, and writes *synthetic rows*, which keep which answers go together. The likelihood of a row is an integral over
# $z$ without a closed form. Eight methods do eight things about that, and this notebook asks what each of them costs.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"people": 60, "draws": 30, "warmup": 30, "steps": 40, "many": 2000, "surveys": 1}
people, draws, warmup, steps, many, surveys = 160, 200, 150, 400, 20000, 3

# %% [markdown]
# ## The data
#
# Drawn here: a slope $\beta$ and an offset $a$ for every answer. One answer in twelve is missing.

# %%
rng = np.random.default_rng(3)
answers = {
    "commute": (["bike", "bus", "car"], [1.3, 0.3, -1.3], [0.0, 0.3, 0.2]),
    "food": (["vegan", "mixed", "meat"], [1.2, 0.0, -1.2], [-1.0, 0.5, 0.0]),
    "holiday": (["train", "plane"], [1.0, -1.0], [-0.3, 0.0]),
    "garden": (["wild", "lawn"], [0.6, -0.6], [0.0, 0.2]),
    "heating": (["pump", "gas"], [1.2, -1.2], [-0.5, 0.5]),
}


def ask(count):
    """Return the answers of so many people, and how green they are."""
    green = rng.normal(size=count)
    table = {}
    for question, (levels, slope, offset) in answers.items():
        weight = np.exp(np.outer(green, slope) + offset)
        chosen = (rng.random((count, 1)) > np.cumsum(weight / weight.sum(1, keepdims=True), 1)[:, :-1]).sum(1)
        table[question] = np.array(levels)[chosen]
    return pd.DataFrame(table, index=[f"person {i}" for i in range(count)]), green


complete, green = ask(people)
survey = complete.mask(rng.random(complete.shape) < 1 / 12)
survey.head()

# %% [markdown]
# ## Exact integration
#
# With one latent dimension the integral is a sum over a few dozen nodes: `exact` is EM with that sum. Its pictures: how likely each answer is along
# $z$, and how well five answers place a person.

# %% tags=["gallery"]
model = {"data": survey, "latent_dimension": 1}
exact = pyrozoo.fit("categorical_fa", "exact", **model)
exact.pictures["categories"]

# %%
exact.pictures["uncertainty"]

# %% [markdown]
# EM on its way, played. Press the button, or use the arrow keys.

# %%
exact.movie()

# %% [markdown]
# Which answers would the missing ones have been? We drew them, so we can look.

# %%
missing = exact.tables["missing"]
missing["was"] = [complete.loc[row, column] for row, column in zip(missing["row"], missing["column"])]
right = (missing["answer"] == missing["was"]).mean()
naive = np.mean([survey[column].mode()[0] == was for column, was in zip(missing["column"], missing["was"])])
print(f"{len(missing)} missing answers: {right:.0%} guessed, {missing['probability'].mean():.0%} expected;", end=" ")
print(f"{naive:.0%} by each question's most frequent answer")
missing.head()

# %% [markdown]
# ## Synthetic rows
#
# Any number of them; with `given`, only such as gave certain answers. None is copied from the data.

# %%
pyrozoo.synthesize(exact, 4, given={"commute": "bike"})

# %% [markdown]
# Are they any good? Cramér's V says how strongly two questions go together, from 0 to 1. The naive synthetic table draws every column by
# itself: each column is perfect, and nothing goes together.

# %%
exact.pictures["association"]

# %%
found = exact.metrics
print(
    f"mean error of V: {found['mean_association_error']:.3f}; independent columns {found['independent_association_error']:.3f}"
)
for name, rows in (
    ("all", complete),
    ("synthetic", pyrozoo.synthesize(exact, many)),
    ("independent", complete.apply(lambda column: rng.permutation(column))),
):
    vegans = rows[rows["food"] == "vegan"]
    print(
        f"{name:12} {np.mean(rows['commute'] == 'bike'):.0%} come by bike, {np.mean(vegans['commute'] == 'bike'):.0%} of vegans do"
    )

# %% [markdown]
# ## Seven more methods

# %%
fits = [
    exact,
    pyrozoo.fit("categorical_fa", "vem", **model),
    pyrozoo.fit("categorical_fa", "laplace_em", **model),
    pyrozoo.fit("categorical_fa", "mc_em", **model),
    pyrozoo.fit("categorical_fa", "beta_prior", draws=draws, **model),
    pyrozoo.fit("categorical_fa", "svi", max_steps=steps, restarts=1, draws=draws, **model),
    pyrozoo.fit("categorical_fa", "vae", max_steps=steps, learning_rate=0.02, restarts=1, draws=draws, **model),
    pyrozoo.fit("categorical_fa", "nuts", chains=2, draws=2 * draws, warmup=warmup, **model),
]
comparison = pyrozoo.compare(fits)
comparison

# %%
for name, card in zip(comparison.names, comparison.cards):
    print(f"{name}: {card.answer}")

# %%
comparison.pictures["errors"]

# %% [markdown]
# ## What goes wrong, and why
#
# **The bound shrinks the dependence.** `vem` needs $\mathrm{E}_q \log \sum_k e^{\beta_k z + a_k}$ and puts $\log \sum_k \mathrm{E}_q e^{\beta_k z + a_k}$ in
# its place, which is larger. The price grows with $\beta^2$ and with how uncertain $z$ is, and five answers leave it uncertain: small slopes are
# cheap. So synthetic rows by `vem` are nearly as bad as independent columns. `mc_em` has the same $q$ and averages in place of the
# bound; it does not shrink.

# %%
comparison.pictures["associations"]

# %%
slopes = pd.DataFrame(
    {
        fit.method: fit.tables["categories"].set_index(["column", "category"])["factor[0]"]
        for fit in (*fits[:2], *fits[3:5])
    }
)
slopes[slopes["exact"] != 0].round(2)

# %% [markdown]
# **Adding a $q$ for the loadings does not help.** `beta_prior` has the same bound and gives every slope a normal of its own. Slopes as
# small as `vem`'s, and intervals around them: wrong, and sure of it. `svi` and `vae` are without the bound, with
# better means and somewhat narrow intervals, since rows and slopes are independent in their $q$. Left of the shaded band in the picture of errors
# is too sure; below it in this one.

# %%
comparison.pictures["spread"]

# %% [markdown]
# **Laplace overstates what is free.** With few answers the posterior of a row's $z$ is skew. A normal at its mode misjudges the evidence of the row,
# and large slopes look better than they are. The prior of the loadings holds against it (`loading_scale=1`). It shrinks all methods below the truth
# here, which is a matter of the model; the line `prior` of the cards says so. Let them go with `loading_scale=3`, and on the same surveys `exact` is
# right while `laplace_em` is above the truth. Shares of categories among its synthetic rows are off as well. Sizes are root mean squares.

# %%
true_slope = [np.array(slope)[np.argsort(levels)] for levels, slope, _ in answers.values()]  # categories are sorted
true_size = np.sqrt(np.mean(np.concatenate([slope[:-1] - slope[-1] for slope in true_slope]) ** 2))
found = []
for _ in range(surveys):
    other = ask(people)[0]
    for scale in (1.0, 3.0):
        for method in ("exact", "laplace_em"):
            fit = pyrozoo.fit("categorical_fa", method, data=other, latent_dimension=1, loading_scale=scale)
            size = float(fit.draws["loadings"].square().mean().sqrt())
            share = fit.metrics["mean_marginal_tv"]
            found.append({"loading_scale": scale, "method": method, "size": size, "error of shares": share})
print(f"true size {true_size:.2f}")
pd.DataFrame(found).groupby(["loading_scale", "method"]).mean().round(3)

# %% [markdown]
# **The data's association is no truth either.** Cramér's V of a small table is too high by chance alone: shuffle its columns, and it is
# not 0. Rows that copied V of 160 people to the last digit would copy their accidents too. The line is very many people from the same
# source. Synthetic rows by `exact` are nearer to it than the survey that it learned from; rows by `vem` are as far off as shuffled
# columns.

# %%
crowd = ask(many)[0]
pairs = exact.tables["association"][["column", "other_column"]].to_numpy().tolist()


def cramers_v(rows):
    """Return Cramér's V of every pair."""
    result = []
    for one, other in pairs:
        count = pd.crosstab(rows[one], rows[other]).to_numpy()
        expected = np.outer(count.sum(1), count.sum(0)) / count.sum()
        result.append(np.sqrt(((count - expected) ** 2 / expected).sum() / count.sum() / (min(count.shape) - 1)))
    return np.array(result)


truth = cramers_v(crowd)
tables = {"the data": complete, "shuffled": complete.apply(lambda column: rng.permutation(column))}
tables |= {f"synthetic, {fit.method}": pyrozoo.synthesize(fit, many) for fit in (exact, fits[1], fits[-1])}
axes = plt.subplots(figsize=(8, 3.4), layout="constrained")[1]
for name, rows in tables.items():
    axes.plot(truth, cramers_v(rows), "o", ms=5, label=f"{name}: error {np.abs(cramers_v(rows) - truth).mean():.3f}")
axes.axline((0.3, 0.3), slope=1, color="0.3", lw=0.8)
axes.set(xlabel=f"V of {many} people", ylabel="V", ylim=(0, None))
axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## Which to use
#
# *Exact* whenever three latent dimensions or fewer will do, which for synthetic rows they mostly do. *MC-EM* beyond that. *NUTS* on a small survey when
# you want intervals; *SVI* or the *VAE* when it is too large for that, with a grain of salt. *VEM* where rows have many
# answers, since that is where its bound is tight: the notebook [bounds](bounds.ipynb) shows how many.
