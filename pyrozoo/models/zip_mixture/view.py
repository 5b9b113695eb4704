"""What is shown of a fitted mixture: components, clusters of rows, completion of missing counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import evenly
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.data.table import Table
from pyrozoo.drawing.labels import short
from pyrozoo.drawing.panels import array, panels
from pyrozoo.drawing.predictions import completions
from pyrozoo.drawing.scenes import MOST_COLUMNS, heatmap, some
from pyrozoo.models.zip_mixture.queries import affinity, assign

MOST_ROWS = 1000
"""Rows of the affinity matrix; more are thinned evenly."""

SITES = "on_prob", "rate", "size"
"""What a component has for every column; a size only where counts are negative binomial."""

MOST_NAMED = 12
"""Columns up to which each is named."""


class View(view.View):
    """Figures, tables and pictures of a mixture."""

    main = ("components",)
    moves = ("on_prob", "rate")

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return what every component expects of some columns."""
        at = some(fit.data.shape[1], MOST_COLUMNS)
        names = [fit.data.column_labels[int(i)] for i in at]

        def expected(then: Fit) -> Tensor:
            mean = then.aligned.means()
            return (mean["on_prob"] * mean["rate"]).sqrt()[:, at.to(mean["rate"].device)]

        said = "What a component expects of a column, square roots; the heaviest component first."
        return heatmap("components", said, "component", "column", expected, range(fit.model.num_components), names)

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures: completion of test rows, against the mean of what is observed in them."""
        test = fit.data.test
        if test is None or test.hidden is None:
            return {}
        prediction, truth = fit.prediction(test), test.hidden.values
        exposure = test.values.new_ones(test.shape[0]) if test.exposure is None else test.exposure
        seen = test.observed * exposure[:, None]
        naive = exposure[test.hidden.rows] * (test.filled.sum() / seen.sum()) - truth
        return {
            "completion_rmse": prediction.rmse(truth),
            "completion_elpd": prediction.log_density.mean().item(),
            "naive_rmse": naive.square().mean().sqrt().item(),
        }

    def responsibilities(self, fit: Fit) -> Tensor:
        """Return the probability of every component for every row."""
        return _assigned(fit, fit.data)

    def tables(self, fit: Fit) -> view.Tables:
        """Return components, the cluster of every row, old and new, and completed counts.

        ``completion`` and ``holdout`` are entries whose true value is known, in test rows and in the data; ``missing``
        and ``test_missing`` those that nobody knows.
        """
        result = {"components": partial(_profiles, fit), "clusters": partial(_clusters, fit, fit.data)}
        if fit.data.test is not None:
            result["test_clusters"] = partial(_clusters, fit, fit.data.test)
        return view.Tables(result) | self.predicted(fit)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return the cluster of each row, its probability, and the probability of every cluster."""
        found = _clusters(fit, part).drop(columns="row")
        found.insert(1, "probability", found.iloc[:, 1:].max(axis=1))
        return found

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return components, the affinity of rows, and predictions of what was hidden."""
        hidden = partial(completions, fit, self.hiding(fit), "count", jitter=0.25)
        return view.Pictures(partial(_components, fit), partial(_affinity, fit), hidden)


def layout(fit: Fit, table: Table) -> Any:
    """Return rows, old or new, as the likelihood wants them."""
    posterior: Any = fit.posterior if table is fit.data else fit.posterior.on(table)
    return posterior.layout


def _assigned(fit: Fit, table: Table) -> Tensor:
    """Return the probability of every component for every row, old or new; of the fitted ones computed once."""

    def found() -> Tensor:
        return assign(layout(fit, table), fit.aligned)

    return fit.once("responsibilities", found) if table is fit.data else found()


def _profiles(fit: Fit) -> pd.DataFrame:
    mean = {site: value.cpu().numpy() for site, value in fit.aligned.means().items()}
    names = [(d, label, site) for d, label in enumerate(fit.data.column_labels) for site in SITES if site in mean]
    profiles = {f"{site}[{label}]": mean[site][:, d] for d, label, site in names}
    return pd.DataFrame({"component": range(len(mean["weights"])), "weight": mean["weights"], **profiles})


def _clusters(fit: Fit, table: Table) -> pd.DataFrame:
    probability = _assigned(fit, table)
    clusters = {"row": list(table.row_labels), "cluster": probability.argmax(1).cpu().numpy()}
    return pd.DataFrame({**clusters, **view.numbered("probability", probability)})


def _components(fit: Fit) -> Picture:
    mean = {site: array(value) for site, value in fit.aligned.means().items()}
    K, D = mean["rate"].shape
    shown = (
        ("probability of being on", mean["on_prob"], "Blues"),
        ("rate when on", mean["rate"], "Oranges"),
        ("mean count", mean["on_prob"] * mean["rate"], "Greens"),
    )
    figure, axes = panels(10, 1.6 + 0.35 * K, 1, 3, sharey=True)
    for axis, (title, values, colors) in zip(axes, shown, strict=True):
        figure.colorbar(axis.imshow(values, aspect="auto", cmap=colors, vmin=0), ax=axis, shrink=0.85)
        axis.set(title=title, xlabel="column")
        if D <= MOST_NAMED:
            axis.set_xticks(range(D), list(map(short, fit.data.column_labels)), rotation=60, ha="right", fontsize=7)
    axes[0].set_yticks(range(K), [f"{k}: {weight:.0%}" for k, weight in enumerate(mean["weights"])])
    axes[0].set_ylabel("component: weight")
    said = "Each component's profile over the columns; the weights are the shares of rows."
    if fit.data.exposure is not None:
        said += " Rates and means are per unit of exposure."
    return Picture("components", said, figure)


def _affinity(fit: Fit) -> Picture:
    N, chosen = fit.data.shape[0], evenly(fit.data.shape[0], MOST_ROWS)
    rows = layout(fit, fit.data.batch(chosen))
    probability = assign(rows, fit.aligned)
    cluster = probability.argmax(1)
    order = (cluster.double() - 0.999 * probability.amax(1)).argsort(stable=True)
    matrix = affinity(rows, fit.draws)[order][:, order].cpu().numpy()
    figure, axis = panels(5.6, 4.8)
    image = axis.imshow(matrix, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    for edge in np.cumsum(np.bincount(cluster.cpu().numpy()))[:-1]:
        axis.axhline(edge - 0.5, color="white", lw=0.5)
        axis.axvline(edge - 0.5, color="white", lw=0.5)
    axis.set(title="P(two rows share a component)", xticks=[], yticks=[])
    axis.set(xlabel="rows, by cluster", ylabel="rows, by cluster")
    figure.colorbar(image, ax=axis, shrink=0.85)
    some = f" {len(chosen)} of {N} rows, evenly chosen." if len(chosen) < N else ""
    said = f"Bright blocks on the diagonal are clear clusters. Dimmer rows could be in either.{some}"
    return Picture("affinity", said, figure)
