"""What is shown of a fitted factor analysis: holes filled, loadings, factors of rows, spectra, errors, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.colors import Normalize, to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import evenly
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.container import Hidden
from pyrozoo.data.table import Table
from pyrozoo.drawing.labels import counted, short
from pyrozoo.drawing.panels import array, bar, bare, grid, over_run, panels
from pyrozoo.drawing.predictions import completions
from pyrozoo.drawing.scenes import MOST_LINES, heatmap, some
from pyrozoo.math.linear_algebra import spectrum
from pyrozoo.math.mixture import NORMAL_95
from pyrozoo.math.moments import column_moments
from pyrozoo.models.factor_analysis.likelihood import Layout
from pyrozoo.models.factor_analysis.queries import factors

MOST_IMAGES, MOST_FACTORS = 10, 25
"""Images whose holes are shown filled; factors shown, the largest first."""

MOST_LABELS, MOST_CORRELATED, MOST_DRAWS = 40, 60, 200
"""Columns up to which each is named and given an interval; columns of a correlation matrix; draws behind the one that
the model implies."""

MOST_ROWS, MOST_WORK, ENOUGH = 5000, 4e9, 0.9
"""Rows behind a spectrum; its multiplications, up to a small factor, so that with many columns it takes fewer rows; and
the share of the variance by which spectra are compared."""

UNEVEN = 10.0
"""Ratio of the largest to the middle sd of columns from which they are drawn in units of their own."""

SIGNED: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
"""How numbers from -1 to 1 are painted."""

Line = tuple[str, Tensor, Normalize, str, str]
"""Label, images [row, column], scale, map of colours, and the colour of what is missing."""

HOLE, BLANK = "#e79a92", "0.93"
"""Missing pixels: a colour that no grey can be mistaken for; where there is nothing to show: a light grey."""


class View(view.View):
    """Figures, tables and pictures of a factor analysis."""

    main = ("loadings", "factor images", "factor table")
    most_cells = 100_000
    moves = ("loadings",)

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return the correlations of some columns that the fit implies."""
        at = some(fit.data.shape[1], MOST_LINES)
        names = [fit.data.column_labels[int(i)] for i in at]

        def implied(then: Fit) -> Tensor:
            mean, own = then.draws, at.to(then.draws["mean"].device)
            loadings, noise = mean["loadings"][..., own, :], mean["noise_variance"][..., own]
            covariance = (loadings @ loadings.mT + noise.diag_embed()).mean((0, 1))
            sd = covariance.diagonal().sqrt()
            return covariance / (sd[:, None] * sd)

        said = "Correlations that the fit implies, red where columns rise together, blue where one falls."
        return heatmap("correlations", said, "column", "column", implied, names, names, (-1.0, 1.0), shades="RdBu11")

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures: reconstruction of hidden entries, against the mean of their column."""
        table, hidden = fit.data, fit.data.hidden
        if hidden is None:
            return {}
        prediction, truth = fit.prediction(table), hidden.values
        inside = (truth >= prediction.lower) & (truth <= prediction.upper)
        return {
            "reconstruction_rmse": prediction.rmse(truth),
            "mean_imputation_rmse": _imputation_error(table),
            "coverage_90": inside.double().mean().item(),
        }

    def tables(self, fit: Fit) -> view.Tables:
        """Return loadings, factors of all rows, old and new, and predictions of hidden and missing cells."""
        result = {"loadings": partial(_loadings, fit), "factors": partial(_factors, fit, fit.data)}
        if fit.data.test is not None:
            result["test_factors"] = partial(_factors, fit, fit.data.test)
        return view.Tables(result) | self.predicted(fit)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return the factors of each row and how unsure they are."""
        found = _factors(fit, part).drop(columns="row")
        return found.rename(columns=lambda name: name.replace("mean", "factor").replace("sd", "factor_sd"))

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return holes filled, factors, mean and noise, spectra, errors, predictions of what was hidden, correlations.

        Tables of images are drawn as images.
        """
        images = fit.data.image_shape is not None
        every = (
            _reconstruction if images else None,
            _factor_images if images else _factor_table,
            _moment_images if images else _moment_points,
            _scree,
            _errors,
        )
        hidden = partial(completions, fit, self.hiding(fit), "value", _units(fit.data))
        more = () if images else (partial(_correlation, fit),)
        return view.Pictures(*(partial(each, fit) for each in every if each is not None), hidden, *more)


def _loadings(fit: Fit) -> pd.DataFrame:
    draws = fit.aligned
    explained, noise = draws["loadings"].square().sum(-1), draws["noise_variance"]
    columns = {"mean": draws["mean"], "noise_sd": noise.sqrt(), "communality": explained / (explained + noise)}
    means = {name: value.mean((0, 1)).cpu().numpy() for name, value in columns.items()}
    means |= view.numbered("factor", draws["loadings"].mean((0, 1)))
    return pd.DataFrame({"column": list(fit.data.column_labels), **means})


def _factors(fit: Fit, table: Table) -> pd.DataFrame:
    posterior: Any = fit.posterior
    layout = posterior.layout if table is fit.data else Layout.of(table)
    mean, sd = factors(layout, fit.aligned)
    return pd.DataFrame({"row": list(table.row_labels), **view.numbered("mean", mean), **view.numbered("sd", sd)})


def completed(fit: Fit, table: Table) -> Float[Tensor, "N D"]:
    """Return a table with its holes filled by the predictive mean, hidden entries by what the fit already knows."""
    values = table.values
    for part in (table, table.missing):
        if part is not None and part.hidden is not None:
            values = _put(values, part.hidden, fit.prediction(part).mean)
    return values


def _reconstruction(fit: Fit) -> Picture | None:
    """Draw images with holes, and how they are filled: those that the truth is known of, or else that nobody knows."""
    table: Table = fit.data
    known, whole = table.hidden is not None, _put(table.values, table.hidden)
    holes = ~table.observed & ~whole.isnan() if known else ~table.observed
    if not holes.any():
        return None
    rows = _images_to_show(holes, table)
    masked, truth = table.values[rows], whole[rows]
    mean, sd = _fill(fit, rows)
    shown = truth[~truth.isnan()]
    # The scale is that of the images: what a reconstruction has beyond it is cut off rather than greying all others.
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    grey = Normalize(low, high if high > low else low + 1)
    spread = Normalize(0, max(float(sd[~sd.isnan()].max()), 1e-9))
    lines = [
        ("masked", masked, grey, "gray", HOLE),
        ("reconstructed", torch.where(masked.isnan(), mean, masked), grey, "gray", HOLE),
        *([("truth", truth, grey, "gray", HOLE)] if known else []),
        ("predictive sd", sd, spread, "viridis", BLANK),
    ]
    return _strips(lines, [table.row_labels[i] for i in rows.tolist()], fit.data.image_shape, known)


def _strips(lines: list[Line], labels: list[str], shape: tuple[int, int], known: bool) -> Picture:
    """Draw lines of images, the last of them on a scale of its own."""
    tile = min(1.8, 9.5 / len(labels))
    height = min(2.0, max(0.3, tile * shape[0] / shape[1]))
    tile = min(tile, max(0.3, height * shape[1] / shape[0]))
    figure, every = panels(tile * len(labels) + 1.9, len(lines) * (height + 0.05) + 0.45, len(lines))
    for axes, (label, values, scale, colors, bad) in zip(every, lines, strict=True):
        axes.imshow(_strip(values, shape, scale, colors, bad), interpolation="nearest", aspect="equal")
        axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
        bare(axes)
    if tile > 0.6:  # inches that a label takes
        step = shape[1] + _gap(shape)
        middles = [(shape[1] - 1) / 2 + i * step for i in range(len(labels))]
        every[0].set_xticks(middles, [short(label, 11) for label in labels], fontsize=7)
        every[0].tick_params(length=0, labeltop=True, labelbottom=False)
    for (_, _, scale, colors, _), axes in ((lines[0], list(every[:-1])), (lines[-1], [every[-1]])):
        aspect = 25 * len(axes) / (len(lines) - 1)
        figure.colorbar(matplotlib.cm.ScalarMappable(scale, colors), ax=axes, aspect=aspect, pad=0.01)
    question = "where the truth has them" if known else "as one would draw them"
    return Picture(
        "reconstruction",
        f"The fit has not seen red pixels: scattered holes left, solid ones right. Do strokes go on {question}? "
        "The last line is how unsure the fit is.",
        figure,
    )


def _images_to_show(holes: Tensor, table: Any) -> Tensor:
    """Choose images with holes, evenly from scattered holes to solid ones, so that every kind of mask is shown."""
    rows = holes.any(1).nonzero().flatten()
    images = holes[rows].unflatten(1, table.image_shape)
    pairs = (images[:, 1:] & images[:, :-1]).sum((1, 2)) + (images[:, :, 1:] & images[:, :, :-1]).sum((1, 2))
    order = (pairs / images.sum((1, 2))).argsort(stable=True)
    count = min(MOST_IMAGES, len(rows))
    # The middles of equal parts: the ends of the order are its oddest images.
    return rows[order[((torch.arange(count) + 0.5) * len(rows) / count).long().to(order.device)]]


def _fill(fit: Fit, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return predictive mean and standard deviation of what is missing in some rows, NaN elsewhere, [row, column]."""
    table: Table = fit.data
    mean, sd = (torch.full_like(table.values[rows], torch.nan) for _ in range(2))

    def put(prediction: Prediction, row: Tensor, column: Tensor, chosen: Tensor) -> None:
        mean[row, column] = prediction.mean[chosen]
        sd[row, column] = ((prediction.upper - prediction.lower) / (2 * NORMAL_95))[chosen]

    if table.hidden is not None:
        place = torch.full((table.shape[0],), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        chosen = (place[table.hidden.rows] >= 0).nonzero().flatten()
        put(fit.prediction(table), place[table.hidden.rows[chosen]], table.hidden.columns[chosen], chosen)
    row, column = (table.values[rows].isnan() & mean.isnan()).nonzero(as_tuple=True)
    if len(row):  # missing to us too; of these rows only, the whole table may miss many more
        unknown = Hidden(row, column, torch.full_like(mean[row, column], torch.nan))
        part = replace(table.batch(rows), hidden=unknown)
        put(fit.posterior.on(part).predict(fit.draws), row, column, torch.arange(len(row), device=row.device))
    return mean, sd


def _put(values: Tensor, hidden: Hidden | None, given: Tensor | None = None) -> Tensor:
    """Return values of a table with what is given, or else what is hidden, in the place of what is hidden."""
    values = values.clone()
    if hidden is not None:
        values[hidden.rows, hidden.columns] = (hidden.values if given is None else given).to(values)
    return values


def _strip(values: Tensor, shape: tuple[int, int], scale: Normalize, colors: str, bad: str) -> np.ndarray:
    """Return images side by side as one picture, [height, width of all, 3]; white between them."""
    images = array(values).reshape(-1, *shape)
    painted = matplotlib.colormaps[colors](scale(np.nan_to_num(images)))[..., :3]
    painted[np.isnan(images)] = to_rgb(bad)
    between = np.ones((shape[0], _gap(shape), 3))
    parts = [part for image in painted for part in (between, image)]
    return np.concatenate(parts[1:], 1)


def _gap(shape: tuple[int, int]) -> int:
    return max(1, round(shape[1] / 14))


def _factor_images(fit: Fit) -> Picture:
    """Draw mean loadings as images."""
    shape, mean, shares = fit.data.image_shape, array(fit.aligned.means()["loadings"]), _shares(fit)
    count = min(MOST_FACTORS, mean.shape[1])
    # Wide rather than tall, with the fewest places left over.
    across = count if count <= 9 else min(range(6, 11), key=lambda width: (-count % width, -width))
    height = min(2.0, max(0.35, 1.0 * shape[0] / shape[1]))
    close = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
    figure, every = grid(count, across, (1.02, height + 0.24), (0.9, 0.1), layout=close)
    for m, axes in enumerate(every):
        image = axes.imshow((mean[:, m] / (np.abs(mean[:, m]).max() or 1.0)).reshape(shape), **SIGNED)
        axes.set_title(f"{m}: {shares[m]:.1%}", fontsize=8, pad=2)
        bare(axes)
    bar(figure, image, figure.axes, ticks=[-1, 0, 1], aspect=30, pad=0.01)
    some = counted(count, "factor", of=mean.shape[1])
    return Picture(
        "factors",
        f"Mean loadings of {some}, each on its own scale, with its share of the variance. Red pixels rise while blue "
        "ones fall. Specks of single pixels are noise. Signs and the rotation are a convention.",
        figure,
    )


def _factor_table(fit: Fit) -> Picture:
    """Draw mean loadings of columns in units of their sd."""
    W = fit.aligned["loadings"]
    variance = _squared_lengths(W, -1) + fit.aligned["noise_variance"]
    shown = array(W.mean((0, 1)) / variance.mean((0, 1)).sqrt().unsqueeze(-1))[:, :MOST_FACTORS]
    (D, count), shares = shown.shape, _shares(fit)
    names, few = [f"{m}: {shares[m]:.0%}" for m in range(count)], D <= MOST_LABELS
    size = (2.6 + 0.42 * count, 1.5 + 0.2 * D) if few else (10, 1.4 + 0.22 * count)
    figure, axes = panels(max(size[0], 4.0), max(size[1], 2.0))
    image = axes.imshow(shown if few else shown.T, aspect="auto", **SIGNED)
    if few:
        axes.set_yticks(range(D), list(map(short, fit.data.column_labels)), fontsize=8)
        axes.set_xticks(range(count), names, fontsize=8, rotation=90 if count > 5 else 0)
        axes.set_xlabel("factor: share of the variance")
    else:
        axes.set_yticks(range(count), names, fontsize=8)
        axes.set(xlabel="column", ylabel="factor: share of the variance")
    axes.set_title("loading / sd of the column", fontsize=10)
    figure.colorbar(image, ax=axes, pad=0.02)
    some = counted(count, "factor", of=W.shape[-1])
    return Picture(
        "factors",
        f"Correlation of each column with {some}. Columns of one colour move together, of opposite colours against "
        "each other. Signs and the rotation are a convention.",
        figure,
    )


def _shares(fit: Fit) -> np.ndarray:
    """Return each factor's share of the model's variance of all columns."""
    sizes = _squared_lengths(fit.aligned["loadings"], -2)
    return array((sizes / (sizes.sum(-1) + fit.aligned["noise_variance"].sum(-1)).unsqueeze(-1)).mean((0, 1)))


def _squared_lengths(loadings: Tensor, dim: int) -> Tensor:
    return torch.linalg.vector_norm(loadings, dim=dim).square()


def _moment_images(fit: Fit) -> Picture:
    """Draw mean and noise as images."""
    shape, noise = fit.data.image_shape, fit.draws["noise_variance"].sqrt()
    figure, every = panels(8, min(6.0, max(1.2, 3.1 * shape[0] / shape[1] + 0.3)), 1, 2)
    shown = ("mean", fit.draws["mean"], "gray"), ("sd of the noise", noise, "magma")
    for axes, (title, values, colors) in zip(every, shown, strict=True):
        image = axes.imshow(array(values.mean((0, 1))).reshape(shape), cmap=colors, interpolation="nearest")
        axes.set_title(title)
        bare(axes)
        figure.colorbar(image, ax=axes, shrink=0.95)
    return Picture(
        "mean_and_noise",
        "The mean image, and the noise of each pixel. Where noise is bright, images differ in ways that the factors "
        "cannot follow.",
        figure,
    )


def _moment_points(fit: Fit) -> Picture:
    """Draw mean and noise of columns as points, with intervals where there are few."""
    table, draws, D = fit.data, fit.draws, fit.data.shape[1]
    few, x = D <= MOST_LABELS, np.arange(D)
    noise, units = draws["noise_variance"].sqrt(), _units(table)
    spread = (_squared_lengths(draws["loadings"], -1) + draws["noise_variance"]).sqrt()
    figure, axes = panels(10, 3.6, 1, 2)
    shown = (
        ("mean", draws["mean"]) if units is None else ("mean / sd of the column", draws["mean"] / units[1]),
        ("sd of the noise (dots) and of the whole column (dashes)", noise),
    )
    for axis, (title, values) in zip(axes, shown, strict=True):
        flat = array(values.flatten(0, 1))
        if few and fit.kind != "point":
            axis.vlines(x, *np.quantile(flat, [0.05, 0.95], axis=0), color="C0", lw=2, alpha=0.6)
        axis.plot(x, flat.mean(0), "o", color="C0", ms=4 if few else 2)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(-0.5, D - 0.5)
        if few:
            axis.set_xticks(x, list(map(short, table.column_labels)), rotation=60, ha="right",
                            rotation_mode="anchor", fontsize=7)  # fmt: skip
        else:
            axis.set_xlabel("column")
    axes[1].plot(x, array(spread.mean((0, 1))), "_", color="C3", ms=8 if few else 4)
    if units is None:
        axes[1].set_ylim(bottom=0)
    else:
        axes[1].set_yscale("log")
    intervals = " Bars are 90% intervals." if few and fit.kind != "point" else ""
    return Picture(
        "mean_and_noise",
        f"Factors explain a column whose noise lies far below its sd. Where the two meet, they do not.{intervals}",
        figure,
    )


def _scree(fit: Fit) -> Picture | None:
    """Draw the spectrum of the data with means in place of holes, and with the truth where it is known."""
    table, units = fit.data, _units(fit.data)
    num_factors, rows = fit.model.num_factors, _rows_for_spectrum(table)
    middle, scale = units or (column_moments(table.values)[0], table.values.new_ones(()))
    whole = _put(table.values, table.hidden)[rows]
    holes = bool(table.values[rows].isnan().any())
    sources = [(table.values[rows], "holes filled by means" if holes else "the data")]
    if table.hidden is not None and bool((whole.isnan() != table.values[rows].isnan()).any()):
        sources.append((whole, "hidden values put back" if whole.isnan().any() else "true data"))
    lines = []
    for values, label in reversed(sources):
        shares = _variance_shares(torch.where(values.isnan(), 0.0, (values - middle) / scale))
        if shares is None:
            return None
        # Rounding must not ask for a component more.
        lines.append((label, shares, int((shares.cumsum() < ENOUGH - 1e-9).sum()) + 1))
    figure, (left, right) = panels(10, 3.4, 1, 2)
    end = max(np.count_nonzero(shares.cumsum() < 0.995) + 1 for _, shares, _ in lines)
    small = 1.0
    for label, shares, needed in lines:
        shown = shares[: max(end, 2)]
        x = np.arange(1, len(shown) + 1)
        color = "C3" if label == sources[0][1] else "C0"
        marker = "o" if len(shown) <= 40 else ""
        left.plot(x, np.where(shown > 1e-9, shown, np.nan), color=color, marker=marker, ms=3)
        right.plot(x, shown.cumsum(), color=color, marker=marker, ms=3, label=label)
        right.plot([needed, needed], [0, ENOUGH], ":", color=color, lw=1)
        small = min(small, float(shown[shown > 1e-9].min()))
    left.set(xlabel="component", ylabel="share of the variance", title="Eigenvalues")
    if small < 0.005:  # over few powers of ten a logarithmic axis has hardly a tick
        left.set_yscale("log")
    else:
        left.set_ylim(bottom=0)
    right.axhline(ENOUGH, color="0.6", lw=0.8, zorder=0)
    right.set(xlabel="components", ylabel="share of the variance", title="Added up", ylim=(0, 1.03))
    for axes in (left, right):
        if num_factors <= end:
            axes.axvline(num_factors, color="0.6", ls="--", lw=0.8, zorder=0, label="factors of the fit")
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="lower right", fontsize=8)
    need = "; ".join(f"{needed}" if label == "the data" else f"{needed} with {label}" for label, _, needed in lines)
    lesson = " (means in place of holes break up what columns share)" if lines[-1][2] > lines[0][2] else ""
    notes = [] if units is None else ["columns are standardised, for their sds differ much"]
    if len(rows) < table.shape[0]:
        notes.append(f"{len(rows)} of {table.shape[0]} rows, evenly chosen")
    more = f" Here {'; '.join(notes)}." if notes else ""
    return Picture(
        "scree", f"Components that PCA needs for {ENOUGH:.0%} of the variance: {need}{lesson}.{more}", figure
    )


def _rows_for_spectrum(table: Table) -> Tensor:
    N, D = table.shape
    count = max(2, min(MOST_ROWS, int(max((MOST_WORK / D) ** 0.5, MOST_WORK / D**2))))
    return evenly(N, count).to(table.values.device)


def _variance_shares(values: Tensor) -> np.ndarray | None:
    """Return the share of every principal component; None when there is no variance."""
    N, D = values.shape
    values = values.double() - values.double().mean(0)
    # Wide ones turned into the space that the rows span; variances stay, and there are no D x D axes to compute.
    variances = spectrum(values if N >= D else torch.linalg.qr(values.mT, mode="r")[1].mT)[2]
    total = float(variances.sum())
    return array(variances) / total if total > 0 else None


def _errors(fit: Fit) -> Picture | None:
    """Draw the error of hidden entries over sweeps, where it was watched."""
    trace, each = fit.trace, {"color": "C0", "lw": 0.8, "alpha": 0.7}
    one = trace[trace["chain"] == trace["chain"].min()]  # one average over all chains
    curves = (
        (trace, "sweep_rmse", "each sweep", each),
        (one, "average_rmse", "average of sweeps", {"color": "C3", "lw": 1.8, "zorder": 3}),
    )
    shown = [curve for curve in curves if curve[1] in trace and trace[curve[1]].notna().any()]
    if not shown:
        return None
    figure, *every = over_run(shown, "sweep", "RMSE of hidden entries")
    naive = None if fit.data.hidden is None else _imputation_error(fit.data)
    if naive is not None:
        for axes in every:
            axes.axhline(naive, color="0.4", ls="--", lw=1, label="means of columns")
    values = trace[[column for _, column, _, _ in shown]].to_numpy()
    low = float(np.nanmin(values))
    # A bad start must not flatten what matters: everything below mean imputation, and most sweeps in any case.
    high = max(float(np.nanquantile(values, 0.98)), naive or 0.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    every[0].set_ylim(low - margin, high + margin)
    handles, names = every[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    last = trace[shown[-1][1]].dropna()
    ends = f"{float(last.iloc[-1]):.4g}" + ("" if naive is None else f", where means of columns give {naive:.4g}")
    return Picture(
        "reconstruction_error",
        "Errors of single sweeps should reach a level and stay there; a rise is a fit to noise. Their average should "
        f"lie below. It ends at {ends}.",
        figure,
    )


def _correlation(fit: Fit) -> Picture | None:
    """Draw the correlations that the model implies beside the observed ones."""
    table, D = fit.data, fit.data.shape[1]
    if not 1 < D <= MOST_CORRELATED:
        return None
    some = fit.draws.some(MOST_DRAWS).flat()
    covariance = some["loadings"] @ some["loadings"].mT + torch.diag_embed(some["noise_variance"])
    sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    implied = array((covariance / (sd.unsqueeze(-1) * sd.unsqueeze(-2))).mean(0))
    observed = pd.DataFrame(array(table.values)).corr(min_periods=3).to_numpy()
    figure, every = panels(9.6, 4.4 + (0.5 if D <= MOST_LABELS else 0), 1, 2, layout="compressed")
    shown = ("implied by the model", implied), ("observed, complete pairs", observed)
    for axes, (title, matrix) in zip(every, shown, strict=True):
        axes.set_facecolor("0.8")  # where there is no correlation
        image = axes.imshow(matrix, **SIGNED)
        axes.set_title(title)
        if D <= MOST_LABELS:
            names = [short(label, 14) for label in table.column_labels]
            axes.set_xticks(range(D), names, rotation=90, fontsize=7)
            axes.set_yticks(range(D), names if axes is every[0] else [], fontsize=7)
        else:
            axes.set(xlabel="column", xticks=[], yticks=[])
    figure.colorbar(image, ax=list(every), shrink=0.85, pad=0.02, label="correlation")
    gap = np.abs(np.where(np.tri(D, k=-1, dtype=bool), implied - observed, np.nan))
    worst = ""
    if not np.isnan(gap).all():
        i, j = (int(index) for index in np.unravel_index(np.nanargmax(gap), gap.shape))
        worst = (
            f" They differ most for {table.column_labels[j]} and {table.column_labels[i]}: "
            f"{implied[i, j]:.2f} against {observed[i, j]:.2f}."
        )
    grey = " (grey where none can be had)" if np.isnan(observed).any() else ""
    return Picture(
        "correlation",
        f"Correlations by the model, and of the data{grey}. Blocks that only the data have ask for more factors."
        f"{worst}",
        figure,
    )


def _imputation_error(table: Any) -> float:
    """Return the root mean squared error of the means of columns in place of what is hidden."""
    means = column_moments(table.values)[0][table.hidden.columns]
    return float((means - table.hidden.values).square().mean().sqrt())


def _units(table: Table) -> tuple[Tensor, Tensor] | None:
    """Return mean and sd of every column where they are too uneven for one scale; None where one does, as for images.

    Constant columns get the sd 1.
    """
    if table.image_shape is not None:
        return None
    middle, variance, _ = column_moments(table.values)
    sd = variance.sqrt()
    varied = sd[sd > 0]
    if not len(varied) or varied.max() < UNEVEN * varied.median():
        return None
    return middle, torch.where(sd > 0, sd, 1.0)
