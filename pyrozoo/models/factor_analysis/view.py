"""What is shown of a fitted factor analysis: loadings, factors of rows, predictions of holes."""

from __future__ import annotations

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.picture import Picture
from pyrozoo.data.table import Table
from pyrozoo.models.factor_analysis import figures
from pyrozoo.models.factor_analysis.likelihood import Layout
from pyrozoo.models.factor_analysis.queries import factors


class View(view.View):
    """Figures, tables and pictures of a factor analysis."""

    most_cells = 100_000

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures: reconstruction of hidden entries, against the mean of their column."""
        table, hidden = fit.data, fit.data.hidden
        if hidden is None:
            return {}
        prediction, truth = fit.predict(table), hidden.values
        inside = (truth >= prediction.lower) & (truth <= prediction.upper)
        return {
            "reconstruction_rmse": (prediction.mean - truth).square().mean().sqrt().item(),
            "mean_imputation_rmse": figures.imputation_error(table),
            "coverage_90": inside.double().mean().item(),
        }

    def tables(self, fit: Fit) -> dict[str, pd.DataFrame]:
        """Return loadings, factors of all rows, old and new, and predictions of hidden and missing cells."""
        table, draws = fit.data, fit.aligned
        explained, noise = draws["loadings"].square().sum(-1), draws["noise_variance"]
        columns = {
            "mean": draws["mean"],
            "noise_sd": noise.sqrt(),
            "communality": explained / (explained + noise),
            **{f"factor[{m}]": value for m, value in enumerate(draws["loadings"].unbind(-1))},
        }
        means = {name: value.mean((0, 1)).cpu().numpy() for name, value in columns.items()}
        result = {"loadings": pd.DataFrame({"column": list(table.column_labels), **means})}
        result["factors"] = _factors(fit, table, fit.posterior.layout)
        if table.test is not None:
            result["test_factors"] = _factors(fit, table.test, Layout.of(table.test))
        return result | self.predicted(fit)

    def pictures(self, fit: Fit) -> list[Picture]:
        """Return holes filled, factors, mean and noise, spectra, errors, predictions of what was hidden, correlations.

        Tables of images are drawn as images.
        """
        images = fit.data.image_shape is not None
        result = [
            figures.reconstruction(fit) if images else None,
            figures.factor_images(fit) if images else figures.factor_table(fit),
            figures.moment_images(fit) if images else figures.moment_points(fit),
            figures.scree(fit),
            figures.errors(fit),
        ]
        for name, part in (("holdout", fit.data), ("completion", fit.data.test)):
            if part is not None and part.hidden is not None:
                result.append(figures.holdout(name, fit, part))
        if not images:
            result.append(figures.correlation(fit))
        return [picture for picture in result if picture is not None]


def _factors(fit: Fit, table: Table, layout: Layout) -> pd.DataFrame:
    both = zip(("mean", "sd"), factors(layout, fit.aligned), strict=True)
    values = {f"{name}[{m}]": column for name, value in both for m, column in enumerate(value.cpu().numpy().T)}
    return pd.DataFrame({"row": list(table.row_labels), **values})


def completed(fit: Fit, table: Table) -> Float[Tensor, "N D"]:
    """Return a table with its holes filled by the predictive mean, hidden entries by what the fit already knows."""
    values = table.values.clone()
    for part in (table, table.missing):
        if part is not None and part.hidden is not None:
            values[part.hidden.rows, part.hidden.columns] = fit.predict(part).mean.to(values)
    return values
