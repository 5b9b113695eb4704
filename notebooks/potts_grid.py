# %% [markdown]
# # A noisy map, restored
#
# A map of a coast: land, a strip of sand, sea. Three tenths of its pixels were read wrongly, and a cloud hid a piece of it. What we know
# besides is that neighbours tend to agree. The **hidden Potts field** says both: for labels $y$ and the image $x$,
#
# $$p(y \mid x) = \frac{1}{Z} \exp\Big(\sum_i c\,1[y_i = x_i] + \sum_{i \sim j} J(y_i, y_j)\Big),$$
#
# the first sum over observed pixels, the second over pairs of neighbours. $Z$ sums over every map there could be, here $3^{288}$ of
# them, which is why there are approximations. The map is narrow enough for the exact answer all the same, so this notebook can hold seven
# methods to it.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import pyrozoo
from pyrozoo.data.grid import Grid

# %% tags=["parameters"] small={"height": 5, "width": 12, "draws": 100, "steps": 60, "side": 4, "strengths": [0.5, 2.0]}
height, width, draws, steps, side = 8, 36, 1000, 400, 8
strengths = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]

# %% [markdown]
# ## The data
#
# The shore is a wave; pixels above it are land, below it sea, at it sand. A wrong reading shows one of the other two labels, each as
# likely. The package's container for images, `Grid`, does the misreading and keeps the truth beside it; missing pixels are NaN.

# %%
distance = np.arange(height)[:, None] - (0.5 * height + 0.3 * height * np.sin(np.arange(width) / 4))
rows, columns = [f"row {i}" for i in range(height)], [f"column {j}" for j in range(width)]
clean = torch.tensor(np.digitize(distance, [-1, 1.2]), dtype=torch.float64)
noise = 0.3
image = Grid(clean, rows, columns, "coast", levels=["land", "sand", "sea"]).with_noise(noise, seed=1)
seen = image.values.clone()
seen[height // 4 : 3 * height // 4 + 1, 2 * width // 3 : 2 * width // 3 + 5] = torch.nan
image = replace(image, values=seen)

# %% [markdown]
# The strength $c$ follows from the rate of misreadings, $c = \log\big((1-\varepsilon)(K-1)/\varepsilon\big)$. The coupling is stated: 2 for equal
# neighbours, 1 for labels that touch (land and sand, sand and sea), 0 for land beside sea. `exact` eliminates pixels one by one along the
# short side of the image, and knows $\log Z$, the probability of every label of every pixel, and independent draws.

# %% tags=["gallery"]
coupling = [[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]]
settings = {"data": image, "observation_strength": float(np.log((1 - noise) * 2 / noise)), "coupling": coupling}
exact = pyrozoo.fit("potts_grid", "exact", **settings)
print(f"log Z = {exact.metrics['log_z']:.3f}")
exact.pictures["restored"]

# %% [markdown]
# Doubt belongs to the shore and to the cloud, where neighbours alone decide. Eight or nine pixels in ten are right. The truth is one map, and
# a coast drawn with a pen is smoother than what the model expects. So a percent more or less ranks no method.
#
# ## Six approximations
#
# `icm` and `max_product` look for the one most probable map. `cavi` and `svi` climb the mean-field bound, one by coordinates, the other by
# gradients; `bp` passes messages; `gibbs` draws.

# %%
fits = [
    exact,
    pyrozoo.fit("potts_grid", "icm", **settings),
    pyrozoo.fit("potts_grid", "max_product", **settings),
    pyrozoo.fit("potts_grid", "cavi", **settings),
    pyrozoo.fit("potts_grid", "svi", max_steps=steps, **settings),
    pyrozoo.fit("potts_grid", "bp", **settings),
    pyrozoo.fit("potts_grid", "gibbs", draws=draws, thin=2, **settings),
]
comparison = pyrozoo.compare(fits)
comparison

# %%
for name, card in zip(comparison.names, comparison.cards):
    print(f"{name}: {card.answer}")

# %%
comparison.pictures["errors"]

# %%
comparison.pictures["restorations"]

# %%
comparison.pictures["disagreement"]

# %% [markdown]
# Beliefs on their way over the picture, played. Press the button, or use the arrow keys.

# %%
fits[5].movie()

# %% [markdown]
# ## The ladder
#
# For every $q$, $\log Z = \mathcal{L}(q) + \mathrm{KL}(q \,\|\, p)$, so that mean field's $\mathcal{L}$ lies below $\log Z$. Bethe's estimate, which
# `bp` ends with, counts every edge with its own pair of beliefs and corrects for pixels counted more than once; it is exact without loops.

# %%
ladder = comparison.tables["ladder"].set_index("fit")
ladder[["log Z is", "log_z", "log_z_error", "max_marginal_error", "mean_marginal_error", "label_accuracy", "seconds"]]

# %% [markdown]
# The same ladder as the coupling grows (the horizontal axis multiplies $J$). With weak coupling both are nearly exact. Mean field's
# bound seems to hold its distance for a while, but its probabilities get worse all the time; then the bound falls, too.

# %%
errors = []
for strength in strengths:
    scaled = settings | {"coupling": (strength * np.array(coupling)).tolist()}
    for method in ("cavi", "bp"):
        found = pyrozoo.fit("potts_grid", method, **scaled).metrics
        errors.append(
            {"J times": strength, "method": method}
            | {name: found[name] for name in ("log_z_error", "max_marginal_error", "mean_marginal_error")}
        )
errors = pd.DataFrame(errors).set_index(["J times", "method"]).unstack()
panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")[1]
for axes, name, title in zip(
    panels,
    ("log_z_error", "mean_marginal_error", "max_marginal_error"),
    ("log Z: estimate less exact", "error of a probability, mean", "error of a probability, largest"),
):
    errors[name].plot(ax=axes, marker="o", title=title)
panels[0].axhline(0, color="0.3", lw=0.8)
plt.show()
for method in ("exact", "cavi", "bp"):
    sand = pyrozoo.fit("potts_grid", method, **scaled).expectations["label_probability"][..., 1].mean()
    print(f"expected share of sand by {method} with J times {strength}: {sand:.0%}")

# %% [markdown]
# What happened at the strong end: sand may lie beside anything, so that pixels which do not know yet what they are tell each other that
# they are sand. With strong coupling that settles the matter before the image is heard. None of ten starts of `cavi` found a
# better top: the bound has many.

# %% [markdown]
# ## What goes wrong, and why
#
# **Mean field is too sure.** Its pixels are independent: each hears what its neighbours hold most probable, as if that were not in part its
# own echo. Below, every dot is the probability of a label at a pixel: mean field pushes it away from the middle, towards 0 and 1. `bp` does so
# little, since it leaves the direct echo out; what remains comes back by loops. The card of `bp` warns because of its draws: they take every
# pixel by itself, and equal neighbours become too few.

# %%
known = exact.expectations["label_probability"].flatten()
figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
for axes, fit in zip(panels, (fits[3], fits[5])):
    axes.plot(known, fit.expectations["label_probability"].flatten(), ".", ms=4, alpha=0.5)
    axes.plot([0, 1], [0, 1], color="0.3", lw=0.8)
    axes.set(title=fit.method, xlabel="exact probability", ylabel="probability by the method", aspect="equal")
plt.show()

# %% [markdown]
# **Symmetry breaks, chains stick.** Take a square without any reading, two labels, and a coupling above $\log(1 + \sqrt 2) = 0.88$. The map is
# nearly all land or nearly all sea, each with probability one half. Mean field picks one of the two and is sure of it. `bp` has one half for
# every pixel, which is right, but the draws of its independent pixels know nothing of the two kinds of map. Gibbs has the right target and
# cannot get there: to cross from land to sea it has to pass maps with a long shore.

# %%
blank = Grid(
    torch.full((side, side), torch.nan, dtype=torch.float64), rows[:side], columns[:side], levels=["land", "sea"]
)
free = {"data": blank, "observation_strength": 1.0, "coupling": [[1.2, 0.0], [0.0, 1.2]]}
methods = {"exact": {}, "cavi": {}, "bp": {}, "gibbs": {"draws": draws, "warmup": 100, "thin": 1}}
fields = [pyrozoo.fit("potts_grid", method, **free, **own) for method, own in methods.items()]
panels = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained", sharey=True)[1]
for axes, fit in zip(panels, fields):
    share = fit.invariants["label_share"][..., 0]
    axes.hist(
        list(share),
        bins=np.linspace(0, 1, 21),
        stacked=True,
        weights=[np.full(s.shape, 1 / share.numel()) for s in share],
    )
    axes.set(title=fit.method, xlabel="share of land", xlim=(0, 1))
panels[0].set_ylabel("share of the draws")
plt.show()
land = fields[3].invariants["label_share"][..., 0].mean(1)
print("gibbs, mean share of land by chain:", *[f"{value:.2f}" for value in land])
print(
    f"R-hat {fields[3].metrics['rhat_max_invariants']:.2f}, effective draws {fields[3].metrics['ess_bulk_min_invariants']:.0f}"
)
for fit in fields[1:3]:
    print(
        f"{fit.method}: log Z off by {fit.metrics['log_z_error']:.2f}, a probability by {fit.metrics['max_marginal_error']:.2f} at most"
    )

# %% [markdown]
# The last lines are worth a pause: by $\log Z$ mean field is the better of the two, by probabilities it could hardly be worse. A $q$ that knows
# one of two equal halves, and knows it perfectly, is only $\log 2 = 0.69$ below $\log Z$. A bound that is nearly tight does not say that no
# half is missing.

# %% [markdown]
# **Bethe's estimate is no bound.** With two labels and one coupling for all edges it never lies above $\log Z$ (Ruozzi 2012), and on the coast
# it did not either. Labels that repel each other, three of them, show the other side:

# %%
repelled = Grid(
    torch.tensor([[2.0, 1, 2, 1], [0, 2, 2, 0], [1, 2, 0, 1]]), rows[:3], columns[:4], levels=["a", "b", "c"]
)
apart = {"data": repelled, "observation_strength": 2.0, "coupling": (-3.0 * np.eye(3)).tolist()}
for method in ("cavi", "bp"):
    fit = pyrozoo.fit("potts_grid", method, **apart)
    print(f"{method}: log Z off by {fit.metrics['log_z_error']:+.4f}")

# %% [markdown]
# **A mode is not typical.** The most probable map is smoother than any map the posterior would draw. It has the highest density and no
# company, while there are very many maps with a few more bends. Figures read off it (lengths of shores, areas of small things) are biased;
# averages over draws are not. Here it lets land and sea meet in a straight line under the cloud and saves the beach; no draw below does.

# %%
best = exact.expectations["most_probable"].reshape(height, width)
panels = plt.subplots(2, 2, figsize=(9, 4.6), layout="constrained")[1].flat
for axes, label, title in zip(
    panels, (best, *exact.draws["label"][0, :3]), ("the most probable map", "a draw", "another", "a third")
):
    same = float(
        torch.cat([(label[1:] == label[:-1]).flatten(), (label[:, 1:] == label[:, :-1]).flatten()]).double().mean()
    )
    axes.imshow(label, vmin=-0.1, vmax=2.1, interpolation="nearest")
    axes.set(title=f"{title}: {same:.0%} of neighbours equal", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Which to use
#
# *Exact* whenever the short side allows it (a dozen pixels, with few labels): a strip of the image is often enough to see what the
# others do to yours. *Belief propagation* for large images, where what you need is a probability for every pixel. *Gibbs* for
# what many pixels make together, if R-hat agrees from chains that start differently. *CAVI* for a bound, and as the
# fastest first look. *Max-product* when you must show one map; *ICM* as the baseline.
