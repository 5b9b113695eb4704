"""Pictures of a fitted my_model."""

from __future__ import annotations

from matplotlib.figure import Figure

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.picture import Picture


def pictures(fit: Fit) -> list[Picture]:
    """Return the model's own pictures; those that every model has are made elsewhere."""
    mean = {site: value.mean((0, 1)).cpu().numpy() for site, value in fit.model.canonical(fit.draws).items()}
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    ...  # FILL picture: draw mean["site"], numpy of shape [*event], on the axes; label both
    caption = "..."  # FILL caption: one or two sentences on what to look for
    return [Picture("parameters", caption, figure)]
