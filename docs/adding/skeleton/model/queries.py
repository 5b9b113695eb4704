"""What users ask of a fitted my_model."""

from __future__ import annotations

import pandas as pd

from pyrozoo.contracts.fit import Fit
from pyrozoo.models.my_model.model import log_joint_of_rows, thinned


def metrics(fit: Fit) -> dict[str, float]:
    """Return the model's own figures beside those that every fit has, name -> number."""
    return {}


def tables(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return what goes into tables/: the parameters, the rows, and predictions of hidden and of missing cells."""
    draws, data = fit.model.canonical(fit.draws), fit.data
    result: dict[str, pd.DataFrame] = {}
    ...  # FILL tables: result["name"] = pd.DataFrame(...), with data.row_labels or data.column_labels
    for name, part in (("holdout", data), ("completion", data.test)):
        if part is not None and part.hidden is not None:
            result[name] = part.predictions(fit.predict(part))
    for name, part in (("missing", data), ("test_missing", data.test)):
        unknown = part.missing if part is not None else None
        if unknown is not None:
            result[name] = unknown.predictions(fit.predict(unknown)).drop(columns="true")
    return result
