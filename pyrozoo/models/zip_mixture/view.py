"""What is shown of a fitted mixture: components, clusters of rows, completion of missing counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.picture import Picture
from pyrozoo.data.table import Table
from pyrozoo.drawing.predictions import completion
from pyrozoo.models.zip_mixture.likelihood import Layout
from pyrozoo.models.zip_mixture.queries import affinity, assign

MOST_ROWS = 1000
"""Rows of the affinity matrix; more are thinned evenly."""


class View(view.View):
    """Figures, tables and pictures of a mixture."""

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures: completion of test rows, against the mean of what is observed in them."""
        test = fit.data.test
        if test is None or test.hidden is None:
            return {}
        truth = test.hidden.values
        naive = test.filled.sum() / test.observed.sum()
        prediction = fit.predict(test)
        return {
            "completion_rmse": (prediction.mean - truth).square().mean().sqrt().item(),
            "completion_elpd": prediction.log_density.mean().item(),
            "naive_rmse": (naive - truth).square().mean().sqrt().item(),
        }

    def tables(self, fit: Fit) -> dict[str, pd.DataFrame]:
        """Return components, the cluster of every row, old and new, and completed counts.

        ``completion`` and ``holdout`` are entries whose true value is known, in test rows and in the data; ``missing``
        and ``test_missing`` those that nobody knows.
        """
        table = fit.data
        mean = {site: value.cpu().numpy() for site, value in fit.aligned.means().items()}
        profiles = {
            f"{site}[{label}]": mean[site][:, d]
            for d, label in enumerate(table.column_labels)
            for site in ("on_prob", "rate")
        }
        components = {"component": range(len(mean["weights"])), "weight": mean["weights"], **profiles}
        result = {"components": pd.DataFrame(components), "clusters": _clusters(fit.aligned, table)}
        if table.test is not None:
            result["test_clusters"] = _clusters(fit.aligned, table.test)
        return result | self.predicted(fit)

    def pictures(self, fit: Fit) -> list[Picture]:
        """Return components, the affinity of rows, and predictions of what was hidden."""
        result = [_components(fit), _affinity(fit)]
        for name, part, where in (("completion", fit.data.test, "test rows"), ("holdout", fit.data, "hidden entries")):
            if part is not None and part.hidden is not None and len(part.hidden.values):
                said = f"Prediction of {len(part.hidden.values)} missing counts in {where} from the rest of their rows."
                result.append(completion(name, said, fit.predict(part), part.hidden.values, "count", jitter=0.25))
        return result


def _clusters(aligned: Draws, table: Table) -> pd.DataFrame:
    probability = assign(Layout.of(table), aligned).cpu().numpy()
    frame = pd.DataFrame({"row": list(table.row_labels), "cluster": probability.argmax(1)})
    for k in range(probability.shape[1]):
        frame[f"probability[{k}]"] = probability[:, k]
    return frame


def _components(fit: Fit) -> Picture:
    mean = {site: value.cpu().numpy() for site, value in fit.aligned.means().items()}
    K, D = mean["rate"].shape
    labels = [f"{k}: {weight:.0%}" for k, weight in enumerate(mean["weights"])]
    figure = Figure(figsize=(10, 1.6 + 0.35 * K), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    panels = (
        ("probability of being on", mean["on_prob"], "Blues"),
        ("rate when on", mean["rate"], "Oranges"),
        ("mean count", mean["on_prob"] * mean["rate"], "Greens"),
    )
    for axis, (title, values, colors) in zip(axes, panels, strict=True):
        image = axis.imshow(values, aspect="auto", cmap=colors, vmin=0)
        axis.set(title=title, xlabel="column")
        if D <= 12:
            axis.set_xticks(range(D), fit.data.column_labels, rotation=60, ha="right", fontsize=7)
        figure.colorbar(image, ax=axis, shrink=0.85)
    axes[0].set_yticks(range(K), labels)
    axes[0].set_ylabel("component: weight")
    return Picture(
        "components", "Each component's profile over the columns; the weights are the shares of rows.", figure
    )


def _affinity(fit: Fit) -> Picture:
    N = fit.data.shape[0]
    chosen = evenly(N, MOST_ROWS)
    layout = Layout.of(fit.data.batch(chosen))
    probability = assign(layout, fit.aligned)
    cluster = probability.argmax(1)
    order = torch.argsort(cluster.double() - 0.999 * probability.amax(1), stable=True)
    matrix = affinity(layout, fit.draws)[order][:, order].cpu().numpy()
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(matrix, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    edges = np.cumsum(np.bincount(cluster.cpu().numpy()))[:-1]
    for edge in edges:
        axis.axhline(edge - 0.5, color="white", lw=0.5)
        axis.axvline(edge - 0.5, color="white", lw=0.5)
    axis.set(
        title="P(two rows share a component)",
        xlabel="rows, by cluster",
        ylabel="rows, by cluster",
        xticks=[],
        yticks=[],
    )
    figure.colorbar(image, ax=axis, shrink=0.85)
    some = f" {len(chosen)} of {N} rows, evenly chosen." if len(chosen) < N else ""
    return Picture(
        "affinity",
        f"Bright blocks on the diagonal are clear clusters; grey between them, rows that could be either.{some}",
        figure,
    )
