# %% [markdown]
# # What people write about
#
# Six hundred letters to a town council, each about one, two or three things. Nobody has sorted them. A **topic model** reads each letter
# $d$ as a bag of words that come from a few topics. Topic $k$ is a distribution $\beta_k$ over words, and the letter has shares
# $\theta_d$ of the topics:
#
# $$n_d \sim \mathrm{Multinomial}\Big(N_d, \sum_k \theta_{dk}\, \beta_k\Big), \qquad \beta_k \sim \mathrm{Dirichlet}(b),
# \qquad \theta_d \sim \mathrm{Dirichlet}(\alpha).$$
#
# This is latent Dirichlet allocation (LDA). The letters here are simulated, so that we know what they are about. This notebook finds
# their topics and asks how sure to be of them, which method to believe, and how many topics there are.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import pyrozoo

# %% tags=["parameters"] small={"letters": 80, "draws": 20, "warmup": 5, "passes": 20, "sizes": [3, 5]}
letters, draws, warmup, passes, sizes = 600, 200, 50, 300, [2, 3, 4, 5, 6, 8]

# %% [markdown]
# ## The letters
#
# Five things to write about, each with ten words of its own. All letters share ten more. East of the river people write about buses and noise,
# west of it about taxes and schools.

# %%
about = {
    "buses": "bus stop driver timetable ticket tram late fare route seat",
    "noise": "noise night music neighbour sleep party drums window loud club",
    "taxes": "tax rate money budget pay bill raise cost owner invoice",
    "schools": "school teacher class pupil lesson parents building roof exam holiday",
    "parks": "park tree bench path dog grass flowers playground pond bins",
}
common = ["town", "council", "please", "street", "years", "since", "think", "would", "good", "people"]
words = {topic: text.split() for topic, text in about.items()}
rng = np.random.default_rng(0)
rows, truth = [], []
for i in range(letters):
    side = "east" if i % 2 else "west"
    lean = np.array([0.5, 0.5, 0.1, 0.1, 0.25] if side == "east" else [0.1, 0.1, 0.5, 0.5, 0.25])
    shares = rng.dirichlet(lean)
    topics = rng.choice(list(words), 25, p=shares)
    text = [rng.choice(common) if rng.random() < 0.25 else rng.choice(words[topic]) for topic in topics]
    rows.append({"letter": " ".join(text), "side": side})
    truth.append(shares)
posts, truth = pd.DataFrame(rows), np.array(truth)
print(posts["letter"][0])

# %% [markdown]
# ## Topics, from the texts alone
#
# A table with a column of texts is all that is needed. scikit-learn counts the words. Of a tenth of the letters half of the words are hidden:
# they will say how good the topics are.

# %% tags=["gallery"]
said = {"data": posts, "text": "letter", "stop_words": "none", "most_share": 1.0, "holdout": 0.1, "progress": False}
fit = pyrozoo.fit("topics", "gibbs", num_topics=5, chains=2, warmup=warmup, draws=draws, thin=1, **said)
fit.pictures["topics"]

# %% [markdown]
# The lists are the five things that the letters were drawn from. The words that all share are spread over the lists. Are the letters' shares right, too? For each
# letter we know them.

# %%
found = fit.aligned["document_topics"].mean((0, 1)).numpy()
own = fit.aligned["topic_words"].mean((0, 1)).numpy()
place = {word: i for i, word in enumerate(fit.data.column_labels)}
order = [int(own[:, [place[w] for w in words[t] if w in place]].sum(1).argmax()) for t in words]
fig, axes = plt.subplots(1, 5, figsize=(12, 2.7), sharey=True)
for axis, topic, k, column in zip(axes, words, order, truth.T, strict=True):
    axis.plot(column, found[:, k], ".", ms=3, alpha=0.5)
    axis.plot([0, 1], [0, 1], color="C3", lw=0.8)
    axis.set(title=topic, xlabel="true share")
axes[0].set_ylabel("inferred share")

# %% [markdown]
# ## Who writes about what
#
# What else is known of a letter comes with it. The mean share of each topic east and west of the river has an interval. It holds
# what is not known of the topics, and that other letters might have been written.

# %%
fit.pictures["prevalence_side"]

# %% [markdown]
# ## Which method
#
# Four methods see the same letters. The figure that all of them can be compared by is the mean log probability of a hidden word:
# `holdout_elpd`. `baseline_elpd` is what it is without topics.

# %%
fits = {"gibbs": fit}
for method in ("cvb0", "cavi", "stochastic_cavi"):
    fits[method] = pyrozoo.fit("topics", method, num_topics=5, restarts=2, max_iterations=passes, draws=draws, **said)
figures = ("holdout_elpd", "holdout_macro", "holdout_plugin", "baseline_elpd", "seconds")
pd.DataFrame({name: {f: each.metrics[f] for f in figures} for name, each in fits.items()}).T.round(3)

# %% [markdown]
# Gibbs sampling averages over everything that is not known, and is the reference. `cvb0` is near it in a fraction of the time. `cavi` takes
# words and shares to be independent: its topics are as good to read, and its intervals are too short.

# %%
widths = {name: each.aligned["document_topics"].std(1).mean((0, 1, 2)).item() for name, each in fits.items()}
pd.Series(widths, name="sd of a letter's share, on average").round(3)

# %% [markdown]
# Topics as `cavi` finds them, played. Press the button, or use the arrow keys.

# %%
fits["cavi"].movie()

# %% [markdown]
# ## How many topics
#
# Hidden words choose: take the fewest topics after which the curve no longer rises.

# %%
curve = {}
for K in sizes:
    each = pyrozoo.fit("topics", "cvb0", num_topics=K, restarts=1, max_iterations=passes, draws=draws, **said)
    curve[K] = each.metrics["holdout_elpd"]
fig, axis = plt.subplots(figsize=(5, 3))
axis.plot(list(curve), list(curve.values()), "o-")
axis.set(xlabel="topics", ylabel="log probability of a hidden word")

# %% [markdown]
# ## A new letter
#
# Letters that come later are not fitted. They get topics all the same, with what is not known of them; words that no letter had are left out, and a note
# says how many.

# %%
new = pd.DataFrame(
    {"letter": ["The driver did not stop, and the next tram was late", "Loud music all night, and a bill for it"]}
)
again = pyrozoo.fit("topics", "gibbs", num_topics=5, chains=1, warmup=warmup, draws=draws, thin=1, test=new, **said)
names = again.tables["topics"]["top_frex"].str.split().str[:3].str.join(" ")
shares = again.tables["test_document_topics"]
pd.DataFrame({names[k]: shares[f"topic[{k}]"] for k in range(5)}).round(2)
