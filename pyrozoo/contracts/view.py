"""What a view is: the figures, tables and pictures that users of a model ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import beside
from pyrozoo.core.picture import Picture


class View:
    """What is shown of fits of a model. A model's folder may hold a subclass in ``view.py`` that shows more.

    Attributes:
        synthesizes: Whether it can draw synthetic rows.
    """

    synthesizes = False

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures."""
        return {}

    def tables(self, fit: Fit) -> dict[str, pd.DataFrame]:
        """Return what goes into tables/, name -> table: by default what was hidden, and what is missing, predicted."""
        result = {}
        if fit.data.hidden is not None:
            result["holdout"] = fit.data.predictions(fit.predict(fit.data))
        # Cells that are missing in the user's own file: nobody knows their value, so there is a prediction only.
        if (unknown := fit.data.missing) is not None:
            result["missing"] = unknown.predictions(fit.predict(unknown)).drop(columns="true")
        return result

    def pictures(self, fit: Fit) -> list[Picture]:
        """Return the model's own pictures."""
        return []

    def compared_tables(self, fits: Sequence[Fit], names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Return tables over several fits of the model."""
        return {}

    def compared_pictures(self, fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
        """Return pictures over several fits of the model."""
        return []

    def synthesize(self, fit: Fit, count: int, given: Mapping[str, str] | None) -> Iterator[Tensor]:
        """Yield synthetic rows, chunk by chunk, from torch's global generator."""
        raise NotImplementedError


def view_of(model: Any) -> View:
    """Return the view of a model: that of ``view.py`` beside it, or the default."""
    module = beside(type(model), "view")
    return View() if module is None else module.View()
