"""What is shown of a fitted my_model, beside what every model shows."""

from __future__ import annotations

import pandas as pd

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.panels import array, panels
from pyrozoo.drawing.predictions import completions
from pyrozoo.models.my_model.posterior import MOST_DRAWS, Posterior


class View(view.View):
    """Tables and pictures of my_model."""

    def tables(self, fit: Fit) -> view.Tables:
        """Return the parameters, the rows, and predictions of hidden and of missing cells."""
        mean = {site: array(value) for site, value in fit.aligned.means().items()}
        result: dict[str, pd.DataFrame] = {}
        ...  # FILL tables: result["name"] = pd.DataFrame(...), with fit.data.row_labels or .column_labels
        return view.Tables(result) | self.predicted(fit)

    def pictures(self, fit: Fit) -> list[Picture]:
        """Return the parameters, and predictions of what was hidden."""
        mean = {site: array(value) for site, value in fit.aligned.means().items()}
        figure, axes = panels(6, 3)
        ...  # FILL picture: draw mean["site"], numpy of shape [*event], on the axes; label both
        caption = "..."  # FILL caption: one or two sentences on what to look for
        return [Picture("parameters", caption, figure), *completions(fit, self.hiding(fit), "value")]
