"""Pictures of a fitted mixture: components, affinity of rows, completion of missing counts."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.picture import Picture
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.queries import affinity, assign

MOST_ROWS = 1000
"""Rows of the affinity matrix; more are thinned evenly."""


def pictures(fit: Fit) -> list[Picture]:
    """Return the model's own pictures."""
    result = [_components(fit), _affinity(fit)]
    for name, part in (("completion", fit.data.test), ("holdout", fit.data)):
        if part is not None and part.hidden is not None and len(part.hidden.values):
            result.append(_completion(name, fit.predict(part), part))
    return result


def _components(fit: Fit) -> Picture:
    mean = {site: value.mean((0, 1)).cpu().numpy() for site, value in fit.model.canonical(fit.draws).items()}
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
    chosen = torch.linspace(0, N - 1, min(N, MOST_ROWS)).round().long()
    table: Table = fit.data.batch(chosen)
    probability = assign(fit.model.canonical(fit.draws), table)
    cluster = probability.argmax(1)
    order = torch.argsort(cluster.double() - 0.999 * probability.amax(1), stable=True)
    matrix = affinity(fit.draws, table)[order][:, order].cpu().numpy()
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


def _completion(name: str, prediction: Prediction, table: Table) -> Picture:
    hidden = table.hidden
    assert hidden is not None
    truth, mean = hidden.values.cpu().numpy(), prediction.mean.cpu().numpy()
    rmse = float(np.sqrt(((mean - truth) ** 2).mean()))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(truth))
    left.plot(mean, truth + jitter, ".", ms=3, alpha=0.4)
    top = max(truth.max(), mean.max())
    left.plot([0, top], [0, top], color="0.6", lw=0.8)
    left.set(xlabel="predicted mean", ylabel="true count (jittered)", title=f"RMSE {rmse:.3f}")
    right.hist(prediction.pit.cpu().numpy(), bins=20, range=(0, 1), color="C0")
    right.axhline(len(truth) / 20, color="0.4", lw=0.8)
    right.set(xlabel="randomised PIT", title="Calibration: flat is right")
    where = "test rows" if name == "completion" else "hidden entries"
    return Picture(name, f"Prediction of {len(truth)} missing counts in {where} from the rest of their rows.", figure)
