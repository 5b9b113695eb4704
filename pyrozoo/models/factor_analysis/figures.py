"""Pictures of a fitted factor analysis: filled holes, factors, mean and noise, spectra, errors, correlations."""

from __future__ import annotations

import math
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from pyrozoo.data.table import Hidden, Table
from pyrozoo.math.mixture import NORMAL_95
from pyrozoo.models.factor_analysis.pca import spectrum
from pyrozoo.types import Draws, Fit, Picture, Prediction

MOST_IMAGES = 10
"""Images whose holes are shown filled."""

MOST_FACTORS = 25
"""Factors shown, the largest first."""

MOST_LABELS = 40
"""Columns up to which each is named and given an interval."""

MOST_CORRELATED = 60
"""Columns of a correlation matrix."""

MOST_DRAWS = 200
"""Draws behind the implied correlation."""

MOST_POINTS = 3000
"""Hidden entries up to which each is a point; more are counted in hexagons."""

MOST_ROWS = 5000
"""Rows behind a spectrum."""

MOST_WORK = 4e9
"""Multiplications of a spectrum, up to a small factor: with many columns it takes fewer rows."""

ENOUGH = 0.9
"""Share of the variance by which spectra are compared."""

HOLE, BLANK = "#e79a92", "0.93"
"""Missing pixels: a colour that no grey can be mistaken for; where there is nothing to show: a light grey."""


def pictures(fit: Fit) -> list[Picture]:
    """Return the model's own pictures."""
    table: Table = fit.data
    draws = fit.model.canonical(fit.draws)
    images = table.image_shape is not None
    result = [
        _reconstruction(fit) if images else None,
        _factor_images(draws, table) if images else _factor_table(draws, table),
        _moment_images(draws, table) if images else _moment_points(fit, draws),
        _scree(table, fit.model.num_factors),
        _errors(fit),
    ]
    for name, part in (("holdout", table), ("completion", table.test)):
        if part is not None and part.hidden is not None and len(part.hidden.values):
            result.append(_holdout(name, fit.predict(part), part.hidden))
    if not images:
        result.append(_correlation(fit))
    return [picture for picture in result if picture is not None]


# Holes ----------------------------------------------------------------------------------------------------------------


def _reconstruction(fit: Fit) -> Picture | None:
    table: Table = fit.data
    known = table.hidden is not None and len(table.hidden.values) > 0
    holes = _hidden_mask(table) if known else ~table.observed
    if not holes.any():
        return None
    rows = _images_to_show(holes, table)
    masked = table.values[rows]
    mean, sd = _fill(fit, rows)
    truth = torch.where(masked.isnan(), torch.nan, masked)
    if known:
        truth = torch.where(holes[rows], _with_hidden(table)[rows], masked)
    shown = truth[~truth.isnan()]
    # The scale is that of the images: what a reconstruction has beyond it is cut off rather than greying all others.
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    assert table.image_shape is not None
    shape, grey = table.image_shape, Normalize(low, max(high, low + 1e-9))
    spread = Normalize(0, max(float(sd[~sd.isnan()].max()), 1e-9))
    lines = [
        ("masked", masked, grey, "gray", HOLE),
        ("reconstructed", torch.where(masked.isnan(), mean, masked), grey, "gray", HOLE),
        *([("truth", truth, grey, "gray", HOLE)] if known else []),
        ("predictive sd", sd, spread, "viridis", BLANK),
    ]
    width = 0.95 * len(rows)
    height = min(2.0, max(0.3, 0.95 * shape[0] / shape[1]))
    figure = Figure(figsize=(width + 1.9, len(lines) * (height + 0.05) + 0.45), layout="constrained")
    every = figure.subplots(len(lines), 1)
    for axes, (label, values, scale, colors, bad) in zip(every, lines, strict=True):
        axes.imshow(_strip(values, shape, scale, colors, bad), interpolation="nearest", aspect="equal")
        axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
        _bare(axes)
    middle = shape[1] + _gap(shape)
    every[0].set_xticks(
        [(shape[1] - 1) / 2 + i * middle for i in range(len(rows))],
        [_short(table.row_labels[i], 11) for i in rows.tolist()],
        fontsize=7,
    )
    every[0].tick_params(length=0, labeltop=True, labelbottom=False)
    figure.colorbar(matplotlib.cm.ScalarMappable(grey, "gray"), ax=list(every[:-1]), aspect=25, pad=0.01)
    figure.colorbar(
        matplotlib.cm.ScalarMappable(spread, "viridis"), ax=every[-1], aspect=25 / (len(lines) - 1), pad=0.01
    )
    against = "against the truth below" if known else "(their truth is unknown)"
    return Picture(
        "reconstruction",
        f"Red pixels were not shown to the fit, from scattered holes (left) to solid ones (right): do strokes go on "
        f"where they should, {against}? The last line says where the fit is unsure: within large holes, near strokes.",
        figure,
    )


def _images_to_show(holes: Tensor, table: Table) -> Tensor:
    """Choose images with holes, evenly from scattered holes to solid ones, so that every kind of mask is shown."""
    assert table.image_shape is not None
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

    if table.hidden is not None and len(table.hidden.values):
        place = torch.full((table.shape[0],), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        chosen = (place[table.hidden.rows] >= 0).nonzero().flatten()
        put(fit.predict(table), place[table.hidden.rows[chosen]], table.hidden.columns[chosen], chosen)
    row, column = (table.values[rows].isnan() & mean.isnan()).nonzero(as_tuple=True)
    if len(row):  # missing to us too; of these rows only, the whole table may miss many more
        unknown = Hidden(row, column, torch.full_like(mean[row, column], torch.nan))
        part = replace(table.batch(rows), hidden=unknown)
        put(fit.model.predict(fit.draws, part), row, column, torch.arange(len(row), device=row.device))
    return mean, sd


def _hidden_mask(table: Table) -> Tensor:
    assert table.hidden is not None
    mask = torch.zeros_like(table.observed)
    mask[table.hidden.rows, table.hidden.columns] = True
    return mask


def _with_hidden(table: Table) -> Tensor:
    """Return the values, hidden ones in their place."""
    if table.hidden is None:
        return table.values
    values = table.values.clone()
    values[table.hidden.rows, table.hidden.columns] = table.hidden.values
    return values


def _strip(values: Tensor, shape: tuple[int, int], scale: Normalize, colors: str, bad: str) -> np.ndarray:
    """Return images side by side as one picture, [height, width of all, 3]; white between them."""
    images = _numpy(values).reshape(-1, *shape)
    painted = matplotlib.colormaps[colors](scale(np.nan_to_num(images)))[..., :3]
    painted[np.isnan(images)] = to_rgb(bad)
    between = np.ones((shape[0], _gap(shape), 3))
    parts = [part for image in painted for part in (between, image)]
    return np.concatenate(parts[1:], 1)


def _gap(shape: tuple[int, int]) -> int:
    return max(1, round(shape[1] / 14))


# Parameters -----------------------------------------------------------------------------------------------------------


def _factor_images(draws: Draws, table: Table) -> Picture:
    assert table.image_shape is not None
    mean, shares = _numpy(draws["loadings"].mean((0, 1))), _shares(draws)
    count = min(MOST_FACTORS, mean.shape[1])
    across = min(count, 9)
    down = math.ceil(count / across)
    height = min(2.0, max(0.35, 1.0 * table.image_shape[0] / table.image_shape[1]))
    figure = Figure(figsize=(1.02 * across + 0.9, down * (height + 0.24) + 0.1), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr,call-arg]
    every = figure.subplots(down, across, squeeze=False)
    for m, axes in enumerate(every.flat):
        if m >= count:
            axes.set_axis_off()
            continue
        largest = np.abs(mean[:, m]).max()
        image = axes.imshow(
            (mean[:, m] / (largest or 1.0)).reshape(table.image_shape), cmap="RdBu_r", vmin=-1, vmax=1,
            interpolation="nearest",
        )  # fmt: skip
        axes.set_title(f"{m}: {shares[m]:.1%}", fontsize=8, pad=2)
        _bare(axes)
    bar = figure.colorbar(image, ax=list(every.flat), ticks=[-1, 0, 1], aspect=30, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    some = f"the first {count} of {mean.shape[1]} factors" if count < mean.shape[1] else _counted(count, "factor")
    return Picture(
        "factors",
        f"Posterior mean loadings of {some}, each on its own scale, with its share of the variance: red pixels rise "
        "and blue ones fall together. Early factors are broad contrasts of shape, late ones fine detail or noise; "
        "signs and rotation are a convention.",
        figure,
    )


def _factor_table(draws: Draws, table: Table) -> Picture:
    W = draws["loadings"]
    variance = torch.linalg.vector_norm(W, dim=-1).square() + draws["noise_variance"]
    shown = _numpy(W.mean((0, 1)) / variance.mean((0, 1)).sqrt().unsqueeze(-1))[:, :MOST_FACTORS]
    (D, count), M, shares = shown.shape, W.shape[-1], _shares(draws)
    names = [f"{m}: {shares[m]:.0%}" for m in range(count)]
    few = D <= MOST_LABELS
    size = (2.6 + 0.42 * count, 1.5 + 0.2 * D) if few else (10, 1.4 + 0.22 * count)
    figure = Figure(figsize=(max(size[0], 4.0), max(size[1], 2.0)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        shown if few else shown.T, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
    )
    if few:
        axes.set_yticks(range(D), [_short(label) for label in table.column_labels], fontsize=8)
        axes.set_xticks(range(count), names, fontsize=8, rotation=90 if count > 5 else 0)
        axes.set_xlabel("factor: share of the variance")
    else:
        axes.set_yticks(range(count), names, fontsize=8)
        axes.set(xlabel="column", ylabel="factor: share of the variance")
    axes.set_title("loading / sd of the column", fontsize=10)
    figure.colorbar(image, ax=axes, pad=0.02)
    some = f" The first {count} of {M} factors." if count < M else ""
    return Picture(
        "factors",
        "Correlation of each column with each factor, on one scale: columns of strong colour in one factor move "
        f"together, of opposite colours against each other; signs and rotation are a convention.{some}",
        figure,
    )


def _shares(draws: Draws) -> np.ndarray:
    """Return each factor's share of the model's variance of all columns."""
    sizes = torch.linalg.vector_norm(draws["loadings"], dim=-2).square()
    return _numpy((sizes / (sizes.sum(-1) + draws["noise_variance"].sum(-1)).unsqueeze(-1)).mean((0, 1)))


def _moment_images(draws: Draws, table: Table) -> Picture:
    assert table.image_shape is not None
    ratio = table.image_shape[0] / table.image_shape[1]
    figure = Figure(figsize=(8, min(6.0, max(1.2, 3.1 * ratio + 0.3))), layout="constrained")
    panels = (
        ("mean", draws["mean"].mean((0, 1)), "gray"),
        ("sd of the noise", draws["noise_variance"].sqrt().mean((0, 1)), "magma"),
    )
    for axes, (title, values, colors) in zip(figure.subplots(1, 2), panels, strict=True):
        image = axes.imshow(_numpy(values).reshape(table.image_shape), cmap=colors, interpolation="nearest")
        axes.set_title(title)
        _bare(axes)
        figure.colorbar(image, ax=axes, shrink=0.95)
    return Picture(
        "mean_and_noise",
        "The mean image, and what the factors leave unexplained of each pixel: bright noise marks pixels where "
        "images differ in ways that these factors cannot follow.",
        figure,
    )


def _moment_points(fit: Fit, draws: Draws) -> Picture:
    table: Table = fit.data
    D = table.shape[1]
    few, x = D <= MOST_LABELS, np.arange(D)
    noise = draws["noise_variance"].sqrt()
    spread = (torch.linalg.vector_norm(draws["loadings"], dim=-1).square() + draws["noise_variance"]).sqrt()
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, title, values in ((axes[0], "mean", draws["mean"]), (axes[1], "sd", noise)):
        flat = _numpy(values.flatten(0, 1))
        if few and fit.kind != "point":
            axis.vlines(x, *np.quantile(flat, [0.05, 0.95], axis=0), color="C0", lw=2, alpha=0.6)
        axis.plot(x, flat.mean(0), "o", color="C0", ms=4 if few else 2, label="noise")
        axis.set(title=title, xlim=(-0.5, D - 0.5))
        if few:
            axis.set_xticks(x, [_short(label) for label in table.column_labels], rotation=60, ha="right",
                            rotation_mode="anchor", fontsize=8 if D <= 20 else 7)  # fmt: skip
        else:
            axis.set_xlabel("column")
    axes[1].plot(x, _numpy(spread.mean((0, 1))), "_", color="C3", ms=8 if few else 4, label="whole column")
    axes[1].set_ylim(bottom=0)
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    intervals = " Bars are 90% intervals." if few and fit.kind != "point" else ""
    return Picture(
        "mean_and_noise",
        "Mean and noise of each column: where the noise lies far below the whole column's sd, the factors explain "
        f"the column; where they meet, it goes its own way.{intervals}",
        figure,
    )


# Spectra --------------------------------------------------------------------------------------------------------------


def _scree(table: Table, num_factors: int) -> Picture | None:
    rows = _rows_for_spectrum(table)
    middle = table.filled.sum(0) / table.observed.sum(0).clamp(min=1)
    whole = _with_hidden(table)[rows]
    holes = bool(table.values[rows].isnan().any())
    sources = [(table.values[rows], "holes filled by means" if holes else "the data")]
    if table.hidden is not None and bool((whole.isnan() != table.values[rows].isnan()).any()):
        sources.append((whole, "true data"))
    lines = []
    for values, label in reversed(sources):
        shares = _variance_shares(torch.where(values.isnan(), middle, values))
        if shares is None:
            return None
        # Rounding must not ask for a component more.
        lines.append((label, shares, int((shares.cumsum() < ENOUGH - 1e-9).sum()) + 1))
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    end = max(np.count_nonzero(shares.cumsum() < 0.995) + 1 for _, shares, _ in lines)
    small = 1.0
    for label, shares, needed in lines:
        shown = shares[: max(end, 2)]
        x = np.arange(1, len(shown) + 1)
        style = {"color": "C0" if label == "true data" else "C3", "marker": "o" if len(shown) <= 40 else "", "ms": 3}
        left.plot(x, np.where(shown > 1e-9, shown, np.nan), label=label, **style)
        right.plot(x, shown.cumsum(), label=label, **style)
        right.plot([needed, needed], [0, ENOUGH], ":", color=style["color"], lw=1)
        small = min(small, float(shown[shown > 1e-9].min()))
    left.set(yscale="log", xlabel="component", ylabel="share of the variance", title="Eigenvalues")
    if small > 0.1:
        left.set(yscale="linear", ylim=(0, 1.05))
    right.axhline(ENOUGH, color="0.6", lw=0.8, zorder=0)
    right.set(xlabel="components", ylabel="share of the variance", title="Added up", ylim=(0, 1.03))
    for axes in (left, right):
        if num_factors <= end:
            axes.axvline(num_factors, color="0.6", ls="--", lw=0.8, zorder=0, label="factors of the fit")
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="lower right", fontsize=8)
    need = "; ".join(f"{needed} with {label}" if label != "the data" else f"{needed}" for label, _, needed in lines)
    lesson = (
        " Means in place of holes break up what the columns share, so that PCA needs more." if len(lines) > 1 else ""
    )
    some = f" {len(rows)} of {table.shape[0]} rows, evenly chosen." if len(rows) < table.shape[0] else ""
    return Picture("scree", f"Principal components for {ENOUGH:.0%} of the variance: {need}.{lesson}{some}", figure)


def _rows_for_spectrum(table: Table) -> Tensor:
    N, D = table.shape
    count = max(2, min(MOST_ROWS, int(max((MOST_WORK / D) ** 0.5, MOST_WORK / D**2))))
    return torch.linspace(0, N - 1, min(N, count)).round().long().to(table.values.device)


def _variance_shares(values: Tensor) -> np.ndarray | None:
    """Return the share of every principal component; None when there is no variance."""
    N, D = values.shape
    values = values.double() - values.double().mean(0)
    if N < D:
        # Turned into the space that the rows span; variances stay, and there are no D x D axes to compute.
        values = torch.linalg.qr(values.mT, mode="r")[1].mT
    variances = spectrum(values)[2]
    total = float(variances.sum())
    return _numpy(variances) / total if total > 0 else None


# Errors ---------------------------------------------------------------------------------------------------------------


def _errors(fit: Fit) -> Picture | None:
    table: Table = fit.data
    known = [name for name in ("sweep_rmse", "average_rmse") if name in fit.trace and fit.trace[name].notna().any()]
    if not known:
        return None
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    every = figure.subplots(1, 2, sharey=True)
    for axes, over in zip(every, ("iteration", "seconds"), strict=True):
        for i, (_, line) in enumerate(fit.trace.groupby("chain")):
            if "sweep_rmse" in known:
                axes.plot(line[over], line["sweep_rmse"], color="C0", lw=0.8, alpha=0.7,
                          label=None if i else "each sweep")  # fmt: skip
            if "average_rmse" in known and i == 0:  # one average over all chains
                axes.plot(line[over], line["average_rmse"], color="C3", lw=1.8, label="average of sweeps")
        axes.set_xlabel("sweep" if over == "iteration" else over)
    naive = None
    if table.hidden is not None and len(table.hidden.values):
        means = (table.filled.sum(0) / table.observed.sum(0))[table.hidden.columns]
        naive = float((means - table.hidden.values).square().mean().sqrt())
        for axes in every:
            axes.axhline(naive, color="0.4", ls="--", lw=1, label="means of columns")
    low = float(np.nanmin(fit.trace[known].to_numpy()))
    # A bad start must not flatten what matters: everything below mean imputation, and most sweeps in any case.
    high = max(float(np.nanquantile(fit.trace[known].to_numpy(), 0.98)), naive or 0.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    every[0].set(ylim=(low - margin, high + margin), ylabel="RMSE of hidden entries", title="by sweep")
    every[1].set_title("by time")
    every[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    last = fit.trace["average_rmse"].dropna() if "average_rmse" in known else fit.trace["sweep_rmse"].dropna()
    ends = f"It ends at {float(last.iloc[-1]):.4g}" + (f", where means of columns give {naive:.4g}." if naive else ".")
    return Picture(
        "reconstruction_error",
        "Error of the hidden entries while sampling: each sweep's level is reached early, and the average over sweeps "
        f"after warm-up falls below it, as noise between sweeps cancels. {ends}",
        figure,
    )


def _holdout(name: str, prediction: Prediction, hidden: Hidden) -> Picture:
    truth, mean, pit = (_numpy(value) for value in (hidden.values, prediction.mean, prediction.pit))
    rmse, count = float(np.sqrt(((mean - truth) ** 2).mean())), len(truth)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1])
    low, high = min(truth.min(), mean.min()), max(truth.max(), mean.max())
    margin = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    ends = low - margin, high + margin
    if count > MOST_POINTS:
        cells = left.hexbin(mean, truth, gridsize=45, bins="log", mincnt=1, cmap="viridis", extent=(*ends, *ends))
        figure.colorbar(cells, ax=left, label="entries")
    else:
        left.plot(mean, truth, ".", ms=4, alpha=0.5)
    left.plot(ends, ends, color="C3" if count > MOST_POINTS else "0.6", lw=0.8)
    left.set(xlabel="predicted mean", ylabel="true value", title=f"RMSE {rmse:.4g}", xlim=ends, ylim=ends)
    bins = 20 if count >= 200 else 10
    right.hist(pit, bins=bins, range=(0, 1), color="C0")
    right.axhline(count / bins, color="0.4", lw=0.8)
    right.set(xlabel="PIT", ylabel="entries", title="Calibration: flat is right", xlim=(0, 1))
    where = "test rows" if name == "completion" else "hidden entries"
    whose = "missing values in test rows" if name == "completion" else "hidden entries"
    del where
    return Picture(
        name,
        f"Prediction of {count} {whose} from the rest of their rows: the truth should scatter evenly about the line. "
        "A histogram high in the middle is too unsure of itself, high at both ends too sure.",
        figure,
    )


# Columns --------------------------------------------------------------------------------------------------------------


def _correlation(fit: Fit) -> Picture | None:
    table: Table = fit.data
    D = table.shape[1]
    if not 1 < D <= MOST_CORRELATED:
        return None
    W, noise = (fit.draws[site].flatten(0, 1) for site in ("loadings", "noise_variance"))
    keep = torch.linspace(0, len(W) - 1, min(len(W), MOST_DRAWS)).round().long().to(W.device)
    covariance = W[keep] @ W[keep].mT + torch.diag_embed(noise[keep])
    sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    implied = _numpy((covariance / (sd.unsqueeze(-1) * sd.unsqueeze(-2))).mean(0))
    frame = pd.DataFrame(_numpy(table.values), columns=range(D))
    observed = frame.corr(min_periods=3).to_numpy()
    figure = Figure(figsize=(9.6, 4.4 + (0.5 if D <= MOST_LABELS else 0)), layout="constrained")
    every = figure.subplots(1, 2)
    colors = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.8")
    for axes, title, matrix in ((every[0], "of the model", implied), (every[1], "of the data", observed)):
        image = axes.imshow(matrix, cmap=colors, vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(title)
        if D <= MOST_LABELS:
            names = [_short(label, 14) for label in table.column_labels]
            size = 8 if D <= 15 else 6
            axes.set_xticks(range(D), names, rotation=90, fontsize=size)
            axes.set_yticks(range(D), names if axes is every[0] else [], fontsize=size)
        else:
            axes.set(xlabel="column", xticks=[], yticks=[])
    figure.colorbar(image, ax=list(every), shrink=0.85, pad=0.02, label="correlation")
    gap = np.abs(np.where(np.tri(D, k=-1, dtype=bool), implied - observed, np.nan))
    worst = ""
    if not np.isnan(gap).all():
        i, j = np.unravel_index(np.nanargmax(gap), gap.shape)
        worst = (
            f" They differ most for {table.column_labels[j]} and {table.column_labels[i]}: "
            f"{implied[i, j]:.2f} against {observed[i, j]:.2f}."
        )
    grey = " Grey: no variation, or fewer than three rows with both." if np.isnan(observed).any() else ""
    return Picture(
        "correlation",
        "Correlations that the factors imply beside those of complete pairs of values: blocks that the data have and "
        f"the model lacks ask for more factors.{worst}{grey}",
        figure,
    )


def _numpy(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _short(label: str, most: int = 18) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _counted(count: int, word: str) -> str:
    return f"the one {word}" if count == 1 else f"all {count} {word}s"


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
