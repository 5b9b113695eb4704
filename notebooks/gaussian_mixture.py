# %% [markdown]
# # Clusters of any shape, with holes
#
# A Gaussian mixture is the first model that people try on a table of numbers: rows come in clusters, and each cluster is an ellipse. Three
# questions decide whether it helps. What if cells are missing? How many clusters are there? And how sure is any of it?
#
# Here are flowers with holes, galaxies, and a photograph.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_iris, load_sample_image
from sklearn.mixture import GaussianMixture as OfScikitLearn

import pyrozoo

# %% tags=["parameters"] small={"restarts": 2, "draws": 60, "step": 24, "most": 60}
restarts, draws, step, most = 20, 1000, 4, 300

# %% [markdown]
# ## Flowers with holes
#
# Fisher's irises: 150 flowers, four lengths. A tenth of the cells is lost.

# %%
flowers = load_iris(as_frame=True)
rng = np.random.default_rng(0)
table = flowers.data.mask(rng.random(flowers.data.shape) < 0.1)
table.columns = [name.removesuffix(" (cm)") for name in table.columns]
try:
    OfScikitLearn(3).fit(table)
except ValueError as error:
    print("scikit-learn:", str(error).splitlines()[0])
em = pyrozoo.fit("gaussian_mixture", "em", data=table, num_components=3, restarts=restarts, progress=False)
print("pyrozoo:", em)

# %% [markdown]
# A missing cell is summed out: a row counts with what is known of it. Rows with the same holes share their algebra, so that this costs little.
# Below is one start of EM, step by step. Ellipses hold 86% of a cluster's rows; the two columns are those in which clusters differ most.

# %%
em.pictures["steps"]

# %% [markdown]
# The same start, played. Press the button, or use the arrow keys.

# %%
em.movie()

# %% [markdown]
# What was lost is predicted from the rest of its row, as a mixture of normals. We know the truth here.

# %%
missing = em.tables["missing"]
truth = flowers.data.to_numpy()[table.isna().to_numpy()]
error = np.sqrt(np.mean((missing["mean"] - truth) ** 2))
naive = np.sqrt(np.mean((table.mean().to_numpy()[np.nonzero(table.isna().to_numpy())[1]] - truth) ** 2))
print(f"error of {len(truth)} lost cells: {error:.2f} cm; of the columns' means: {naive:.2f} cm")

# %% [markdown]
# ## How sure is it?
#
# EM is a point. Gibbs sampling draws clusters, lost cells and parameters in turn, and its ellipses say how well each is known. The species are
# known to us, not to the model: the table shows how they fall into its clusters.

# %%
gibbs = pyrozoo.fit("gaussian_mixture", "gibbs", data=table, num_components=3, draws=draws, progress=False)
gibbs.pictures["ellipses"]

# %%
species = pd.Series(flowers.target_names[flowers.target], name="species")
pd.crosstab(species, gibbs.tables["clusters"]["cluster"])

# %% [markdown]
# Setosa stands apart. The other two species are one long ellipse to most draws, for lengths alone tell them apart only a little; some draws split it,
# here or there. EM had to take one side.

# %% [markdown]
# ## How many clusters?
#
# A Dirichlet process has no fixed number of them: sticks of weight are broken off one by one, and data decide how many have rows. Here are the
# velocities of 82 galaxies, on which this question has been asked for thirty years. Clusters in velocity are clusters in space, with voids between them.

# %%
velocities = """9172 9350 9483 9558 9775 10227 10406 16084 16170 18419 18552 18600 18927 19052 19070 19330 19343 19349
19440 19473 19529 19541 19547 19663 19846 19856 19863 19914 19918 19973 19989 20166 20175 20179 20196 20215 20221 20415
20629 20795 20821 20846 20875 20986 21137 21492 21701 21814 21921 21960 22185 22209 22242 22249 22314 22374 22495 22746
22747 22888 22914 23206 23241 23263 23484 23538 23542 23666 23706 23711 24129 24285 24289 24366 24717 24990 25633 26960
26995 32065 32789 34279"""
galaxies = pd.DataFrame({"velocity": np.array(velocities.split(), float) / 1000})
process = {"weight_prior": "stick_breaking", "num_components": 25, "concentration": 1.0}
prior = {"location": 20.0, "mean_precision": 0.02, "degrees": 4.0, "scale": 0.71}
clusters = pyrozoo.fit("gaussian_mixture", "gibbs", data=galaxies, draws=draws, progress=False, **process, **prior)
clusters.tables["num_clusters"].query("probability > 0.005").round(3)

# %%
clusters.pictures["num_clusters"]

# %% [markdown]
# There is no one answer: it depends on the prior, as all published ones do. Ask for smaller clusters a priori (`scale`), and there are more of them.
# What does not depend on it is the density, three groups and a long middle.

# %% tags=["gallery"]
clusters.pictures["ellipses"]

# %% [markdown]
# ## A photograph
#
# Each pixel is a row: red, green and blue. Clusters are colours, and pixels of one cluster make a segment. The mixture is fitted to every fourth
# pixel, down and across, of a picture that scikit-learn carries.

# %%
photograph = load_sample_image("china.jpg")[::step, ::step]
pixels = pd.DataFrame(photograph.reshape(-1, 3).astype(float), columns=["red", "green", "blue"])
segments = pyrozoo.fit(
    "gaussian_mixture", "cavi", data=pixels, num_components=6, restarts=3, max_iterations=most, tol=1e-6, progress=False
)
found = segments.tables["clusters"]["cluster"].to_numpy()
colours = pixels.groupby(found).mean().to_numpy() / 255
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
cluster = np.unique(found, return_inverse=True)[1].reshape(photograph.shape[:2])
doubt = 1 - segments.tables["clusters"].filter(like="probability").max(axis=1).to_numpy().reshape(photograph.shape[:2])
for axis, image, title in zip(
    axes, (photograph, colours[cluster], doubt), ("photograph", "segments", "doubt"), strict=True
):
    axis.imshow(image, cmap="magma", interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Sky, roof, trees and stone come out as segments, from colour alone. Doubt lies along edges and in the haze. A mixture knows nothing of
# neighbours: for that see [Potts models](potts_grid.ipynb).
#
# On a command line: `python -m pyrozoo experiment=china_segments`.
