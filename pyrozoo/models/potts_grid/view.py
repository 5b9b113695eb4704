"""What is shown of a restored image: labels and probabilities of pixels, log Z, how far from exact, how accurate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.panels import array, grid
from pyrozoo.drawing.scenes import MOST_PIXELS, heatmap, some
from pyrozoo.math import elimination
from pyrozoo.models.potts_grid.likelihood import Potentials, shares

MOST_WORK, MOST_LINES, MOST_PANELS = 1e8, 20_000, 8
"""Multiplications that exact answers may take beside a fit, a few seconds; pixels listed in a table, where the picture
shows all; labels whose probabilities are drawn, of more the first ones."""

STANDING = {"log_evidence": "exact", "elbo": "a lower bound", "log_evidence_bethe": "an estimate, no bound"}
"""What objectives on the scale of the log evidence say of log Z."""

LADDER = ("log_z", "log_z_error", "max_marginal_error", "mean_marginal_error", "label_accuracy", "residual", "seconds")

MISSING = ("white", "tab:pink", "tab:cyan", "0.5")
"""Colours of missing pixels: the first that is far from those of the labels."""


class View(view.View):
    """Figures, tables and pictures of a restored image."""

    main = ("restored",)

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return what is believed of every pixel: the probability of the second of two labels, or the likeliest."""
        names, (lines, columns) = label_names(fit), (some(count, MOST_PIXELS) for count in fit.data.shape)
        size = len(lines), len(columns)

        def beliefs(then: Fit) -> Tensor:
            found = shares(then.draws["label"].flatten(0, 1), len(names), fit.data.values.dtype)
            found = found[lines.to(found.device)][:, columns.to(found.device)]
            return found[..., 1] if len(names) == 2 else found.argmax(-1)

        if len(names) == 2:
            said = f"P({names[1]}), pixel by pixel: dark is 0, light is 1."
            return heatmap("beliefs", said, "row", "column", beliefs, ends=(0.0, 1.0), shape=size, square=True)
        said = "The label of which most is believed, pixel by pixel."
        return heatmap("beliefs", said, "row", "column", beliefs, palette=_palette(names), shape=size, square=True)

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return log Z, accuracy against a known truth, and errors against exact answers where there are any."""
        result: dict[str, float] = {}
        prob, hidden = marginals(fit), fit.data.hidden
        if fit.objective_name in STANDING:
            result["log_z"] = fit.objective + Potentials.of(fit.model, fit.data).normaliser
        if "label" in fit.data.truth:
            right = prob.argmax(-1) == fit.data.truth["label"].to(prob.device)
            result["label_accuracy"] = right.double().mean().item()
        if hidden is not None and len(hidden.values):
            right = prob.argmax(-1)[hidden.rows, hidden.columns] == hidden.values
            result["holdout_accuracy"] = right.double().mean().item()
        if fit.kind != "exact" and (known := exact_answers(fit)) is not None:
            error = (prob.double() - known[1]).abs()
            result |= {"max_marginal_error": error.max().item(), "mean_marginal_error": error.mean().item()}
            if "log_z" in result:
                result["log_z_error"] = result["log_z"] - known[0]
        return result

    def tables(self, fit: Fit) -> view.Tables:
        """Return pixels with label and probabilities; exact fits also say how often neighbours have which labels."""
        result = {"pixels": partial(_pixels, fit)}
        if "neighbours_probability" in fit.expectations:
            result["neighbours"] = partial(_neighbours, fit)
        return view.Tables(result)

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return the image beside its restoration, and the probability of every label."""
        return view.Pictures(partial(_restored, fit), partial(_probabilities, fit))

    def compared_tables(self, fits: Sequence[Fit], names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Return the ladder: by method, log Z, errors of the marginals, accuracy, residual and time."""

        def own(fit: Fit) -> dict[str, str]:
            return {"log Z is": STANDING.get(fit.objective_name, "")}

        return {"ladder": view.ladder(fits, names, own, LADDER)}

    def compared_pictures(self, fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
        """Return the restorations of several methods side by side, and where they disagree."""
        return [_side_by_side(fits, names), *([_disagreement(fits, names)] if len(fits) > 1 else [])]


def _pixels(fit: Fit) -> pd.DataFrame:
    data, names = fit.data, label_names(fit)
    prob = marginals(fit).double().cpu()
    frame = pd.DataFrame(
        {
            "row": [name for name in data.row_labels for _ in data.column_labels],
            "column": list(data.column_labels) * data.shape[0],
            "seen": [names[int(value)] if value == value else "" for value in data.values.flatten().tolist()],
            "label": [names[k] for k in prob.argmax(-1).flatten().tolist()],
            **{f"probability_{name}": prob[..., k].flatten() for k, name in enumerate(names)},
        }
    )
    return frame.head(MOST_LINES)


def _neighbours(fit: Fit) -> pd.DataFrame:
    names, pairs = label_names(fit), fit.expectations["neighbours_probability"]
    return pd.DataFrame({"label": names, **{name: pairs[:, k].cpu() for k, name in enumerate(names)}})


def marginals(fit: Fit) -> Float[Tensor, "H W K"]:
    """Return P(y_ij = k): as the method knows it, else the share of draws (1 or 0 for a point)."""
    if "label_probability" in fit.expectations:
        return fit.expectations["label_probability"]
    return shares(fit.draws["label"].flatten(0, 1), fit.model.labels(fit.data), fit.data.values.dtype)


def labelling(fit: Fit) -> Int[Tensor, "H W"]:
    """Return the most probable label of every pixel (maximum posterior marginals); of a point, the point."""
    return marginals(fit).argmax(-1)


def exact_answers(fit: Fit) -> tuple[float, Float[Tensor, "H W K"]] | None:
    """Return log Z and the exact marginals where they can be had beside a fit, else None."""
    shape, labels = fit.data.shape, fit.model.labels(fit.data)
    if elimination.work(shape, labels) > MOST_WORK or not elimination.fits(shape, labels):
        return None
    potentials = Potentials.of(fit.model, fit.data.to(fit.data.values.device, torch.float64))
    eliminated = elimination.Eliminated(potentials.unary, potentials.coupling)
    return float(eliminated.log_z), eliminated.marginals().label


def label_names(fit: Fit) -> list[str]:
    """Return names of the model's labels, which may be more than the image shows."""
    known = list(fit.data.level_names)
    return known + [f"label_{k}" for k in range(len(known), fit.model.labels(fit.data))]


def _panels(fit: Fit, count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with room for so many images of the data's shape."""
    height, width = fit.data.shape
    columns = min(4 if width < 2 * height else 2, count)
    side = 9.0 / columns
    figure, panels = grid(count, columns, (side, side * min(2.0, max(0.12, height / width)) + 0.4), (0.0, 0.4))
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("0.7")
    return figure, panels


def _palette(names: Sequence[str]) -> list[str]:
    """Return the colours of labels: their own, where their names are colours."""
    default = [mpl.colormaps["viridis"](each) for each in np.linspace(0.05, 0.95, max(2, len(names)))]
    return [name[:7] if name.startswith("#") else to_hex(default[k]) for k, name in enumerate(names)]


def _images(fit: Fit, images: list[tuple[Tensor, str]], more: int = 0) -> tuple[Figure, list[Axes]]:
    """Draw labels with titles and a legend; return the figure with so many panels left."""
    names, (figure, panels) = label_names(fit), _panels(fit, len(images) + more)
    chosen = [to_rgb(colour) for colour in _palette(names)]
    colours, missing = ListedColormap(chosen), _unlike(chosen)
    colours.set_bad(missing)
    for axes, (label, title) in zip(panels, images, strict=False):
        values = np.ma.masked_invalid(array(label))
        axes.imshow(values, cmap=colours, vmin=-0.5, vmax=colours.N - 0.5, interpolation="nearest")
        axes.set_title(title, fontsize=9)
    patches = [Patch(facecolor=colours(k), edgecolor="0.5", label=name) for k, name in enumerate(names[:12])]
    if not fit.data.observed.all():
        patches.append(Patch(facecolor=missing, edgecolor="0.5", label="missing"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=8, frameon=False)
    return figure, panels[len(images) :]


def _unlike(colours: Sequence[tuple[float, ...]]) -> str:
    """Return a colour for missing pixels that is far from these."""

    def nearest(name: str) -> float:
        return min(float(np.linalg.norm(np.subtract(to_rgb(name), each))) for each in colours)

    return next((name for name in MISSING if nearest(name) > 0.3), max(MISSING, key=nearest))


def _shades(
    figure: Figure, panels: list[Axes], shades: list[tuple[Tensor, str]], most: float | None = 1.0
) -> None:  # fmt: skip
    """Draw numbers from 0 with titles and one scale, in other colours than those of labels."""
    for axes, (values, title) in zip(panels, shades, strict=True):
        shown = axes.imshow(values.cpu().numpy(), cmap="magma", vmin=0, vmax=most, interpolation="nearest")
        axes.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=panels, shrink=0.7)


def _truth(fit: Fit) -> list[tuple[Tensor, str]]:
    return [(fit.data.truth["label"], "the truth")] if "label" in fit.data.truth else []


def _accuracy(fit: Fit) -> str:
    accuracy = fit.metrics.get("label_accuracy")
    return "" if accuracy is None else f": {float(accuracy):.1%} right"


def _image(fit: Fit) -> tuple[Tensor, str]:
    """Return the image, and in its title the share of its pixels that are right, where that is known."""
    if "label" not in fit.data.truth or not fit.data.observed.any():
        return fit.data.values, "the image"
    right = (fit.data.values == fit.data.truth["label"].to(fit.data.values.device))[fit.data.observed]
    return fit.data.values, f"the image: {float(right.double().mean()):.1%} right"


def _restored(fit: Fit) -> Picture:
    prob, certain = marginals(fit).double(), fit.kind == "point"
    restored = prob.argmax(-1), f"restored by {fit.method}{_accuracy(fit)}"
    figure, panels = _images(fit, [_image(fit), restored, *_truth(fit)], more=int(not certain))
    if not certain:
        _shades(figure, panels, [(1 - prob.amax(-1), "P(another label than shown)")], most=None)
    doubt = "A point says nothing of doubt." if certain else "Doubt belongs to borders, to gaps and to lone specks."
    return Picture("restored", f"The image, and every pixel's most probable label. {doubt}", figure)


def _probabilities(fit: Fit) -> Picture:
    prob, names = marginals(fit), label_names(fit)[:MOST_PANELS]
    figure, panels = _panels(fit, len(names))
    _shades(figure, panels, [(prob[..., k], f"P({name})") for k, name in enumerate(names)])
    return Picture("probabilities", "Probability of every label, pixel by pixel.", figure)


def _side_by_side(fits: Sequence[Fit], names: Sequence[str]) -> Picture:
    first = next((fit for fit in fits if "label" in fit.data.truth), fits[0])
    restored = [(labelling(fit), f"{name}{_accuracy(fit)}") for name, fit in zip(names, fits, strict=True)]
    figure, _ = _images(first, [_image(first), *_truth(first), *restored])
    return Picture("restorations", "The most probable label of every pixel, by method.", figure)


def _disagreement(fits: Sequence[Fit], names: Sequence[str]) -> Picture:
    """Draw, against the best-founded fit, how far every other is off in probability."""
    order = {"exact": 0, "samples": 1, "variational": 2, "point": 3}
    base = min(range(len(fits)), key=lambda i: order[fits[i].kind])
    against, shades = marginals(fits[base]).double().cpu(), []
    for i in (i for i in range(len(fits)) if i != base):
        # Total variation: the probability that has to be moved.
        gap = 0.5 * (marginals(fits[i]).double().cpu() - against).abs().sum(-1)
        shades.append((gap, f"{names[i]}: mean {gap.mean():.2g}, most {gap.max():.2g}"))
    figure, panels = _panels(fits[0], len(shades))
    _shades(figure, panels, shades)
    said = f"How far probabilities are from those of {names[base]}, pixel by pixel: 0 agrees, 1 contradicts."
    return Picture("disagreement", said, figure)
