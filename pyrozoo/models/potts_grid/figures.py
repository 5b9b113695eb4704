"""Pictures of a restored image, of one fit and of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pyrozoo.contracts.fit import Fit
from pyrozoo.core.picture import Picture
from pyrozoo.models.potts_grid.queries import label_names, labelling, marginals

MISSING = "white"
MOST_PANELS = 8
"""Labels whose probabilities are drawn; of more, the first ones."""


def pictures(fit: Fit) -> list[Picture]:
    """Return the image beside its restoration, and the probability of every label."""
    return [_restored(fit), _probabilities(fit)]


def compared(fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
    """Return the restorations of several methods side by side, and where they disagree."""
    return [_side_by_side(fits, names), *([_disagreement(fits, names)] if len(fits) > 1 else [])]


def _colours(fit: Fit) -> ListedColormap:
    names = label_names(fit)
    default = [mpl.colormaps["viridis"](each) for each in np.linspace(0.05, 0.95, max(2, len(names)))]
    colours = [to_rgb(name) if name.startswith("#") else default[k] for k, name in enumerate(names)]
    result = ListedColormap(colours)
    result.set_bad(MISSING)
    return result


def _image(axes: Axes, label: Any, fit: Fit, title: str) -> None:
    values = np.ma.masked_invalid(np.asarray(label, dtype=float))
    colours = _colours(fit)
    axes.imshow(values, cmap=colours, vmin=-0.5, vmax=colours.N - 0.5, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("0.7")


def _legend(figure: Figure, fit: Fit) -> None:
    names, colours = label_names(fit), _colours(fit)
    patches = [Patch(facecolor=colours(k), edgecolor="0.5", label=names[k]) for k in range(len(names))][:12]
    if not fit.data.observed.all():
        patches.append(Patch(facecolor=MISSING, edgecolor="0.5", label="missing"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=8, frameon=False)


def _panels(fit: Fit, count: int, across: int = 4) -> tuple[Figure, list[Axes]]:
    """Return a figure with room for so many images of the data's shape."""
    height, width = fit.data.shape
    columns = min(across if width < 2 * height else across // 2, count)
    lines = -(-count // columns)
    side = 9.0 / columns
    figure = Figure(
        figsize=(9.0, lines * (side * min(2.0, max(0.25, height / width)) + 0.4) + 0.4), layout="constrained"
    )
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.axis("off")
    return figure, list(grid[:count])


def _accuracy(fit: Fit) -> str:
    accuracy = fit.metrics.get("label_accuracy")
    return "" if accuracy is None else f": {float(accuracy):.2%} right"


def _restored(fit: Fit) -> Picture:
    truth = fit.data.truth.get("label")
    prob = marginals(fit).double().cpu().numpy()
    uncertain = fit.kind != "point"
    figure, panels = _panels(fit, 2 + uncertain + (truth is not None))
    _image(panels.pop(0), fit.data.values.cpu().numpy(), fit, "the image")
    _image(panels.pop(0), labelling(fit).cpu().numpy(), fit, f"restored by {fit.method}{_accuracy(fit)}")
    if truth is not None:
        _image(panels.pop(0), truth.cpu().numpy(), fit, "the truth")
    if uncertain:
        (axes,) = panels
        shown = axes.imshow(1 - prob.max(-1), cmap="magma", vmin=0, interpolation="nearest")
        axes.set_title("P(another label than shown)", fontsize=9)
        _bare(axes)
        figure.colorbar(shown, ax=axes, shrink=0.7)
    _legend(figure, fit)
    doubt = " Doubt belongs to edges and to gaps." if uncertain else " A point says nothing of doubt."
    return Picture("restored", f"The image, and every pixel's most probable label.{doubt}", figure)


def _probabilities(fit: Fit) -> Picture:
    prob, names = marginals(fit).double().cpu().numpy(), label_names(fit)
    count = min(MOST_PANELS, len(names))
    figure, panels = _panels(fit, count)
    for k, axes in enumerate(panels):
        shown = axes.imshow(prob[..., k], cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"P({names[k]})", fontsize=9)
        _bare(axes)
    figure.colorbar(shown, ax=panels, shrink=0.7)
    return Picture("probabilities", "Probability of every label, pixel by pixel.", figure)


def _side_by_side(fits: Sequence[Fit], names: Sequence[str]) -> Picture:
    first = next((fit for fit in fits if "label" in fit.data.truth), fits[0])
    truth = first.data.truth.get("label")
    figure, panels = _panels(first, len(fits) + 1 + (truth is not None))
    _image(panels.pop(0), first.data.values.cpu().numpy(), first, "the image")
    if truth is not None:
        _image(panels.pop(0), truth.cpu().numpy(), first, "the truth")
    for axes, fit, name in zip(panels, fits, names, strict=True):
        _image(axes, labelling(fit).cpu().numpy(), fit, f"{name}{_accuracy(fit)}")
    _legend(figure, first)
    return Picture("restorations", "The most probable label of every pixel, by method.", figure)


def _disagreement(fits: Sequence[Fit], names: Sequence[str]) -> Picture:
    """Draw, against the best-founded fit, how far every other is off in probability."""
    order = {"exact": 0, "samples": 1, "variational": 2, "point": 3}
    base = min(range(len(fits)), key=lambda i: order[fits[i].kind])
    against = marginals(fits[base]).double().cpu().numpy()
    others = [i for i in range(len(fits)) if i != base]
    figure, panels = _panels(fits[0], len(others))
    for axes, i in zip(panels, others, strict=True):
        # Total variation: the probability that has to be moved.
        gap = 0.5 * np.abs(marginals(fits[i]).double().cpu().numpy() - against).sum(-1)
        shown = axes.imshow(gap, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"{names[i]}: mean {gap.mean():.2g}, most {gap.max():.2g}", fontsize=9)
        _bare(axes)
    figure.colorbar(shown, ax=panels, shrink=0.7)
    return Picture(
        "disagreement",
        f"Where methods disagree with {names[base]}: probability that would have to be moved, from 0 to 1.",
        figure,
    )
